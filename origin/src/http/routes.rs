//! Which request goes where.
//!
//! Not here: the answers (a module a group of routes).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SERVER};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode, Uri};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::direct::Seat;
use super::health::Report;
use super::hls::{self, HlsService, Reply};
use super::names::PathOf;
use super::server::{Peer, Service};
use super::{App, Problem, api, names, webrtc};
use crate::assets;
use crate::auth::Action;

/// `Server` of every response.
const SERVER_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("headwater/", env!("CARGO_PKG_VERSION")));

/// The service behind the listener.
pub struct Routes {
    router: Router,
    hls: HlsService,
}

impl Routes {
    /// All routes over `app`.
    #[must_use]
    pub fn new(app: &Arc<App>, hls: HlsService) -> Self {
        Self { router: router(app), hls }
    }

    /// `/hls/` goes past the router: thousands of requests wait there at a time.
    async fn route(&self, request: Request<Incoming>) -> Response {
        if request.uri().path().starts_with("/hls/")
            && let Some(peer) = request.extensions().get::<Peer>()
        {
            return self.hls.handle(&request, peer.0.ip()).await.map(Body::new);
        }
        let answer = self.router.clone().oneshot(request.map(Body::new)).await;
        answer.unwrap_or_else(|never| match never {})
    }
}

impl Service for Routes {
    fn takes(&self, path: &str) -> bool {
        path.starts_with("/hls/")
    }

    async fn answer(&self, request: &Request<()>, peer: SocketAddr) -> Reply {
        self.hls.reply(request, peer.ip()).await
    }

    fn park(&self, request: &Request<()>, peer: SocketAddr, seat: &Arc<Seat>) -> Option<Duration> {
        self.hls.park(request, peer.ip(), seat)
    }

    fn late(&self) -> Reply {
        self.hls.late()
    }

    async fn call(self: Arc<Self>, request: Request<Incoming>) -> Response {
        let mut response = match names::host(&request) {
            Ok(()) => self.route(request).await,
            Err(problem) => problem.into_response(),
        };
        response.headers_mut().insert(SERVER, SERVER_VALUE);
        response
    }
}

/// The routes that are axum's.
pub(super) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(api::router())
        .merge(webrtc::router())
        .route("/", get(page))
        .route("/publish/{*stream}", get(stream_page))
        .route("/play/{*stream}", get(stream_page))
        .route("/assets/{*file}", get(page))
        .route("/favicon.ico", get(page))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(app))
}

async fn healthz(State(app): State<Arc<App>>) -> Response {
    health(&app.health.alive())
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    health(&app.health.ready().and(api::unready(&app.cluster)))
}

fn health(report: &Report) -> Response {
    let status = if report.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let no_store = [(CACHE_CONTROL, "no-store")];
    (status, no_store, axum::Json(report)).into_response()
}

async fn metrics(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    parts: Parts,
) -> Result<Response, Problem> {
    app.allow(peer, &parts, Action::Admin, None)?;
    metrics::gauge!("headwater_hls_viewers").set(hls::viewers_in_all(&app.packager) as f64);
    let headers =
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    Ok((headers, crate::metrics::render()).into_response())
}

/// A page that names a stream.
async fn stream_page(path: PathOf, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    names::stream(&names::path(path)?)?;
    page(uri, headers).await
}

async fn page(uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let Some(asset) = assets::find(uri.path()) else { return Err(unknown(uri).await) };
    Ok(assets::respond(asset, &headers).map(Body::from))
}

async fn unknown(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
}

async fn wrong_method() -> Problem {
    let detail = "this resource does not take this method; see the header Allow";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Wrong method", detail)
}
