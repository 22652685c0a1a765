//! What all viewers know together of one media playlist: its parts in their order, with their
//! places in time, and when each was first seen.
//!
//! Each distinct text is read once; a viewer that gets the same bytes as another costs a
//! comparison. Not here: what a viewer fetches (`viewer`), rules (`check`).

use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use super::check::Check;
use super::multivariant::resolve;
use super::playlist::{Playlist, PlaylistError, Reload, Segment};
use super::units::{At, Media};

/// Parts and segments that are remembered: minutes, far more than a playlist lists.
const UNITS_MAX: usize = 2_000;
/// Texts that are remembered: whole and delta, of the last few versions.
const TEXTS_MAX: usize = 8;
/// Bytes of a playlist, when no longer compressed.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// What is fetched at a time: a part, or a segment whose parts are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Number of its segment.
    pub msn: u64,
    /// Its number in the segment; none of a whole segment.
    pub part: Option<u32>,
    /// Its URI, as it was written.
    pub uri: Arc<str>,
    /// Where that leads.
    pub path: Arc<str>,
    /// Path of its init section.
    pub map: Option<Arc<str>>,
    /// Where it begins.
    pub start: Media,
    /// How long it plays.
    pub duration: Duration,
    /// It begins with a keyframe.
    pub independent: bool,
    /// There are no bytes of it.
    pub gap: bool,
    /// When the first viewer had a playlist that lists it: stands for its birth. None where it was
    /// there before the first playlist came.
    pub birth: Option<At>,
}

impl Unit {
    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> Media {
        self.start + self.duration.into()
    }
}

/// The place of a unit among all that there ever were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

impl Place {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before it.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// What a viewer takes from one version of a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// What to wait for next.
    pub reload: Option<Reload>,
    /// The place after the last unit that is listed.
    pub end: Place,
    /// Where the last unit ends.
    pub edge: Media,
    /// How far from the edge a player begins.
    pub start_distance: Duration,
    /// Reloads may block.
    pub can_block: bool,
    /// Delta updates are offered.
    pub can_skip: bool,
    /// How long to wait where reloads cannot block.
    pub pause: Duration,
    /// It will not change any more.
    pub ended: bool,
}

/// Why a body is no playlist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// It cannot be unpacked, is too long, or is not UTF-8.
    #[error("not a text of at most {TEXT_BYTES_MAX} bytes")]
    Text,
    /// It is not a playlist that can be played.
    #[error(transparent)]
    Playlist(#[from] PlaylistError),
}

/// See the module.
#[derive(Debug)]
pub struct Timeline {
    /// Path of the playlist.
    path: Arc<str>,
    units: VecDeque<Unit>,
    /// The place of the first of `units`.
    first: Place,
    /// Where the next unit begins; none before the first playlist.
    cursor: Option<Media>,
    texts: VecDeque<(Vec<u8>, Version)>,
    check: Check,
}

impl Timeline {
    /// The playlist at `path`, of which nothing is known.
    #[must_use]
    pub fn new(path: Arc<str>) -> Self {
        Self {
            path,
            units: VecDeque::new(),
            first: Place::default(),
            cursor: None,
            texts: VecDeque::new(),
            check: Check::default(),
        }
    }

    /// Path of the playlist.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// What was wrong with its versions.
    #[must_use]
    pub fn check(&self) -> &Check {
        &self.check
    }

    /// The unit at `place`; none where it is forgotten or has not come.
    #[must_use]
    pub fn unit(&self, place: Place) -> Option<&Unit> {
        let at = place.0.checked_sub(self.first.0)?;
        self.units.get(usize::try_from(at).ok()?)
    }

    /// The first unit that is remembered.
    #[must_use]
    pub fn first(&self) -> Place {
        self.first
    }

    /// Where a player that wants to show `position` begins to fetch: the last unit before it that
    /// begins with a keyframe, of those before `end`.
    #[must_use]
    pub fn start_for(&self, position: Media, end: Place) -> Option<Place> {
        let count = usize::try_from(end.0.checked_sub(self.first.0)?).ok()?;
        let known = || self.units.iter().take(count).zip(self.first.0..);
        let mut found = None;
        for (unit, place) in known() {
            let reached = unit.start > position;
            if reached && found.is_some() {
                break;
            }
            // Where nothing says that it begins with a keyframe, as in sound, everything does.
            if unit.independent || found.is_none_or(|found| !self.is_independent(found)) {
                found = Some(Place(place));
            }
        }
        found
    }

    fn is_independent(&self, place: Place) -> bool {
        self.unit(place).is_some_and(|unit| unit.independent)
    }

    /// Takes the body of an answer whose first byte came at `now`.
    ///
    /// # Errors
    /// It is not a playlist.
    pub fn take(&mut self, now: At, body: &[u8], gzip: bool) -> Result<Version, TextError> {
        let seen = self.texts.iter().rev().find(|(text, _)| text == body);
        if let Some((_, version)) = seen {
            return Ok(*version);
        }
        let unpacked = if gzip { Some(unpack(body)?) } else { None };
        let text = unpacked.as_deref().unwrap_or(body);
        let text = std::str::from_utf8(text).map_err(|_| TextError::Text)?;
        let playlist = Playlist::parse(text)?;
        let version = self.learn(now, &playlist);
        if self.texts.len() == TEXTS_MAX {
            self.texts.pop_front();
        }
        self.texts.push_back((body.to_vec(), version));
        Ok(version)
    }

    fn learn(&mut self, now: At, playlist: &Playlist) -> Version {
        let units = &self.units;
        self.check.version(playlist, |msn, part| {
            let at = units.partition_point(|unit| (unit.msn, unit.part) < (msn, Some(part)));
            let unit = units.get(at).filter(|unit| (unit.msn, unit.part) == (msn, Some(part)))?;
            Some((&*unit.uri, unit.duration))
        });
        let birth = self.cursor.is_some().then_some(now);
        for segment in &playlist.segments {
            self.add(segment, birth);
        }
        let last = playlist.segments.last();
        let end = last.map_or(self.first, |last| self.after(last));
        let pause = playlist.part_target.unwrap_or(playlist.target_duration);
        Version {
            reload: playlist.next_reload(),
            end,
            edge: self.unit(end.previous()).map_or(Media::default(), Unit::end),
            start_distance: playlist.start_distance(),
            can_block: playlist.can_block,
            can_skip: playlist.can_skip_until.is_some(),
            pause,
            ended: playlist.ended,
        }
    }

    /// Adds what is new in `segment`.
    fn add(&mut self, segment: &Segment, birth: Option<At>) {
        let last = self.units.back().map(|unit| (unit.msn, unit.part));
        if last.is_some_and(|(msn, _)| msn > segment.msn) {
            return;
        }
        self.place(segment, last.map(|(msn, _)| msn));
        let map = segment.map.as_deref().map(|uri| Arc::from(resolve(&self.path, uri)));
        let known = last.filter(|(msn, _)| *msn == segment.msn).map(|(_, part)| part);
        if segment.parts.is_empty() {
            let (None, Some(uri), Some(duration)) = (known, &segment.uri, segment.duration) else {
                return;
            };
            self.push(Unit {
                msn: segment.msn,
                part: None,
                uri: Arc::from(&**uri),
                path: Arc::from(resolve(&self.path, uri)),
                map,
                start: Media::default(),
                duration,
                independent: true,
                gap: segment.gap,
                birth,
            });
            return;
        }
        let from = match known {
            None => 0,
            Some(Some(part)) => part.saturating_add(1),
            Some(None) => return,
        };
        for (part, index) in segment.parts.iter().zip(0_u32..).filter(|(_, index)| *index >= from) {
            self.push(Unit {
                msn: segment.msn,
                part: Some(index),
                uri: Arc::from(&*part.uri),
                path: Arc::from(resolve(&self.path, &part.uri)),
                map: map.clone(),
                start: Media::default(),
                duration: part.duration,
                independent: part.independent,
                gap: part.gap || segment.gap,
                birth,
            });
        }
    }

    /// Moves the cursor to where `segment` begins, unless it follows what was there before.
    fn place(&mut self, segment: &Segment, last: Option<u64>) {
        let follows = last.is_some_and(|last| segment.msn <= last.saturating_add(1));
        if follows {
            return;
        }
        let given = segment.date_time_micros.map(Media::from_micros);
        self.cursor = given.or(self.cursor).or(Some(Media::default()));
    }

    fn push(&mut self, unit: Unit) {
        let start = self.cursor.unwrap_or_default();
        let unit = Unit { start, ..unit };
        self.cursor = Some(unit.end());
        if self.units.len() == UNITS_MAX {
            self.units.pop_front();
            self.first = self.first.next();
        }
        self.units.push_back(unit);
    }

    /// The place after the last unit that lies in `segment` as it is listed, or before it.
    fn after(&self, segment: &Segment) -> Place {
        let last = match segment.uri {
            Some(_) => u32::MAX,
            None => u32::try_from(segment.parts.len()).unwrap_or(u32::MAX).saturating_sub(1),
        };
        let listed = (segment.msn, Some(last));
        let before = self.units.partition_point(|unit| (unit.msn, unit.part) <= listed);
        Place(self.first.0.saturating_add(before as u64))
    }
}

/// Unpacks gzip, up to the limit.
pub fn unpack(body: &[u8]) -> Result<Vec<u8>, TextError> {
    let mut text = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(body).take(TEXT_BYTES_MAX + 1);
    reader.read_to_end(&mut text).map_err(|_| TextError::Text)?;
    let fits = u64::try_from(text.len()).is_ok_and(|bytes| bytes <= TEXT_BYTES_MAX);
    if fits { Ok(text) } else { Err(TextError::Text) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::playlist::tests::example;
    use super::*;

    const PATH: &str = "/hls/a/-/video/index.m3u8";

    fn at(ms: u64) -> At {
        At::after(Duration::from_millis(ms))
    }

    fn timeline() -> Timeline {
        Timeline::new(Arc::from(PATH))
    }

    #[test]
    fn parts_follow_one_another_and_are_born_when_they_are_first_seen() {
        let mut timeline = timeline();
        let first = timeline.take(at(10), example(1).as_bytes(), false).unwrap();
        let second = timeline.take(at(20), example(2).as_bytes(), false).unwrap();
        assert_eq!(timeline.take(at(30), example(2).as_bytes(), false), Ok(second), "seen before");
        let late = timeline.take(at(40), example(1).as_bytes(), false).unwrap();
        assert_eq!(late, first, "an older version is as it was");
        let part = timeline.unit(first.end).unwrap();
        assert_eq!((part.msn, part.part, &*part.path), (9, Some(1), "/hls/a/-/video/9.1.m4s"));
        assert_eq!(part.birth, Some(at(20)));
        assert_eq!(part.map.as_deref(), Some("/hls/a/-/video/init-1.mp4"));
        assert_eq!(second.end, first.end.next());
        assert_eq!(second.edge - first.edge, Media::from_micros(200_000));
        let before = timeline.unit(Place(4)).unwrap();
        assert_eq!((before.birth, before.end()), (None, part.start));
    }

    #[test]
    fn a_player_begins_with_the_last_keyframe_before_its_position() {
        let mut timeline = timeline();
        let version = timeline.take(at(0), example(2).as_bytes(), false).unwrap();
        let position = version.edge - version.start_distance.into();
        let start = timeline.start_for(position, version.end).unwrap();
        let unit = timeline.unit(start).unwrap();
        assert_eq!((unit.msn, unit.part), (8, Some(0)), "600 ms back is inside segment 8");
    }

    #[test]
    fn where_no_part_is_marked_the_one_at_the_position_is_where_a_player_begins() {
        let mut timeline = timeline();
        let text = example(2).replace(",INDEPENDENT=YES", "");
        let version = timeline.take(at(0), text.as_bytes(), false).unwrap();
        let position = version.edge - Media::from_micros(300_000);
        let unit = timeline.unit(timeline.start_for(position, version.end).unwrap()).unwrap();
        assert_eq!((unit.msn, unit.part), (9, Some(0)));
    }

    #[test]
    fn a_version_after_missed_ones_takes_its_time_from_its_date() {
        let mut timeline = timeline();
        timeline.take(at(0), example(1).as_bytes(), false).unwrap();
        let later = example(1).replace("MEDIA-SEQUENCE:7", "MEDIA-SEQUENCE:70");
        let later = later.replacen(":52.000Z", ":59.000Z", 1);
        let version = timeline.take(at(0), later.as_bytes(), false).unwrap();
        let begin = timeline.unit(Place(5)).unwrap();
        assert_eq!((begin.msn, begin.start.micros() % 60_000_000), (70, 59_000_000));
        assert_eq!(version.edge - begin.start, Media::from_micros(1_000_000));
    }

    #[test]
    fn packed_playlists_are_unpacked_once() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(example(1).as_bytes()).unwrap();
        let packed = packer.finish().unwrap();
        let mut timeline = timeline();
        let version = timeline.take(at(0), &packed, true).unwrap();
        assert_eq!(timeline.take(at(0), example(1).as_bytes(), false), Ok(version));
        assert_eq!(timeline.take(at(0), b"\x1f\x8b", true), Err(TextError::Text));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut timeline = timeline();
        for msn in 0..UNITS_MAX as u64 {
            let text = example(0).replace("MEDIA-SEQUENCE:7", &format!("MEDIA-SEQUENCE:{msn}"));
            timeline.take(at(msn), text.as_bytes(), false).unwrap();
        }
        assert_eq!((timeline.units.len(), timeline.texts.len()), (UNITS_MAX, TEXTS_MAX));
        assert!(timeline.unit(Place(0)).is_none());
        assert!(timeline.unit(timeline.first()).is_some());
    }
}
