//! AAC headers (ISO/IEC 14496-3 AudioSpecificConfig; ADTS).
//!
//! Not here: LATM.

pub mod adts;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::CodecError;
use super::bits::BitReader;

/// An AudioSpecificConfig and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AacConfig {
    /// The AudioSpecificConfig as it came.
    pub asc: Bytes,
    /// Audio object type: 2 is LC, 5 is HE, 29 is HE v2.
    pub object_type: u8,
    /// Samples a second of the core (for HE, half of what is heard).
    pub sample_rate: u32,
    /// Channels of the core.
    pub channels: u8,
    /// Samples a frame at `sample_rate`: 1024 or 960.
    pub frame_samples: u16,
}

/// Sampling frequencies by index (ISO/IEC 14496-3 Table 1.18).
const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// The index whose rate follows as a number of 24 bits.
const RATE_ESCAPE: usize = 15;
const OBJECT_LC: u8 = 2;
const OBJECT_SBR: u8 = 5;
const OBJECT_PS: u8 = 29;
/// An AudioSpecificConfig that this server reads has less than 16 bytes; encoders add padding.
const ASC_BYTES_MAX: usize = 64;

impl AacConfig {
    /// `mp4a.40.N`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }

    /// The configuration of plain AAC-LC with 1024 samples a frame.
    ///
    /// # Errors
    /// The rate is 0 or above 24 bits, or no channel configuration has `channels`.
    pub fn lc(sample_rate: u32, channels: u8) -> Result<Self, CodecError> {
        let configuration = match channels {
            1..=6 => channels,
            8 => 7,
            _ => {
                let value = channels.into();
                return Err(CodecError::Invalid { what: "channels of AAC", value });
            }
        };
        let wrong_rate = CodecError::Invalid { what: "sample rate", value: sample_rate.into() };
        let mut bits = u64::from(OBJECT_LC);
        let mut count = 5usize;
        if let Some(index) = SAMPLE_RATES.iter().position(|rate| *rate == sample_rate) {
            bits = bits << 4 | index as u64;
            count += 4;
        } else if (1..1 << 24).contains(&sample_rate) {
            bits = bits << 28 | 15 << 24 | u64::from(sample_rate);
            count += 28;
        } else {
            return Err(wrong_rate);
        }
        // The channel configuration, then a frame of 1024, no core coder, no extension.
        bits = (bits << 4 | u64::from(configuration)) << 3;
        count += 7;
        let bytes = (bits << (64 - count)).to_be_bytes();
        Self::from_asc(bytes.get(..count.div_ceil(8)).unwrap_or_default())
    }

    /// Reads an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1): AAC-LC, alone or with SBR (HE) and
    /// parametric stereo (HE v2), signalled hierarchically or by the backward-compatible
    /// extension. SBR that nothing signals cannot be seen here.
    ///
    /// # Errors
    /// It is malformed, or another object type, or has a program configuration element.
    pub fn from_asc(asc: &[u8]) -> Result<Self, CodecError> {
        if asc.len() > ASC_BYTES_MAX {
            let value = asc.len() as u64;
            return Err(CodecError::Invalid { what: "length of AudioSpecificConfig", value });
        }
        let mut r = BitReader::new(asc, "AudioSpecificConfig");
        let mut object_type = object_type_of(&mut r)?;
        let sample_rate = sample_rate_of(&mut r)?;
        let configuration = r.byte(4)?;
        let mut core = object_type;
        if matches!(object_type, OBJECT_SBR | OBJECT_PS) {
            sample_rate_of(&mut r)?;
            core = object_type_of(&mut r)?;
        }
        if core != OBJECT_LC {
            return Err(CodecError::Unsupported("an AAC object type other than LC, HE and HE v2"));
        }
        let channels = match configuration {
            0 => return Err(CodecError::Unsupported("AAC with a program configuration element")),
            1..=6 => configuration,
            7 => 8,
            _ => {
                let value = configuration.into();
                return Err(CodecError::Invalid { what: "AAC channel configuration", value });
            }
        };
        let frame_samples = if r.flag()? { 960 } else { 1_024 };
        if r.flag()? {
            r.skip(14)?; // coreCoderDelay
        }
        r.skip(1)?; // extensionFlag
        if object_type == OBJECT_LC {
            object_type = extension_of(&mut r)?;
        }
        let asc = Bytes::copy_from_slice(asc);
        Ok(Self { asc, object_type, sample_rate, channels, frame_samples })
    }

    /// The configuration that an ADTS header stands for.
    ///
    /// # Errors
    /// Another profile than LC, or channels that a program configuration element would describe.
    pub fn from_adts(header: &adts::AdtsHeader) -> Result<Self, CodecError> {
        if header.object_type != OBJECT_LC {
            return Err(CodecError::Unsupported("an ADTS profile other than LC"));
        }
        match header.channel_configuration {
            0 => Err(CodecError::Unsupported("AAC with a program configuration element")),
            7 => Self::lc(header.sample_rate, 8),
            channels => Self::lc(header.sample_rate, channels),
        }
    }

    /// The AudioSpecificConfig.
    #[must_use]
    pub fn to_asc(&self) -> Bytes {
        self.asc.clone()
    }
}

fn object_type_of(r: &mut BitReader<'_>) -> Result<u8, CodecError> {
    const ESCAPE: u8 = 31;
    match r.byte(5)? {
        ESCAPE => Ok(32 + r.byte(6)?),
        object_type => Ok(object_type),
    }
}

fn sample_rate_of(r: &mut BitReader<'_>) -> Result<u32, CodecError> {
    let index = usize::from(r.byte(4)?);
    let rate = if index == RATE_ESCAPE { r.bits(24)? } else { rate_at(index)? };
    if rate == 0 {
        return Err(CodecError::Invalid { what: "sample rate", value: 0 });
    }
    Ok(rate)
}

fn rate_at(index: usize) -> Result<u32, CodecError> {
    let value = index as u64;
    let what = "sampling frequency index";
    SAMPLE_RATES.get(index).copied().ok_or(CodecError::Invalid { what, value })
}

/// The backward-compatible extension after the core's configuration (§1.6.2.1): the object type
/// that it makes of LC. What follows the core and is no extension is padding.
fn extension_of(r: &mut BitReader<'_>) -> Result<u8, CodecError> {
    const SBR_SYNC: u32 = 0x2b7;
    const PS_SYNC: u32 = 0x548;
    if r.bits_left() < 16 || r.bits(11)? != SBR_SYNC || object_type_of(r)? != OBJECT_SBR {
        return Ok(OBJECT_LC);
    }
    if !r.flag()? {
        return Ok(OBJECT_LC);
    }
    sample_rate_of(r)?;
    let ps = r.bits_left() >= 12 && r.bits(11)? == PS_SYNC && r.flag()?;
    Ok(if ps { OBJECT_PS } else { OBJECT_SBR })
}
