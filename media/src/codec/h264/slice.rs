//! The start of an H.264 slice header, and the recovery point SEI message.
//!
//! Not here: anything a decoder would need beyond them.

use super::nal_type;
use crate::codec::CodecError;
use crate::codec::bits::BitReader;
use crate::codec::nal::unescape;

/// Bytes of a slice that hold the three codes read here: 32 bits of prefix and rest each at most,
/// but real ones are far shorter, plus the header and emulation prevention.
const HEAD_BYTES: usize = 32;

/// What the first fields of a slice header say (§7.3.3).
pub(super) struct Slice {
    /// The picture's first macroblock is this slice's.
    pub(super) first: bool,
    pub(super) intra: bool,
    pub(super) pps: u8,
}

impl Slice {
    pub(super) fn parse(unit: &[u8]) -> Result<Self, CodecError> {
        let rbsp = unescape(unit, HEAD_BYTES);
        let mut r = BitReader::new(&rbsp, "H.264 slice header");
        r.skip(8)?;
        let first = r.ue()? == 0; // first_mb_in_slice
        let slice_type = r.ue_max("slice_type", 9)?;
        Ok(Self {
            first,
            intra: matches!(slice_type, 2 | 4 | 7 | 9),
            pps: r.ue_byte("pic_parameter_set_id", 255)?,
        })
    }
}

pub(super) fn is_slice(unit: &[u8]) -> bool {
    matches!(super::unit_type(unit), nal_type::SLICE | nal_type::PARTITION_A | nal_type::IDR)
}

/// Bytes of an SEI unit looked at for a recovery point: it stands before user data in practice.
const SEI_BYTES_MAX: usize = 1_024;

/// Whether an SEI unit holds a recovery point that recovers at once (`recovery_frame_cnt` 0,
/// §D.1.8). A malformed SEI unit holds none: SEI never decides whether a picture can be decoded.
pub(super) fn recovers_at_once(unit: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;
    let rbsp = unescape(unit, SEI_BYTES_MAX);
    let mut rest = rbsp.get(1..).unwrap_or_default();
    // The trailing bits' byte is no message.
    while rest.len() > 1 {
        let Some((kind, after)) = sei_number(rest) else { return false };
        let Some((size, body)) = sei_number(after) else { return false };
        let Some((message, next)) = body.split_at_checked(size) else { return false };
        if kind == RECOVERY_POINT {
            return BitReader::new(message, "recovery point").ue() == Ok(0);
        }
        rest = next;
    }
    false
}

/// A number in bytes of 255 and a last one below (§7.3.2.3.1), and what follows it.
fn sei_number(data: &[u8]) -> Option<(usize, &[u8])> {
    let full = data.iter().take_while(|byte| **byte == 0xff).count();
    let (last, rest) = data.get(full..)?.split_first()?;
    Some((full * 255 + usize::from(*last), rest))
}
