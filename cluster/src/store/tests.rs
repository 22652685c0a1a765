//! The store against openraft's own suite, and against damage.

use std::fs;
use std::path::{Path, PathBuf};

use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt as _;
use openraft::vote::RaftLeaderId as _;

use super::*;
use crate::command::Command;
use crate::id::NodeId;
use crate::raft::{Entry, LogId, Payload, TypeConfig, Vote};
use crate::test_folder::TestFolder;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TestFolder> for Builder {
    async fn build(
        &self,
    ) -> Result<(TestFolder, LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let folder = TestFolder::new();
        let store = Store::open(folder.path()).unwrap();
        Ok((folder, store.log, store.machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_own_suite_finds_nothing() {
    Suite::test_all(Builder).await.unwrap();
}

fn log_id(term: u64, index: u64) -> LogId {
    let leader = openraft::impls::leader_id_adv::LeaderId::new(term, NodeId(1)).to_committed();
    LogId::new(leader, index)
}

fn entry(term: u64, index: u64) -> Entry {
    let command = Command::RemoveNode { id: NodeId(index) };
    Entry::new(log_id(term, index), Payload::Normal(command))
}

async fn append(store: &mut Store, entries: Vec<Entry>) {
    let (done, durable) = TypeConfig::oneshot();
    store.log.append(entries, IOFlushed::signal(done)).await.unwrap();
    durable.await.unwrap().unwrap();
}

/// Writes votes and entries and stops, as a process does that ends well.
async fn filled(folder: &Path) {
    let mut store = Store::open(folder).unwrap();
    store.log.save_vote(&Vote::new(3, NodeId(1))).await.unwrap();
    append(&mut store, (0..50).map(|index| entry(3, index)).collect()).await;
    store.log.save_committed(Some(log_id(3, 40))).await.unwrap();
    store.log.truncate_after(Some(log_id(3, 44))).await.unwrap();
    append(&mut store, vec![entry(4, 45)]).await;
    drop(store);
    // The thread ends by itself; the file is free when it has.
    while matches!(Store::open(folder), Err(StoreError::InUse { .. })) {
        tokio::task::yield_now().await;
    }
}

async fn reopened(folder: &Path) -> Result<Store, StoreError> {
    loop {
        match Store::open(folder) {
            Err(StoreError::InUse { .. }) => tokio::task::yield_now().await,
            other => return other,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_was_written_is_there_after_a_restart() {
    let folder = TestFolder::new();
    filled(folder.path()).await;
    let mut store = reopened(folder.path()).await.unwrap();
    let mut reader = store.log.get_log_reader().await;
    assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new(3, NodeId(1))));
    assert_eq!(store.log.read_committed().await.unwrap(), Some(log_id(3, 40)));
    let entries = reader.try_get_log_entries(..).await.unwrap();
    let expected: Vec<_> = (0..45).map(|index| entry(3, index)).chain([entry(4, 45)]).collect();
    assert_eq!(entries, expected);
    assert_eq!(store.log.get_log_state().await.unwrap().last_log_id, Some(log_id(4, 45)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_opened_once() {
    let folder = TestFolder::new();
    let _store = Store::open(folder.path()).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

/// Damages a closed file by turning over every byte of a run of them.
fn damage(file: &PathBuf, at: usize, len: usize) {
    let mut bytes = fs::read(file).unwrap();
    for byte in bytes.iter_mut().skip(at).take(len) {
        *byte = !*byte;
    }
    fs::write(file, bytes).unwrap();
}

/// Where in the file the newest copy of an entry lies.
fn place_of(file: &PathBuf, record: &[u8]) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.windows(record.len()).rposition(|window| window == record).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_tail_is_refused_and_the_message_says_what_to_do() {
    let folder = TestFolder::new();
    filled(folder.path()).await;
    let file = folder.path().join(LOG_FILE);
    let tail = checksum::seal_value(45, &entry(4, 45)).unwrap();
    damage(&file, place_of(&file, &tail), tail.len());
    let error = reopened(folder.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(LOG_FILE) && text.contains("join-token"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_anywhere_is_refused_or_does_no_harm() {
    let folder = TestFolder::new();
    filled(folder.path()).await;
    let file = folder.path().join(LOG_FILE);
    let whole = fs::read(&file).unwrap();
    let expected: Vec<_> = (0..45).map(|index| entry(3, index)).chain([entry(4, 45)]).collect();
    let mut refused = 0;
    // Pages are 4 KiB; the file is mostly free ones.
    for at in (0..whole.len()).step_by(4096 * 3) {
        damage(&file, at + 64, 512);
        match reopened(folder.path()).await {
            Err(_) => refused += 1,
            Ok(mut store) => {
                let mut reader = store.log.get_log_reader().await;
                assert_eq!(reader.try_get_log_entries(..).await.unwrap(), expected, "at {at}");
                assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new(3, NodeId(1))));
                drop((store, reader));
                drop(reopened(folder.path()).await);
            }
        }
        fs::write(&file, &whole).unwrap();
    }
    assert!(refused < whole.len() / 4096, "an undamaged file opens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_file_and_a_foreign_file_are_refused() {
    let folder = TestFolder::new();
    filled(folder.path()).await;
    let file = folder.path().join(LOG_FILE);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let error = reopened(folder.path()).await.unwrap_err();
    assert!(error.to_string().contains(LOG_FILE), "{error}");
    fs::write(&file, b"GIF89a, or whatever else").unwrap();
    let error = reopened(folder.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_its_snapshot_and_a_damaged_snapshot_are_refused() {
    use openraft::storage::{RaftSnapshotBuilder as _, RaftStateMachine as _};
    let folder = TestFolder::new();
    let mut store = Store::open(folder.path()).unwrap();
    append(&mut store, (0..10).map(|index| entry(3, index)).collect()).await;
    let entries: Vec<_> = (0..8).map(|index| Ok((entry(3, index), None))).collect();
    store.machine.apply(futures_util::stream::iter(entries)).await.unwrap();
    assert_eq!(store.view.borrow().index(), 7);
    store.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    store.log.purge(log_id(3, 5)).await.unwrap();
    append(&mut store, vec![entry(3, 10)]).await;
    drop(store);
    let mut store = reopened(folder.path()).await.unwrap();
    assert_eq!(store.view.borrow().index(), 7);
    assert_eq!(store.log.get_log_state().await.unwrap().last_purged_log_id, Some(log_id(3, 5)));
    drop(store);
    let file = folder.path().join(SNAPSHOT_FILE);
    let whole = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let error = reopened(folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("purged"), "{error}");
    for at in (0..whole.len()).step_by(11) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, damaged).unwrap();
        let error = reopened(folder.path()).await.unwrap_err();
        assert!(error.to_string().contains(SNAPSHOT_FILE), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_share_a_sync() {
    let folder = TestFolder::new();
    let mut store = Store::open(folder.path()).unwrap();
    let mut waiting = Vec::new();
    for index in 0..400 {
        let (done, durable) = TypeConfig::oneshot();
        store.log.append([entry(1, index)], IOFlushed::signal(done)).await.unwrap();
        waiting.push(durable);
    }
    for durable in waiting {
        durable.await.unwrap().unwrap();
    }
    drop(store);
    let mut store = reopened(folder.path()).await.unwrap();
    let entries = store.log.get_log_reader().await.try_get_log_entries(..).await.unwrap();
    assert_eq!(entries.len(), 400);
}
