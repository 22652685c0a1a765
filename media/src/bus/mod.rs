//! The in-process bus: one writer a track, any number of readers, each with a cursor of its own.
//!
//! A reader walks groups by shared reference and takes no lock a frame; a slow reader is skipped
//! to a newer group when its own has left the window, and counts it. It never holds the writer.
//! Not here: what a frame means, and who may write (the node decides).

mod cursor;
mod writer;

pub use cursor::{Cursor, FrameRef, Item, Start};
pub use writer::{TrackWriter, WriteError};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::codec::MediaKind;
use crate::frame::Group;
use crate::id::{GroupSeq, TrackName};
use crate::limits::BusLimits;
use crate::track::{Track, TrackConfig};

/// What writer and readers of a track share.
pub(crate) struct TrackShared {
    pub(crate) name: TrackName,
    pub(crate) kind: MediaKind,
    pub(crate) limits: BusLimits,
    /// Oldest first; replaced at group boundaries only.
    pub(crate) window: ArcSwap<Vec<Arc<Group>>>,
    /// Rises with every change; readers sleep on it.
    pub(crate) changes: watch::Sender<Progress>,
    /// Rises with every wish of a reader for a keyframe.
    pub(crate) keyframe_wishes: watch::Sender<u64>,
    /// Readers that were skipped ahead, in groups.
    pub(crate) groups_skipped: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) version: u64,
    pub(crate) finished: bool,
}

impl TrackShared {
    pub(crate) fn new(name: TrackName, kind: MediaKind, limits: BusLimits) -> Self {
        Self {
            name,
            kind,
            limits,
            window: ArcSwap::from_pointee(Vec::new()),
            changes: watch::channel(Progress::default()).0,
            keyframe_wishes: watch::channel(0).0,
            groups_skipped: AtomicU64::new(0),
        }
    }
}

impl Track {
    /// A reader that begins at `start`.
    #[must_use]
    pub fn read(&self, start: Start) -> Cursor {
        Cursor::new(Arc::clone(&self.shared), start)
    }

    /// The groups kept now, oldest first.
    #[must_use]
    pub fn window(&self) -> Arc<Vec<Arc<Group>>> {
        self.shared.window.load_full()
    }

    /// The newest group.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<Group>> {
        self.shared.window.load().last().cloned()
    }

    /// The group numbered `seq`, while it is kept.
    #[must_use]
    pub fn group(&self, seq: GroupSeq) -> Option<Arc<Group>> {
        let window = self.shared.window.load();
        let at = window.binary_search_by_key(&seq, |group| group.seq()).ok()?;
        window.get(at).cloned()
    }

    /// The newest group's configuration; none before the first group.
    #[must_use]
    pub fn config(&self) -> Option<Arc<TrackConfig>> {
        self.newest().map(|group| Arc::clone(&group.header().config))
    }

    /// Whether the track has ended for good.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.shared.changes.borrow().finished
    }

    /// Waits for the track's first group. False when the track ends without one.
    pub async fn ready(&self) -> bool {
        let mut changes = self.shared.changes.subscribe();
        let ready = |progress: &Progress| progress.finished || !self.window().is_empty();
        changes.wait_for(ready).await.is_ok() && !self.window().is_empty()
    }

    /// Asks the publisher for a keyframe; requests are coalesced by the publisher's session.
    pub fn request_keyframe(&self) {
        self.shared.keyframe_wishes.send_modify(|wishes| *wishes += 1);
    }

    /// Counts wishes for keyframes; the publisher's session watches it.
    #[must_use]
    pub fn keyframe_wishes(&self) -> watch::Receiver<u64> {
        self.shared.keyframe_wishes.subscribe()
    }

    /// Groups that slow readers were made to skip, all readers together.
    #[must_use]
    pub fn groups_skipped(&self) -> u64 {
        self.shared.groups_skipped.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Track").field("name", self.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
