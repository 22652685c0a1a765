//! Program tables: sections put together and checked, PAT and PMT read (ISO/IEC 13818-1 §2.4.4).
//!
//! Not here: which program is taken (`demux`).

use super::{Descriptors, StreamCodec};

/// Longest section of a PAT or PMT, header and CRC included.
pub(super) const SECTION_BYTES_MAX: usize = 1_024;
/// Programs of one table that are looked at.
pub(super) const PROGRAMS_MAX: usize = 64;
/// Elementary streams of a program that are looked at.
pub(super) const STREAMS_MAX: usize = 32;

const TABLE_PAT: u8 = 0;
const TABLE_PMT: u8 = 2;
/// Fills a packet behind its last section.
const TABLE_STUFFING: u8 = 0xff;

/// CRC-32/MPEG-2: polynomial 0x04c11db7, most significant bit first, from all ones.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = (index as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                value = if value >> 31 == 1 { value << 1 ^ 0x04c1_1db7 } else { value << 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        let [top, ..] = crc.to_be_bytes();
        let index = usize::from(top ^ byte);
        crc << 8 ^ TABLE.get(index).copied().unwrap_or(0)
    })
}

/// Puts the sections of one PID together. Holds at most one section.
#[derive(Debug, Default)]
pub(super) struct SectionBuffer {
    bytes: Vec<u8>,
    collecting: bool,
}

impl SectionBuffer {
    /// Forgets a section that has been damaged.
    pub(super) fn reset(&mut self) {
        self.bytes.clear();
        self.collecting = false;
    }

    /// Takes a packet's payload and hands each whole section to `section`, damaged ones as
    /// `Err(())`.
    pub(super) fn push(
        &mut self,
        starts: bool,
        payload: &[u8],
        mut section: impl FnMut(Result<&[u8], ()>),
    ) {
        let mut rest = payload;
        if starts {
            let Some((&pointer, after)) = payload.split_first() else { return };
            let Some((tail, after)) = after.split_at_checked(usize::from(pointer)) else {
                self.reset();
                return section(Err(()));
            };
            if self.collecting {
                self.collect(tail, &mut section);
            }
            self.reset();
            self.collecting = true;
            rest = after;
        }
        while self.collecting && !rest.is_empty() {
            if self.bytes.is_empty() && rest.first() == Some(&TABLE_STUFFING) {
                self.collecting = false;
                break;
            }
            rest = self.collect(rest, &mut section);
        }
    }

    /// Takes what the section under way still needs; gives back the rest.
    fn collect<'a>(
        &mut self,
        mut rest: &'a [u8],
        section: &mut impl FnMut(Result<&[u8], ()>),
    ) -> &'a [u8] {
        loop {
            let need = match self.bytes.as_slice() {
                [_, high, low, ..] => 3 + usize::from(u16::from_be_bytes([high & 0x0f, *low])),
                _ => 3,
            };
            if need > SECTION_BYTES_MAX {
                self.reset();
                section(Err(()));
                return &[];
            }
            if self.bytes.len() >= need && need > 3 {
                let sound = crc32(&self.bytes) == 0;
                section(if sound { Ok(&self.bytes) } else { Err(()) });
                self.bytes.clear();
                return rest;
            }
            if self.bytes.len() >= 3 && need == 3 {
                self.reset();
                section(Err(()));
                return &[];
            }
            let Some((taken, after)) =
                rest.split_at_checked((need - self.bytes.len()).min(rest.len()))
            else {
                return &[];
            };
            if taken.is_empty() {
                return &[];
            }
            self.bytes.extend_from_slice(taken);
            rest = after;
        }
    }
}

/// A program as the PAT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) number: u16,
    pub(super) pmt_pid: u16,
}

/// One section of a PAT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pat {
    pub(super) programs: Vec<Program>,
    /// `section_number`.
    pub(super) section: u8,
    /// `last_section_number`.
    pub(super) last_section: u8,
}

/// An elementary stream as the PMT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Elementary {
    pub(super) pid: u16,
    pub(super) stream_type: u8,
    /// A codec that is carried, or the name of one that is not.
    pub(super) codec: Result<StreamCodec, &'static str>,
}

/// A PMT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pmt {
    /// On which PID it came.
    pub(super) pid: u16,
    pub(super) program: u16,
    pub(super) streams: Vec<Elementary>,
}

/// What a section of this table that is in force holds: its extension number, its own number and
/// the last one's, and the bytes between header and CRC.
fn body(section: &[u8], table: u8) -> Option<(u16, [u8; 2], &[u8])> {
    let [id, _, _, high, low, version, number, last, rest @ ..] = section else { return None };
    let current = version & 1 != 0;
    let body = rest.get(..rest.len().checked_sub(4)?)?;
    let extension = u16::from_be_bytes([*high, *low]);
    (*id == table && current).then_some((extension, [*number, *last], body))
}

/// Reads a PAT section whose CRC has been checked; none when it is another table or not in force.
pub(super) fn pat(section: &[u8]) -> Option<Pat> {
    let (_, [section, last_section], body) = body(section, TABLE_PAT)?;
    let (entries, _) = body.as_chunks::<4>();
    let programs = entries.iter().map(|[a, b, c, d]| Program {
        number: u16::from_be_bytes([*a, *b]),
        pmt_pid: u16::from_be_bytes([c & 0x1f, *d]),
    });
    // Program 0 names the network table.
    let programs = programs.filter(|program| program.number != 0).take(PROGRAMS_MAX).collect();
    Some(Pat { programs, section, last_section })
}

/// Reads a PMT section whose CRC has been checked; none when it is another table, not in force or
/// its lengths contradict each other.
pub(super) fn pmt(pid: u16, section: &[u8]) -> Option<Pmt> {
    let (program, _, body) = body(section, TABLE_PMT)?;
    let [_, _, high, low, rest @ ..] = body else { return None };
    let mut rest = rest.get(usize::from(u16::from_be_bytes([high & 0x0f, *low]))..)?;
    let mut streams: Vec<Elementary> = Vec::new();
    while let [stream_type, pid_high, pid_low, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([high & 0x0f, *low]));
        let (descriptors, after) = after.split_at_checked(length)?;
        rest = after;
        let stream = u16::from_be_bytes([pid_high & 0x1f, *pid_low]);
        let known = streams.iter().any(|known| known.pid == stream);
        if streams.len() < STREAMS_MAX && !known {
            let codec = codec(*stream_type, Descriptors(descriptors));
            streams.push(Elementary { pid: stream, stream_type: *stream_type, codec });
        }
    }
    Some(Pmt { pid, program, streams })
}

/// The codec of a stream type (ISO/IEC 13818-1 table 2-34, ATSC A/53, ETSI EN 300 468 Annex D).
fn codec(stream_type: u8, descriptors: Descriptors<'_>) -> Result<StreamCodec, &'static str> {
    Err(match stream_type {
        0x1b => return Ok(StreamCodec::H264),
        0x24 => return Ok(StreamCodec::H265),
        0x0f => return Ok(StreamCodec::AacAdts),
        0x06 => match descriptors.private() {
            Ok(channels) => return Ok(StreamCodec::Opus { channels }),
            Err(name) => name,
        },
        0x01 => "MPEG-1 video",
        0x02 => "MPEG-2 video",
        0x03 => "MPEG-1 audio (MP2 or MP3)",
        0x04 => "MPEG-2 audio (MP2)",
        0x10 => "MPEG-4 part 2 video",
        0x11 => "AAC in LATM",
        0x1c => "raw MPEG-4 audio",
        0x20 => "H.264 multi-view",
        0x21 => "JPEG 2000",
        0x33 => "H.266",
        0x81 => "AC-3",
        0x83 => "LPCM or TrueHD",
        0x82 | 0x85 | 0x8a => "DTS",
        0x87 | 0x84 => "E-AC-3",
        0x05 | 0x15 => "private sections or metadata",
        0x86 => "SCTE-35",
        0x80 | 0x88..=0xff => "private data",
        _ => "unknown data",
    })
}

impl Descriptors<'_> {
    /// Tag and body of each descriptor.
    fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let [tag, length, after @ ..] = rest else { return None };
            let (body, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            Some((*tag, body))
        })
    }

    /// What private data is: the channels of Opus (registration descriptor `Opus` and
    /// extension descriptor 0x80), or the name of something that is not carried.
    fn private(&self) -> Result<u8, &'static str> {
        let (mut opus, mut channels, mut name) = (false, 2, "private data");
        for (tag, body) in self.iter() {
            match (tag, body) {
                (0x05, [b'O', b'p', b'u', b's', ..]) => opus = true,
                (0x05, [b'A', b'V', b'0', b'1', ..]) => name = "AV1",
                (0x05, [b'A', b'C', b'-', b'3', ..]) | (0x6a, _) => name = "AC-3",
                (0x05, [b'E', b'A', b'C', b'3', ..]) | (0x7a, _) => name = "E-AC-3",
                (0x7f, [0x80, code, ..]) => channels = *code,
                (0x56, _) => name = "teletext",
                (0x59, _) => name = "DVB subtitles",
                _ => {}
            }
        }
        match channels {
            _ if !opus => Err(name),
            1 | 2 => Ok(channels),
            // 0 is dual mono; more channels need a mapping that nothing downstream carries.
            0 => Ok(2),
            _ => Err("Opus with more than two channels"),
        }
    }
}
