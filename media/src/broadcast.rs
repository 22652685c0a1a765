//! A broadcast: one live stream under a name, as its readers see it.
//!
//! Not here: who publishes it and under which numbers (the node's stream directory).

use std::sync::Arc;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::watch;

use crate::bus::{TrackShared, TrackWriter};
use crate::codec::MediaKind;
use crate::id::{StreamName, TrackName};
use crate::limits::BusLimits;
use crate::track::Track;

/// Whether a broadcast has a publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BroadcastState {
    /// A publisher is connected.
    Live,
    /// The publisher is gone and may come back within `reconnect_window`.
    Waiting,
    /// It is over; its tracks are finished.
    Ended,
}

/// Why a track cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddTrackError {
    /// The name is taken.
    #[error("the broadcast already has a track {0}")]
    Exists(TrackName),
    /// `[limits] tracks` is reached.
    #[error("the broadcast already has {0} tracks, the limit")]
    TooMany(usize),
    /// The broadcast is over.
    #[error("the broadcast has ended")]
    Ended,
}

/// A broadcast. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Broadcast {
    shared: Arc<Shared>,
}

struct Shared {
    name: StreamName,
    limits: BusLimits,
    tracks: ArcSwap<Vec<Track>>,
    changes: watch::Sender<Changes>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Changes {
    version: u64,
    state: BroadcastState,
}

impl Broadcast {
    /// A broadcast without tracks.
    #[must_use]
    pub fn new(name: StreamName, limits: BusLimits) -> Self {
        let changes = watch::channel(Changes { version: 0, state: BroadcastState::Waiting }).0;
        let tracks = ArcSwap::from_pointee(Vec::new());
        Self { shared: Arc::new(Shared { name, limits, tracks, changes }) }
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.shared.name
    }

    /// Whether both are handles on one broadcast.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The caps its tracks were made with.
    #[must_use]
    pub fn limits(&self) -> &BusLimits {
        &self.shared.limits
    }

    /// The tracks, in the order in which they were added.
    #[must_use]
    pub fn tracks(&self) -> Arc<Vec<Track>> {
        self.shared.tracks.load_full()
    }

    /// The track of that name.
    #[must_use]
    pub fn track(&self, name: &TrackName) -> Option<Track> {
        self.shared.tracks.load().iter().find(|track| track.name() == name).cloned()
    }

    /// Whether it has a publisher.
    #[must_use]
    pub fn state(&self) -> BroadcastState {
        self.shared.changes.borrow().state
    }

    /// Adds a track and gives its one writer.
    ///
    /// # Errors
    /// The name is taken, the limit is reached, or the broadcast has ended.
    pub fn add_track(
        &self,
        name: TrackName,
        kind: MediaKind,
    ) -> Result<TrackWriter, AddTrackError> {
        let mut result = Err(AddTrackError::Ended);
        // The watch's lock makes adding tracks one after another.
        self.shared.changes.send_if_modified(|changes| {
            let tracks = self.shared.tracks.load();
            result = if changes.state == BroadcastState::Ended {
                Err(AddTrackError::Ended)
            } else if tracks.iter().any(|track| *track.name() == name) {
                Err(AddTrackError::Exists(name.clone()))
            } else if tracks.len() >= self.shared.limits.tracks {
                Err(AddTrackError::TooMany(tracks.len()))
            } else {
                let shared = Arc::new(TrackShared::new(name.clone(), kind, self.shared.limits));
                let track = Track { shared: Arc::clone(&shared) };
                let all = tracks.iter().cloned().chain([track]).collect();
                self.shared.tracks.store(Arc::new(all));
                changes.version += 1;
                Ok(TrackWriter::new(shared))
            };
            result.is_ok()
        });
        result
    }

    /// Takes a track out of the list (its readers go on to its end). False when it is not there.
    pub fn remove_track(&self, name: &TrackName) -> bool {
        self.shared.changes.send_if_modified(|changes| {
            let tracks = self.shared.tracks.load();
            let rest: Vec<_> = tracks.iter().filter(|t| t.name() != name).cloned().collect();
            let removed = rest.len() < tracks.len();
            if removed {
                self.shared.tracks.store(Arc::new(rest));
                changes.version += 1;
            }
            removed
        })
    }

    /// Sets the state; [`BroadcastState::Ended`] is final. For the stream directory alone.
    pub fn set_state(&self, state: BroadcastState) {
        self.shared.changes.send_if_modified(|changes| {
            let change = changes.state != state && changes.state != BroadcastState::Ended;
            if change {
                *changes = Changes { version: changes.version + 1, state };
            }
            change
        });
    }

    /// A watcher of the track list and the state.
    #[must_use]
    pub fn watch(&self) -> BroadcastWatch {
        BroadcastWatch { changes: self.shared.changes.subscribe() }
    }
}

impl std::fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broadcast")
            .field("name", &self.shared.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// Wakes when a broadcast's tracks or state change.
#[derive(Clone)]
pub struct BroadcastWatch {
    changes: watch::Receiver<Changes>,
}

impl BroadcastWatch {
    /// Waits for a change since the last call (or since the watch was made). Cancel-safe. False
    /// when every handle on the broadcast is gone: nothing will change any more.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }
}
