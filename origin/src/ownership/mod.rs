//! Who may publish a stream next, and under which numbers: what a node asks the cluster for.
//!
//! Not here: what the node does with it (`streams`), how the cluster decides (`headwater-cluster`).

pub mod alone;
mod clustered;
mod holder;
mod pulse;

use std::time::Duration;

use async_trait::async_trait;
use headwater_cluster::command::{Answer, Extension, Grant, Refusal, Stop};
use headwater_cluster::id::NodeId;
use headwater_media::{Epoch, GroupSeq, SessionId, StreamName};
use thiserror::Error;

pub(crate) use self::clustered::cluster_time;
pub use self::clustered::{Clustered, NewsQueue};
pub use self::holder::StreamsHolder;
pub use self::pulse::Pulse;
use crate::ingest::Heritage;

/// A publisher's session wants a stream.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The stream.
    pub stream: StreamName,
    /// The session.
    pub session: SessionId,
    /// Whether it may take the stream from a live publisher, wherever that is.
    pub takeover: bool,
    /// A publisher that has sent nothing for so long gives way in any case.
    pub takeover_after: Duration,
    /// The epoch in which this node has it still, without a publisher: the cluster may not know yet
    /// that the last one has left.
    pub left: Option<Epoch>,
    /// Where the numbers begin if the cluster does not know the name.
    pub floor: GroupSeq,
}

/// A stream was given.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// Under which numbers.
    pub grant: Grant,
    /// What another node knows of how it went on until now, where this one does not.
    pub(crate) heritage: Option<Heritage>,
}

impl From<Grant> for Granted {
    fn from(grant: Grant) -> Self {
        Self { grant, heritage: None }
    }
}

/// Why a stream was not given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// It has a publisher, at that node.
    #[error("stream {stream} already has a publisher, at node {node}")]
    Busy {
        /// The stream.
        stream: StreamName,
        /// The owner, as people call it.
        node: String,
    },
    /// The nodes that are reachable are no majority.
    #[error("no majority of the cluster's origins can be reached")]
    NoQuorum,
    /// The cluster is full.
    #[error("the cluster has as many streams as it may have ({0})")]
    TooManyStreams(u32),
    /// This node is a relay. Comes with the origins' names and where publishers reach them.
    #[error("this node is a relay, and relays take no publishers: publish at an origin ({0})")]
    Relay(String),
    /// This node may not publish: it drains, is held for dead, or was removed.
    #[error("this node takes no publishers: {0}")]
    NotHere(String),
}

/// What an owner tells the cluster without waiting for the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// The publisher left; the broadcast waits for its return.
    Paused(Stop),
    /// The broadcast is over.
    Released(Stop),
    /// More group numbers are wanted.
    Extend(Vec<Extension>),
}

/// The cluster's directory, as far as publishing goes.
#[async_trait]
pub trait Ownership: Send + Sync {
    /// Asks for a stream.
    ///
    /// # Errors
    /// It is another's, or cannot be given now.
    async fn claim(&self, ask: Ask) -> Result<Granted, ClaimError>;

    /// Why nobody may publish at this node at all, if so.
    fn takes_nobody(&self) -> Option<ClaimError> {
        None
    }

    /// Whether another node holds the stream, as far as this one knows.
    fn is_elsewhere(&self, stream: &StreamName) -> bool;

    /// Whether the stream has a publisher at another node that lives, as far as this one knows.
    fn is_published_elsewhere(&self, stream: &StreamName) -> bool;

    /// Whether the stream is at a later epoch than that, as far as this node knows.
    fn is_over(&self, stream: &StreamName, epoch: Epoch) -> bool;

    /// Passes news on, in the background. What cannot be told now is tried again; an epoch that is
    /// over by then makes it void.
    fn tell(&self, news: News);

    /// Waits until the cluster knows all that it was told.
    async fn told(&self);
}

/// What an answer of the cluster means for who asked; `name_of` tells what people call a node.
pub(crate) fn granted(
    answer: Answer,
    ask: &Ask,
    name_of: impl FnOnce(NodeId) -> String,
) -> Result<Grant, ClaimError> {
    match answer {
        Answer::Granted(grant) => Ok(grant),
        Answer::Refused(Refusal::Busy { owner }) => {
            Err(ClaimError::Busy { stream: ask.stream.clone(), node: name_of(owner) })
        }
        Answer::Refused(Refusal::TooManyStreams { max }) => Err(ClaimError::TooManyStreams(max)),
        Answer::Refused(refusal) => Err(ClaimError::NotHere(refusal.to_string())),
        _ => Err(ClaimError::NotHere("the cluster gave an answer to another question".to_owned())),
    }
}
