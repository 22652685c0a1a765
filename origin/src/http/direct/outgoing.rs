//! An answer on its way: head and body in shared pieces, taken by the socket in one call where it
//! has room. Pure.
//!
//! Not here: the socket (`connection`).

use std::io::IoSlice;

use bytes::Bytes;

/// Pieces that are handed to the system at a time. A part has one for each frame and a few more.
const PIECES_MAX: usize = 64;

/// Bytes that are still to be sent.
pub(super) struct Outgoing<'a> {
    head: &'a [u8],
    body: &'a [Bytes],
    /// Pieces that are sent whole, the head being the first.
    whole: usize,
    /// Bytes of the next that are sent.
    within: usize,
}

impl<'a> Outgoing<'a> {
    /// All of them.
    pub(super) fn new(head: &'a [u8], body: &'a [Bytes]) -> Self {
        Self { head, body, whole: 0, within: 0 }
    }

    fn left(&self) -> impl Iterator<Item = &'a [u8]> {
        let body = self.body.iter().map(|piece| &**piece);
        let mut within = self.within;
        std::iter::once(self.head).chain(body).skip(self.whole).map(move |piece| {
            let sent = std::mem::take(&mut within);
            piece.get(sent..).unwrap_or_default()
        })
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.whole > self.body.len()
    }

    /// Shows `take` the next pieces.
    pub(super) fn with<R>(&self, take: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(self.left()) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        take(slices.get(..count).unwrap_or_default())
    }

    /// Notes that so many bytes more are sent.
    pub(super) fn sent(&mut self, mut bytes: usize) {
        let mut whole = 0;
        let mut within = self.within;
        for piece in self.left() {
            match bytes.checked_sub(piece.len()) {
                Some(more) => {
                    bytes = more;
                    whole += 1;
                    within = 0;
                }
                None => {
                    within += bytes;
                    break;
                }
            }
        }
        self.whole += whole;
        self.within = within;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_sent_once_in_order_however_few_are_taken_at_a_time() {
        let pieces = (0..200_u8).map(|n| Bytes::from(vec![n; usize::from(n % 7) + 1]));
        let body: Vec<Bytes> = pieces.collect();
        let head = b"head";
        let expected = [&head[..], &body.concat()].concat();
        for at_once in [1, 2, 3, 5, 64, 1_000, 100_000] {
            let mut out = Outgoing::new(head, &body);
            let mut sent = Vec::new();
            while !out.is_done() {
                let before = sent.len();
                out.with(|slices| {
                    assert!(slices.len() <= PIECES_MAX);
                    let all = slices.iter().flat_map(|slice| slice.iter().copied());
                    sent.extend(all.take(at_once));
                });
                assert!(sent.len() > before);
                out.sent(sent.len() - before);
            }
            assert_eq!(sent, expected, "{at_once}");
        }
    }

    #[test]
    fn an_answer_without_a_body_is_its_head() {
        let mut out = Outgoing::new(b"ab", &[]);
        out.with(|slices| assert_eq!(slices.len(), 1));
        out.sent(2);
        assert!(out.is_done());
    }
}
