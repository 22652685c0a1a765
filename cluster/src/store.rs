//! Where Raft's log, vote and snapshots lie, and the state machine that openraft drives.
//!
//! What is durable, and when:
//! - A vote, before it is given; entries, before they count as stored. Both go through one queue to
//!   one thread, which writes all that waits in one transaction and syncs once (`disk`).
//! - What was purged and truncated, with the next of these.
//! - How far entries are known to be committed, with the next of these or at the end: after a
//!   crash a replica may for a moment show an older state than before, until there is a leader.
//! - A snapshot, before the entries that it covers are purged; in a file of its own, so that a
//!   large one does not hold up votes.
//!
//! A copy of the log's entries is kept in memory: openraft reads what was appended at once, and
//! the log is short, because snapshots cut it.
//!
//! Not here: what a command does (`state`).

mod checksum;
mod disk;
mod journal;
mod log;
mod machine;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;

#[cfg(test)]
pub(crate) use self::checksum::unseal_value;
pub(crate) use self::checksum::{seal, unseal};
#[cfg(test)]
pub(crate) use self::journal::Pending;
pub(crate) use self::journal::{Done, Journal, MetaKey, Recovered, Write};
pub use self::log::{LogReader, LogStore};
pub use self::machine::{SnapshotBuilder, StateMachine};
use crate::feed::log::FeedLog;
use crate::view::View;

/// Name of the log's file within the store's folder.
pub const LOG_FILE: &str = "raft.redb";
/// Name of the snapshot's file.
pub const SNAPSHOT_FILE: &str = "snapshot";

/// Why the store did not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is damaged, or ends before what it once held.
    #[error(
        "{}: damaged ({what}). A node that has forgotten what it promised must not vote: move the \
         data folder away and join the cluster anew with a token of `headwater cluster join-token`",
        file.display()
    )]
    Corrupted {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another process has it open.
    #[error("{}: another process uses this data folder", file.display())]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{}: written by a newer version ({what}): upgrade this node", file.display())]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Which version.
        what: String,
    },
    /// The disk failed.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// How.
        error: std::io::Error,
    },
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    /// For `openraft::Raft::new`.
    pub log: LogStore,
    /// For `openraft::Raft::new`.
    pub machine: StateMachine,
    /// The state as this replica has it; changes with each batch of entries that is applied.
    pub view: watch::Receiver<Arc<View>>,
    /// What is kept for relays.
    pub(crate) feed: Arc<FeedLog>,
}

impl Store {
    /// Opens the store in `folder`, or makes a new one there. Reads all of it: call it where
    /// blocking is allowed.
    ///
    /// # Errors
    /// A damaged file, a file in use, a failing disk; each names the file.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let (journal, recovered) = disk::open(folder)?;
        Self::recover(Arc::new(journal), recovered, folder)
    }

    /// Makes the store of what a journal has kept.
    pub(crate) fn recover(
        journal: Arc<dyn Journal>,
        recovered: Recovered,
        folder: &Path,
    ) -> Result<Self, StoreError> {
        let log_file = folder.join(LOG_FILE);
        let snapshot_file = folder.join(SNAPSHOT_FILE);
        let machine =
            StateMachine::recover(journal.clone(), recovered.snapshot.as_deref(), &snapshot_file)?;
        let log = LogStore::recover(journal, &recovered, &log_file)?;
        log.check_reaches(machine.applied_index(), &log_file)?;
        let (view, feed) = (machine.view(), machine.feed());
        Ok(Self { log, machine, view, feed })
    }
}
