//! A track's two halves: what lasts with the broadcast, and what lasts with a publisher.
//!
//! Not here: when groups begin (`group`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_media::codec::opus;
use headwater_media::frame::Group;
use headwater_media::{
    ClockRate, Codec, ConfigVersion, GroupSeq, MediaDuration, MediaKind, PartPlan, TrackConfig,
    TrackName, TrackWriter, WallTime,
};

use super::HELD_FRAMES_MAX;
use super::reorder::Reorder;
use crate::ingest::cadence::Cadence;
use crate::ingest::timeline::Timeline;

/// Intervals of a group that are kept: four seconds at 60 frames a second tell enough.
const INTERVALS_MAX: usize = 240;
/// Slow groups in a row that it takes at most: two minutes of groups of two seconds.
const SLOW_GROUPS_MAX: u32 = 64;

/// A frame on the broadcast's timeline, in ticks of its track.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pub(super) pts: i64,
    pub(super) dts: i64,
    pub(super) keyframe: bool,
    pub(super) capture: WallTime,
    pub(super) now: WallTime,
    pub(super) payload: Bytes,
}

/// What of a track lasts with the broadcast.
pub(super) struct Slot {
    pub(super) name: TrackName,
    pub(super) writer: TrackWriter,
    /// Configuration of the newest group.
    pub(super) config: Option<Arc<TrackConfig>>,
    /// `PART-TARGET`, once chosen: in ticks of a rate. It stays for the broadcast's life.
    part_target: Option<(u32, ClockRate)>,
}

impl Slot {
    pub(super) fn new(name: TrackName, writer: TrackWriter) -> Self {
        Self { name, writer, config: None, part_target: None }
    }

    /// Of a track that another node has published so far; `newest` is its newest group.
    pub(super) fn adopt(writer: TrackWriter, newest: Option<&Group>) -> Self {
        let name = writer.track().name().clone();
        let config = newest.map(|group| Arc::clone(&group.header().config));
        let part_target = config.as_ref().map(|config| (config.parts.target_ticks, config.rate));
        Self { name, writer, config, part_target }
    }

    /// How far the track has come, in microseconds.
    pub(super) fn end_micros(&self) -> Option<i64> {
        self.writer.track().newest().map(|group| group.end().micros())
    }

    /// The plan for frames of `cadence`: the first one sets the target for good, later ones keep
    /// to it.
    fn plan(&mut self, cadence: Cadence, rate: ClockRate, configured: Duration) -> PartPlan {
        let fresh = PartPlan::for_cadence(cadence.num, cadence.den, rate, configured);
        let Some((ticks, of)) = self.part_target else {
            // An odd cadence may be corrected later: then the configured target fits most others.
            let whole = MediaDuration::from_std(configured, rate).ticks();
            let whole = u32::try_from(whole).unwrap_or(u32::MAX).max(fresh.frame_ticks);
            let target_ticks = if cadence.known { fresh.target_ticks } else { whole };
            self.part_target = Some((target_ticks, rate));
            return PartPlan { target_ticks, ..fresh };
        };
        let kept = u64::from(ticks) * u64::from(rate.hz()) / u64::from(of.hz());
        PartPlan { target_ticks: u32::try_from(kept).unwrap_or(u32::MAX).max(1), ..fresh }
    }

    /// The configuration of group `seq`, of `codec` and cut by `parts`: the newest one if it is the
    /// same. A new one's version is the number of the group that it begins with: no owner of the
    /// stream's name, before or after, gives that number to another one.
    pub(super) fn configured(
        &mut self,
        seq: GroupSeq,
        codec: &Codec,
        rate: ClockRate,
        parts: PartPlan,
    ) -> Arc<TrackConfig> {
        if let Some(config) = &self.config
            && config.codec == *codec
            && config.rate == rate
            && config.parts == parts
        {
            return Arc::clone(config);
        }
        let version = ConfigVersion(u32::try_from(seq.0).unwrap_or(u32::MAX));
        let config = Arc::new(TrackConfig { version, codec: codec.clone(), rate, parts });
        self.config = Some(Arc::clone(&config));
        config
    }
}

/// What of a track lasts with a publisher's session.
pub(super) struct SessionTrack {
    pub(super) slot: usize,
    pub(super) kind: MediaKind,
    /// The headers as the publisher gave them.
    said: Option<Codec>,
    reorder: Reorder,
    /// The headers as they are taken.
    pub(super) codec: Option<Codec>,
    /// The headers changed since the open group began.
    pub(super) codec_changed: bool,
    pub(super) timeline: Option<Timeline>,
    pub(super) plan: Option<PartPlan>,
    cadence: Option<Cadence>,
    /// When the last frame was decoded by its own time, and how long each of the group's frames
    /// lasted until the next, in ticks.
    last_dts: Option<i64>,
    intervals: Vec<i64>,
    /// Groups in a row that were slower than the cadence, and how many it takes to believe them:
    /// a source that leaves out frames now and then keeps its cadence, and its init section.
    slow_groups: (u32, u32),
    /// Frames that wait for the cadence or for the leader.
    pub(super) held: VecDeque<Mapped>,
    /// Where this track's next group begins, as its leader has cut.
    pub(super) cut: Option<Cut>,
    /// Whether this session has begun a group.
    pub(super) begun: bool,
    /// Where the publisher had the newest group's first frame, in decoding time.
    pub(super) group_dts: i64,
    /// Frames in the last two groups.
    pub(super) lengths: [Option<u32>; 2],
    pub(super) last_keyframe: Option<WallTime>,
}

/// A boundary that the leader has made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) seq: GroupSeq,
    pub(super) micros: i64,
}

impl SessionTrack {
    pub(super) fn new(slot: usize, kind: MediaKind) -> Self {
        Self {
            slot,
            kind,
            said: None,
            reorder: Reorder::default(),
            codec: None,
            codec_changed: false,
            timeline: None,
            plan: None,
            cadence: None,
            last_dts: None,
            intervals: Vec::new(),
            slow_groups: (0, 1),
            held: VecDeque::new(),
            cut: None,
            begun: false,
            group_dts: 0,
            lengths: [None; 2],
            last_keyframe: None,
        }
    }

    pub(super) fn configure(&mut self, codec: Codec) {
        if self.said.as_ref() == Some(&codec) {
            return;
        }
        // A changed rate needs a timeline in its ticks: as at the session's start.
        let rate = rate_of(&codec);
        if self.rate() != Some(rate) {
            self.timeline = None;
            self.cadence = None;
            self.held.clear();
        }
        self.codec_changed = true;
        // Before any frame nothing is known: what the headers say holds.
        let decided = self.timeline.is_some().then(|| self.reorder.decide(&codec));
        self.codec = Some(decided.unwrap_or_else(|| codec.clone()));
        self.said = Some(codec);
    }

    /// Takes note of a frame's order.
    pub(super) fn observe(&mut self, frame: &Mapped) {
        if self.kind == MediaKind::Video {
            self.reorder.observe(frame.pts, frame.dts, frame.keyframe);
        }
    }

    /// Takes note of how far a frame that goes on the bus is from the one before.
    pub(super) fn pace(&mut self, dts: i64) {
        if let Some(last) = self.last_dts.replace(dts)
            && self.intervals.len() < INTERVALS_MAX
        {
            self.intervals.push(dts.saturating_sub(last));
        }
    }

    /// Takes the headers for what the frames have shown them to be; true when that is news.
    pub(super) fn decide_codec(&mut self) -> bool {
        let Some(said) = &self.said else { return false };
        let decided = self.reorder.decide(said);
        let news = self.codec.as_ref() != Some(&decided);
        if news {
            self.codec = Some(decided);
            self.codec_changed = true;
        }
        news
    }

    /// Ticks a second, once the codec is known.
    pub(super) fn rate(&self) -> Option<ClockRate> {
        self.codec.as_ref().map(rate_of)
    }

    pub(super) fn hold(&mut self, frame: Mapped) {
        if self.held.len() >= HELD_FRAMES_MAX {
            self.held.pop_front();
            super::dropped("held_too_long");
        }
        self.held.push_back(frame);
    }

    /// Media time from the first held frame to the last.
    pub(super) fn held_micros(&self) -> i64 {
        let (Some(first), Some(last), Some(rate)) =
            (self.held.front(), self.held.back(), self.rate())
        else {
            return 0;
        };
        let ticks = last.dts.saturating_sub(first.dts);
        MediaDuration::new(ticks, rate).micros()
    }

    /// Looks for the cadence in the held frames; true once it is known.
    pub(super) fn find_cadence(&mut self, now: WallTime, wait_micros: i64) -> bool {
        let (Some(codec), Some(rate)) = (&self.codec, self.rate()) else { return false };
        let cadence = match self.kind {
            MediaKind::Audio => {
                let first = self.held.front().map(|frame| frame.payload.as_ref());
                let samples = first.and_then(|packet| opus::packet_duration_samples(packet).ok());
                Some(Cadence::of_audio(codec, samples.unwrap_or(960)))
            }
            MediaKind::Video => {
                let waited = self.held.front().map_or(0, |frame| now.micros_since(frame.now));
                let dts: Vec<_> = self.held.iter().map(|frame| frame.dts).collect();
                let patient = waited < wait_micros;
                Cadence::of_video(&dts, codec.frame_rate(), rate, patient)
            }
        };
        self.cadence = cadence;
        cadence.is_some()
    }

    /// Corrects the cadence by what a whole group was: `frames` frames over `ticks`.
    pub(super) fn correct_cadence(
        &mut self,
        slot: &mut Slot,
        (frames, ticks): (u32, i64),
        part_target: Duration,
    ) {
        let intervals = std::mem::take(&mut self.intervals);
        let (Some(cadence), Some(rate)) = (self.cadence, self.rate()) else { return };
        let Some(corrected) = cadence.corrected(frames, ticks, rate) else {
            self.slow_groups.0 = 0;
            return;
        };
        if corrected.ticks() > cadence.ticks() {
            if cadence.is_kept_at_times(intervals) {
                return;
            }
            let (seen, needed) = self.slow_groups;
            self.slow_groups.0 = seen + 1;
            if seen + 1 < needed {
                return;
            }
            self.slow_groups.1 = (2 * needed).min(SLOW_GROUPS_MAX);
        }
        self.slow_groups.0 = 0;
        self.cadence = Some(corrected);
        let (placed, plan) = placing(self.kind, slot, corrected, rate, part_target);
        self.plan = Some(plan);
        if let Some(timeline) = &mut self.timeline {
            timeline.change_cadence(placed, plan);
        }
    }

    pub(super) fn make_timeline(&mut self, slot: &mut Slot, part_target: Duration) {
        let (Some(cadence), Some(rate)) = (self.cadence, self.rate()) else { return };
        let (placed, plan) = placing(self.kind, slot, cadence, rate, part_target);
        self.plan = Some(plan);
        self.timeline = Some(Timeline::new(self.kind, rate, placed, plan));
    }
}

/// The cadence at which a track's frames are placed, and the plan of its parts. Sound keeps its own
/// cadence, which its samples count out.
fn placing(
    kind: MediaKind,
    slot: &mut Slot,
    cadence: Cadence,
    rate: ClockRate,
    part_target: Duration,
) -> (Cadence, PartPlan) {
    let plan = slot.plan(cadence, rate, part_target);
    let placed = match kind {
        MediaKind::Video => cadence.filling(plan.target_ticks),
        MediaKind::Audio => cadence,
    };
    let frame_ticks = u32::try_from(placed.ticks()).unwrap_or(u32::MAX).max(1);
    (placed, PartPlan { frame_ticks, ..plan })
}

/// Video runs at 90 kHz, audio at its sample rate.
fn rate_of(codec: &Codec) -> ClockRate {
    match codec.audio() {
        Some((hz, _)) => ClockRate::new(hz).unwrap_or(ClockRate::OPUS),
        None => ClockRate::VIDEO,
    }
}
