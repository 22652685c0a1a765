//! RTP headers with the extensions that viewers are sent (RFC 3550 §5.1, RFC 8285 §4.2).
//!
//! Not here: which values they bear (`stream`).

/// Bytes of a header without extensions.
const FIXED_BYTES: usize = 12;
/// Bytes that begin a block of extensions.
const BLOCK_BYTES: usize = 4;
/// Extension ids that one-byte headers can bear (RFC 8285 §4.2).
const ONE_BYTE_ID_MAX: u8 = 14;
/// Longest value of a one-byte extension.
const ONE_BYTE_VALUE_MAX: usize = 16;
/// Begins a block of one-byte extensions.
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// A playout delay of 0 to 0: show at once.
const PLAYOUT_DELAY_NONE: [u8; 3] = [0; 3];

/// The extension ids that were negotiated for a track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143 §15).
    pub(crate) mid: Option<u8>,
    /// `playout-delay`.
    pub(crate) playout_delay: Option<u8>,
}

/// An RTP header.
pub(crate) struct Header<'a> {
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) sequence: u16,
    /// Ticks of the payload's clock.
    pub(crate) time: u32,
    pub(crate) ssrc: u32,
    /// The m-line's name, while the viewer may not know the SSRC yet.
    pub(crate) mid: Option<(u8, &'a str)>,
    /// The id of the extension that tells the viewer not to wait before it shows.
    pub(crate) no_delay: Option<u8>,
}

impl Header<'_> {
    /// Length of the header in bytes, a multiple of four.
    pub(crate) fn bytes(&self) -> usize {
        match self.extension_bytes() {
            0 => FIXED_BYTES,
            bytes => FIXED_BYTES + BLOCK_BYTES + bytes.next_multiple_of(4),
        }
    }

    /// Writes the header to the start of `packet`, which must be zero there.
    pub(crate) fn write(&self, packet: &mut [u8]) {
        let extensions = self.extension_bytes();
        let mut at = Writer(packet);
        at.put(&[2 << 6 | u8::from(extensions > 0) << 4]);
        at.put(&[u8::from(self.marker) << 7 | self.payload_type & 0x7f]);
        at.put(&self.sequence.to_be_bytes());
        at.put(&self.time.to_be_bytes());
        at.put(&self.ssrc.to_be_bytes());
        if extensions == 0 {
            return;
        }
        at.put(&ONE_BYTE_PROFILE.to_be_bytes());
        // Two values of at most 16 bytes: far below 65,536 words.
        at.put(&(extensions.div_ceil(4) as u16).to_be_bytes());
        if let Some((id, mid)) = self.mid() {
            at.value(id, mid.as_bytes());
        }
        if let Some(id) = self.no_delay() {
            at.value(id, &PLAYOUT_DELAY_NONE);
        }
    }

    fn extension_bytes(&self) -> usize {
        self.mid().map_or(0, |(_, mid)| 1 + mid.len())
            + self.no_delay().map_or(0, |_| 1 + PLAYOUT_DELAY_NONE.len())
    }

    fn mid(&self) -> Option<(u8, &str)> {
        self.mid.filter(|(id, mid)| fits(*id, mid.len()))
    }

    fn no_delay(&self) -> Option<u8> {
        self.no_delay.filter(|id| fits(*id, PLAYOUT_DELAY_NONE.len()))
    }
}

fn fits(id: u8, bytes: usize) -> bool {
    (1..=ONE_BYTE_ID_MAX).contains(&id) && (1..=ONE_BYTE_VALUE_MAX).contains(&bytes)
}

/// What is left of a packet to write to.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = std::mem::take(&mut self.0);
        let Some((here, rest)) = room.split_at_mut_checked(bytes.len()) else { return };
        here.copy_from_slice(bytes);
        self.0 = rest;
    }

    fn value(&mut self, id: u8, value: &[u8]) {
        // One to sixteen bytes, as `fits` has seen to.
        self.put(&[id << 4 | (value.len().saturating_sub(1) as u8) & 0x0f]);
        self.put(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header<'static> {
        Header {
            payload_type: 96,
            marker: true,
            sequence: 0x1234,
            time: 0x0102_0304,
            ssrc: 0x0a0b_0c0d,
            mid: None,
            no_delay: None,
        }
    }

    fn written(header: &Header<'_>) -> Vec<u8> {
        let mut out = vec![0; header.bytes()];
        header.write(&mut out);
        out
    }

    #[test]
    fn a_header_without_extensions_has_twelve_bytes() {
        assert_eq!(written(&header()), [0x80, 0xe0, 0x12, 0x34, 1, 2, 3, 4, 10, 11, 12, 13]);
    }

    #[test]
    fn extensions_are_padded_to_words() {
        let mid = Header { mid: Some((3, "0")), ..header() };
        assert_eq!(written(&mid)[12..], [0xbe, 0xde, 0, 1, 0x30, b'0', 0, 0]);
        let both = Header { mid: Some((3, "0")), no_delay: Some(12), ..header() };
        assert_eq!(written(&both)[12..], [0xbe, 0xde, 0, 2, 0x30, b'0', 0xc2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_one_byte_extensions_cannot_bear_is_left_out() {
        for mid in [(0, "a"), (15, "a"), (200, "a"), (1, ""), (1, "a-name-of-17-byte")] {
            assert_eq!(written(&Header { mid: Some(mid), ..header() }).len(), 12, "{mid:?}");
        }
    }
}
