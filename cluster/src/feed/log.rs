//! What an origin keeps for its followers: the newest entries, encoded once, and the state as of the
//! last one. The state machine fills it as it applies.
//!
//! Not here: who follows (`server`), the log proper (`store`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::wire::{Position, encode_entry};
use super::{BATCH_BYTES, BATCH_ENTRIES, BYTES_MAX, ENTRIES_MAX};
use crate::command::Command;
use crate::view::View;

/// What a follower at some place is sent next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has everything.
    Wait,
    /// These, after the place that was asked for, up to `to`.
    Entries {
        /// The last of them.
        to: Position,
        /// They.
        entries: Vec<Bytes>,
    },
    /// What it lacks is gone: a snapshot.
    Snapshot,
}

/// How a follower that has the log up to some place may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// With what follows.
    On,
    /// With a snapshot; its place is not in the ring any more.
    Snapshot,
    /// It has an entry that is another one here: not the same history.
    Other,
    /// It has more than there is here.
    Behind,
}

struct Entry {
    at: Position,
    bytes: Bytes,
}

/// The ring.
#[derive(Default)]
struct Ring {
    /// The place before the first entry; `None`: nothing is known of what was before.
    base: Option<Position>,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The newest state that readers may see, and its place.
    state: Option<(Position, Arc<View>)>,
}

impl Ring {
    fn push(&mut self, at: Position, bytes: Bytes) {
        let newest = self.entries.back().map(|entry| entry.at).or(self.base);
        if newest.is_some_and(|newest| newest.index.checked_add(1) != Some(at.index)) {
            // Never in an orderly log; a hole must not be handed on.
            self.begin(None);
        }
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.entries.push_back(Entry { at, bytes });
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes.len());
            self.base = Some(oldest.at);
        }
    }

    fn begin(&mut self, base: Option<Position>) {
        self.entries.clear();
        self.bytes = 0;
        self.base = base;
    }

    /// The entry at an index, as a place in `entries`.
    fn place(&self, index: u64) -> Option<usize> {
        let first = self.entries.front()?.at.index;
        let place = usize::try_from(index.checked_sub(first)?).ok()?;
        (place < self.entries.len()).then_some(place)
    }

    fn at(&self, index: u64) -> Option<Position> {
        let known = self.place(index).and_then(|place| self.entries.get(place));
        known.map(|entry| entry.at).or(self.base.filter(|base| base.index == index))
    }

    /// The newest place that readers have seen.
    fn newest(&self) -> Option<Position> {
        self.state.as_ref().map(|(at, _)| *at)
    }

    fn resume(&self, from: Position) -> Resume {
        match (self.newest(), self.at(from.index)) {
            (None, _) => Resume::Behind,
            (Some(newest), _) if newest.index < from.index => Resume::Behind,
            (Some(_), Some(here)) if here == from => Resume::On,
            (Some(_), Some(_)) => Resume::Other,
            (Some(_), None) => Resume::Snapshot,
        }
    }

    fn next(&self, after: u64) -> Next {
        let Some(newest) = self.newest() else { return Next::Wait };
        if after >= newest.index {
            return Next::Wait;
        }
        let Some(first) = after.checked_add(1).and_then(|index| self.place(index)) else {
            return Next::Snapshot;
        };
        let (mut entries, mut bytes, mut to) = (Vec::new(), 0_usize, None);
        for entry in self.entries.iter().skip(first).take(BATCH_ENTRIES) {
            bytes = bytes.saturating_add(entry.bytes.len());
            let full = !entries.is_empty() && bytes > BATCH_BYTES;
            if full || entry.at.index > newest.index {
                break;
            }
            entries.push(entry.bytes.clone());
            to = Some(entry.at);
        }
        to.map_or(Next::Wait, |to| Next::Entries { to, entries })
    }
}

/// The ring, shared between the state machine and the followers' tasks.
pub(crate) struct FeedLog {
    ring: Mutex<Ring>,
    newest: watch::Sender<Option<Position>>,
}

impl Default for FeedLog {
    fn default() -> FeedLog {
        FeedLog { ring: Mutex::default(), newest: watch::Sender::new(None) }
    }
}

impl FeedLog {
    /// An entry was applied. Followers see it after [`FeedLog::publish`].
    pub(crate) fn push(&self, at: Position, command: Option<&Command>) {
        match encode_entry(command) {
            Ok(bytes) => self.ring.lock().push(at, bytes),
            Err(error) => {
                tracing::error!(index = at.index, %error, "an entry cannot be fed on");
                self.ring.lock().begin(Some(at));
            }
        }
    }

    /// Readers see the state as of this place now.
    pub(crate) fn publish(&self, at: Position, view: Arc<View>) {
        self.ring.lock().state = Some((at, view));
        self.newest.send_replace(Some(at));
    }

    /// The state is that of a snapshot now: what led to it is not known.
    pub(crate) fn begin(&self, at: Option<Position>) {
        self.ring.lock().begin(at);
    }

    pub(crate) fn resume(&self, from: Position) -> Resume {
        self.ring.lock().resume(from)
    }

    pub(crate) fn next(&self, after: u64) -> Next {
        self.ring.lock().next(after)
    }

    /// The newest state and its place.
    pub(crate) fn state(&self) -> Option<(Position, Arc<View>)> {
        self.ring.lock().state.clone()
    }

    /// Changes whenever there is more.
    pub(crate) fn newest(&self) -> watch::Receiver<Option<Position>> {
        self.newest.subscribe()
    }
}

impl fmt::Debug for FeedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.ring.lock();
        let mut out = f.debug_struct("FeedLog");
        out.field("entries", &ring.entries.len()).field("newest", &ring.newest()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::state::State;

    fn at(term: u64, index: u64) -> Position {
        Position { term, leader: NodeId(1), index }
    }

    fn filled(range: std::ops::RangeInclusive<u64>) -> Ring {
        let mut ring = Ring::default();
        for index in range.clone() {
            ring.push(at(1, index), Bytes::from(vec![0; 10]));
        }
        show(&mut ring, at(1, *range.end()));
        ring
    }

    fn show(ring: &mut Ring, newest: Position) {
        ring.state = Some((newest, Arc::new(State::default().directory().into())));
    }

    fn count(next: Next) -> (u64, usize) {
        match next {
            Next::Entries { to, entries } => (to.index, entries.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_follower_gets_what_it_lacks_and_waits_when_it_has_all() {
        let ring = filled(5..=20);
        assert_eq!(count(ring.next(10)), (20, 10));
        assert_eq!(ring.next(20), Next::Wait);
        assert_eq!(ring.next(25), Next::Wait);
        assert_eq!(count(ring.next(4)), (20, 16));
        assert_eq!(ring.next(3), Next::Snapshot);
        assert_eq!(Ring::default().next(0), Next::Wait);
    }

    #[test]
    fn entries_that_readers_have_not_seen_are_not_sent() {
        let mut ring = filled(1..=10);
        ring.push(at(1, 11), Bytes::new());
        assert_eq!(ring.next(10), Next::Wait);
        assert_eq!(count(ring.next(8)), (10, 2));
        show(&mut ring, at(1, 11));
        assert_eq!(count(ring.next(10)), (11, 1));
    }

    #[test]
    fn the_ring_is_bounded_in_entries_and_in_bytes_and_who_falls_out_gets_a_snapshot() {
        let last = ENTRIES_MAX as u64 + 100;
        let ring = filled(1..=last);
        assert_eq!(ring.entries.len(), ENTRIES_MAX);
        assert_eq!(ring.next(99), Next::Snapshot);
        assert_eq!(count(ring.next(100)), (100 + BATCH_ENTRIES as u64, BATCH_ENTRIES));
        let mut ring = Ring::default();
        for index in 1..=100 {
            ring.push(at(1, index), Bytes::from(vec![0; BYTES_MAX / 10]));
        }
        show(&mut ring, at(1, 100));
        assert!(ring.bytes <= BYTES_MAX && ring.entries.len() <= 10);
        // One that is longer than a batch goes alone.
        assert_eq!(count(ring.next(95)), (96, 1));
    }

    #[test]
    fn who_resumes_is_told_whether_its_log_is_the_same() {
        let mut ring = filled(5..=20);
        assert_eq!(ring.resume(at(1, 12)), Resume::On);
        assert_eq!(ring.resume(at(1, 20)), Resume::On);
        assert_eq!(ring.resume(at(1, 21)), Resume::Behind);
        assert_eq!(ring.resume(at(2, 12)), Resume::Other);
        assert_eq!(ring.resume(at(1, 3)), Resume::Snapshot);
        ring.begin(Some(at(1, 20)));
        assert_eq!(ring.resume(at(1, 20)), Resume::On);
        assert_eq!(ring.resume(at(1, 19)), Resume::Snapshot);
        assert_eq!(Ring::default().resume(at(1, 1)), Resume::Behind);
    }

    #[test]
    fn a_hole_in_the_log_is_not_handed_on() {
        let mut ring = filled(1..=10);
        ring.push(at(1, 12), Bytes::new());
        show(&mut ring, at(1, 12));
        assert_eq!(ring.next(10), Next::Snapshot);
        assert_eq!(count(ring.next(11)), (12, 1));
    }
}
