//! Bytes in several shared pieces with one length: a part, a segment, an init section.
//!
//! Not here: what the bytes mean.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// A list of shared byte ranges read as one. Cheap to clone; payloads are never copied.
#[derive(Clone, Debug, Default)]
pub struct Rope {
    pieces: Arc<[Bytes]>,
    len: u64,
}

impl Rope {
    /// All of `pieces`, in order. Empty pieces are left out.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: Arc<[Bytes]> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, len }
    }

    /// The ropes one after the other.
    pub fn concat<'a>(ropes: impl IntoIterator<Item = &'a Rope>) -> Self {
        Self::new(ropes.into_iter().flat_map(|rope| rope.pieces.iter().cloned()))
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The part of it within `range`, clipped to what is there; shares the bytes.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Self {
        let mut at = 0u64;
        let within = |piece: &Bytes| {
            let (start, end) = (at, at + piece.len() as u64);
            at = end;
            let (from, to) = (range.start.clamp(start, end), range.end.clamp(start, end));
            let offset = |place: u64| usize::try_from(place - start).unwrap_or(piece.len());
            (from < to).then(|| piece.slice(offset(from)..offset(to)))
        };
        Self::new(self.pieces.iter().filter_map(within).collect::<Vec<_>>())
    }

    /// In one piece: a copy, unless there is only one piece.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &*self.pieces {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Self {
        Self::new([bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_the_same_as_the_slice_of_the_whole() {
        let pieces = ["ab", "", "cdefg", "h"].map(|text| Bytes::from_static(text.as_bytes()));
        let rope = Rope::new(pieces);
        let whole = rope.to_bytes();
        assert_eq!((rope.len(), &whole[..]), (8, &b"abcdefgh"[..]));
        for start in 0..=9u64 {
            for end in start..=9 {
                let (from, to) = (start.min(8) as usize, end.min(8) as usize);
                assert_eq!(rope.slice(start..end).to_bytes(), whole[from..to], "{start}..{end}");
            }
        }
    }
}
