//! SRT: a listener for encoders that publish MPEG-TS and for players that read it.
//!
//! One UDP port, one task. [`SrtServer`] moves datagrams between the socket and a
//! `Transport` (sans-IO, by `sapflow`), asks `auth`, opens sessions, and hands
//! payloads to `ingest::ts`; readers are fed by a task each (`play`).
//! Not here: MPEG-TS (`media::ts`), times and groups (`ingest::publisher`).

mod keys;
mod merge;
mod metrics;
mod play;
mod sapflow;
mod sender;
mod server;
mod streamid;
mod transport;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

pub use server::{SrtDeps, SrtServer};
pub use streamid::{Mode, STREAM_ID_BYTES_MAX, StreamId, StreamIdError};

const TS_PACKET_BYTES: usize = headwater_media::ts::PACKET_BYTES;

/// Lengths a passphrase may have, in bytes (SRT's own rule).
pub const PASSPHRASE_BYTES: RangeInclusive<usize> = 10..=79;

/// How the SRT listener behaves: `[srt]`.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtOptions {
    /// Where to listen, UDP. Default `0.0.0.0:8890`.
    pub listen: SocketAddr,
    /// How long a packet may take from the sender to us, retransmissions included; the larger of
    /// this and the peer's wish holds. Higher survives more loss on longer paths (three to four
    /// round trips are good) and delays the stream by as much. Default 120 ms.
    pub latency: Duration,
    /// When set, every caller must encrypt with it (AES-128 or AES-256, the caller chooses by
    /// `pbkeylen`). 10 to 79 bytes. Default none: callers that encrypt are refused.
    pub passphrase: Option<String>,
    /// Open connections, publishers and readers together; further callers are refused as
    /// "backlog". Each may hold `buffer_packets` packets. Default 1024.
    pub connections_max: usize,
    /// Handshake packets answered a second (bursts of twice that): bounds what a flood of
    /// half-open callers, or of wrong passphrases (about 1 ms of CPU each), costs. A caller takes
    /// two. Default 400.
    pub handshakes_per_second: u32,
    /// Receive buffer of a connection in packets of up to 1456 bytes; must hold `latency` at the
    /// publisher's bit rate (8192 packets hold 0.8 s at 100 Mb/s). Default 8192.
    pub buffer_packets: usize,
    /// Send buffer of a reader in packets; a reader that fills it skips to the newest group.
    /// Default 8192.
    pub send_packets: usize,
    /// A peer that is silent for this long is gone (it sends keep-alives each second). Default
    /// 5 s.
    pub peer_idle: Duration,
    /// The socket's receive buffer in bytes, as far as the system's `net.core.rmem_max` allows;
    /// too small loses packets in bursts. Default 8 MiB.
    pub receive_buffer: usize,
    /// The socket's send buffer in bytes (`net.core.wmem_max`). Default 4 MiB.
    pub send_buffer: usize,
    /// Bytes of a message to a reader: a whole number of 188-byte TS packets, 7 to fit an
    /// Ethernet frame. Default 1316.
    pub payload_size: usize,
}

/// Whether messages to readers may have that many bytes: 1 to 7 whole TS packets.
fn payload_size_allowed(bytes: usize) -> bool {
    (1..=7).any(|packets| packets * TS_PACKET_BYTES == bytes)
}

const _: () = assert!(7 * TS_PACKET_BYTES <= sender::MESSAGE_BYTES_MAX, "messages fit a packet");

impl Default for SrtOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8890)),
            latency: Duration::from_millis(120),
            passphrase: None,
            connections_max: 1024,
            handshakes_per_second: 400,
            buffer_packets: 8192,
            send_packets: 8192,
            peer_idle: Duration::from_secs(5),
            receive_buffer: 8 << 20,
            send_buffer: 4 << 20,
            payload_size: 1316,
        }
    }
}

impl std::fmt::Debug for SrtOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtOptions")
            .field("listen", &self.listen)
            .field("latency", &self.latency)
            .field("encrypted", &self.passphrase.is_some())
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}
