//! What can be set about the RTMP listener.
//!
//! Not here: where the values come from (`config`).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::session::SessionLimits;

/// Settings of the RTMP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtmpOptions {
    /// Address and TCP port. Default `0.0.0.0:1935`.
    pub listen: SocketAddr,
    /// From the connection's start to an accepted publish. Shorter frees slots from idle
    /// connections sooner; longer suits slow links. Default 10 s.
    pub handshake_timeout: Duration,
    /// A publisher that sends nothing for so long is taken for gone, and one that does not read
    /// what it is sent as well. Shorter frees a dead publisher's name sooner. Default 10 s.
    pub idle_timeout: Duration,
    /// Most connections at once; further ones are closed at once and counted. Default 1,000.
    pub connections: usize,
    /// Longest message, and so the largest frame, in bytes; the protocol's own bound is
    /// 16,777,215. Default 16 MiB.
    pub message_bytes: usize,
    /// Most bytes that a connection's incomplete messages hold together: `message_bytes` and some
    /// audio beside it. Default 20 MiB.
    pub buffered_bytes: usize,
    /// Most chunk streams on a connection; encoders use about five. Default 64.
    pub chunk_streams: usize,
}

impl Default for RtmpOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1935)),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            connections: 1_000,
            message_bytes: 16 * 1024 * 1024,
            buffered_bytes: 20 * 1024 * 1024,
            chunk_streams: 64,
        }
    }
}

impl RtmpOptions {
    pub(super) fn session_limits(&self) -> SessionLimits {
        SessionLimits {
            message_bytes: self.message_bytes,
            buffered_bytes: self.buffered_bytes,
            chunk_streams: self.chunk_streams,
        }
    }
}
