//! What can go wrong between the node and the SFU, and why a session ends.
//!
//! Not here: HTTP status codes (`origin` maps these values to them).

use std::net::SocketAddr;

use thiserror::Error;

/// An error of the SFU's interface. The text is fit for the client that caused it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SfuError {
    /// The offer is not SDP, or breaks a rule that every WebRTC offer must keep. The client's
    /// fault: 400.
    #[error("the SDP offer cannot be used: {0}")]
    MalformedSdp(String),
    /// The offer is correct but has nothing this server could send or receive: 406.
    #[error("nothing in the offer can be served: {0}")]
    NotAcceptable(String),
    /// The ICE fragment (RFC 8840 `application/trickle-ice-sdpfrag`) is not one: 400.
    #[error("the ICE fragment cannot be used: {0}")]
    MalformedFragment(String),
    /// The entity tag is not the one of the session's current ICE generation: 412.
    #[error("the entity tag is not the current one, {current}")]
    StaleEtag {
        /// The current tag, without quotes.
        current: String,
    },
    /// No session of that id: 404.
    #[error("there is no such session")]
    UnknownSession,
    /// The id is in use.
    #[error("the session id is in use")]
    SessionExists,
    /// A limit is reached; trying later may help: 503.
    #[error("the limit of {limit} {what} is reached")]
    LimitReached {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The SFU is shutting down: 503.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A socket cannot be had at start-up.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A thread or a certificate cannot be made at start-up.
    #[error("cannot start the SFU: {0}")]
    Start(String),
    /// An option is out of its range.
    #[error("{option} must be {allowed}")]
    Config {
        /// The option.
        option: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The node asked for it: `DELETE`, a kick, a replaced publisher.
    #[error("closed by request")]
    Requested,
    /// The peer said goodbye.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// No DTLS within `handshake_timeout`.
    #[error("the connection was not made in time")]
    HandshakeTimeout,
    /// Nothing came from the peer for `idle_timeout`.
    #[error("nothing was heard from the peer")]
    IdleTimeout,
    /// All tracks that the viewer was given have ended.
    #[error("the stream ended")]
    Ended,
    /// The publisher's sink takes no more frames.
    #[error("the stream takes no more frames")]
    SinkClosed,
    /// A track changed to something that this viewer did not negotiate.
    #[error("{0}")]
    Renegotiate(String),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The SFU is shutting down.
    #[error("the server is shutting down")]
    Shutdown,
}

impl CloseReason {
    /// A short stable word for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::PeerClosed => "peer_closed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Ended => "ended",
            Self::SinkClosed => "sink_closed",
            Self::Renegotiate(_) => "renegotiate",
            Self::Protocol(_) => "protocol",
            Self::Shutdown => "shutdown",
        }
    }
}
