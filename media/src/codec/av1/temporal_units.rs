//! Turns the temporal units that an ingest receives into what the bus carries.
//!
//! Not here: times, RTP.

use bytes::Bytes;

use super::{Av1Config, Obu, ObuType, Obus};
use crate::codec::{AccessUnit, BitReader, CodecError};

/// What a track's temporal units have said so far. One a track.
///
/// A keyframe is a temporal unit whose first frame is a shown key frame, with a sequence header
/// known: its own, or the configuration's, which is then put in front of it, so that a viewer who
/// joins there has it.
#[derive(Debug, Default)]
pub struct TemporalUnits {
    config: Option<Av1Config>,
}

impl TemporalUnits {
    /// A track of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration that came out of band (an `av1C`). The next keyframe does not report
    /// it again.
    pub fn set_config(&mut self, config: Av1Config) {
        self.config = Some(config);
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Option<&Av1Config> {
        self.config.as_ref()
    }

    /// Takes a temporal unit, of OBUs with size fields (the last may lack its own). Temporal
    /// delimiters, padding and tile lists are left out; the payload is copied once.
    ///
    /// # Errors
    /// A malformed OBU or sequence header. The unit is lost; the tracker goes on.
    pub fn take(&mut self, data: &[u8]) -> Result<AccessUnit<Av1Config>, CodecError> {
        let mut config_changed = None;
        let (mut own_header, mut pictures, mut keyframe) = (false, false, None);
        let mut payload = Vec::with_capacity(data.len() + 16);
        for unit in Obus::new(data) {
            let unit = unit?;
            match unit.kind {
                ObuType::TemporalDelimiter | ObuType::Padding | ObuType::TileList => continue,
                ObuType::SequenceHeader => {
                    own_header = true;
                    let config = Av1Config::from_sequence_header(&whole(&unit))?;
                    if self.config.as_ref() != Some(&config) {
                        self.config = Some(config.clone());
                        config_changed = Some(config);
                    }
                }
                ObuType::Frame | ObuType::FrameHeader => {
                    pictures = true;
                    keyframe.get_or_insert(is_shown_key_frame(unit.payload));
                }
                _ => {}
            }
            unit.write(&mut payload);
        }
        if !pictures {
            let payload = Bytes::new();
            return Ok(AccessUnit { payload, keyframe: false, config_changed });
        }
        let keyframe = keyframe == Some(true) && self.config.is_some();
        if keyframe
            && !own_header
            && let Some(config) = &self.config
        {
            payload.splice(..0, config.sequence_header.iter().copied());
        }
        Ok(AccessUnit { payload: payload.into(), keyframe, config_changed })
    }
}

fn whole(unit: &Obu<'_>) -> Vec<u8> {
    let mut own = Vec::with_capacity(unit.payload.len() + 8);
    unit.write(&mut own);
    own
}

/// The first bits of `uncompressed_header()` (§5.9.2), for streams that are not still pictures:
/// not `show_existing_frame`, `frame_type` 0, `show_frame`.
fn is_shown_key_frame(payload: &[u8]) -> bool {
    let mut bits = BitReader::new(payload, "AV1 frame header");
    matches!((bits.flag(), bits.bits(2), bits.flag()), (Ok(false), Ok(0), Ok(true)))
}

/// Whether decoding can start at a temporal unit as the bus carries it.
///
/// # Errors
/// A malformed OBU.
pub fn is_keyframe(temporal_unit: &[u8]) -> Result<bool, CodecError> {
    for unit in Obus::new(temporal_unit) {
        let unit = unit?;
        if matches!(unit.kind, ObuType::Frame | ObuType::FrameHeader) {
            return Ok(is_shown_key_frame(unit.payload));
        }
    }
    Ok(false)
}
