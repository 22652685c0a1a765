//! Reads request bodies: short ones, within a time.
//!
//! Not here: what they mean.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::Problem;

/// Bytes of an SDP offer or an ICE fragment. Browsers send 3 to 10 kB.
pub const SDP_BYTES_MAX: usize = 64 << 10;

/// Reads a body as text.
///
/// # Errors
/// 413 above [`SDP_BYTES_MAX`], 408 after `timeout`, 400 when it breaks off or is not UTF-8.
pub(super) async fn text(body: Body, timeout: Duration) -> Result<String, Problem> {
    let bad = |detail: &str| {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-body", "Malformed body", detail)
    };
    let too_large = || {
        let detail = format!("the body may have {SDP_BYTES_MAX} bytes at most");
        let title = "Body too large";
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", title, detail)
    };
    // What is announced needs not be waited for.
    if body.size_hint().lower() > SDP_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let limited = Limited::new(body, SDP_BYTES_MAX).collect();
    let collected = tokio::time::timeout(timeout, limited).await.map_err(|_| {
        let detail = format!("the body did not come within {} s", timeout.as_secs_f32());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "Body too slow", detail)
    })?;
    let bytes: Bytes = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(too_large());
        }
        Err(_) => return Err(bad("the body broke off")),
    };
    String::from_utf8(bytes.into()).map_err(|_| bad("the body is not UTF-8 text"))
}
