//! One transport packet: header and adaptation field (ISO/IEC 13818-1 §2.4.3).
//!
//! Not here: what the payload means (`psi`, `pes`).

use super::{PACKET_BYTES, SYNC_BYTE};

/// What the header of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    pub(super) error: bool,
    /// `payload_unit_start_indicator`.
    pub(super) starts: bool,
    pub(super) scrambled: bool,
    pub(super) continuity: u8,
    /// `discontinuity_indicator`.
    pub(super) discontinuity: bool,
    /// `random_access_indicator`.
    pub(super) random_access: bool,
    /// Whether the adaptation field has bytes that only fill the packet.
    pub(super) stuffed: bool,
    /// Nothing when the packet has no payload.
    pub(super) payload: Option<&'a [u8]>,
}

/// Bits of the adaptation field's flags.
const DISCONTINUITY: u8 = 0x80;
const RANDOM_ACCESS: u8 = 0x40;
const PCR: u8 = 0x10;
const OPCR: u8 = 0x08;
const SPLICE: u8 = 0x04;
const PRIVATE: u8 = 0x02;
const EXTENSION: u8 = 0x01;

impl<'a> Packet<'a> {
    /// Reads a packet; none when its lengths contradict each other.
    pub(super) fn parse(bytes: &'a [u8; PACKET_BYTES]) -> Option<Self> {
        let [sync, high, low, control, rest @ ..] = bytes;
        if *sync != SYNC_BYTE {
            return None;
        }
        let mut packet = Packet {
            pid: u16::from_be_bytes([high & 0x1f, *low]),
            error: high & 0x80 != 0,
            starts: high & 0x40 != 0,
            scrambled: control & 0xc0 != 0,
            continuity: control & 0x0f,
            discontinuity: false,
            random_access: false,
            stuffed: false,
            payload: None,
        };
        let mut rest: &[u8] = rest;
        if control & 0x20 != 0 {
            let (&length, after) = rest.split_first()?;
            let (field, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            packet.adaptation(field);
        }
        if control & 0x10 != 0 {
            packet.payload = Some(rest);
        }
        Some(packet)
    }

    fn adaptation(&mut self, field: &[u8]) {
        // A field of no bytes fills one byte: its length.
        let Some((&flags, rest)) = field.split_first() else {
            self.stuffed = true;
            return;
        };
        self.discontinuity = flags & DISCONTINUITY != 0;
        self.random_access = flags & RANDOM_ACCESS != 0;
        let mut used = 0usize;
        for (flag, size) in [(PCR, 6), (OPCR, 6), (SPLICE, 1)] {
            used += if flags & flag != 0 { size } else { 0 };
        }
        for flag in [PRIVATE, EXTENSION] {
            if flags & flag != 0 {
                used += 1 + usize::from(rest.get(used).copied().unwrap_or(0));
            }
        }
        self.stuffed = rest.len() > used || flags == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(head: &[u8]) -> [u8; PACKET_BYTES] {
        let mut bytes = [0xff; PACKET_BYTES];
        bytes[..head.len()].copy_from_slice(head);
        bytes
    }

    #[test]
    fn a_header_is_read_field_by_field() {
        let bytes = packet(&[0x47, 0x41, 0x23, 0x15]);
        let read = Packet::parse(&bytes).unwrap();
        assert_eq!((read.pid, read.continuity), (0x123, 5));
        assert!(read.starts && !read.error && !read.scrambled && !read.stuffed);
        assert_eq!(read.payload.map(<[u8]>::len), Some(184));
        let bytes = packet(&[0x47, 0x81, 0x23, 0x75, 1, 0xc0]);
        let read = Packet::parse(&bytes).unwrap();
        assert!(read.error && read.scrambled && read.discontinuity && read.random_access);
        assert_eq!(read.payload.map(<[u8]>::len), Some(182));
    }

    #[test]
    fn stuffing_is_told_from_an_adaptation_field_in_use() {
        let cases: [(&[u8], bool); 7] = [
            (&[0], true),
            (&[1, 0], true),
            (&[1, 0x40], false),
            (&[2, 0x40, 0xff], true),
            (&[7, 0x10, 0, 0, 0, 0, 0, 0], false),
            (&[8, 0x10, 0, 0, 0, 0, 0, 0, 0xff], true),
            (&[4, 0x02, 2, 9, 9], false),
        ];
        for (field, stuffed) in cases {
            let head = [&[0x47, 0, 0x20, 0x30], field].concat();
            assert_eq!(Packet::parse(&packet(&head)).unwrap().stuffed, stuffed, "{field:?}");
        }
    }

    #[test]
    fn an_adaptation_field_longer_than_the_packet_is_refused() {
        assert!(Packet::parse(&packet(&[0x47, 0, 0x20, 0x30, 184])).is_none());
        let full = packet(&[0x47, 0, 0x20, 0x20, 183]);
        assert_eq!(Packet::parse(&full).unwrap().payload, None);
        assert!(Packet::parse(&packet(&[0x46])).is_none());
    }
}
