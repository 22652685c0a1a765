//! The state machine as openraft drives it: applies entries, answers, makes and takes snapshots.
//!
//! Not here: what a command does (`state`), files (`disk`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use openraft::entry::{EntryPayload, RaftEntry as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::checksum::{seal, unseal};
use super::{Journal, StoreError};
use crate::command::Answer;
use crate::feed::log::FeedLog;
use crate::raft::{LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig};
use crate::state::{Directory, SnapshotError, State};
use crate::view::View;

/// Place of the snapshot's record, for its checksum.
const SNAPSHOT_PLACE: u64 = u64::MAX;

/// The state machine.
#[derive(Debug)]
pub struct StateMachine {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// The newest snapshot; builders set it.
    snapshot: Arc<Mutex<Option<Snapshot>>>,
    journal: Arc<dyn Journal>,
    view: watch::Sender<Arc<View>>,
    feed: Arc<FeedLog>,
}

/// Writes a snapshot of the state as it was when the builder was made.
#[derive(Debug)]
pub struct SnapshotBuilder {
    directory: Directory,
    meta: SnapshotMeta,
    slot: Arc<Mutex<Option<Snapshot>>>,
    journal: Arc<dyn Journal>,
}

/// The record of a snapshot: what it covers, then its bytes.
fn record_of(meta: &SnapshotMeta, data: &[u8]) -> io::Result<Bytes> {
    let mut bytes = postcard::to_stdvec(meta).map_err(io::Error::other)?;
    bytes.extend_from_slice(data);
    Ok(seal(SNAPSHOT_PLACE, &bytes).into())
}

impl StateMachine {
    /// Starts from the snapshot that a journal has kept.
    pub(super) fn recover(
        journal: Arc<dyn Journal>,
        record: Option<&[u8]>,
        file: &Path,
    ) -> Result<Self, StoreError> {
        let damaged = |what: String| StoreError::Corrupted { file: file.to_owned(), what };
        let mut machine = Self {
            state: State::default(),
            applied: None,
            membership: StoredMembership::default(),
            snapshot: Arc::default(),
            journal,
            view: watch::Sender::default(),
            feed: Arc::default(),
        };
        if let Some(record) = record {
            let bytes = unseal(SNAPSHOT_PLACE, record)
                .ok_or_else(|| damaged("its checksum is wrong".into()))?;
            let (meta, data) = postcard::take_from_bytes::<SnapshotMeta>(bytes)
                .map_err(|e| damaged(e.to_string()))?;
            machine.state = State::decode(data).map_err(|error| match error {
                SnapshotError::Version(version) => StoreError::TooNew {
                    file: file.to_owned(),
                    what: format!("snapshot version {version}"),
                },
                SnapshotError::Damaged(what) => damaged(what),
            })?;
            machine.take(meta, Bytes::copy_from_slice(data));
        }
        Ok(machine)
    }

    /// Index of the last entry that was applied.
    pub(super) fn applied_index(&self) -> Option<u64> {
        self.applied.map(|applied| applied.index)
    }

    /// The state as readers see it.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// What is kept for relays.
    pub(crate) fn feed(&self) -> Arc<FeedLog> {
        self.feed.clone()
    }

    fn publish(&self) {
        let view = Arc::new(View::from(self.state.directory()));
        // First: what readers have seen, relays can be sent.
        if let Some(applied) = self.applied {
            self.feed.publish(applied.into(), view.clone());
        }
        self.view.send_replace(view);
    }

    /// Notes that the state is now that of a snapshot.
    fn take(&mut self, meta: SnapshotMeta, snapshot: SnapshotData) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock() = Some(Snapshot { meta, snapshot });
        self.feed.begin(self.applied.map(Into::into));
        self.publish();
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut answers = Vec::new();
        let mut result = Ok(());
        while let Some(next) = entries.next().await {
            let (entry, responder) = match next {
                Ok(next) => next,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            let log_id = entry.log_id();
            let answer = match entry.payload {
                EntryPayload::Normal(command) => {
                    self.feed.push(log_id.into(), Some(&command));
                    self.state.apply(log_id.index, &command)
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(log_id), membership);
                    self.feed.push(log_id.into(), None);
                    self.state.skip(log_id.index);
                    Answer::Nothing
                }
                EntryPayload::Blank => {
                    self.feed.push(log_id.into(), None);
                    self.state.skip(log_id.index);
                    Answer::Nothing
                }
            };
            self.applied = Some(log_id);
            answers.extend(responder.map(|responder| (responder, answer)));
        }
        // Who gets an answer finds it in the view. And whoever waits is answered, also when the
        // next entry could not be read.
        self.publish();
        for (responder, answer) in answers {
            responder.send(answer);
        }
        result
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            directory: self.state.directory(),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            slot: self.snapshot.clone(),
            journal: self.journal.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let invalid = |e: SnapshotError| io::Error::new(io::ErrorKind::InvalidData, e);
        let state = State::decode(&snapshot).map_err(invalid)?;
        self.journal.save_snapshot(record_of(meta, &snapshot)?).await?;
        self.state = state;
        self.take(meta.clone(), snapshot);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshot.lock().clone())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // A full table takes tens of milliseconds to write down: not on a thread that also has
        // heartbeats to send.
        let (directory, meta) = (self.directory.clone(), self.meta.clone());
        let made = tokio::task::spawn_blocking(move || {
            let data = directory.encode().map_err(io::Error::other)?;
            Ok::<_, io::Error>((record_of(&meta, &data)?, Bytes::from(data)))
        });
        let (record, data) = made.await.map_err(io::Error::other)??;
        let snapshot = Snapshot { meta: self.meta.clone(), snapshot: data };
        let newer = |slot: &Option<Snapshot>| {
            slot.as_ref().is_some_and(|slot| slot.meta.last_log_id > snapshot.meta.last_log_id)
        };
        if !newer(&self.slot.lock()) {
            self.journal.save_snapshot(record).await?;
            let mut slot = self.slot.lock();
            if !newer(&slot) {
                *slot = Some(snapshot.clone());
            }
        }
        Ok(snapshot)
    }
}
