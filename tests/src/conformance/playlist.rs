//! Reads media playlists (RFC 8216bis) for the conformance rules. Written from the specification
//! alone, and strict: what it does not understand is an error.
//!
//! Not here: what a good playlist looks like (`rules`).

use std::collections::BTreeMap;

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Playlist {
    /// `EXT-X-VERSION`.
    pub version: u32,
    /// `EXT-X-TARGETDURATION`, seconds.
    pub target_duration: u32,
    /// `PART-TARGET`, seconds.
    pub part_target: f64,
    /// `PART-HOLD-BACK`, seconds.
    pub part_hold_back: f64,
    /// `CAN-BLOCK-RELOAD`.
    pub can_block_reload: bool,
    /// `CAN-SKIP-UNTIL`, seconds.
    pub can_skip_until: Option<f64>,
    /// `EXT-X-MEDIA-SEQUENCE`.
    pub media_sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: u64,
    /// `EXT-X-INDEPENDENT-SEGMENTS`.
    pub independent_segments: bool,
    /// `SKIPPED-SEGMENTS` of a delta update; 0 otherwise.
    pub skipped: u64,
    /// Whole segments.
    pub segments: Vec<Segment>,
    /// The segment at the end that has parts alone.
    pub open: Option<Segment>,
    /// URI of the hinted part.
    pub hint: Option<String>,
    /// Where the other renditions are.
    pub reports: Vec<Report>,
    /// `EXT-X-ENDLIST`.
    pub ended: bool,
}

/// A segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// Its number.
    pub msn: u64,
    /// Its URI; empty while it is open.
    pub uri: String,
    /// Seconds; 0 while it is open.
    pub duration: f64,
    /// Its parts, as far as they are listed.
    pub parts: Vec<Part>,
    /// `EXT-X-DISCONTINUITY` tags in front of it.
    pub discontinuities: u64,
    /// The `EXT-X-MAP` that holds for it, given in front of it or of one before it.
    pub map: Option<String>,
    /// `EXT-X-PROGRAM-DATE-TIME`.
    pub date_time: Option<String>,
    /// `EXT-X-GAP`.
    pub gap: bool,
}

/// A part.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its URI.
    pub uri: String,
    /// Seconds.
    pub duration: f64,
    /// `INDEPENDENT=YES`.
    pub independent: bool,
}

/// `EXT-X-RENDITION-REPORT`.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The other playlist.
    pub uri: String,
    /// Its newest segment.
    pub last_msn: u64,
    /// The newest part of that.
    pub last_part: Option<u64>,
}

impl Playlist {
    /// Reads a playlist.
    ///
    /// # Errors
    /// The line that is wrong, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some("#EXTM3U") {
            return Err("the first line is not #EXTM3U".into());
        }
        let mut read = Reader::default();
        for line in lines.filter(|line| !line.is_empty()) {
            read.line(line).map_err(|why| format!("{line}: {why}"))?;
        }
        let Reader { mut playlist, next, .. } = read;
        if !next.parts.is_empty() {
            playlist.open = Some(next);
        }
        let first = playlist.media_sequence + playlist.skipped;
        for (msn, segment) in (first..).zip(playlist.segments.iter_mut().chain(&mut playlist.open))
        {
            segment.msn = msn;
        }
        playlist.spread_maps();
        Ok(playlist)
    }

    /// A map holds until the next one.
    fn spread_maps(&mut self) {
        let mut holds: Option<String> = None;
        for segment in self.segments.iter_mut().chain(&mut self.open) {
            segment.map = segment.map.take().or_else(|| holds.clone());
            holds.clone_from(&segment.map);
        }
    }

    /// The newest part: its segment and its place there. A whole segment whose parts are not
    /// listed has none.
    #[must_use]
    pub fn last_part(&self) -> Option<(u64, Option<u64>)> {
        let last = self.open.as_ref().or(self.segments.last())?;
        Some((last.msn, (last.parts.len() as u64).checked_sub(1)))
    }

    /// Which part a client asks for next.
    #[must_use]
    pub fn next_part(&self) -> (u64, u64) {
        match (&self.open, self.segments.last()) {
            (Some(open), _) => (open.msn, open.parts.len() as u64),
            (None, Some(last)) => (last.msn + 1, 0),
            (None, None) => (self.media_sequence, 0),
        }
    }

    /// Whole segments, then the open one.
    pub fn all(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().chain(&self.open)
    }

    /// Whether part `part` of segment `msn`, or anything later, is listed.
    #[must_use]
    pub fn reaches(&self, msn: u64, part: u64) -> bool {
        let Some((last_msn, last_part)) = self.last_part() else { return false };
        let whole = self.segments.last().is_some_and(|last| last.msn >= msn);
        last_msn > msn || (last_msn == msn && last_part.is_some_and(|last| last >= part)) || whole
    }

    /// The full playlist that this delta update makes of `before`.
    ///
    /// # Errors
    /// `before` does not have the segments that were skipped.
    pub fn merged(&self, before: &Self) -> Result<Self, String> {
        let mut full = self.clone();
        if self.skipped == 0 {
            return Ok(full);
        }
        let wanted = self.media_sequence..self.media_sequence + self.skipped;
        let kept = before.segments.iter().filter(|segment| wanted.contains(&segment.msn));
        let mut segments: Vec<Segment> = kept.cloned().collect();
        if segments.len() as u64 != self.skipped {
            return Err(format!("segments {wanted:?} were skipped, which were not all known"));
        }
        // What left the list takes its discontinuity along; the first one's is in the sequence.
        if let Some(first) = segments.first_mut() {
            first.discontinuities = 0;
        }
        segments.extend(full.segments);
        full.segments = segments;
        full.skipped = 0;
        full.spread_maps();
        Ok(full)
    }
}

#[derive(Default)]
struct Reader {
    playlist: Playlist,
    next: Segment,
    seen: BTreeMap<String, u32>,
}

type Attributes = BTreeMap<String, String>;

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(tag) = line.strip_prefix("#EXT") else {
            if line.starts_with('#') {
                return Err("a comment is not expected".into());
            }
            return self.uri(line);
        };
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        self.once(name)?;
        match name {
            "-X-VERSION" => self.playlist.version = number(value)?,
            "-X-TARGETDURATION" => self.playlist.target_duration = number(value)?,
            "-X-MEDIA-SEQUENCE" => self.playlist.media_sequence = number(value)?,
            "-X-DISCONTINUITY-SEQUENCE" => self.playlist.discontinuity_sequence = number(value)?,
            "-X-INDEPENDENT-SEGMENTS" => self.playlist.independent_segments = true,
            "-X-ENDLIST" => self.playlist.ended = true,
            "-X-DISCONTINUITY" => self.next.discontinuities += 1,
            "-X-GAP" => self.next.gap = true,
            "-X-PROGRAM-DATE-TIME" => self.next.date_time = Some(value.to_owned()),
            "-X-MAP" => self.next.map = Some(get(&attributes(value)?, "URI")?),
            "-X-SERVER-CONTROL" => self.server_control(&attributes(value)?)?,
            "-X-PART-INF" => {
                self.playlist.part_target = number(&get(&attributes(value)?, "PART-TARGET")?)?;
            }
            "-X-SKIP" => {
                self.playlist.skipped = number(&get(&attributes(value)?, "SKIPPED-SEGMENTS")?)?;
            }
            "-X-PART" => self.part(&attributes(value)?)?,
            "-X-PRELOAD-HINT" => self.hint(&attributes(value)?)?,
            "-X-RENDITION-REPORT" => self.report(&attributes(value)?)?,
            "INF" => {
                let (duration, _) = value.split_once(',').ok_or("EXTINF needs a comma")?;
                self.next.duration = number(duration)?;
            }
            _ => return Err("an unknown tag".into()),
        }
        Ok(())
    }

    /// Tags of which a playlist has one at most.
    fn once(&mut self, name: &str) -> Result<(), String> {
        let single = [
            "-X-VERSION",
            "-X-TARGETDURATION",
            "-X-MEDIA-SEQUENCE",
            "-X-DISCONTINUITY-SEQUENCE",
            "-X-INDEPENDENT-SEGMENTS",
            "-X-ENDLIST",
            "-X-SERVER-CONTROL",
            "-X-PART-INF",
            "-X-SKIP",
            "-X-PRELOAD-HINT",
        ];
        let count = self.seen.entry(name.to_owned()).or_default();
        *count += 1;
        let late = ["-X-MEDIA-SEQUENCE", "-X-DISCONTINUITY-SEQUENCE"].contains(&name)
            && !self.playlist.segments.is_empty();
        match () {
            () if *count > 1 && single.contains(&name) => Err("a second one".into()),
            () if late => Err("it must come before the first segment".into()),
            () => Ok(()),
        }
    }

    fn uri(&mut self, uri: &str) -> Result<(), String> {
        if self.next.duration <= 0.0 {
            return Err("a segment without EXTINF".into());
        }
        let mut segment = std::mem::take(&mut self.next);
        segment.uri = uri.to_owned();
        self.playlist.segments.push(segment);
        Ok(())
    }

    fn server_control(&mut self, given: &Attributes) -> Result<(), String> {
        self.playlist.can_block_reload = given.get("CAN-BLOCK-RELOAD").is_some_and(|v| v == "YES");
        self.playlist.part_hold_back = number(&get(given, "PART-HOLD-BACK")?)?;
        self.playlist.can_skip_until =
            given.get("CAN-SKIP-UNTIL").map(|value| number(value)).transpose()?;
        Ok(())
    }

    fn part(&mut self, given: &Attributes) -> Result<(), String> {
        self.next.parts.push(Part {
            uri: get(given, "URI")?,
            duration: number(&get(given, "DURATION")?)?,
            independent: given.get("INDEPENDENT").is_some_and(|value| value == "YES"),
        });
        Ok(())
    }

    fn hint(&mut self, given: &Attributes) -> Result<(), String> {
        if get(given, "TYPE")? != "PART" {
            return Err("only parts are hinted".into());
        }
        self.playlist.hint = Some(get(given, "URI")?);
        Ok(())
    }

    fn report(&mut self, given: &Attributes) -> Result<(), String> {
        self.playlist.reports.push(Report {
            uri: get(given, "URI")?,
            last_msn: number(&get(given, "LAST-MSN")?)?,
            last_part: given.get("LAST-PART").map(|value| number(value)).transpose()?,
        });
        Ok(())
    }
}

fn get(attributes: &Attributes, name: &str) -> Result<String, String> {
    attributes.get(name).cloned().ok_or_else(|| format!("{name} is missing"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number that belongs here"))
}

/// An attribute list (RFC 8216bis, 4.2): a comma inside quotes does not separate.
fn attributes(list: &str) -> Result<Attributes, String> {
    let mut read = Attributes::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("an attribute without a value")?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').ok_or("a quote is not closed")?;
                (value, after.strip_prefix(',').unwrap_or(after))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if read.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{name} is given twice"));
        }
        rest = after;
    }
    Ok(read)
}
