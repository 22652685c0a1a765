//! ADTS (ISO/IEC 14496-3 §1.A.2): AAC with a header before every frame, as in MPEG-TS.
//!
//! Not here: putting together what spans packets; a frame cut at the data's end is left over.

use super::rate_at;
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

/// Bytes of a header without CRC.
pub const HEADER_BYTES: usize = 7;
/// `aac_frame_length` has 13 bits and counts the header.
pub const FRAME_BYTES_MAX: usize = (1 << 13) - 1;

/// What an ADTS header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdtsHeader {
    /// Audio object type, 1 to 4; 2 is LC.
    pub object_type: u8,
    /// Samples a second.
    pub sample_rate: u32,
    /// `channel_configuration`, 0 to 7.
    pub channel_configuration: u8,
    /// Bytes of the frame with its header.
    pub frame_bytes: usize,
    /// Bytes of the header with its CRC.
    pub header_bytes: usize,
    /// Raw data blocks in the frame, 1 to 4, each of 1024 samples.
    pub blocks: u8,
    /// Whether there is a CRC.
    pub crc: bool,
}

impl AdtsHeader {
    /// Reads the header at the start of `data`.
    ///
    /// # Errors
    /// `data` is short, does not start with a sync word, or the header contradicts itself.
    pub fn parse(data: &[u8]) -> Result<Self, CodecError> {
        let mut r = BitReader::new(data, "ADTS header");
        let sync = r.bits(12)?;
        if sync != 0xfff {
            return Err(CodecError::Invalid { what: "ADTS sync word", value: sync.into() });
        }
        r.skip(1)?; // MPEG-4 or MPEG-2
        let layer = r.byte(2)?;
        if layer != 0 {
            return Err(CodecError::Invalid { what: "ADTS layer", value: layer.into() });
        }
        let crc = !r.flag()?;
        let object_type = r.byte(2)? + 1;
        let sample_rate = rate_at(usize::from(r.byte(4)?))?;
        r.skip(1)?;
        let channel_configuration = r.byte(3)?;
        r.skip(4)?; // original, home, copyright
        let frame_bytes = r.bits(13)? as usize;
        r.skip(11)?; // buffer fullness
        let blocks = r.byte(2)? + 1;
        let positions = 2 * (usize::from(blocks) - 1);
        let header_bytes = HEADER_BYTES + if crc { positions + 2 } else { 0 };
        if frame_bytes < header_bytes {
            let value = frame_bytes as u64;
            return Err(CodecError::Invalid { what: "ADTS frame length", value });
        }
        Ok(Self {
            object_type,
            sample_rate,
            channel_configuration,
            frame_bytes,
            header_bytes,
            blocks,
            crc,
        })
    }
}

/// One raw data block: what a frame on the bus carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdtsFrame<'a> {
    /// The header over it.
    pub header: AdtsHeader,
    /// The raw data block.
    pub data: &'a [u8],
}

/// Walks the raw data blocks of ADTS data, passing over bytes that are none; made by
/// [`AdtsFrames::new`]. An ADTS frame of several blocks gives each; that takes the positions which
/// only headers with CRC have, so without them it gives an error and goes on with the next.
#[derive(Clone, Debug)]
pub struct AdtsFrames<'a> {
    rest: &'a [u8],
    skipped: usize,
    /// Of the frame being walked: its header, the bytes before the block, and which is next.
    open: Option<(AdtsHeader, &'a [u8], u8)>,
    synced: bool,
}

impl<'a> AdtsFrames<'a> {
    /// The frames of `data`, such as a PES packet's payload.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data, skipped: 0, open: None, synced: true }
    }

    /// Bytes so far that were no frame.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// What is left when the iterator has ended: the start of a frame that is cut at the end, to
    /// be put before the data that comes next. At most [`FRAME_BYTES_MAX`] bytes.
    #[must_use]
    pub fn remainder(&self) -> &'a [u8] {
        self.rest
    }

    /// The next whole ADTS frame, after garbage if need be.
    fn next_frame(&mut self) -> Option<(AdtsHeader, &'a [u8])> {
        while !self.rest.is_empty() {
            match AdtsHeader::parse(self.rest) {
                Ok(header) if self.plausible(&header) => {
                    let (frame, rest) = self.rest.split_at_checked(header.frame_bytes)?;
                    self.rest = rest;
                    self.synced = true;
                    return Some((header, frame));
                }
                Err(CodecError::Truncated(_)) => return None,
                Ok(_) | Err(_) => {
                    self.synced = false;
                    self.skipped += 1;
                    self.rest = self.rest.get(1..).unwrap_or_default();
                }
            }
        }
        None
    }

    /// Out of sync, a header counts only when another follows the frame, or its end is the data's.
    fn plausible(&self, header: &AdtsHeader) -> bool {
        let after = self.rest.get(header.frame_bytes..).unwrap_or_default();
        self.synced
            || match after {
                [] | [0xff] => true,
                [first, second, ..] => *first == 0xff && second & 0xf6 == 0xf0,
                _ => false,
            }
    }

    fn next_block(&mut self) -> Option<Result<AdtsFrame<'a>, CodecError>> {
        const CUT: CodecError = CodecError::Truncated("ADTS raw data block");
        let (header, frame, index) = self.open.take()?;
        let body = frame.get(header.header_bytes..).unwrap_or_default();
        if header.blocks == 1 {
            return Some(Ok(AdtsFrame { header, data: body }));
        }
        if !header.crc {
            return Some(Err(CodecError::Unsupported("ADTS with several blocks and no CRC")));
        }
        // Positions count from the first block; every block is followed by a CRC of 2 bytes.
        let position = |index: u8| -> Option<usize> {
            match index {
                0 => Some(0),
                index if index == header.blocks => Some(body.len()),
                index => {
                    let at = HEADER_BYTES + 2 * (usize::from(index) - 1);
                    let bytes = frame.get(at..)?.first_chunk::<2>()?;
                    Some(u16::from_be_bytes(*bytes).into())
                }
            }
        };
        let block = position(index)
            .zip(position(index + 1))
            .and_then(|(start, next)| body.get(start..next.checked_sub(2)?));
        if block.is_some() && index + 1 < header.blocks {
            self.open = Some((header, frame, index + 1));
        }
        Some(block.map(|data| AdtsFrame { header, data }).ok_or(CUT))
    }
}

impl<'a> Iterator for AdtsFrames<'a> {
    type Item = Result<AdtsFrame<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.open.is_none() {
            let (header, frame) = self.next_frame()?;
            self.open = Some((header, frame, 0));
        }
        self.next_block()
    }
}

/// The header of an ADTS frame with one raw data block of `block_bytes`, without CRC.
///
/// # Errors
/// The frame would be longer than [`FRAME_BYTES_MAX`], or the rate or channels of `config` have no
/// index.
pub fn write_adts_header(
    config: &super::AacConfig,
    block_bytes: usize,
) -> Result<[u8; HEADER_BYTES], CodecError> {
    let frame = block_bytes.saturating_add(HEADER_BYTES);
    let length = u64::try_from(frame).ok().filter(|_| frame <= FRAME_BYTES_MAX);
    let length =
        length.ok_or(CodecError::Invalid { what: "ADTS frame length", value: frame as u64 })?;
    let rate = config.sample_rate;
    let index = super::SAMPLE_RATES.iter().position(|of_index| *of_index == rate);
    let index = index.ok_or(CodecError::Invalid { what: "sample rate", value: rate.into() })?;
    let channels = match config.channels {
        8 => 7,
        channels @ 1..=6 => channels,
        other => {
            return Err(CodecError::Invalid { what: "channels of AAC", value: other.into() });
        }
    };
    // Sync, MPEG-4, no CRC; LC; rate, channels; length; fullness "variable"; one block.
    let head = 0xfff1u64 << 40 | 1 << 38 | (index as u64) << 34 | u64::from(channels) << 30;
    let bits = head | length << 13 | 0x7ff << 2;
    let [_, bytes @ ..] = bits.to_be_bytes();
    Ok(bytes)
}
