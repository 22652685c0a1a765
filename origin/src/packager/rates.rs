//! Bit rates and the frame rate of a rendition, measured, for the multivariant playlist.
//!
//! Not here: how they are written down (`multivariant`).

use super::snapshot::{Segment, SegmentState};

/// Before a segment is complete, its parts so far stand for it, times this: a group begins with
/// its keyframe, which makes that an upper estimate, but the picture may still be about to move.
const ESTIMATE_FACTOR: f64 = 1.5;
/// What is declared lies this much above what was measured: `BANDWIDTH` is a promise about
/// segments to come.
const PEAK_HEADROOM: f64 = 1.1;
/// Shorter stretches say nothing about a bit rate.
const MEASURE_MICROS_MIN: i64 = 500_000;

/// Measured rates of one rendition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    peak: f64,
    bytes: u64,
    micros: i64,
    estimate: f64,
    frame_rate: Option<f64>,
}

impl Rates {
    /// Counts a complete segment in.
    pub fn complete(&mut self, segment: &Segment) {
        let SegmentState::Complete(duration) = segment.state else { return };
        let (bytes, micros) = (segment.bytes(), duration.micros());
        if micros <= 0 {
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.micros = self.micros.saturating_add(micros);
        if micros >= MEASURE_MICROS_MIN || self.peak == 0.0 {
            self.peak = self.peak.max(bits_a_second(bytes, micros));
            self.frame_rate = Some(f64::from(segment.frames()) / (micros as f64 / 1e6));
        }
    }

    /// Looks at the first segment while it grows.
    pub fn growing(&mut self, segment: &Segment) {
        let micros = segment.micros();
        if self.peak == 0.0 && micros > 0 {
            self.estimate = bits_a_second(segment.bytes(), micros) * ESTIMATE_FACTOR;
        }
    }

    /// `BANDWIDTH`: the highest bit rate of a segment, in bits a second; never below `floor`.
    #[must_use]
    pub fn peak(&self, floor: u64) -> u64 {
        let peak = if self.peak > 0.0 { self.peak } else { self.estimate };
        ((peak * PEAK_HEADROOM).ceil() as u64).max(floor)
    }

    /// `AVERAGE-BANDWIDTH`, in bits a second.
    #[must_use]
    pub fn average(&self, floor: u64) -> u64 {
        let measured = self.micros > 0;
        let average = if measured { bits_a_second(self.bytes, self.micros) } else { self.estimate };
        (average.ceil() as u64).max(if measured { 1 } else { floor })
    }

    /// Frames a second of the newest complete segment.
    #[must_use]
    pub fn frame_rate(&self) -> Option<f64> {
        self.frame_rate
    }
}

fn bits_a_second(bytes: u64, micros: i64) -> f64 {
    bytes as f64 * 8.0 / (micros as f64 / 1e6)
}
