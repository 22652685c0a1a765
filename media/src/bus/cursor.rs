//! The reading end of a track.
//!
//! Not here: any wish of the reader's protocol (where a player may start, what it can decode).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Progress, TrackShared};
use crate::frame::{Frame, FrameSlot, Group};
use crate::id::GroupSeq;

/// Where a cursor begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At the first frame of the newest independent group: instant start for a viewer.
    Newest,
    /// At the oldest group kept.
    Oldest,
    /// With the first group that begins after now.
    Next,
    /// At a frame of a group; the oldest group kept, if that one has left the window.
    At(GroupSeq, u32),
}

/// A frame in its group.
#[derive(Clone, Debug)]
pub struct FrameRef {
    /// The group.
    pub group: Arc<Group>,
    /// The frame's place in it.
    pub index: u32,
}

impl FrameRef {
    /// The frame with its derived value. `None` never happens for a reference that a cursor gave.
    #[must_use]
    pub fn slot(&self) -> Option<&FrameSlot> {
        self.group.slot(self.index)
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Option<&Frame> {
        self.group.frame(self.index)
    }
}

/// What a cursor meets, in order.
#[derive(Clone, Debug)]
pub enum Item {
    /// A group begins. `skipped` counts groups that left the window before they were read.
    Group {
        /// The group.
        group: Arc<Group>,
        /// Groups missed since the last item.
        skipped: u64,
    },
    /// The next frame.
    Frame(FrameRef),
    /// The group has ended; it has no further frames.
    GroupEnd(Arc<Group>),
    /// The track has ended for good.
    End,
}

/// A reader's place in a track.
pub struct Cursor {
    shared: Arc<TrackShared>,
    changes: watch::Receiver<Progress>,
    place: Place,
}

enum Place {
    /// Before a group; the frame index is where to begin in it.
    Before(Start),
    /// In a group, before this frame.
    In(Arc<Group>, u32),
    /// Past this group.
    After(GroupSeq),
    Ended,
}

impl Cursor {
    pub(crate) fn new(shared: Arc<TrackShared>, start: Start) -> Self {
        let changes = shared.changes.subscribe();
        let place = match start {
            Start::Next => match shared.window.load().last() {
                Some(newest) => Place::After(newest.seq()),
                None => Place::Before(Start::Oldest),
            },
            other => Place::Before(other),
        };
        Self { shared, changes, place }
    }

    /// The next item if there is one now.
    pub fn try_next(&mut self) -> Option<Item> {
        // Mark this version as seen before looking, so that a change after the look wakes us.
        let finished = self.changes.borrow_and_update().finished;
        match &mut self.place {
            Place::In(group, index) => {
                // The end must be read before the length: frames may still come in between.
                let final_len = group.final_len();
                if *index < group.len() {
                    let item = FrameRef { group: Arc::clone(group), index: *index };
                    *index += 1;
                    return Some(Item::Frame(item));
                }
                if final_len.is_some_and(|len| *index >= len) {
                    let group = Arc::clone(group);
                    self.place = Place::After(group.seq());
                    return Some(Item::GroupEnd(group));
                }
                None
            }
            Place::Ended => Some(Item::End),
            Place::Before(_) | Place::After(_) => match self.find_group() {
                Some((group, index, skipped)) => {
                    self.place = Place::In(Arc::clone(&group), index);
                    if skipped > 0 {
                        self.shared.groups_skipped.fetch_add(skipped, Ordering::Relaxed);
                    }
                    Some(Item::Group { group, skipped })
                }
                None if finished => {
                    self.place = Place::Ended;
                    Some(Item::End)
                }
                None => None,
            },
        }
    }

    fn find_group(&self) -> Option<(Arc<Group>, u32, u64)> {
        let window = self.shared.window.load();
        match self.place {
            Place::Before(Start::Newest) => {
                let independent = window.iter().rev().find(|group| group.header().independent);
                independent.or(window.last()).map(|group| (Arc::clone(group), 0, 0))
            }
            Place::Before(Start::At(seq, index)) => {
                let at = window.partition_point(|group| group.seq() < seq);
                let group = window.get(at)?;
                Some((Arc::clone(group), if group.seq() == seq { index } else { 0 }, 0))
            }
            Place::Before(_) => window.first().map(|group| (Arc::clone(group), 0, 0)),
            Place::After(seq) => {
                let at = window.partition_point(|group| group.seq() <= seq);
                let group = window.get(at)?;
                // Numbers may jump by the owner's will; groups were skipped by us only if the
                // window no longer reaches back to where we were.
                let skipped = if at == 0 { group.seq().0 - seq.0 - 1 } else { 0 };
                Some((Arc::clone(group), 0, skipped))
            }
            Place::In(..) | Place::Ended => None,
        }
    }

    /// Waits for the next item. Cancel-safe. Gives [`Item::End`] again and again at the end.
    pub async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.try_next() {
                return item;
            }
            // The sender lives in `shared`, which we hold: it cannot be gone.
            let _ = self.changes.changed().await;
        }
    }

    /// Waits until [`Self::try_next`] may have something new.
    pub async fn changed(&mut self) {
        let _ = self.changes.changed().await;
    }

    /// Leaves the current group and goes on with the newest independent one, if that is newer;
    /// says whether it moved. Live beats complete: what a slow viewer's reader does.
    pub fn skip_to_newest(&mut self) -> bool {
        let here = match &self.place {
            Place::In(group, _) => Some(group.seq()),
            Place::After(seq) => Some(*seq),
            Place::Before(_) | Place::Ended => None,
        };
        let window = self.shared.window.load();
        let newest = window.iter().rev().find(|group| group.header().independent);
        match (here, newest) {
            (Some(here), Some(newest)) if newest.seq() > here => {
                self.place = Place::Before(Start::At(newest.seq(), 0));
                true
            }
            _ => false,
        }
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("track", &self.shared.name).finish_non_exhaustive()
    }
}
