//! What the SRT port counts, as `headwater_srt_*`.
//!
//! Not here: sessions and streams in general (their registries count them).

use metrics::{counter, gauge, histogram};

use super::transport::{ConnStats, PortStats};

/// Turns a connection's running counts into increments.
#[derive(Default)]
pub(super) struct SessionMeter {
    last: ConnStats,
}

impl SessionMeter {
    /// Counts what was added since the last call.
    pub(super) fn count(&mut self, stats: ConnStats) {
        let last = std::mem::replace(&mut self.last, stats);
        let packets = |direction: &'static str, more: u64| {
            counter!("headwater_srt_packets_total", "direction" => direction).increment(more);
        };
        let again = |direction: &'static str, more: u64| {
            counter!("headwater_srt_packets_retransmitted_total", "direction" => direction)
                .increment(more);
        };
        let dropped = |direction: &'static str, more: u64| {
            counter!("headwater_srt_packets_dropped_total", "direction" => direction)
                .increment(more);
        };
        packets("in", stats.packets_received.saturating_sub(last.packets_received));
        packets("out", stats.packets_sent.saturating_sub(last.packets_sent));
        again("in", stats.packets_recovered.saturating_sub(last.packets_recovered));
        again("out", stats.packets_resent.saturating_sub(last.packets_resent));
        dropped("in", stats.packets_dropped.saturating_sub(last.packets_dropped));
        dropped("out", stats.packets_expired.saturating_sub(last.packets_expired));
        counter!("headwater_srt_packets_lost_total")
            .increment(stats.packets_lost.saturating_sub(last.packets_lost));
        counter!("headwater_srt_packets_undecryptable_total")
            .increment(stats.packets_undecryptable.saturating_sub(last.packets_undecryptable));
        if !stats.rtt.is_zero() {
            histogram!("headwater_srt_rtt_seconds").record(stats.rtt.as_secs_f64());
        }
    }

    /// The counts as of the last call.
    pub(super) fn total(&self) -> ConnStats {
        self.last
    }
}

/// The same for the port.
#[derive(Default)]
pub(super) struct PortMeter {
    last: PortStats,
}

impl PortMeter {
    /// Counts what was added since the last call.
    pub(super) fn count(&mut self, stats: PortStats, connections: usize) {
        let last = std::mem::replace(&mut self.last, stats);
        let discarded = |reason: &'static str, more: u64| {
            counter!("headwater_srt_datagrams_discarded_total", "reason" => reason).increment(more);
        };
        discarded("malformed", stats.malformed.saturating_sub(last.malformed));
        discarded("stray", stats.stray.saturating_sub(last.stray));
        discarded("bad-cookie", stats.bad_cookie.saturating_sub(last.bad_cookie));
        discarded("rate-limited", stats.rate_limited.saturating_sub(last.rate_limited));
        gauge!("headwater_srt_connections").set(connections as f64);
    }
}

/// Counts a refused caller; gives the reason's name.
pub(super) fn refused(code: u32) -> &'static str {
    let reason = reject_name(code);
    counter!("headwater_srt_rejects_total", "reason" => reason).increment(1);
    reason
}

/// The name of a reject code as libsrt numbers them.
fn reject_name(code: u32) -> &'static str {
    match code {
        // Also a key length that is not offered: AES-192.
        4 => "malformed-handshake-or-key-length",
        5 => "too-many-connections",
        8 => "version",
        10 => "wrong-passphrase",
        11 => "encryption-mismatch",
        12 => "message-mode",
        13 => "congestion-control",
        14 => "packet-filter",
        15 => "group",
        1_400 => "bad-request",
        1_401 => "unauthorized",
        1_403 => "forbidden",
        1_404 => "not-found",
        1_405 => "mode",
        1_409 => "conflict",
        1_415 => "type",
        1_503 => "overload",
        _ => "other",
    }
}

/// Counts a failed call on the socket.
pub(super) fn socket_error(call: &'static str) {
    counter!("headwater_srt_socket_errors_total", "call" => call).increment(1);
}

/// Counts a message that a reader's send buffer did not take.
pub(super) fn unsent() {
    counter!("headwater_srt_messages_unsent_total").increment(1);
}

/// Counts a reader that was made to skip to a newer group.
pub(super) fn skipped() {
    counter!("headwater_srt_reader_skips_total").increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_is_sent_has_a_name() {
        for status in [400, 401, 403, 404, 405, 409, 415, 503] {
            assert_ne!(reject_name(1_000 + status), "other", "{status}");
        }
        for code in [4, 5, 8, 10, 11, 12, 13, 14, 15] {
            assert_ne!(reject_name(code), "other", "{code}");
        }
        assert_eq!(reject_name(9_999), "other");
    }
}
