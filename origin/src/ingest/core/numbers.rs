//! The numbers of a stream's name that outlive its publishers and its broadcasts.
//!
//! Not here: where they are kept while the stream is off (`streams`).

use std::collections::BTreeMap;

use headwater_media::{ConfigVersion, DiscontinuitySeq, Epoch, GroupSeq, TrackName, WallTime};

/// 2026-01-01T00:00:00Z, from which numbers of names that nothing is known of are counted.
const NUMBERS_ZERO: WallTime = WallTime(1_767_225_600_000_000);
/// No stream makes more than two groups a second for long (a group lasts half a second at least).
const NUMBER_EVERY_MICROS: i64 = 500_000;

/// Where a stream's numbering has come to. None of it ever goes back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) epoch: Epoch,
    /// The number of the next group to begin.
    pub(crate) next_group: GroupSeq,
    pub(crate) discontinuity: DiscontinuitySeq,
    /// Whether a group was ever allotted here.
    begun: bool,
    /// The newest configuration of each track that there ever was.
    versions: BTreeMap<TrackName, ConfigVersion>,
    /// What versions of tracks that are not among them come after.
    version_floor: Option<ConfigVersion>,
}

impl Numbers {
    /// For a name that nothing is known of at `now`, as after the node's restart. Caches may hold
    /// what an earlier process served under it, so the numbers begin above all that it can have
    /// come to: two for each second since 2026. (No name depends on the discontinuity's number, and
    /// players index small tables by it: it begins at 0.)
    pub(crate) fn beginning_at(now: WallTime) -> Self {
        let count = now.micros_since(NUMBERS_ZERO).max(0) / NUMBER_EVERY_MICROS;
        let floor = u32::try_from(count).unwrap_or(u32::MAX / 2);
        Self {
            next_group: GroupSeq(u64::from(floor)),
            version_floor: Some(ConfigVersion(floor)),
            ..Self::default()
        }
    }

    /// Another publisher: a new epoch, and a discontinuity after what there is.
    pub(crate) fn begin_session(&mut self) {
        self.epoch = self.epoch.next();
        if self.begun {
            self.discontinuity = self.discontinuity.next();
        }
    }

    /// Allots a group's number.
    pub(crate) fn take_group(&mut self) -> GroupSeq {
        let seq = self.next_group;
        self.begun = true;
        self.next_group = seq.next();
        seq
    }

    pub(crate) fn version(&self, track: &TrackName) -> Option<ConfigVersion> {
        self.versions.get(track).copied().or(self.version_floor)
    }

    pub(crate) fn keep_version(&mut self, track: TrackName, version: Option<ConfigVersion>) {
        if let Some(version) = version {
            self.versions.insert(track, version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_node_numbers_above_all_that_it_can_have_served_before() {
        let started = WallTime(1_795_384_844_000_000);
        let hours = 5;
        let mut numbers = Numbers::beginning_at(started);
        for _ in 0..hours * 3_600 * 2 {
            numbers.take_group();
        }
        let restarted = Numbers::beginning_at(started.plus_micros(hours * 3_600_000_000));
        assert!(restarted.next_group >= numbers.next_group);
        let video = TrackName::video();
        assert!(restarted.version(&video) > numbers.version(&video));
        assert!(numbers.next_group.0 < 1 << 31, "fits what players count with");
    }
}
