//! Answers that come before any request is understood: the listener is full, or what came is not
//! HTTP. The library behind the listener answers the latter with a bare head; here it gets the
//! body and the `Server` that all our errors have.
//!
//! Not here: errors of requests that were read (`problem`), HTTP/2, whose errors are frames.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::problem::PROBLEM_TYPE;

/// One answer, whole, after which the connection ends.
fn answer(status: &str, slug: &str, title: &str, detail: &str, more: &str) -> Vec<u8> {
    let code: u16 = status.get(..3).and_then(|code| code.parse().ok()).unwrap_or(400);
    let body = serde_json::json!({
        "type": slug, "title": title, "status": code, "detail": detail,
    })
    .to_string();
    format!(
        "HTTP/1.1 {status}\r\nServer: headwater/{version}\r\nContent-Type: {PROBLEM_TYPE}\r\n\
         Cache-Control: no-store\r\n{more}Connection: close\r\nContent-Length: {length}\r\n\r\n\
         {body}",
        version = env!("CARGO_PKG_VERSION"),
        length = body.len(),
    )
    .into_bytes()
}

/// What a full listener says before it hangs up.
pub(super) fn full() -> Vec<u8> {
    answer(
        "503 Service Unavailable",
        "too-many-connections",
        "Too many connections",
        "the node has as many HTTP connections as it may ([limits] http_connections): try again \
         in a moment",
        "Retry-After: 2\r\n",
    )
}

/// Our words for a bare head of the library; none for everything else.
fn words_for(written: &[u8], header_bytes_max: u32) -> Option<Vec<u8>> {
    // Cheap, since all that is sent passes here: `HTTP/1.1 4xx`, and nothing after the head.
    if written.get(..7) != Some(b"HTTP/1.") || written.get(9) != Some(&b'4') {
        return None;
    }
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    let ours = |line: &str| line.to_ascii_lowercase().starts_with("server:");
    if head.contains("\r\n\r\n") || head.split("\r\n").any(ours) {
        return None;
    }
    match head.get(9..12)? {
        "400" => Some(answer(
            "400 Bad Request",
            "malformed-request",
            "Malformed request",
            "what came is not an HTTP request that this node can read",
            "",
        )),
        "414" => Some(answer(
            "414 URI Too Long",
            "uri-too-long",
            "Address too long",
            "the request's path and query are too long",
            "",
        )),
        "431" => Some(answer(
            "431 Request Header Fields Too Large",
            "header-too-large",
            "Header too large",
            &format!("a request's header may have {header_bytes_max} bytes and 100 fields at most"),
            "",
        )),
        _ => None,
    }
}

/// A connection whose bare errors get words. Everything else passes untouched.
pub(super) struct Worded<T> {
    inner: T,
    /// Bytes that were read from it before.
    unread: Bytes,
    header_bytes_max: u32,
    /// All that was given here has been sent: what comes next begins an answer.
    between: bool,
    /// Words that are on their way; nothing may follow them.
    words: Option<(Vec<u8>, usize)>,
}

impl<T: Write + Unpin> Worded<T> {
    /// `unread` was read from `inner` already, and comes first.
    pub(super) fn new(inner: T, unread: Bytes, header_bytes_max: u32) -> Self {
        Self { inner, unread, header_bytes_max, between: true, words: None }
    }

    /// Takes what is to be written; true when words go in its place.
    fn takes(&mut self, written: &[u8]) -> io::Result<bool> {
        if self.words.is_some() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if !std::mem::replace(&mut self.between, false) {
            return Ok(false);
        }
        self.words = words_for(written, self.header_bytes_max).map(|words| (words, 0));
        if self.words.is_some() {
            metrics::counter!("headwater_http_malformed_total").increment(1);
        }
        Ok(self.words.is_some())
    }

    fn poll_words(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((words, sent)) = &mut self.words else { return Poll::Ready(Ok(())) };
        while let Some(rest) = words.get(*sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Read + Unpin> Read for Worded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let room = buffer.remaining().min(self.unread.len());
            buffer.put_slice(&self.unread.split_to(room));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for Worded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.takes(bytes)? {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A bare head comes alone.
        let alone = match slices {
            [one] => one,
            _ => &[][..],
        };
        if self.takes(alone)? {
            return Poll::Ready(Ok(alone.len()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_words(context))?;
        self.between = true;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_words(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_heads_of_errors_get_words() {
        let words = |text: &str| words_for(text.as_bytes(), 1_000);
        let bare = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let worded = String::from_utf8(words(bare).unwrap()).unwrap();
        let (head, body) = worded.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nServer: headwater/"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&json["type"], &json["status"]), (&"malformed-request".into(), &400.into()));
        for other in [
            "",
            "HTTP/1.1 4",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nserver: headwater/1\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\n\r\nmore",
            "HTTP/1.1 400 Bad Request\r\n\r\nmore\r\n\r\n",
        ] {
            assert_eq!(words(other), None, "{other:?}");
        }
    }
}
