//! The numbers of a stream's name while this node publishes it: granted by the cluster's directory,
//! counted up here.
//!
//! Not here: who grants them and keeps them while the stream is off (`ownership`).

use headwater_cluster::command::Grant;
use headwater_media::{DiscontinuitySeq, Epoch, GroupSeq, WallTime};

/// 2026-01-01T00:00:00Z, from which numbers of names that nothing is known of are counted.
const NUMBERS_ZERO: WallTime = WallTime(1_767_225_600_000_000);
/// No stream makes more than two groups a second for long (a group lasts half a second at least).
const NUMBER_EVERY_MICROS: i64 = 500_000;

/// Where a name that the directory does not know begins at `now`. Caches may hold what an earlier
/// cluster (or a node without its data folder) served under the name, so the numbers begin above
/// all that it can have come to: two for each second since 2026. No name depends on the
/// discontinuity's number, and players index small tables by it: that begins at 0.
pub(crate) fn floor_of_unknown(now: WallTime) -> GroupSeq {
    let count = now.micros_since(NUMBERS_ZERO).max(0) / NUMBER_EVERY_MICROS;
    // Players count with 32 bits.
    GroupSeq(u64::from(u32::try_from(count).unwrap_or(u32::MAX / 2)))
}

/// Where a stream's numbering has come to. None of it ever goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) epoch: Epoch,
    /// The number of the next group to begin.
    pub(crate) next_group: GroupSeq,
    pub(crate) discontinuity: DiscontinuitySeq,
    /// The first number that the directory has not reserved yet.
    pub(crate) reserved_to: GroupSeq,
}

impl Numbers {
    /// Another publisher's session: the numbers that it was granted, and never lower ones than
    /// were used here since it asked.
    pub(crate) fn begin_session(&mut self, grant: Grant) {
        self.epoch = grant.epoch;
        self.next_group = self.next_group.max(grant.first_group);
        self.discontinuity = self.discontinuity.max(grant.discontinuity);
        self.reserved_to = self.reserved_to.max(grant.reserved_to);
    }

    /// Allots a group's number. One beyond what is reserved is given all the same, and counted:
    /// the show goes on while there is no quorum to reserve more.
    pub(crate) fn take_group(&mut self) -> GroupSeq {
        let seq = self.next_group;
        if seq >= self.reserved_to {
            metrics::counter!("headwater_cluster_unreserved_groups_total").increment(1);
        }
        self.next_group = seq.next();
        seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(epoch: u64, first_group: u64) -> Grant {
        Grant {
            epoch: Epoch(epoch),
            first_group: GroupSeq(first_group),
            discontinuity: DiscontinuitySeq(epoch - 1),
            reserved_to: GroupSeq(first_group + 16),
        }
    }

    #[test]
    fn names_that_nothing_is_known_of_begin_above_all_that_was_served_before() {
        let started = WallTime(1_795_384_844_000_000);
        let hours = 5;
        let mut numbers = Numbers::default();
        numbers.begin_session(grant(1, floor_of_unknown(started).0));
        for _ in 0..hours * 3_600 * 2 {
            numbers.take_group();
        }
        let restarted = floor_of_unknown(started.plus_micros(hours * 3_600_000_000));
        assert!(restarted >= numbers.next_group);
        assert!(numbers.next_group.0 < 1 << 31, "fits what players count with");
    }

    #[test]
    fn numbers_used_while_a_claim_was_on_its_way_are_not_used_again() {
        let mut numbers = Numbers::default();
        numbers.begin_session(grant(1, 100));
        assert_eq!(numbers.take_group(), GroupSeq(100));
        let asked = grant(2, 101);
        assert_eq!(numbers.take_group(), GroupSeq(101));
        numbers.begin_session(asked);
        assert_eq!(numbers.take_group(), GroupSeq(102));
        assert_eq!((numbers.epoch, numbers.discontinuity), (Epoch(2), DiscontinuitySeq(1)));
    }
}
