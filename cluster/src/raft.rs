//! The types that openraft is told to work with, and short names for what is made of them.
//!
//! Not here: what a command does (`state`), where the log lies (`store`), how requests travel
//! (`transport`).

// The macro names openraft's own re-export of the tokio runtime, which it calls deprecated.
#![allow(deprecated)]

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{Answer, Command};
use crate::id::NodeId;

/// Where a voter or learner is reached; replicated with the membership.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerAddress {
    /// `host:port` of its cluster endpoint. Empty for a cluster of one that has no endpoint.
    pub address: String,
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.address)
    }
}

openraft::declare_raft_types!(
    /// openraft's types, filled in with ours. Leaders are told apart by term and node, so that two
    /// candidates of one term do not split the vote for ever.
    pub TypeConfig:
        D = Command,
        R = Answer,
        NodeId = NodeId,
        Node = PeerAddress,
);

/// The settings on which safety rests; all others are built on these (`..safe_config()`).
#[must_use]
pub fn safe_config() -> openraft::Config {
    openraft::Config {
        // A leader sends entries before its own disk has them. One that crashes then, and comes
        // back as the leader of the same term (openraft's default), would give their numbers to
        // other entries, and replicas would differ for ever. The simulation found it.
        enable_leader_restore: Some(false),
        // A node that was cut off asks before it disturbs those that are not.
        enable_pre_vote: Some(true),
        ..openraft::Config::default()
    }
}

/// A snapshot on its way: the state as `state::State::encode` wrote it.
pub type SnapshotData = Bytes;

/// Position of an entry in the log.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote, or the leadership that came of it.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// An entry of the log.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// What an entry carries.
pub type Payload = openraft::alias::EntryPayloadOf<TypeConfig>;
/// Voters and learners, as the log or a snapshot has them.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot with its bytes.
pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;
