//! Sends datagrams in batches: runs of equal size to one destination leave in one system call.
//!
//! The system call is what costs: a datagram sent alone takes ten times one in a batch of
//! sixteen. A run may end with one shorter datagram (UDP GSO's rule).
//! Not here: what is sent.
#![allow(clippy::disallowed_methods, reason = "driver: owns the socket")]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use quinn_udp::{Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::metrics;
use crate::shard::Departure;
use crate::stats::DropReason;

/// A kernel's limits for one batch.
const SEGMENTS_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 65_000;

/// Runs that wait while the socket's buffer is full, about 4 MB of the largest; then the oldest
/// media is worth nothing and is dropped.
const WAITING_MAX: usize = 64;

/// Equal datagrams (the last may be shorter) to one destination.
struct Run {
    destination: SocketAddr,
    from: Option<IpAddr>,
    segment: usize,
    count: usize,
    bytes: Vec<u8>,
    /// A shorter datagram closed it.
    closed: bool,
}

impl Run {
    fn takes(&self, departure: &Departure, segments_max: usize) -> bool {
        let size = departure.outgoing.contents.len();
        !self.closed
            && self.destination == departure.outgoing.destination
            && self.from == departure.from
            && size <= self.segment
            && self.count < segments_max
            && self.bytes.len() + size <= BATCH_BYTES_MAX
    }

    fn push(&mut self, contents: &[u8]) {
        self.closed = contents.len() < self.segment;
        self.bytes.extend_from_slice(contents);
        self.count += 1;
    }
}

/// A worker's UDP socket with what waits to leave it.
pub(crate) struct Batch {
    socket: Rc<UdpSocket>,
    state: UdpSocketState,
    dual_stack: bool,
    waiting: VecDeque<Run>,
    spare: Vec<Vec<u8>>,
}

impl Batch {
    pub(crate) fn new(socket: Rc<UdpSocket>, buffer_bytes: usize) -> io::Result<Self> {
        let state = UdpSocketState::new((&*socket).into())?;
        // The kernel gives what its own limit allows; less is no error.
        for result in [
            state.set_recv_buffer_size((&*socket).into(), buffer_bytes),
            state.set_send_buffer_size((&*socket).into(), buffer_bytes),
        ] {
            if let Err(error) = result {
                tracing::debug!(%error, "the socket's buffer cannot be set");
            }
        }
        let dual_stack = socket.local_addr()?.is_ipv6();
        Ok(Self { socket, state, dual_stack, waiting: VecDeque::new(), spare: Vec::new() })
    }

    /// Whether anything waits for the socket to become writable.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what can be sent now and keeps the rest.
    pub(crate) fn send(&mut self, departures: impl Iterator<Item = Departure>) {
        let segments_max = self.state.max_gso_segments().clamp(1, SEGMENTS_MAX);
        let mut run: Option<Run> = None;
        for departure in departures {
            let contents = &departure.outgoing.contents;
            match &mut run {
                Some(open) if open.takes(&departure, segments_max) => open.push(contents),
                _ => {
                    if let Some(full) = run.take() {
                        self.queue(full);
                    }
                    let mut bytes = self.spare.pop().unwrap_or_default();
                    bytes.clear();
                    bytes.extend_from_slice(contents);
                    run = Some(Run {
                        destination: departure.outgoing.destination,
                        from: departure.from,
                        segment: contents.len(),
                        count: 1,
                        bytes,
                        closed: false,
                    });
                }
            }
        }
        if let Some(last) = run {
            self.queue(last);
        }
        self.flush();
    }

    fn queue(&mut self, run: Run) {
        if self.waiting.len() >= WAITING_MAX {
            self.flush();
        }
        if self.waiting.len() >= WAITING_MAX
            && let Some(oldest) = self.waiting.pop_front()
        {
            metrics::dropped(DropReason::SocketFull, oldest.count as u64);
            self.recycle(oldest);
        }
        self.waiting.push_back(run);
    }

    /// Sends what waits, until the socket is full.
    pub(crate) fn flush(&mut self) {
        let (mut packets, mut bytes, mut calls) = (0, 0, 0);
        while let Some(run) = self.waiting.front() {
            calls += 1;
            match self.send_run(run) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // An address that cannot be reached is the peer's problem; it will time out.
                    tracing::debug!(%error, to = %run.destination, "cannot send");
                    metrics::dropped(DropReason::SocketFull, run.count as u64);
                }
                Ok(()) => {
                    packets += run.count as u64;
                    bytes += run.bytes.len() as u64;
                }
            }
            if let Some(done) = self.waiting.pop_front() {
                self.recycle(done);
            }
        }
        if packets > 0 {
            metrics::sent(packets, bytes, calls);
        }
    }

    fn send_run(&self, run: &Run) -> io::Result<()> {
        let (destination, src_ip) = match run.destination {
            // A dual-stack socket takes IPv4 addresses in their mapped form, and picks the
            // source by itself.
            SocketAddr::V4(v4) if self.dual_stack => {
                (SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()), None)
            }
            other => (other, run.from),
        };
        let transmit = |contents| Transmit {
            destination,
            ecn: None,
            contents,
            segment_size: (run.count > 1).then_some(run.segment),
            src_ip,
        };
        let send = |transmit: &Transmit<'_>| {
            self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send((&*self.socket).into(), transmit)
            })
        };
        match send(&transmit(&run.bytes)) {
            Err(error) if run.count > 1 && error.kind() != io::ErrorKind::WouldBlock => {
                // The path does not do segmentation: one by one.
                for contents in run.bytes.chunks(run.segment.max(1)) {
                    send(&Transmit { segment_size: None, ..transmit(contents) })?;
                }
                Ok(())
            }
            result => result,
        }
    }

    fn recycle(&mut self, run: Run) {
        if self.spare.len() < WAITING_MAX {
            self.spare.push(run.bytes);
        }
    }
}
