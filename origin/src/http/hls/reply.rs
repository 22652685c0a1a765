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
use crate::packager::{Encoding, Rope};

/// Methods of every route.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Names are never given to other bytes, so a cache may keep media for as long as it likes; an
/// hour is past the time in which any player asks for a live segment again.
const CACHE_MEDIA: HeaderValue = HeaderValue::from_static("public, max-age=3600, immutable");
/// The newest playlist is asked for: yesterday's answer is of no use.
const CACHE_LIVE: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
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

    pub(super) fn into_response(self) -> Response<HlsBody> {
        let body = json!({
            "type": self.slug,
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let body = Bytes::from(body.to_string());
        let mut response = plain(self.status, Rope::from(body));
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, problem);
        headers.insert(CACHE_CONTROL, CACHE_NEVER);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, METHODS);
        }
        response
    }
}

/// Headers of the longest answers, `Date` among them: room for them is made once.
const HEADERS: usize = 12;

/// An answer with the headers that all have.
fn plain(status: StatusCode, rope: Rope) -> Response<HlsBody> {
    let length = rope.len();
    let mut response = Response::new(HlsBody::new(rope));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    if status != StatusCode::NOT_MODIFIED && status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let server = concat!("headwater/", env!("CARGO_PKG_VERSION"));
    headers.insert(SERVER, HeaderValue::from_static(server));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed =
        HeaderValue::from_static("Content-Length, Content-Range, Date, ETag, Retry-After");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    response
}

/// The answer to `OPTIONS`.
pub(super) fn preflight() -> Response<HlsBody> {
    let mut response = plain(StatusCode::NO_CONTENT, Rope::default());
    let headers = response.headers_mut();
    headers.insert(ALLOW, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let allowed = HeaderValue::from_static("Authorization, Content-Type, If-None-Match, Range");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(86_400u32));
    response
}

/// Strips the body for `HEAD`; `Content-Length` stays.
pub(super) fn without_body(response: Response<HlsBody>) -> Response<HlsBody> {
    response.map(|_| HlsBody::default())
}

/// A playlist. `shared_seconds` is how long a shared cache may keep the answer to a blocking
/// request, whose URL will not be asked for by players that are further on: RFC 8216bis (appendix
/// B) recommends six target durations. Browsers' own caches never keep it.
pub(super) fn playlist(
    text: Bytes,
    encoding: Encoding,
    shared_seconds: Option<u32>,
) -> Response<HlsBody> {
    let mut response = plain(StatusCode::OK, Rope::from(text));
    let headers = response.headers_mut();
    let mpegurl = HeaderValue::from_static("application/vnd.apple.mpegurl");
    headers.insert(CONTENT_TYPE, mpegurl);
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(token) = encoding.token() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(token));
    }
    let cache = shared_seconds.and_then(|seconds| {
        HeaderValue::from_str(&format!("public, max-age=0, s-maxage={seconds}")).ok()
    });
    headers.insert(CACHE_CONTROL, cache.unwrap_or(CACHE_LIVE));
    response
}

/// The encoding to send a playlist in.
pub(super) fn accepted(headers: &HeaderMap) -> Encoding {
    negotiate::encoding(text(headers, &http::header::ACCEPT_ENCODING).unwrap_or(""))
}

/// Media bytes: whole, a range, or not at all where the client has them.
pub(super) fn media(
    rope: &Rope,
    name: &str,
    kind: MediaKind,
    request: &HeaderMap,
) -> Response<HlsBody> {
    let etag = format!("\"{name}-{:x}\"", rope.len());
    let mut response =
        if text(request, &IF_NONE_MATCH).is_some_and(|h| negotiate::matches(h, &etag)) {
            plain(StatusCode::NOT_MODIFIED, Rope::default())
        } else {
            ranged(rope, &etag, request)
        };
    let status = response.status();
    let headers = response.headers_mut();
    let mime = match kind {
        MediaKind::Video => "video/mp4",
        MediaKind::Audio => "audio/mp4",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(mime));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A refusal of one client's range is nobody else's answer.
    let refused = status == StatusCode::RANGE_NOT_SATISFIABLE;
    let cached = if refused { HeaderValue::from_static("no-store") } else { CACHE_MEDIA };
    headers.insert(CACHE_CONTROL, cached);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    response
}

fn ranged(rope: &Rope, etag: &str, request: &HeaderMap) -> Response<HlsBody> {
    let current = text(request, &IF_RANGE).is_none_or(|header| header.trim() == etag);
    let wanted = text(request, &RANGE).filter(|_| current);
    let len = rope.len();
    let (status, part, range) = match wanted.map(|header| negotiate::range(header, len)) {
        None | Some(Ranged::Whole) => return plain(StatusCode::OK, rope.clone()),
        Some(Ranged::Partial(range)) => {
            let shown = format!("bytes {}-{}/{len}", range.start, range.end - 1);
            (StatusCode::PARTIAL_CONTENT, rope.slice(range), shown)
        }
        Some(Ranged::Unsatisfiable) => {
            (StatusCode::RANGE_NOT_SATISFIABLE, Rope::default(), format!("bytes */{len}"))
        }
    };
    let mut response = plain(status, part);
    if let Ok(range) = HeaderValue::from_str(&range) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
