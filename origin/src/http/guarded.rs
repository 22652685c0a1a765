//! An answer's body with something that lives as long as it is being sent.
//!
//! Not here: what that is for (`idle`, `stall`).

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Lives with a body.
pub(super) trait Guard: Send + Unpin + 'static {
    /// The body was asked for more; `gave` says whether it had something, be it its end.
    fn asked(&mut self, gave: bool) {
        let _ = gave;
    }
}

/// `body`, with `guard` for as long as it is sent.
pub(super) fn guarded(body: Body, guard: impl Guard) -> Body {
    Body::new(Guarded { body, guard })
}

struct Guarded<G> {
    body: Body,
    guard: G,
}

impl<G: Guard> HttpBody for Guarded<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.guard.asked(polled.is_ready());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
