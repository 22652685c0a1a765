//! Everything that is replicated: the commands that go through the log, and their answers.
//!
//! Commands are written with postcard, which knows variants and fields by their order alone. So
//! variants are only ever added at the end, and a variant's fields never change: a new shape is a
//! new variant, and [`COMMAND_VERSION`] rises.
//!
//! Not here: what a command does (`state`), when one is proposed (`claim`, `detect`, `cluster`).

use std::fmt;

use bytes::Bytes;
use headwater_media::id::{DiscontinuitySeq, Epoch, GroupSeq, SessionId, StreamName, TrackName};
use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, NodeId, NodeName, Region, WallTime};

/// Rises with each variant that is added to [`Command`]. Nodes tell each other theirs; a leader
/// proposes nothing that a voter would not understand.
pub const COMMAND_VERSION: u16 = 1;

/// What a node does in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// May vote and may take publishers.
    Origin,
    /// Neither votes nor ingests.
    Relay,
}

/// Whether a node takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeState {
    /// It answers.
    Up,
    /// It was found dead: its streams may be claimed by others.
    Down,
    /// It answers, but takes no new streams and is about to leave.
    Draining,
}

/// What a node says about itself when it starts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its number.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// What it does.
    pub role: Role,
    /// Where it stands.
    pub region: Region,
    /// `host:port` of its cluster endpoint.
    pub address: String,
    /// Base URLs under which viewers reach it.
    pub http: Vec<String>,
    /// How much it can send, in Mbit/s: its weight where nodes are chosen.
    pub capacity_mbps: u32,
    /// Which start of its process this is.
    pub incarnation: Incarnation,
}

/// Where the group that was in flight ends for good, on one track, when an owner is replaced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// The track.
    #[serde(with = "crate::id::track_name")]
    pub track: TrackName,
    /// Its last group of the epoch before. Higher groups of that epoch are void.
    #[serde(with = "crate::id::group_seq")]
    pub group: GroupSeq,
    /// How many frames of that group count. More were never shown; who has fewer fetches them.
    pub frames: u32,
}

/// A publisher's session asks for a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The stream.
    #[serde(with = "crate::id::stream_name")]
    pub stream: StreamName,
    /// The node that has the publisher.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
    /// The publisher's session. The same session asking again gets its first answer.
    #[serde(with = "crate::id::session_id")]
    pub session: SessionId,
    /// The stream's epoch as the claimer knows it (`View::epoch_of`). Another one stands: refused,
    /// and the answer tells it.
    #[serde(with = "crate::id::epoch")]
    pub expects: Epoch,
    /// Take the stream also from a publisher that is live.
    pub takeover: bool,
    /// The owner of epoch `expects` was asked, has fenced itself, and `first_group` is its exact
    /// next number. Only then may a claim begin below what was reserved.
    pub owner_answered: bool,
    /// The number to begin at, at least.
    #[serde(with = "crate::id::group_seq")]
    pub first_group: GroupSeq,
    /// The discontinuity number to begin at, at least.
    #[serde(with = "crate::id::discontinuity_seq")]
    pub discontinuity: DiscontinuitySeq,
    /// Where the tracks of the epoch before end.
    pub cut: Vec<Cut>,
    /// The proposer's clock.
    pub now: WallTime,
}

/// An owner's wish for more group numbers of one stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extension {
    /// The stream.
    #[serde(with = "crate::id::stream_name")]
    pub stream: StreamName,
    /// The epoch in which it is owned.
    #[serde(with = "crate::id::epoch")]
    pub epoch: Epoch,
    /// The first number that is not reserved.
    #[serde(with = "crate::id::group_seq")]
    pub reserved_to: GroupSeq,
    /// The discontinuity number in use.
    #[serde(with = "crate::id::discontinuity_seq")]
    pub discontinuity: DiscontinuitySeq,
}

/// An owner's last word on what it published: exact numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stop {
    /// The stream.
    #[serde(with = "crate::id::stream_name")]
    pub stream: StreamName,
    /// The epoch in which it was owned.
    #[serde(with = "crate::id::epoch")]
    pub epoch: Epoch,
    /// The number that the next group would have had.
    #[serde(with = "crate::id::group_seq")]
    pub next_group: GroupSeq,
    /// The last discontinuity number used.
    #[serde(with = "crate::id::discontinuity_seq")]
    pub discontinuity: DiscontinuitySeq,
    /// The proposer's clock.
    pub now: WallTime,
}

/// SHA-256 of a join token, or of a joining node's public key.
pub type Digest = [u8; 32];

/// What goes through the log. Each is idempotent: repeated at once it answers as the first time
/// and changes nothing; repeated late, a command about a stream finds its epoch gone and is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// A node starts, or tells other addresses.
    PutNode(NodeInfo),
    /// A node is found dead or alive, or begins to drain.
    SetNodeState {
        /// The node.
        id: NodeId,
        /// The start that is meant. Of another one: refused.
        incarnation: Incarnation,
        /// What it is now.
        state: NodeState,
    },
    /// A node leaves for good. Its number never returns.
    RemoveNode {
        /// The node.
        id: NodeId,
    },
    /// A publisher's session asks for a stream.
    Claim(Claim),
    /// An owner reserves group numbers ahead of use.
    Extend {
        /// The owner.
        node: NodeId,
        /// Its start.
        incarnation: Incarnation,
        /// What it asks for.
        streams: Vec<Extension>,
    },
    /// The publisher left; the owner keeps the broadcast in case it returns.
    Pause(Stop),
    /// The stream ended.
    Release(Stop),
    /// Sets what holds for streams whose name matches.
    PutPolicy {
        /// The names.
        glob: String,
        /// What holds, opaque here.
        policy: Bytes,
        /// The configuration's version that the proposer saw; another one stands: refused. `None`:
        /// whatever stands.
        expects: Option<u64>,
    },
    /// Takes such a policy away.
    DeletePolicy {
        /// The names.
        glob: String,
        /// As in `PutPolicy`.
        expects: Option<u64>,
    },
    /// Adds a key that signs viewers' and publishers' tokens.
    PutTokenKey {
        /// Its id.
        id: String,
        /// The key, opaque here.
        key: Bytes,
        /// As in `PutPolicy`.
        expects: Option<u64>,
    },
    /// Takes a key away.
    DeleteTokenKey {
        /// Its id.
        id: String,
        /// As in `PutPolicy`.
        expects: Option<u64>,
    },
    /// Sets the cluster's own limits.
    PutSettings {
        /// What holds from now on.
        settings: Settings,
        /// As in `PutPolicy`.
        expects: Option<u64>,
    },
    /// A join token was made.
    PutJoinToken {
        /// Its hash; the token itself is nowhere kept.
        token: Digest,
        /// When it ends.
        expires: WallTime,
        /// The proposer's clock.
        now: WallTime,
    },
    /// A node wants to join with a token. The answer is its number.
    RedeemJoinToken {
        /// The token's hash.
        token: Digest,
        /// Hash of the joining node's public key: the same node asking again gets its number
        /// again, another one is refused.
        joiner: Digest,
        /// The proposer's clock.
        now: WallTime,
    },
}

/// Limits that the whole cluster shares. They are replicated, because replicas with other limits
/// would come to other states.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Most streams that may have an owner at once.
    pub streams_max: u32,
    /// Most names whose numbers are kept, ended ones included. Past it the oldest ended is
    /// dropped, and unknown names begin above its numbers.
    pub names_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { streams_max: 20_000, names_max: 100_000 }
    }
}

/// What a claim that was granted is granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The epoch: one more than the last.
    #[serde(with = "crate::id::epoch")]
    pub epoch: Epoch,
    /// The number of the first group.
    #[serde(with = "crate::id::group_seq")]
    pub first_group: GroupSeq,
    /// The discontinuity number of the first group.
    #[serde(with = "crate::id::discontinuity_seq")]
    pub discontinuity: DiscontinuitySeq,
    /// The first number that may not be used before it is reserved.
    #[serde(with = "crate::id::group_seq")]
    pub reserved_to: GroupSeq,
}

/// A stream that was asked about in an epoch that is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StaleStream {
    /// The stream.
    #[serde(with = "crate::id::stream_name")]
    pub stream: StreamName,
    /// The epoch that stands (the same as asked, if the stream was ended in it).
    #[serde(with = "crate::id::epoch")]
    pub current: Epoch,
}

/// Why a command changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Somebody publishes the stream.
    #[error("node {owner} publishes it")]
    Busy {
        /// Who.
        owner: NodeId,
    },
    /// The stream's epoch is another one.
    #[error("the stream's epoch is {current}")]
    Stale {
        /// The epoch that stands.
        #[serde(with = "crate::id::epoch")]
        current: Epoch,
    },
    /// The cluster has no such node (or removed it).
    #[error("the cluster has no such node")]
    UnknownNode,
    /// The node is held for dead.
    #[error("the node is held for dead")]
    NodeDown,
    /// The node is about to leave.
    #[error("the node is draining")]
    NodeDraining,
    /// Only origins take publishers.
    #[error("the node is no origin")]
    NotAnOrigin,
    /// The command speaks of another start of the node's process.
    #[error("the node's incarnation is {current}")]
    OtherIncarnation {
        /// The one that stands.
        current: Incarnation,
    },
    /// As many streams as may be.
    #[error("the cluster has as many streams as it may have ({max})")]
    TooManyStreams {
        /// The limit.
        max: u32,
    },
    /// A table is full.
    #[error("the cluster has as many {what} as it may have ({max})")]
    TooMany {
        /// Of what.
        what: Table,
        /// The limit.
        max: u32,
    },
    /// Something in the command is longer or higher than may be.
    #[error("{what} is over its limit")]
    OverLimit {
        /// What.
        what: Field,
    },
    /// Somebody else changed the configuration in between.
    #[error("the configuration's version is {current}")]
    OtherVersion {
        /// The version that stands.
        current: u64,
    },
    /// No such join token; it may have ended long ago.
    #[error("no such join token")]
    TokenUnknown,
    /// The join token has ended.
    #[error("the join token has expired")]
    TokenExpired,
    /// Another node joined with it.
    #[error("the join token was used")]
    TokenUsed,
}

/// A table of the state that can be full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Table {
    /// Nodes.
    Nodes,
    /// Policies.
    Policies,
    /// Keys of tokens.
    TokenKeys,
    /// Join tokens.
    JoinTokens,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nodes => "nodes",
            Self::Policies => "policies",
            Self::TokenKeys => "token keys",
            Self::JoinTokens => "join tokens",
        })
    }
}

/// A field of a command that has a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Field {
    /// A node's address or URLs.
    Address,
    /// A group number.
    Group,
    /// A discontinuity number.
    Discontinuity,
    /// The tracks of a cut, or the streams of an extension.
    List,
    /// A policy's glob or a key's id.
    Key,
    /// A policy's or a key's bytes.
    Value,
    /// A join token's end.
    Expiry,
    /// A limit in the settings.
    Settings,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "an address",
            Self::Group => "a group number",
            Self::Discontinuity => "a discontinuity number",
            Self::List => "a list",
            Self::Key => "a key",
            Self::Value => "a value",
            Self::Expiry => "the time to expiry",
            Self::Settings => "a setting",
        })
    }
}

/// What a command is answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The entry was none of ours (a new leader's first entry, a change of membership).
    Nothing,
    /// It is so (now, or already).
    Done,
    /// The claim is granted.
    Granted(Grant),
    /// The reservations stand, but for these.
    Extended {
        /// Streams that the node no longer owns.
        stale: Vec<StaleStream>,
    },
    /// The token is redeemed.
    Redeemed {
        /// The joining node's number.
        node: NodeId,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutNode(info) => write!(f, "put node {} ({})", info.id, info.incarnation),
            Self::SetNodeState { id, incarnation, state } => {
                write!(f, "node {id} ({incarnation}) is {state:?}")
            }
            Self::RemoveNode { id } => write!(f, "remove node {id}"),
            Self::Claim(claim) => {
                write!(f, "claim {} for node {} after {}", claim.stream, claim.node, claim.expects)
            }
            Self::Extend { node, streams, .. } => {
                write!(f, "extend {} streams of node {node}", streams.len())
            }
            Self::Pause(stop) => write!(f, "pause {} of epoch {}", stop.stream, stop.epoch),
            Self::Release(stop) => write!(f, "release {} of epoch {}", stop.stream, stop.epoch),
            Self::PutPolicy { glob, .. } => write!(f, "put policy {glob:?}"),
            Self::DeletePolicy { glob, .. } => write!(f, "delete policy {glob:?}"),
            Self::PutTokenKey { id, .. } => write!(f, "put token key {id:?}"),
            Self::DeleteTokenKey { id, .. } => write!(f, "delete token key {id:?}"),
            Self::PutSettings { .. } => f.write_str("put settings"),
            Self::PutJoinToken { .. } => f.write_str("put join token"),
            Self::RedeemJoinToken { .. } => f.write_str("redeem join token"),
        }
    }
}
