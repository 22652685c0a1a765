//! The node's streams: who publishes what here, under the numbers that the cluster grants.
//!
//! Not here: media (`ingest`), permission (`auth`), sessions' bookkeeping (`sessions`), who owns a
//! stream in the cluster (`ownership`).

mod elsewhere;
mod standing;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_cluster::command::{Extension, Stop};
use headwater_media::limits::BusLimits;
use headwater_media::{
    Broadcast, BroadcastState, Epoch, GroupSeq, SessionId, StreamName, WallTime,
};
use headwater_relay::pulls::Pulls;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

use self::elsewhere::Taken;
pub use self::standing::Standing;
use crate::clock::Clock;
use crate::ingest::{
    EndReason, Heritage, IngestOptions, Publisher, PublisherControl, StreamCore, floor_of_unknown,
};
use crate::ownership::{Ask, ClaimError, Granted, News, Ownership, Pulse, cluster_time};
use crate::sessions::SessionHandle;
use crate::transcode::audio::AudioTarget;

/// What happens to a second publisher on a live name (`[ingest] policy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// It is refused.
    #[default]
    Reject,
    /// It takes over; the first one's session ends.
    Replace,
}

/// The directory's settings.
#[derive(Clone, Debug)]
pub struct StreamsOptions {
    /// A second publisher on a live name (`[ingest] policy`, reject).
    pub policy: Policy,
    /// A publisher that has sent nothing for so long gives way to another one under either policy
    /// (2 s): encoders that were killed come back before their old session times out.
    pub takeover_after: Duration,
    /// How long a broadcast waits for its publisher's return (`[ingest] reconnect_window`, 10 s).
    pub reconnect_window: Duration,
    /// Streams at once (`[limits] streams`, 1000).
    pub streams_max: usize,
    /// What publishers may do.
    pub ingest: IngestOptions,
    /// What tracks may keep.
    pub bus: BusLimits,
}

impl Default for StreamsOptions {
    fn default() -> Self {
        Self {
            policy: Policy::Reject,
            takeover_after: Duration::from_secs(2),
            reconnect_window: Duration::from_secs(10),
            streams_max: 1_000,
            ingest: IngestOptions::default(),
            bus: BusLimits::default(),
        }
    }
}

/// Numbers reserved ahead of use at a time, and how few may be left before more are.
const RESERVE: u64 = 16;
const RESERVE_LEFT_MIN: u64 = 8;

/// Why a stream cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    /// It has a publisher and the policy is to refuse a second one.
    #[error(
        "stream {0} already has a publisher; stop it, use another name, or set \
         `[ingest] policy = \"replace\"`"
    )]
    Busy(StreamName),
    /// `[limits] streams` is reached.
    #[error("the node has {0} streams, its limit (`[limits] streams`)")]
    TooManyStreams(usize),
    /// The node takes no publishers any more.
    #[error("the node is shutting down")]
    Draining,
    /// The cluster does not give it.
    #[error("{0}")]
    Claim(#[from] ClaimError),
}

impl PublishError {
    /// Whether this node never takes publishers: another one must be asked.
    #[must_use]
    pub fn is_of_relay(&self) -> bool {
        matches!(self, Self::Claim(ClaimError::Relay(_)))
    }

    /// Whether another publisher has the stream; otherwise it cannot be published here and now.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Claim(ClaimError::Busy { .. }))
    }
}

/// A stream as the API shows it.
#[derive(Clone, Debug)]
pub struct StreamSnapshot {
    /// The live object.
    pub broadcast: Broadcast,
    /// Its publisher's session, while it has one.
    pub publisher: Option<SessionId>,
    /// When it was first published.
    pub since: WallTime,
    /// What an operator should know, a sentence each.
    pub warnings: Vec<String>,
}

/// All streams of the node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Streams {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    options: StreamsOptions,
    ownership: Arc<dyn Ownership>,
    /// What is taken from other nodes.
    pulls: Pulls,
    pulse: Arc<Pulse>,
    table: Mutex<Table>,
    /// Rises when a stream appears or goes.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    /// Published here.
    live: HashMap<StreamName, Entry>,
    /// Published elsewhere and watched here.
    taken: HashMap<StreamName, Taken>,
    draining: bool,
}

struct Entry {
    broadcast: Broadcast,
    core: Arc<Mutex<StreamCore>>,
    publisher: Option<PublisherControl>,
    since: WallTime,
    /// When the last publisher left.
    waiting_since: Option<WallTime>,
}

impl Streams {
    /// None yet. `ownership` is asked before anybody publishes; by `pulls` come the streams that
    /// others publish.
    #[must_use]
    pub fn new(
        clock: Clock,
        options: StreamsOptions,
        ownership: Arc<dyn Ownership>,
        pulls: Pulls,
    ) -> Self {
        let (pulse, table) = (Arc::default(), Mutex::default());
        let changes = watch::channel(0).0;
        let shared = Shared { clock, options, ownership, pulls, pulse, table, changes };
        Self { shared: Arc::new(shared) }
    }

    /// Gives `session` the right to publish `name`, once the cluster has granted it: a new
    /// broadcast, or the one that waits.
    ///
    /// # Errors
    /// It is taken, the node or the cluster is full, there is no quorum, or the node shuts down.
    pub async fn publish(
        &self,
        name: &StreamName,
        session: &SessionHandle,
    ) -> Result<Publisher, PublishError> {
        let ask = self.ask(name, session.id())?;
        let granted = self.shared.ownership.claim(ask).await.inspect_err(|error| {
            let reason = match error {
                ClaimError::Busy { .. } => "busy",
                ClaimError::NoQuorum => "no_quorum",
                ClaimError::TooManyStreams(_) => "limit",
                ClaimError::NotHere(_) => "not_here",
                ClaimError::Relay(_) => "relay",
            };
            refused(reason);
        })?;
        self.begin(name, session, granted)
    }

    /// What the cluster is to be asked; a look at the node's own limits and policy first.
    fn ask(&self, name: &StreamName, session: SessionId) -> Result<Ask, PublishError> {
        let standing = self.may_publish(name)?;
        let takeover =
            standing == Standing::GivesWay || self.shared.options.policy == Policy::Replace;
        let floor = floor_of_unknown(self.shared.clock.now());
        let left = self.left(name);
        let takeover_after = self.shared.options.takeover_after;
        Ok(Ask { stream: name.clone(), session, takeover, takeover_after, left, floor })
    }

    /// The epoch in which the stream waits here for its publisher.
    fn left(&self, name: &StreamName) -> Option<Epoch> {
        let table = self.shared.table.lock();
        let waiting = table.live.get(name).filter(|entry| entry.publisher.is_none());
        waiting.map(|entry| entry.core.lock().numbers().epoch)
    }

    /// The stream was granted: the session publishes it from now on.
    fn begin(
        &self,
        name: &StreamName,
        session: &SessionHandle,
        Granted { grant, heritage }: Granted,
    ) -> Result<Publisher, PublishError> {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        let epoch = grant.epoch;
        // The node may have filled up, or begun to drain, while the claim was on its way.
        let (known, count) = (table.live.contains_key(name), table.live.len());
        if table.draining || (!known && count >= self.shared.options.streams_max) {
            let draining = table.draining;
            drop(table);
            self.give_back(name, grant);
            if draining {
                return Err(PublishError::Draining);
            }
            refused("limit");
            return Err(PublishError::TooManyStreams(count));
        }
        // Another node may have been granted the stream since, and be followed already.
        let followed = self.shared.pulls.get(name).map(|(_, followed)| followed);
        if followed.is_some_and(|followed| followed > epoch)
            || self.shared.ownership.is_over(name, epoch)
        {
            refused("busy");
            return Err(PublishError::Busy(name.clone()));
        }
        if !table.live.contains_key(name) {
            let entry = self.new_entry(&mut table, name, heritage, now);
            table.live.insert(name.clone(), entry);
        }
        let Some(entry) = table.live.get_mut(name) else {
            return Err(PublishError::TooManyStreams(0));
        };
        {
            let mut core = entry.core.lock();
            // Two sessions of this node may have asked at once.
            if core.numbers().epoch >= epoch {
                refused("busy");
                return Err(PublishError::Busy(name.clone()));
            }
            if let Some(current) = &entry.publisher {
                current.end(EndReason::Replaced);
            }
            core.begin(session.id(), now, grant);
        }
        let (weak, pulse) = (Arc::downgrade(&self.shared), Arc::clone(&self.shared.pulse));
        let left = name.clone();
        let on_leave = Box::new(move || Shared::leave(&weak, &left, epoch));
        let (publisher, control) =
            Publisher::new(Arc::clone(&entry.core), session.id(), epoch, pulse, on_leave);
        tokio::spawn(end_when_kicked(session.kicked(), control.clone()));
        entry.publisher = Some(control);
        entry.waiting_since = None;
        drop(table);
        self.changed();
        tracing::info!(stream = %name, session = %session.id(), epoch = epoch.0,
            first_group = grant.first_group.0, protocol = session.info().protocol, "publishing");
        Ok(publisher)
    }

    /// A new broadcast, or the one that was taken from the stream's owner until now.
    fn new_entry(
        &self,
        table: &mut Table,
        name: &StreamName,
        heritage: Option<Heritage>,
        now: WallTime,
    ) -> Entry {
        let ingest = self.shared.options.ingest.clone();
        // What nobody has watched for a while may still come in.
        table.taken.remove(name);
        let taken = self.shared.pulls.detach(name);
        let core = match taken {
            Some((broadcast, mut writers)) if broadcast.state() != BroadcastState::Ended => {
                // What the owner before made of the sound is made here from now on.
                let made = AudioTarget::ALL.map(AudioTarget::track_name);
                for mut writer in writers.extract_if(.., |one| made.contains(one.track().name())) {
                    broadcast.remove_track(writer.track().name());
                    // Its rest is not here: elsewhere the group has more.
                    writer.tear_group();
                    writer.finish();
                }
                StreamCore::adopt(broadcast, ingest, writers)
            }
            _ => {
                let broadcast = Broadcast::new(name.clone(), self.shared.options.bus);
                let mut core = StreamCore::new(broadcast, ingest);
                core.inherit(heritage);
                core
            }
        };
        Entry::new(core, now)
    }

    /// Wakes who waits for a stream.
    pub(crate) fn changed(&self) {
        self.shared.changes.send_modify(|version| *version += 1);
    }

    /// The broadcast of that name, while it is live or waits for its publisher.
    #[must_use]
    pub fn get(&self, name: &StreamName) -> Option<Broadcast> {
        self.shared.table.lock().get(name)
    }

    /// The broadcast of that name and its epoch, if this node owns it: for other nodes.
    #[must_use]
    pub fn owned(&self, name: &StreamName) -> Option<(Broadcast, Epoch)> {
        let table = self.shared.table.lock();
        let entry = table.live.get(name)?;
        let epoch = entry.core.lock().numbers().epoch;
        Some((entry.broadcast.clone(), epoch))
    }

    /// All broadcasts, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Broadcast> {
        let table = self.shared.table.lock();
        let live = table.live.values().map(|entry| entry.broadcast.clone());
        let taken = table.taken.values().map(|taken| taken.broadcast.clone());
        let mut all: Vec<_> = live.chain(taken).collect();
        drop(table);
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// A stream with what the directory knows of it.
    #[must_use]
    pub fn snapshot(&self, name: &StreamName) -> Option<StreamSnapshot> {
        let table = self.shared.table.lock();
        let Some(entry) = table.live.get(name) else {
            let taken = table.taken.get(name)?;
            let (broadcast, since) = (taken.broadcast.clone(), taken.since);
            return Some(StreamSnapshot {
                broadcast,
                publisher: None,
                since,
                warnings: Vec::new(),
            });
        };
        let core = entry.core.lock();
        Some(StreamSnapshot {
            broadcast: entry.broadcast.clone(),
            publisher: core.publisher(),
            since: entry.since,
            warnings: core.warnings(),
        })
    }

    /// Waits up to `timeout` for a broadcast of that name.
    pub async fn wait(&self, name: &StreamName, timeout: Duration) -> Option<Broadcast> {
        let mut changes = self.watch();
        let found = async {
            loop {
                if let Some(broadcast) = self.find(name) {
                    return broadcast;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(timeout, found).await.ok()
    }

    /// Wakes when a stream appears or goes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        let mut changes = self.shared.changes.subscribe();
        changes.mark_changed();
        changes
    }

    /// Beats while the node knows that its streams are its own.
    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.shared.pulse
    }

    /// Waits until the cluster knows what became of the streams.
    pub async fn told(&self) {
        self.shared.ownership.told().await;
    }

    /// Takes no publishers any more and ends those that there are.
    pub fn drain(&self) {
        let mut table = self.shared.table.lock();
        table.draining = true;
        for entry in table.live.values() {
            if let Some(publisher) = &entry.publisher {
                publisher.end(EndReason::Draining);
            }
        }
    }

    /// Ends every broadcast at once, so that players see its end: the last act of a drain.
    pub fn end_all(&self) {
        let mut table = self.shared.table.lock();
        let names: Vec<_> = table.live.keys().cloned().collect();
        self.end(&mut table, &names);
        drop(table);
        self.changed();
    }

    fn end(&self, table: &mut Table, names: &[StreamName]) {
        for name in names {
            if let Some(stop) = table.end(name, self.shared.clock.now()) {
                self.shared.ownership.tell(News::Released(stop));
            }
        }
    }

    /// The cluster has reserved group numbers of a stream up to that one.
    pub fn reserved(&self, name: &StreamName, epoch: Epoch, reserved_to: GroupSeq) {
        if let Some(entry) = self.shared.table.lock().live.get(name) {
            entry.core.lock().reserved(epoch, reserved_to);
        }
    }

    /// Ends broadcasts whose publisher has not come back within the window, and has numbers
    /// reserved for those that run short of them. The node's driver calls it a few times a second.
    pub fn sweep(&self) {
        let now = self.shared.clock.now();
        let window = self.shared.options.reconnect_window.as_micros();
        let mut table = self.shared.table.lock();
        let over = |entry: &Entry| {
            let waited = entry.waiting_since.map_or(0, |since| now.micros_since(since).max(0));
            entry.publisher.is_none() && u128::from(waited.unsigned_abs()) >= window
        };
        let names: Vec<_> = table
            .live
            .iter()
            .filter(|(_, entry)| entry.waiting_since.is_some() && over(entry))
            .map(|(name, _)| name.clone())
            .collect();
        self.end(&mut table, &names);
        let live = table.live.len();
        let wanted = table.wanted_numbers();
        drop(table);
        if !wanted.is_empty() {
            self.shared.ownership.tell(News::Extend(wanted));
        }
        metrics::gauge!("headwater_streams").set(live as f64);
        if !names.is_empty() {
            self.changed();
        }
    }
}

async fn end_when_kicked(kicked: tokio_util::sync::CancellationToken, control: PublisherControl) {
    tokio::select! {
        () = kicked.cancelled() => control.end(EndReason::Kicked),
        () = control.ended.cancelled() => {}
    }
}

fn refused(reason: &'static str) {
    metrics::counter!("headwater_publish_refused_total", "reason" => reason).increment(1);
}

impl Shared {
    /// A publisher's handle was dropped.
    fn leave(shared: &Weak<Self>, name: &StreamName, epoch: Epoch) {
        let Some(shared) = shared.upgrade() else { return };
        let now = shared.clock.now();
        let mut table = shared.table.lock();
        let Some(entry) = table.live.get_mut(name) else { return };
        let current = entry.publisher.as_ref().is_some_and(|control| control.epoch == epoch);
        if let Some(control) = entry.publisher.take_if(|_| current) {
            // Lets the task that watches for a kick go.
            control.ended.cancel();
            entry.core.lock().leave(epoch);
            entry.waiting_since = Some(now);
            shared.ownership.tell(News::Paused(entry.stop(now)));
            tracing::info!(stream = %name, epoch = epoch.0, "the publisher has left");
        }
    }
}

impl Entry {
    fn new(core: StreamCore, now: WallTime) -> Self {
        let broadcast = core.broadcast().clone();
        let core = Arc::new(Mutex::new(core));
        Self { broadcast, core, publisher: None, since: now, waiting_since: None }
    }

    /// The numbers as they are when its publishing stops.
    fn stop(&self, now: WallTime) -> Stop {
        let numbers = self.core.lock().numbers();
        Stop {
            stream: self.broadcast.name().clone(),
            epoch: numbers.epoch,
            next_group: numbers.next_group,
            discontinuity: numbers.discontinuity,
            now: cluster_time(now),
        }
    }
}

impl Table {
    fn get(&self, name: &StreamName) -> Option<Broadcast> {
        let live = self.live.get(name).map(|entry| &entry.broadcast);
        live.or_else(|| self.taken.get(name).map(|taken| &taken.broadcast)).cloned()
    }

    fn end(&mut self, name: &StreamName, now: WallTime) -> Option<Stop> {
        let entry = self.live.remove(name)?;
        if let Some(publisher) = &entry.publisher {
            publisher.end(EndReason::Draining);
        }
        entry.core.lock().end();
        let stop = entry.stop(now);
        tracing::info!(stream = %name, next_group = stop.next_group.0, "the stream has ended");
        Some(stop)
    }

    /// What is to be reserved for streams that have few numbers left.
    fn wanted_numbers(&self) -> Vec<Extension> {
        let short = |(name, entry): (&StreamName, &Entry)| {
            let numbers = entry.core.lock().numbers();
            let left = numbers.reserved_to.0.saturating_sub(numbers.next_group.0);
            (entry.publisher.is_some() && left < RESERVE_LEFT_MIN).then(|| Extension {
                stream: name.clone(),
                epoch: numbers.epoch,
                reserved_to: GroupSeq(numbers.next_group.0.saturating_add(RESERVE)),
                discontinuity: numbers.discontinuity,
            })
        };
        self.live.iter().filter_map(short).collect()
    }
}

#[cfg(test)]
mod tests;
