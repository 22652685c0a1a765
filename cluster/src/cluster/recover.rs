//! Recovery when the majority of the voters is lost for good: one survivor becomes a cluster of
//! one, and the others can never come back.
//!
//! What it costs, and why it asks for force: entries that the lost majority had committed and this
//! node had not yet received are gone (claims and releases of the last moments); and if the others
//! were not dead after all, there would be two clusters that give the same epochs. So the others
//! are removed from the directory in the same breath: this cluster refuses them, and an operator
//! who starts them again sees them fail alone.
//!
//! A driver file: awaits, opens files.
//!
//! Not here: asking the operator whether he is sure (`headwater cluster recover`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openraft::entry::RaftEntry as _;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::{EntryPayload, Membership};

use super::open::{OpenError, open_store};
use crate::command::{Command, Role};
use crate::id::NodeId;
use crate::identity::{Identity, IdentityError};
use crate::raft::{Entry, LogId, PeerAddress, Vote};
use crate::store::{LogReader, Store};

/// Why a data folder could not be recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Its identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A relay has no log.
    #[error("this is a relay's data folder: only an origin has the log to recover from")]
    Relay,
    /// A node that never was in a cluster.
    #[error("this node's log is empty: there is nothing to recover")]
    Empty,
    /// Writing failed.
    #[error("the log could not be written: {0}")]
    Write(String),
}

/// What was recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The survivor.
    pub node: NodeId,
    /// Nodes that were removed. Origins among them must never be started on their old data.
    pub removed: Vec<NodeId>,
    /// Index of the last entry that the survivor had.
    pub last_index: u64,
}

/// Makes the stopped node in `data` a cluster of one. Its next start leads it.
///
/// # Errors
/// The folder is in use, damaged, or a relay's.
pub async fn recover_force(data: &Path) -> Result<Recovered, RecoverError> {
    let identity = Identity::open(data)?;
    if identity.subject().role != Role::Origin {
        return Err(RecoverError::Relay);
    }
    let me = identity.node();
    let mut store = open_store(&identity).await?;
    let write = |error: &dyn std::fmt::Display| RecoverError::Write(error.to_string());
    let state = store.log.get_log_state().await.map_err(|error| write(&error))?;
    let last = state.last_log_id.ok_or(RecoverError::Empty)?;
    let mut reader = store.log.get_log_reader().await;
    let vote = reader.read_vote().await.map_err(|error| write(&error))?;
    // Above every term that this node has heard of, so that nothing contradicts what it promised.
    let term = vote.map_or(0, |vote| vote.leader_id.term).max(last.leader_id.term);
    let vote = Vote::new(term.saturating_add(1), me);
    let first = state.last_purged_log_id.map_or(0, |purged| purged.index.saturating_add(1));
    let others = others(&store, &mut reader, first, me).await?;
    let address = store.view.borrow().node(me).map(|node| node.info.address.clone());
    let address = PeerAddress { address: address.unwrap_or_default() };
    let members = BTreeMap::from([(me, address)]);
    let members =
        Membership::new(vec![BTreeSet::from([me])], members).map_err(|error| write(&error))?;
    let mut payloads = vec![EntryPayload::Membership(members)];
    let removals = others.iter().map(|id| Command::RemoveNode { id: *id });
    payloads.extend(removals.map(EntryPayload::Normal));
    let mut index = last.index;
    let entries: Vec<Entry> = payloads
        .into_iter()
        .map(|payload| {
            index = index.saturating_add(1);
            Entry::new(LogId::new(vote.leader_id, index), payload)
        })
        .collect();
    store.log.save_vote(&vote).await.map_err(|error| write(&error))?;
    store.log.blocking_append(entries).await.map_err(|error| write(&error))?;
    Ok(Recovered { node: me, removed: others, last_index: last.index })
}

/// The origins that must not come back, from the last snapshot and the log behind it: whether an
/// entry was committed does not matter here. Relays may come back: they hold nothing.
async fn others(
    store: &Store,
    reader: &mut LogReader,
    from: u64,
    me: NodeId,
) -> Result<Vec<NodeId>, RecoverError> {
    let mut nodes: BTreeMap<NodeId, Role> = {
        let view = store.view.borrow();
        view.nodes().map(|node| (node.info.id, node.info.role)).collect()
    };
    let entries = reader
        .try_get_log_entries(from..)
        .await
        .map_err(|error| RecoverError::Write(error.to_string()))?;
    for entry in entries {
        match entry.payload {
            EntryPayload::Normal(Command::PutNode(info)) => {
                nodes.insert(info.id, info.role);
            }
            EntryPayload::Normal(Command::RemoveNode { id }) => {
                nodes.remove(&id);
            }
            EntryPayload::Membership(members) => {
                for (id, _) in members.nodes() {
                    nodes.entry(*id).or_insert(Role::Origin);
                }
            }
            _ => {}
        }
    }
    nodes.remove(&me);
    Ok(nodes.into_iter().filter(|(_, role)| *role == Role::Origin).map(|(id, _)| id).collect())
}
