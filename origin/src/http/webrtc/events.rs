//! The server-sent events of a WHEP session (draft-ietf-wish-whep-02, "Server Sent Events
//! Extension", which later drafts leave to a document of its own): whether the stream has a
//! publisher, and how many watch it.
//!
//! `POST …/sse` with a JSON list of event names answers with the URL of a feed of these events;
//! `GET …/sse` itself is a feed of all of them, and `DELETE` of a feed's URL ends it.
//!
//! Not here: which sessions there are (`sessions`), the viewers of LL-HLS, which have no sessions.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use headwater_media::{Broadcast, BroadcastState, BroadcastWatch, SessionId, StreamName};
use http::{HeaderValue, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::{Request, media_type, reply};
use crate::http::{App, Problem, names};

/// The extension's name, as `Link` gives it.
pub(super) const RELATION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
/// The last part of the extension's URL.
pub(super) const PATH: &str = "sse";
/// What a list of events is sent as.
const JSON: &str = "application/json";
/// How often the number of viewers is looked at.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a feed with nothing to say shows that it is alive.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Entries of a list of events that are read; there are three events.
const LISTED_MAX: usize = 16;

/// One kind of event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A publisher is connected.
    Active,
    /// The publisher is away.
    Inactive,
    /// How many WebRTC and SRT viewers the stream has.
    ViewerCount,
}

const KINDS: [Kind; 3] = [Kind::Active, Kind::Inactive, Kind::ViewerCount];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::ViewerCount => "viewercount",
        }
    }
}

/// The names of these events, as a URL and `Link` list them.
fn list(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",")
}

/// The `Link` by which the session at `location` offers its events.
pub(super) fn link(location: &str) -> String {
    format!("<{location}/{PATH}>; rel=\"{RELATION}\"; events=\"{}\"", list(&KINDS))
}

/// The events among these names. Names of events that do not exist here are passed over, unless
/// nothing else is left.
fn wanted<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Kind>, Problem> {
    let names: Vec<_> = names.take(LISTED_MAX).collect();
    let kinds: Vec<_> = KINDS.into_iter().filter(|kind| names.contains(&kind.name())).collect();
    if kinds.is_empty() {
        let detail = format!("name at least one of these events: {}", list(&KINDS));
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "unknown-event",
            "No such event",
            detail,
        ));
    }
    Ok(kinds)
}

/// Answers a request for `…/{session}/{path}`.
pub(super) async fn answer(
    request: &Request,
    stream: &StreamName,
    session: &str,
    path: &str,
    body: Body,
) -> Result<Response, Problem> {
    let names = match path.split_once('/') {
        None if path == PATH => None,
        Some((PATH, names)) => Some(names),
        _ => return Err(names::no_such_session()),
    };
    let methods = if names.is_none() { "GET, POST, OPTIONS" } else { "GET, DELETE, OPTIONS" };
    match request.parts.method {
        Method::OPTIONS => {
            return Ok(reply::options(
                methods,
                names.is_none().then_some((reply::ACCEPT_POST, JSON)),
            ));
        }
        Method::GET | Method::POST if names.is_none() => {}
        Method::GET | Method::DELETE if names.is_some() => {}
        _ => return Err(reply::wrong_method(methods)),
    }
    let id = names::session(session)?;
    request.allow(stream)?;
    request.known(stream, id)?;
    match request.parts.method {
        Method::POST => return subscribe(request, stream, id, body).await,
        Method::DELETE if request.app.webrtc.give_feed_up(id) => {
            return Ok(StatusCode::OK.into_response());
        }
        Method::DELETE => return Err(no_such_feed()),
        _ => {}
    }
    let kinds = match names {
        Some(names) => wanted(names.split(','))?,
        None => KINDS.to_vec(),
    };
    feed(request, stream, id, kinds)
}

/// 404 for a feed that its session gave up.
fn no_such_feed() -> Problem {
    let detail = "the session has ended, or gave this feed up; POST to …/sse for a new one";
    Problem::new(StatusCode::NOT_FOUND, "feed-not-found", "Feed not found", detail)
}

/// `POST`: a list of events becomes the URL of their feed, which says it all. Without a body all
/// events are meant.
async fn subscribe(
    request: &Request,
    stream: &StreamName,
    id: SessionId,
    body: Body,
) -> Result<Response, Problem> {
    let text = request.text(body).await?;
    let kinds = if text.is_empty() {
        KINDS.to_vec()
    } else {
        media_type(&request.parts.headers, JSON)?;
        let names: Vec<String> = serde_json::from_str(&text).map_err(|error| {
            let detail = format!("send a JSON list of event names: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "malformed-body", "Malformed body", detail)
        })?;
        wanted(names.iter().map(String::as_str))?
    };
    if !request.app.webrtc.offer_feed(id) {
        return Err(names::no_such_session());
    }
    reply::feed_created(&format!("/whep/{stream}/-/{id}/{PATH}/{}", list(&kinds)))
}

/// `GET`: the events as they come, until the session is over or asks for another feed.
fn feed(
    request: &Request,
    stream: &StreamName,
    id: SessionId,
    kinds: Vec<Kind>,
) -> Result<Response, Problem> {
    let app = &request.app;
    let over = app.webrtc.feed(id).ok_or_else(no_such_feed)?;
    let broadcast = app.streams.get(stream).ok_or_else(|| names::no_such_stream(stream))?;
    let feed = Feed::new(Arc::clone(app), broadcast, kinds, over);
    let events = futures_util::stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    let alive = KeepAlive::new().interval(ALIVE_INTERVAL);
    let mut response = Sse::new(events).keep_alive(alive).into_response();
    // Proxies that buffer answers would keep the events to themselves.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What a feed has said so far, and whence it learns more.
struct Feed {
    app: Arc<App>,
    broadcast: Broadcast,
    changes: BroadcastWatch,
    ticks: tokio::time::Interval,
    over: CancellationToken,
    kinds: Vec<Kind>,
    active: Option<bool>,
    viewers: Option<usize>,
}

impl Feed {
    fn new(app: Arc<App>, broadcast: Broadcast, kinds: Vec<Kind>, over: CancellationToken) -> Self {
        let changes = broadcast.watch();
        let mut ticks = tokio::time::interval(COUNT_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { app, broadcast, changes, ticks, over, kinds, active: None, viewers: None }
    }

    /// The next event; `None` when the session is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.news() {
                return Some(event);
            }
            tokio::select! {
                () = self.over.cancelled() => return None,
                more = self.changes.changed() => if !more { return None },
                _ = self.ticks.tick() => {}
            }
        }
    }

    /// Something that has not been said yet.
    fn news(&mut self) -> Option<Event> {
        let active = self.broadcast.state() == BroadcastState::Live;
        let kind = if active { Kind::Active } else { Kind::Inactive };
        let before = self.active.replace(active);
        // A feed never begins with `inactive`.
        let news = before != Some(active) && (active || before.is_some());
        if news && self.kinds.contains(&kind) {
            return Some(Event::default().event(kind.name()).data("{}"));
        }
        if self.kinds.contains(&Kind::ViewerCount) {
            let viewers = self.app.sessions.viewers(self.broadcast.name());
            if self.viewers.replace(viewers) != Some(viewers) {
                let data = serde_json::json!({ "viewercount": viewers }).to_string();
                return Some(Event::default().event(Kind::ViewerCount.name()).data(data));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_events_are_passed_over_unless_nothing_else_is_asked_for() {
        let of = |names: &str| wanted(names.split(',')).map(|kinds| list(&kinds));
        assert_eq!(of("viewercount,layers,active").unwrap(), "active,viewercount");
        assert_eq!(of("inactive,inactive").unwrap(), "inactive");
        for bad in ["", "layers", "Active"] {
            assert_eq!(of(bad).unwrap_err().status(), 400, "{bad}");
        }
    }
}
