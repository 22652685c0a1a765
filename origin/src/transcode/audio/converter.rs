//! One bridge's conversion: a track's items in, the same groups in another codec out.
//!
//! Keeps the sound where it was on the timeline: encoder and resampler delays are taken off the
//! times, short gaps are filled with silence, long ones begin anew. Not here: who wants it
//! (`super`), samples (`codecs`).

use std::sync::Arc;

use bytes::Bytes;
use headwater_media::codec::CodecError;
use headwater_media::frame::GroupHeader;
use headwater_media::{
    ClockRate, ConfigVersion, DiscontinuitySeq, Frame, Item, MediaDuration, MediaTime, PartPlan,
    TrackConfig, TrackWriter,
};
use thiserror::Error;

use super::AudioOptions;
use super::codecs::{AudioTarget, CodecFailure, Decoder, Encoder, Planes, RATE};

/// Up to this, missing sound becomes silence and surplus sound is dropped, so that the rest stays
/// where it belongs; beyond it the sound begins anew.
const MENDED_SAMPLES_MAX: i64 = RATE as i64;
/// Stamps may be this far off the samples' count before it is a gap: half of lip sync's 20 ms.
const SLACK_SAMPLES: i64 = RATE as i64 / 100;

/// Why some sound was lost; the bridge goes on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum BridgeError {
    #[error(transparent)]
    Codec(#[from] CodecFailure),
    #[error(transparent)]
    Header(#[from] CodecError),
    #[error(transparent)]
    Write(#[from] headwater_media::bus::WriteError),
}

pub(super) struct Converter {
    target: AudioTarget,
    writer: TrackWriter,
    options: AudioOptions,
    chain: Option<Chain>,
    /// The source's newest group, whose counterpart has not begun.
    next: Option<GroupHeader>,
}

/// The codecs for one configuration of the source, and where on the timeline they are.
struct Chain {
    version: ConfigVersion,
    discontinuity: DiscontinuitySeq,
    decoder: Decoder,
    encoder: Encoder,
    config: Arc<TrackConfig>,
    planes: Planes,
    place: Option<Place>,
    /// Decoded samples to drop, since the source's times say that there are too many.
    surplus: usize,
    /// Where the next packet made belongs, at [`RATE`].
    out: i64,
}

/// Where the decoder is on the timeline: samples that followed a position without a gap.
#[derive(Clone, Copy)]
struct Place {
    /// At [`RATE`].
    from: i64,
    samples: i64,
    rate: u32,
}

impl Place {
    fn next(self) -> i64 {
        self.from + self.samples * i64::from(RATE) / i64::from(self.rate.max(1))
    }
}

impl Converter {
    pub(super) fn new(target: AudioTarget, writer: TrackWriter, options: AudioOptions) -> Self {
        Self { target, writer, options, chain: None, next: None }
    }

    /// Takes the source's next item.
    pub(super) fn take(&mut self, item: Item) -> Result<(), BridgeError> {
        match item {
            Item::Group { group, .. } => {
                let header = group.header();
                let same = self.chain.as_ref().is_some_and(|chain| {
                    chain.version == header.config.version
                        && chain.discontinuity == header.discontinuity
                });
                if !same {
                    self.chain = None;
                    self.chain = Some(self.build(header)?);
                }
                self.next = Some(header.clone());
                self.end_reached_group();
                Ok(())
            }
            Item::Frame(frame) => match frame.frame() {
                Some(frame) => self.convert(frame),
                None => Ok(()),
            },
            Item::GroupEnd(_) | Item::End => Ok(()),
        }
    }

    pub(super) fn finish(self) {
        self.writer.finish();
    }

    fn build(&self, header: &GroupHeader) -> Result<Chain, BridgeError> {
        let decoder = Decoder::new(&header.config.codec)?;
        let channels = decoder.channels;
        let encoder = Encoder::new(self.target, channels, self.options.bitrate_bps)?;
        let frame = u32::try_from(encoder.frame_samples()).unwrap_or(960);
        let parts = PartPlan::for_cadence(frame, 1, ClockRate::OPUS, self.options.part_target);
        let config = Arc::new(TrackConfig {
            // What is made depends on the source's headers alone, and so does its version.
            version: header.config.version,
            codec: encoder.codec()?,
            rate: ClockRate::OPUS,
            parts,
        });
        Ok(Chain {
            version: header.config.version,
            discontinuity: header.discontinuity,
            decoder,
            encoder,
            config,
            planes: vec![Vec::new(); channels],
            place: None,
            surplus: 0,
            out: 0,
        })
    }

    fn convert(&mut self, frame: &Frame) -> Result<(), BridgeError> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        chain.decode(frame)?;
        let size = chain.encoder.frame_samples();
        loop {
            let Some(chain) = &mut self.chain else { return Ok(()) };
            if chain.planes.first().is_none_or(|plane| plane.len() < size) {
                return Ok(());
            }
            let block: Planes =
                chain.planes.iter_mut().map(|plane| plane.drain(..size).collect()).collect();
            let at = chain.out;
            chain.out += i64::try_from(size).unwrap_or(0);
            if let Some(packet) = chain.encoder.encode(&block)? {
                self.write(at, packet, frame)?;
            }
        }
    }

    /// Appends a packet at `at`, in its group.
    fn write(&mut self, at: i64, packet: Vec<u8>, source: &Frame) -> Result<(), BridgeError> {
        let Some(chain) = &self.chain else { return Ok(()) };
        let size = i64::try_from(chain.encoder.frame_samples()).unwrap_or(960);
        let start = MediaTime::new(at, ClockRate::OPUS);
        let due = self.next.as_ref().is_some_and(|header| {
            let boundary = header.start.to_rate(ClockRate::OPUS).ticks();
            at + size / 2 >= boundary || self.writer.current().is_none()
        });
        if due && let Some(header) = self.next.take() {
            let ahead = header.start.since(start).micros();
            self.writer.begin_group(GroupHeader {
                start,
                wall: header.wall.plus_micros(-ahead),
                independent: true,
                expected_frames: None,
                config: Arc::clone(&chain.config),
                ..header
            })?;
        }
        self.writer.append(Frame {
            pts: start,
            dts: start,
            duration: MediaDuration::new(size, ClockRate::OPUS),
            keyframe: true,
            capture: source.capture,
            payload: Bytes::from(packet),
        })?;
        Ok(())
    }

    /// The source has cut: where what was made reaches the boundary already, the group is
    /// complete and ends at once.
    fn end_reached_group(&mut self) {
        let (Some(chain), Some(next)) = (&self.chain, &self.next) else { return };
        let half = i64::try_from(chain.encoder.frame_samples() / 2).unwrap_or(0);
        let boundary = next.start.to_rate(ClockRate::OPUS).ticks();
        if chain.place.is_some() && chain.out + half >= boundary {
            self.writer.end_group();
        }
    }
}

impl Chain {
    /// Decodes a frame and puts its sound where its time says: after silence where some is
    /// missing, without what is too much, or at a new beginning where it is far off.
    fn decode(&mut self, frame: &Frame) -> Result<(), BridgeError> {
        let pts = frame.pts.to_rate(ClockRate::OPUS).ticks();
        let gap = self.place.map(|place| pts.saturating_sub(place.next()));
        let begins = match gap {
            Some(gap) if gap.abs() <= SLACK_SAMPLES => false,
            Some(gap) if gap.abs() <= MENDED_SAMPLES_MAX => {
                if gap > 0 {
                    for plane in &mut self.planes {
                        plane.resize(plane.len() + usize::try_from(gap).unwrap_or(0), 0.0);
                    }
                } else {
                    self.surplus += usize::try_from(-gap).unwrap_or(0);
                }
                self.place = self.place.map(|place| Place { from: place.from + gap, ..place });
                false
            }
            _ => {
                self.planes.iter_mut().for_each(Vec::clear);
                self.decoder.restart();
                self.surplus = 0;
                self.place = None;
                true
            }
        };
        let (samples, rate) = self.decoder.decode(&frame.payload, &mut self.planes)?;
        let samples = i64::try_from(samples).unwrap_or(0);
        if begins {
            let delay = self.encoder.delay() + self.decoder.delay();
            let start = pts - i64::try_from(delay).unwrap_or(0);
            // Times never go back, whatever the source does.
            self.out = start.max(self.out);
        }
        let place = self.place.filter(|place| place.rate == rate);
        let place = place.unwrap_or(Place { from: pts, samples: 0, rate });
        self.place = Some(Place { samples: place.samples + samples, ..place });
        let dropped = self.surplus.min(self.planes.first().map_or(0, Vec::len));
        for plane in &mut self.planes {
            plane.drain(..dropped.min(plane.len()));
        }
        self.surplus -= dropped;
        Ok(())
    }
}
