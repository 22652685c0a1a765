//! Errors as clients see them: `application/problem+json` (RFC 9457).
//!
//! Not here: when an error arises (the routes).

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http_body_util::Full;
use serde::Serialize;

/// The media type of [`Problem`]'s body.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// One error for a client.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The members of RFC 9457 §3.1.
#[derive(Serialize)]
struct Members<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// A problem: `slug` is its stable `type`, `title` its kind in words, `detail` what was wrong
    /// this time and what to do.
    #[must_use]
    pub fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, slug, title, detail: detail.into(), headers: Vec::new() }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The problem with one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The problem with `Retry-After` in whole seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The response for a service without axum.
    #[must_use]
    pub fn into_hyper(self) -> http::Response<Full<Bytes>> {
        let members = Members {
            r#type: self.slug,
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        // Strings and a number always serialize.
        let body = serde_json::to_vec(&members).unwrap_or_default();
        let mut response = http::Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.extend(self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.into_hyper().map(axum::body::Body::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_its_headers() {
        let detail = "no stream \"x\"";
        let problem =
            Problem::new(StatusCode::NOT_FOUND, "stream-not-found", "Stream not found", detail)
                .retry_after(2);
        let response = problem.into_hyper();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_TYPE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "stream-not-found",
                "title": "Stream not found",
                "status": 404,
                "detail": detail,
            })
        );
    }
}
