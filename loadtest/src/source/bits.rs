//! Writes the bits of H.264 syntax: fixed length, Exp-Golomb, emulation prevention.
//!
//! Not here: what is written (`h264`).

/// Bits written so far, the last byte perhaps begun.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of `partial` that are used, 0 to 7.
    used: u32,
    partial: u8,
}

impl BitWriter {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// `u(count)`, `count` at most 32.
    pub(super) fn bits(&mut self, value: u32, count: u32) {
        for place in (0..count).rev() {
            let bit = (value >> place & 1) as u8;
            self.partial = self.partial << 1 | bit;
            self.used += 1;
            if self.used == 8 {
                self.bytes.push(self.partial);
                (self.used, self.partial) = (0, 0);
            }
        }
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.bits(u32::from(value), 1);
    }

    /// `ue(v)`.
    pub(super) fn ue(&mut self, value: u32) {
        let code = value.saturating_add(1);
        let length = code.ilog2();
        self.bits(0, length);
        self.bits(code, length + 1);
    }

    /// `se(v)` of 0, the only value that is written here.
    pub(super) fn se_zero(&mut self) {
        self.ue(0);
    }

    /// Zero bits up to the next byte.
    pub(super) fn align_zero(&mut self) {
        while self.used != 0 {
            self.bits(0, 1);
        }
    }

    /// Whole bytes, where the position is aligned; elsewhere they are shifted in bit by bit.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if self.used == 0 {
            self.bytes.extend_from_slice(bytes);
        } else {
            bytes.iter().for_each(|byte| self.bits(u32::from(*byte), 8));
        }
    }

    /// Ends with `rbsp_trailing_bits` and gives a NAL unit with this header byte.
    pub(super) fn into_unit(mut self, header: u8) -> Vec<u8> {
        self.bits(1, 1);
        self.align_zero();
        escape(header, &self.bytes)
    }
}

/// A NAL unit of a raw payload: `emulation_prevention_three_byte` wherever it must be (H.264
/// §7.4.1).
fn escape(header: u8, raw: &[u8]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(raw.len() + raw.len() / 64 + 8);
    unit.push(header);
    let mut rest = raw;
    // Only after two zeros can anything need escaping, and they are rare.
    while let Some(at) = memchr::memmem::find(rest, &[0, 0]) {
        let (clean, tail) = rest.split_at(at + 2);
        unit.extend_from_slice(clean);
        if tail.first().is_none_or(|next| *next <= 3) {
            unit.push(3);
        }
        rest = tail;
    }
    unit.extend_from_slice(rest);
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_those_of_the_standard() {
        for (value, code) in
            [(0, "1"), (1, "010"), (2, "011"), (3, "00100"), (7, "0001000"), (30, "000011111")]
        {
            let mut writer = BitWriter::default();
            writer.ue(value);
            let mut expected = BitWriter::default();
            code.bytes().for_each(|bit| expected.flag(bit == b'1'));
            assert_eq!(writer.into_unit(9), expected.into_unit(9), "{value}");
        }
    }

    #[test]
    fn three_bytes_that_look_like_a_start_code_are_broken_up() {
        for (raw, expected) in [
            (&[1, 0, 0, 1][..], &[9, 1, 0, 0, 3, 1][..]),
            (&[0, 0, 0, 0, 0], &[9, 0, 0, 3, 0, 0, 3, 0]),
            (&[0, 0, 3], &[9, 0, 0, 3, 3]),
            (&[0, 0, 4, 0], &[9, 0, 0, 4, 0]),
            (&[0, 0], &[9, 0, 0, 3]),
        ] {
            assert_eq!(escape(9, raw), expected, "{raw:?}");
        }
    }
}
