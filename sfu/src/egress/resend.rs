//! What was sent lately, to be sent again to a viewer that missed it (RFC 4588).
//!
//! Kept by reference: a frame's payloads are shared by all its viewers, so that a viewer's
//! history costs some bytes a frame and no copy of media.
//! Not here: the packets' form (`stream`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::packetize::Held;

/// Bytes that may be sent again before any have been sent: a keyframe's worth.
const ALLOWANCE_MAX_BYTES: i64 = 256 << 10;

/// A stretch of a frame's packets with consecutive sequence numbers.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    /// Sequence number of its first packet, widened.
    pub(crate) first: u64,
    /// The frame's packets, and the place of the first among them.
    pub(crate) packets: Arc<Held>,
    pub(crate) from: usize,
    pub(crate) count: usize,
    /// RTP time stamp.
    pub(crate) time: u32,
    /// Payload type of packets that are sent again.
    pub(crate) payload_type: u8,
    /// When it was sent.
    pub(crate) at: Instant,
}

/// A viewer's history of one track.
#[derive(Debug)]
pub(crate) struct Resends {
    stretches: VecDeque<Stretch>,
    packets: usize,
    packets_max: usize,
    age_max: Duration,
    /// Bytes that may be sent again; a part of what is sent is added to it.
    allowance: i64,
    ratio: f32,
}

impl Resends {
    /// A history of at most so many packets, no older than `age_max`. Of all bytes sent a part of
    /// `ratio` may be sent again.
    pub(crate) fn new(packets_max: usize, age_max: Duration, ratio: f32) -> Self {
        Self {
            stretches: VecDeque::new(),
            packets: 0,
            packets_max,
            age_max,
            allowance: ALLOWANCE_MAX_BYTES,
            ratio,
        }
    }

    /// Remembers what was just sent.
    pub(crate) fn record(&mut self, stretch: Stretch, bytes: usize) {
        let earned = (bytes as f32 * self.ratio) as i64;
        self.allowance = self.allowance.saturating_add(earned).min(ALLOWANCE_MAX_BYTES);
        self.expire(stretch.at);
        self.packets += stretch.count;
        self.stretches.push_back(stretch);
        while self.packets > self.packets_max && self.drop_oldest() {}
    }

    fn expire(&mut self, now: Instant) {
        while self.stretches.front().is_some_and(|s| s.at + self.age_max < now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.stretches.pop_front();
        self.packets -= oldest.as_ref().map_or(0, |stretch| stretch.count);
        oldest.is_some()
    }

    /// The packet that had this sequence number: its stretch, its place among the frame's
    /// packets, and the number widened. None when it is not known (any more), or when too much
    /// has been sent again already.
    pub(crate) fn take(&mut self, sequence: u16, now: Instant) -> Option<(Stretch, usize, u64)> {
        self.expire(now);
        let newest = self.stretches.back()?;
        let newest = newest.first + newest.count.saturating_sub(1) as u64;
        // The last number of these 16 bits that has been used.
        let sequence = newest.checked_sub(u64::from((newest as u16).wrapping_sub(sequence)))?;
        let at = self.stretches.partition_point(|stretch| stretch.first <= sequence);
        let stretch = self.stretches.get(at.checked_sub(1)?)?;
        let offset = usize::try_from(sequence - stretch.first).ok()?;
        if offset >= stretch.count {
            return None;
        }
        let place = stretch.from + offset;
        let bytes = stretch.packets.payloads.get(place)?.len();
        if self.allowance < 0 {
            return None;
        }
        self.allowance -= i64::try_from(bytes).unwrap_or(i64::MAX);
        Some((stretch.clone(), place, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packetize::Packets;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    fn stretch(first: u64, count: usize, at: Instant) -> Stretch {
        let payloads = (0..count).map(|i| Arc::from(vec![i as u8; 1_000])).collect();
        let packets = Held::new(Arc::new(Packets::of(payloads)));
        Stretch { first, packets, from: 0, count, time: 0, payload_type: 97, at }
    }

    #[test]
    fn a_packet_is_found_by_its_low_bits_across_their_wrap() {
        let now = start();
        let mut resends = Resends::new(512, SECOND, 0.15);
        resends.record(stretch(65_530, 4, now), 4_000);
        resends.record(stretch(65_534, 4, now), 4_000);
        for (sequence, found) in [
            (65_530, Some((0, 65_530))),
            (65_533, Some((3, 65_533))),
            (65_534, Some((0, 65_534))),
            (1, Some((3, 65_537))),
            (2, None),
            (65_529, None),
        ] {
            let got = resends.take(sequence, now).map(|(_, place, sequence)| (place, sequence));
            assert_eq!(got, found, "{sequence}");
        }
    }

    #[test]
    fn old_packets_and_those_beyond_the_limit_are_forgotten() {
        let now = start();
        let mut resends = Resends::new(8, SECOND, 0.15);
        resends.record(stretch(0, 4, now), 0);
        resends.record(stretch(4, 4, now + SECOND / 2), 0);
        assert!(resends.take(0, now + SECOND / 2).is_some());
        resends.record(stretch(8, 4, now + SECOND / 2), 0);
        assert!(resends.take(0, now + SECOND / 2).is_none(), "more than eight packets");
        assert!(resends.take(4, now + SECOND).is_some());
        assert!(resends.take(4, now + 2 * SECOND).is_none(), "older than a second");
    }

    #[test]
    fn what_is_sent_again_stays_a_part_of_what_is_sent() {
        let now = start();
        let mut resends = Resends::new(512, SECOND, 0.1);
        resends.record(stretch(0, 4, now), 0);
        let taken = |resends: &mut Resends, tries: usize| {
            (0..tries).filter(|_| resends.take(2, now).is_some()).count()
        };
        assert_eq!(taken(&mut resends, 10_000), 263, "a keyframe's worth to begin with");
        assert_eq!(taken(&mut resends, 10), 0);
        resends.record(stretch(4, 4, now), 50_000);
        assert!((4..=6).contains(&taken(&mut resends, 100)), "then a tenth of what is sent");
    }
}
