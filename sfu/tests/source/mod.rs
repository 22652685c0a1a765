//! A live stream for tests of viewers: tracks on a bus, written at 50 frames a second.
//! Not here: reading it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a driver of tests")]

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use headwater_media::codec::Resolution;
use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::av1::Av1Config;
use headwater_media::codec::h264::H264Config;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::codec::vp8::Vp8Config;
use headwater_media::codec::vp9::Vp9Config;
use headwater_media::{
    Broadcast, ClockRate, Codec, ConfigVersion, DiscontinuitySeq, Epoch, Frame, GroupHeader,
    GroupSeq, MediaDuration, MediaKind as Kind, MediaTime, PartPlan, Track, TrackConfig, TrackName,
    TrackWriter, WallTime,
};

const SIZE: Resolution = Resolution { width: 640, height: 360 };

pub(crate) fn h264(reorder_frames: u8) -> Codec {
    Codec::H264(H264Config {
        sps: vec![Bytes::from_static(&[0x67, 0x42, 0xe0, 0x1f])],
        pps: vec![Bytes::from_static(&[0x68, 0xce])],
        profile: 0x42,
        constraints: 0xe0,
        level: 0x1f,
        resolution: SIZE,
        frame_rate: None,
        reorder_frames,
    })
}

pub(crate) fn vp8() -> Codec {
    Codec::Vp8(Vp8Config { resolution: SIZE })
}

pub(crate) fn vp9() -> Codec {
    Codec::Vp9(Vp9Config {
        profile: 0,
        level: 30,
        bit_depth: 8,
        chroma_subsampling: 1,
        full_range: false,
        resolution: SIZE,
    })
}

pub(crate) fn av1() -> Codec {
    Codec::Av1(Av1Config {
        sequence_header: Bytes::from_static(&[0x0a, 2, 0xaa, 0xbb]),
        profile: 0,
        level: 5,
        tier: 0,
        bit_depth: 8,
        monochrome: false,
        subsampling_x: true,
        subsampling_y: true,
        chroma_sample_position: 0,
        resolution: SIZE,
        frame_rate: None,
    })
}

pub(crate) fn opus() -> Codec {
    Codec::Opus(OpusConfig { channels: 2, pre_skip: 0, input_sample_rate: 48_000 })
}

pub(crate) fn aac() -> Codec {
    Codec::Aac(AacConfig {
        asc: Bytes::from_static(&[0x11, 0x90]),
        object_type: 2,
        sample_rate: 48_000,
        frame_samples: 1_024,
        channels: 2,
    })
}

/// A frame's payload on the bus and what a player gets to see of it.
fn payload(codec: &Codec, n: u8, key: bool, size: usize) -> (Bytes, Vec<u8>) {
    let mut body = vec![n.max(1); size];
    match codec {
        Codec::H264(config) => {
            body[0] = if key { 0x65 } else { 0x41 };
            let length = (body.len() as u32).to_be_bytes();
            let mut seen = Vec::new();
            if key {
                for nal in config.sps.iter().chain(&config.pps) {
                    seen.extend([&[0, 0, 0, 1][..], nal].concat());
                }
            }
            seen.extend([&[0, 0, 0, 1][..], &body].concat());
            ([&length[..], &body].concat().into(), seen)
        }
        Codec::Vp8(_) => {
            let head = [u8::from(!key), 0, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1];
            body[..10].copy_from_slice(&head);
            (body.clone().into(), body)
        }
        Codec::Vp9(_) => {
            // RFC 9628 leaves the frame alone; the first bits say keyframe or not.
            body[0] = if key { 0x82 } else { 0x86 };
            (body.clone().into(), body)
        }
        Codec::Av1(config) => {
            body.truncate(100);
            let frame = [&[0x32, 100][..], &body].concat();
            let seen =
                if key { [&config.sequence_header[..], &frame].concat() } else { frame.clone() };
            (frame.into(), seen)
        }
        _ => {
            let data = vec![0xfc, n, 2];
            (data.clone().into(), data)
        }
    }
}

/// One track of a live stream, written in real time: 50 frames a second.
pub(crate) struct Source {
    pub(crate) writer: TrackWriter,
    pub(crate) codec: Codec,
    rate: ClockRate,
    pub(crate) frames: u64,
    group: u64,
    pub(crate) discontinuity: u64,
    pub(crate) size: usize,
    pub(crate) version: u32,
    /// Wall-clock time of pts 0.
    pub(crate) zero: i64,
}

pub(crate) fn wall_now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64
}

impl Source {
    pub(crate) fn new(broadcast: &Broadcast, name: &str, codec: Codec) -> Self {
        let rate = match codec.kind() {
            Kind::Video => ClockRate::VIDEO,
            Kind::Audio => ClockRate::OPUS,
        };
        let writer = broadcast.add_track(TrackName::parse(name).unwrap(), codec.kind()).unwrap();
        Self {
            writer,
            codec,
            rate,
            frames: 0,
            group: 0,
            discontinuity: 0,
            size: 3_000,
            version: 0,
            zero: wall_now(),
        }
    }

    pub(crate) fn track(&self) -> Track {
        self.writer.track()
    }

    fn ticks(&self) -> i64 {
        i64::from(self.rate.hz()) / 50
    }

    fn begin_group(&mut self) {
        let config = TrackConfig {
            version: ConfigVersion(self.version),
            codec: self.codec.clone(),
            rate: self.rate,
            parts: PartPlan { target_ticks: 9_600, frame_ticks: 960 },
        };
        let header = GroupHeader {
            seq: GroupSeq(self.group),
            epoch: Epoch(1),
            discontinuity: DiscontinuitySeq(self.discontinuity),
            start: MediaTime::new(self.frames as i64 * self.ticks(), self.rate),
            wall: WallTime(self.zero + self.frames as i64 * 20_000),
            independent: true,
            target_duration_s: Some(2),
            expected_frames: None,
            config: Arc::new(config),
        };
        self.writer.begin_group(header).unwrap();
        self.group += 1;
    }

    /// Writes a frame; gives what a player is to see of it.
    pub(crate) fn write(&mut self, key: bool) -> Vec<u8> {
        if key {
            self.begin_group();
        }
        let pts = MediaTime::new(self.frames as i64 * self.ticks(), self.rate);
        let (payload, seen) = payload(&self.codec, self.frames as u8, key, self.size);
        let frame = Frame {
            pts,
            dts: pts,
            duration: MediaDuration::new(self.ticks(), self.rate),
            keyframe: key || self.codec.kind() == Kind::Audio,
            capture: WallTime(wall_now()),
            payload,
        };
        self.writer.append(frame).unwrap();
        self.frames += 1;
        seen
    }
}
