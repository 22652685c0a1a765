//! The demo's sound: a soft tone with a beep at each full second, as Opus.
//!
//! Not here: when it is published (`super`).

use std::f64::consts::TAU;

use opus::{Application, Bitrate, Channels, Encoder};

const RATE: i64 = 48_000;
const PACKET_SAMPLES: i64 = 960;
const TONE_HZ: f64 = 440.0;
const TONE_GAIN: f64 = 0.05;
const BEEP_HZ: f64 = 880.0;
const BEEP_GAIN: f64 = 0.25;
const BEEP_MICROS: i64 = 80_000;

pub(super) struct Tone {
    encoder: Encoder,
    samples: i64,
}

impl Tone {
    pub(super) fn new() -> Result<Self, opus::Error> {
        let mut encoder = Encoder::new(48_000, Channels::Mono, Application::Audio)?;
        encoder.set_bitrate(Bitrate::Bits(48_000))?;
        Ok(Self { encoder, samples: 0 })
    }

    /// Samples made so far.
    pub(super) fn position_samples(&self) -> i64 {
        self.samples
    }

    /// The same in microseconds.
    pub(super) fn position_micros(&self) -> i64 {
        self.samples * 1_000_000 / RATE
    }

    /// The next 20 ms. `begun`: wall-clock microseconds of sample 0, for the beep.
    pub(super) fn packet(&mut self, begun: i64) -> Result<Vec<u8>, opus::Error> {
        let samples: Vec<f32> = (self.samples..self.samples + PACKET_SAMPLES)
            .map(|n| {
                let seconds = n as f64 / RATE as f64;
                let micros = begun + n * 1_000_000 / RATE;
                let beep = micros.rem_euclid(1_000_000) < BEEP_MICROS;
                let beep = if beep { (seconds * BEEP_HZ * TAU).sin() * BEEP_GAIN } else { 0.0 };
                ((seconds * TONE_HZ * TAU).sin() * TONE_GAIN + beep) as f32
            })
            .collect();
        self.samples += PACKET_SAMPLES;
        self.encoder.encode_vec_float(&samples, 1_275)
    }
}
