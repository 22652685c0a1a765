//! Open bitstream units (AV1 §5.3): walking over them, and writing them with a size field.
//!
//! Not here: what they hold.

use crate::codec::CodecError;

/// OBUs in one temporal unit; tiles and metadata make some tens at most.
const OBUS_MAX: usize = 1_024;

/// `obu_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObuType {
    /// 1.
    SequenceHeader,
    /// 2.
    TemporalDelimiter,
    /// 3.
    FrameHeader,
    /// 4.
    TileGroup,
    /// 5.
    Metadata,
    /// 6.
    Frame,
    /// 7.
    RedundantFrameHeader,
    /// 8.
    TileList,
    /// 15.
    Padding,
    /// Reserved.
    Other(u8),
}

impl ObuType {
    fn of(number: u8) -> Self {
        match number {
            1 => Self::SequenceHeader,
            2 => Self::TemporalDelimiter,
            3 => Self::FrameHeader,
            4 => Self::TileGroup,
            5 => Self::Metadata,
            6 => Self::Frame,
            7 => Self::RedundantFrameHeader,
            8 => Self::TileList,
            15 => Self::Padding,
            other => Self::Other(other),
        }
    }

    /// The number in the header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::SequenceHeader => 1,
            Self::TemporalDelimiter => 2,
            Self::FrameHeader => 3,
            Self::TileGroup => 4,
            Self::Metadata => 5,
            Self::Frame => 6,
            Self::RedundantFrameHeader => 7,
            Self::TileList => 8,
            Self::Padding => 15,
            Self::Other(number) => number,
        }
    }
}

/// One OBU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Obu<'a> {
    /// Its type.
    pub kind: ObuType,
    /// `temporal_id` and `spatial_id`, where the header has an extension.
    pub extension: Option<u8>,
    /// Whether it came with a size field.
    pub has_size: bool,
    /// What follows the header and size.
    pub payload: &'a [u8],
}

impl Obu<'_> {
    /// Appends the OBU with a size field.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.push(self.kind.number() << 3 | u8::from(self.extension.is_some()) << 2 | 2);
        to.extend(self.extension);
        write_leb128(self.payload.len(), to);
        to.extend_from_slice(self.payload);
    }
}

/// The OBUs of a temporal unit. One without a size field reaches to the end.
#[derive(Clone, Debug)]
pub struct Obus<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Obus<'a> {
    /// Walks over `data`.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data, count: 0 }
    }

    fn read(&mut self) -> Result<Obu<'a>, CodecError> {
        const CUT: CodecError = CodecError::Truncated("AV1 OBU");
        self.count += 1;
        if self.count > OBUS_MAX {
            let value = self.count as u64;
            return Err(CodecError::Invalid { what: "number of AV1 OBUs", value });
        }
        let (header, mut rest) = self.rest.split_first().ok_or(CUT)?;
        if header & 0x80 != 0 {
            return Err(CodecError::Invalid { what: "AV1 OBU forbidden bit", value: 1 });
        }
        let mut extension = None;
        if header & 4 != 0 {
            let (byte, after) = rest.split_first().ok_or(CUT)?;
            (extension, rest) = (Some(*byte), after);
        }
        let has_size = header & 2 != 0;
        let size = if has_size { read_leb128(&mut rest)? } else { rest.len() };
        let (payload, after) = rest.split_at_checked(size).ok_or(CUT)?;
        self.rest = after;
        Ok(Obu { kind: ObuType::of(header >> 3 & 0x0f), extension, has_size, payload })
    }
}

impl<'a> Iterator for Obus<'a> {
    type Item = Result<Obu<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// `leb128()` (AV1 §4.10.5): at most eight bytes, and below 2^32.
fn read_leb128(data: &mut &[u8]) -> Result<usize, CodecError> {
    let mut value = 0u64;
    for shift in 0..8u32 {
        let (byte, rest) = data.split_first().ok_or(CodecError::Truncated("AV1 OBU size"))?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            let small = u32::try_from(value).ok().and_then(|value| usize::try_from(value).ok());
            return small.ok_or(CodecError::Invalid { what: "AV1 OBU size", value });
        }
    }
    Err(CodecError::Invalid { what: "AV1 OBU size", value })
}

fn write_leb128(mut value: usize, to: &mut Vec<u8>) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}
