//! Reading header fields bit by bit, with Exp-Golomb codes.
//!
//! Every read is bounded by the slice and ends in an error when it runs out.
//! Not here: taking emulation prevention bytes out (`nal::unescape`), which comes first.

use super::CodecError;

/// Reads bits, most significant first.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    data: &'a [u8],
    /// Position in bits.
    at: usize,
    /// What is being read, for errors.
    what: &'static str,
}

impl<'a> BitReader<'a> {
    /// A reader at the start of `data`; `what` names it in errors.
    #[must_use]
    pub fn new(data: &'a [u8], what: &'static str) -> Self {
        Self { data, at: 0, what }
    }

    /// Bits not read yet.
    #[must_use]
    pub fn bits_left(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.at)
    }

    /// Bits read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    fn bit(&mut self) -> Result<u32, CodecError> {
        let byte = self.data.get(self.at / 8).ok_or(CodecError::Truncated(self.what))?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(u32::from(bit))
    }

    /// One bit as a flag.
    ///
    /// # Errors
    /// The data has ended.
    pub fn flag(&mut self) -> Result<bool, CodecError> {
        Ok(self.bit()? == 1)
    }

    /// An unsigned number of `count` bits, 0 to 32.
    ///
    /// # Errors
    /// The data ends before.
    pub fn bits(&mut self, count: u32) -> Result<u32, CodecError> {
        debug_assert!(count <= 32, "a field of {count} bits");
        let mut value = 0u64;
        for _ in 0..count {
            value = value << 1 | u64::from(self.bit()?);
        }
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// An unsigned number of `count` bits, 0 to 8.
    ///
    /// # Errors
    /// The data ends before.
    pub fn byte(&mut self, count: u32) -> Result<u8, CodecError> {
        debug_assert!(count <= 8, "a byte of {count} bits");
        Ok(u8::try_from(self.bits(count)?).unwrap_or(u8::MAX))
    }

    /// Leaves out `count` bits.
    ///
    /// # Errors
    /// The data ends before.
    pub fn skip(&mut self, count: usize) -> Result<(), CodecError> {
        if self.bits_left() < count {
            return Err(CodecError::Truncated(self.what));
        }
        self.at += count;
        Ok(())
    }

    /// `ue(v)`: an unsigned Exp-Golomb code (ITU-T H.264 §9.1), up to 2^32 - 2.
    ///
    /// # Errors
    /// The data ends before, or the code has more than 31 leading zeros.
    pub fn ue(&mut self) -> Result<u32, CodecError> {
        let mut zeros = 0u32;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return Err(CodecError::Invalid { what: "Exp-Golomb prefix", value: zeros.into() });
            }
        }
        let rest = u64::from(self.bits(zeros)?);
        Ok(u32::try_from((1u64 << zeros) - 1 + rest).unwrap_or(u32::MAX))
    }

    /// [`Self::ue`] that must not be above `max`; `what` names the field in the error.
    ///
    /// # Errors
    /// As [`Self::ue`], or the value is above `max`.
    pub fn ue_max(&mut self, what: &'static str, max: u32) -> Result<u32, CodecError> {
        let value = self.ue()?;
        if value > max {
            return Err(CodecError::Invalid { what, value: value.into() });
        }
        Ok(value)
    }

    /// [`Self::ue_max`] for a field that fits a byte.
    ///
    /// # Errors
    /// As [`Self::ue_max`].
    pub fn ue_byte(&mut self, what: &'static str, max: u8) -> Result<u8, CodecError> {
        let value = self.ue_max(what, max.into())?;
        Ok(u8::try_from(value).unwrap_or(u8::MAX))
    }

    /// `se(v)`: a signed Exp-Golomb code (ITU-T H.264 §9.1.1).
    ///
    /// # Errors
    /// As [`Self::ue`].
    pub fn se(&mut self) -> Result<i64, CodecError> {
        let code = i64::from(self.ue()?);
        Ok(if code % 2 == 0 { -(code / 2) } else { code / 2 + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_those_of_the_specification() {
        // 1, 010, 011, 00100, 00101, 00110, then a stop bit.
        let data = [0b1010_0110, 0b0100_0010, 0b1001_1010];
        let mut reader = BitReader::new(&data, "test");
        let codes: Vec<u32> = (0..6).map(|_| reader.ue().unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
        let mut reader = BitReader::new(&data, "test");
        let codes: Vec<i64> = (0..6).map(|_| reader.se().unwrap()).collect();
        assert_eq!(codes, [0, 1, -1, 2, -2, 3]);
    }

    #[test]
    fn the_largest_code_fits_and_a_longer_one_is_refused() {
        let mut largest = vec![0, 0, 0, 1];
        largest.extend([0xff; 4]);
        assert_eq!(BitReader::new(&largest, "test").ue().unwrap(), u32::MAX - 1);
        let refused = BitReader::new(&[0; 64], "test").ue();
        assert_eq!(refused, Err(CodecError::Invalid { what: "Exp-Golomb prefix", value: 32 }));
    }

    #[test]
    fn reads_past_the_end_are_errors() {
        let mut reader = BitReader::new(&[0xff], "test");
        assert_eq!(reader.bits(9), Err(CodecError::Truncated("test")));
        let mut reader = BitReader::new(&[0xff], "test");
        assert_eq!(reader.skip(9), Err(CodecError::Truncated("test")));
        assert_eq!(reader.bits(8), Ok(0xff));
        assert_eq!(reader.flag(), Err(CodecError::Truncated("test")));
        assert_eq!(BitReader::new(&[0x01], "test").ue(), Err(CodecError::Truncated("test")));
        assert_eq!(BitReader::new(&[1, 2, 3, 4, 5], "test").bits(32), Ok(0x0102_0304));
    }
}
