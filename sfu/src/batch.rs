//! Sends runs of datagrams by UDP, each in one system call.
//!
//! Not here: what is sent, and how it is gathered (`egress`).
#![allow(clippy::disallowed_methods, reason = "driver: owns the socket")]

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use quinn_udp::{Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::egress::{Run, Runs};
use crate::metrics;
use crate::stats::DropReason;

/// Bytes that wait while the socket's buffer is full, half a second of a gigabit a second; beyond,
/// the oldest media is worth nothing and is dropped.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// A worker's UDP socket.
pub(crate) struct Batch {
    socket: Rc<UdpSocket>,
    state: UdpSocketState,
    dual_stack: bool,
    /// The path refuses segmentation: every datagram is a run of its own from now on.
    gso_fails: Cell<bool>,
    sent: metrics::Sent,
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
        told_of_buffer(&socket, &state, buffer_bytes);
        let (gso_fails, sent) = (Cell::new(false), metrics::Sent::new());
        Ok(Self { socket, state, dual_stack, gso_fails, sent })
    }

    /// Datagrams that the kernel takes in one call.
    pub(crate) fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends what waits until the socket is full; of what is left then, the oldest is dropped
    /// beyond a limit.
    pub(crate) fn flush(&self, runs: &mut Runs) {
        let (mut packets, mut bytes, mut calls) = (0, 0, 0);
        while let Some(run) = runs.udp.front() {
            calls += 1;
            match self.send_run(run) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // An address that cannot be reached is the peer's problem; it will time out.
                    tracing::debug!(%error, to = %run.path.destination, "cannot send");
                    metrics::dropped(DropReason::SocketFull, run.count as u64);
                }
                Ok(()) => {
                    packets += run.count as u64;
                    bytes += run.bytes().len() as u64;
                }
            }
            if let Some(done) = runs.pop_udp() {
                runs.recycle(done);
            }
        }
        if self.gso_fails.get() {
            runs.set_segments_max(1);
        }
        while runs.waiting_bytes() > WAITING_BYTES_MAX
            && let Some(oldest) = runs.pop_udp()
        {
            metrics::dropped(DropReason::SocketFull, oldest.count as u64);
            runs.recycle(oldest);
        }
        if calls > 0 {
            self.sent.count(packets, bytes, calls);
        }
    }

    fn send_run(&self, run: &Run) -> io::Result<()> {
        // A dual-stack socket takes IPv4 addresses in their mapped form, both ends.
        let mapped = |ip: IpAddr| match ip {
            IpAddr::V4(ip) if self.dual_stack => ip.to_ipv6_mapped().into(),
            other => other,
        };
        let to = run.path.destination;
        let destination = SocketAddr::new(mapped(to.ip()), to.port());
        let src_ip = run.path.from.map(mapped);
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
        match send(&transmit(run.bytes())) {
            Err(error) if run.count > 1 && error.kind() != io::ErrorKind::WouldBlock => {
                // The path does not do segmentation: one by one.
                for contents in run.datagrams() {
                    send(&Transmit { segment_size: None, ..transmit(contents) })?;
                }
                tracing::warn!(%error, "the network takes no UDP segmentation: sending costs more");
                self.gso_fails.set(true);
                Ok(())
            }
            result => result,
        }
    }
}

/// Says once when the kernel grants less of a send buffer than was asked for.
fn told_of_buffer(socket: &UdpSocket, state: &UdpSocketState, asked: usize) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    match state.send_buffer_size(socket.into()) {
        Ok(granted) if granted < asked => TOLD.call_once(|| {
            tracing::warn!(
                granted,
                asked,
                "the system limits UDP send buffers: with many viewers raise net.core.wmem_max \
                 and net.core.rmem_max"
            );
        }),
        _ => {}
    }
}
