//! WHIP (RFC 9725) and WHEP: SDP offers in, sessions out. What both have in common: methods,
//! media types, entity tags, CORS, the way of a session from its answer to its end.
//!
//! Not here: WebRTC (`headwater-sfu`), where a publisher's frames go (`ingest::whip`).

mod events;
mod reply;
mod sessions;
mod whep;
mod whip;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Extension, Router};
use headwater_media::{SessionId, StreamName};
use headwater_sfu::{CloseReason, PatchOutcome, Sfu, SfuError};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::names::PathOf;
use super::server::Peer;
use super::{App, Problem, body, names};
use crate::auth::Action;

pub use sessions::WebRtcSessions;

/// The media type of offers and answers.
const SDP: &str = "application/sdp";
/// The media type of ICE fragments (RFC 8840).
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// Which of the two protocols a request speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Whip,
    Whep,
}

impl Protocol {
    fn action(self) -> Action {
        match self {
            Self::Whip => Action::Publish,
            Self::Whep => Action::Play,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// The routes of both protocols.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/whip/{*path}", any(whip_route)).route("/whep/{*path}", any(whep_route))
}

async fn whip_route(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    path: PathOf,
    parts: Parts,
    body: Body,
) -> Response {
    let request = Request { app, peer, parts, protocol: Protocol::Whip };
    request.answer(path, body).await
}

async fn whep_route(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    path: PathOf,
    parts: Parts,
    body: Body,
) -> Response {
    let request = Request { app, peer, parts, protocol: Protocol::Whep };
    request.answer(path, body).await
}

/// One request and what it needs.
struct Request {
    app: Arc<App>,
    peer: std::net::SocketAddr,
    parts: Parts,
    protocol: Protocol,
}

impl Request {
    async fn answer(self, path: PathOf, body: Body) -> Response {
        let method = self.parts.method.clone();
        let mut response = match self.dispatch(path, body).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        };
        reply::open_to_all_origins(&mut response);
        let (status, protocol) = (response.status().as_u16().to_string(), self.protocol.name());
        metrics::counter!("headwater_webrtc_requests_total", "protocol" => protocol,
            "method" => method_label(&method), "status" => status)
        .increment(1);
        response
    }

    async fn dispatch(&self, path: PathOf, body: Body) -> Result<Response, Problem> {
        let path = names::path(path)?;
        let (stream, session) = names::stream_and_session(&path)?;
        let method = &self.parts.method;
        let Some(session) = session else {
            return match *method {
                Method::OPTIONS => {
                    Ok(reply::options("POST, OPTIONS", Some((reply::ACCEPT_POST, SDP))))
                }
                Method::POST => self.offer(&stream, body).await,
                _ => Err(reply::wrong_method("POST, OPTIONS")),
            };
        };
        if let (Protocol::Whep, Some((session, rest))) = (self.protocol, session.split_once('/')) {
            return events::answer(self, &stream, session, rest, body).await;
        }
        match *method {
            Method::OPTIONS => {
                let accept = Some((reply::ACCEPT_PATCH, FRAGMENT));
                Ok(reply::options("PATCH, DELETE, OPTIONS", accept))
            }
            Method::PATCH => self.patch(&stream, names::session(session)?, body).await,
            Method::DELETE => self.delete(&stream, names::session(session)?).await,
            _ => Err(reply::wrong_method("PATCH, DELETE, OPTIONS")),
        }
    }

    fn allow(&self, stream: &StreamName) -> Result<(), Problem> {
        self.app.allow(self.peer, &self.parts, self.protocol.action(), Some(stream))
    }

    fn sfu(&self) -> Result<Arc<Sfu>, Problem> {
        self.app.sfu.load_full().ok_or_else(|| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "webrtc-off",
                "No WebRTC here",
                "WebRTC is switched off on this node ([webrtc] enabled), or it is shutting down",
            )
        })
    }

    async fn text(&self, body: Body) -> Result<String, Problem> {
        body::text(body, self.app.config.values().limits.http_body_timeout).await
    }

    /// `POST`: an offer for a new session.
    async fn offer(&self, stream: &StreamName, body: Body) -> Result<Response, Problem> {
        self.allow(stream)?;
        media_type(&self.parts.headers, SDP)?;
        let offer = self.text(body).await?;
        if self.app.health.is_draining() {
            return Err(problem_of(SfuError::ShuttingDown));
        }
        match self.protocol {
            Protocol::Whip => whip::publish(self, stream, &offer).await,
            Protocol::Whep => whep::play(self, stream, &offer).await,
        }
    }

    /// 201 for a session that was answered (RFC 9725 §4.2).
    fn created(
        &self,
        stream: &StreamName,
        session: SessionId,
        sdp: String,
        etag: &str,
    ) -> Result<Response, Problem> {
        let location = format!("/{}/{stream}/-/{session}", self.protocol.name());
        let servers = &self.app.config.values().webrtc.ice_servers;
        let extension = (self.protocol == Protocol::Whep).then(|| events::link(&location));
        reply::created(&location, sdp, etag, servers, extension.as_deref())
    }

    /// The session must be one of this stream and protocol: ids alone open nothing.
    fn known(&self, stream: &StreamName, session: SessionId) -> Result<(), Problem> {
        if self.app.webrtc.is(session, stream, self.protocol.name()) {
            return Ok(());
        }
        Err(names::no_such_session())
    }

    /// `PATCH`: trickled candidates, or an ICE restart (RFC 9725 §4.3).
    async fn patch(
        &self,
        stream: &StreamName,
        session: SessionId,
        body: Body,
    ) -> Result<Response, Problem> {
        self.allow(stream)?;
        self.known(stream, session)?;
        media_type(&self.parts.headers, FRAGMENT)
            .map_err(|problem| problem.with_header(reply::ACCEPT_PATCH, reply::FRAGMENT_VALUE))?;
        let tags = entity_tags(&self.parts.headers)?;
        let fragment = self.text(body).await?;
        let sfu = self.sfu()?;
        let mut outcome = Err(SfuError::UnknownSession);
        for tag in &tags {
            outcome = sfu.patch(session, &fragment, tag.as_deref()).await;
            if !matches!(outcome, Err(SfuError::StaleEtag { .. })) {
                break;
            }
        }
        match outcome.map_err(problem_of)? {
            PatchOutcome::NoContent => Ok(StatusCode::NO_CONTENT.into_response()),
            PatchOutcome::Restarted { fragment, etag } => {
                let mut response = fragment.into_response();
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, reply::FRAGMENT_VALUE);
                headers.insert(ETAG, reply::quoted(&etag)?);
                Ok(response)
            }
        }
    }

    /// `DELETE`: the session's end.
    async fn delete(&self, stream: &StreamName, session: SessionId) -> Result<Response, Problem> {
        self.allow(stream)?;
        self.known(stream, session)?;
        self.app.webrtc.remove(session);
        self.sfu()?.close(session, CloseReason::Requested).await;
        Ok(StatusCode::OK.into_response())
    }
}

/// Checks `Content-Type`, parameters aside, of which there must be one, and that the body is sent
/// as it is.
fn media_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Problem> {
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    let one = given.next().filter(|_| given.next().is_none());
    let essence = one.and_then(|value| value.to_str().ok()?.split(';').next()).unwrap_or("");
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    let detail = if !essence.trim().eq_ignore_ascii_case(expected) {
        format!("send Content-Type: {expected}")
    } else if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        "send the body without Content-Encoding".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "Unsupported media type",
        detail,
    ))
}

/// Entity tags that `If-Match` may list at most.
const TAGS_MAX: usize = 8;

/// The tags of `If-Match` without quotes; none stands for `*`, which examples of WHEP quote. Weak tags never match (RFC 9110
/// §13.1.1) and are left out.
fn entity_tags(headers: &HeaderMap) -> Result<Vec<Option<String>>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition-required",
            "If-Match required",
            "send If-Match with the ETag of the session, or * to restart ICE",
        ));
    };
    let text = value.to_str().unwrap_or("");
    let strong = |tag: &str| tag.strip_prefix('"')?.strip_suffix('"').map(str::to_owned);
    let tags: Vec<_> = text
        .split(',')
        .take(TAGS_MAX)
        .map(str::trim)
        .filter_map(
            |tag| if matches!(tag, "*" | "\"*\"") { Some(None) } else { strong(tag).map(Some) },
        )
        .collect();
    if tags.is_empty() { Err(stale("the tag sent is not a strong one")) } else { Ok(tags) }
}

fn stale(detail: &str) -> Problem {
    let status = StatusCode::PRECONDITION_FAILED;
    Problem::new(status, "precondition-failed", "Stale entity tag", detail)
}

/// What a client is told of an error of the SFU.
fn problem_of(error: SfuError) -> Problem {
    let detail = error.to_string();
    let bad = StatusCode::BAD_REQUEST;
    match error {
        SfuError::MalformedSdp(_) => Problem::new(bad, "malformed-sdp", "Malformed SDP", detail),
        SfuError::MalformedFragment(_) => {
            Problem::new(bad, "malformed-sdp-fragment", "Malformed ICE fragment", detail)
        }
        // Not 406, which says to a WHEP player that it is answered with an offer to it.
        SfuError::NotAcceptable(_) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "not-acceptable",
            "Nothing in the offer can be served",
            detail,
        ),
        SfuError::StaleEtag { .. } => stale(&detail),
        SfuError::UnknownSession => names::no_such_session(),
        SfuError::LimitReached { .. } => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Problem::new(status, "limit-reached", "Limit reached", detail).retry_after(2)
        }
        SfuError::ShuttingDown => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Problem::new(status, "shutting-down", "Shutting down", detail).retry_after(2)
        }
        error => {
            tracing::error!(%error, "the SFU failed");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "internal", "Internal error", "the node could not do this")
        }
    }
}

/// The method as a label with few values.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(value: &str) -> Result<Vec<Option<String>>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, HeaderValue::from_str(value).unwrap());
        entity_tags(&headers).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn if_match_takes_strong_tags_lists_and_the_star() {
        assert_eq!(entity_tags(&HeaderMap::new()).unwrap_err().status(), 428);
        assert_eq!(tags("*"), Ok(vec![None]));
        assert_eq!(tags("\"*\""), Ok(vec![None]));
        assert_eq!(tags("\"a\""), Ok(vec![Some("a".into())]));
        assert_eq!(tags("\"a\" , W/\"b\", \"c\""), Ok(vec![Some("a".into()), Some("c".into())]));
        for bad in ["W/\"a\"", "a", "\"", ""] {
            assert_eq!(tags(bad), Err(412), "{bad}");
        }
    }

    #[test]
    fn the_media_type_is_compared_without_parameters_and_case() {
        for (given, ok) in [
            ("application/sdp", true),
            ("Application/SDP; charset=utf-8", true),
            ("application/sdpx", false),
            ("text/plain", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(given));
            assert_eq!(media_type(&headers, SDP).is_ok(), ok, "{given}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(media_type(&headers, SDP).unwrap_err().status(), 415);
        let sdp = HeaderValue::from_static(SDP);
        headers.append(CONTENT_TYPE, sdp.clone());
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
        assert!(media_type(&headers, SDP).is_ok());
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(media_type(&headers, SDP).is_err());
        headers.remove(CONTENT_ENCODING);
        headers.append(CONTENT_TYPE, sdp);
        assert!(media_type(&headers, SDP).is_err(), "several");
    }
}
