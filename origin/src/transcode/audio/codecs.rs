//! AAC and Opus behind one interface: packets to planes of samples at 48 kHz, and back.
//!
//! Not here: times (`converter`).

use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::{Codec, TrackName};
use rubato::audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{Fft, FixedSync, Resampler};
use thiserror::Error;

/// All sound here has this rate.
pub(super) const RATE: u32 = 48_000;
/// Samples a channel in the longest Opus packet (120 ms, RFC 6716 §3.2.5).
const OPUS_PACKET_SAMPLES_MAX: usize = 5_760;
/// Bytes of an Opus packet that we make: 1275 a frame is the codec's own limit.
const OPUS_PACKET_BYTES_MAX: usize = 1_275;
/// The resampler's step at the source's rate: short, since it waits for a whole one.
const RESAMPLE_STEP: usize = 256;
/// More channels than 7.1 are refused.
const CHANNELS_MAX: usize = 8;

/// What a bridge makes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AudioTarget {
    /// For WebRTC.
    Opus,
    /// For players without Opus.
    Aac,
}

impl AudioTarget {
    /// All.
    pub const ALL: [Self; 2] = [Self::Opus, Self::Aac];

    /// Whether `codec` is this already.
    #[must_use]
    pub fn is(self, codec: &Codec) -> bool {
        matches!((self, codec), (Self::Opus, Codec::Opus(_)) | (Self::Aac, Codec::Aac(_)))
    }

    /// Whether a bridge can decode `codec`.
    #[must_use]
    pub fn can_read(codec: &Codec) -> bool {
        matches!(codec, Codec::Opus(_) | Codec::Aac(_))
    }

    /// `opus` or `aac`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Aac => "aac",
        }
    }

    /// The name of the track that a bridge makes: `audio-opus` or `audio-aac`.
    #[must_use]
    pub fn track_name(self) -> TrackName {
        let name = match self {
            Self::Opus => "audio-opus",
            Self::Aac => "audio-aac",
        };
        TrackName::parse(name).unwrap_or_else(|_| TrackName::audio())
    }
}

/// A packet or a plane that a codec does not take.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum CodecFailure {
    #[error("Opus: {0}")]
    Opus(#[from] opus::Error),
    #[error("AAC: {0}")]
    Aac(#[from] syom::AacError),
    #[error("resampling: {0}")]
    Resample(String),
    #[error("{0} cannot be decoded here")]
    NotAudio(&'static str),
}

/// Planes of samples, one a channel, of equal length.
pub(super) type Planes = Vec<Vec<f32>>;

enum AnyDecoder {
    Opus { decoder: Box<opus::Decoder>, interleaved: Vec<f32> },
    Aac { decoder: Box<syom::Decoder>, asc: Vec<u8> },
}

/// Packets of one configuration to at most two planes at [`RATE`].
pub(super) struct Decoder {
    inner: AnyDecoder,
    pub(super) channels: usize,
    resampler: Option<RateChange>,
}

impl Decoder {
    pub(super) fn new(codec: &Codec) -> Result<Self, CodecFailure> {
        let (inner, channels) = match codec {
            Codec::Opus(config) => {
                let (layout, channels) = opus_channels(usize::from(config.channels));
                let decoder = Box::new(opus::Decoder::new(RATE, layout)?);
                let interleaved = vec![0.0; OPUS_PACKET_SAMPLES_MAX * channels];
                (AnyDecoder::Opus { decoder, interleaved }, channels)
            }
            Codec::Aac(config) => {
                let asc = config.asc.to_vec();
                let decoder = Box::new(aac_decoder(&asc)?);
                // Parametric stereo makes two channels of one.
                let stereo = config.channels != 1 || config.object_type == 29;
                (AnyDecoder::Aac { decoder, asc }, if stereo { 2 } else { 1 })
            }
            other => return Err(CodecFailure::NotAudio(other.name())),
        };
        Ok(Self { inner, channels, resampler: None })
    }

    /// Samples at [`RATE`] by which what comes out is later than what went in.
    pub(super) fn delay(&self) -> usize {
        self.resampler.as_ref().map_or(0, |resampler| resampler.fft.output_delay())
    }

    /// Forgets what the resampler holds: the sound begins anew elsewhere.
    pub(super) fn restart(&mut self) {
        self.resampler = None;
    }

    /// Decodes a packet and appends its samples to `planes`; gives how many samples a channel it
    /// held, and at which rate.
    pub(super) fn decode(
        &mut self,
        packet: &[u8],
        planes: &mut Planes,
    ) -> Result<(usize, u32), CodecFailure> {
        let channels = self.channels;
        match &mut self.inner {
            AnyDecoder::Opus { decoder, interleaved } => {
                let samples = decoder.decode_float(packet, interleaved, false)?;
                for (channel, plane) in planes.iter_mut().enumerate().take(channels) {
                    let own = interleaved.iter().skip(channel).step_by(channels);
                    plane.extend(own.take(samples));
                }
                Ok((samples, RATE))
            }
            AnyDecoder::Aac { decoder, asc } => {
                let (mut rate, mut decoded) = (RATE, vec![Vec::new(); channels]);
                let result = decoder.decode_au(packet, |frame| {
                    rate = frame.sample_rate;
                    fold(frame.planar, &mut decoded);
                    Ok(())
                });
                if let Err(error) = result {
                    // A decoder that failed stays failed: the next packet gets a fresh one.
                    **decoder = aac_decoder(asc)?;
                    return Err(error.into());
                }
                let samples = decoded.first().map_or(0, Vec::len);
                self.resample(rate, decoded, planes)?;
                Ok((samples, rate))
            }
        }
    }

    fn resample(&mut self, rate: u32, from: Planes, to: &mut Planes) -> Result<(), CodecFailure> {
        if rate == RATE {
            for (plane, mut samples) in to.iter_mut().zip(from) {
                plane.append(&mut samples);
            }
            return Ok(());
        }
        if self.resampler.as_ref().is_none_or(|resampler| resampler.from != rate) {
            self.resampler = Some(RateChange::new(rate, self.channels)?);
        }
        match &mut self.resampler {
            Some(resampler) => resampler.run(from, to),
            None => Ok(()),
        }
    }
}

fn aac_decoder(asc: &[u8]) -> Result<syom::Decoder, syom::AacError> {
    let options = syom::DecodeOptions::unbounded().with_max_sample_rate(96_000);
    syom::Decoder::from_asc(asc, options)
}

fn opus_channels(channels: usize) -> (opus::Channels, usize) {
    if channels == 1 { (opus::Channels::Mono, 1) } else { (opus::Channels::Stereo, 2) }
}

/// Folds any number of channels into `to`'s one or two: the first two are left and right, all
/// others (centre, surrounds) go to both at -3 dB, or less where there are many.
fn fold(from: &[&[f32]], to: &mut Planes) {
    let from = from.get(..from.len().min(CHANNELS_MAX)).unwrap_or(from);
    let samples = from.first().map_or(0, |plane| plane.len());
    let count = to.len();
    for (channel, plane) in to.iter_mut().enumerate() {
        let own = from.get(channel).or(from.first());
        let others = from.get(count..).unwrap_or(&[]);
        let gain = std::f32::consts::FRAC_1_SQRT_2;
        let norm = 1.0 / (1.0 + gain * others.len() as f32);
        plane.extend((0..samples).map(|n| {
            let at = |plane: &[f32]| plane.get(n).copied().unwrap_or(0.0);
            let rest: f32 = others.iter().map(|plane| at(plane)).sum();
            (own.map_or(0.0, |plane| at(plane)) + gain * rest) * norm
        }));
    }
}

/// Another sample rate to [`RATE`].
struct RateChange {
    from: u32,
    fft: Fft<f32>,
    waiting: Planes,
}

impl RateChange {
    fn new(from: u32, channels: usize) -> Result<Self, CodecFailure> {
        let fft = Fft::new(from as usize, RATE as usize, RESAMPLE_STEP, channels, FixedSync::Input)
            .map_err(|error| CodecFailure::Resample(error.to_string()))?;
        Ok(Self { from, fft, waiting: vec![Vec::new(); channels] })
    }

    fn run(&mut self, from: Planes, to: &mut Planes) -> Result<(), CodecFailure> {
        for (plane, mut samples) in self.waiting.iter_mut().zip(from) {
            plane.append(&mut samples);
        }
        let failed = |error: String| CodecFailure::Resample(error);
        loop {
            let step = self.fft.input_frames_next();
            if self.waiting.first().is_none_or(|plane| plane.len() < step) {
                return Ok(());
            }
            let mut made: Planes = vec![vec![0.0; self.fft.output_frames_next()]; to.len()];
            let (frames_in, frames_out) = (step, self.fft.output_frames_next());
            let channels = to.len();
            let input = SequentialSliceOfVecs::new(&self.waiting, channels, frames_in)
                .map_err(|error| failed(error.to_string()))?;
            let mut output = SequentialSliceOfVecs::new_mut(&mut made, channels, frames_out)
                .map_err(|error| failed(error.to_string()))?;
            let (used, out) = self
                .fft
                .process_into_buffer(&input, &mut output, None)
                .map_err(|error| failed(error.to_string()))?;
            for plane in &mut self.waiting {
                plane.drain(..used.min(plane.len()));
            }
            for (plane, samples) in to.iter_mut().zip(&made) {
                plane.extend(samples.iter().take(out));
            }
        }
    }
}

enum AnyEncoder {
    Opus { encoder: Box<opus::Encoder>, delay: usize },
    Aac { encoder: Box<syom::Encoder> },
}

/// Planes at [`RATE`] to packets.
pub(super) struct Encoder {
    inner: AnyEncoder,
    channels: usize,
}

impl Encoder {
    pub(super) fn new(
        target: AudioTarget,
        channels: usize,
        bitrate_bps: u32,
    ) -> Result<Self, CodecFailure> {
        let inner = match target {
            AudioTarget::Opus => {
                let (layout, _) = opus_channels(channels);
                let mode = opus::Application::Audio;
                let mut encoder = Box::new(opus::Encoder::new(RATE, layout, mode)?);
                let bits = i32::try_from(bitrate_bps).unwrap_or(i32::MAX);
                encoder.set_bitrate(opus::Bitrate::Bits(bits))?;
                encoder.set_inband_fec(true)?;
                let delay = usize::try_from(encoder.get_lookahead()?).unwrap_or(0);
                AnyEncoder::Opus { encoder, delay }
            }
            AudioTarget::Aac => {
                let options = syom::EncodeOptions::raw().with_bitrate_bps(bitrate_bps);
                let encoder = Box::new(syom::Encoder::new(RATE, channels, &options)?);
                AnyEncoder::Aac { encoder }
            }
        };
        Ok(Self { inner, channels })
    }

    /// Samples a packet.
    pub(super) fn frame_samples(&self) -> usize {
        match self.inner {
            AnyEncoder::Opus { .. } => 960,
            AnyEncoder::Aac { .. } => 1_024,
        }
    }

    /// Samples by which what is decoded comes later than what was encoded.
    pub(super) fn delay(&self) -> usize {
        match self.inner {
            AnyEncoder::Opus { delay, .. } => delay,
            // One frame of overlap, as the encoder documents for LC.
            AnyEncoder::Aac { .. } => 1_024,
        }
    }

    /// The headers of what is made.
    pub(super) fn codec(&self) -> Result<Codec, headwater_media::codec::CodecError> {
        match &self.inner {
            AnyEncoder::Opus { .. } => Ok(Codec::Opus(OpusConfig {
                channels: if self.channels == 1 { 1 } else { 2 },
                // The packets' times account for the delay; nothing is to be skipped.
                pre_skip: 0,
                input_sample_rate: RATE,
            })),
            AnyEncoder::Aac { encoder } => AacConfig::from_asc(encoder.asc()).map(Codec::Aac),
        }
    }

    /// Encodes exactly [`Self::frame_samples`] a plane. `None` while the encoder fills up.
    pub(super) fn encode(&mut self, planes: &[Vec<f32>]) -> Result<Option<Vec<u8>>, CodecFailure> {
        match &mut self.inner {
            AnyEncoder::Opus { encoder, .. } => {
                let samples = planes.first().map_or(0, Vec::len);
                let mut interleaved = Vec::with_capacity(samples * planes.len());
                for n in 0..samples {
                    let at = planes.iter().map(|plane| plane.get(n).copied().unwrap_or(0.0));
                    interleaved.extend(at.map(tame));
                }
                Ok(Some(encoder.encode_vec_float(&interleaved, OPUS_PACKET_BYTES_MAX)?))
            }
            AnyEncoder::Aac { encoder } => {
                let tamed: Planes =
                    planes.iter().map(|plane| plane.iter().copied().map(tame).collect()).collect();
                let views: Vec<&[f32]> = tamed.iter().map(Vec::as_slice).collect();
                let mut packet = None;
                encoder.feed(&views, |frame| {
                    packet = Some(frame.au.to_vec());
                    Ok(())
                })?;
                Ok(packet)
            }
        }
    }
}

/// Within what encoders take: finite and in -1 to 1.
fn tame(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}
