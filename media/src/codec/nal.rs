//! NAL units: Annex B byte streams and length-prefixed access units.
//!
//! Not here: what a NAL unit means (`h264`, `h265`).

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::CodecError;

/// NAL units in one access unit at most. The codecs' levels allow some hundred slices a picture;
/// the rest is room for SEI and filler. It bounds what a stream of empty units can cost.
pub const UNITS_MAX: usize = 4_096;

/// Length of a parameter set at most, in bytes. One with every scaling list and HRD field has less
/// than 2 KiB.
pub const PARAMETER_SET_BYTES_MAX: usize = 4_096;

/// The length prefixes that Headwater writes.
const LENGTH_SIZE: usize = 4;

/// The position of the next `00 00 01` at or after `from`.
fn start_code(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(&[first, second, third]) = data.get(at..).and_then(|rest| rest.first_chunk()) {
        match third {
            0 => at += 1,
            1 if first == 0 && second == 0 => return Some(at),
            _ => at += 3,
        }
    }
    None
}

/// Walks the NAL units of an Annex B byte stream (ITU-T H.264 Annex B) as byte ranges; made by
/// [`annex_b_ranges`].
#[derive(Clone, Debug)]
pub struct AnnexBRanges<'a> {
    data: &'a [u8],
    /// First byte of the next unit.
    next: Option<usize>,
}

impl Iterator for AnnexBRanges<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let start = self.next?;
            let code = start_code(self.data, start);
            self.next = code.map(|at| at + 3);
            let end = code.unwrap_or(self.data.len());
            let unit = self.data.get(start..end)?;
            let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
            if zeros < unit.len() {
                return Some(start..end - zeros);
            }
        }
    }
}

/// The NAL units of an Annex B byte stream as byte ranges of `data`: start codes of three and four
/// bytes, trailing zeros taken off, empty units and bytes before the first start code left out.
#[must_use]
pub fn annex_b_ranges(data: &[u8]) -> AnnexBRanges<'_> {
    AnnexBRanges { data, next: start_code(data, 0).map(|at| at + 3) }
}

/// The NAL units of an Annex B byte stream; see [`annex_b_ranges`].
pub fn annex_b_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    annex_b_ranges(data).filter_map(move |range| data.get(range))
}

/// The NAL units of a length-prefixed access unit (ISO/IEC 14496-15) as byte ranges of `data`,
/// empty ones left out.
///
/// # Errors
/// `length_size` is not 1, 2 or 4, a unit reaches past the end, or there are more than
/// [`UNITS_MAX`].
pub fn length_prefixed_ranges(
    data: &[u8],
    length_size: u8,
) -> Result<Vec<Range<usize>>, CodecError> {
    let mut ranges = Vec::new();
    split_length_prefixed(data, length_size, &mut ranges)?;
    Ok(ranges)
}

/// The NAL units of a length-prefixed access unit; see [`length_prefixed_ranges`].
///
/// # Errors
/// As [`length_prefixed_ranges`].
pub fn length_prefixed_units(data: &[u8], length_size: u8) -> Result<Vec<&[u8]>, CodecError> {
    let ranges = length_prefixed_ranges(data, length_size)?;
    Ok(ranges.into_iter().filter_map(|range| data.get(range)).collect())
}

fn push_range(ranges: &mut Vec<Range<usize>>, range: Range<usize>) -> Result<(), CodecError> {
    if ranges.len() >= UNITS_MAX {
        let value = ranges.len() as u64 + 1;
        return Err(CodecError::Invalid { what: "NAL units in an access unit", value });
    }
    ranges.push(range);
    Ok(())
}

/// As [`annex_b_ranges`], into a vector that is used again, with the cap of [`UNITS_MAX`].
pub(super) fn split_annex_b(data: &[u8], into: &mut Vec<Range<usize>>) -> Result<(), CodecError> {
    into.clear();
    annex_b_ranges(data).try_for_each(|range| push_range(into, range))
}

/// As [`length_prefixed_ranges`], into a vector that is used again.
pub(super) fn split_length_prefixed(
    data: &[u8],
    length_size: u8,
    into: &mut Vec<Range<usize>>,
) -> Result<(), CodecError> {
    const WHAT: &str = "length-prefixed NAL unit";
    if !matches!(length_size, 1 | 2 | 4) {
        let value = length_size.into();
        return Err(CodecError::Invalid { what: "NAL length size", value });
    }
    into.clear();
    let mut at = 0usize;
    while at < data.len() {
        let start = at + usize::from(length_size);
        let prefix = data.get(at..start).ok_or(CodecError::Truncated(WHAT))?;
        let length = prefix.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        let end = start.saturating_add(length);
        if end > data.len() {
            return Err(CodecError::Truncated(WHAT));
        }
        if length > 0 {
            push_range(into, start..end)?;
        }
        at = end;
    }
    Ok(())
}

/// Writes NAL units, each with a 4-byte length, into one buffer, copying each once.
#[derive(Debug, Default)]
pub struct AccessUnitBuilder {
    out: BytesMut,
}

impl AccessUnitBuilder {
    /// An empty access unit with room for `bytes`, length prefixes included.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: BytesMut::with_capacity(bytes) }
    }

    /// Appends a NAL unit; an empty one is left out.
    ///
    /// # Errors
    /// The unit has 2^32 bytes or more.
    pub fn push(&mut self, unit: &[u8]) -> Result<(), CodecError> {
        if unit.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(unit.len()).map_err(|_| CodecError::Invalid {
            what: "NAL unit length",
            value: unit.len() as u64,
        })?;
        self.out.put_u32(length);
        self.out.put_slice(unit);
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The access unit.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// An Annex B byte stream as length-prefixed units (4-byte lengths), copied once.
///
/// # Errors
/// A unit has 2^32 bytes or more.
pub fn annex_b_to_length_prefixed(data: &[u8]) -> Result<Bytes, CodecError> {
    let bytes = annex_b_ranges(data).map(|range| LENGTH_SIZE + range.len()).sum();
    let mut builder = AccessUnitBuilder::with_capacity(bytes);
    annex_b_units(data).try_for_each(|unit| builder.push(unit))?;
    Ok(builder.finish())
}

/// A length-prefixed access unit (4-byte lengths) as an Annex B byte stream with 4-byte start
/// codes.
///
/// # Errors
/// As [`length_prefixed_ranges`].
pub fn length_prefixed_to_annex_b(data: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(data.len());
    for unit in length_prefixed_units(data, 4)? {
        out.extend([0, 0, 0, 1]);
        out.extend(unit);
    }
    Ok(out)
}

/// A NAL unit without its emulation prevention bytes (ITU-T H.264 §7.4.1): the header bytes and
/// the RBSP, of the unit's first `max` bytes.
#[must_use]
pub fn unescape(unit: &[u8], max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len().min(max));
    let mut zeros = 0;
    for &byte in unit.iter().take(max) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// The bytes of an access unit as they came.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// With start codes.
    AnnexB(&'a [u8]),
    /// With length prefixes of this many bytes.
    LengthPrefixed(&'a Bytes, u8),
}

impl<'a> Source<'a> {
    pub(super) fn data(self) -> &'a [u8] {
        match self {
            Self::AnnexB(data) => data,
            Self::LengthPrefixed(data, _) => data,
        }
    }

    pub(super) fn split(self, into: &mut Vec<Range<usize>>) -> Result<(), CodecError> {
        match self {
            Self::AnnexB(data) => split_annex_b(data, into),
            Self::LengthPrefixed(data, size) => split_length_prefixed(data, size, into),
        }
    }

    /// The units at `ranges` for which `keep` is true, with 4-byte lengths. Units that are so
    /// already and lie side by side are shared, not copied.
    pub(super) fn join(
        self,
        ranges: &[Range<usize>],
        keep: impl Fn(&[u8]) -> bool,
    ) -> Result<Bytes, CodecError> {
        let data = self.data();
        let kept = || {
            let units = ranges.iter().filter_map(|range| Some((range, data.get(range.clone())?)));
            units.filter(|(_, unit)| keep(unit))
        };
        if let Self::LengthPrefixed(whole, 4) = self
            && let Some(shared) = contiguous(kept().map(|(range, _)| range))
        {
            return Ok(whole.slice(shared));
        }
        let bytes = kept().map(|(range, _)| LENGTH_SIZE + range.len()).sum();
        let mut builder = AccessUnitBuilder::with_capacity(bytes);
        kept().try_for_each(|(_, unit)| builder.push(unit))?;
        Ok(builder.finish())
    }
}

/// The bytes from the first unit's length prefix to the last unit's end, when nothing else lies
/// between.
fn contiguous<'r>(mut ranges: impl Iterator<Item = &'r Range<usize>>) -> Option<Range<usize>> {
    let first = ranges.next()?;
    let mut end = first.end;
    for range in ranges {
        if range.start != end + LENGTH_SIZE {
            return None;
        }
        end = range.end;
    }
    Some(first.start.checked_sub(LENGTH_SIZE)?..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annex_b_units_lose_start_codes_and_trailing_zeros() {
        let cases: [(&[u8], &[&[u8]]); 9] = [
            (&[], &[]),
            (&[0, 0, 1], &[]),
            (&[1, 2, 3], &[]),
            (&[0, 0, 1, 9], &[&[9]]),
            (&[0, 0, 0, 1, 9, 8], &[&[9, 8]]),
            (&[7, 0, 0, 1, 9, 0, 0, 0, 1, 8, 0, 0], &[&[9], &[8]]),
            (&[0, 0, 1, 0, 0, 1, 5], &[&[5]]),
            (&[0, 0, 1, 9, 0, 0, 3, 1, 0, 0, 1, 4], &[&[9, 0, 0, 3, 1], &[4]]),
            (&[0, 0, 0, 0, 0, 1, 9, 0, 1, 0, 0, 2], &[&[9, 0, 1, 0, 0, 2]]),
        ];
        for (data, units) in cases {
            assert_eq!(annex_b_units(data).collect::<Vec<_>>(), units, "{data:?}");
        }
    }

    #[test]
    fn units_survive_the_way_to_length_prefixes_and_back() {
        let annex_b = [0, 0, 0, 1, 9, 16, 0, 0, 0, 1, 0x65, 1, 2, 3];
        let prefixed = annex_b_to_length_prefixed(&annex_b).unwrap();
        assert_eq!(prefixed[..], [0, 0, 0, 2, 9, 16, 0, 0, 0, 4, 0x65, 1, 2, 3]);
        assert_eq!(length_prefixed_to_annex_b(&prefixed).unwrap(), annex_b);
    }

    #[test]
    fn malformed_length_prefixes_are_errors() {
        let cases: [(&[u8], u8, CodecError); 6] = [
            (&[0, 0, 0, 1], 4, CodecError::Truncated("length-prefixed NAL unit")),
            (&[0, 0, 0], 4, CodecError::Truncated("length-prefixed NAL unit")),
            (&[0xff; 9], 4, CodecError::Truncated("length-prefixed NAL unit")),
            (&[2, 1], 1, CodecError::Truncated("length-prefixed NAL unit")),
            (&[0, 0, 1, 1], 3, CodecError::Invalid { what: "NAL length size", value: 3 }),
            (&[], 0, CodecError::Invalid { what: "NAL length size", value: 0 }),
        ];
        for (data, size, error) in cases {
            assert_eq!(length_prefixed_units(data, size), Err(error), "{data:?} by {size}");
        }
        assert_eq!(length_prefixed_units(&[0, 0, 0, 1, 7], 2).unwrap(), [&[7]]);
        let many = [1, 0].repeat(UNITS_MAX + 1);
        assert!(matches!(length_prefixed_units(&many, 1), Err(CodecError::Invalid { .. })));
        assert_eq!(length_prefixed_units(&many[2..], 1).unwrap().len(), UNITS_MAX);
    }

    #[test]
    fn emulation_prevention_bytes_are_taken_out() {
        assert_eq!(unescape(&[1, 0, 0, 3, 1, 0, 0, 3], 9), [1, 0, 0, 1, 0, 0]);
        assert_eq!(unescape(&[0, 0, 3, 0, 0, 3, 0, 3], 9), [0, 0, 0, 0, 0, 3]);
        assert_eq!(unescape(&[5, 6, 7], 2), [5, 6]);
    }

    #[test]
    fn units_side_by_side_are_shared_and_others_copied() {
        let data = Bytes::from_static(&[0, 0, 0, 1, 9, 0, 0, 0, 1, 5, 0, 0, 0, 1, 6]);
        let ranges = length_prefixed_ranges(&data, 4).unwrap();
        let source = Source::LengthPrefixed(&data, 4);
        let tail = source.join(&ranges, |unit| unit != [9]).unwrap();
        assert_eq!(tail[..], data[5..]);
        assert_eq!(tail.as_ptr(), data[5..].as_ptr());
        let ends = source.join(&ranges, |unit| unit != [5]).unwrap();
        assert_eq!(ends[..], [0, 0, 0, 1, 9, 0, 0, 0, 1, 6]);
        assert!(source.join(&ranges, |_| false).unwrap().is_empty());
    }
}
