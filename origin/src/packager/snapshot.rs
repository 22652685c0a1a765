//! What is known of a rendition at one moment, immutable: segments, parts, what a request for
//! one of them gets, and whether a blocking playlist request may be answered.
//!
//! Not here: how it came about (`window`), how it is written down (`playlist`).

use std::sync::Arc;

use headwater_media::{
    ConfigVersion, DiscontinuitySeq, GroupSeq, MediaDuration, TrackConfig, WallTime,
};

use super::parts::Part;
use super::rates::Rates;
use super::rope::Rope;

/// An init section with its number.
#[derive(Debug)]
pub struct Init {
    /// The `n` of `init-{n}.mp4`.
    pub version: ConfigVersion,
    /// `ftyp` and `moov`.
    pub data: Rope,
    /// What it was made of.
    pub config: Arc<TrackConfig>,
}

/// How far a segment has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// Its group goes on.
    Open,
    /// It is complete and this long.
    Complete(MediaDuration),
    /// Its number was passed over: nobody has its bytes, `EXT-X-GAP`. The length is what the
    /// groups around it leave.
    Gap(MediaDuration),
}

/// A segment: one group.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its number, the group's.
    pub seq: GroupSeq,
    /// The group's discontinuity number.
    pub discontinuity: DiscontinuitySeq,
    /// Wall-clock time of its first frame.
    pub wall: WallTime,
    /// How many frames the owner expects it to have.
    pub expected_frames: Option<u32>,
    /// Its init section.
    pub init: Arc<Init>,
    /// Open, complete or a gap.
    pub state: SegmentState,
    /// Its parts so far.
    pub parts: Vec<Part>,
}

impl Segment {
    /// Its length so far, in microseconds.
    #[must_use]
    pub fn micros(&self) -> i64 {
        match self.state {
            SegmentState::Complete(duration) | SegmentState::Gap(duration) => duration.micros(),
            SegmentState::Open => self.parts.iter().map(|part| part.duration.micros()).sum(),
        }
    }

    /// Whether it still grows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == SegmentState::Open
    }

    /// Whether nobody has its bytes.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        matches!(self.state, SegmentState::Gap(_))
    }

    /// Its bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.data.len()).sum()
    }

    /// Frames in its parts so far.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.parts.iter().map(|part| part.frames).sum()
    }

    /// How many parts it has, as names count.
    #[must_use]
    pub fn part_count(&self) -> u64 {
        self.parts.len() as u64
    }
}

/// What a request for media gets.
#[derive(Clone, Debug)]
pub enum Find<T> {
    /// This.
    Found(T),
    /// It does not exist yet but is to come: ask again at the next change.
    Wait,
    /// It is not there, and will not be.
    Gone,
}

/// A part found, under the name that it was born with (which names its `ETag`).
#[derive(Clone, Debug)]
pub struct FoundPart {
    /// Its group.
    pub seq: GroupSeq,
    /// Its index.
    pub index: u32,
    /// Its bytes.
    pub data: Rope,
}

/// What a blocking playlist request gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// The playlist as it is.
    Now,
    /// The next one, perhaps.
    Wait,
    /// 400: nobody can know of that segment or part yet.
    TooFar {
        /// The last segment of the playlist.
        last: u64,
    },
}

/// How many segments beyond the playlist's last one a request may name (RFC 8216bis, 6.2.5.2).
const ADVANCE_SEGMENTS_MAX: u64 = 2;
/// How much media time beyond the playlist's last part a request may name (the Advance Part Limit).
const ADVANCE_PARTS_MICROS: i64 = 3_000_000;

/// A rendition at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every segment that can be fetched, oldest first; only the last may be open.
    pub segments: Vec<Arc<Segment>>,
    /// The first of them that the playlist lists.
    pub listed_from: usize,
    /// `EXT-X-TARGETDURATION`; a playlist needs it.
    pub target_duration_s: Option<u32>,
    /// Whether every segment so far could be decoded by itself.
    pub all_independent: bool,
    /// The broadcast is over: no segment will follow.
    pub ended: bool,
    /// The longest playlist is made of so many segments that delta updates are worth offering.
    pub offers_delta: bool,
    /// Bit rates for the multivariant playlist.
    pub rates: Rates,
    /// The configuration, also of a codec that HLS cannot carry.
    pub config: Option<Arc<TrackConfig>>,
    /// Why the newest group is not carried.
    pub unsupported: Option<String>,
}

impl Snapshot {
    /// The segments of the playlist; the last may be open, and then may have no part yet.
    #[must_use]
    pub fn listed(&self) -> &[Arc<Segment>] {
        self.segments.get(self.listed_from..).unwrap_or(&[])
    }

    /// Whether there is anything to list, and all that the playlist must say is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.target_duration_s.is_some()
            && self.listed().iter().any(|segment| {
                matches!(segment.state, SegmentState::Complete(_)) || !segment.parts.is_empty()
            })
    }

    /// Whether a segment that is over is listed, with its media.
    #[must_use]
    pub fn has_whole_segment(&self) -> bool {
        let whole = |segment: &Arc<Segment>| matches!(segment.state, SegmentState::Complete(_));
        self.listed().iter().any(whole)
    }

    /// The segment numbered `seq`, while it is kept.
    #[must_use]
    pub fn find(&self, seq: u64) -> Option<&Arc<Segment>> {
        self.at(seq).and_then(|at| self.segments.get(at))
    }

    fn at(&self, seq: u64) -> Option<usize> {
        self.segments.binary_search_by_key(&GroupSeq(seq), |segment| segment.seq).ok()
    }

    /// The longest part that is listed, in microseconds, rounded up: `PART-TARGET`.
    #[must_use]
    pub fn part_target_micros(&self) -> i64 {
        let of = |segment: &Arc<Segment>| {
            let config = &segment.init.config;
            let (ticks, hz) = (u64::from(config.parts.target_ticks), u64::from(config.rate.hz()));
            i64::try_from((ticks * 1_000_000).div_ceil(hz)).unwrap_or(i64::MAX)
        };
        self.listed().iter().map(of).max().unwrap_or(0)
    }

    /// Name of the part that comes next: `EXT-X-PRELOAD-HINT`. Where the owner expects no further
    /// frame in the open group, the next group's first part.
    #[must_use]
    pub fn hint(&self) -> Option<(u64, u64)> {
        let last = self.segments.last().filter(|_| !self.ended)?;
        let complete = last.expected_frames == Some(last.frames()) && !last.parts.is_empty();
        if last.is_open() && !complete {
            Some((last.seq.0, last.part_count()))
        } else {
            Some((last.seq.0 + 1, 0))
        }
    }

    /// Name of the newest part: `LAST-MSN` and `LAST-PART`. A complete segment without parts (a
    /// gap) has no last part.
    #[must_use]
    pub fn last_part(&self) -> Option<(u64, Option<u64>)> {
        let has_something =
            |segment: &&Arc<Segment>| !segment.is_open() || !segment.parts.is_empty();
        let last = self.listed().iter().rev().find(has_something)?;
        Some((last.seq.0, last.part_count().checked_sub(1)))
    }

    /// The last segment that the playlist lists whole.
    fn last_complete(&self) -> Option<u64> {
        let last = self.segments.last()?;
        Some(if last.is_open() { last.seq.0.saturating_sub(1) } else { last.seq.0 })
    }

    /// Whether part `part` of segment `msn` (or all of the segment), or anything after it, is in
    /// the playlist (RFC 8216bis, 6.2.5.2).
    ///
    /// A part beyond a complete segment's last stands for the first part of the next segment.
    #[must_use]
    pub fn reload(&self, msn: u64, part: Option<u64>) -> Reload {
        if self.ended {
            return Reload::Now;
        }
        let Some((last, newest)) = self.last_complete().zip(self.segments.last()) else {
            return Reload::Wait;
        };
        if msn > last.saturating_add(ADVANCE_SEGMENTS_MAX) {
            return Reload::TooFar { last };
        }
        let Some(part) = part else {
            return if self.is_ready() && msn <= last && !newest_is_first(self) {
                Reload::Now
            } else {
                Reload::Wait
            };
        };
        let known = self.find(msn).map_or(0, |segment| segment.part_count());
        // The limit guards the live edge; of an older segment any part beyond the last stands for
        // the next segment's first.
        let at_edge = msn >= newest.seq.0;
        if at_edge && part > known.saturating_add(self.advance_parts()) {
            return Reload::TooFar { last };
        }
        let there = match self.find(msn) {
            Some(segment) if part < segment.part_count() => true,
            Some(segment) if segment.is_open() => false,
            Some(_) => self.has_after(msn),
            None => newest.seq.0 > msn && self.has_after(msn),
        };
        if there && self.is_ready() { Reload::Now } else { Reload::Wait }
    }

    fn has_after(&self, msn: u64) -> bool {
        self.segments.iter().rev().take_while(|segment| segment.seq.0 > msn).any(|segment| {
            !segment.parts.is_empty() || matches!(segment.state, SegmentState::Complete(_))
        })
    }

    /// The Advance Part Limit: three seconds' worth of parts, at least three.
    fn advance_parts(&self) -> u64 {
        let target = self.part_target_micros().max(1);
        u64::try_from((ADVANCE_PARTS_MICROS + target - 1) / target).unwrap_or(3).max(3)
    }

    /// Part `index` of segment `seq`. The name after a complete segment's last part is another
    /// name of the next segment's first part where the two follow each other without a break, so
    /// that a part once hinted always comes.
    #[must_use]
    pub fn part(&self, seq: u64, index: u64) -> Find<FoundPart> {
        let Some(at) = self.at(seq) else { return self.not_begun(seq, index) };
        let Some(segment) = self.segments.get(at) else { return Find::Gone };
        if let Some(part) = usize::try_from(index).ok().and_then(|i| segment.parts.get(i)) {
            return found(segment, part);
        }
        if index != segment.part_count() {
            return Find::Gone;
        }
        match (segment.state, self.segments.get(at + 1)) {
            (SegmentState::Open, _) if !self.ended => Find::Wait,
            (SegmentState::Complete(_), None) if !self.ended => Find::Wait,
            (SegmentState::Complete(_), Some(next)) if follows(segment, next) => {
                match next.parts.first() {
                    Some(part) => found(next, part),
                    None if next.is_open() && !self.ended => Find::Wait,
                    None => Find::Gone,
                }
            }
            _ => Find::Gone,
        }
    }

    /// A part of a segment that is not kept: it may be the next segment's first.
    fn not_begun(&self, seq: u64, index: u64) -> Find<FoundPart> {
        let is_next = self.segments.last().is_some_and(|last| last.seq.0 + 1 == seq);
        if is_next && index == 0 && !self.ended { Find::Wait } else { Find::Gone }
    }

    /// All of segment `seq`.
    #[must_use]
    pub fn segment(&self, seq: u64) -> Find<Rope> {
        match self.find(seq) {
            Some(segment) => match segment.state {
                SegmentState::Complete(_) => {
                    Find::Found(Rope::concat(segment.parts.iter().map(|part| &part.data)))
                }
                SegmentState::Open if !self.ended => Find::Wait,
                SegmentState::Open | SegmentState::Gap(_) => Find::Gone,
            },
            None => Find::Gone,
        }
    }

    /// Init section `version`, while a segment that needs it is kept.
    #[must_use]
    pub fn init(&self, version: u32) -> Option<Rope> {
        let wanted = |segment: &&Arc<Segment>| segment.init.version.0 == version;
        self.segments.iter().rev().find(wanted).map(|segment| segment.init.data.clone())
    }
}

/// Whether the newest segment is the first ever and still open: nothing whole is listed.
fn newest_is_first(snapshot: &Snapshot) -> bool {
    snapshot.segments.iter().all(|segment| segment.is_open())
}

fn follows(segment: &Segment, next: &Segment) -> bool {
    next.seq.0 == segment.seq.0 + 1
        && next.discontinuity == segment.discontinuity
        && next.init.version == segment.init.version
}

fn found(segment: &Segment, part: &Part) -> Find<FoundPart> {
    Find::Found(FoundPart { seq: segment.seq, index: part.index, data: part.data.clone() })
}
