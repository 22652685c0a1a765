//! The disk (d): a redb file for log and vote with a thread of its own, and a snapshot's file.
//!
//! The thread takes all writes that wait and makes one transaction of them, with one sync (group
//! commit). A disk that failed once is not used again: after a failed sync nobody knows what it
//! holds.
//!
//! Not here: what the records mean (`log`, `machine`).

#![allow(clippy::disallowed_methods, reason = "a driver: measures how long the disk takes")]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::mpsc;

use super::journal::Pending;
use super::{Done, Journal, LOG_FILE, MetaKey, Recovered, SNAPSHOT_FILE, StoreError, Write};

/// Writes that may wait for the thread. Openraft has few under way at once; whoever finds it full
/// waits.
const QUEUE_MAX: usize = 1_024;
/// Most writes in one transaction: bounds how long the first of them waits for the last.
const BATCH_MAX: usize = 256;
/// redb's cache. The log is small, and what is read is in memory already.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<u64, &[u8]> = TableDefinition::new("meta");

/// The disk's end that the store holds.
#[derive(Debug)]
pub(super) struct Disk {
    queue: mpsc::Sender<(Write, Option<Done>)>,
    folder: PathBuf,
    /// One snapshot is written at a time.
    snapshots: Arc<Mutex<()>>,
}

/// Opens the files in `folder`, reads them, starts the thread.
pub(super) fn open(folder: &Path) -> Result<(Disk, Recovered), StoreError> {
    let file = folder.join(LOG_FILE);
    let failed = |error| StoreError::Io { file: file.clone(), error };
    fs::create_dir_all(folder).map_err(failed)?;
    // redb trusts what it reads, and panics where a page makes no sense.
    let opened = catch_unwind(AssertUnwindSafe(|| open_log(&file)));
    let (database, mut recovered) = opened.unwrap_or_else(|_| {
        let what = "its pages make no sense".to_owned();
        Err(StoreError::Corrupted { file: file.clone(), what })
    })?;
    sync_folder(folder).map_err(failed)?;
    let snapshot = folder.join(SNAPSHOT_FILE);
    recovered.snapshot = match fs::read(&snapshot) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(StoreError::Io { file: snapshot, error }),
    };
    let (queue, writes) = mpsc::channel(QUEUE_MAX);
    thread::Builder::new()
        .name("raft-log".into())
        .spawn(move || Writer { database, failed: None, late: None }.run(writes))
        .map_err(failed)?;
    Ok((Disk { queue, folder: folder.to_owned(), snapshots: Arc::default() }, recovered))
}

fn open_log(file: &Path) -> Result<(Database, Recovered), StoreError> {
    let wrong = |error: redb::Error| match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { file: file.to_owned() },
        // Some I/O errors are redb's way to say that it is no file of its own, or ends too soon.
        redb::Error::Io(error) if !is_damage(&error) => {
            StoreError::Io { file: file.to_owned(), error }
        }
        redb::Error::UpgradeRequired(version) => {
            StoreError::TooNew { file: file.to_owned(), what: format!("file format {version}") }
        }
        other => StoreError::Corrupted { file: file.to_owned(), what: other.to_string() },
    };
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create(file)
        .map_err(|error: DatabaseError| wrong(error.into()))?;
    let recovered = read_log(&database).map_err(wrong)?;
    Ok((database, recovered))
}

fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn read_log(database: &Database) -> Result<Recovered, redb::Error> {
    let mut recovered = Recovered::default();
    let transaction = database.begin_read()?;
    // Both tables are made with the first write.
    let meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(recovered),
        opened => opened?,
    };
    for key in MetaKey::ALL {
        if let Some(record) = meta.get(key.place())? {
            recovered.meta.insert(key, record.value().to_vec());
        }
    }
    for entry in transaction.open_table(LOG)?.iter()? {
        let (index, record) = entry?;
        recovered.log.insert(index.value(), record.value().to_vec());
    }
    Ok(recovered)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The new snapshot takes the old one's place in one step.
fn write_snapshot(folder: &Path, record: &[u8]) -> io::Result<()> {
    let new = folder.join("snapshot.new");
    let mut file = File::create(&new)?;
    file.write_all(record)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(SNAPSHOT_FILE))?;
    sync_folder(folder)
}

impl Journal for Disk {
    fn submit(&self, write: Write, done: Option<Done>) -> Pending {
        let queue = self.queue.clone();
        Box::pin(async move {
            queue.send((write, done)).await.map_err(|_| io::Error::other("the log is closed"))
        })
    }

    fn save_snapshot(&self, record: Bytes) -> Pending {
        let (folder, one) = (self.folder.clone(), self.snapshots.clone());
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || {
                let _one = one.lock();
                write_snapshot(&folder, &record)
            });
            written.await.map_err(io::Error::other)?
        })
    }
}

/// The thread.
struct Writer {
    database: Database,
    /// Why the disk is no longer used.
    failed: Option<String>,
    /// The newest record of what is committed, if it is not in the file yet.
    late: Option<Vec<u8>>,
}

impl Writer {
    fn run(mut self, mut writes: mpsc::Receiver<(Write, Option<Done>)>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while let Some(first) = writes.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = writes.try_recv()
            {
                batch.push(next);
            }
            self.write(&mut batch);
        }
        // The node stops: what waited for another write is written now.
        if self.late.is_some() {
            self.commit(&[]);
        }
    }

    fn write(&mut self, batch: &mut Vec<(Write, Option<Done>)>) {
        // That something is committed is worth no sync of its own.
        batch.retain_mut(|(write, done)| match write {
            Write::Meta(MetaKey::Committed, record) if done.is_none() => {
                self.late = Some(std::mem::take(record));
                false
            }
            _ => true,
        });
        if batch.is_empty() {
            return;
        }
        if self.failed.is_none() {
            self.commit(batch);
        }
        for (_, done) in batch.drain(..) {
            let result = match &self.failed {
                None => Ok(()),
                Some(why) => Err(io::Error::other(why.clone())),
            };
            if let Some(done) = done {
                done(result);
            }
        }
    }

    fn commit(&mut self, batch: &[(Write, Option<Done>)]) {
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| self.transact(batch)));
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the file's pages make no sense".to_owned()),
        };
        if let Some(why) = failure {
            tracing::error!(error = why, "the cluster's log cannot be written; this node stops");
            metrics::counter!("headwater_cluster_log_failures_total").increment(1);
            self.failed = Some(format!("the log cannot be written: {why}"));
            return;
        }
        self.late = None;
        metrics::counter!("headwater_cluster_log_syncs_total").increment(1);
        metrics::counter!("headwater_cluster_log_writes_total")
            .increment(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        metrics::histogram!("headwater_cluster_log_sync_seconds")
            .record(start.elapsed().as_secs_f64());
    }

    fn transact(&self, batch: &[(Write, Option<Done>)]) -> Result<(), redb::Error> {
        // Durable when `commit` returns: redb's default.
        let transaction = self.database.begin_write()?;
        {
            let mut log = transaction.open_table(LOG)?;
            let mut meta = transaction.open_table(META)?;
            if let Some(record) = &self.late {
                meta.insert(MetaKey::Committed.place(), record.as_slice())?;
            }
            for (write, _) in batch {
                match write {
                    Write::Meta(key, record) => {
                        meta.insert(key.place(), record.as_slice())?;
                    }
                    Write::Append(records) => {
                        for (index, record) in records {
                            log.insert(index, record.as_slice())?;
                        }
                    }
                    Write::TruncateFrom(from) => log.retain_in::<u64, _>(from.., |_, _| false)?,
                    Write::PurgeTo(to, record) => {
                        log.retain_in::<u64, _>(..=to, |_, _| false)?;
                        meta.insert(MetaKey::Purged.place(), record.as_slice())?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
