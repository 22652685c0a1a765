//! The JSON API under `/api/v1`: the node, its streams and its sessions.
//!
//! Not here: the cluster (`cluster`, `tree`), the shapes (`view`), what is measured from the bus (`measure`).

mod cluster;
mod measure;
mod tree;
mod view;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Extension, Json, Router};
use headwater_media::StreamName;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;

use super::names::PathOf;
use super::server::Peer;
use super::{App, Problem, hls, names};
use crate::auth::Action;
use crate::sessions::{Role, SessionSnapshot};

pub(super) use cluster::unready;
pub use tree::{TreeNodeView, TreeView};
pub use view::{
    ClusterNodeView, ClusterView, JoinTokenView, NodeView, ResolutionView, SessionList,
    SessionView, StreamList, StreamView, TrackView,
};

/// Sessions in one answer unless `?limit=` says otherwise.
const SESSIONS_DEFAULT: usize = 1_000;

/// The document that describes the routes below.
const OPENAPI: &str = include_str!("openapi.json");

/// The routes of the API.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/openapi.json", get(openapi))
        .route("/api/v1/node", get(node))
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/streams/{*stream}", get(stream))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/{session}", delete(kick))
        .route("/api/v1/cluster/tree/{*stream}", get(tree::tree))
        .merge(cluster::router())
}

/// Who asks is an operator: the seam of access has let the request pass.
struct Operator {
    app: Arc<App>,
    peer: SocketAddr,
}

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let peer = Extension::<Peer>::from_request_parts(parts, app).await;
        let Extension(Peer(peer)) = peer.map_err(IntoResponse::into_response)?;
        let allowed = app.allow(peer, parts, Action::Admin, None);
        allowed.map_err(IntoResponse::into_response)?;
        Ok(Self { app: Arc::clone(app), peer })
    }
}

fn json(value: impl serde::Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn node(Operator { app, .. }: Operator) -> Result<Response, Problem> {
    Ok(json(NodeView {
        version: env!("CARGO_PKG_VERSION"),
        role: "origin",
        state: if app.health.is_draining() { "draining" } else { "running" },
        uptime_seconds: app.clock.now().micros_since(app.started) / 1_000_000,
        open: app.access.is_open(),
        listeners: app.addresses.get().cloned().unwrap_or_default(),
        streams: app.streams.list().len(),
        sessions: app.sessions.list().len(),
    }))
}

async fn streams(Operator { app, .. }: Operator) -> Result<Response, Problem> {
    let sessions = Attendance::of(app.sessions.list());
    let broadcasts = app.streams.list();
    let streams =
        broadcasts.iter().filter_map(|one| view_of(&app, one.name(), &sessions)).collect();
    Ok(json(StreamList { streams }))
}

async fn stream(Operator { app, .. }: Operator, path: PathOf) -> Result<Response, Problem> {
    let name = names::stream(&names::path(path)?)?;
    let sessions = Attendance::of(app.sessions.list());
    view_of(&app, &name, &sessions).map(json).ok_or_else(|| names::no_such_stream(&name))
}

async fn sessions(Operator { app, .. }: Operator, parts: Parts) -> Result<Response, Problem> {
    let limit = match names::query(&parts, "limit").map(|text| text.parse()) {
        None => SESSIONS_DEFAULT,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => {
            let detail = "limit must be a whole number";
            let title = "Invalid query";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid-query", title, detail));
        }
    };
    let wanted = names::query(&parts, "stream").map(|name| names::stream(&name)).transpose()?;
    let mut all = app.sessions.list();
    all.retain(|session| wanted.as_ref().is_none_or(|name| session.info.stream == *name));
    let total = all.len();
    let sessions = all.into_iter().take(limit).map(SessionView::from).collect();
    Ok(json(SessionList { sessions, total }))
}

async fn kick(Operator { app, peer }: Operator, path: PathOf) -> Result<StatusCode, Problem> {
    let text = names::path(path).map_err(|_| names::no_such_session())?;
    let id = names::session(&text)?;
    if !app.sessions.kick(id) {
        return Err(names::no_such_session());
    }
    tracing::info!(session = %id, peer = %peer, "kicked through the API");
    Ok(StatusCode::NO_CONTENT)
}

/// Who is there, by stream.
struct Attendance {
    viewers: HashMap<StreamName, usize>,
    publishers: HashMap<headwater_media::SessionId, SessionSnapshot>,
}

impl Attendance {
    fn of(sessions: Vec<SessionSnapshot>) -> Self {
        let mut viewers = HashMap::new();
        let mut publishers = HashMap::new();
        for session in sessions {
            match session.info.role {
                // One that has not connected yet may never do so.
                Role::Viewer if !session.connected => {}
                Role::Viewer => {
                    *viewers.entry(session.info.stream).or_insert(0) += 1;
                }
                Role::Publisher => {
                    publishers.insert(session.id, session);
                }
            }
        }
        Self { viewers, publishers }
    }
}

fn view_of(app: &App, name: &StreamName, sessions: &Attendance) -> Option<StreamView> {
    let snapshot = app.streams.snapshot(name)?;
    let publisher = snapshot.publisher.and_then(|id| sessions.publishers.get(&id)).cloned();
    Some(StreamView {
        name: name.to_string(),
        state: view::state_name(snapshot.broadcast.state()),
        since: snapshot.since.to_rfc3339_millis(),
        publisher: publisher.map(SessionView::from),
        viewers: sessions.viewers.get(name).copied().unwrap_or(0),
        hls_viewers: hls::viewers(&app.packager, name),
        tracks: snapshot.broadcast.tracks().iter().map(TrackView::of).collect(),
        warnings: snapshot.warnings,
    })
}
