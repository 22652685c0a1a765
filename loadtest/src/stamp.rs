//! The stamp that every generated video frame carries: which stream, which frame, sent when.
//!
//! It is an H.264 SEI message of type `user_data_unregistered` (ITU-T H.264 D.1.7), which servers
//! pass on untouched, and is found again by its UUID in any bytes that hold the frame: RTP
//! payloads, MPEG-TS, fMP4. Its fields are written seven bits a byte with the high bit set, so
//! that no byte of it is ever 0 to 3 and no emulation prevention can change it.
//! Not here: where in the access unit it stands (`source`), what is made of it (`meter`).

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// What marks a stamp. No byte is below 4, for the same reason as in the fields.
const UUID: [u8; 16] = *b"\x9c\x51\xe4\x77\xb2\x0a\x4d\xd3\xa8\x66\x2e\xf1\x95\x3b\xc8\x1d";
const NAL_SEI: u8 = 6;
const PAYLOAD_USER_DATA_UNREGISTERED: u8 = 5;
/// Bytes of a 32-bit field at seven bits a byte.
const U32_BYTES: usize = 5;
/// Bytes of a 64-bit field.
const U64_BYTES: usize = 10;
const FIELD_BYTES: usize = U32_BYTES + 2 * U64_BYTES;
const PAYLOAD_BYTES: usize = UUID.len() + FIELD_BYTES;
const _: () = assert!(PAYLOAD_BYTES < 255, "the payload's size is one byte of the SEI message");
/// `rbsp_trailing_bits` of a byte-aligned message.
const TRAILING_BITS: u8 = 0x80;

/// Bytes of a whole SEI NAL unit with a stamp.
pub const SEI_BYTES: usize = 3 + PAYLOAD_BYTES + 1;

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&UUID));

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the stream among those of one generator.
    pub stream: u32,
    /// Number of the frame in its stream, in decoding order, from 0.
    pub sequence: u64,
    /// When the frame was handed to the protocol, in microseconds since the Unix epoch.
    pub sent_us: u64,
}

impl Stamp {
    /// The stamp as an H.264 NAL unit, without start code or length.
    #[must_use]
    pub fn to_sei(&self) -> Vec<u8> {
        let mut unit = Vec::with_capacity(SEI_BYTES);
        // The payload's size is far below 255: see the assertion above.
        unit.extend([NAL_SEI, PAYLOAD_USER_DATA_UNREGISTERED, PAYLOAD_BYTES as u8]);
        unit.extend(self.to_mark());
        unit.push(TRAILING_BITS);
        unit
    }

    /// UUID and fields alone: what is searched for, wherever in a frame it stands.
    #[must_use]
    pub fn to_mark(&self) -> Vec<u8> {
        let mut mark = Vec::with_capacity(PAYLOAD_BYTES);
        mark.extend(UUID);
        put(&mut mark, u64::from(self.stream), U32_BYTES);
        put(&mut mark, self.sequence, U64_BYTES);
        put(&mut mark, self.sent_us, U64_BYTES);
        mark
    }

    /// The first stamp in `bytes`, and the offset after it. A stamp that is cut short or damaged
    /// is passed over.
    #[must_use]
    pub fn find(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut from = 0;
        loop {
            let rest = bytes.get(from..)?;
            let fields = from + FINDER.find(rest)? + UUID.len();
            if let Some(stamp) = bytes.get(fields..).and_then(Self::read) {
                return Some((stamp, fields + FIELD_BYTES));
            }
            from = fields;
        }
    }

    /// Every stamp in `bytes`, in their order.
    #[must_use]
    pub fn find_all(bytes: &[u8]) -> Stamps<'_> {
        Stamps { rest: bytes }
    }

    fn read(fields: &[u8]) -> Option<Self> {
        let (stream, rest) = take(fields, U32_BYTES)?;
        let (sequence, rest) = take(rest, U64_BYTES)?;
        let (sent_us, _) = take(rest, U64_BYTES)?;
        Some(Self { stream: u32::try_from(stream).ok()?, sequence, sent_us })
    }
}

/// See [`Stamp::find_all`].
#[derive(Debug, Clone)]
pub struct Stamps<'a> {
    rest: &'a [u8],
}

impl Iterator for Stamps<'_> {
    type Item = Stamp;

    fn next(&mut self) -> Option<Stamp> {
        let (stamp, after) = Stamp::find(self.rest)?;
        self.rest = self.rest.get(after..).unwrap_or_default();
        Some(stamp)
    }
}

fn put(unit: &mut Vec<u8>, value: u64, bytes: usize) {
    for place in (0..bytes).rev() {
        let bits = value.checked_shr(7 * place as u32).unwrap_or(0) & 0x7f;
        unit.push(0x80 | bits as u8);
    }
}

fn take(bytes: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (field, rest) = bytes.split_at_checked(count)?;
    let mut value = 0_u64;
    for byte in field {
        if byte & 0x80 == 0 {
            return None;
        }
        value = value.checked_mul(128)? | u64::from(byte & 0x7f);
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { stream: 7, sequence: 123_456, sent_us: 1_790_000_000_123_456 };

    #[test]
    fn a_stamp_is_found_again_in_any_bytes() {
        for stamp in [
            STAMP,
            Stamp { stream: 0, sequence: 0, sent_us: 0 },
            Stamp { stream: u32::MAX, sequence: u64::MAX, sent_us: u64::MAX },
        ] {
            let sei = stamp.to_sei();
            assert_eq!(sei.len(), SEI_BYTES);
            let bytes = [&[0, 0, 0, 1][..], &sei, &[0, 0, 1, 0x65, 9, 9]].concat();
            let (found, after) = Stamp::find(&bytes).unwrap();
            assert_eq!(found, stamp);
            assert_eq!(bytes[after], TRAILING_BITS);
        }
    }

    #[test]
    fn no_byte_of_it_calls_for_emulation_prevention() {
        let stamp = Stamp { stream: 0, sequence: 0, sent_us: 0 };
        assert!(stamp.to_sei()[1..].iter().all(|byte| *byte > 3));
    }

    #[test]
    fn all_stamps_are_found_in_their_order_and_damaged_ones_passed_over() {
        let mut damaged = STAMP.to_sei();
        damaged[SEI_BYTES - 5] = 0;
        let mut bytes = Vec::new();
        for sequence in 0..5 {
            bytes.extend(Stamp { sequence, ..STAMP }.to_sei());
            bytes.extend(&damaged);
            bytes.extend([0; 100]);
        }
        bytes.extend(&STAMP.to_sei()[..30]);
        let found: Vec<_> = Stamp::find_all(&bytes).map(|stamp| stamp.sequence).collect();
        assert_eq!(found, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn bytes_without_a_stamp_have_none() {
        assert_eq!(Stamp::find(&[]), None);
        assert_eq!(Stamp::find(&UUID), None);
        assert_eq!(Stamp::find(&[0x80; 400]), None);
    }
}
