//! Heads of HTTP/1.1 messages: reads those of plain requests, writes those of answers. Pure.
//!
//! Not here: the grammar of requests (`httparse`), all that is not plain (the library behind
//! `server`), when to read and to write (`connection`).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, StatusCode, Uri};

use crate::http::names::is_host;

/// Fields of a plain request; browsers send about fifteen.
const FIELDS_MAX: usize = 48;
/// Bytes of a plain request's head. A longer one is the library's, whose limit is higher.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;

/// What the bytes of a connection begin with.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "taken apart where it is returned")]
pub(super) enum Read {
    /// A head that is not whole: the bytes again.
    More(Bytes),
    /// A plain request.
    Plain {
        /// The request, which has no body.
        request: Request<()>,
        /// The client wants the connection closed after the answer.
        close: bool,
        /// What follows the head.
        rest: Bytes,
    },
    /// Something else, HTTP/2 or not HTTP at all: the bytes again.
    Other(Bytes),
}

/// Reads a head. Plain is a request by HTTP/1.1 for a path that `takes` says yes to, by a method
/// that has no body, to one host, with nothing in it that changes the connection but
/// `Connection: close`.
pub(super) fn read(unread: Bytes, takes: impl Fn(&str) -> bool) -> Read {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let length = match head.parse_with_uninit_headers(&unread, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if unread.len() < HEAD_BYTES_MAX => {
            return Read::More(unread);
        }
        Ok(httparse::Status::Partial) | Err(_) => return Read::Other(unread),
    };
    match plain(&unread, &head, takes) {
        Some((request, close)) => Read::Plain { request, close, rest: unread.slice(length..) },
        None => Read::Other(unread),
    }
}

fn plain(
    text: &Bytes,
    head: &httparse::Request<'_, '_>,
    takes: impl Fn(&str) -> bool,
) -> Option<(Request<()>, bool)> {
    let path = head.path.filter(|path| takes(path) && head.version == Some(1))?;
    let method = match head.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        "OPTIONS" => Method::OPTIONS,
        _ => return None,
    };
    let mut close = false;
    let mut hosts = 0_u8;
    let mut fields = HeaderMap::with_capacity(head.headers.len());
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        // The value shares the head's bytes.
        let value = HeaderValue::from_maybe_shared(text.slice_ref(field.value)).ok()?;
        if name == CONNECTION {
            close |= closes(&value)?;
        } else if name == HOST {
            hosts = hosts.checked_add(1).filter(|_| value.to_str().is_ok_and(is_host))?;
        } else if [CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, EXPECT].contains(&name) {
            return None;
        }
        fields.try_append(name, value).ok()?;
    }
    // The library's side says what is wrong with another number (RFC 9112 §3.2).
    if hosts != 1 {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_maybe_shared(text.slice_ref(path.as_bytes())).ok()?;
    *request.headers_mut() = fields;
    Some((request, close))
}

/// Whether a `Connection` field asks for the end; none where it asks for anything else.
fn closes(value: &HeaderValue) -> Option<bool> {
    let mut close = false;
    for option in value.to_str().ok()?.split(',').map(str::trim) {
        if option.eq_ignore_ascii_case("close") {
            close = true;
        } else if !option.is_empty() && !option.eq_ignore_ascii_case("keep-alive") {
            return None;
        }
    }
    Some(close)
}

/// Writes the head of an answer to `out`: its own fields, `Date`, and `Connection: close` where the
/// connection ends with it.
pub(super) fn write<'a>(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    date: &str,
    close: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    field(out, b"date", date.as_bytes());
    if close {
        field(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

fn field(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Read {
        read(Bytes::copy_from_slice(text.as_bytes()), |path| path.starts_with("/hls/"))
    }

    #[test]
    fn a_plain_request_is_read_and_what_follows_it_kept() {
        let text =
            "GET /hls/a/index.m3u8?x=1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\n\r\nGET /h";
        let Read::Plain { request, close, rest } = of(text) else { panic!("plain") };
        assert_eq!(
            (request.uri().path(), request.uri().query()),
            ("/hls/a/index.m3u8", Some("x=1"))
        );
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
        assert_eq!((close, &rest[..]), (false, &b"GET /h"[..]));
        for (option, expected) in
            [("close", true), ("keep-alive", false), ("Keep-Alive, Close", true)]
        {
            let text =
                format!("HEAD /hls/a HTTP/1.1\r\nHost: [::1]:80\r\nConnection: {option}\r\n\r\n");
            let Read::Plain { close, .. } = of(&text) else { panic!("{option}") };
            assert_eq!(close, expected, "{option}");
        }
    }

    #[test]
    fn what_is_not_whole_is_waited_for_up_to_a_limit() {
        let whole = "GET /hls/a HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..whole.len() {
            assert!(matches!(of(&whole[..end]), Read::More(_)), "{end}");
        }
        let long = format!("GET /hls/a HTTP/1.1\r\nX: {}", "a".repeat(HEAD_BYTES_MAX));
        let Read::Other(again) = of(&long) else { panic!("too long") };
        assert_eq!(again.len(), long.len(), "nothing is lost");
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_library() {
        let many = "X: 1\r\n".repeat(FIELDS_MAX + 1);
        for text in [
            "nonsense\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET /hls/a HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET /api HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/hls/a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /hls/a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a\r\nHo st: a\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\n folded\r\n\r\n",
            &format!("GET /hls/a HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            "GET /hls/a HTTP/1.1\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET /hls/a HTTP/1.1\r\nHost: a, b\r\n\r\n",
        ] {
            let Read::Other(again) = of(text) else { panic!("{text:?}") };
            assert_eq!(again, text.as_bytes());
        }
    }

    #[test]
    fn an_answers_head_has_its_fields_a_date_and_says_when_it_is_the_last() {
        let length = HeaderValue::from(7);
        let text = |close| {
            let (mut out, fields) = (Vec::new(), [(&CONTENT_LENGTH, &length)]);
            write(&mut out, StatusCode::NOT_FOUND, fields.into_iter(), "now", close);
            String::from_utf8(out).unwrap()
        };
        let head = "HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\ndate: now\r\n";
        assert_eq!(text(false), format!("{head}\r\n"));
        assert_eq!(text(true), format!("{head}connection: close\r\n\r\n"));
    }
}
