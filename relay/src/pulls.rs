//! The streams that this node takes from others: one subscription each, however many viewers.
//!
//! Driver: it reads the clock. A stream is asked for when its first viewer comes, moves to another
//! hop at the exact frame, and is let go a while after the last viewer left. Not here: which node
//! may be the parent (`Parents` says) and which of them is (`choice`), frames (`intake`), the
//! connection (`hop`).
#![allow(clippy::disallowed_methods, reason = "a driver reads the clock")]

mod entry;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::limits::BusLimits;
use headwater_media::{
    Broadcast, BroadcastState, Epoch, GroupSeq, StreamName, TrackName, TrackWriter,
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, watch};

use self::entry::Entry;
use crate::choice::ChoiceOptions;
use crate::hop::{FetchError, Hop, TakenStream};
use crate::intake::{CutOutcome, Intake, RefuseReason};
use crate::parent::Refusal;
use crate::route::Standing;
use crate::wire::StartAt;

/// All streams are looked at this often at least.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The way to a node that a stream may be taken from.
#[derive(Clone, Debug)]
pub enum Way {
    /// The connection is being made: [`Pulls::reconsider`] tells when it is there.
    Opening,
    /// There is a hop.
    Hop(Hop),
    /// The node does not answer.
    None,
}

/// A node that a stream may be taken from.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The node.
    pub node: u64,
    /// The way there.
    pub way: Way,
    /// Whether it is asked only when the others have failed for a while.
    pub last_resort: bool,
}

/// A stream for which a parent is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The stream.
    pub stream: &'a StreamName,
    /// How the last parent refused it, if one did.
    pub refusal: Option<&'a Refusal>,
    /// Nobody has brought it for a while: a last resort is in place.
    pub starves: bool,
}

/// Says from where a stream may be taken.
pub trait Parents: Send + Sync + 'static {
    /// The nodes to take a stream from, the best first. Asked when a stream is first wanted, when
    /// its hop fails, after [`Pulls::reconsider`], and from time to time. Must not block, nor call
    /// [`Pulls`].
    fn parents(&self, wanted: Wanted<'_>) -> Vec<Candidate>;
}

/// How streams are taken.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// How long a stream without viewers is kept (`[relay] linger`, 30 s). Longer saves the start
    /// for viewers who come back and costs the hop's traffic meanwhile.
    pub linger: Duration,
    /// When one parent is left for another.
    pub choice: ChoiceOptions,
    /// A stream that no parent has brought for so long ends here, until one brings it again (30 s,
    /// as much as is kept of it).
    pub orphaned_after: Duration,
    /// How long a group that was overtaken by a newer one is waited for (2 s).
    pub patience: Duration,
    /// What tracks may keep.
    pub limits: BusLimits,
    /// Streams taken at once (`[limits] streams`, 1000).
    pub streams_max: usize,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(30),
            choice: ChoiceOptions::default(),
            orphaned_after: Duration::from_secs(30),
            patience: Duration::from_secs(2),
            limits: BusLimits::default(),
            streams_max: 1_000,
        }
    }
}

/// Why a stream cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PullError {
    /// `streams_max` is reached.
    #[error("the node takes {0} streams from others, its limit (`[limits] streams`)")]
    TooManyStreams(usize),
}

/// Why frames could not be added to the group in flight.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FillError {
    /// The other node has them not.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The stream is not taken here.
    #[error("the stream is not taken from another node")]
    NotTaken,
    /// They do not fit.
    #[error("the frames do not fit: {}", .0.as_str())]
    Refused(RefuseReason),
}

/// All streams that the node takes. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Pulls {
    shared: Arc<Shared>,
}

struct Shared {
    options: PullOptions,
    table: Mutex<Table>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<StreamName, Entry>,
    last_source: u64,
}

/// A viewer's hold on a stream: it is taken while one lives, and `linger` longer.
pub struct Pull {
    shared: Arc<Shared>,
    taken: Arc<TakenStream>,
    broadcast: watch::Receiver<Broadcast>,
}

impl Pull {
    /// The stream as it is on this node, to be read like one that is published here. It has no
    /// tracks until they have come.
    #[must_use]
    pub fn broadcast(&self) -> Broadcast {
        self.broadcast.borrow().clone()
    }

    /// The epoch that is followed.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.taken.intake.lock().epoch()
    }

    /// What is known of the stream here beside the media: for this node's children.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.taken.intake.lock().standing()
    }

    /// Whether the stream is still taken by this very pull: a publisher of this node may have
    /// become its owner.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let table = self.shared.table.lock();
        let entry = table.entries.get(&self.taken.name);
        entry.is_some_and(|entry| Arc::ptr_eq(&entry.taken, &self.taken))
    }

    /// Waits until the stream, having ended, has begun anew: another broadcast.
    pub async fn renewed(&mut self) -> Broadcast {
        if self.broadcast.changed().await.is_err() {
            // This node has become the owner: it stays this one.
            std::future::pending::<()>().await;
        }
        self.broadcast.borrow_and_update().clone()
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        if let Some(entry) = table.entries.get_mut(&self.taken.name)
            && Arc::ptr_eq(&entry.taken, &self.taken)
        {
            entry.viewers -= 1;
            if entry.viewers == 0 {
                entry.idle_since = Some(Instant::now());
                self.shared.changed.notify_one();
            }
        }
    }
}

impl Pulls {
    /// No streams yet. Nothing is taken until [`Self::run`] is polled.
    #[must_use]
    pub fn new(options: PullOptions) -> Self {
        let (table, changed) = (Mutex::default(), Arc::default());
        Self { shared: Arc::new(Shared { options, table, changed }) }
    }

    /// Takes `stream` from elsewhere for one viewer more.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn pull(&self, stream: &StreamName) -> Result<Pull, PullError> {
        self.pull_from(stream, (Epoch(0), &StartAt::Newest))
    }

    /// As [`Self::pull`], for a child: if the stream is not taken yet, it follows that epoch and
    /// begins with the groups that the child is in.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn pull_from(
        &self,
        stream: &StreamName,
        from: (Epoch, &StartAt),
    ) -> Result<Pull, PullError> {
        let shared = &self.shared;
        let mut table = shared.table.lock();
        let count = table.entries.len();
        if !table.entries.contains_key(stream) {
            if count >= shared.options.streams_max {
                metrics::counter!("headwater_relay_pulls_refused_total").increment(1);
                return Err(PullError::TooManyStreams(count));
            }
            let entry = self.entry(stream);
            {
                let mut intake = entry.taken.intake.lock();
                intake.fence(from.0);
                intake.begin_at(from.1);
            }
            table.entries.insert(stream.clone(), entry);
            metrics::gauge!("headwater_relay_pulled_streams").increment(1.0);
            shared.changed.notify_one();
        }
        let Some(entry) = table.entries.get_mut(stream) else {
            return Err(PullError::TooManyStreams(count));
        };
        entry.viewers += 1;
        entry.idle_since = None;
        let broadcast = entry.taken.intake.lock().broadcast();
        Ok(Pull { shared: Arc::clone(shared), taken: Arc::clone(&entry.taken), broadcast })
    }

    fn entry(&self, stream: &StreamName) -> Entry {
        let options = &self.shared.options;
        let intake = Intake::new(stream.clone(), options.limits, options.patience);
        self.entry_of(stream, intake)
    }

    fn entry_of(&self, stream: &StreamName, intake: Intake) -> Entry {
        let taken = TakenStream {
            name: stream.clone(),
            intake: Mutex::new(intake),
            refused: Mutex::default(),
            changed: Arc::clone(&self.shared.changed),
        };
        Entry::new(taken, self.shared.options.choice, Instant::now())
    }

    /// The stream as it is here, if it is taken; for this node's own children.
    #[must_use]
    pub fn get(&self, stream: &StreamName) -> Option<(Broadcast, Epoch)> {
        let taken = self.taken(stream)?;
        let intake = taken.intake.lock();
        let broadcast = intake.broadcast().borrow().clone();
        Some((broadcast, intake.epoch()))
    }

    /// The streams that are taken, and their viewers on this node.
    #[must_use]
    pub fn list(&self) -> Vec<(StreamName, usize)> {
        let table = self.shared.table.lock();
        table.entries.iter().map(|(name, entry)| (name.clone(), entry.viewers)).collect()
    }

    /// The node that the stream is taken from now.
    #[must_use]
    pub fn parent_of(&self, stream: &StreamName) -> Option<u64> {
        self.shared.table.lock().entries.get(stream)?.parent()
    }

    fn taken(&self, stream: &StreamName) -> Option<Arc<TakenStream>> {
        self.shared.table.lock().entries.get(stream).map(|entry| Arc::clone(&entry.taken))
    }

    /// What is known of owners or hops has changed: ask [`Parents`] again, for one stream or all.
    pub fn reconsider(&self, stream: Option<&StreamName>) {
        let mut table = self.shared.table.lock();
        match stream {
            Some(stream) => {
                if let Some(entry) = table.entries.get_mut(stream) {
                    entry.reconsider();
                }
            }
            None => table.entries.values_mut().for_each(Entry::reconsider),
        }
        drop(table);
        self.shared.changed.notify_one();
    }

    /// The directory says that the stream is at this epoch: what comes from a lower one is dropped.
    pub fn fence(&self, stream: &StreamName, epoch: Epoch) {
        let mut table = self.shared.table.lock();
        if let Some(entry) = table.entries.get_mut(stream) {
            entry.fence(epoch);
            drop(table);
            self.shared.changed.notify_one();
        }
    }

    /// The open group of a track and how many frames of it this node has.
    #[must_use]
    pub fn in_flight(&self, stream: &StreamName, track: &TrackName) -> Option<(GroupSeq, u32)> {
        self.taken(stream)?.intake.lock().in_flight(track)
    }

    /// The group in flight when its owner died ends after `frames` frames, as was agreed.
    pub fn cut(
        &self,
        stream: &StreamName,
        track: &TrackName,
        group: GroupSeq,
        frames: u32,
    ) -> CutOutcome {
        match self.taken(stream) {
            Some(taken) => taken.intake.lock().cut(track, group, frames),
            None => CutOutcome::NotOpen,
        }
    }

    /// Fetches from `hop` what is missing of the group in flight, and adds it.
    ///
    /// # Errors
    /// The other node has it not, or it does not fit.
    pub async fn fill(
        &self,
        hop: &Hop,
        stream: &StreamName,
        track: &TrackName,
        group: GroupSeq,
    ) -> Result<(), FillError> {
        let taken = self.taken(stream).ok_or(FillError::NotTaken)?;
        let open = taken.intake.lock().in_flight(track).filter(|(seq, _)| *seq == group);
        let (_, from) = open.ok_or(FillError::NotTaken)?;
        let fetched = hop.fetch(stream.clone(), track.clone(), group, from).await?;
        let (first, frames) = (fetched.first_frame, fetched.frames);
        let filled = taken.intake.lock().fetched(track, group, first, frames);
        filled.map_err(FillError::Refused)
    }

    /// Ends a stream that is over elsewhere and whose end did not come by a hop.
    pub fn end(&self, stream: &StreamName) {
        if let Some(taken) = self.taken(stream) {
            let mut intake = taken.intake.lock();
            if intake.broadcast().borrow().state() != BroadcastState::Ended {
                intake.end();
            }
        }
    }

    /// Goes on with a stream that was published on this node, now from its new owner: who reads its
    /// broadcast goes on reading it. `writers` are those of its tracks, with their groups ended.
    ///
    /// # Errors
    /// The limit is reached; the broadcast has then ended.
    pub fn attach(
        &self,
        broadcast: &Broadcast,
        writers: Vec<TrackWriter>,
    ) -> Result<Pull, PullError> {
        let (stream, options) = (broadcast.name(), &self.shared.options);
        let intake = Intake::attach(broadcast, writers, options.patience);
        let entry = self.entry_of(stream, intake);
        let mut table = self.shared.table.lock();
        let old = if table.entries.len() < options.streams_max {
            table.entries.insert(stream.clone(), entry)
        } else {
            metrics::counter!("headwater_relay_pulls_refused_total").increment(1);
            let count = table.entries.len();
            drop(table);
            // Nobody has its writers any more, so nobody else can end it.
            entry.taken.intake.lock().end();
            return Err(PullError::TooManyStreams(count));
        };
        drop(table);
        metrics::gauge!("headwater_relay_pulled_streams").increment(1.0);
        if let Some(mut old) = old {
            old.let_go();
        }
        self.pull(stream)
    }

    /// Hands a stream over to a publisher of this node: its broadcast, which viewers go on to read,
    /// and the writers of its tracks with their groups as they are.
    #[must_use]
    pub fn detach(&self, stream: &StreamName) -> Option<(Broadcast, Vec<TrackWriter>)> {
        let entry = self.shared.table.lock().entries.remove(stream)?;
        metrics::gauge!("headwater_relay_pulled_streams").decrement(1.0);
        Some(entry.detach())
    }

    /// Keeps every stream on the hop that `parents` says; runs until it is dropped.
    pub async fn run(self, parents: Arc<dyn Parents>) {
        loop {
            let notified = self.shared.changed.notified();
            let wake_at = self.step(parents.as_ref(), Instant::now());
            tokio::select! {
                () = notified => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }

    /// Does what is due; when to look again at the latest.
    fn step(&self, parents: &dyn Parents, now: Instant) -> Instant {
        let options = &self.shared.options;
        let mut wake_at = now + LOOK_INTERVAL;
        let mut table = self.shared.table.lock();
        let Table { entries, last_source } = &mut *table;
        entries.retain(|_, entry| {
            let let_go_at = entry.idle_since.map(|since| since + options.linger);
            if let_go_at.is_some_and(|at| at <= now) {
                entry.let_go();
                return false;
            }
            let look_at = entry.step(parents, last_source, options.orphaned_after, now);
            wake_at = let_go_at.map_or(look_at, |at| look_at.min(at)).min(wake_at);
            true
        });
        wake_at
    }
}

impl std::fmt::Debug for Pulls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.shared.table.lock().entries.len();
        f.debug_struct("Pulls").field("streams", &count).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Pull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pull").field("stream", &self.taken.name).finish_non_exhaustive()
    }
}
