//! The directory of the node's streams: who publishes what, and the numbers that go on.
//!
//! Not here: media (`ingest`), permission (`auth`), sessions' bookkeeping (`sessions`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_media::limits::BusLimits;
use headwater_media::{Broadcast, Epoch, SessionId, StreamName, WallTime};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::ingest::{EndReason, IngestOptions, Numbers, Publisher, PublisherControl, StreamCore};
use crate::sessions::SessionHandle;

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

/// Names of ended streams whose numbers are remembered; the oldest go first.
const REMEMBERED_MAX: usize = 10_000;

/// Why a stream cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
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
    table: Mutex<Table>,
    /// Rises when a stream appears or goes.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    live: HashMap<StreamName, Entry>,
    /// Numbers of streams that ended, and the order in which they did.
    remembered: HashMap<StreamName, Numbers>,
    order: VecDeque<StreamName>,
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

/// What a publisher who asks for a name would find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nobody publishes it.
    Free,
    /// Somebody does, and would be ended.
    GivesWay,
}

impl Streams {
    /// An empty directory.
    #[must_use]
    pub fn new(clock: Clock, options: StreamsOptions) -> Self {
        let table = Mutex::default();
        let changes = watch::channel(0).0;
        Self { shared: Arc::new(Shared { clock, options, table, changes }) }
    }

    /// Gives `session` the right to publish `name`: a new broadcast, or the one that waits.
    ///
    /// # Errors
    /// It is taken, the node is full, or it shuts down.
    pub fn publish(
        &self,
        name: &StreamName,
        session: &SessionHandle,
    ) -> Result<Publisher, PublishError> {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.lock();
        if table.draining {
            return Err(PublishError::Draining);
        }
        let known = table.live.get(name);
        if let Some(current) = known.and_then(|entry| entry.publisher.as_ref()) {
            if !known.is_some_and(|entry| self.gives_way(entry, now)) {
                metrics::counter!("headwater_publish_refused_total", "reason" => "busy")
                    .increment(1);
                return Err(PublishError::Busy(name.clone()));
            }
            current.end(EndReason::Replaced);
        } else if !table.live.contains_key(name) {
            if table.live.len() >= self.shared.options.streams_max {
                metrics::counter!("headwater_publish_refused_total", "reason" => "limit")
                    .increment(1);
                return Err(PublishError::TooManyStreams(table.live.len()));
            }
            let entry = self.new_entry(&mut table, name, now);
            table.live.insert(name.clone(), entry);
        }
        let Some(entry) = table.live.get_mut(name) else {
            return Err(PublishError::TooManyStreams(0));
        };
        let epoch = entry.core.lock().begin(session.id(), now);
        let weak = Arc::downgrade(&self.shared);
        let left = name.clone();
        let on_leave = Box::new(move || Shared::leave(&weak, &left, epoch));
        let (publisher, control) =
            Publisher::new(Arc::clone(&entry.core), session.id(), epoch, on_leave);
        tokio::spawn(end_when_kicked(session.kicked(), control.clone()));
        entry.publisher = Some(control);
        entry.waiting_since = None;
        drop(table);
        self.changed();
        tracing::info!(stream = %name, session = %session.id(), epoch = epoch.0,
            protocol = session.info().protocol, "publishing");
        Ok(publisher)
    }

    /// Whether [`Self::publish`] would be allowed now, and at whose cost: for protocols that prepare
    /// a session first.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn may_publish(&self, name: &StreamName) -> Result<Standing, PublishError> {
        let now = self.shared.clock.now();
        let table = self.shared.table.lock();
        let known = table.live.get(name);
        if table.draining {
            Err(PublishError::Draining)
        } else if known
            .is_some_and(|entry| entry.publisher.is_some() && !self.gives_way(entry, now))
        {
            metrics::counter!("headwater_publish_refused_total", "reason" => "busy").increment(1);
            Err(PublishError::Busy(name.clone()))
        } else if known.is_none() && table.live.len() >= self.shared.options.streams_max {
            metrics::counter!("headwater_publish_refused_total", "reason" => "limit").increment(1);
            Err(PublishError::TooManyStreams(table.live.len()))
        } else if known.is_some_and(|entry| entry.publisher.is_some()) {
            Ok(Standing::GivesWay)
        } else {
            Ok(Standing::Free)
        }
    }

    /// Whether the entry's publisher is to make room for another one.
    fn gives_way(&self, entry: &Entry, now: WallTime) -> bool {
        self.shared.options.policy == Policy::Replace
            || entry.core.lock().silent_for(now) >= self.shared.options.takeover_after
    }

    fn new_entry(&self, table: &mut Table, name: &StreamName, now: WallTime) -> Entry {
        let broadcast = Broadcast::new(name.clone(), self.shared.options.bus);
        let known = table.remembered.remove(name);
        let numbers = known.unwrap_or_else(|| Numbers::beginning_at(now));
        table.order.retain(|other| other != name);
        let core = StreamCore::new(broadcast.clone(), self.shared.options.ingest.clone(), numbers);
        let core = Arc::new(Mutex::new(core));
        Entry { broadcast, core, publisher: None, since: now, waiting_since: None }
    }

    fn changed(&self) {
        self.shared.changes.send_modify(|version| *version += 1);
    }

    /// The broadcast of that name, while it is live or waits for its publisher.
    #[must_use]
    pub fn get(&self, name: &StreamName) -> Option<Broadcast> {
        self.shared.table.lock().live.get(name).map(|entry| entry.broadcast.clone())
    }

    /// All broadcasts, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Broadcast> {
        let table = self.shared.table.lock();
        let mut all: Vec<_> = table.live.values().map(|entry| entry.broadcast.clone()).collect();
        drop(table);
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// A stream with what the directory knows of it.
    #[must_use]
    pub fn snapshot(&self, name: &StreamName) -> Option<StreamSnapshot> {
        let table = self.shared.table.lock();
        let entry = table.live.get(name)?;
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
                if let Some(broadcast) = self.get(name) {
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
        let ended: Vec<_> = names.iter().filter_map(|name| table.end(name)).collect();
        drop(table);
        drop(ended);
        self.changed();
    }

    /// Ends broadcasts whose publisher has not come back within the window. The node's driver
    /// calls it a few times a second.
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
        for name in &names {
            table.end(name);
        }
        let live = table.live.len();
        drop(table);
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
            tracing::info!(stream = %name, epoch = epoch.0, "the publisher has left");
        }
    }
}

impl Table {
    fn end(&mut self, name: &StreamName) -> Option<Numbers> {
        let entry = self.live.remove(name)?;
        if let Some(publisher) = &entry.publisher {
            publisher.end(EndReason::Draining);
        }
        let numbers = entry.core.lock().end();
        tracing::info!(stream = %name, next_group = numbers.next_group.0, "the stream has ended");
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        self.order.push_back(name.clone());
        self.remembered.insert(name.clone(), numbers.clone());
        Some(numbers)
    }
}

#[cfg(test)]
mod tests;
