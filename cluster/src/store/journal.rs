//! What the store asks of a disk: writes that become durable in the order in which they came.
//!
//! There are two: `disk` (a file), and the simulation's, which forgets what was not synced.
//!
//! Not here: what the records mean (`log`, `machine`).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;

/// A single record beside the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum MetaKey {
    /// The vote.
    Vote,
    /// How far entries are known to be committed.
    Committed,
    /// The last entry that was purged.
    Purged,
}

impl MetaKey {
    pub(crate) const ALL: [Self; 3] = [Self::Vote, Self::Committed, Self::Purged];

    /// The record's place, for its checksum and in the file. No entry of the log has it.
    pub(crate) fn place(self) -> u64 {
        u64::MAX
            - match self {
                Self::Vote => 1,
                Self::Committed => 2,
                Self::Purged => 3,
            }
    }
}

/// One change. All of it becomes durable, or none.
#[derive(Debug)]
pub(crate) enum Write {
    /// Sets a record. [`MetaKey::Committed`] may wait for the next write that somebody waits for.
    Meta(MetaKey, Vec<u8>),
    /// Sets entries of the log.
    Append(Vec<(u64, Vec<u8>)>),
    /// Takes away the entries from this index on.
    TruncateFrom(u64),
    /// Takes away the entries up to this index, and sets [`MetaKey::Purged`].
    PurgeTo(u64, Vec<u8>),
}

/// Called once, when the write is durable or has failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A future that ends when something is taken or durable.
pub(crate) type Pending = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// What was found at start.
#[derive(Debug, Default, Clone)]
pub(crate) struct Recovered {
    pub(crate) meta: BTreeMap<MetaKey, Vec<u8>>,
    /// By index.
    pub(crate) log: BTreeMap<u64, Vec<u8>>,
    pub(crate) snapshot: Option<Vec<u8>>,
}

/// A disk.
pub(crate) trait Journal: Debug + Send + Sync + 'static {
    /// Takes a write. The future ends when there was room for it in the queue; it is durable when
    /// `done` is called. A write without `done` becomes durable with a later one.
    fn submit(&self, write: Write, done: Option<Done>) -> Pending;

    /// Replaces the snapshot. The future ends when the new one is durable.
    fn save_snapshot(&self, record: Bytes) -> Pending;
}
