//! The handle that the node holds: starts the workers and passes requests to them.
//!
//! Not here: anything about media.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use headwater_media::{SessionId, StreamName};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};

use crate::config::{SfuConfig, candidate_addresses};
use crate::engine::Engine;
use crate::error::{CloseReason, SfuError};
use crate::frames::{PlayTracks, PublisherSink};
use crate::shard::{Accepted, Shard};
use crate::shared::Shared;
use crate::stats::SessionStats;
use crate::worker::{self, Command, Setup};

/// Requests that wait for a worker; more are refused.
const COMMANDS_MAX: usize = 256;
/// How often a free port is looked for that is free for UDP and TCP alike.
const PORT_TRIES: usize = 16;
/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 256;

/// What a client gets for its offer: 201 with `sdp` as body and `etag` as entity tag.
#[derive(Debug)]
pub struct Answer {
    /// The SDP answer.
    pub sdp: String,
    /// Names the session's ICE generation (RFC 9725 §4.4.1), without quotes.
    pub etag: String,
    /// What the client goes without, and what would help; to be logged and shown.
    pub warnings: Vec<String>,
    /// Resolves when the session is over, with the reason.
    pub closed: oneshot::Receiver<CloseReason>,
}

impl From<Accepted> for Answer {
    fn from(accepted: Accepted) -> Self {
        let Accepted { sdp, etag, warnings, closed } = accepted;
        Self { sdp, etag, warnings, closed }
    }
}

/// What became of an ICE `PATCH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchOutcome {
    /// Candidates were trickled: 204.
    NoContent,
    /// ICE restarted: 200 with this fragment and the new entity tag.
    Restarted {
        /// Body of type `application/trickle-ice-sdpfrag`.
        fragment: String,
        /// The new entity tag, without quotes.
        etag: String,
    },
}

struct WorkerHandle {
    commands: mpsc::Sender<Command>,
    ended: oneshot::Receiver<()>,
    address: SocketAddr,
}

/// The SFU. Dropping it ends all sessions.
pub struct Sfu {
    shared: Arc<Shared>,
    workers: Vec<WorkerHandle>,
}

impl Sfu {
    /// Binds every worker's UDP and TCP port and starts the workers, a thread each.
    ///
    /// # Errors
    /// An option is out of range, a port is taken, or a thread cannot be made.
    pub fn start(config: SfuConfig) -> Result<Self, SfuError> {
        if !(1..=256).contains(&config.workers) {
            return Err(SfuError::Config { option: "workers", allowed: "1 to 256" });
        }
        if !(200..=1_400).contains(&config.payload_bytes) {
            return Err(SfuError::Config { option: "payload_bytes", allowed: "200 to 1400" });
        }
        let config = Arc::new(config);
        let engine = Arc::new(Engine::new()?);
        let shared =
            Arc::new(Shared::new(config.workers, config.sessions_max, config.half_open_max));
        let machine = machine_addresses();
        let workers = (0..config.workers)
            .map(|index| start_worker(index, &config, &engine, &shared, &machine))
            .collect::<Result<_, _>>()?;
        Ok(Self { shared, workers })
    }

    /// The addresses the workers are bound to.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.workers.iter().map(|worker| worker.address).collect()
    }

    /// Answers the offer of a publisher of `stream` (WHIP). Frames go to `sink`, from a worker's
    /// thread.
    ///
    /// # Errors
    /// The offer cannot be used, or a limit is reached.
    pub async fn publish(
        &self,
        offer: &str,
        session: SessionId,
        stream: &StreamName,
        sink: Box<dyn PublisherSink>,
    ) -> Result<Answer, SfuError> {
        let worker = self.shared.home(stream);
        let offer = offer.to_owned();
        let make = |reply| Command::Publish { offer, session, sink, reply };
        self.ask(worker, make).await?.map(Answer::from)
    }

    /// Answers the offer of a viewer of `stream` (WHEP) and sends it the tracks.
    ///
    /// # Errors
    /// The offer cannot be used, nothing can be sent, or a limit is reached.
    pub async fn play(
        &self,
        offer: &str,
        session: SessionId,
        stream: &StreamName,
        tracks: PlayTracks,
    ) -> Result<Answer, SfuError> {
        let worker = self.shared.seat(stream);
        let offer = offer.to_owned();
        let make = |reply| Command::Play { offer, session, tracks, reply };
        self.ask(worker, make).await?.map(Answer::from)
    }

    /// Takes trickled candidates or restarts ICE (RFC 9725 §4.4). `etag` is what `If-Match`
    /// names, without quotes; none for `*`.
    ///
    /// # Errors
    /// No such session, a wrong fragment, a stale entity tag.
    pub async fn patch(
        &self,
        session: SessionId,
        fragment: &str,
        etag: Option<&str>,
    ) -> Result<PatchOutcome, SfuError> {
        let worker = self.shared.worker_of(session).ok_or(SfuError::UnknownSession)?;
        let (fragment, etag) = (fragment.to_owned(), etag.map(str::to_owned));
        let make = |reply| Command::Patch { session, fragment, etag, reply };
        let outcome = self.ask(worker, make).await??;
        Ok(match outcome {
            None => PatchOutcome::NoContent,
            Some((fragment, etag)) => PatchOutcome::Restarted { fragment, etag },
        })
    }

    /// Ends a session: the peer is told, and its sink. False when there is none of that id.
    pub async fn close(&self, session: SessionId, reason: CloseReason) -> bool {
        let Some(worker) = self.shared.worker_of(session) else { return false };
        let make = |reply| Command::Close { session, reason, reply };
        self.ask(worker, make).await.unwrap_or(false)
    }

    /// All sessions as they are now.
    #[must_use]
    pub fn stats(&self) -> Vec<SessionStats> {
        self.shared.stats()
    }

    /// One session as it is now.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Option<SessionStats> {
        self.shared.session_stats(session)
    }

    /// Ends all sessions and the workers; waits at most `deadline`. False when a worker took
    /// longer.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        let ended: Vec<_> = self.workers.into_iter().map(|worker| worker.ended).collect();
        let all = async {
            for worker in ended {
                // An error means that the worker's thread is gone, which is what is waited for.
                let _ = worker.await;
            }
        };
        tokio::time::timeout(deadline, all).await.is_ok()
    }

    async fn ask<R>(
        &self,
        worker: usize,
        make: impl FnOnce(oneshot::Sender<R>) -> Command,
    ) -> Result<R, SfuError> {
        let worker = self.workers.get(worker).ok_or(SfuError::UnknownSession)?;
        let (reply, answer) = oneshot::channel();
        match worker.commands.try_send(make(reply)) {
            Ok(()) => answer.await.map_err(|_| SfuError::ShuttingDown),
            Err(mpsc::error::TrySendError::Full(_)) => {
                crate::metrics::refused("commands");
                Err(SfuError::LimitReached { what: "waiting requests", limit: COMMANDS_MAX })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SfuError::ShuttingDown),
        }
    }
}

impl std::fmt::Debug for Sfu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sfu").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

fn start_worker(
    index: usize,
    config: &Arc<SfuConfig>,
    engine: &Arc<Engine>,
    shared: &Arc<Shared>,
    machine: &[IpAddr],
) -> Result<WorkerHandle, SfuError> {
    let mut listen = config.listen;
    if listen.port() != 0 {
        let port = u16::try_from(index).ok().and_then(|n| listen.port().checked_add(n));
        let allowed = "low enough for a port for every worker";
        listen.set_port(port.ok_or(SfuError::Config { option: "listen", allowed })?);
    }
    let (udp, tcp, address) =
        bind(listen, config.tcp).map_err(|source| SfuError::Bind { address: listen, source })?;
    let candidates = candidate_addresses(address, &config.public_addresses, machine);
    let shard =
        Shard::new(index, Arc::clone(config), Arc::clone(engine), Arc::clone(shared), candidates);
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let (end, ended) = oneshot::channel();
    let setup = Setup { shard, udp, tcp, commands: receiver };
    let body = move || {
        if let Err(error) = worker::run(setup) {
            tracing::error!(worker = index, %error, "a WebRTC worker failed");
        }
        // The handle may be gone: then nobody waits.
        let _ = end.send(());
    };
    std::thread::Builder::new()
        .name(format!("webrtc-{index}"))
        .spawn(body)
        .map_err(|error| SfuError::Start(error.to_string()))?;
    Ok(WorkerHandle { commands, ended, address })
}

type Bound = (UdpSocket, Option<std::net::TcpListener>, SocketAddr);

/// Binds UDP and TCP to one port; for port 0, one that is free for both.
fn bind(listen: SocketAddr, with_tcp: bool) -> io::Result<Bound> {
    let mut tries = if listen.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        let udp = socket(listen, Type::DGRAM, Protocol::UDP)?;
        udp.bind(&listen.into())?;
        let udp = UdpSocket::from(udp);
        let address = udp.local_addr()?;
        if !with_tcp {
            return Ok((udp, None, address));
        }
        tries -= 1;
        match bind_tcp(address) {
            Ok(tcp) => return Ok((udp, Some(tcp), address)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let tcp = socket(address, Type::STREAM, Protocol::TCP)?;
    tcp.set_reuse_address(true)?;
    tcp.bind(&address.into())?;
    tcp.listen(BACKLOG)?;
    Ok(tcp.into())
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The addresses of this machine's interfaces. Without them the loopback address is advertised
/// alone, which the operator is told.
fn machine_addresses() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(if_addrs::Interface::ip).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot list network interfaces; set public_addresses");
            Vec::new()
        }
    }
}
