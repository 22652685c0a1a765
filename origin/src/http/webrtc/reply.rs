//! Headers of WHIP and WHEP answers.
//!
//! Not here: when which answer is given.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, LINK, LOCATION,
};

use crate::config::IceServer;
use crate::http::Problem;

/// RFC 5789 §3.1.
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// What a session's `PATCH` takes.
pub(super) const FRAGMENT_VALUE: HeaderValue = HeaderValue::from_static(super::FRAGMENT);
/// The answer header of `OPTIONS` on an endpoint (RFC 9725 §4.6).
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const SDP_VALUE: HeaderValue = HeaderValue::from_static(super::SDP);

/// How long a browser may keep the answer to its preflight, in seconds.
const PREFLIGHT_AGE: &str = "86400";

/// CORS for every answer: pages of other origins may publish and play, and read these headers.
pub(super) fn open_to_all_origins(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Location, ETag, Link, Retry-After, Accept-Patch"),
    );
}

/// The answer to `OPTIONS`, preflight or not: 200 (RFC 9725 §4.2); `accept` says which media type
/// a body must have.
pub(super) fn options(
    methods: &'static str,
    accept: Option<(HeaderName, &'static str)>,
) -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization, Content-Type, If-Match"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE));
    if let Some((name, media_type)) = accept {
        headers.insert(name, HeaderValue::from_static(media_type));
    }
    response
}

/// 405 with what is allowed.
pub(super) fn wrong_method(methods: &'static str) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Wrong method",
        format!("this resource takes {methods}"),
    )
    .with_header(ALLOW, HeaderValue::from_static(methods))
}

/// 201 with the answer and its links.
pub(super) fn created(
    location: &str,
    sdp: String,
    etag: &str,
    servers: &[IceServer],
    extension: Option<&str>,
) -> Result<Response, Problem> {
    let mut response = (StatusCode::CREATED, sdp).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, SDP_VALUE);
    headers.insert(LOCATION, value(location)?);
    headers.insert(ETAG, quoted(etag)?);
    headers.insert(ACCEPT_PATCH, FRAGMENT_VALUE);
    for server in servers {
        headers.append(LINK, value(&server.link())?);
    }
    if let Some(link) = extension {
        headers.append(LINK, value(link)?);
    }
    Ok(response)
}

/// 201 with the place of a feed of events.
pub(super) fn feed_created(location: &str) -> Result<Response, Problem> {
    let mut response = StatusCode::CREATED.into_response();
    response.headers_mut().insert(LOCATION, value(location)?);
    Ok(response)
}

/// An entity tag as its header writes it.
pub(super) fn quoted(etag: &str) -> Result<HeaderValue, Problem> {
    value(&format!("\"{etag}\""))
}

fn value(text: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(text).map_err(|_| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, "internal", "Internal error", "a header could not be written")
    })
}
