//! What a parent sends next of a track to a child that cannot keep up.
//!
//! A group that was begun is sent to its end, unless it lags by more than the greatest age; between
//! it and the newest independent group whole groups are left out. Lags are media time; but a sender
//! that was behind for a moment only, after a burst of its publisher's or the resume of its child,
//! leaves nothing out. Not here: writing (`hop`), the order of streams on the wire (QUIC's
//! priorities).

use std::sync::Arc;
use std::time::Duration;

use headwater_media::{Group, GroupSeq, MediaTime};

/// The wall-clock time of a place in a group, in microseconds: comparable over groups.
fn wall_at(group: &Group, at: MediaTime) -> i64 {
    let header = group.header();
    header.wall.plus_micros(at.since(header.start).micros()).micros()
}

/// How far `at` in `group` lies behind the end of the track, in microseconds.
fn lag_micros(window: &[Arc<Group>], group: &Group, at: MediaTime) -> i64 {
    let newest = window.last().map_or(0, |newest| wall_at(newest, newest.end()));
    newest.saturating_sub(wall_at(group, at))
}

/// The group at which a viewer could begin now.
fn newest_independent(window: &[Arc<Group>]) -> Option<&Arc<Group>> {
    window.iter().rev().find(|group| group.header().independent)
}

/// When a group counts as late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lateness {
    /// The subscription's greatest age.
    pub max_age: Duration,
    /// For how long the sender has not been at the track's end.
    pub behind: Duration,
}

impl Lateness {
    fn is_late(self, lag_micros: i64) -> bool {
        let max_age = i64::try_from(self.max_age.as_micros()).unwrap_or(i64::MAX);
        self.behind > self.max_age && lag_micros > max_age
    }
}

/// Whether the group in flight, now before the frame `index`, is to be given up: it is late, and
/// there is a newer one to begin with.
#[must_use]
pub fn gives_up(window: &[Arc<Group>], group: &Group, index: u32, lateness: Lateness) -> bool {
    let newer = newest_independent(window).is_some_and(|newest| newest.seq() > group.seq());
    let place = group.frame(index).map(|frame| frame.dts);
    let at = place.unwrap_or_else(|| if index == 0 { group.header().start } else { group.end() });
    newer && lateness.is_late(lag_micros(window, group, at))
}

/// Whether `next`, of which nothing is sent yet before its frame `from`, is to be left out for the
/// newest independent group, and if so how many groups are.
#[must_use]
pub fn leaves_out(
    window: &[Arc<Group>],
    next: &Group,
    from: u32,
    lateness: Lateness,
) -> Option<u64> {
    let newest = newest_independent(window)?;
    gives_up(window, next, from, lateness).then(|| count_between(window, next.seq(), newest.seq()))
}

/// The groups kept from `from` up to `to`, which is not counted.
#[must_use]
pub fn count_between(window: &[Arc<Group>], from: GroupSeq, to: GroupSeq) -> u64 {
    let between = window.iter().filter(|group| group.seq() >= from && group.seq() < to).count();
    u64::try_from(between).unwrap_or(u64::MAX)
}

/// The QUIC priority of a track's streams: the subscription's first, and sound before pictures.
#[must_use]
pub fn stream_priority(subscription: u8, audio: bool) -> i32 {
    i32::from(subscription) * 2 + i32::from(audio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Feeder, broadcast};

    const AGE: Lateness =
        Lateness { max_age: Duration::from_secs(2), behind: Duration::from_secs(3) };

    fn window(groups: &[(u64, u32, bool)]) -> Vec<Arc<Group>> {
        let mut feeder = Feeder::video(&broadcast("x"));
        for (seq, frames, independent) in groups {
            feeder.group(*seq, *independent);
            feeder.frames(*frames);
        }
        feeder.track().window().to_vec()
    }

    #[test]
    fn a_group_in_flight_is_given_up_only_when_late_and_for_a_newer_independent_one() {
        // Groups of one second at 30 frames a second.
        let groups = window(&[(1, 30, true), (2, 30, true), (3, 5, true)]);
        assert!(!gives_up(&groups, &groups[0], 10, AGE), "1.8 s late");
        assert!(gives_up(&groups, &groups[0], 3, AGE), "2.1 s late");
        let burst = Lateness { behind: Duration::from_millis(10), ..AGE };
        assert!(!gives_up(&groups, &groups[0], 3, burst), "the groups came all at once");
        let groups = window(&[(1, 30, true), (2, 30, false), (3, 30, false)]);
        assert!(!gives_up(&groups, &groups[0], 0, AGE), "nowhere else to begin");
    }

    #[test]
    fn groups_before_the_newest_independent_one_are_left_out_when_late() {
        let groups = window(&[(1, 30, true), (2, 30, true), (3, 30, true), (4, 5, true)]);
        assert_eq!(leaves_out(&groups, &groups[0], 0, AGE), Some(3));
        assert_eq!(leaves_out(&groups, &groups[1], 0, AGE), Some(2));
        assert_eq!(leaves_out(&groups, &groups[2], 0, AGE), None, "1.2 s late");
        assert_eq!(leaves_out(&groups, &groups[3], 0, AGE), None, "the newest");
        let groups = window(&[(1, 90, true), (2, 30, false)]);
        assert_eq!(leaves_out(&groups, &groups[0], 0, AGE), None, "the newest independent one");
    }
}
