//! The pictures of a stream: which kind comes when, how large it is, its times and its stamp.
//!
//! Not here: their syntax (`h264`), the clock.

use std::collections::VecDeque;

use bytes::Bytes;
use headwater_media::codec::h264::{H264Config, unit_type};
use headwater_media::codec::nal::AccessUnitBuilder;

use super::h264::{self, Kind, Numbers, PCM_BYTES};
use super::{Settings, StampPlace};
use crate::stamp::{SEI_BYTES, Stamp};

/// A keyframe is as large as so many predicted pictures, a B-frame half as large as one.
const KEY_WEIGHT: f64 = 5.0;
const B_WEIGHT: f64 = 0.5;
/// Reference frames are so many frames apart where there are B-frames.
const MINI_GOP: u64 = 3;
/// How much longer than usual a stream whose keyframes are asked for waits for that. Servers that
/// never ask still get some.
const UNASKED_AFTER: u64 = 5;
const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// Ticks a second of video times.
const VIDEO_HZ: u64 = 90_000;

/// One picture of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// What its stamp says.
    pub stamp: Stamp,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// When it is shown, in ticks of 90 kHz from the stream's start.
    pub pts: u64,
    /// Its place in decoding order, in ticks of 90 kHz from the stream's start.
    pub dts: u64,
    /// NAL units without start codes or lengths: of keyframes the parameter sets, then the stamp,
    /// then the slice.
    pub units: Vec<Vec<u8>>,
}

impl AccessUnit {
    /// With start codes, as WebRTC engines and MPEG-TS take it.
    #[must_use]
    pub fn annex_b(&self) -> Vec<u8> {
        let bytes = self.units.iter().map(|unit| unit.len() + START_CODE.len()).sum();
        let mut out = Vec::with_capacity(bytes);
        for unit in &self.units {
            out.extend_from_slice(&START_CODE);
            out.extend_from_slice(unit);
        }
        out
    }

    /// Stamp and slice with 4-byte lengths, without parameter sets: for containers that carry
    /// those apart.
    #[must_use]
    pub fn picture(&self) -> Bytes {
        let units = || self.units.iter().filter(|unit| !is_parameter_set(unit));
        let mut builder = AccessUnitBuilder::with_capacity(units().map(|u| u.len() + 4).sum());
        for unit in units() {
            // A unit of ours is never as long as its length field allows.
            let _ = builder.push(unit);
        }
        builder.finish()
    }
}

fn is_parameter_set(unit: &[u8]) -> bool {
    matches!(unit_type(unit), 7 | 8)
}

/// Makes a stream's pictures, one after the other.
#[derive(Debug)]
pub struct Video {
    settings: Settings,
    stream: u32,
    sps: Vec<u8>,
    pps: Vec<u8>,
    /// Pictures decided on, in decoding order, each with its place in showing order.
    planned: VecDeque<(Kind, u64)>,
    /// Pictures made.
    made: u64,
    /// Pictures decided on.
    shown: u64,
    /// Where the last keyframe stands in showing order.
    key_shown: u64,
    gop_left: u64,
    numbers: Numbers,
    wants_key: bool,
    /// A keyframe comes unasked after so many times the usual distance.
    unasked_after: u64,
    random: u64,
    /// Bytes owed to the bit rate.
    owed: f64,
}

impl Video {
    /// A stream's pictures. The seed changes nothing but the raw samples.
    #[must_use]
    pub fn new(settings: Settings, stream: u32, seed: u64) -> Self {
        Self {
            settings,
            stream,
            sps: h264::sps(&settings),
            pps: h264::pps(),
            planned: VecDeque::new(),
            made: 0,
            shown: 0,
            key_shown: 0,
            gop_left: 0,
            numbers: Numbers { frame_num: 0, idr_pic_id: 0, picture_order: 0 },
            wants_key: false,
            unasked_after: 1,
            random: seed | 1,
            owed: 0.0,
        }
    }

    /// The configuration that its parameter sets say.
    ///
    /// # Errors
    /// The settings make none that H.264 allows.
    pub fn config(&self) -> Result<H264Config, headwater_media::codec::CodecError> {
        let set = |unit: &[u8]| vec![Bytes::copy_from_slice(unit)];
        H264Config::from_parameter_sets(set(&self.sps), set(&self.pps))
    }

    /// When the next picture is due, in microseconds from the stream's start.
    #[must_use]
    pub fn due_us(&self) -> u64 {
        self.at(self.made, 1_000_000)
    }

    /// Keyframes come when asked for, as a browser makes them; unasked only after
    /// [`UNASKED_AFTER`] times the usual distance.
    pub fn keyframes_on_request(&mut self) {
        self.unasked_after = UNASKED_AFTER;
    }

    /// The next picture that may be a keyframe is one: somebody asked.
    pub fn want_keyframe(&mut self) {
        self.wants_key = true;
    }

    /// The next picture, stamped with the time at which it is handed to the protocol.
    pub fn next_unit(&mut self, sent_us: u64) -> AccessUnit {
        let (kind, shown) = match self.planned.pop_front() {
            Some(planned) => planned,
            None => self.plan(),
        };
        self.number(kind, shown);
        let stamp = Stamp { stream: self.stream, sequence: self.made, sent_us };
        let delay = u64::from(self.settings.b_frames);
        let (dts, pts) = (self.at(self.made, VIDEO_HZ), self.at(shown + delay, VIDEO_HZ));
        self.made += 1;
        let mut units = Vec::with_capacity(4);
        if kind == Kind::Idr {
            units.extend([self.sps.clone(), self.pps.clone()]);
        }
        let (slice, bears_stamp) = self.slice(kind, stamp);
        if !bears_stamp {
            units.push(stamp.to_sei());
        }
        units.push(slice);
        AccessUnit { stamp, keyframe: kind == Kind::Idr, pts, dts, units }
    }

    /// The time of a frame number, at `hz` ticks a second.
    fn at(&self, frame: u64, hz: u64) -> u64 {
        let (num, den) = self.settings.fps;
        frame * hz * u64::from(den) / u64::from(num.max(1))
    }

    /// Decides on the next pictures: a keyframe, or a reference with the B-frames before it.
    fn plan(&mut self) -> (Kind, u64) {
        if self.gop_left == 0 || self.wants_key {
            self.wants_key = false;
            self.gop_left = self.settings.gop_frames() * self.unasked_after - 1;
            let shown = self.shown;
            self.shown += 1;
            return (Kind::Idr, shown);
        }
        let distance = if self.settings.b_frames { MINI_GOP.min(self.gop_left) } else { 1 };
        self.gop_left -= distance;
        let first = self.shown;
        self.shown += distance;
        self.planned.extend((first..self.shown - 1).map(|shown| (Kind::B, shown)));
        (Kind::P, self.shown - 1)
    }

    fn number(&mut self, kind: Kind, shown: u64) {
        match kind {
            Kind::Idr => {
                self.key_shown = shown;
                self.numbers.frame_num = 0;
                self.numbers.idr_pic_id = self.numbers.idr_pic_id.wrapping_add(1) & 1;
            }
            // A picture's number is one more than that of the reference before it (§7.4.3).
            Kind::P => {}
            Kind::B => {}
        }
        let order = 2 * (shown.saturating_sub(self.key_shown));
        // 16 bits are written; the standard lets them wrap.
        self.numbers.picture_order = (order & 0xffff) as u16;
    }

    /// The slice, and whether the stamp stands in it.
    fn slice(&mut self, kind: Kind, stamp: Stamp) -> (Vec<u8>, bool) {
        self.owed += self.bytes(kind);
        let wanted = self.owed.max(0.0) as usize;
        let first_raw = (self.next_random() >> 40) as u32;
        let first_raw = if kind == Kind::Idr { 0 } else { first_raw };
        let (settings, numbers) = (self.settings, self.numbers);
        let overhead = SEI_BYTES + 4;
        let mark = (settings.stamp == StampPlace::Slice).then(|| stamp.to_mark());
        let (mut rest, mut bears_stamp) = (mark.as_deref(), false);
        let slice = h264::slice(
            &settings,
            kind,
            numbers,
            wanted.saturating_sub(overhead),
            first_raw,
            || {
                let mut samples = self.samples();
                if let Some(mark) = rest.take() {
                    samples.iter_mut().zip(mark).for_each(|(sample, byte)| *sample = *byte);
                    bears_stamp = true;
                }
                samples
            },
        );
        // What a picture cannot hold or overshoots is made up for, within a second's worth.
        let second = self.settings.bitrate as f64 / 8.0;
        self.owed = (self.owed - (slice.len() + overhead) as f64).clamp(-second, second);
        if kind != Kind::B {
            self.numbers.frame_num = self.numbers.frame_num.wrapping_add(1);
        }
        (slice, bears_stamp)
    }

    /// A picture's share of the bit rate.
    fn bytes(&self, kind: Kind) -> f64 {
        let (num, den) = self.settings.fps;
        let frames = self.settings.gop_frames() as f64;
        let gop_bytes =
            self.settings.bitrate as f64 / 8.0 * frames * f64::from(den) / f64::from(num.max(1));
        let rest = frames - 1.0;
        let b = if self.settings.b_frames { rest * 2.0 / 3.0 } else { 0.0 };
        let unit = gop_bytes / (KEY_WEIGHT + (rest - b) + b * B_WEIGHT);
        unit * match kind {
            Kind::Idr => KEY_WEIGHT,
            Kind::P => 1.0,
            Kind::B => B_WEIGHT,
        }
    }

    /// Raw samples that hold no byte below 16: grey noise.
    fn samples(&mut self) -> [u8; PCM_BYTES] {
        let mut samples = [0; PCM_BYTES];
        for chunk in samples.chunks_exact_mut(8) {
            let noise = self.next_random() & 0x3f3f_3f3f_3f3f_3f3f | 0x4040_4040_4040_4040;
            chunk.copy_from_slice(&noise.to_le_bytes());
        }
        samples
    }

    /// Xorshift: quick, and the same for the same seed.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
