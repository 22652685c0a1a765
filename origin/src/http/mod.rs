//! HTTP: the listener, the routes and what they answer.
//!
//! Not here: what streams and sessions are (`streams`, `sessions`), WebRTC (`headwater-sfu`).

pub mod api;
mod body;
mod direct;
mod guarded;
pub mod health;
pub mod hls;
mod idle;
mod library;
mod names;
pub mod problem;
mod refusal;
mod routes;
pub mod server;
mod stall;
pub mod webrtc;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use headwater_cluster::cluster::Cluster;
use headwater_media::{StreamName, WallTime};
use headwater_sfu::Sfu;
use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use serde::Serialize;

use crate::auth::{Access, Action, Caller};
use crate::clock::Clock;
use crate::config::Config;
use crate::packager::Packager;
use crate::sessions::Sessions;
use crate::streams::Streams;
use crate::transcode::audio::AudioBridges;

pub use body::SDP_BYTES_MAX;
pub use direct::Seat;
pub(crate) use direct::fuzz_target;
pub use health::Health;
pub use problem::Problem;
pub use routes::Routes;
pub use webrtc::WebRtcSessions;

/// Where the node's listeners are bound; none for those switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// HTTP, TCP.
    pub http: Option<SocketAddr>,
    /// WebRTC, UDP and TCP, one a worker.
    pub webrtc: Vec<SocketAddr>,
    /// SRT, UDP.
    pub srt: Option<SocketAddr>,
    /// RTMP, TCP.
    pub rtmp: Option<SocketAddr>,
    /// Between nodes, UDP.
    pub cluster: Option<SocketAddr>,
}

/// What every route may use.
pub struct App {
    /// The node's configuration.
    pub config: Arc<Config>,
    /// Who may do what.
    pub access: Access,
    /// The node's clock.
    pub clock: Clock,
    /// The node's sessions.
    pub sessions: Sessions,
    /// The node's cluster.
    pub cluster: Cluster,
    /// The node's streams.
    pub streams: Streams,
    /// The streams' HLS renditions.
    pub packager: Packager,
    /// Makes AAC of Opus and the other way round while someone listens.
    pub bridges: AudioBridges,
    /// WebRTC, while it is on.
    pub sfu: ArcSwapOption<Sfu>,
    /// WebRTC sessions by their resources.
    pub webrtc: WebRtcSessions,
    /// The node's health.
    pub health: Health,
    /// Where it listens, once bound.
    pub addresses: OnceLock<Addresses>,
    /// When it started.
    pub started: WallTime,
}

impl App {
    /// Lets a request pass the one seam of access.
    ///
    /// # Errors
    /// 401 without a token, 403 with one, and what to do about it.
    fn allow(
        &self,
        peer: SocketAddr,
        parts: &Parts,
        action: Action,
        stream: Option<&StreamName>,
    ) -> Result<(), Problem> {
        let token = names::token(parts);
        let nearness = names::nearness(&parts.headers, &parts.uri);
        let caller = Caller { peer: peer.ip(), token: token.as_deref(), nearness };
        self.access.check(caller, action, stream).map_err(|denied| {
            let problem =
                |status| Problem::new(status, "not-allowed", "Not allowed", denied.to_string());
            match token {
                Some(_) => problem(StatusCode::FORBIDDEN),
                None => problem(StatusCode::UNAUTHORIZED)
                    .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            }
        })
    }
}
