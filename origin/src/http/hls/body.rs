//! A response body of shared bytes with a known length.
//!
//! Not here: which bytes (`serve`).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::packager::Rope;

/// The body of every answer under `/hls/`: a rope that is sent piece by piece, never copied.
#[derive(Debug, Default)]
pub struct HlsBody {
    rope: Rope,
    next: usize,
    left: u64,
}

impl HlsBody {
    /// All of `rope`.
    #[must_use]
    pub fn new(rope: Rope) -> Self {
        Self { left: rope.len(), rope, next: 0 }
    }

    /// All of it, whatever was read as a body already.
    pub(in crate::http) fn rope(&self) -> &Rope {
        &self.rope
    }
}

impl Body for HlsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.rope.pieces().get(self.next).cloned();
        if let Some(piece) = &piece {
            self.next += 1;
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
