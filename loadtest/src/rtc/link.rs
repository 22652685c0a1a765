//! A peer's socket: reads many datagrams with one system call (`recvmmsg`, GRO), writes runs of
//! equal size with one (GSO).
//!
//! Not here: what the datagrams hold.
#![allow(clippy::disallowed_methods, reason = "driver: owns the socket")]

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Messages read with one call; each may be a whole batch that the kernel joined.
const MESSAGES: usize = 4;
/// The largest batch that the kernel joins.
const MESSAGE_BYTES: usize = 65_536;
/// Receive buffer of a socket, in bytes: a keyframe of 1 MB, were it to come at once.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// Send buffer: a large keyframe of a publisher.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// A kernel's limits for one batch.
const SEGMENTS_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 65_000;

thread_local! {
    /// Shared by all sockets of a thread: reading never awaits.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MESSAGES * MESSAGE_BYTES]);
}

pub(crate) struct Link {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// Datagrams of equal size (the last may be shorter) for one destination.
struct Run {
    destination: SocketAddr,
    segment: usize,
    count: usize,
    bytes: Vec<u8>,
    /// A shorter datagram closed it.
    closed: bool,
}

impl Run {
    fn takes(&self, destination: SocketAddr, size: usize) -> bool {
        self.destination == destination
            && !self.closed
            && size <= self.segment
            && self.count < SEGMENTS_MAX
            && self.bytes.len() + size <= BATCH_BYTES_MAX
    }
}

impl Link {
    /// A socket on a free port of this address.
    pub(crate) fn bind(local: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(local);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // The kernel gives what its own limit allows; less is no error.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
        socket.bind(&SocketAddr::new(local.ip(), 0).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Resolves when there is something to read.
    pub(crate) async fn readable(&self) {
        // An error of the reactor shows when the socket is read.
        let _ = self.socket.readable().await;
    }

    /// Reads what is there, up to [`MESSAGES`] messages, and gives each datagram to `take`;
    /// whether anything was there.
    pub(crate) fn read(&self, mut take: impl FnMut(SocketAddr, &[u8])) -> bool {
        BUFFER.with_borrow_mut(|buffer| {
            let mut metas = [RecvMeta::default(); MESSAGES];
            let mut slices = buffer.chunks_exact_mut(MESSAGE_BYTES).map(IoSliceMut::new);
            let mut slices: [IoSliceMut<'_>; MESSAGES] =
                std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            let read = self.socket.try_io(Interest::READABLE, || {
                self.state.recv((&self.socket).into(), &mut slices, &mut metas)
            });
            let Ok(count) = read else { return false };
            for (slice, meta) in slices.iter().zip(&metas).take(count) {
                let bytes = slice.get(..meta.len).unwrap_or_default();
                bytes.chunks(meta.stride.max(1)).for_each(|datagram| take(meta.addr, datagram));
            }
            true
        })
    }

    fn send(&self, run: &Run) {
        let transmit = Transmit {
            destination: run.destination,
            ecn: None,
            contents: &run.bytes,
            segment_size: (run.count > 1).then_some(run.segment),
            src_ip: None,
        };
        // A full buffer loses it, as a network would.
        let _ = self
            .socket
            .try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit));
    }
}

/// Datagrams that wait for [`Outbox::flush`]: the caller bounds them, by flushing before it waits.
#[derive(Default)]
pub(crate) struct Outbox {
    runs: Vec<Run>,
}

impl Outbox {
    /// Queues one datagram behind those of its size and destination, if it can.
    pub(crate) fn queue(&mut self, destination: SocketAddr, contents: &[u8]) {
        if !self.runs.last().is_some_and(|run| run.takes(destination, contents.len())) {
            let (segment, bytes) = (contents.len(), Vec::new());
            self.runs.push(Run { destination, segment, count: 0, bytes, closed: false });
        }
        if let Some(run) = self.runs.last_mut() {
            run.closed = contents.len() < run.segment;
            run.bytes.extend_from_slice(contents);
            run.count += 1;
        }
    }

    /// Sends what is queued.
    pub(crate) fn flush(&mut self, link: &Link) {
        self.runs.drain(..).for_each(|run| link.send(&run));
    }
}
