//! Prometheus names of what the SFU counts.
//!
//! Not here: per-session counters (`stats`), the exporter (the node).

use metrics::{Counter, Histogram, counter, gauge, histogram};

use crate::error::CloseReason;
use crate::stats::{DropReason, SessionKind};

fn kind_label(kind: SessionKind) -> &'static str {
    match kind {
        SessionKind::Publisher => "publisher",
        SessionKind::Viewer => "viewer",
    }
}

pub(crate) fn session_opened(kind: SessionKind) {
    gauge!("headwater_webrtc_sessions", "kind" => kind_label(kind)).increment(1.0);
    counter!("headwater_webrtc_sessions_total", "kind" => kind_label(kind)).increment(1);
}

pub(crate) fn session_closed(kind: SessionKind, reason: &CloseReason) {
    gauge!("headwater_webrtc_sessions", "kind" => kind_label(kind)).decrement(1.0);
    counter!(
        "headwater_webrtc_sessions_closed_total",
        "kind" => kind_label(kind), "reason" => reason.label()
    )
    .increment(1);
}

pub(crate) fn refused(what: &'static str) {
    counter!("headwater_webrtc_refused_total", "limit" => what).increment(1);
}

pub(crate) fn received(packets: u64, bytes: u64) {
    counter!("headwater_webrtc_packets_received_total").increment(packets);
    counter!("headwater_webrtc_received_bytes_total").increment(bytes);
}

/// Counters of what a worker sends, looked up once.
pub(crate) struct Sent {
    packets: Counter,
    bytes: Counter,
    calls: Counter,
}

impl Sent {
    pub(crate) fn new() -> Self {
        Self {
            packets: counter!("headwater_webrtc_packets_sent_total"),
            bytes: counter!("headwater_webrtc_sent_bytes_total"),
            calls: counter!("headwater_webrtc_send_calls_total"),
        }
    }

    pub(crate) fn count(&self, packets: u64, bytes: u64, calls: u64) {
        self.packets.increment(packets);
        self.bytes.increment(bytes);
        self.calls.increment(calls);
    }
}

/// How long frames take through this node, looked up once.
pub(crate) struct SendDelay(Histogram);

impl SendDelay {
    pub(crate) fn new() -> Self {
        Self(histogram!("headwater_webrtc_send_delay_seconds"))
    }

    /// Some viewers' share of a frame went to the kernel so many microseconds after the frame had
    /// come.
    pub(crate) fn record(&self, micros: i64) {
        // A clock that was set back between the two makes it negative.
        self.0.record(micros.max(0) as f64 / 1e6);
    }
}

pub(crate) fn resent(packets: u64) {
    if packets > 0 {
        counter!("headwater_webrtc_packets_resent_total").increment(packets);
    }
}

pub(crate) fn stray(reason: &'static str, count: u64) {
    counter!("headwater_webrtc_stray_packets_total", "reason" => reason).increment(count);
}

pub(crate) fn bad_frame() {
    counter!("headwater_webrtc_bad_frames_total").increment(1);
}

pub(crate) fn dropped(reason: DropReason, count: u64) {
    counter!("headwater_webrtc_drops_total", "reason" => reason.label()).increment(count);
}

pub(crate) fn feedback(kind: SessionKind, nacks: u64, plis: u64) {
    if nacks > 0 {
        counter!("headwater_webrtc_nacks_total", "kind" => kind_label(kind)).increment(nacks);
    }
    if plis > 0 {
        counter!("headwater_webrtc_plis_total", "kind" => kind_label(kind)).increment(plis);
    }
}
