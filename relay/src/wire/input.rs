//! Numbers and texts as the wire has them.
//!
//! A number is unsigned LEB128 (seven bits a byte, lowest first, ten bytes at most); a signed one
//! is zigzag-coded first. A text is its length and UTF-8. Not here: messages.

use bytes::{BufMut, BytesMut};

use super::WireError;

/// A cursor over received bytes.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Input<'a> {
    /// At the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, whole: bytes.len() }
    }

    /// How many bytes were read.
    #[must_use]
    pub fn consumed(&self) -> usize {
        self.whole - self.rest.len()
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    ///
    /// # Errors
    /// There is none.
    pub fn byte(&mut self) -> Result<u8, WireError> {
        let (first, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned number.
    ///
    /// # Errors
    /// It is cut short or has more than 64 bits.
    pub fn uint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(WireError::Invalid { what: "number", value: byte.into() });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Invalid { what: "number", value })
    }

    /// A signed number.
    ///
    /// # Errors
    /// As [`Self::uint`].
    pub fn int(&mut self) -> Result<i64, WireError> {
        let coded = self.uint()?;
        let magnitude = i64::from_ne_bytes((coded >> 1).to_ne_bytes());
        Ok(if coded & 1 == 0 { magnitude } else { !magnitude })
    }

    /// An unsigned number that fits `T`.
    ///
    /// # Errors
    /// It does not fit.
    pub fn small<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, WireError> {
        let value = self.uint()?;
        T::try_from(value).map_err(|_| WireError::Invalid { what, value })
    }

    /// A number that counts what follows, at most `limit`.
    ///
    /// # Errors
    /// It is above the limit.
    pub fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, WireError> {
        let size = self.uint()?;
        let limit_u64 = u64::try_from(limit).unwrap_or(u64::MAX);
        match usize::try_from(size) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(WireError::TooLong { what, size, limit: limit_u64 }),
        }
    }

    /// A run of bytes with its length before it, at most `limit`.
    ///
    /// # Errors
    /// It is too long or cut short.
    pub fn run(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], WireError> {
        let length = self.count(what, limit)?;
        self.bytes(length)
    }

    /// A text with its length before it, at most `limit` bytes.
    ///
    /// # Errors
    /// It is too long, cut short or not UTF-8.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.run(what, limit)?).map_err(|_| WireError::Text(what))
    }

    /// A byte that is 0 or 1.
    ///
    /// # Errors
    /// It is another one.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Invalid { what, value: other.into() }),
        }
    }

    /// A value that may be absent: a flag, then the value.
    ///
    /// # Errors
    /// As `read`.
    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.flag(what)? { read(self).map(Some) } else { Ok(None) }
    }
}

/// The zigzag code of a signed number: 0, -1, 1, -2 … become 0, 1, 2, 3 …
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    u64::from_ne_bytes(((value << 1) ^ (value >> 63)).to_ne_bytes())
}

/// Writes an unsigned number.
pub fn put_uint(out: &mut BytesMut, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.put_u8(low & 0x7f);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// Writes a length; what this process holds always fits 64 bits.
pub(super) fn put_len(out: &mut BytesMut, len: usize) {
    put_uint(out, u64::try_from(len).unwrap_or(u64::MAX));
}

/// Writes bytes with their length before them.
pub(super) fn put_run(out: &mut BytesMut, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.put_slice(bytes);
}

/// Writes a text, of at most [`super::TEXT_BYTES_MAX`] bytes: what is for people is cut.
pub fn put_text(out: &mut BytesMut, text: &str) {
    let mut end = text.len().min(super::TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_run(out, text.get(..end).unwrap_or_default().as_bytes());
}

/// Writes a value that may be absent.
pub(super) fn put_option<T>(
    out: &mut BytesMut,
    value: Option<T>,
    put: impl FnOnce(&mut BytesMut, T),
) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}
