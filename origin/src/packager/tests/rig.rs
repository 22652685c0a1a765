//! A track with made-up frames and a packager that reads it.
//!
//! Not here: what is asserted of them (the tests that use it).

use std::time::Duration;

use bytes::Bytes;
use headwater_media::codec::Resolution;
use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::codec::vp8::Vp8Config;
use headwater_media::codec::vp9::Vp9Config;
use headwater_media::limits::BusLimits;
use headwater_media::{
    Broadcast, ClockRate, Codec, ConfigVersion, Cursor, DiscontinuitySeq, Epoch, Frame,
    GroupHeader, GroupSeq, MediaDuration, MediaKind, MediaTime, PartPlan, Start, StreamName,
    TrackConfig, TrackName, TrackWriter, WallTime,
};

use crate::packager::parts::Cutter;
use crate::packager::snapshot::Snapshot;
use crate::packager::window::{Window, WindowOptions};

/// How long frames are, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cadence {
    /// Each this many, as a ratio.
    Steady(u32, u32),
    /// Between 15 and 60 frames a second.
    Variable,
}

/// Reads a track as a rendition's task does.
pub(crate) struct Reader {
    cursor: Cursor,
    cutter: Cutter,
    window: Window,
}

impl Reader {
    pub(crate) fn drain(&mut self) -> Snapshot {
        while let Some(item) = self.cursor.try_next() {
            let mut over = false;
            self.cutter.push(&item, |cut| {
                over |= matches!(cut, crate::packager::parts::Cut::TrackEnd);
                self.window.push(cut);
            });
            if over {
                self.window.end();
                break;
            }
        }
        self.window.snapshot()
    }
}

/// A broadcast named `a`.
pub(crate) fn broadcast() -> Broadcast {
    let limits = BusLimits { window: Duration::from_secs(3_600), ..BusLimits::default() };
    Broadcast::new(StreamName::parse("a").unwrap(), limits)
}

pub(crate) fn vp9() -> Codec {
    Codec::Vp9(Vp9Config {
        profile: 0,
        level: 31,
        bit_depth: 8,
        chroma_subsampling: 1,
        full_range: false,
        resolution: Resolution { width: 1280, height: 720 },
    })
}

pub(crate) fn vp8() -> Codec {
    Codec::Vp8(Vp8Config { resolution: Resolution { width: 640, height: 360 } })
}

pub(crate) fn opus() -> Codec {
    Codec::Opus(OpusConfig { channels: 2, pre_skip: 312, input_sample_rate: 48_000 })
}

pub(crate) fn aac() -> Codec {
    Codec::Aac(AacConfig {
        asc: Bytes::from_static(&[0x11, 0x90]),
        object_type: 2,
        sample_rate: 48_000,
        channels: 2,
        frame_samples: 1_024,
    })
}

pub(crate) struct Rig {
    pub(crate) target_duration_s: Option<u32>,
    pub(crate) expected_frames: Option<u32>,
    pub(crate) discontinuity: DiscontinuitySeq,
    pub(crate) config_version: u32,
    pub(crate) independent: bool,
    pub(crate) wall: WallTime,
    pub(crate) frame_bytes: usize,
    broadcast: Broadcast,
    writer: Option<TrackWriter>,
    reader: Reader,
    options: WindowOptions,
    codec: Codec,
    rate: ClockRate,
    cadence: Cadence,
    plan: PartPlan,
    next_group: u64,
    /// Frames so far, and where the next one is.
    frames: u64,
    ticks: i64,
    in_group: u32,
}

impl Rig {
    pub(crate) fn video(cadence: Cadence) -> Self {
        Self::with(cadence, WindowOptions::default())
    }

    pub(crate) fn with(cadence: Cadence, options: WindowOptions) -> Self {
        Self::new(&broadcast(), "video", vp9(), cadence, options)
    }

    pub(crate) fn audio() -> Self {
        let options = WindowOptions::default();
        Self::new(&broadcast(), "audio", opus(), Cadence::Steady(960, 1), options)
    }

    /// A further track of `broadcast`, at 30 frames a second or 20 ms of sound a frame.
    pub(crate) fn on(broadcast: &Broadcast, name: &str, codec: Codec) -> Self {
        let cadence = match codec.kind() {
            MediaKind::Video => Cadence::Steady(3_000, 1),
            MediaKind::Audio => Cadence::Steady(960, 1),
        };
        Self::new(broadcast, name, codec, cadence, WindowOptions::default())
    }

    fn new(
        broadcast: &Broadcast,
        name: &str,
        codec: Codec,
        cadence: Cadence,
        options: WindowOptions,
    ) -> Self {
        let rate = match codec.kind() {
            MediaKind::Video => ClockRate::VIDEO,
            MediaKind::Audio => ClockRate::OPUS,
        };
        let broadcast = broadcast.clone();
        let writer = broadcast.add_track(TrackName::parse(name).unwrap(), codec.kind()).unwrap();
        let (num, den) = match cadence {
            Cadence::Steady(num, den) => (num, den),
            Cadence::Variable => (3_000, 1),
        };
        let plan = PartPlan::for_cadence(num, den, rate, Duration::from_millis(200));
        let reader = Reader {
            cursor: writer.track().read(Start::Oldest),
            cutter: Cutter::default(),
            window: Window::new(options),
        };
        Self {
            target_duration_s: Some(2),
            expected_frames: None,
            discontinuity: DiscontinuitySeq(0),
            config_version: 0,
            independent: true,
            wall: WallTime(1_795_384_844_000_000),
            frame_bytes: 50,
            broadcast,
            writer: Some(writer),
            reader,
            options,
            codec,
            rate,
            cadence,
            plan,
            next_group: 0,
            frames: 0,
            ticks: 0,
            in_group: 0,
        }
    }

    /// Another packager on the same track.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            cursor: self.broadcast.tracks()[0].read(Start::Oldest),
            cutter: Cutter::default(),
            window: Window::new(self.options),
        }
    }

    pub(crate) fn begin(&mut self) {
        let config = TrackConfig {
            version: ConfigVersion(self.config_version),
            codec: self.codec.clone(),
            rate: self.rate,
            parts: self.plan,
        };
        let header = GroupHeader {
            seq: GroupSeq(self.next_group),
            epoch: Epoch(1),
            discontinuity: self.discontinuity,
            start: MediaTime::new(self.ticks, self.rate),
            wall: self.wall,
            independent: self.independent,
            expected_frames: self.expected_frames,
            target_duration_s: self.target_duration_s,
            config: config.into(),
        };
        self.next_group += 1;
        self.in_group = 0;
        self.writer.as_mut().unwrap().begin_group(header).unwrap();
    }

    /// Goes on in another codec, as another publisher would.
    pub(crate) fn republish(mut self, codec: Codec) -> Self {
        self.end_group();
        self.codec = codec;
        self.config_version += 1;
        self.discontinuity = self.discontinuity.next();
        self
    }

    /// Leaves out so many group numbers, and the time of two seconds for each.
    pub(crate) fn skip_groups(&mut self, count: u64) {
        self.next_group += count;
        self.ticks += i64::from(self.rate.hz()) * 2 * i64::try_from(count).unwrap();
    }

    /// Lets so much of the track's time go by without a frame.
    pub(crate) fn skip_ticks(&mut self, ticks: i64) {
        self.ticks += ticks;
    }

    pub(crate) fn frame(&mut self) -> Snapshot {
        self.frames += 1;
        let duration = match self.cadence {
            Cadence::Steady(num, den) => {
                let at = |frames: u64| (frames * u64::from(num) / u64::from(den)) as i64;
                at(self.frames) - at(self.frames - 1)
            }
            Cadence::Variable => [3_000, 6_000, 1_500, 2_999, 3_001][self.frames as usize % 5],
        };
        let dts = MediaTime::new(self.ticks, self.rate);
        let keyframe =
            self.codec.kind() == MediaKind::Audio || (self.in_group == 0 && self.independent);
        let frame = Frame {
            pts: dts,
            dts,
            duration: MediaDuration::new(duration, self.rate),
            keyframe,
            capture: WallTime(0),
            payload: Bytes::from(vec![self.frames as u8; self.frame_bytes]),
        };
        self.writer.as_mut().unwrap().append(frame).unwrap();
        self.ticks += duration;
        self.in_group += 1;
        self.now()
    }

    /// Begins a group and fills it with about so many seconds, whole frames.
    pub(crate) fn group_of_seconds(&mut self, seconds: i64) {
        self.begin();
        let until = self.ticks + seconds * i64::from(self.rate.hz());
        while self.ticks + i64::from(self.plan.frame_ticks) / 2 < until {
            self.frame();
        }
    }

    pub(crate) fn end_group(&mut self) -> Snapshot {
        self.writer.as_mut().unwrap().end_group();
        self.now()
    }

    pub(crate) fn tear_group(&mut self) -> Snapshot {
        self.writer.as_mut().unwrap().tear_group();
        self.now()
    }

    pub(crate) fn finish(&mut self) -> Snapshot {
        self.writer.take().unwrap().finish();
        self.now()
    }

    pub(crate) fn now(&mut self) -> Snapshot {
        self.reader.drain()
    }

    pub(crate) fn dropped_early(&self) -> u64 {
        self.reader.window.dropped_early()
    }
}
