//! Raft's log and vote, over a journal.
//!
//! Not here: files (`disk`).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::checksum::{seal_value, unseal_value};
use super::{Journal, MetaKey, Recovered, StoreError, Write};
use crate::raft::{Entry, LogId, TypeConfig, Vote};

/// Most bytes of entries in one message to a follower, the first entry apart: keeps messages far
/// below what the transport allows, and heartbeats from waiting behind them.
const REPLICATE_BYTES_MAX: usize = 1024 * 1024;

/// The log.
#[derive(Clone, Debug)]
pub struct LogStore {
    mirror: Arc<Mutex<Mirror>>,
    journal: Arc<dyn Journal>,
}

/// Reads the log, while it is written to.
#[derive(Clone, Debug)]
pub struct LogReader {
    mirror: Arc<Mutex<Mirror>>,
}

#[derive(Debug, Default)]
struct Mirror {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Entries with their lengths in bytes.
    entries: BTreeMap<u64, (Entry, usize)>,
}

impl Mirror {
    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, (entry, _))| entry.log_id()).or(self.purged)
    }

    /// The entries of `range`; none if it is empty or backwards.
    fn range(&self, range: impl RangeBounds<u64>) -> impl Iterator<Item = &(Entry, usize)> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.entries.range(start..end.max(start)).map(|(_, entry)| entry)
    }
}

impl LogStore {
    /// Reads what a journal has kept. Whatever was acknowledged is in it, or it is refused.
    pub(super) fn recover(
        journal: Arc<dyn Journal>,
        recovered: &Recovered,
        file: &Path,
    ) -> Result<Self, StoreError> {
        let damaged = |what: String| StoreError::Corrupted { file: file.to_owned(), what };
        let mut mirror = Mirror::default();
        for (key, record) in &recovered.meta {
            let place = key.place();
            let broken = |what| damaged(format!("the record of {key:?}: {what}"));
            match key {
                MetaKey::Vote => {
                    mirror.vote = Some(unseal_value(place, record).map_err(broken)?);
                }
                MetaKey::Committed => {
                    mirror.committed = unseal_value(place, record).map_err(broken)?;
                }
                MetaKey::Purged => {
                    mirror.purged = Some(unseal_value(place, record).map_err(broken)?);
                }
            }
        }
        let mut next = mirror.purged.map(|purged| purged.index.saturating_add(1));
        for (index, record) in &recovered.log {
            if next.unwrap_or(0) != *index {
                return Err(damaged(format!(
                    "entry {index} follows where {} should",
                    next.unwrap_or(0)
                )));
            }
            let entry: Entry = unseal_value(*index, record)
                .map_err(|what| damaged(format!("entry {index}: {what}")))?;
            if entry.index() != *index {
                return Err(damaged(format!("entry {index} says it is {}", entry.index())));
            }
            mirror.entries.insert(*index, (entry, record.len()));
            next = index.checked_add(1);
        }
        Ok(Self { mirror: Arc::new(Mutex::new(mirror)), journal })
    }

    /// Refuses a log that ends before what is known to be committed.
    pub(super) fn check_reaches(
        &self,
        snapshot: Option<u64>,
        file: &Path,
    ) -> Result<(), StoreError> {
        let mirror = self.mirror.lock();
        let last = mirror.last().map(|last| last.index).max(snapshot);
        let committed = mirror.committed.map(|committed| committed.index);
        let purged = mirror.purged.map(|purged| purged.index);
        if committed > last {
            return Err(StoreError::Corrupted {
                file: file.to_owned(),
                what: format!("it ends at {last:?}, but {committed:?} was committed"),
            });
        }
        if purged > snapshot {
            return Err(StoreError::Corrupted {
                file: file.to_owned(),
                what: format!(
                    "entries up to {purged:?} were purged, but the snapshot beside it \
                     has {snapshot:?}"
                ),
            });
        }
        Ok(())
    }

    /// Submits a write and waits until it is durable.
    async fn write(&self, write: Write) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let done = Box::new(move |result| {
            // Nobody waits any more: the node is being stopped.
            let _ = done.send(result);
        });
        self.journal.submit(write, Some(done)).await?;
        durable.await.map_err(|_| io::Error::other("the log's thread has ended"))?
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.mirror.lock().range(range).map(|(entry, _)| entry.clone()).collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let mirror = self.mirror.lock();
        let mut bytes = 0;
        let mut entries = Vec::new();
        for (entry, len) in mirror.range(start..end) {
            bytes += len;
            if bytes > REPLICATE_BYTES_MAX && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.mirror.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let mirror = self.mirror.lock();
        Ok(LogState { last_purged_log_id: mirror.purged, last_log_id: mirror.last() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { mirror: self.mirror.clone() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let record = seal_value(MetaKey::Vote.place(), vote)?;
        self.write(Write::Meta(MetaKey::Vote, record)).await?;
        self.mirror.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let record = seal_value(MetaKey::Committed.place(), &committed)?;
        self.mirror.lock().committed = committed;
        self.journal.submit(Write::Meta(MetaKey::Committed, record), None).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.mirror.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut records = Vec::new();
        let mut sized = Vec::new();
        for entry in entries {
            let record = seal_value(entry.index(), &entry)?;
            sized.push((entry.index(), (entry, record.len())));
            records.push((sized.last().map_or(0, |(index, _)| *index), record));
        }
        self.mirror.lock().entries.extend(sized);
        let done = Box::new(move |result| callback.io_completed(result));
        self.journal.submit(Write::Append(records), Some(done)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index.saturating_add(1));
        self.mirror.lock().entries.split_off(&from);
        // Durable with whatever is written next: until then nothing was acknowledged on top of it.
        self.journal.submit(Write::TruncateFrom(from), None).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let record = seal_value(MetaKey::Purged.place(), &log_id)?;
        {
            let mut mirror = self.mirror.lock();
            mirror.entries = mirror.entries.split_off(&log_id.index.saturating_add(1));
            mirror.purged = mirror.purged.max(Some(log_id));
        }
        self.journal.submit(Write::PurgeTo(log_id.index, record), None).await
    }
}
