//! The control protocol's messages. Written with postcard: variants are only ever added at the
//! end, and `hello::PROTOCOL` rises with them.
//!
//! Not here: who answers what (`server`).

use headwater_media::id::{Epoch, StreamName};
use serde::{Deserialize, Serialize};

use crate::claim::Progress;
use crate::command::{Answer, Command, Role};
use crate::feed::wire::Position;
use crate::id::{Incarnation, NodeId};
use crate::identity::{ClusterId, Peer};

/// What one member asks another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Put this into the log. Answered by the leader alone.
    Propose(Command),
    /// The index up to which a reader must have applied the log to read what is current now.
    /// Answered by the leader alone.
    ReadIndex,
    /// How far has this stream come with you?
    Progress {
        #[serde(with = "crate::id::stream_name")]
        stream: StreamName,
    },
    /// If you own this stream in this epoch: end it, and say how far it came.
    Fence {
        #[serde(with = "crate::id::stream_name")]
        stream: StreamName,
        #[serde(with = "crate::id::epoch")]
        epoch: Epoch,
    },
    /// These are all the nodes that I do not hear.
    Suspect(Vec<(NodeId, Incarnation)>),
    /// My certificate is about to end: sign this request (PKCS #10, DER).
    Renew { request: Vec<u8> },
    /// For how long has your publisher of this stream sent nothing?
    Silence {
        #[serde(with = "crate::id::stream_name")]
        stream: StreamName,
    },
    /// Feed me the directory; I have the log up to here. Answered by a stream of `feed::wire`.
    Follow { from: Option<Position> },
    /// These are all the relays that I hear.
    Attending(Vec<(NodeId, Incarnation)>),
}

impl Request {
    /// The first version of the protocol between nodes that has it. A node of an older one takes it
    /// for garbage, and would end the connection.
    pub(crate) fn since(&self) -> u16 {
        match self {
            Request::Silence { .. } | Request::Follow { .. } | Request::Attending(_) => 2,
            _ => 1,
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Response {
    /// What the command did.
    Answer(Answer),
    /// Ask the leader, if you know better than I; here is who it may be.
    NotLeader { leader: Option<Peer> },
    /// Too many proposals wait here.
    TooBusy,
    /// There is no quorum, or none in time.
    NoQuorum,
    /// An index of the log.
    Index(u64),
    /// How far a stream came.
    Progress(Option<Progress>),
    /// It is noted.
    Done,
    /// A new certificate (DER).
    Certificate(Vec<u8>),
    /// It cannot be done, and why.
    Failed(String),
    /// For how long a publisher has sent nothing, in milliseconds; none where there is none.
    Silence(Option<u64>),
}

/// The oldest and newest version of the join protocol.
pub(crate) const JOIN_VERSION: u16 = 1;

/// A new node's request. Its beginning never changes.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    pub(crate) version: u16,
    pub(crate) program: String,
    pub(crate) cluster: ClusterId,
    /// Of the token; shown only to a node that the token's CA vouches for.
    pub(crate) secret: [u8; 32],
    pub(crate) role: Role,
    /// For a certificate (PKCS #10, DER).
    pub(crate) request: Vec<u8>,
}

/// What a new node is answered.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum JoinResponse {
    Welcome {
        certificate: Vec<u8>,
        authority: Vec<u8>,
        /// For origins (`identity` says why).
        authority_key: Option<String>,
        peers: Vec<Peer>,
    },
    /// Refused for good: another token is needed.
    Refused(String),
    /// Not now: no quorum. The token is still good.
    Later(String),
    /// Another version.
    Version { program: String, version: u16 },
}
