//! Answers: media with ranges and conditions, playlists with encodings, problems.
//!
//! Not here: what is asked for (`path`), finding it (`serve`).

use bytes::Bytes;
use headwater_media::MediaKind;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER, SERVER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::body::HlsBody;
use super::negotiate::{self, Ranged};
use crate::packager::snapshot::Snapshot;
use crate::packager::{Encoding, Rope};

/// Methods of every route.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Names are never given to other bytes, so a cache may keep media for as long as it likes; an
/// hour is past the time in which any player asks for a live segment again.
const CACHE_MEDIA: HeaderValue = HeaderValue::from_static("public, max-age=3600, immutable");
/// The newest playlist is asked for: yesterday's answer is of no use.
const CACHE_LIVE: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
/// How long a shared cache may keep the answer to a blocking request, in target durations: RFC
/// 8216bis (appendix B) recommends six.
const SHARED_TARGETS: u32 = 6;
const CACHE_NEVER: HeaderValue = HeaderValue::from_static("no-store");

/// An error answer, `application/problem+json` (RFC 9457).
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) slug: &'static str,
    pub(super) title: &'static str,
    pub(super) detail: String,
    /// Seconds.
    pub(super) retry_after: Option<u32>,
}

impl Failure {
    pub(super) fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, slug, title, detail: detail.into(), retry_after: None }
    }

    pub(super) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub(super) fn into_reply(self) -> Reply {
        let body = json!({
            "type": self.slug,
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let body = Bytes::from(body.to_string());
        let mut reply = Reply::plain(self.status, Rope::from(body));
        let problem = HeaderValue::from_static("application/problem+json");
        reply.with(CONTENT_TYPE, problem);
        reply.with(CACHE_CONTROL, CACHE_NEVER);
        if let Some(seconds) = self.retry_after {
            reply.with(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            reply.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            reply.with(ALLOW, METHODS);
        }
        reply
    }
}

/// Fields of the longest answers: room for them is made once.
const FIELDS: usize = 12;

/// An answer, before it is one of some version of HTTP. Nobody looks a field up, so a list does: a
/// map is too large for what allocators are quick at.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    /// No name comes twice.
    fields: Vec<(HeaderName, HeaderValue)>,
    body: HlsBody,
}

impl Reply {
    /// An answer with the fields that all have.
    fn plain(status: StatusCode, rope: Rope) -> Self {
        let mut fields = Vec::with_capacity(FIELDS);
        if status != StatusCode::NOT_MODIFIED && status != StatusCode::NO_CONTENT {
            fields.push((CONTENT_LENGTH, HeaderValue::from(rope.len())));
        }
        let server = concat!("headwater/", env!("CARGO_PKG_VERSION"));
        fields.push((SERVER, HeaderValue::from_static(server)));
        fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
        let exposed =
            HeaderValue::from_static("Content-Length, Content-Range, Date, ETag, Retry-After");
        fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, exposed));
        Self { status, fields, body: HlsBody::new(rope) }
    }

    fn with(&mut self, name: HeaderName, value: HeaderValue) {
        debug_assert!(self.fields.iter().all(|(known, _)| *known != name), "{name} comes twice");
        self.fields.push((name, value));
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its fields.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &HlsBody {
        &self.body
    }

    /// An answer that says `text`.
    #[cfg(test)]
    pub(in crate::http) fn saying(text: impl Into<Bytes>) -> Self {
        Self::plain(StatusCode::OK, Rope::from(text.into()))
    }

    /// The same as a response of the HTTP library.
    #[must_use]
    pub fn into_response(self) -> Response<HlsBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields.into_iter().collect();
        response
    }
}

/// The answer to `OPTIONS`.
pub(super) fn preflight() -> Reply {
    let mut reply = Reply::plain(StatusCode::NO_CONTENT, Rope::default());
    reply.with(ALLOW, METHODS);
    reply.with(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let allowed = HeaderValue::from_static("Authorization, Content-Type, If-None-Match, Range");
    reply.with(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    reply.with(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(86_400u32));
    reply
}

/// Strips the body for `HEAD`; `Content-Length` stays.
pub(super) fn without_body(reply: Reply) -> Reply {
    Reply { body: HlsBody::default(), ..reply }
}

/// A playlist. `shared_seconds` is how long a shared cache may keep the answer to a blocking
/// request, whose URL will not be asked for by players that are further on. Browsers' own caches
/// never keep it.
pub(super) fn playlist(text: Bytes, encoding: Encoding, shared_seconds: Option<u32>) -> Reply {
    let mut reply = Reply::plain(StatusCode::OK, Rope::from(text));
    let mpegurl = HeaderValue::from_static("application/vnd.apple.mpegurl");
    reply.with(CONTENT_TYPE, mpegurl);
    reply.with(VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(token) = encoding.token() {
        reply.with(CONTENT_ENCODING, HeaderValue::from_static(token));
    }
    let cache = shared_seconds.and_then(|seconds| {
        HeaderValue::from_str(&format!("public, max-age=0, s-maxage={seconds}")).ok()
    });
    reply.with(CACHE_CONTROL, cache.unwrap_or(CACHE_LIVE));
    reply
}

/// The playlist as the answer to a blocking request.
pub(super) fn blocking(text: Bytes, encoding: Encoding, snapshot: &Snapshot) -> Reply {
    // What ends a stream must not be kept under the numbers of the next one.
    let target = snapshot.target_duration_s.filter(|_| !snapshot.ended);
    playlist(text, encoding, target.map(|target| target.saturating_mul(SHARED_TARGETS)))
}

/// The encoding to send a playlist in.
pub(super) fn accepted(headers: &HeaderMap) -> Encoding {
    negotiate::encoding(text(headers, &http::header::ACCEPT_ENCODING).unwrap_or(""))
}

/// Media bytes: whole, a range, or not at all where the client has them.
pub(super) fn media(rope: &Rope, name: &str, kind: MediaKind, request: &HeaderMap) -> Reply {
    let etag = format!("\"{name}-{:x}\"", rope.len());
    let mut reply = if text(request, &IF_NONE_MATCH).is_some_and(|h| negotiate::matches(h, &etag)) {
        Reply::plain(StatusCode::NOT_MODIFIED, Rope::default())
    } else {
        ranged(rope, &etag, request)
    };
    let status = reply.status;
    let mime = match kind {
        MediaKind::Video => "video/mp4",
        MediaKind::Audio => "audio/mp4",
    };
    reply.with(CONTENT_TYPE, HeaderValue::from_static(mime));
    reply.with(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A refusal of one client's range is nobody else's answer.
    let refused = status == StatusCode::RANGE_NOT_SATISFIABLE;
    let cached = if refused { HeaderValue::from_static("no-store") } else { CACHE_MEDIA };
    reply.with(CACHE_CONTROL, cached);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        reply.with(ETAG, etag);
    }
    reply
}

fn ranged(rope: &Rope, etag: &str, request: &HeaderMap) -> Reply {
    let current = text(request, &IF_RANGE).is_none_or(|header| header.trim() == etag);
    let wanted = text(request, &RANGE).filter(|_| current);
    let len = rope.len();
    let (status, part, range) = match wanted.map(|header| negotiate::range(header, len)) {
        None | Some(Ranged::Whole) => return Reply::plain(StatusCode::OK, rope.clone()),
        Some(Ranged::Partial(range)) => {
            let shown = format!("bytes {}-{}/{len}", range.start, range.end - 1);
            (StatusCode::PARTIAL_CONTENT, rope.slice(range), shown)
        }
        Some(Ranged::Unsatisfiable) => {
            (StatusCode::RANGE_NOT_SATISFIABLE, Rope::default(), format!("bytes */{len}"))
        }
    };
    let mut reply = Reply::plain(status, part);
    if let Ok(range) = HeaderValue::from_str(&range) {
        reply.with(CONTENT_RANGE, range);
    }
    reply
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
