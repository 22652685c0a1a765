//! The SRT protocol as the rest of this module sees it: datagrams and the time go in; datagrams,
//! events and the next wake-up come out.
//!
//! Not here: an implementation (`sapflow`), sockets (`server`), the meaning of stream ids.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// A connection, for as long as it is open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u32);

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A caller passed the handshake, its secret included: answer with [`Transport::accept`] or
    /// [`Transport::reject`] at once.
    Connect {
        /// The connection.
        id: ConnId,
        /// The caller's address.
        peer: SocketAddr,
        /// The stream id as it came; untrusted.
        stream_id: Vec<u8>,
        /// AES key length in bytes; 0 without encryption.
        key_length: u8,
    },
    /// The next payload, in order.
    Data {
        /// The connection.
        id: ConnId,
        /// One message.
        payload: Vec<u8>,
    },
    /// The connection ended from the other side or by time-out.
    Closed {
        /// The connection.
        id: ConnId,
        /// How.
        reason: CloseReason,
        /// Its final counts.
        stats: ConnStats,
    },
    /// A caller was refused, by us or by the protocol.
    Refused {
        /// The caller's address.
        peer: SocketAddr,
        /// The reject code as libsrt reports it: below 1000 the protocol's own reasons, from
        /// there 1000 + HTTP status.
        code: u32,
    },
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseReason {
    /// The peer said goodbye.
    Shutdown,
    /// The peer fell silent.
    Timeout,
}

/// Why a payload cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SendRefused {
    /// No such open connection.
    Gone,
    /// The send buffer is full: the network or the peer is too slow.
    Full,
    /// Larger than a message may be.
    TooLarge,
}

/// Counts of one connection since it opened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct ConnStats {
    /// Data packets that came, every copy.
    pub(crate) packets_received: u64,
    /// Data packets found missing.
    pub(crate) packets_lost: u64,
    /// Of those that came, sent again at our request.
    pub(crate) packets_recovered: u64,
    /// Missing packets that did not come in time.
    pub(crate) packets_dropped: u64,
    /// Data packets that did not fit the connection's encryption.
    pub(crate) packets_undecryptable: u64,
    /// Data packets sent, every copy.
    pub(crate) packets_sent: u64,
    /// Of those, sent again at the peer's request.
    pub(crate) packets_resent: u64,
    /// Packets given up on because they were too late for the peer.
    pub(crate) packets_expired: u64,
    /// The round trip.
    pub(crate) rtt: Duration,
}

/// Counts of datagrams that belong to no connection, since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct PortStats {
    /// Not SRT, or over 1500 bytes.
    pub(crate) malformed: u64,
    /// For no connection, or from another address than its own.
    pub(crate) stray: u64,
    /// With a wrong or stale SYN cookie.
    pub(crate) bad_cookie: u64,
    /// Over the allowance of handshakes.
    pub(crate) rate_limited: u64,
}

/// A listening SRT port without its socket. After each call that takes `now`, drain
/// [`Self::poll_event`] and [`Self::poll_transmit`], then sleep until [`Self::poll_timeout`].
pub(crate) trait Transport: Send {
    /// Takes a datagram.
    fn handle_datagram(&mut self, now: Instant, peer: SocketAddr, datagram: &[u8]);
    /// Does what is due.
    fn handle_timeout(&mut self, now: Instant);
    /// When something is due next.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The next thing that happened.
    fn poll_event(&mut self) -> Option<Event>;
    /// The next datagram to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)>;
    /// Lets a caller in; false when it is gone.
    fn accept(&mut self, now: Instant, id: ConnId) -> bool;
    /// Refuses a caller with 1000 + `status`.
    fn reject(&mut self, id: ConnId, status: u16);
    /// Queues one message for the peer.
    fn send(&mut self, now: Instant, id: ConnId, payload: Bytes) -> Result<(), SendRefused>;
    /// Says goodbye and forgets the connection.
    fn close(&mut self, now: Instant, id: ConnId);
    /// Packets queued for or not yet acknowledged by the peer.
    fn backlog(&self, id: ConnId) -> usize;
    /// A connection's counts.
    fn stats(&self, id: ConnId) -> Option<ConnStats>;
    /// The port's counts.
    fn port_stats(&self) -> PortStats;
    /// Open connections.
    fn connections(&self) -> usize;
}
