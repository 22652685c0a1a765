//! A strict reader of init sections and fragments, for tests: it refuses whatever CMAF does not
//! allow or [`super`] would never write, so that a mistake shows as an error and not as silence.
//!
//! Not here: files of other writers, playback.

use std::ops::Range;

use thiserror::Error;

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ReadError(pub String);

type Result<T> = std::result::Result<T, ReadError>;

fn error<T>(text: impl Into<String>) -> Result<T> {
    Err(ReadError(text.into()))
}

fn ensure(condition: bool, text: &str) -> Result<()> {
    if condition { Ok(()) } else { error(text) }
}

/// What an init section says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// Major brand, then the compatible brands.
    pub brands: Vec<[u8; 4]>,
    /// The track's number.
    pub track_id: u32,
    /// Ticks a second.
    pub timescale: u32,
    /// `vide` or `soun`.
    pub handler: [u8; 4],
    /// The sample entry's four characters: `avc1`, `mp4a`, …
    pub codec: [u8; 4],
    /// The four characters of the configuration record: `avcC`, `esds`, …
    pub record_type: [u8; 4],
    /// The configuration record's body.
    pub record: Vec<u8>,
    /// Width and height; 0 for audio.
    pub size: (u16, u16),
    /// Channels and sample rate; 0 for video.
    pub audio: (u16, u32),
}

/// One sample of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Decoding time in ticks.
    pub dts: u64,
    /// Composition (presentation) time in ticks.
    pub pts: i64,
    /// In ticks.
    pub duration: u32,
    /// Whether decoding can start here.
    pub sync: bool,
    /// Where its bytes are in the input.
    pub data: Range<usize>,
}

/// One `moof` with its `mdat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFragment {
    /// Of `mfhd`.
    pub sequence_number: u32,
    /// Where the fragment is in the input.
    pub bytes: Range<usize>,
    /// Its samples in order.
    pub samples: Vec<Sample>,
}

impl ReadFragment {
    /// End of the last sample on the decoding timeline.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.samples.last().map_or(0, |sample| sample.dts + u64::from(sample.duration))
    }
}

/// A box: type, and where its body is in the input.
struct Atom {
    kind: [u8; 4],
    body: Range<usize>,
}

/// Reads numbers in order from a range of the input.
struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn new(input: &'a [u8], range: Range<usize>) -> Self {
        Self { input, at: range.start, end: range.end.min(input.len()) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.end);
        let taken = end.and_then(|end| self.input.get(self.at..end));
        let Some(taken) = taken else { return error(format!("cut short at byte {}", self.at)) };
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn version_flags(&mut self) -> Result<(u8, u32)> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0x00ff_ffff))
    }

    fn is_done(&self) -> bool {
        self.at >= self.end
    }

    fn done(&self, what: &str) -> Result<()> {
        ensure(self.at == self.end, &format!("{what} has {} surplus bytes", self.end - self.at))
    }

    fn atom(&mut self) -> Result<Atom> {
        let size = self.u32()? as usize;
        let kind = self.array()?;
        ensure(size >= 8, &format!("{} has size {size}", name(kind)))?;
        let start = self.at;
        self.take(size - 8)?;
        Ok(Atom { kind, body: start..self.at })
    }
}

fn name(kind: [u8; 4]) -> String {
    String::from_utf8_lossy(&kind).into_owned()
}

/// The children of a range, which must be of exactly these types in this order.
fn children<const N: usize>(
    input: &[u8],
    range: Range<usize>,
    kinds: [&[u8; 4]; N],
) -> Result<[Range<usize>; N]> {
    let mut reader = Reader::new(input, range);
    let mut out = [const { 0..0 }; N];
    for (kind, place) in kinds.into_iter().zip(&mut out) {
        let atom = reader.atom()?;
        if atom.kind != *kind {
            return error(format!("{} where {} belongs", name(atom.kind), name(*kind)));
        }
        *place = atom.body;
    }
    reader.done("a container box")?;
    Ok(out)
}

/// Reads an init section.
///
/// # Errors
/// Says the first thing that is wrong.
pub fn read_init(input: &[u8]) -> Result<Init> {
    let [ftyp, moov] = children(input, 0..input.len(), [b"ftyp", b"moov"])?;
    let mut reader = Reader::new(input, ftyp);
    let mut brands = vec![reader.array()?];
    reader.u32()?;
    while !reader.is_done() {
        brands.push(reader.array()?);
    }
    ensure(brands.get(1..).is_some_and(|list| list.contains(b"cmfc")), "brand cmfc is absent")?;
    let [mvhd, trak, mvex] = children(input, moov, [b"mvhd", b"trak", b"mvex"])?;
    let mut reader = Reader::new(input, mvhd);
    ensure(reader.version_flags()? == (0, 0), "mvhd version or flags")?;
    reader.take(8)?;
    let movie_timescale = reader.u32()?;
    ensure(reader.u32()? == 0, "mvhd has a duration")?;
    let [trex] = children(input, mvex, [b"trex"])?;
    let mut reader = Reader::new(input, trex);
    reader.version_flags()?;
    let track_id = reader.u32()?;
    ensure(reader.take(16)? == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "trex defaults")?;
    reader.done("trex")?;

    let [tkhd, mdia] = children(input, trak, [b"tkhd", b"mdia"])?;
    let mut reader = Reader::new(input, tkhd);
    ensure(reader.version_flags()? == (0, 7), "tkhd version or flags")?;
    reader.take(8)?;
    ensure(reader.u32()? == track_id, "tkhd and trex name different tracks")?;
    reader.take(60)?;
    let shown = (reader.u32()?, reader.u32()?);
    reader.done("tkhd")?;
    let [mdhd, hdlr, minf] = children(input, mdia, [b"mdhd", b"hdlr", b"minf"])?;
    let mut reader = Reader::new(input, mdhd);
    reader.take(12)?;
    let timescale = reader.u32()?;
    ensure(timescale != 0 && timescale == movie_timescale, "timescales")?;
    reader.take(8)?;
    reader.done("mdhd")?;
    let mut reader = Reader::new(input, hdlr);
    reader.take(8)?;
    let handler = reader.array()?;
    let header: &[u8; 4] = if handler == *b"vide" { b"vmhd" } else { b"smhd" };
    let [_, _, stbl] = children(input, minf, [header, b"dinf", b"stbl"])?;
    let [stsd, stts, stsc, stsz, stco] =
        children(input, stbl, [b"stsd", b"stts", b"stsc", b"stsz", b"stco"])?;
    for (table, size) in [(stts, 8), (stsc, 8), (stsz, 12), (stco, 8)] {
        let empty = input.get(table).is_some_and(|b| b.len() == size && b.iter().all(|&b| b == 0));
        ensure(empty, "a sample table that is not empty")?;
    }
    let mut init = Init {
        brands,
        track_id,
        timescale,
        handler,
        codec: [0; 4],
        record_type: [0; 4],
        record: Vec::new(),
        size: (0, 0),
        audio: (0, 0),
    };
    sample_description(input, stsd, &mut init)?;
    let size = (u32::from(init.size.0) << 16, u32::from(init.size.1) << 16);
    ensure(shown == size, "tkhd and the sample entry differ in size")?;
    Ok(init)
}

fn sample_description(input: &[u8], stsd: Range<usize>, init: &mut Init) -> Result<()> {
    let mut reader = Reader::new(input, stsd);
    reader.version_flags()?;
    ensure(reader.u32()? == 1, "stsd does not have one entry")?;
    let entry = reader.atom()?;
    reader.done("stsd")?;
    init.codec = entry.kind;
    let mut reader = Reader::new(input, entry.body);
    ensure(reader.take(8)? == [0, 0, 0, 0, 0, 0, 0, 1], "data reference")?;
    if init.handler == *b"vide" {
        reader.take(16)?;
        init.size = (reader.u16()?, reader.u16()?);
        reader.take(50)?;
    } else {
        reader.take(8)?;
        init.audio.0 = reader.u16()?;
        reader.take(6)?;
        init.audio.1 = reader.u32()? >> 16;
    }
    let record = reader.atom()?;
    reader.done("the sample entry")?;
    init.record_type = record.kind;
    init.record = input.get(record.body).unwrap_or_default().to_vec();
    Ok(())
}

/// Reads the fragments of one or more parts, one after another. The decoding times of a segment
/// must follow one another without a gap.
///
/// # Errors
/// Says the first thing that is wrong.
pub fn read_fragments(init: &Init, input: &[u8]) -> Result<Vec<ReadFragment>> {
    let mut reader = Reader::new(input, 0..input.len());
    let mut fragments: Vec<ReadFragment> = Vec::new();
    while !reader.is_done() {
        let start = reader.at;
        let moof = reader.atom()?;
        ensure(moof.kind == *b"moof", "a fragment does not begin with moof")?;
        let mdat = reader.atom()?;
        ensure(mdat.kind == *b"mdat", "no mdat behind moof")?;
        let fragment = movie_fragment(init, input, start, moof.body, mdat.body)?;
        if let Some(last) = fragments.last() {
            let first = fragment.samples.first().map_or(0, |sample| sample.dts);
            ensure(first >= last.end(), "decoding times overlap between fragments")?;
        }
        fragments.push(fragment);
    }
    Ok(fragments)
}

fn movie_fragment(
    init: &Init,
    input: &[u8],
    start: usize,
    moof: Range<usize>,
    mdat: Range<usize>,
) -> Result<ReadFragment> {
    let [mfhd, traf] = children(input, moof, [b"mfhd", b"traf"])?;
    let mut reader = Reader::new(input, mfhd);
    reader.version_flags()?;
    let sequence_number = reader.u32()?;
    reader.done("mfhd")?;
    let [tfhd, tfdt, trun] = children(input, traf, [b"tfhd", b"tfdt", b"trun"])?;
    let mut reader = Reader::new(input, tfdt);
    ensure(reader.version_flags()? == (1, 0), "tfdt version or flags")?;
    let dts = reader.u64()?;
    reader.done("tfdt")?;

    let mut reader = Reader::new(input, tfhd);
    let (_, flags) = reader.version_flags()?;
    ensure(flags & !0x02_0038 == 0 && flags & 0x02_0000 != 0, "tfhd flags")?;
    ensure(reader.u32()? == init.track_id, "tfhd names another track")?;
    let mut default = |bit: u32| if flags & bit != 0 { reader.u32().map(Some) } else { Ok(None) };
    let defaults = Defaults { duration: default(8)?, size: default(16)?, flags: default(32)? };
    reader.done("tfhd")?;

    let samples = samples(input, start, trun, &mdat, dts, &defaults)?;
    Ok(ReadFragment { sequence_number, bytes: start..mdat.end, samples })
}

struct Defaults {
    duration: Option<u32>,
    size: Option<u32>,
    flags: Option<u32>,
}

fn samples(
    input: &[u8],
    start: usize,
    trun: Range<usize>,
    mdat: &Range<usize>,
    mut dts: u64,
    defaults: &Defaults,
) -> Result<Vec<Sample>> {
    let mut reader = Reader::new(input, trun);
    let (version, columns) = reader.version_flags()?;
    ensure(version == 1 && columns & !0x0f05 == 0 && columns & 1 != 0, "trun version or flags")?;
    let count = reader.u32()?;
    ensure(count > 0, "a fragment without samples")?;
    let mut at = start + reader.u32()? as usize;
    ensure(at == mdat.start, "the data offset does not point at the mdat's body")?;
    ensure(columns & 0x0404 != 0x0404, "both first-sample flags and a column of flags")?;
    let first_flags = if columns & 4 != 0 { Some(reader.u32()?) } else { None };
    let mut samples = Vec::new();
    for index in 0..count {
        let mut value = |bit: u32, default: Option<u32>, what: &str| match default {
            _ if columns & bit != 0 => reader.u32(),
            Some(default) => Ok(default),
            None => error(format!("no {what} in trun and no default in tfhd")),
        };
        let duration = value(0x100, defaults.duration, "duration")?;
        let size = value(0x200, defaults.size, "size")? as usize;
        let default = if index == 0 { first_flags.or(defaults.flags) } else { defaults.flags };
        let flags = value(0x400, default, "flags")?;
        let composition = value(0x800, Some(0), "composition")?.cast_signed();
        let sync = match flags {
            0x0200_0000 => true,
            0x0101_0000 => false,
            _ => return error(format!("sample flags {flags:08x}")),
        };
        let data = at..at + size;
        let pts = i64::try_from(dts).unwrap_or(i64::MAX) + i64::from(composition);
        samples.push(Sample { dts, pts, duration, sync, data });
        at += size;
        dts += u64::from(duration);
    }
    reader.done("trun")?;
    ensure(at == mdat.end, "the samples do not fill the mdat")?;
    Ok(samples)
}
