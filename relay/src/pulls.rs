//! The streams that this node takes from others: one subscription each, however many viewers.
//!
//! Driver: it reads the clock. A stream is asked for when its first viewer comes, moves to another
//! hop at the exact frame, and is let go a while after the last viewer left. Not here: which node
//! is the parent (`Parents` says), frames (`intake`), the connection (`hop`).
#![allow(clippy::disallowed_methods, reason = "a driver reads the clock")]

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

use crate::hop::{Command, FetchError, Hop, TakenStream};
use crate::intake::{CutOutcome, Intake, RefuseReason, SourceId};
use crate::parent::Refusal;

/// Says by which hop a stream is taken.
pub trait Parents: Send + Sync + 'static {
    /// The hop to take `stream` by now; none while there is no such hop. Asked when a stream is
    /// first wanted, when its hop fails (`last` is the refusal, if it was one), after
    /// [`Pulls::reconsider`], and every [`PullOptions::retry`] while there is none. Must not block, nor call [`Pulls`].
    fn parent(&self, stream: &StreamName, last: Option<&Refusal>) -> Option<Hop>;
}

/// How streams are taken.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// How long a stream without viewers is kept (`[relay] linger`, 30 s). Longer saves the start
    /// for viewers who come back and costs the hop's traffic meanwhile.
    pub linger: Duration,
    /// How often a parent is looked for while there is none (100 ms).
    pub retry: Duration,
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
            retry: Duration::from_millis(100),
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

struct Entry {
    taken: Arc<TakenStream>,
    viewers: usize,
    /// Since when there are none.
    idle_since: Option<Instant>,
    current: Option<Current>,
    /// Ask who the parent is.
    reconsider: bool,
    ask_at: Instant,
    failed: Option<Refusal>,
}

struct Current {
    hop: Hop,
    source: SourceId,
}

impl Current {
    fn leave(self) {
        // A hop that is over has left by itself.
        let _ = self.hop.command(Command::Unsubscribe { source: self.source });
    }
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
        let shared = &self.shared;
        let mut table = shared.table.lock();
        let count = table.entries.len();
        if !table.entries.contains_key(stream) {
            if count >= shared.options.streams_max {
                metrics::counter!("headwater_relay_pulls_refused_total").increment(1);
                return Err(PullError::TooManyStreams(count));
            }
            table.entries.insert(stream.clone(), self.entry(stream));
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
        let taken = TakenStream {
            name: stream.clone(),
            intake: Mutex::new(intake),
            refused: Mutex::default(),
            changed: Arc::clone(&self.shared.changed),
        };
        Entry {
            taken: Arc::new(taken),
            viewers: 0,
            idle_since: None,
            current: None,
            reconsider: true,
            ask_at: Instant::now(),
            failed: None,
        }
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

    fn taken(&self, stream: &StreamName) -> Option<Arc<TakenStream>> {
        self.shared.table.lock().entries.get(stream).map(|entry| Arc::clone(&entry.taken))
    }

    /// What is known of owners or hops has changed: ask [`Parents`] again, for one stream or all.
    pub fn reconsider(&self, stream: Option<&StreamName>) {
        let mut table = self.shared.table.lock();
        for (name, entry) in &mut table.entries {
            entry.reconsider |= stream.is_none_or(|stream| stream == name);
        }
        drop(table);
        self.shared.changed.notify_one();
    }

    /// The directory says that the stream is at this epoch: what comes from a lower one is dropped.
    pub fn fence(&self, stream: &StreamName, epoch: Epoch) {
        if let Some(taken) = self.taken(stream) {
            taken.intake.lock().fence(epoch);
            self.reconsider(Some(stream));
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
        let mut entry = self.entry(stream);
        let intake = Intake::attach(broadcast, writers, options.patience);
        let fresh = TakenStream {
            name: stream.clone(),
            intake: Mutex::new(intake),
            refused: Mutex::default(),
            changed: Arc::clone(&self.shared.changed),
        };
        entry.taken = Arc::new(fresh);
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
        let detached = entry.taken.intake.lock().detach();
        if let Some(current) = entry.current {
            current.leave();
        }
        Some(detached)
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
        let mut wake_at = now + options.retry;
        let mut table = self.shared.table.lock();
        let Table { entries, last_source } = &mut *table;
        entries.retain(|_, entry| {
            let let_go_at = entry.idle_since.map(|since| since + options.linger);
            if let_go_at.is_some_and(|at| at <= now) {
                entry.let_go();
                return false;
            }
            wake_at = let_go_at.map_or(wake_at, |at| wake_at.min(at));
            entry.check(now, options.retry);
            if entry.reconsider || (entry.current.is_none() && entry.ask_at <= now) {
                entry.ask(parents, last_source, now, options.retry);
            }
            true
        });
        wake_at
    }
}

impl Entry {
    fn let_go(&mut self) {
        if let Some(current) = self.current.take() {
            current.leave();
        }
        self.taken.intake.lock().end();
        metrics::gauge!("headwater_relay_pulled_streams").decrement(1.0);
        tracing::info!(stream = %self.taken.name, "the last viewer is gone: let go");
    }

    /// Notices that the hop has refused, ended or fallen silent.
    fn check(&mut self, now: Instant, retry: Duration) {
        let Some(current) = &self.current else { return };
        let refused = self.taken.refused.lock().take();
        if let Some((_, refusal)) = refused.filter(|(source, _)| *source == current.source) {
            self.failed = Some(refusal);
            self.current = None;
            self.ask_at = now + retry;
            return;
        }
        let over = current.hop.status().borrow().closed;
        if over || self.taken.intake.lock().ended_by() == Some(current.source) {
            if let Some(current) = self.current.take() {
                current.leave();
            }
            self.ask_at = if over { now } else { now + retry };
        } else if !current.hop.is_usable() {
            // It may come back: it is left for another one only.
            self.reconsider = true;
        }
    }

    fn ask(&mut self, parents: &dyn Parents, last_source: &mut u64, now: Instant, retry: Duration) {
        self.reconsider = false;
        self.ask_at = now + retry;
        let Some(hop) = parents.parent(&self.taken.name, self.failed.as_ref()) else { return };
        let same = self.current.as_ref().is_some_and(|current| current.hop.is(&hop));
        if same || hop.status().borrow().closed {
            return;
        }
        *last_source += 1;
        let source = SourceId(*last_source);
        let taken = Arc::clone(&self.taken);
        if !hop.command(Command::Subscribe { taken, source, terms: None }) {
            // Too busy: asked again when it is looked at next.
            self.reconsider = self.current.is_some();
            return;
        }
        metrics::counter!("headwater_relay_subscribes_total").increment(1);
        if let Some(old) = self.current.replace(Current { hop, source }) {
            old.leave();
        }
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
