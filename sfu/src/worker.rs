//! A worker: one thread, one UDP socket, one TCP listener, its share of the sessions.
//!
//! Everything of a worker runs on its thread; it shares no lock with others on the packet path.
//! Not here: decisions (`shard`, `peer`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clocks")]

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use headwater_media::{SessionId, WallTime};
use quinn_udp::RecvMeta;
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;

use crate::batch::Batch;
use crate::config::SfuConfig;
use crate::error::{CloseReason, SfuError};
use crate::frames::PublisherSink;
use crate::metrics;
use crate::peer::Now;
use crate::shard::{Accepted, Shard};
use crate::tcp::{self, Connections};

/// Buffers filled by one receive call.
const RECEIVE_BUFFERS: usize = 8;
/// Bytes of a receive buffer: the kernel may join many datagrams into one (UDP GRO).
const RECEIVE_BYTES: usize = 64 << 10;
/// Receive calls in a row before others have their turn.
const RECEIVE_CALLS_MAX: usize = 8;

/// What the handle asks of a worker.
pub(crate) enum Command {
    Publish {
        offer: String,
        session: SessionId,
        sink: Box<dyn PublisherSink>,
        reply: oneshot::Sender<Result<Accepted, SfuError>>,
    },
    Patch {
        session: SessionId,
        fragment: String,
        etag: Option<String>,
        reply: oneshot::Sender<Result<Option<(String, String)>, SfuError>>,
    },
    Close {
        session: SessionId,
        reason: CloseReason,
        reply: oneshot::Sender<bool>,
    },
}

/// What a worker is started with.
pub(crate) struct Setup {
    pub(crate) shard: Shard,
    pub(crate) udp: std::net::UdpSocket,
    pub(crate) tcp: Option<std::net::TcpListener>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

/// What the tasks of a worker share.
pub(crate) struct Context {
    pub(crate) config: Arc<SfuConfig>,
    pub(crate) shard: RefCell<Shard>,
    pub(crate) connections: Connections,
    /// Something happened outside the main loop: send what waits and look at the timers.
    pub(crate) wake: Notify,
}

impl Context {
    /// Takes a TCP frame; false when it belongs to no session.
    pub(crate) fn tcp_frame(&self, peer: SocketAddr, local: IpAddr, frame: &[u8]) -> bool {
        metrics::received(1, frame.len() as u64);
        let known = self.shard.borrow_mut().datagram(now(), true, peer, local, frame);
        self.wake.notify_one();
        known
    }
}

/// Reads both clocks.
pub(crate) fn now() -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
    Now { instant: Instant::now(), wall: WallTime(micros) }
}

/// Runs a worker until its commands end; then closes its sessions.
///
/// # Errors
/// The runtime or a socket fails.
pub(crate) fn run(setup: Setup) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(serve(setup)))
}

async fn serve(setup: Setup) -> io::Result<()> {
    let Setup { shard, udp, tcp, mut commands } = setup;
    let config = Arc::clone(&shard.config);
    let mut batch = Batch::new(UdpSocket::from_std(udp)?, config.socket_buffer_bytes)?;
    let context = Rc::new(Context {
        config,
        shard: RefCell::new(shard),
        connections: Connections::default(),
        wake: Notify::new(),
    });
    if let Some(listener) = tcp {
        let listener = TcpListener::from_std(listener)?;
        tokio::task::spawn_local(tcp::accept(listener, Rc::clone(&context)));
    }
    let mut receiver = Receiver::new(&batch)?;
    loop {
        let deadline = {
            let mut shard = context.shard.borrow_mut();
            shard.run_timers(now());
            depart(&mut shard, &mut batch, &context.connections);
            shard.deadline()
        };
        let sleep = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let waiting = batch.is_waiting();
        tokio::select! {
            ready = batch.socket().readable() => {
                ready?;
                receiver.receive(&batch, &context);
            }
            ready = batch.socket().writable(), if waiting => {
                ready?;
                batch.flush();
            }
            command = commands.recv() => match command {
                Some(command) => perform(command, &context),
                None => break,
            },
            () = sleep => {}
            () = context.wake.notified() => {}
        }
    }
    let mut shard = context.shard.borrow_mut();
    shard.close_all(&CloseReason::Shutdown, now());
    depart(&mut shard, &mut batch, &context.connections);
    Ok(())
}

/// Sends what waits, hangs up, and reports strays.
fn depart(shard: &mut Shard, batch: &mut Batch, connections: &Connections) {
    if !shard.departures.is_empty() {
        let departures = std::mem::take(&mut shard.departures);
        let (tcp, udp): (Vec<_>, Vec<_>) =
            departures.into_iter().partition(|departure| departure.outgoing.tcp);
        for departure in tcp {
            connections.send(departure.outgoing.destination, &departure.outgoing.contents);
        }
        batch.send(udp.into_iter());
    }
    for peer in shard.hangups.drain(..) {
        connections.hang_up(peer);
    }
    let strays = std::mem::take(&mut shard.strays);
    for (reason, count) in [
        ("unknown_address", strays.unknown_address),
        ("unknown_session", strays.unknown_session),
        ("too_many_addresses", strays.too_many_addresses),
    ] {
        if count > 0 {
            metrics::stray(reason, count);
        }
    }
}

/// Carries out a command. Whoever asked may have gone: then the answer is for nobody, and a
/// session that was made for them times out.
fn perform(command: Command, context: &Rc<Context>) {
    let mut shard = context.shard.borrow_mut();
    match command {
        Command::Publish { offer, session, sink, reply } => {
            let _ = reply.send(shard.publish(&offer, session, sink, now()));
        }
        Command::Patch { session, fragment, etag, reply } => {
            let _ = reply.send(shard.patch(session, &fragment, etag.as_deref(), now()));
        }
        Command::Close { session, reason, reply } => {
            let _ = reply.send(shard.close(session, reason, now()));
        }
    }
}

/// Receives datagrams in batches.
struct Receiver {
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
    local: SocketAddr,
}

impl Receiver {
    fn new(batch: &Batch) -> io::Result<Self> {
        Ok(Self {
            buffers: (0..RECEIVE_BUFFERS).map(|_| vec![0; RECEIVE_BYTES]).collect(),
            metas: vec![RecvMeta::default(); RECEIVE_BUFFERS],
            local: batch.socket().local_addr()?,
        })
    }

    fn receive(&mut self, batch: &Batch, context: &Context) {
        for _ in 0..RECEIVE_CALLS_MAX {
            let mut slices: Vec<IoSliceMut<'_>> =
                self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let received = batch.socket().try_io(Interest::READABLE, || {
                batch.state().recv(batch.socket().into(), &mut slices, &mut self.metas)
            });
            let count = match received {
                Ok(count) => count,
                // An ICMP answer to something sent shows up here; it concerns one peer only.
                Err(_) => return,
            };
            self.hand_over(count, context);
        }
    }

    fn hand_over(&self, count: usize, context: &Context) {
        let now = now();
        let (mut packets, mut bytes) = (0, 0);
        let mut shard = context.shard.borrow_mut();
        for (buffer, meta) in self.buffers.iter().zip(&self.metas).take(count) {
            let local = meta.dst_ip.unwrap_or_else(|| self.local.ip());
            let data = buffer.get(..meta.len).unwrap_or_default();
            for datagram in data.chunks(meta.stride.max(1)) {
                packets += 1;
                shard.datagram(now, false, unmapped(meta.addr), unmap(local), datagram);
            }
            bytes += data.len() as u64;
        }
        metrics::received(packets, bytes);
    }
}

/// An IPv4 address that came over a dual-stack socket, as IPv4.
fn unmap(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(unmap(address.ip()), address.port())
}
