//! LL-HLS viewers as a value: told of answers, they say what they ask for next, as hls.js does.
//!
//! Each viewer loads the multivariant playlist, then the playlists of its picture and its sound;
//! these are reloaded by requests that block, with delta updates once a whole one is there. Per
//! track one part is fetched at a time, in order, once a playlist lists it; hls.js does not fetch
//! what is only hinted. Retries and giving up are as in hls.js 1.7's load policies.
//! Not here: connections and clocks (`h1`, `h2`), playing (`player`).

mod media;
mod playlists;
#[cfg(test)]
mod tests;
mod viewer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::viewer::Viewer;
use super::client::{Answer, Asks, Body, ClientId, Clients};
use super::findings::{Findings, micros};
use super::player::Player;
use super::playlist::Reload;
use super::streams::Streams;
use super::timeline::Place;
use super::units::At;
use crate::live::{Side, add, sub};
use crate::meter::Meter;

/// Retries of a playlist before hls.js gives up.
const PLAYLIST_RETRIES_MAX: u8 = 2;
/// The same of a part or an init section.
const MEDIA_RETRIES_MAX: u8 = 6;
/// Pause before the first retry; it doubles …
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(8);

/// How viewers behave, and what is looked at.
#[derive(Clone, Debug)]
pub struct ViewerOptions {
    /// Paths of the streams' playlists; viewers spread over them.
    pub paths: Vec<Arc<str>>,
    /// Sound is left alone.
    pub video_only: bool,
    /// Delta updates are asked for where they are offered.
    pub delta: bool,
    /// One viewer of so many keeps its parts and looks for stamps.
    pub sample: u32,
    /// What comes later than this after a part's birth counts as late.
    pub late_after: Duration,
    /// The wall clock at the run's begin, in microseconds since the Unix epoch.
    pub epoch_us: u64,
}

/// What a viewer asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// The stream's first playlist.
    Multivariant,
    /// A media playlist of a track; with what it was to wait for.
    Playlist(TrackId, Option<Reload>),
    /// The init section of a track.
    Init(TrackId),
    /// A part or segment of a track.
    Unit(TrackId, Place),
}

/// A track of a viewer: its picture or its sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrackId {
    /// The picture.
    Video,
    /// The sound, where it comes apart.
    Audio,
}

/// All viewers of one thread.
#[derive(Debug)]
pub struct Viewers {
    options: ViewerOptions,
    streams: Streams,
    viewers: Vec<Option<Box<Viewer>>>,
    /// In the order in which they came; some may have left.
    present: VecDeque<ClientId>,
    wakes: BTreeMap<(At, u64), (ClientId, Tag)>,
    wakes_made: u64,
    findings: Findings,
    side: Arc<Side>,
}

impl Viewers {
    /// Nobody yet.
    #[must_use]
    pub fn new(options: ViewerOptions, side: Arc<Side>) -> Self {
        let streams = Streams::new(options.paths.clone(), options.video_only);
        Self {
            options,
            streams,
            viewers: Vec::new(),
            present: VecDeque::new(),
            wakes: BTreeMap::new(),
            wakes_made: 0,
            findings: Findings::default(),
            side,
        }
    }

    /// What was found so far.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let mut findings = self.findings.clone();
        for timeline in self.streams.timelines() {
            findings.faults.merge(&timeline.check().faults);
        }
        findings
    }

    /// Forgets what was found so far: what is to be measured begins now.
    pub fn begin_measuring(&mut self) {
        self.findings = Findings::default();
        self.viewers.iter_mut().flatten().for_each(|viewer| viewer.stalled = false);
    }

    /// How many are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// So many more come.
    pub fn join(&mut self, now: At, count: usize, asks: &mut Asks<Tag>) {
        for _ in 0..count {
            let Ok(number) = u32::try_from(self.viewers.len()) else { return };
            let client = ClientId(number);
            let sampled = number.checked_rem(self.options.sample).is_some_and(|rest| rest == 0);
            let meter = sampled.then(|| {
                let mut meter = Meter::new(micros(PART_GUESS));
                meter.on_join(self.wall_us(now));
                Box::new(meter)
            });
            let stream = client.index();
            self.viewers.push(Some(Box::new(Viewer {
                stream,
                joined: now,
                video: None,
                audio: None,
                player: Player::default(),
                stalled: false,
                meter,
                failures: 0,
            })));
            self.present.push_back(client);
            add(&self.side.started, 1);
            self.ask(client, Tag::Multivariant, asks);
        }
    }

    /// So many leave, those that came first first.
    pub fn leave(&mut self, now: At, count: usize, asks: &mut Asks<Tag>) {
        for _ in 0..count {
            let Some(client) = self.present.pop_front() else { return };
            self.close(now, client);
            asks.leave(client);
        }
    }

    fn wall_us(&self, at: At) -> u64 {
        self.options.epoch_us.saturating_add(micros(at.elapsed()))
    }

    fn viewer(&mut self, client: ClientId) -> Option<&mut Viewer> {
        self.viewers.get_mut(client.index())?.as_deref_mut()
    }

    /// Counts what a viewer saw, and forgets it.
    fn close(&mut self, now: At, client: ClientId) {
        let Some(mut viewer) = self.viewers.get_mut(client.index()).and_then(Option::take) else {
            return;
        };
        if let Some(stall) = viewer.end().and_then(|end| viewer.player.finish(now, end)) {
            self.findings.stalls.record(micros(stall));
            viewer.stalled = true;
        }
        self.findings.stalled_viewers += u64::from(viewer.stalled);
        if viewer.player.has_started() {
            sub(&self.side.active, 1);
        } else {
            self.findings.never_played += 1;
        }
        if let Some(mut meter) = viewer.meter.take() {
            meter.on_leave(self.wall_us(now));
            self.side.left(&meter);
        }
    }

    /// Asks for what `tag` says; what is gone meanwhile is not asked for.
    fn ask(&mut self, client: ClientId, tag: Tag, asks: &mut Asks<Tag>) {
        if let Some((path, body)) = self.resource(client, tag) {
            asks.get(client, tag, path, body);
        }
    }

    fn resource(&mut self, client: ClientId, tag: Tag) -> Option<(Arc<str>, Body)> {
        let viewer = self.viewers.get_mut(client.index())?.as_deref_mut()?;
        match tag {
            Tag::Multivariant => Some((self.streams.path(viewer.stream)?, Body::Keep)),
            Tag::Playlist(id, reload) => {
                let track = viewer.track(id)?;
                let offered = track.version.is_some_and(|version| version.can_skip);
                let skip = offered && self.options.delta;
                let path = self.streams.playlist_path(track.rendition, reload, skip)?;
                Some((path, Body::Keep))
            }
            Tag::Init(id) => {
                let track = viewer.track(id)?;
                let unit = self.streams.timeline(track.rendition)?.unit(track.next?)?;
                Some((Arc::clone(unit.map.as_ref()?), Body::Discard))
            }
            Tag::Unit(id, place) => {
                let sampled = viewer.is_sampled() && id == TrackId::Video;
                let track = viewer.track(id)?;
                let unit = self.streams.timeline(track.rendition)?.unit(place)?;
                let body = if sampled { Body::Keep } else { Body::Discard };
                Some((Arc::clone(&unit.path), body))
            }
        }
    }

    fn later(&mut self, at: At, client: ClientId, tag: Tag) {
        self.wakes_made += 1;
        self.wakes.insert((at, self.wakes_made), (client, tag));
    }

    /// A request failed: it is made again after a pause, until hls.js would give up.
    fn failed(&mut self, now: At, client: ClientId, tag: Tag, problem: &str, asks: &mut Asks<Tag>) {
        let Some(viewer) = self.viewer(client) else { return };
        let (failures, most) = match tag {
            Tag::Multivariant => (Some(&mut viewer.failures), PLAYLIST_RETRIES_MAX),
            Tag::Playlist(id, _) => {
                (viewer.track(id).map(|track| &mut track.playlist_failures), PLAYLIST_RETRIES_MAX)
            }
            Tag::Init(id) | Tag::Unit(id, _) => {
                (viewer.track(id).map(|track| &mut track.media_failures), MEDIA_RETRIES_MAX)
            }
        };
        let Some(failures) = failures else { return };
        if *failures < most {
            let pause = RETRY_PAUSE.saturating_mul(1 << *failures).min(RETRY_PAUSE_MAX);
            *failures += 1;
            self.later(now + pause, client, tag);
            return;
        }
        self.findings.gave_up += 1;
        self.side.fail(format!("{}: {problem}", tag.words()));
        self.present.retain(|present| *present != client);
        self.close(now, client);
        asks.leave(client);
    }
}

/// Parts of live servers last about this long; only freezes shorter than a few of them depend on
/// it.
const PART_GUESS: Duration = Duration::from_millis(200);

impl Clients for Viewers {
    type Tag = Tag;

    fn answered(&mut self, client: ClientId, tag: Tag, answer: &Answer<'_>, asks: &mut Asks<Tag>) {
        let counter = match tag {
            Tag::Playlist(..) => &self.side.playlist_requests,
            _ => &self.side.requests,
        };
        add(counter, 1);
        let response = match &answer.result {
            Ok(response) => {
                *self.findings.statuses.entry(response.status).or_default() += 1;
                add(&self.side.bytes, response.bytes);
                Some(response).filter(|response| response.status == 200)
            }
            Err(failure) => {
                *self.findings.failures.entry(failure.words()).or_default() += 1;
                None
            }
        };
        let fine = match (response, tag) {
            (None, _) => false,
            (Some(response), Tag::Multivariant) => self.opened(client, response, asks),
            (Some(response), Tag::Playlist(id, asked)) => {
                self.listed(client, (id, asked), (answer, response), asks)
            }
            (Some(_), Tag::Init(id)) => {
                self.initialised(client, id, asks);
                true
            }
            (Some(response), Tag::Unit(id, place)) => {
                self.fetched(client, (id, place), (answer, response), asks);
                true
            }
        };
        if !fine {
            let problem = match &answer.result {
                Ok(response) if response.status == 200 => "not a playlist".to_owned(),
                Ok(response) => format!("status {}", response.status),
                Err(failure) => failure.words().to_owned(),
            };
            self.failed(answer.whole, client, tag, &problem, asks);
        }
    }

    fn wake(&mut self, now: At, asks: &mut Asks<Tag>) {
        while let Some(entry) = self.wakes.first_entry().filter(|entry| entry.key().0 <= now) {
            let (client, tag) = entry.remove();
            self.ask(client, tag, asks);
        }
    }

    fn wake_at(&self) -> Option<At> {
        self.wakes.first_key_value().map(|((at, _), _)| *at)
    }

    fn took(&mut self, time: Duration) {
        self.findings.own_delay.record(micros(time));
    }

    fn finish(&mut self, now: At) {
        while let Some(client) = self.present.pop_front() {
            self.close(now, client);
        }
    }
}

impl Tag {
    /// In words, for the report.
    fn words(self) -> &'static str {
        match self {
            Self::Multivariant => "multivariant playlist",
            Self::Playlist(..) => "media playlist",
            Self::Init(_) => "init section",
            Self::Unit(..) => "part",
        }
    }
}
