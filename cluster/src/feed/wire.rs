//! The feed's messages. Written with postcard, like all of control's: variants are only ever added
//! at the end, and `hello::PROTOCOL` rises with them.
//!
//! Not here: when they are sent (`server`), what is made of them (`follower`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::id::NodeId;
use crate::raft::LogId;

/// A place in the cluster's log. Two logs that agree here agree on all before it.
///
/// Ordered as logs are: by the leader that wrote the entry, then by index.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize,
)]
pub(crate) struct Position {
    /// The term of the entry's leader.
    pub(crate) term: u64,
    /// The leader.
    pub(crate) leader: NodeId,
    /// The entry's index.
    pub(crate) index: u64,
}

impl Position {
    /// Who wrote the entry.
    pub(crate) fn written_by(self) -> (u64, NodeId) {
        (self.term, self.leader)
    }
}

impl From<LogId> for Position {
    fn from(id: LogId) -> Position {
        Position { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
    }
}

/// What an origin knows of the cluster's leadership.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Who leads.
    pub(crate) leader: Option<NodeId>,
    /// Raft's term.
    pub(crate) term: u64,
    /// Whether a majority was heard of a moment ago: what this origin feeds is fresh.
    pub(crate) quorum: bool,
    /// Who votes.
    pub(crate) voters: Vec<NodeId>,
}

/// How a feed begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum How {
    /// With the entry after the one that the relay named.
    On,
    /// With a snapshot: what follows is not kept any more.
    Snapshot,
    /// With a snapshot, though it may be older than what the relay has: the cluster was recovered
    /// by force from a node that had not heard all.
    Anew,
    /// Not: this origin has less than the relay, and cannot find out what is committed. Ask another.
    Behind,
}

/// What an origin sends on a feed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Always the first.
    Opening {
        /// As it is now.
        standing: Standing,
        /// What comes next.
        how: How,
    },
    /// The whole state; its bytes follow the message.
    Snapshot {
        /// The last entry in it.
        at: Position,
        /// How many bytes follow.
        length: u64,
    },
    /// What was applied since.
    Entries {
        /// The index before the first.
        after: u64,
        /// The last one.
        to: Position,
        /// Each as [`encode_entry`] wrote it: once, for all followers.
        entries: Vec<Bytes>,
    },
    /// Something about the leadership has changed.
    Standing(Standing),
}

/// An entry as it travels; `None`: one without a command.
///
/// # Errors
/// None that is known: the encoder writes into memory.
pub(crate) fn encode_entry(command: Option<&Command>) -> Result<Bytes, postcard::Error> {
    Ok(postcard::to_stdvec(&command)?.into())
}

/// What [`encode_entry`] wrote.
pub(crate) fn decode_entry(bytes: &[u8]) -> Option<Option<Command>> {
    match postcard::take_from_bytes(bytes) {
        Ok((entry, [])) => Some(entry),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_nothing_may_follow_it() {
        let command = Command::RemoveNode { id: NodeId(7) };
        let bytes = encode_entry(Some(&command)).unwrap();
        assert_eq!(decode_entry(&bytes), Some(Some(command)));
        assert_eq!(decode_entry(&encode_entry(None).unwrap()), Some(None));
        assert_eq!(decode_entry(&[bytes.as_ref(), &[0]].concat()), None);
        assert_eq!(decode_entry(&[]), None);
    }

    #[test]
    fn a_position_of_a_later_leader_is_later_whatever_its_index() {
        let at = |term, leader, index| Position { term, leader: NodeId(leader), index };
        assert!(at(2, 1, 5) > at(1, 9, 100));
        assert!(at(2, 2, 5) > at(2, 1, 100));
        assert!(at(2, 2, 6) > at(2, 2, 5));
    }
}
