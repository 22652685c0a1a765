//! The SRT port's driver: one UDP socket, one task.
//!
//! Moves datagrams between the socket and the [`Transport`], keeps its timers, and turns its
//! events into sessions. Not here: what sessions do with media (`ingest::ts`, `play`), the
//! protocol (`sapflow`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_media::{Broadcast, SessionId, StreamName};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::metrics::{self as meters, PortMeter, SessionMeter};
use super::play::{self, Outlet};
use super::sapflow::Sapflow;
use super::streamid::{Mode, StreamId};
use super::transport::{CloseReason, ConnId, Event, SendRefused, Transport};
use super::{PASSPHRASE_BYTES, SrtOptions};
use crate::auth::{Access, Action, Caller};
use crate::clock::Clock;
use crate::ingest::Publisher;
use crate::ingest::ts::TsIngest;
use crate::sessions::{Role, SessionHandle, SessionInfo, Sessions};
use crate::streams::Streams;

/// Datagrams taken in one turn, so that timers and readers get theirs under a flood.
const DATAGRAMS_A_TURN: usize = 256;
/// Commands taken in one turn.
const COMMANDS_A_TURN: usize = 256;
/// Commands that may wait: readers that find no room skip ahead.
const COMMANDS_MAX: usize = 4_096;
/// Timers are kept to this grain: the protocol's shortest interval is 10 ms.
const TIMER_GRAIN: Duration = Duration::from_millis(1);
/// How long to sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);
/// How often counts go to the metrics.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Above any datagram the protocol allows (1500 bytes), so that larger ones are seen as such.
const DATAGRAM_BUFFER_BYTES: usize = 2_048;

/// What the listener works with.
#[derive(Clone)]
pub struct SrtDeps {
    /// The node's clock.
    pub clock: Clock,
    /// Who may publish and play.
    pub access: Access,
    /// The registry of sessions.
    pub sessions: Sessions,
    /// The directory of streams.
    pub streams: Streams,
}

/// A bound SRT port.
pub struct SrtServer {
    socket: UdpSocket,
    local: SocketAddr,
    transport: Sapflow,
    options: SrtOptions,
    deps: SrtDeps,
}

impl SrtServer {
    /// Binds the port. Call within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or an option is out of its range.
    pub fn bind(options: SrtOptions, deps: SrtDeps) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        if !super::payload_size_allowed(options.payload_size) {
            return Err(invalid(format!(
                "an SRT payload of {} bytes is not 1 to 7 TS packets of 188 bytes",
                options.payload_size
            )));
        }
        let transport = Sapflow::new(&options, Instant::now()).ok_or_else(|| {
            invalid(format!(
                "an SRT passphrase has {} to {} bytes and no zero byte",
                PASSPHRASE_BYTES.start(),
                PASSPHRASE_BYTES.end()
            ))
        })?;
        let socket = open_socket(&options)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local, transport, options, deps })
    }

    /// The address it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `shutdown`, then says goodbye to every peer.
    ///
    /// # Errors
    /// The socket fails for good.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let Self { socket, transport, options, deps, .. } = self;
        let (commands, mut inbox) = mpsc::channel(COMMANDS_MAX);
        let (sessions, waiting) = (HashMap::new(), HashMap::new());
        let port = PortMeter::default();
        let mut driver = Driver { transport, options, deps, commands, sessions, waiting, port };
        let mut report = tokio::time::interval(REPORT_INTERVAL);
        report.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            let due = driver.transport.poll_timeout().unwrap_or(now + IDLE);
            let wake = due.max(now + TIMER_GRAIN);
            tokio::select! {
                () = shutdown.cancelled() => break,
                ready = socket.readable() => {
                    ready?;
                    driver.receive(&socket);
                }
                Some(command) = inbox.recv() => driver.command(command),
                _ = report.tick() => driver.report(),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            for _ in 0..COMMANDS_A_TURN {
                let Ok(command) = inbox.try_recv() else { break };
                driver.command(command);
            }
            driver.turn(&socket);
        }
        driver.close_all("the node is shutting down");
        driver.turn(&socket);
        Ok(())
    }
}

fn open_socket(options: &SrtOptions) -> io::Result<UdpSocket> {
    let socket =
        Socket::new(Domain::for_address(options.listen), Type::DGRAM, Some(Protocol::UDP))?;
    if options.listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(options.receive_buffer)?;
    socket.set_send_buffer_size(options.send_buffer)?;
    // Linux reports twice what it grants.
    let granted = socket.recv_buffer_size()? / 2;
    if granted < options.receive_buffer {
        tracing::warn!(
            granted,
            wanted = options.receive_buffer,
            "the SRT socket's receive buffer is smaller than wished: raise net.core.rmem_max"
        );
    }
    socket.bind(&options.listen.into())?;
    UdpSocket::from_std(socket.into())
}

/// What tasks ask of the driver.
pub(super) enum Command {
    /// Send messages to a reader.
    Send(ConnId, Vec<Bytes>),
    /// End a session.
    Close(ConnId, String),
    /// A caller's wish was looked into.
    Decided(ConnId, Box<Waiting>, Result<Wanted, Refusal>),
}

/// A caller whose handshake waits for its answer.
pub(super) struct Waiting {
    peer: SocketAddr,
    key_length: u8,
    user: Option<String>,
    handle: SessionHandle,
}

/// What a caller gets.
pub(super) enum Wanted {
    Publish(Box<Publisher>),
    Play(Broadcast),
}

/// Finds what a caller asks for.
async fn find(
    streams: &Streams,
    asked: &StreamId,
    handle: &SessionHandle,
) -> Result<Wanted, Refusal> {
    match asked.mode {
        Mode::Publish => match streams.publish(&asked.stream, handle).await {
            Ok(publisher) => Ok(Wanted::Publish(Box::new(publisher))),
            Err(error) if error.is_busy() => Err(Refusal::new(409, error)),
            Err(error) if error.is_of_relay() => Err(Refusal::new(403, error)),
            Err(error) => Err(Refusal::new(503, error)),
        },
        Mode::Request => streams
            .find(&asked.stream)
            .map(Wanted::Play)
            .ok_or_else(|| Refusal::new(404, format!("stream {} is not live", asked.stream))),
    }
}

enum Activity {
    Publish(Box<TsIngest>),
    Play { backlog: Arc<AtomicUsize>, _task: AbortOnDrop },
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Session {
    handle: SessionHandle,
    activity: Activity,
    meter: SessionMeter,
    /// Ends the session when it is kicked, replaced or drained.
    _watch: AbortOnDrop,
}

impl Session {
    fn stream(&self) -> &StreamName {
        &self.handle.info().stream
    }
}

/// Why a caller is not let in: an HTTP status and what to do about it.
pub(super) struct Refusal {
    status: u16,
    detail: String,
}

impl Refusal {
    fn new(status: u16, detail: impl ToString) -> Self {
        Self { status, detail: detail.to_string() }
    }
}

struct Driver<T> {
    transport: T,
    options: SrtOptions,
    deps: SrtDeps,
    commands: mpsc::Sender<Command>,
    sessions: HashMap<ConnId, Session>,
    /// Callers that wait for their handshake's answer.
    waiting: HashMap<ConnId, SocketAddr>,
    port: PortMeter,
}

impl<T: Transport> Driver<T> {
    fn receive(&mut self, socket: &UdpSocket) {
        let mut buffer = [0; DATAGRAM_BUFFER_BYTES];
        let now = Instant::now();
        for _ in 0..DATAGRAMS_A_TURN {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, peer)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    self.transport.handle_datagram(now, peer, datagram);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // A peer's port that is closed now and the like: no session's fault.
                    meters::socket_error("receive");
                    break;
                }
            }
        }
    }

    /// Does what is due, handles what happened, sends what is to be sent.
    fn turn(&mut self, socket: &UdpSocket) {
        let now = Instant::now();
        self.transport.handle_timeout(now);
        while let Some(event) = self.transport.poll_event() {
            self.event(now, event);
        }
        while let Some((peer, datagram)) = self.transport.poll_transmit(now) {
            // A datagram that the socket does not take is lost like one on the way.
            if socket.try_send_to(&datagram, peer).is_err() {
                meters::socket_error("send");
            }
        }
        for (id, session) in &self.sessions {
            if let Activity::Play { backlog, .. } = &session.activity {
                backlog.store(self.transport.backlog(*id), Ordering::Relaxed);
            }
        }
    }

    fn event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connect { id, peer, stream_id, key_length } => {
                if let Err(refusal) = self.connect(id, peer, &stream_id, key_length) {
                    self.refuse(id, peer, &refusal);
                }
            }
            Event::Data { id, payload } => self.data(now, id, &payload),
            Event::Closed { id, reason, stats } => {
                if let Some(mut session) = self.sessions.remove(&id) {
                    session.meter.count(stats);
                    if let Activity::Publish(ingest) = &mut session.activity {
                        // The last picture: only a next one would have ended it. The session is
                        // over whatever comes of it.
                        let _ = ingest.finish(self.deps.clock.at(now));
                    }
                    let why = match reason {
                        CloseReason::Shutdown => "the peer left",
                        CloseReason::Timeout => "the peer fell silent",
                    };
                    ended(&session, why);
                }
            }
            Event::Refused { peer, code } => {
                let reason = meters::refused(code);
                if code < 1_000 {
                    tracing::info!(%peer, code, reason, "SRT caller refused");
                }
            }
        }
    }

    fn connect(
        &mut self,
        id: ConnId,
        peer: SocketAddr,
        stream_id: &[u8],
        key_length: u8,
    ) -> Result<(), Refusal> {
        let asked =
            StreamId::parse(stream_id).map_err(|error| Refusal::new(error.status(), error))?;
        let (action, role) = match asked.mode {
            Mode::Publish => (Action::Publish, Role::Publisher),
            Mode::Request => (Action::Play, Role::Viewer),
        };
        let token = asked.token.as_deref();
        self.deps
            .access
            .check(Caller::direct(peer.ip(), token), action, Some(&asked.stream))
            .map_err(|denied| Refusal::new(if token.is_none() { 401 } else { 403 }, denied))?;
        let info = SessionInfo { role, protocol: "srt", stream: asked.stream.clone(), peer };
        let handle = self.deps.sessions.open(info).map_err(|full| Refusal::new(503, full))?;
        // The cluster is asked meanwhile; the caller waits for its handshake's answer.
        let (streams, commands) = (self.deps.streams.clone(), self.commands.clone());
        self.waiting.insert(id, peer);
        tokio::spawn(async move {
            let wanted = find(&streams, &asked, &handle).await;
            let caller = Waiting { peer, key_length, user: asked.user, handle };
            // A driver that is gone needs no answer.
            let _ = commands.send(Command::Decided(id, Box::new(caller), wanted)).await;
        });
        Ok(())
    }

    /// What a caller asked for was found, or not: it is let in, or refused.
    fn decided(&mut self, id: ConnId, caller: Waiting, wanted: Result<Wanted, Refusal>) {
        let Waiting { peer, key_length, user, handle } = caller;
        self.waiting.remove(&id);
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(refusal) => return self.refuse(id, peer, &refusal),
        };
        if !self.transport.accept(Instant::now(), id) {
            return;
        }
        let (kicked, session) = (handle.kicked(), handle.id());
        let (activity, over) = match wanted {
            Wanted::Play(broadcast) => {
                (self.play(id, broadcast, &handle), CancellationToken::new())
            }
            Wanted::Publish(publisher) => {
                let over = publisher.ended();
                (Activity::Publish(Box::new(TsIngest::new(*publisher))), over)
            }
        };
        let watch = tokio::spawn(close_when(self.commands.clone(), id, kicked, over));
        let _watch = AbortOnDrop(watch.abort_handle());
        let meter = SessionMeter::default();
        let (stream, role) = (handle.info().stream.clone(), handle.info().role.as_str());
        self.sessions.insert(id, Session { handle, activity, meter, _watch });
        tracing::info!(%stream, %session, %peer, role, key_length, user, "SRT session opened");
    }

    fn play(&self, id: ConnId, broadcast: Broadcast, handle: &SessionHandle) -> Activity {
        let backlog = Arc::new(AtomicUsize::new(0));
        let outlet = Outlet {
            id,
            commands: self.commands.clone(),
            backlog: Arc::clone(&backlog),
            backlog_max: self.options.send_packets / 2,
            payload_size: self.options.payload_size,
            counters: Arc::clone(handle.counters()),
        };
        let task = tokio::spawn(play::run(broadcast, outlet)).abort_handle();
        Activity::Play { backlog, _task: AbortOnDrop(task) }
    }

    fn refuse(&mut self, id: ConnId, peer: SocketAddr, refusal: &Refusal) {
        let code = 1_000 + refusal.status;
        tracing::info!(%peer, code, reason = refusal.detail, "SRT caller refused");
        self.transport.reject(id, refusal.status);
    }

    fn data(&mut self, now: Instant, id: ConnId, payload: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let counters = session.handle.counters();
        counters.bytes_in.fetch_add(payload.len() as u64, Ordering::Relaxed);
        let Activity::Publish(ingest) = &mut session.activity else { return };
        let before = ingest.counts();
        let taken = ingest.push(payload, self.deps.clock.at(now));
        let counts = ingest.counts();
        counters.frames_in.fetch_add(counts.frames - before.frames, Ordering::Relaxed);
        counters.frames_dropped.fetch_add(counts.dropped - before.dropped, Ordering::Relaxed);
        if let Err(error) = taken {
            self.close(id, &error.to_string());
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send(id, messages) => {
                let now = Instant::now();
                let Some(session) = self.sessions.get(&id) else { return };
                let counters = session.handle.counters();
                for message in messages {
                    let size = message.len() as u64;
                    match self.transport.send(now, id, message) {
                        Ok(()) => {
                            counters.bytes_out.fetch_add(size, Ordering::Relaxed);
                        }
                        // The reader's task sees the backlog and skips; a message lost here is
                        // one that the network would not have carried in time.
                        Err(SendRefused::Full | SendRefused::TooLarge) => meters::unsent(),
                        Err(SendRefused::Gone) => {
                            return self.close(id, "the connection can carry no more packets");
                        }
                    }
                }
            }
            Command::Decided(id, caller, wanted) => self.decided(id, *caller, wanted),
            Command::Close(id, why) => {
                let reason = self.sessions.get(&id).and_then(|session| match &session.activity {
                    Activity::Publish(ingest) => ingest.publisher().reason(),
                    Activity::Play { .. } => None,
                });
                let why = reason.map_or(why, |reason| reason.to_string());
                self.close(id, &why);
            }
        }
    }

    fn close(&mut self, id: ConnId, why: &str) {
        if let Some(mut session) = self.sessions.remove(&id) {
            if let Some(stats) = self.transport.stats(id) {
                session.meter.count(stats);
            }
            ended(&session, why);
        }
        self.transport.close(Instant::now(), id);
    }

    fn close_all(&mut self, why: &str) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.close(id, why);
        }
        for (id, peer) in std::mem::take(&mut self.waiting) {
            self.refuse(id, peer, &Refusal::new(503, why));
        }
    }

    fn report(&mut self) {
        for (id, session) in &mut self.sessions {
            if let Some(stats) = self.transport.stats(*id) {
                session.meter.count(stats);
            }
        }
        self.port.count(self.transport.port_stats(), self.transport.connections());
    }
}

fn ended(session: &Session, why: &str) {
    let id: SessionId = session.handle.id();
    let info = session.handle.info();
    let stats = session.meter.total();
    tracing::info!(stream = %session.stream(), session = %id, peer = %info.peer,
        role = info.role.as_str(), reason = why, packets_in = stats.packets_received,
        lost = stats.packets_lost, dropped = stats.packets_dropped,
        packets_out = stats.packets_sent, resent = stats.packets_resent, "SRT session ended");
}

/// Asks the driver to end a session when an operator or the stream directory wants it.
async fn close_when(
    commands: mpsc::Sender<Command>,
    id: ConnId,
    kicked: CancellationToken,
    over: CancellationToken,
) {
    tokio::select! {
        () = kicked.cancelled() => {}
        () = over.cancelled() => {}
    }
    // The driver is gone when it cannot be told, and the session with it.
    let _ = commands.send(Command::Close(id, "an operator ended the session".to_owned())).await;
}
