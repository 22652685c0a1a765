//! A disk that forgets what was not synced, when its node crashes.
//!
//! Not here: damage to what was synced (`store::tests`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Chance;
use crate::id::NodeId;
use crate::raft::{Entry, Vote};
use crate::store::{Done, Journal, MetaKey, Pending, Recovered, Write, unseal_value};

/// A node's disk; it outlives the node's processes.
#[derive(Clone, Debug)]
pub(super) struct SimDisk(Arc<Mutex<Platters>>);

struct Platters {
    durable: Recovered,
    waiting: VecDeque<(Write, Option<Done>)>,
    syncing: bool,
    /// Rises at each crash: what an earlier process still does reaches nothing.
    process: u64,
    /// Longest time of a sync, in microseconds.
    slowest: u64,
    /// The planted bug: a vote is said to be durable, and is written some time later.
    vote_unsynced: bool,
    chance: Chance,
    /// Whose it is, for traces.
    node: NodeId,
}

/// A write in words, for traces.
fn describe(write: &Write) -> String {
    match write {
        Write::Meta(MetaKey::Vote, record) => {
            format!("vote {:?}", unseal_value::<Vote>(MetaKey::Vote.place(), record))
        }
        Write::Meta(key, _) => format!("{key:?}"),
        Write::Append(records) => {
            let entries =
                records.iter().map(|(index, record)| match unseal_value::<Entry>(*index, record) {
                    Ok(entry) => format!("{}", entry),
                    Err(error) => error,
                });
            format!("entries {:?}", entries.collect::<Vec<_>>())
        }
        Write::TruncateFrom(from) => format!("truncation from {from}"),
        Write::PurgeTo(to, _) => format!("purge to {to}"),
    }
}

impl std::fmt::Debug for Platters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platters").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Platters {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Meta(key, record) => {
                self.durable.meta.insert(key, record);
            }
            Write::Append(records) => self.durable.log.extend(records),
            Write::TruncateFrom(from) => {
                self.durable.log.split_off(&from);
            }
            Write::PurgeTo(to, record) => {
                self.durable.log = self.durable.log.split_off(&(to + 1));
                self.durable.meta.insert(MetaKey::Purged, record);
            }
        }
    }

    fn latency(&mut self) -> Duration {
        let slowest = self.slowest;
        Duration::from_micros(self.chance.range(200, slowest))
    }
}

impl SimDisk {
    pub(super) fn new(node: NodeId, chance: Chance, vote_unsynced: bool) -> Self {
        Self(Arc::new(Mutex::new(Platters {
            durable: Recovered::default(),
            waiting: VecDeque::new(),
            syncing: false,
            process: 0,
            slowest: 4_000,
            vote_unsynced,
            chance,
            node,
        })))
    }

    pub(super) fn set_slowest(&self, slowest: Duration) {
        self.0.lock().slowest = u64::try_from(slowest.as_micros()).unwrap_or(u64::MAX).max(201);
    }

    /// The process is gone. Of what waited, some of the first writes may have reached the disk.
    pub(super) fn crash(&self) {
        let dropped = {
            let mut disk = self.0.lock();
            super::trace(|| format!("{}.{} crashes", disk.node, disk.process));
            disk.process += 1;
            disk.syncing = false;
            let waiting = u64::try_from(disk.waiting.len()).unwrap();
            for _ in 0..disk.chance.range(0, waiting + 1) {
                if let Some((write, _)) = disk.waiting.pop_front() {
                    disk.apply(write);
                }
            }
            std::mem::take(&mut disk.waiting)
        };
        drop(dropped);
    }

    /// What a new process finds, and its way to write.
    pub(super) fn open(&self) -> (Arc<dyn Journal>, Recovered) {
        let disk = self.0.lock();
        (Arc::new(Handle { disk: self.clone(), process: disk.process }), disk.durable.clone())
    }

    /// Syncs until nothing waits.
    async fn sync(self, process: u64) {
        loop {
            let (count, latency) = {
                let mut disk = self.0.lock();
                if disk.process != process {
                    return;
                }
                let count = disk.waiting.len();
                if count == 0 {
                    disk.syncing = false;
                    return;
                }
                (count, disk.latency())
            };
            tokio::time::sleep(latency).await;
            let mut finished = Vec::new();
            {
                let mut disk = self.0.lock();
                if disk.process != process {
                    return;
                }
                for _ in 0..count {
                    if let Some((write, done)) = disk.waiting.pop_front() {
                        disk.apply(write);
                        finished.extend(done);
                    }
                }
            }
            for done in finished {
                done(Ok(()));
            }
        }
    }

    /// The bug: the vote is in some cache, and written seconds later.
    async fn write_vote_late(self, process: u64, write: Write) {
        let late = Duration::from_millis(self.0.lock().chance.range(500, 5_000));
        tokio::time::sleep(late).await;
        let mut disk = self.0.lock();
        if disk.process == process {
            disk.apply(write);
        }
    }
}

#[derive(Debug)]
struct Handle {
    disk: SimDisk,
    process: u64,
}

impl Journal for Handle {
    fn submit(&self, write: Write, done: Option<Done>) -> Pending {
        let mut disk = self.disk.0.lock();
        if disk.process != self.process {
            return Box::pin(async { Err(io::Error::other("this process is gone")) });
        }
        super::trace(|| format!("{}.{} writes {}", disk.node, self.process, describe(&write)));
        if disk.vote_unsynced && matches!(write, Write::Meta(MetaKey::Vote, _)) {
            drop(disk);
            tokio::spawn(self.disk.clone().write_vote_late(self.process, write));
            if let Some(done) = done {
                done(Ok(()));
            }
            return Box::pin(async { Ok(()) });
        }
        let sync = done.is_some() && !disk.syncing;
        disk.syncing |= sync;
        disk.waiting.push_back((write, done));
        drop(disk);
        if sync {
            tokio::spawn(self.disk.clone().sync(self.process));
        }
        Box::pin(async { Ok(()) })
    }

    fn save_snapshot(&self, record: Bytes) -> Pending {
        let (disk, process) = (self.disk.clone(), self.process);
        Box::pin(async move {
            let latency = disk.0.lock().latency();
            tokio::time::sleep(latency).await;
            let mut disk = disk.0.lock();
            if disk.process != process {
                return Err(io::Error::other("this process is gone"));
            }
            disk.durable.snapshot = Some(record.to_vec());
            Ok(())
        })
    }
}
