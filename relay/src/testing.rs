//! What tests of this crate share: streams made by rule, and their print for comparison.
//!
//! Not here: networks (`hop::tests`).

use std::sync::Arc;

use bytes::Bytes;
use headwater_media::codec::Resolution;
use headwater_media::codec::h264::H264Config;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::limits::BusLimits;
use headwater_media::{
    Broadcast, BroadcastState, ClockRate, Codec, ConfigVersion, DiscontinuitySeq, Epoch, Frame,
    GroupHeader, GroupSeq, MediaDuration, MediaTime, PartPlan, StreamName, Track, TrackConfig,
    TrackName, TrackWriter, WallTime,
};

pub(crate) fn name(text: &str) -> StreamName {
    StreamName::parse(text).unwrap()
}

/// A live stream without tracks.
pub(crate) fn broadcast(text: &str) -> Broadcast {
    let broadcast = Broadcast::new(name(text), BusLimits::default());
    broadcast.set_state(BroadcastState::Live);
    broadcast
}

pub(crate) fn h264(version: u32) -> TrackConfig {
    let resolution = Resolution { width: 1_280, height: 720 };
    TrackConfig {
        version: ConfigVersion(version),
        codec: Codec::H264(H264Config {
            sps: vec![Bytes::from(vec![0x67, 0x42, 0xc0, 0x1f, 0x11, 0x22])],
            pps: vec![Bytes::from(vec![0x68, version.to_le_bytes()[0]])],
            profile: 66,
            constraints: 0xc0,
            level: 31,
            resolution,
            frame_rate: None,
            reorder_frames: 0,
        }),
        rate: ClockRate::VIDEO,
        parts: PartPlan { target_ticks: 18_000, frame_ticks: 3_000 },
    }
}

pub(crate) fn opus() -> TrackConfig {
    TrackConfig {
        version: ConfigVersion(1),
        codec: Codec::Opus(OpusConfig { channels: 2, pre_skip: 312, input_sample_rate: 48_000 }),
        rate: ClockRate::OPUS,
        parts: PartPlan { target_ticks: 9_600, frame_ticks: 960 },
    }
}

/// Writes a track by rule: sizes, times and payloads follow from group and frame.
pub(crate) struct Feeder {
    pub(crate) writer: TrackWriter,
    pub(crate) config: Arc<TrackConfig>,
    pub(crate) epoch: u64,
    pub(crate) discontinuity: u64,
    pub(crate) frame_bytes: usize,
    /// Capture times of frames; by rule where none.
    pub(crate) capture: Option<fn() -> WallTime>,
    seq: u64,
    index: u32,
    ticks: i64,
}

impl Feeder {
    pub(crate) fn video(broadcast: &Broadcast) -> Self {
        Self::new(broadcast, TrackName::video(), h264(1), 3_000)
    }

    pub(crate) fn audio(broadcast: &Broadcast) -> Self {
        Self::new(broadcast, TrackName::audio(), opus(), 160)
    }

    fn new(broadcast: &Broadcast, name: TrackName, config: TrackConfig, bytes: usize) -> Self {
        let writer = broadcast.add_track(name, config.codec.kind()).unwrap();
        Self::of(writer, config, bytes)
    }

    pub(crate) fn of(writer: TrackWriter, config: TrackConfig, frame_bytes: usize) -> Self {
        let config = Arc::new(config);
        let (epoch, discontinuity, seq, index, ticks) = (1, 0, 0, 0, 0);
        let capture = None;
        Self { writer, config, epoch, discontinuity, frame_bytes, capture, seq, index, ticks }
    }

    pub(crate) fn track(&self) -> Track {
        self.writer.track()
    }

    pub(crate) fn header(&self, seq: u64, independent: bool) -> GroupHeader {
        let start = MediaTime::new(self.ticks, self.config.rate);
        GroupHeader {
            seq: GroupSeq(seq),
            epoch: Epoch(self.epoch),
            discontinuity: DiscontinuitySeq(self.discontinuity),
            start,
            wall: WallTime(1_700_000_000_000_000 + start.micros()),
            independent,
            expected_frames: Some(60),
            target_duration_s: Some(2),
            config: Arc::clone(&self.config),
        }
    }

    pub(crate) fn group(&mut self, seq: u64, independent: bool) {
        self.writer.begin_group(self.header(seq, independent)).unwrap();
        (self.seq, self.index) = (seq, 0);
    }

    /// The frame that comes next.
    pub(crate) fn make(&mut self, keyframe: bool) -> Frame {
        let rate = self.config.rate;
        let step = i64::from(self.config.parts.frame_ticks);
        let mix = self.seq.wrapping_mul(31).wrapping_add(u64::from(self.index) * 7);
        let spread = usize::try_from(mix % 97).unwrap();
        let size = if keyframe { self.frame_bytes * 6 } else { self.frame_bytes } + spread;
        let mut payload = vec![mix.to_le_bytes()[0]; size];
        payload[..8].copy_from_slice(&mix.to_le_bytes());
        let dts = MediaTime::new(self.ticks, rate);
        let wobble = i64::try_from(mix % 5).unwrap() * 10;
        self.ticks += step;
        self.index += 1;
        Frame {
            pts: MediaTime::new(dts.ticks() + 3_000 + wobble, rate),
            dts,
            duration: MediaDuration::new(step, rate),
            keyframe,
            capture: self
                .capture
                .map_or(WallTime(1_700_000_000_000_000 + dts.micros() + wobble), |now| now()),
            payload: payload.into(),
        }
    }

    pub(crate) fn frames(&mut self, count: u32) {
        for _ in 0..count {
            let first = self.index == 0;
            let frame = self.make(first);
            self.writer.append(frame).unwrap();
        }
    }

    pub(crate) fn whole_group(&mut self, seq: u64, frames: u32) {
        self.group(seq, true);
        self.frames(frames);
        self.writer.end_group();
    }
}

/// Everything that a track holds, group by group.
pub(crate) fn print(track: &Track) -> Vec<String> {
    let mut out = Vec::new();
    for group in track.window().iter() {
        out.push(format!("{:?}", group.header()));
        out.extend((0..group.len()).map(|index| format!("{:?}", group.frame(index).unwrap())));
        out.push(format!("{} {:?} torn {}", group.seq(), group.final_len(), group.is_torn()));
    }
    out
}
