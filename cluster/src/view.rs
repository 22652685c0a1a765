//! What a node sees of the replicated state: a copy that costs nothing and never changes.
//!
//! It is the local replica's, so a hint: another node may know more already. A stream's epoch is
//! the truth about its owner, and rises.
//!
//! Not here: how it changes (`state`), reads that must be current (`Cluster::linearizable`).

use std::sync::Arc;

use headwater_media::id::{Epoch, StreamName};

use crate::command::{Digest, NodeState};
use crate::id::{Incarnation, NodeId};
use crate::state::{Config, Directory, Floor, JoinToken, NodeRecord, StreamRecord};

/// A copy of the replicated state, as of one index of the log.
#[derive(Clone, Debug, Default)]
pub struct View {
    directory: Directory,
}

impl From<Directory> for View {
    fn from(directory: Directory) -> Self {
        Self { directory }
    }
}

impl View {
    /// Index of the last entry of the log that it has.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.directory.applied
    }

    /// A stream's record; also of an ended one.
    #[must_use]
    pub fn stream(&self, name: &StreamName) -> Option<&Arc<StreamRecord>> {
        self.directory.streams.get(name)
    }

    /// The epoch that a claim of this name has to expect.
    #[must_use]
    pub fn epoch_of(&self, name: &StreamName) -> Epoch {
        self.stream(name).map_or(self.directory.floor.epoch, |record| record.epoch())
    }

    /// All streams whose names are known, in no order that means anything.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamName, &Arc<StreamRecord>)> {
        self.directory.streams.iter()
    }

    /// The streams that somebody holds.
    pub fn owned_streams(&self) -> impl Iterator<Item = (&StreamName, &Arc<StreamRecord>)> {
        self.streams().filter(|(_, record)| record.owner().is_some())
    }

    /// How many streams somebody holds.
    #[must_use]
    pub fn owned_streams_count(&self) -> usize {
        self.directory.owned
    }

    /// Where names that are not known begin.
    #[must_use]
    pub fn floor(&self) -> Floor {
        self.directory.floor
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeRecord> {
        self.directory.nodes.get(&id)
    }

    /// Whether the node was removed from the cluster. One that this replica does not know yet was
    /// not.
    #[must_use]
    pub fn is_removed(&self, id: NodeId) -> bool {
        !self.directory.nodes.contains_key(&id) && self.directory.joining.is_removed(id)
    }

    /// A join token, by its hash.
    #[must_use]
    pub fn join_token(&self, token: &Digest) -> Option<&JoinToken> {
        self.directory.joining.tokens.get(token)
    }

    /// All nodes, by number.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.directory.nodes.values()
    }

    /// Whether this start of the node counts as alive.
    #[must_use]
    pub fn is_alive(&self, id: NodeId, incarnation: Incarnation) -> bool {
        self.node(id).is_some_and(|node| {
            node.info.incarnation == incarnation && node.state() != NodeState::Down
        })
    }

    /// All of it.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Policies, keys and limits.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.directory.config
    }
}
