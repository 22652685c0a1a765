//! Opus headers (RFC 6716, RFC 7845; Opus in ISOBMFF).
//!
//! Not here: encoding and decoding; the control header of MPEG-TS (`ts`).

#[cfg(test)]
mod tests;

use super::CodecError;

/// What the identification header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpusConfig {
    /// 1 or 2 (mapping family 0).
    pub channels: u8,
    /// Samples at 48 kHz to drop at the start.
    pub pre_skip: u16,
    /// The encoder's input rate; informative.
    pub input_sample_rate: u32,
}

/// Samples at 48 kHz of the longest packet: 120 ms (RFC 6716 §3.2.5).
pub const PACKET_SAMPLES_MAX: u32 = 5_760;

const MAGIC: &[u8; 8] = b"OpusHead";

impl OpusConfig {
    /// `opus`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        String::from("opus")
    }

    /// Reads an identification header (RFC 7845 §5.1). The output gain is passed over.
    ///
    /// # Errors
    /// It is malformed, or its mapping family is not 0 (mono and stereo).
    pub fn from_opus_head(head: &[u8]) -> Result<Self, CodecError> {
        const CUT: CodecError = CodecError::Truncated("OpusHead");
        let (magic, rest) = head.split_first_chunk::<8>().ok_or(CUT)?;
        if magic != MAGIC {
            return Err(CodecError::Unsupported("an Opus header without its magic"));
        }
        let fields = rest.first_chunk::<11>().ok_or(CUT)?;
        let [version, channels, skip_low, skip_high, r0, r1, r2, r3, _, _, family] = *fields;
        if version >> 4 != 0 {
            return Err(CodecError::Invalid { what: "OpusHead version", value: version.into() });
        }
        if family != 0 {
            return Err(CodecError::Unsupported("an Opus mapping family other than 0"));
        }
        if !matches!(channels, 1 | 2) {
            return Err(CodecError::Invalid { what: "channels of Opus", value: channels.into() });
        }
        Ok(Self {
            channels,
            pre_skip: u16::from_le_bytes([skip_low, skip_high]),
            input_sample_rate: u32::from_le_bytes([r0, r1, r2, r3]),
        })
    }

    /// The identification header, version 1.
    #[must_use]
    pub fn to_opus_head(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([1, self.channels]);
        out.extend(self.pre_skip.to_le_bytes());
        out.extend(self.input_sample_rate.to_le_bytes());
        out.extend([0, 0, 0]); // output gain, mapping family
        out
    }

    /// The body of a `dOps` box (Opus in ISOBMFF §4.3.2).
    #[must_use]
    pub fn to_dops(&self) -> Vec<u8> {
        let mut out = vec![0, self.channels];
        out.extend(self.pre_skip.to_be_bytes());
        out.extend(self.input_sample_rate.to_be_bytes());
        out.extend([0, 0, 0]); // output gain, mapping family
        out
    }
}

/// How long a packet lasts, in samples at 48 kHz: 120 to [`PACKET_SAMPLES_MAX`] (RFC 6716 §3.1).
///
/// # Errors
/// The packet is empty, has no frames, or lasts longer than 120 ms.
pub fn packet_duration_samples(packet: &[u8]) -> Result<u32, CodecError> {
    const CUT: CodecError = CodecError::Truncated("Opus packet");
    let toc = *packet.first().ok_or(CUT)?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config % 4)],
        12..=15 => [480, 960][usize::from(config % 2)],
        _ => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1).ok_or(CUT)? & 0x3f),
    };
    let samples: u32 = frame * frames;
    if samples == 0 || samples > PACKET_SAMPLES_MAX {
        let value = samples.into();
        return Err(CodecError::Invalid { what: "duration of an Opus packet", value });
    }
    Ok(samples)
}
