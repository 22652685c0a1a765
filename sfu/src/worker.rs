//! A worker: one thread, one UDP socket, one TCP listener, its share of the sessions.
//!
//! Everything of a worker runs on its thread; it shares no lock with others on the packet path.
//! Not here: decisions (`shard`, `peer`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clocks")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use headwater_media::frame::FrameSlot;
use headwater_media::{Cursor, Item, SessionId, WallTime};
use quinn_udp::{RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet};

use crate::batch::Batch;
use crate::config::SfuConfig;
use crate::error::{CloseReason, SfuError};
use crate::fanout::{FeedChange, FeedId, News};
use crate::frames::{PlayTracks, PublisherSink};
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

/// Viewers that are served before what was written for them is sent.
const VIEWERS_A_TURN: usize = 16;

/// What the handle asks of a worker.
pub(crate) enum Command {
    Publish {
        offer: String,
        session: SessionId,
        sink: Box<dyn PublisherSink>,
        reply: oneshot::Sender<Result<Accepted, SfuError>>,
    },
    Play {
        offer: String,
        session: SessionId,
        tracks: PlayTracks,
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
    batch: Batch,
    send_delay: metrics::SendDelay,
    readers: RefCell<HashMap<FeedId, AbortHandle>>,
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

    /// Sends what waits, hangs up, starts and stops readers, and reports strays.
    fn depart(self: &Rc<Self>) {
        let mut shard = self.shard.borrow_mut();
        self.send(&mut shard);
        for peer in shard.hangups.drain(..) {
            self.connections.hang_up(peer);
        }
        for change in shard.feeds.changes.drain(..) {
            self.change_feed(change);
        }
        let strays = std::mem::take(&mut shard.strays);
        for (reason, count) in [
            ("unknown_address", strays.unknown_address),
            ("unknown_session", strays.unknown_session),
            ("too_many_addresses", strays.too_many_addresses),
            ("too_long", strays.too_long),
        ] {
            if count > 0 {
                metrics::stray(reason, count);
            }
        }
    }

    fn send(&self, shard: &mut Shard) {
        while let Some(run) = shard.runs.tcp.pop_front() {
            let to = run.path.destination;
            if !run.datagrams().all(|frame| self.connections.send(to, frame)) {
                shard.congested(to, now());
            }
            shard.runs.recycle(run);
        }
        self.batch.flush(&mut shard.runs);
    }

    /// Notes how long a frame that has just been sent was in this node.
    fn note_delay(&self, news: &News, at: Now) {
        if let News::Frame(frame, _) = news
            && let Some(arrived) = frame.slot().and_then(FrameSlot::arrived)
        {
            self.send_delay.record(at.wall.micros_since(arrived));
        }
    }

    fn change_feed(self: &Rc<Self>, change: FeedChange) {
        let mut readers = self.readers.borrow_mut();
        match change {
            FeedChange::Begin(id, cursor) => {
                let reading = tokio::task::spawn_local(read_feed(id, cursor, Rc::clone(self)));
                readers.insert(id, reading.abort_handle());
            }
            FeedChange::End(id) => {
                if let Some(reader) = readers.remove(&id) {
                    reader.abort();
                }
            }
        }
    }
}

/// Hands over what a track's cursor gives until nobody watches it, or it ends.
async fn read_feed(id: FeedId, mut cursor: Cursor, context: Rc<Context>) {
    loop {
        let item = cursor.next().await;
        let ended = matches!(item, Item::End);
        let payload_bytes = context.config.payload_bytes;
        let Some((news, targets)) = context.shard.borrow_mut().feeds.take(id, item, payload_bytes)
        else {
            return;
        };
        if let Some(news) = news {
            // What is written for a few viewers leaves before the next ones are served, so that
            // the first do not wait for the last and little memory is used.
            let mut at = now();
            for some in targets.chunks(VIEWERS_A_TURN) {
                let mut shard = context.shard.borrow_mut();
                shard.tell(&news, some, at);
                context.send(&mut shard);
                at = now();
                context.note_delay(&news, at);
            }
            context.wake.notify_one();
        }
        if ended {
            return;
        }
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
    let Setup { mut shard, udp, tcp, mut commands } = setup;
    let config = Arc::clone(&shard.config);
    let socket = Rc::new(UdpSocket::from_std(udp)?);
    let batch = Batch::new(Rc::clone(&socket), config.socket_buffer_bytes)?;
    shard.runs.set_segments_max(batch.segments_max());
    let context = Rc::new(Context {
        config,
        shard: RefCell::new(shard),
        connections: Connections::default(),
        batch,
        send_delay: metrics::SendDelay::new(),
        readers: RefCell::default(),
        wake: Notify::new(),
    });
    if let Some(listener) = tcp {
        let listener = TcpListener::from_std(listener)?;
        tokio::task::spawn_local(tcp::accept(listener, Rc::clone(&context)));
    }
    let mut receiver = Receiver::new(Rc::clone(&socket))?;
    loop {
        // One moment for all, so that nobody is due twice.
        let due = now();
        while context.shard.borrow_mut().run_timers(due, VIEWERS_A_TURN) {
            context.depart();
        }
        context.depart();
        let deadline = context.shard.borrow().deadline();
        let sleep = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let waiting = !context.shard.borrow().runs.udp.is_empty();
        tokio::select! {
            ready = socket.readable() => {
                ready?;
                receiver.receive(&context);
            }
            ready = socket.writable(), if waiting => {
                ready?;
                context.batch.flush(&mut context.shard.borrow_mut().runs);
            }
            command = commands.recv() => match command {
                Some(command) => perform(command, &context),
                None => break,
            },
            () = sleep => {}
            () = context.wake.notified() => {}
        }
    }
    context.shard.borrow_mut().close_all(&CloseReason::Shutdown, now());
    context.depart();
    Ok(())
}

/// Carries out a command. Whoever asked may have gone: then the answer is for nobody, and a
/// session that was made for them times out.
fn perform(command: Command, context: &Rc<Context>) {
    let mut shard = context.shard.borrow_mut();
    match command {
        Command::Publish { offer, session, sink, reply } => {
            let _ = reply.send(shard.publish(&offer, session, sink, now()));
        }
        Command::Play { offer, session, tracks, reply } => {
            let _ = reply.send(shard.play(&offer, session, &tracks, now()));
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
    socket: Rc<UdpSocket>,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
    local: SocketAddr,
}

impl Receiver {
    fn new(socket: Rc<UdpSocket>) -> io::Result<Self> {
        Ok(Self {
            state: UdpSocketState::new((&*socket).into())?,
            buffers: (0..RECEIVE_BUFFERS).map(|_| vec![0; RECEIVE_BYTES]).collect(),
            metas: vec![RecvMeta::default(); RECEIVE_BUFFERS],
            local: socket.local_addr()?,
            socket,
        })
    }

    fn receive(&mut self, context: &Context) {
        for _ in 0..RECEIVE_CALLS_MAX {
            let mut slices: Vec<IoSliceMut<'_>> =
                self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let received = self.socket.try_io(Interest::READABLE, || {
                self.state.recv((&*self.socket).into(), &mut slices, &mut self.metas)
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
                // What a TCP peer may not send in a frame is no more welcome here, and nobody can
                // be answered at port 0.
                if datagram.len() > context.config.tcp_frame_bytes_max {
                    shard.strays.too_long += 1;
                    continue;
                }
                if meta.addr.port() == 0 {
                    shard.strays.unknown_address += 1;
                    continue;
                }
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

/// The same for an address with a port.
pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(unmap(address.ip()), address.port())
}
