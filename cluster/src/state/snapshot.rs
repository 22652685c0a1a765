//! The state as bytes, and back.
//!
//! Not here: where the bytes lie (`crate::store`).

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_media::id::StreamName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Config, Directory, Floor, Joining, NodeRecord, Shards, State, StreamRecord};
use crate::id::NodeId;

/// Rises when the form changes in a way that older programs cannot read.
const SNAPSHOT_VERSION: u16 = 1;

/// Bytes that are no snapshot.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A newer program wrote it.
    #[error("the snapshot has version {0}, this program reads {SNAPSHOT_VERSION}: upgrade it")]
    Version(u16),
    /// Damaged.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

/// A stream as it is written.
#[derive(Serialize)]
struct EntryRef<'a> {
    #[serde(with = "crate::id::stream_name")]
    name: &'a StreamName,
    record: &'a StreamRecord,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(with = "crate::id::stream_name")]
    name: StreamName,
    record: StreamRecord,
}

#[derive(Serialize)]
struct StoredRef<'a> {
    version: u16,
    applied: u64,
    nodes: &'a BTreeMap<NodeId, NodeRecord>,
    joining: &'a Joining,
    floor: Floor,
    config: &'a Config,
    streams: Vec<EntryRef<'a>>,
}

#[derive(Deserialize)]
struct Stored {
    applied: u64,
    nodes: BTreeMap<NodeId, NodeRecord>,
    joining: Joining,
    floor: Floor,
    config: Config,
    streams: Vec<Entry>,
}

impl Directory {
    /// Writes all of it.
    ///
    /// # Errors
    /// None that is known: the encoder writes into memory.
    pub fn encode(&self) -> Result<Vec<u8>, SnapshotError> {
        let stored = StoredRef {
            version: SNAPSHOT_VERSION,
            applied: self.applied,
            nodes: &self.nodes,
            joining: &self.joining,
            floor: self.floor,
            config: &self.config,
            streams: (self.streams.iter())
                .map(|(name, record)| EntryRef { name, record })
                .collect(),
        };
        postcard::to_stdvec(&stored).map_err(|e| SnapshotError::Damaged(e.to_string()))
    }
}

impl State {
    /// Reads what [`Directory::encode`] wrote.
    ///
    /// # Errors
    /// Damaged bytes, or a newer program's.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |e: postcard::Error| SnapshotError::Damaged(e.to_string());
        let (version, rest) = postcard::take_from_bytes::<u16>(bytes).map_err(damaged)?;
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version(version));
        }
        let (stored, rest) = postcard::take_from_bytes::<Stored>(rest).map_err(damaged)?;
        if !rest.is_empty() {
            return Err(SnapshotError::Damaged(format!("{} bytes too many", rest.len())));
        }
        let mut state = Self::default();
        let mut streams = Shards::default();
        for Entry { name, record } in stored.streams {
            match record.ended {
                Some(index) => {
                    state.ended.insert((index, name.clone()));
                }
                None => state.directory.owned += 1,
            }
            streams.insert(name, record);
        }
        state.directory.nodes = Arc::new(stored.nodes);
        state.directory.joining = Arc::new(stored.joining);
        state.directory.streams = streams;
        state.directory.floor = stored.floor;
        state.directory.config = Arc::new(stored.config);
        state.directory.applied = stored.applied;
        state.check().map_err(SnapshotError::Damaged)?;
        Ok(state)
    }
}
