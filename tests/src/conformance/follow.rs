//! Follows a live rendition over HTTP as a low-latency player does, and checks every answer.
//!
//! Not here: the rules about playlists (`rules`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_media::fmp4::read::{Init, read_fragments, read_init};

use super::births::Births;
use super::client::{Answer, Client};
use super::playlist::{Part, Playlist};
use super::rules::{Complaints, check_alone, check_pair, hint_came_true};

/// What to follow.
#[derive(Clone, Debug)]
pub struct Target {
    /// The stream's name.
    pub stream: String,
    /// The rendition's.
    pub rendition: String,
    /// For how long.
    pub time: Duration,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rules that were broken, a sentence each.
    pub complaints: Vec<String>,
    /// How long after its part's birth each blocking answer was complete.
    pub answered_after: Vec<Duration>,
    /// Parts that were hinted, then listed under another name, and hints in all.
    pub hints_missed: (usize, usize),
    /// Parts fetched.
    pub parts: usize,
    /// Segments fetched and found to be the sum of their parts.
    pub segments: usize,
    /// Delta updates compared with full playlists.
    pub deltas: usize,
    /// Rendition reports compared with the renditions.
    pub reports: usize,
    /// Names that were fetched a second time, and had the same bytes.
    pub refetched: usize,
}

impl Outcome {
    /// The `percent` percentile of the blocking answers' delays.
    #[must_use]
    pub fn answered_after_percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.answered_after.clone();
        sorted.sort();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }
}

/// Fetched names are asked for again when so many more have been fetched.
const REFETCH_AFTER: usize = 15;
/// What is to be answered at once may take this long on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(300);
/// How far behind a report may be: it was written with the playlist that bears it.
const REPORT_PARTS_BEHIND: u64 = 5;

/// Follows `target` on the server of `client`.
///
/// # Errors
/// The reader could not go on: a connection failed or a playlist could not be read.
pub async fn follow(
    client: &Client,
    target: &Target,
    births: Option<&Births>,
) -> Result<Outcome, String> {
    let folder = format!("/hls/{}/-/{}", target.stream, target.rendition);
    let mut reader = Reader {
        client: client.clone(),
        folder,
        births: births.cloned(),
        outcome: Outcome::default(),
        complaints: Complaints::default(),
        fetched: HashMap::new(),
        order: VecDeque::new(),
        read: HashSet::new(),
        inits: HashMap::new(),
        answers: Vec::new(),
    };
    let mut list = reader.playlist("").await?;
    reader.refusals(&list).await?;
    let until = Instant::now() + target.time;
    while Instant::now() < until && !list.ended {
        list = reader.step(list).await?;
    }
    reader.times();
    reader.outcome.complaints = reader.complaints.0;
    Ok(reader.outcome)
}

struct Reader {
    client: Client,
    folder: String,
    births: Option<Births>,
    outcome: Outcome,
    complaints: Complaints,
    /// Bytes by name.
    fetched: HashMap<String, Bytes>,
    order: VecDeque<String>,
    /// Parts that were read.
    read: HashSet<String>,
    /// Init sections by name.
    inits: HashMap<String, Init>,
    /// Blocking answers: what was asked for, when, and when the answer was complete.
    answers: Vec<(u64, u64, Instant, Instant)>,
}

impl Reader {
    async fn get(&self, name: &str) -> Result<Answer, String> {
        self.client.get(&format!("{}/{name}", self.folder)).await
    }

    async fn playlist(&mut self, query: &str) -> Result<Playlist, String> {
        let answer = self.get(&format!("index.m3u8{query}")).await?;
        let list = Playlist::parse(answer.text()?)?;
        check_alone(&list, &mut self.complaints);
        let vary = answer.headers.get("vary").is_some_and(|vary| vary == "Accept-Encoding");
        self.complaints.unless(vary, || "a playlist without Vary: Accept-Encoding".into());
        Ok(list)
    }

    /// Requests that must be refused, and at once.
    async fn refusals(&mut self, list: &Playlist) -> Result<(), String> {
        let (msn, _) = list.next_part();
        for query in [
            "?_HLS_part=0".to_owned(),
            format!("?_HLS_msn={}", msn + 10),
            format!("?_HLS_msn={}&_HLS_part=0", msn + 10),
            format!("?_HLS_msn={msn}&_HLS_part=1000000"),
            "?_HLS_msn=x".to_owned(),
        ] {
            let answer = self.get(&format!("index.m3u8{query}")).await?;
            let refused = answer.status == 400 && answer.took < AT_ONCE;
            self.complaints.unless(refused, || {
                format!("{query} got {} after {:?}, not 400 at once", answer.status, answer.took)
            });
        }
        Ok(())
    }

    /// One round of a player: block for the next part, fetch what is new.
    async fn step(&mut self, before: Playlist) -> Result<Playlist, String> {
        let (msn, part) = before.next_part();
        let delta = self.answers.len() % 2 == 1;
        let skip = if delta { "&_HLS_skip=YES" } else { "" };
        let query = format!("index.m3u8?_HLS_msn={msn}&_HLS_part={part}{skip}");
        let hint = before.hint.clone().unwrap_or_default();
        let asked = Instant::now();
        let (answer, hinted) = tokio::join!(self.get(&query), self.get(&hint));
        let (answer, hinted) = (answer?, hinted?);
        let got = Playlist::parse(answer.text()?)?;
        let after = got.merged(&before)?;
        check_alone(&after, &mut self.complaints);
        check_pair(&before, &after, &mut self.complaints);
        self.complaints.unless(after.reaches(msn, part) || after.ended, || {
            format!("asked for part {part} of {msn}, answered at {:?}", after.last_part())
        });
        self.answers.push((msn, part, asked, answer.at));
        self.hint(&before, &after, &hint, &hinted);
        if got.skipped > 0 || delta {
            self.compare_with_full(&after).await?;
        }
        self.media(&after).await?;
        self.reports(&after).await?;
        self.again().await?;
        Ok(after)
    }

    /// How long after its part's birth each answer was there. Where the segment ended without the
    /// part, the next segment's first part is what was waited for.
    fn times(&mut self) {
        let Some(births) = &self.births else { return };
        let birth = |msn, part| births.of(msn, part).or_else(|| births.of(msn + 1, 0));
        // A part that was there before it was asked for does not count from its birth.
        let after = |(msn, part, asked, at): &(u64, u64, Instant, Instant)| {
            birth(*msn, *part).map(|birth| at.saturating_duration_since(birth.max(*asked)))
        };
        self.outcome.answered_after = self.answers.iter().filter_map(after).collect();
    }

    fn hint(&mut self, before: &Playlist, after: &Playlist, hint: &str, answer: &Answer) {
        if after.ended {
            return;
        }
        self.complaints.unless(answer.status == 200 && !answer.body.is_empty(), || {
            format!("hinted {hint} got {}, and never came", answer.status)
        });
        if let Some(true_name) = hint_came_true(before, after) {
            self.outcome.hints_missed.1 += 1;
            self.outcome.hints_missed.0 += usize::from(!true_name);
        }
        self.keep(hint, &answer.body);
    }

    /// Notes what a name stands for; it must never stand for anything else.
    fn keep(&mut self, name: &str, body: &Bytes) {
        match self.fetched.get(name) {
            Some(known) => {
                self.complaints.unless(known == body, || format!("the bytes of {name} changed"));
            }
            None => {
                self.fetched.insert(name.to_owned(), body.clone());
                self.order.push_back(name.to_owned());
            }
        }
    }

    async fn compare_with_full(&mut self, merged: &Playlist) -> Result<(), String> {
        let full = self.playlist("").await?;
        // A segment may end between the two without a further part, as the hint foretold.
        let same_version = full.last_part() == merged.last_part()
            && full.hint == merged.hint
            && full.open.is_some() == merged.open.is_some();
        if same_version {
            self.outcome.deltas += 1;
            let same = full.segments == merged.segments && full.open == merged.open;
            self.complaints.unless(same, || {
                format!("a delta update makes {merged:?}, the full playlist is {full:?}")
            });
        }
        Ok(())
    }

    /// Fetches parts and segments that are new, reads them, and compares sums.
    async fn media(&mut self, list: &Playlist) -> Result<(), String> {
        for segment in list.all() {
            // A segment without parts is old, and its init section may be gone with the next.
            let map = segment.map.as_ref().filter(|_| !segment.parts.is_empty());
            if let Some(map) = map.filter(|map| !self.inits.contains_key(*map)) {
                let answer = self.get(map).await?;
                let init = read_init(&answer.body).map_err(|error| format!("{map}: {error:?}"))?;
                self.keep(map, &answer.body);
                self.inits.insert(map.clone(), init);
            }
            for part in &segment.parts {
                if !self.read.insert(part.uri.clone()) {
                    continue;
                }
                if !self.fetched.contains_key(&part.uri) {
                    let answer = self.get(&part.uri).await?;
                    self.media_answer(&part.uri, &answer);
                }
                self.part(segment.map.as_ref(), part);
                self.outcome.parts += 1;
            }
            let whole = !segment.uri.is_empty() && !segment.gap && !segment.parts.is_empty();
            if whole && !self.fetched.contains_key(&segment.uri) {
                let answer = self.get(&segment.uri).await?;
                self.media_answer(&segment.uri, &answer);
                let sum: Vec<u8> = segment
                    .parts
                    .iter()
                    .filter_map(|part| self.fetched.get(&part.uri))
                    .flat_map(|bytes| bytes.iter().copied())
                    .collect();
                self.complaints.unless(answer.body == sum, || {
                    format!("{} is not the sum of its parts", segment.uri)
                });
                self.outcome.segments += 1;
            }
        }
        Ok(())
    }

    fn media_answer(&mut self, name: &str, answer: &Answer) {
        self.complaints
            .unless(answer.status == 200, || format!("{name} is listed but got {}", answer.status));
        let long = answer.headers.get("cache-control").and_then(|value| value.to_str().ok());
        self.complaints.unless(long.is_some_and(|value| value.contains("max-age=")), || {
            format!("{name} has Cache-Control {long:?}")
        });
        self.keep(name, &answer.body);
    }

    /// A part must last as long as the playlist says, and begin as it says.
    fn part(&mut self, map: Option<&String>, part: &Part) {
        let Part { uri: name, duration, independent } = part;
        let init = map.and_then(|map| self.inits.get(map));
        let Some((init, body)) = init.zip(self.fetched.get(name)) else { return };
        let fragments = match read_fragments(init, body) {
            Ok(fragments) => fragments,
            Err(error) => {
                self.complaints.0.push(format!("{name} cannot be read: {error:?}"));
                return;
            }
        };
        let samples = fragments.iter().flat_map(|fragment| &fragment.samples);
        let ticks: u64 = samples.clone().map(|sample| u64::from(sample.duration)).sum();
        let real = ticks as f64 / f64::from(init.timescale);
        self.complaints.unless((real - *duration).abs() < 0.000_1, || {
            format!("{name} lasts {real} s, the playlist says {duration}")
        });
        let sync = samples.clone().next().is_some_and(|sample| sample.sync);
        self.complaints.unless(sync == *independent, || {
            format!("{name} begins with a keyframe: {sync}, INDEPENDENT: {independent}")
        });
    }

    async fn reports(&mut self, list: &Playlist) -> Result<(), String> {
        if list.ended || !self.answers.len().is_multiple_of(7) {
            return Ok(());
        }
        for report in &list.reports {
            let other = self.playlist_of(&report.uri).await?;
            let Some((msn, part)) = other.last_part() else { continue };
            let reported = (report.last_msn, report.last_part);
            self.complaints.unless((msn, part) >= reported, || {
                format!("{} is reported at {reported:?} but is at {:?}", report.uri, (msn, part))
            });
            let near = msn == report.last_msn
                && part.unwrap_or(0) <= report.last_part.unwrap_or(0) + REPORT_PARTS_BEHIND;
            let next = msn == report.last_msn + 1 && part.unwrap_or(0) <= REPORT_PARTS_BEHIND;
            self.complaints.unless(near || next, || {
                format!("{} is reported at {reported:?}, far from {:?}", report.uri, (msn, part))
            });
            self.outcome.reports += 1;
        }
        Ok(())
    }

    /// Another rendition's playlist, at a URI relative to this one's.
    async fn playlist_of(&self, uri: &str) -> Result<Playlist, String> {
        let above = self.folder.rsplit_once('/').map_or("", |(above, _)| above);
        let name = uri.strip_prefix("../").ok_or_else(|| format!("{uri} is not relative"))?;
        Playlist::parse(self.client.get(&format!("{above}/{name}")).await?.text()?)
    }

    /// Asks again for what was fetched a while ago: it must still be there, and the same.
    async fn again(&mut self) -> Result<(), String> {
        while self.order.len() > REFETCH_AFTER {
            let Some(name) = self.order.pop_front() else { break };
            let answer = self.get(&name).await?;
            let same = self.fetched.get(&name).is_some_and(|known| *known == answer.body);
            self.complaints.unless(answer.status == 200 && same, || {
                format!("{name}, fetched a second time, got {} or other bytes", answer.status)
            });
            self.outcome.refetched += 1;
        }
        Ok(())
    }
}
