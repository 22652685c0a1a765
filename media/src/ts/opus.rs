//! Opus access units in MPEG-TS: a control header before each, as the mapping "Opus in MPEG-TS" has
//! it and ffmpeg and GStreamer write it.
//!
//! Not here: the Opus packet's own header (`codec::opus`).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// The eleven bits that begin a control header.
const PREFIX: u16 = 0x7fe0;
const START_TRIM: u8 = 0x10;
const END_TRIM: u8 = 0x08;
const EXTENSION: u8 = 0x04;

/// An Opus PES that does not consist of access units. The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpusUnitError {
    /// A control header does not begin with its eleven bits.
    #[error("an Opus access unit begins with {0:#06x} instead of a control header")]
    Prefix(u16),
    /// The bytes end within a header or packet.
    #[error("an Opus access unit is cut short")]
    Truncated,
}

/// The Opus packets of a PES, one after another; ends after the first error.
#[derive(Debug, Clone)]
pub struct OpusUnits {
    rest: Bytes,
}

impl OpusUnits {
    /// The packets of the payload of a PES.
    #[must_use]
    pub fn new(data: Bytes) -> Self {
        Self { rest: data }
    }

    fn unit(&mut self) -> Result<Bytes, OpusUnitError> {
        let truncated = |_| OpusUnitError::Truncated;
        let word = self.rest.try_get_u16().map_err(truncated)?;
        if word & 0xffe0 != PREFIX {
            return Err(OpusUnitError::Prefix(word));
        }
        let [_, flags] = word.to_be_bytes();
        let mut size = 0usize;
        loop {
            let byte = self.rest.try_get_u8().map_err(truncated)?;
            size = size.saturating_add(usize::from(byte));
            if byte != 0xff {
                break;
            }
        }
        for flag in [START_TRIM, END_TRIM] {
            if flags & flag != 0 {
                self.rest.try_get_u16().map_err(truncated)?;
            }
        }
        if flags & EXTENSION != 0 {
            let length = usize::from(self.rest.try_get_u8().map_err(truncated)?);
            if length > self.rest.len() {
                return Err(OpusUnitError::Truncated);
            }
            self.rest.advance(length);
        }
        if size > self.rest.len() {
            return Err(OpusUnitError::Truncated);
        }
        Ok(self.rest.split_to(size))
    }
}

impl Iterator for OpusUnits {
    type Item = Result<Bytes, OpusUnitError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let unit = self.unit();
        if unit.is_err() {
            self.rest.clear();
        }
        Some(unit)
    }
}

/// Writes the control header of a packet of `size` bytes.
pub(super) fn put_control_header(out: &mut BytesMut, size: usize) {
    out.put_u16(PREFIX);
    out.put_bytes(0xff, size / 0xff);
    out.put_u8((size % 0xff) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_split_at_their_control_headers() {
        let mut data = BytesMut::new();
        for size in [1, 254, 255, 256, 1_275] {
            put_control_header(&mut data, size);
            data.put_bytes(7, size);
        }
        // Trims and an extension stand between the size and the packet.
        data.put_slice(&[0x7f, 0xfc, 2, 0, 1, 0, 2, 3, 9, 9, 9, 0xaa, 0xbb]);
        let sizes: Vec<_> = OpusUnits::new(data.freeze()).map(|unit| unit.unwrap().len()).collect();
        assert_eq!(sizes, [1, 254, 255, 256, 1_275, 2]);
    }

    #[test]
    fn bad_units_are_errors_and_end_the_iteration() {
        let cases: [(&'static [u8], OpusUnitError); 6] = [
            (&[0x12, 0x34, 1, 0], OpusUnitError::Prefix(0x1234)),
            (&[0x7f], OpusUnitError::Truncated),
            (&[0x7f, 0xe0, 0xff, 0xff], OpusUnitError::Truncated),
            (&[0x7f, 0xe0, 2, 0], OpusUnitError::Truncated),
            (&[0x7f, 0xf0, 0, 0], OpusUnitError::Truncated),
            (&[0x7f, 0xe4, 0, 9, 0], OpusUnitError::Truncated),
        ];
        for (bytes, want) in cases {
            let units: Vec<_> = OpusUnits::new(Bytes::from_static(bytes)).collect();
            assert_eq!(units, [Err(want)], "{bytes:x?}");
        }
    }
}
