//! Counters of one session, written by its worker and read by anybody.
//!
//! Not here: Prometheus names (`metrics`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use headwater_media::SessionId;

/// What a session does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionKind {
    /// Sends to us, by WHIP.
    Publisher,
    /// Takes from us, by WHEP.
    Viewer,
}

/// Why media was not sent or not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// Frames skipped because a viewer was too slow.
    SlowViewer,
    /// Datagrams dropped because the socket or connection took no more.
    SocketFull,
    /// Frames of a codec the viewer did not negotiate.
    Codec,
}

/// How many [`DropReason`]s there are.
const DROP_REASONS: usize = 3;

impl DropReason {
    /// All reasons, in the order of the counters.
    pub const ALL: [Self; DROP_REASONS] = [Self::SlowViewer, Self::SocketFull, Self::Codec];

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::SlowViewer => "slow_viewer",
            Self::SocketFull => "socket_full",
            Self::Codec => "codec",
        }
    }
}

/// A session's counters. Written without order by one thread.
#[derive(Debug, Default)]
pub(crate) struct SessionCounters {
    pub(crate) packets_in: AtomicU64,
    pub(crate) packets_out: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) keyframes: AtomicU64,
    pub(crate) nacks: AtomicU64,
    pub(crate) plis: AtomicU64,
    pub(crate) rtt_micros: AtomicU64,
    /// Loss as the peer or we report it, in thousandths.
    pub(crate) loss_per_mille: AtomicU32,
    pub(crate) connected: AtomicU32,
    pub(crate) drops: [AtomicU64; DROP_REASONS],
}

impl SessionCounters {
    pub(crate) fn count_drop(&self, reason: DropReason, count: u64) {
        let at = DropReason::ALL.iter().position(|r| *r == reason).unwrap_or_default();
        if let Some(counter) = self.drops.get(at) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// A snapshot of a session.
#[derive(Clone, Debug)]
pub struct SessionStats {
    /// The session.
    pub session: SessionId,
    /// Publisher or viewer.
    pub kind: SessionKind,
    /// Which worker serves it.
    pub worker: usize,
    /// Whether ICE and DTLS are up.
    pub connected: bool,
    /// Datagrams from the peer.
    pub packets_in: u64,
    /// Datagrams to the peer.
    pub packets_out: u64,
    /// Bytes of datagrams from the peer.
    pub bytes_in: u64,
    /// Bytes of datagrams to the peer.
    pub bytes_out: u64,
    /// Frames taken or sent.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Resend requests: made to a publisher, or made by a viewer.
    pub nacks: u64,
    /// Keyframe requests: made to a publisher, or made by a viewer.
    pub plis: u64,
    /// Round trip in microseconds; 0 while not known.
    pub rtt_micros: u64,
    /// Share of packets lost in the last report, 0 to 1.
    pub loss: f64,
    /// Drops by reason, in the order of [`DropReason::ALL`].
    pub drops: [u64; DROP_REASONS],
}

impl SessionStats {
    pub(crate) fn read(
        session: SessionId,
        kind: SessionKind,
        worker: usize,
        counters: &SessionCounters,
    ) -> Self {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            session,
            kind,
            worker,
            connected: counters.connected.load(Ordering::Relaxed) != 0,
            packets_in: get(&counters.packets_in),
            packets_out: get(&counters.packets_out),
            bytes_in: get(&counters.bytes_in),
            bytes_out: get(&counters.bytes_out),
            frames: get(&counters.frames),
            keyframes: get(&counters.keyframes),
            nacks: get(&counters.nacks),
            plis: get(&counters.plis),
            rtt_micros: get(&counters.rtt_micros),
            loss: f64::from(counters.loss_per_mille.load(Ordering::Relaxed)) / 1_000.0,
            drops: std::array::from_fn(|at| counters.drops.get(at).map_or(0, get)),
        }
    }
}
