//! The one QUIC endpoint between nodes: mutual TLS, four protocols told apart by ALPN.
//!
//! | ALPN | carries | who may |
//! | --- | --- | --- |
//! | `headwater-raft/1` | Raft's requests (`transport`) | origins |
//! | `headwater-control/1` | proposals, progress, status, life cycle (`control`) | members |
//! | `headwater-relay/1` | media between nodes (`headwater-relay`) | members |
//! | `headwater-join/1` | a new node's first request (`control::join`) | anybody with a token |
//!
//! A connection is handed out only after its peer's certificate was verified and `Admit` let the
//! node in. Until then it may send 64 KiB, and there is a bound on how many are so far.
//!
//! A driver file: opens the socket, awaits.
//!
//! Not here: what is said on the connections; who is a member.

mod accept;
mod refused;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, IdleTimeout, TransportConfig, VarInt};
use tokio::sync::mpsc;

pub use refused::Refused;

use crate::id::NodeId;
use crate::identity::{
    Identity, IdentityError, JoinToken, Refusal, Subject, client_config, join_client_config,
    peer_of, server_config,
};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Raft's requests.
    Raft,
    /// Requests between nodes.
    Control,
    /// Media.
    Relay,
    /// A new node's first request.
    Join,
}

impl Alpn {
    /// All.
    pub const ALL: [Alpn; 4] = [Alpn::Raft, Alpn::Control, Alpn::Relay, Alpn::Join];

    /// As the TLS handshake spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Alpn::Raft => "headwater-raft/1",
            Alpn::Control => "headwater-control/1",
            Alpn::Relay => "headwater-relay/1",
            Alpn::Join => "headwater-join/1",
        }
    }

    fn read(bytes: &[u8]) -> Option<Alpn> {
        Alpn::ALL.into_iter().find(|alpn| alpn.name().as_bytes() == bytes)
    }
}

/// Decides whether a node whose certificate is in order is let in.
pub trait Admit: Send + Sync + 'static {
    /// Whether it is, for this protocol.
    fn admit(&self, subject: &Subject, alpn: Alpn) -> Result<(), Refusal>;
}

/// Bounds and times of the endpoint.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// On a connection that says nothing, a ping goes out this often. The failure detector lives on
    /// them: three in a row missing make a suspicion. Default 100 ms.
    pub keep_alive: Duration,
    /// A connection on which nothing came for so long is dead. Longer than any pause that should
    /// be survived without a new handshake, shorter than what an operator waits. Default 3 s.
    pub idle_timeout: Duration,
    /// Most connections. Four a pair of nodes; default 4096.
    pub connections_max: usize,
    /// Most connections of one node. It opens one a protocol, and a new one while the old one has
    /// not yet timed out; default 16.
    pub connections_per_node_max: usize,
    /// Most connections whose peer is not known yet, and joiners; default 64.
    pub strangers_max: usize,
    /// Most streams that a peer may have open at once, each way; default 256.
    pub streams_max: u32,
}

impl EndpointOptions {
    /// The defaults, at this address.
    pub fn new(listen: SocketAddr) -> EndpointOptions {
        EndpointOptions {
            listen,
            keep_alive: Duration::from_millis(100),
            idle_timeout: Duration::from_secs(3),
            connections_max: 4_096,
            connections_per_node_max: 16,
            strangers_max: 64,
            streams_max: 256,
        }
    }
}

/// Bytes that a stranger may have sent and we not yet read.
const STRANGER_WINDOW: u32 = 64 * 1024;
/// Streams that a stranger may open.
const STRANGER_STREAMS: u32 = 4;
/// Bytes that a member may have sent on one connection and we not yet read. A gigabit at 100 ms
/// of round trip.
const MEMBER_WINDOW: u32 = 16 * 1024 * 1024;
/// The same on one stream: no single group of media, nor a snapshot, may block the others.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Between handshakes on connections whose protocol has its own, quicker sign of life.
const SLOW_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Nodes are milliseconds apart, or a hundred; quinn's 333 ms would cost a second at each lost
/// first packet.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// A handshake takes three round trips at most; on a node that is not there it must not hold up
/// the caller.
const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// Connections that wait to be taken, a protocol.
const INBOUND_MAX: usize = 64;

/// A connection that came in.
#[derive(Debug)]
pub struct Inbound {
    /// Who is at its other end; `None` only for a joiner.
    pub peer: Option<Subject>,
    /// The connection.
    pub connection: quinn::Connection,
    _counted: accept::Counted,
}

/// Connections that came in, by protocol.
#[derive(Debug)]
pub struct InboundQueues {
    /// `headwater-raft/1`
    pub raft: mpsc::Receiver<Inbound>,
    /// `headwater-control/1`
    pub control: mpsc::Receiver<Inbound>,
    /// `headwater-relay/1`
    pub relay: mpsc::Receiver<Inbound>,
    /// `headwater-join/1`
    pub join: mpsc::Receiver<Inbound>,
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name is not known, or is no `host:port`.
    #[error("{address}: {source}")]
    Address {
        /// What was called.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The other side, or this one, refused.
    #[error("{} refuses ({refusal}): {detail}", if *.by_us { "this node" } else { "the other node" })]
    Refused {
        /// Whether this side did.
        by_us: bool,
        /// Why.
        refusal: Refusal,
        /// In words.
        detail: String,
    },
    /// Nobody answers.
    #[error("{0} does not answer")]
    Silent(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// This node has no endpoint, or has shut it.
    #[error("this node's cluster endpoint is not open")]
    Closed,
    /// This node's own certificate is unusable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The endpoint. Clones are the same one.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    quic: quinn::Endpoint,
    identity: Arc<Identity>,
    options: EndpointOptions,
    refused: Refused,
}

impl Endpoint {
    /// Opens the socket and begins to take connections. Must be called within a tokio runtime.
    pub fn open(
        identity: Arc<Identity>,
        options: EndpointOptions,
        admit: Arc<dyn Admit>,
    ) -> Result<(Endpoint, InboundQueues), OpenError> {
        let alpns: Vec<&[u8]> = Alpn::ALL.iter().map(|alpn| alpn.name().as_bytes()).collect();
        let tls = server_config(&identity, &alpns)?;
        let crypto = QuicServerConfig::try_from(tls)
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(Arc::new(inbound_transport(&options)));
        server.max_incoming(options.strangers_max);
        let quic = quinn::Endpoint::server(server, options.listen)
            .map_err(|source| OpenError::Listen { address: options.listen, source })?;
        let inner = Inner { quic, identity, options, refused: Refused::default() };
        let endpoint = Endpoint { inner: Arc::new(inner) };
        let queues = accept::start(&endpoint, admit);
        Ok((endpoint, queues))
    }

    /// Where it listens; with the port that the system chose, if it was asked to.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.quic.local_addr()
    }

    /// What was refused.
    pub fn refused(&self) -> &Refused {
        &self.inner.refused
    }

    /// Calls the node `node` at `address` (`host:port`); whoever answers must be that node. The
    /// other side may still close it when it sees our certificate: what is said first on the
    /// connection tells.
    pub async fn connect(
        &self,
        address: &str,
        alpn: Alpn,
        node: Option<NodeId>,
    ) -> Result<quinn::Connection, ConnectError> {
        let tls = client_config(&self.inner.identity, alpn.name().as_bytes(), node)?;
        let options = &self.inner.options;
        let client = client(tls, outbound_transport(options, alpn))?;
        let called = call(&self.inner.quic, address, client).await;
        called.map_err(|(error, peer)| {
            if let (ConnectError::Refused { by_us: true, refusal, detail }, Some(peer)) =
                (&error, peer)
            {
                self.inner.refused.note(*refusal, peer, node, detail);
            }
            error
        })
    }

    /// Ends all connections and closes the socket's doors.
    pub async fn close(&self) {
        self.inner.quic.close(VarInt::from_u32(0), b"shutting down");
        // So that the last word goes out; a peer that is gone is not waited for.
        let _ = tokio::time::timeout(Duration::from_millis(300), self.inner.quic.wait_idle()).await;
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.local_address().ok()).finish()
    }
}

/// Calls `address` as a joiner: without a certificate, believing the token's CA alone.
pub(crate) async fn call_to_join(
    address: &str,
    token: &JoinToken,
) -> Result<(quinn::Endpoint, quinn::Connection), ConnectError> {
    let tls = join_client_config(token, Alpn::Join.name().as_bytes())?;
    let mut transport = TransportConfig::default();
    transport.initial_rtt(INITIAL_RTT);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    let first = resolve(address).await?.first().copied();
    let any: SocketAddr = match first {
        Some(SocketAddr::V6(_)) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        _ => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
    };
    let quic = quinn::Endpoint::client(any)
        .map_err(|source| ConnectError::Address { address: address.into(), source })?;
    let called = call(&quic, address, client(tls, transport)?).await;
    Ok((quic, called.map_err(|(error, _)| error)?))
}

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address is in use, or not of this machine.
    #[error("cannot listen on {address} (UDP): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The node's certificate is unusable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

fn inbound_transport(options: &EndpointOptions) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(idle(options.idle_timeout));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS));
    transport.max_concurrent_uni_streams(VarInt::from_u32(STRANGER_STREAMS));
    transport.receive_window(VarInt::from_u32(STRANGER_WINDOW));
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
    transport.initial_rtt(INITIAL_RTT);
    transport
}

fn outbound_transport(options: &EndpointOptions, alpn: Alpn) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let keep_alive = match alpn {
        Alpn::Control | Alpn::Relay => options.keep_alive,
        Alpn::Raft | Alpn::Join => SLOW_KEEP_ALIVE.min(options.idle_timeout / 3),
    };
    transport.keep_alive_interval(Some(keep_alive));
    transport.max_idle_timeout(idle(options.idle_timeout));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(options.streams_max));
    transport.max_concurrent_uni_streams(VarInt::from_u32(options.streams_max));
    transport.receive_window(VarInt::from_u32(MEMBER_WINDOW));
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
    transport.initial_rtt(INITIAL_RTT);
    transport
}

fn idle(timeout: Duration) -> Option<IdleTimeout> {
    IdleTimeout::try_from(timeout).ok()
}

fn client(
    tls: rustls::ClientConfig,
    transport: TransportConfig,
) -> Result<quinn::ClientConfig, ConnectError> {
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| IdentityError::Certificate(error.to_string()))?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport));
    Ok(client)
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, ConnectError> {
    let failed = |source| ConnectError::Address { address: address.to_owned(), source };
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host(address).await.map_err(failed)?.take(8).collect();
    match found.is_empty() {
        true => Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))),
        false => Ok(found),
    }
}

/// Tries each of a name's addresses. An error comes with the address that it is about.
async fn call(
    quic: &quinn::Endpoint,
    address: &str,
    client: quinn::ClientConfig,
) -> Result<quinn::Connection, (ConnectError, Option<SocketAddr>)> {
    let mut last = (ConnectError::Silent(address.to_owned()), None);
    for target in resolve(address).await.map_err(|error| (error, None))? {
        // The name in TLS says nothing: who answers is checked by the URI in the certificate.
        let connecting = match quic.connect_with(client.clone(), target, "headwater.invalid") {
            Ok(connecting) => connecting,
            Err(quinn::ConnectError::EndpointStopping) => {
                return Err((ConnectError::Closed, None));
            }
            Err(error) => {
                last = (ConnectError::Broken(error.to_string()), Some(target));
                continue;
            }
        };
        match tokio::time::timeout(HANDSHAKE_MAX, connecting).await {
            Err(_) => last = (ConnectError::Silent(address.to_owned()), Some(target)),
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = (failure(&error, address), Some(target)),
        }
    }
    Err(last)
}

/// What a connection's end means to the one that called.
pub(crate) fn failure(error: &ConnectionError, address: &str) -> ConnectError {
    match (refusal_of(error), error) {
        (Some((refusal, detail)), error) => {
            let by_us = matches!(error, ConnectionError::TransportError(_));
            ConnectError::Refused { by_us, refusal, detail }
        }
        (None, ConnectionError::TimedOut) => ConnectError::Silent(address.to_owned()),
        (None, error) => ConnectError::Broken(error.to_string()),
    }
}

/// The refusal that ended a connection, whoever refused; `None` where it ended otherwise.
pub(crate) fn refusal_of(error: &ConnectionError) -> Option<(Refusal, String)> {
    let alert = |code: u64| u8::try_from(code.checked_sub(0x100)?).ok();
    match error {
        ConnectionError::TransportError(error) => {
            let alert = alert(u64::from(error.code))?;
            // Only a caller knows whom it wants (NotValidForName).
            let refusal = match (alert, error.reason.contains("NotValidForName")) {
                (42, true) => Refusal::OtherNode,
                _ => Refusal::of_alert(alert),
            };
            Some((refusal, error.reason.clone()))
        }
        ConnectionError::ConnectionClosed(close) => {
            let detail = String::from_utf8_lossy(&close.reason).into_owned();
            Some((Refusal::of_alert(alert(u64::from(close.error_code))?), detail))
        }
        ConnectionError::ApplicationClosed(close) => {
            let detail = String::from_utf8_lossy(&close.reason).into_owned();
            Some((Refusal::of_code(close.error_code.into_inner())?, detail))
        }
        ConnectionError::VersionMismatch => {
            Some((Refusal::Version, "speaks no QUIC version of ours".into()))
        }
        _ => None,
    }
}

/// Ends a connection for a reason that the other side can tell.
pub(crate) fn refuse(connection: &quinn::Connection, refusal: Refusal, detail: &str) {
    let detail = detail.get(..detail.len().min(200)).unwrap_or(refusal.name());
    connection.close(VarInt::from_u32(refusal.code()), detail.as_bytes());
}
