//! Streams that another node owns: taken from there while somebody here watches, and given over in
//! both directions when the owner changes.
//!
//! Not here: which node that is and the hop to it (`bridge`), who may publish (`streams`).

use headwater_cluster::claim::{Progress, TrackProgress};
use headwater_cluster::command::Cut;
use headwater_media::{Broadcast, BroadcastState, Epoch, GroupSeq, StreamName, WallTime};
use headwater_relay::pulls::{Pull, Pulls};

use super::{Entry, Streams, Table};
use crate::ingest::EndReason;
use crate::ownership::News;
use crate::transcode::audio::AudioTarget;

/// How long a stream is kept that nobody here watches, before it is let go (and then lingers
/// where it is taken: `[relay] linger`).
const UNWATCHED_MICROS: i64 = 10_000_000;

/// A stream that is taken from another node.
pub(super) struct Taken {
    /// None while nobody watches: then it lingers, and is let go unless somebody comes.
    pull: Option<Pull>,
    pub(super) broadcast: Broadcast,
    pub(super) since: WallTime,
    /// When somebody last watched it.
    watched: WallTime,
}

impl Streams {
    /// The broadcast of that name, wherever in the cluster it is published: one that another node
    /// owns is taken from there from now on. It may have no tracks yet.
    #[must_use]
    pub fn find(&self, name: &StreamName) -> Option<Broadcast> {
        let here = self.get(name).filter(|broadcast| broadcast.state() != BroadcastState::Ended);
        here.or_else(|| self.take(name))
    }

    fn take(&self, name: &StreamName) -> Option<Broadcast> {
        if !self.shared.ownership.is_elsewhere(name) {
            return None;
        }
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        if table.live.contains_key(name) {
            // It was given away a moment ago; the bridge turns it round.
            return table.get(name);
        }
        if let Some(taken) = table.taken.get_mut(name)
            && taken.hold(&self.shared.pulls)
        {
            taken.watched = now;
            return Some(taken.broadcast.clone());
        }
        let pull = match self.shared.pulls.pull(name) {
            Ok(pull) => pull,
            Err(error) => {
                tracing::warn!(stream = %name, %error, "not taken");
                return None;
            }
        };
        let broadcast = table.insert_taken(pull, now);
        drop(table);
        tracing::info!(stream = %name, "taking the stream from its owner");
        self.changed();
        Some(broadcast)
    }

    /// Whether this broadcast is published on this node.
    #[must_use]
    pub fn owns(&self, broadcast: &Broadcast) -> bool {
        let table = self.shared.table.lock();
        table.live.get(broadcast.name()).is_some_and(|entry| entry.broadcast.is(broadcast))
    }

    /// Names of the streams that are published here, and of those that are taken from elsewhere.
    #[must_use]
    pub fn names(&self) -> (Vec<StreamName>, Vec<StreamName>) {
        let table = self.shared.table.lock();
        (table.live.keys().cloned().collect(), table.taken.keys().cloned().collect())
    }

    /// Lets streams go that nobody here has watched for a while, and notices those that have begun
    /// anew. `is_watched` says whether somebody watches a stream now.
    pub fn sweep_taken(&self, is_watched: impl Fn(&StreamName) -> bool) {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        let before = table.taken.len();
        let mut renewed = false;
        table.taken.retain(|name, taken| {
            if is_watched(name) && taken.hold(&self.shared.pulls) {
                taken.watched = now;
            }
            if now.micros_since(taken.watched) >= UNWATCHED_MICROS {
                taken.pull = None;
            }
            let Some(pull) = &taken.pull else {
                // It stays known while it lingers: who comes meanwhile watches the same one.
                return taken.broadcast.state() != BroadcastState::Ended;
            };
            let current = pull.broadcast();
            if !current.is(&taken.broadcast) {
                taken.broadcast = current;
                renewed = true;
            }
            true
        });
        let changed = renewed || table.taken.len() != before;
        drop(table);
        if changed {
            self.changed();
        }
    }

    /// How far the stream has come here; nothing if nothing of it is here.
    #[must_use]
    pub fn progress(&self, name: &StreamName) -> Option<Progress> {
        let table = self.shared.table.lock();
        if let Some(entry) = table.live.get(name) {
            return Some(entry.progress(false));
        }
        drop(table);
        // Also what is taken for other nodes alone.
        let (broadcast, _) = self.shared.pulls.get(name)?;
        progress_of(&broadcast)
    }

    /// Another node is about to take over the stream that this one owns in `epoch`: its publisher's
    /// session ends, no frame is added any more, and the answer says exactly how far it came. If
    /// this node does not own that epoch, it says how far the stream has come here.
    #[must_use]
    pub fn fence(&self, name: &StreamName, epoch: Epoch) -> Option<Progress> {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        let owned = table.live.get_mut(name).filter(|entry| entry.epoch() == epoch);
        let Some(entry) = owned else {
            drop(table);
            return self.progress(name);
        };
        entry.stop_publisher(EndReason::Replaced, now);
        let progress = entry.progress(true);
        // If nothing comes of the claim after all, the stream waits for whoever comes.
        self.shared.ownership.tell(News::Paused(entry.stop(now)));
        drop(table);
        tracing::info!(stream = %name, epoch = epoch.0, "the stream is another publisher's now");
        Some(progress)
    }

    /// The stream's epoch is `current` now, above the one in which this node publishes it: the
    /// publisher's session ends. Groups in flight end as `cut` says; what has come further than
    /// that is torn, as nobody else has it.
    pub fn lost(&self, name: &StreamName, current: Epoch, cut: &[Cut]) {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        let Some(entry) = table.live.get_mut(name).filter(|entry| entry.epoch() < current) else {
            return;
        };
        if entry.publisher.is_some() {
            tracing::warn!(stream = %name, epoch = entry.epoch().0, current = current.0,
                "the cluster has given the stream to another publisher meanwhile");
            entry.core.lock().cut(cut);
            entry.stop_publisher(EndReason::Fenced, now);
        }
    }

    /// The cluster ended the stream in the very epoch in which this node publishes it: it was held
    /// for dead for longer than the stream waits. Its numbers are given anew from now on, so the
    /// publisher's session ends; coming back, it gets an epoch of its own.
    pub fn over(&self, name: &StreamName, epoch: Epoch) {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        let here = table.live.get_mut(name).filter(|entry| entry.epoch() == epoch);
        if let Some(entry) = here.filter(|entry| entry.publisher.is_some()) {
            tracing::warn!(stream = %name, epoch = epoch.0,
                "the cluster has ended the stream meanwhile: its publisher must begin anew");
            entry.stop_publisher(EndReason::Fenced, now);
        }
    }

    /// This node was removed from its cluster, which may give its streams to others from now on: its
    /// publishers' sessions end.
    pub fn expel(&self) {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        for (stream, entry) in &mut table.live {
            if entry.publisher.is_some() {
                tracing::warn!(%stream, "this node was removed: its publisher's session ends");
                entry.stop_publisher(EndReason::Removed, now);
            }
        }
    }

    /// The cluster says that another node has owned the stream since `epoch`: who watches here goes
    /// on watching what comes from there. False when it is not published here, or in that epoch
    /// or a later one.
    pub fn turn_round(&self, name: &StreamName, epoch: Epoch, cut: &[Cut]) -> bool {
        self.lost(name, epoch, cut);
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        if table.live.get(name).is_none_or(|entry| entry.epoch() >= epoch) {
            return false;
        }
        let Some(entry) = table.live.remove(name) else { return false };
        let writers = entry.core.lock().hand_over();
        match self.shared.pulls.attach(&entry.broadcast, writers) {
            Ok(pull) => {
                table.insert_taken(pull, now);
            }
            Err(error) => tracing::warn!(stream = %name, %error, "not taken from its new owner"),
        }
        drop(table);
        tracing::info!(stream = %name, epoch = epoch.0, "following the stream's new owner");
        self.changed();
        true
    }
}

impl Taken {
    /// Sees to it that the stream is not let go; false if it cannot be had.
    fn hold(&mut self, pulls: &Pulls) -> bool {
        if self.pull.is_none() {
            let held = pulls.pull(self.broadcast.name());
            self.pull = held.inspect_err(|error| tracing::warn!(%error, "not taken")).ok();
            if let Some(pull) = &self.pull {
                self.broadcast = pull.broadcast();
            }
        }
        self.pull.is_some()
    }
}

impl Table {
    fn insert_taken(&mut self, pull: Pull, now: WallTime) -> Broadcast {
        let broadcast = pull.broadcast();
        let name = broadcast.name().clone();
        let taken =
            Taken { pull: Some(pull), broadcast: broadcast.clone(), since: now, watched: now };
        self.taken.insert(name, taken);
        broadcast
    }
}

impl Entry {
    fn epoch(&self) -> Epoch {
        self.core.lock().numbers().epoch
    }

    fn stop_publisher(&mut self, reason: EndReason, now: WallTime) {
        if let Some(control) = self.publisher.take() {
            control.end(reason);
            self.core.lock().leave(control.epoch);
            self.waiting_since = Some(now);
        }
    }

    /// The owner's word on how far it is: exact if it has stopped.
    fn progress(&self, fenced: bool) -> Progress {
        let numbers = self.core.lock().numbers();
        Progress {
            epoch: numbers.epoch,
            fenced,
            next_group: numbers.next_group,
            discontinuity: numbers.discontinuity,
            tracks: self.tracks(fenced),
        }
    }

    /// Of sound that is made here some may still come: no end of it can be agreed.
    fn tracks(&self, fenced: bool) -> Vec<TrackProgress> {
        let made = AudioTarget::ALL.map(AudioTarget::track_name);
        let mut tracks = tracks_of(&self.broadcast);
        tracks.retain(|one| !fenced || !made.contains(&one.track));
        tracks
    }
}

fn tracks_of(broadcast: &Broadcast) -> Vec<TrackProgress> {
    let tracks = broadcast.tracks();
    let newest = tracks.iter().filter_map(|track| Some((track.name(), track.newest()?)));
    newest
        .map(|(name, group)| TrackProgress {
            track: name.clone(),
            group: group.seq(),
            frames: group.len(),
        })
        .collect()
}

/// How far a broadcast has come that is taken from elsewhere.
fn progress_of(broadcast: &Broadcast) -> Option<Progress> {
    let tracks = broadcast.tracks();
    let newest: Vec<_> = tracks.iter().filter_map(|track| track.newest()).collect();
    let highest = newest.iter().max_by_key(|group| group.seq())?;
    Some(Progress {
        epoch: newest.iter().map(|group| group.header().epoch).max().unwrap_or(Epoch(0)),
        fenced: false,
        next_group: newest.iter().map(|group| group.seq().next()).max().unwrap_or(GroupSeq(0)),
        discontinuity: highest.header().discontinuity,
        tracks: tracks_of(broadcast),
    })
}

#[cfg(test)]
mod tests;
