//! The shapes of the API's answers, as `openapi.json` describes them.
//!
//! Not here: where the values come from (the routes, `measure`).

use std::net::SocketAddr;

use headwater_cluster::cluster::NodeStatus;
use headwater_media::{BroadcastState, MediaKind, Track};
use serde::Serialize;

use super::measure::measure;
use crate::http::Addresses;
use crate::sessions::SessionSnapshot;

/// `/api/v1/node`.
#[derive(Serialize, Debug)]
pub struct NodeView {
    /// The program's version.
    pub version: &'static str,
    /// `origin`.
    pub role: &'static str,
    /// `running` or `draining`.
    pub state: &'static str,
    /// Seconds since the start.
    pub uptime_seconds: i64,
    /// Whether others than loopback addresses are let in.
    pub open: bool,
    /// Where it listens.
    pub listeners: Addresses,
    /// Streams live or waiting for their publisher.
    pub streams: usize,
    /// Sessions of publishers and viewers.
    pub sessions: usize,
}

/// `/api/v1/cluster`.
#[derive(Serialize, Debug)]
pub struct ClusterView {
    /// The cluster's id.
    pub cluster: String,
    /// The number of the node that answers.
    pub this: u64,
    /// The number of the node that leads, if any does.
    pub leader: Option<u64>,
    /// Whether a majority answers now: without one, nothing new is decided.
    pub quorum: bool,
    /// Raft's term: rises at each election.
    pub term: u64,
    /// Index of the newest entry of the log that this node has applied.
    pub applied: u64,
    /// Why this node takes no part, in words.
    pub fault: Option<String>,
    /// The origin that feeds this node with the directory, if it is a relay that has one.
    pub fed_by: Option<u64>,
    /// All nodes, by number.
    pub nodes: Vec<ClusterNodeView>,
}

/// A node of the cluster.
#[derive(Serialize, Debug)]
pub struct ClusterNodeView {
    /// What the cluster's handle tells.
    #[serde(flatten)]
    pub node: NodeStatus,
    /// Base URLs at which viewers reach it.
    pub http: Vec<String>,
}

/// A join token that was made.
#[derive(Serialize, Debug)]
pub struct JoinTokenView {
    /// The token.
    pub token: String,
    /// When it ends, RFC 3339.
    pub expires: String,
}

/// `/api/v1/streams`.
#[derive(Serialize, Debug)]
pub struct StreamList {
    /// Every stream, by name.
    pub streams: Vec<StreamView>,
}

/// A stream.
#[derive(Serialize, Debug)]
pub struct StreamView {
    /// Its name.
    pub name: String,
    /// `live`, `waiting` (for its publisher's return) or `ended`.
    pub state: &'static str,
    /// When it was first published, RFC 3339.
    pub since: String,
    /// Its publisher's session, while it has one.
    pub publisher: Option<SessionView>,
    /// Connected sessions that receive it (HLS players are not sessions).
    pub viewers: usize,
    /// HLS players that follow it, estimated from the playlists that they took from this node.
    pub hls_viewers: usize,
    /// Its tracks.
    pub tracks: Vec<TrackView>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// A picture's size.
#[derive(Serialize, Debug)]
pub struct ResolutionView {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A track.
#[derive(Serialize, Debug)]
pub struct TrackView {
    /// Its name, which is its rendition's.
    pub name: String,
    /// `video` or `audio`.
    pub kind: &'static str,
    /// `h264`, `h265`, `av1`, `vp8`, `vp9`, `aac` or `opus`; none before the first frame.
    pub codec: Option<&'static str>,
    /// The codec with its profile, as in `CODECS`.
    pub codecs: Option<String>,
    /// A video's size.
    pub resolution: Option<ResolutionView>,
    /// Frames a second, as measured.
    pub frame_rate: Option<f64>,
    /// Bits a second, as measured.
    pub bitrate: Option<u64>,
    /// An audio track's samples a second.
    pub sample_rate: Option<u32>,
    /// An audio track's channels.
    pub channels: Option<u8>,
    /// The newest group's number.
    pub group: Option<u64>,
    /// Groups that slow readers were made to skip.
    pub groups_skipped: u64,
}

impl TrackView {
    pub(super) fn of(track: &Track) -> Self {
        let config = track.config();
        let codec = config.as_ref().map(|config| &config.codec);
        let measured = measure(&track.window());
        let resolution = codec.and_then(|codec| codec.resolution());
        let audio = codec.and_then(|codec| codec.audio());
        Self {
            name: track.name().to_string(),
            kind: match track.kind() {
                MediaKind::Video => "video",
                MediaKind::Audio => "audio",
            },
            codec: codec.map(|codec| codec.name()),
            codecs: codec.map(|codec| codec.codecs_string()),
            resolution: resolution
                .map(|size| ResolutionView { width: size.width, height: size.height }),
            frame_rate: measured.map(|rates| rates.frame_rate),
            bitrate: measured.map(|rates| rates.bitrate),
            sample_rate: audio.map(|(rate, _)| rate),
            channels: audio.map(|(_, channels)| channels),
            group: track.newest().map(|group| group.seq().0),
            groups_skipped: track.groups_skipped(),
        }
    }
}

/// `/api/v1/sessions`.
#[derive(Serialize, Debug)]
pub struct SessionList {
    /// The oldest sessions, up to the limit.
    pub sessions: Vec<SessionView>,
    /// How many there are.
    pub total: usize,
}

/// A session.
#[derive(Serialize, Debug)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// `publisher` or `viewer`.
    pub role: &'static str,
    /// `whip`, `whep`, `srt`, `rtmp` or `demo`.
    pub protocol: &'static str,
    /// On which stream.
    pub stream: String,
    /// From which address.
    pub peer: String,
    /// When it opened, RFC 3339.
    pub since: String,
    /// Bytes received from the peer.
    pub bytes_in: u64,
    /// Bytes sent to the peer.
    pub bytes_out: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Frames dropped.
    pub frames_dropped: u64,
}

impl From<SessionSnapshot> for SessionView {
    fn from(session: SessionSnapshot) -> Self {
        Self {
            id: session.id.to_string(),
            role: session.info.role.as_str(),
            protocol: session.info.protocol,
            stream: session.info.stream.to_string(),
            // An IPv4 peer of a dual-stack socket comes as ::ffff:127.0.0.1.
            peer: SocketAddr::new(session.info.peer.ip().to_canonical(), session.info.peer.port())
                .to_string(),
            since: session.since.to_rfc3339_millis(),
            bytes_in: session.bytes_in,
            bytes_out: session.bytes_out,
            frames_in: session.frames_in,
            frames_out: session.frames_out,
            frames_dropped: session.frames_dropped,
        }
    }
}

/// The API's word for a broadcast's state.
pub(super) fn state_name(state: BroadcastState) -> &'static str {
    match state {
        BroadcastState::Live => "live",
        BroadcastState::Waiting => "waiting",
        BroadcastState::Ended => "ended",
    }
}
