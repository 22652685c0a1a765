//! Keeps a rendition's segments: which are listed, which may still be fetched, where numbers are
//! missing. A pure function of what the cutter found: media time alone tells when a segment goes,
//! so every node lists the same.
//!
//! Not here: parts (`parts`), text (`playlist`), waiting (`rendition`).

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_media::fmp4::init_section;
use headwater_media::{
    ClockRate, GroupHeader, GroupSeq, MediaDuration, MediaTime, TrackConfig, WallTime,
};

use super::parts::{Cut, Part};
use super::rates::Rates;
use super::rope::Rope;
use super::snapshot::{Init, Segment, SegmentState, Snapshot};

/// How much a rendition lists and keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowOptions {
    /// `[hls] segments` (10): whole segments that a playlist lists, not counting gaps among them.
    /// More lets viewers seek back further and costs memory; three target durations are listed in
    /// any case.
    pub segments: usize,
    /// `[limits] hls_track_bytes` (128 MiB): bytes of media that a rendition keeps at most. The
    /// oldest segments go first, before their time where need be, down to the newest whole
    /// segment and the open one; a segment's own size is bounded by `publisher_bitrate` times
    /// `max_group`.
    pub track_bytes: u64,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self { segments: 10, track_bytes: 128 << 20 }
    }
}

/// Segments that a playlist lists at most, whatever their length: a publisher whose every frame
/// is a keyframe gets a shorter playlist, not an endless one.
pub const LISTED_SEGMENTS_MAX: usize = 512;
/// Delta updates are offered where a playlist of full segments reaches beyond the six target
/// durations that a delta update must keep.
const DELTA_SEGMENTS_MIN: usize = 8;
/// Numbers in a row that are listed as gaps at most. A new owner that could not ask the old one
/// skips the numbers that were reserved for it, 16 at most and a few.
const GAPS_MAX: u64 = 32;
/// A playlist lists at least this many target durations (RFC 8216bis, 6.2.2).
const TARGET_DURATIONS_MIN: i64 = 3;

/// What may be fetched of one rendition, and what is listed.
#[derive(Debug)]
pub struct Window {
    options: WindowOptions,
    segments: VecDeque<Kept>,
    /// How many of `segments`, from the oldest, are no longer listed.
    unlisted: usize,
    target_duration_s: Option<u32>,
    /// Media time that has gone by, in microseconds.
    clock: i64,
    /// Length of the longest playlist so far, in microseconds.
    longest: i64,
    bytes: u64,
    all_independent: bool,
    ended: bool,
    rates: Rates,
    config: Option<Arc<TrackConfig>>,
    unsupported: Option<String>,
    /// Dropped before their time for `track_bytes`.
    dropped_early: u64,
}

#[derive(Debug)]
struct Kept {
    segment: Arc<Segment>,
    start_ticks: i64,
    /// When it may go, on the window's clock; known once it is no longer listed.
    expires: Option<i64>,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(options: WindowOptions) -> Self {
        Self {
            options,
            segments: VecDeque::new(),
            unlisted: 0,
            target_duration_s: None,
            clock: 0,
            longest: 0,
            bytes: 0,
            all_independent: true,
            ended: false,
            rates: Rates::default(),
            config: None,
            unsupported: None,
            dropped_early: 0,
        }
    }

    /// Takes what the cutter found. The end of a track is not the end of the rendition: that is
    /// [`Self::end`].
    pub fn push(&mut self, cut: Cut) {
        match cut {
            Cut::Begin(header) => self.begin(&header),
            Cut::Part(part) => self.part(part),
            Cut::End(duration) => self.complete(duration),
            Cut::Torn => self.tear(),
            Cut::Broken(_) | Cut::TrackEnd => {}
        }
    }

    /// The broadcast is over. An open segment ends with what it has.
    pub fn end(&mut self) {
        self.close_open();
        self.ended = true;
    }

    /// Segments that went before their time, for `track_bytes`.
    #[must_use]
    pub fn dropped_early(&self) -> u64 {
        self.dropped_early
    }

    /// The rendition as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            segments: self.segments.iter().map(|kept| Arc::clone(&kept.segment)).collect(),
            listed_from: self.unlisted,
            target_duration_s: self.target_duration_s,
            all_independent: self.all_independent,
            ended: self.ended,
            offers_delta: self.options.segments >= DELTA_SEGMENTS_MIN,
            rates: self.rates,
            config: self.config.clone(),
            unsupported: self.unsupported.clone(),
        }
    }

    fn begin(&mut self, header: &GroupHeader) {
        self.close_open();
        self.config = Some(Arc::clone(&header.config));
        self.target_duration_s = self.target_duration_s.or(header.target_duration_s);
        let init = match self.init(&header.config) {
            Ok(init) => init,
            Err(why) => {
                self.unsupported = Some(why);
                return;
            }
        };
        self.unsupported = None;
        self.all_independent &= header.independent;
        let last = self.segments.back().map(|kept| kept.segment.seq);
        if last.is_some_and(|last| last >= header.seq) {
            return;
        }
        self.fill_gap(header);
        self.segments.push_back(Kept {
            segment: Arc::new(Segment {
                seq: header.seq,
                discontinuity: header.discontinuity,
                wall: header.wall,
                expected_frames: header.expected_frames,
                init,
                state: SegmentState::Open,
                parts: Vec::new(),
            }),
            start_ticks: header.start.ticks(),
            expires: None,
        });
    }

    /// The init section of `config`: the one in use, if it is the same.
    fn init(&self, config: &Arc<TrackConfig>) -> Result<Arc<Init>, String> {
        if let Some(last) = self.segments.back()
            && last.segment.init.version == config.version
        {
            return Ok(Arc::clone(&last.segment.init));
        }
        let data = init_section(config).map_err(|error| error.to_string())?;
        let config = Arc::clone(config);
        Ok(Arc::new(Init { version: config.version, data: Rope::from(data), config }))
    }

    /// Lists the numbers between the last segment and `header`'s as gaps, or begins the playlist
    /// anew where there are too many of them.
    fn fill_gap(&mut self, header: &GroupHeader) {
        let Some(last) = self.segments.back() else { return };
        let missing = header.seq.0 - last.segment.seq.0 - 1;
        let jump = header.discontinuity.0.abs_diff(last.segment.discontinuity.0);
        if missing > GAPS_MAX || jump > GAPS_MAX {
            while self.unlisted < self.segments.len() {
                self.unlist_oldest();
            }
            return;
        }
        if missing == 0 {
            return;
        }
        let last = Arc::clone(&last.segment);
        let each = self.gap_length(header, missing);
        for number in 1..=missing {
            let back = i64::try_from(missing - number + 1).unwrap_or(0);
            let segment = Segment {
                seq: GroupSeq(last.seq.0 + number),
                discontinuity: last.discontinuity,
                wall: WallTime(header.wall.0.saturating_sub(back.saturating_mul(each.micros()))),
                expected_frames: None,
                init: Arc::clone(&last.init),
                state: SegmentState::Gap(each),
                parts: Vec::new(),
            };
            self.clock = self.clock.saturating_add(each.micros());
            self.segments.push_back(Kept {
                segment: Arc::new(segment),
                start_ticks: 0,
                expires: None,
            });
        }
        self.trim();
    }

    /// What each of the `missing` segments before `header` lasts: an even share of the time
    /// between its neighbours where that makes sense, else the target duration. Neighbours on one
    /// timeline are compared by it, others by the wall clock.
    fn gap_length(&self, header: &GroupHeader, missing: u64) -> MediaDuration {
        let rate = header.start.rate();
        let target = i64::from(self.target_duration_s.unwrap_or(1)) * i64::from(rate.hz());
        // `EXTINF` is rounded to whole seconds against `EXT-X-TARGETDURATION`.
        let rounding = i64::from(rate.hz()) * 49 / 100;
        let share = self.segments.back().and_then(|last| {
            let SegmentState::Complete(length) = last.segment.state else { return None };
            let same = last.segment.discontinuity == header.discontinuity && length.rate() == rate;
            let between = if same {
                let end = last.start_ticks.saturating_add(length.ticks());
                header.start.ticks().saturating_sub(end)
            } else {
                let end = last.segment.wall.plus_micros(length.micros());
                let micros = header.wall.micros_since(end);
                MediaTime::new(micros, ClockRate::MICROS).to_rate(rate).ticks()
            };
            let share = between.checked_div(i64::try_from(missing).ok()?)?;
            (share > 0 && share <= target + rounding).then_some(share)
        });
        MediaDuration::new(share.unwrap_or(target), rate)
    }

    fn part(&mut self, part: Part) {
        if self.unsupported.is_some() {
            return;
        }
        let Some(kept) = self.segments.back_mut().filter(|kept| kept.segment.is_open()) else {
            return;
        };
        self.clock = self.clock.saturating_add(part.duration.micros().max(0));
        self.bytes = self.bytes.saturating_add(part.data.len());
        let segment = Arc::make_mut(&mut kept.segment);
        segment.parts.push(part);
        self.rates.growing(segment);
        self.trim();
    }

    fn complete(&mut self, duration: MediaDuration) {
        let Some(kept) = self.segments.back_mut().filter(|kept| kept.segment.is_open()) else {
            return;
        };
        if kept.segment.parts.is_empty() {
            // A group without a frame: its number will be a gap.
            self.segments.pop_back();
            return;
        }
        let segment = Arc::make_mut(&mut kept.segment);
        segment.state = SegmentState::Complete(duration);
        self.rates.complete(segment);
        self.trim();
        let listed: i64 = self.segments.iter().skip(self.unlisted).map(Kept::micros).sum();
        self.longest = self.longest.max(listed);
    }

    /// The open segment's rest does not come: it becomes a gap, and its parts go, since on other
    /// nodes its number names the whole of it.
    fn tear(&mut self) {
        let Some(kept) = self.segments.back_mut().filter(|kept| kept.segment.is_open()) else {
            return;
        };
        if kept.segment.parts.is_empty() {
            self.segments.pop_back();
            return;
        }
        self.bytes = self.bytes.saturating_sub(kept.segment.bytes());
        let segment = Arc::make_mut(&mut kept.segment);
        let length = MediaDuration::new(segment.micros(), ClockRate::MICROS);
        segment.parts.clear();
        segment.state = SegmentState::Gap(length);
        self.trim();
    }

    /// Ends a segment whose group broke off.
    fn close_open(&mut self) {
        let Some(open) = self.segments.back().filter(|kept| kept.segment.is_open()) else {
            return;
        };
        let micros = MediaDuration::new(open.segment.micros(), ClockRate::MICROS);
        self.complete(micros);
    }

    /// Takes segments off the list, and lets go of those whose time has come.
    fn trim(&mut self) {
        while self.lists_too_much() {
            self.unlist_oldest();
        }
        while let Some(oldest) = self.segments.front()
            && oldest.expires.is_some_and(|at| at <= self.clock)
        {
            self.drop_oldest();
        }
        while self.bytes > self.options.track_bytes && self.segments.len() > 2 {
            self.drop_oldest();
            self.dropped_early += 1;
        }
    }

    /// Whether the oldest segment is to go off the list. Numbers that nobody has are listed beside
    /// the segments that can be played, not instead of them, and not before the first of these.
    fn lists_too_much(&self) -> bool {
        let listed = self.segments.range(self.unlisted..).map(|kept| &*kept.segment);
        let Some(oldest) = listed.clone().next() else { return false };
        let whole = listed.clone().filter(|segment| !segment.is_open()).count();
        if whole > LISTED_SEGMENTS_MAX {
            return true;
        }
        let target = i64::from(self.target_duration_s.unwrap_or(1)) * 1_000_000;
        let rest = listed.clone().skip(1).filter(|segment| !segment.is_gap());
        let long_enough = rest.map(Segment::micros).sum::<i64>() >= TARGET_DURATIONS_MIN * target;
        let real = listed.filter(|segment| !segment.is_open() && !segment.is_gap()).count();
        let room = self.options.segments.clamp(1, LISTED_SEGMENTS_MAX);
        long_enough && (real > room || (real == room && oldest.is_gap()))
    }

    /// RFC 8216bis, 6.2.2: a segment stays for its own length and that of the longest playlist
    /// that listed it.
    fn unlist_oldest(&mut self) {
        let (clock, longest) = (self.clock, self.longest);
        if let Some(kept) = self.segments.get_mut(self.unlisted) {
            kept.expires = Some(clock.saturating_add(longest).saturating_add(kept.micros()));
            self.unlisted += 1;
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(gone) = self.segments.pop_front() {
            self.bytes = self.bytes.saturating_sub(gone.segment.bytes());
            self.unlisted = self.unlisted.saturating_sub(1);
        }
    }
}

impl Kept {
    fn micros(&self) -> i64 {
        self.segment.micros()
    }
}
