//! The replicated state: nodes, streams and their epochs, policies, keys, join tokens. A pure
//! function of the commands in the log.
//!
//! The rules that it keeps, whatever comes in:
//! - A stream's epoch, group numbers and discontinuity numbers only rise, also when it is ended,
//!   forgotten and begun anew.
//! - In one epoch a stream has one owner.
//! - A command that is repeated changes nothing.
//! - A command that is over a limit is refused; nothing panics, nothing grows without bound.
//!
//! Not here: the log (`store`), what readers see of it (`view`), who proposes what (`claim`,
//! `detect`, `cluster`).

mod config;
mod nodes;
#[cfg(test)]
mod proptests;
mod shards;
mod snapshot;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_media::id::StreamName;

pub use self::config::Config;
pub use self::nodes::{JoinToken, Joining, NodeRecord};
pub(crate) use self::shards::Shards;
pub use self::snapshot::SnapshotError;
pub use self::streams::{Floor, Owner, Publisher, Start, StreamRecord};
use crate::command::{Answer, Command, Refusal};
use crate::id::NodeId;

/// Group numbers that an owner may use before it must reserve more. Owners reserve when half of
/// them are left: at two seconds a group that is 16 s ahead, time for an election or two.
pub const RESERVE_GROUPS: u64 = 16;
/// Highest group number. At one group a millisecond it lasts 8,900 years; below it no sum here
/// can overflow.
pub const GROUP_MAX: u64 = 1 << 48;
/// Highest discontinuity number: HLS players keep it in 32 bits at least (RFC 8216, 4.2).
pub const DISCONTINUITY_MAX: u64 = 1 << 31;
/// Most tracks of a cut: the most that a broadcast has, twice over.
pub const CUT_TRACKS_MAX: usize = 64;
/// Most streams of one extension; owners of more send several.
pub const EXTENSIONS_MAX: usize = 1_000;
/// How many changes of owner a stream remembers, newest last. Who missed more than these drops
/// what it has and starts from the newest.
pub const STARTS_KEPT: usize = 8;
/// Most nodes: the largest tree that was simulated, with room.
pub const NODES_MAX: u32 = 4_096;
/// Most bytes of an address or a base URL.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Most base URLs of a node.
pub const HTTP_URLS_MAX: usize = 8;
/// Most numbers of removed nodes that are remembered one by one; older ones by the highest.
pub const REMOVED_MAX: usize = 10_000;
/// How far above the next number a node's own may lie, so that no node can use the numbers up.
pub const NODE_ID_AHEAD_MAX: u64 = 1_000;
/// Most policies.
pub const POLICIES_MAX: u32 = 1_000;
/// Most bytes of a policy.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Most keys of tokens.
pub const TOKEN_KEYS_MAX: u32 = 100;
/// Most bytes of a key.
pub const TOKEN_KEY_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of a policy's glob and of a key's id.
pub const KEY_BYTES_MAX: usize = 512;
/// Most join tokens that are kept at once, used ones included until they end.
pub const JOIN_TOKENS_MAX: u32 = 1_000;
/// Longest life of a join token.
pub const JOIN_TOKEN_LIFE_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Highest value of a limit in the settings.
pub const SETTING_MAX: u32 = 1_000_000;

/// All that is replicated. Copies are cheap and share what has not changed.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub(crate) nodes: Arc<BTreeMap<NodeId, NodeRecord>>,
    pub(crate) joining: Arc<Joining>,
    pub(crate) streams: Shards<StreamRecord>,
    /// How many streams have an owner.
    pub(crate) owned: usize,
    pub(crate) floor: Floor,
    pub(crate) config: Arc<Config>,
    /// Index of the last entry that was applied.
    pub(crate) applied: u64,
}

/// The state machine.
#[derive(Debug, Default)]
pub struct State {
    directory: Directory,
    /// Ended streams, oldest first; made from the records when a snapshot is read.
    ended: BTreeSet<(u64, StreamName)>,
}

impl State {
    /// Applies the command at `index` of the log.
    pub fn apply(&mut self, index: u64, command: &Command) -> Answer {
        self.directory.applied = self.directory.applied.max(index);
        let done = match command {
            Command::PutNode(info) => self.put_node(index, info),
            Command::SetNodeState { id, incarnation, state } => {
                self.set_node_state(*id, *incarnation, *state)
            }
            Command::RemoveNode { id } => self.remove_node(index, *id),
            Command::Claim(claim) => self.claim(index, claim),
            Command::Extend { node, incarnation, streams } => {
                self.extend(index, *node, *incarnation, streams)
            }
            Command::Pause(stop) => self.pause(index, stop),
            Command::Release(stop) => self.release(index, stop),
            Command::PutPolicy { glob, policy, expects } => self.put_policy(glob, policy, *expects),
            Command::DeletePolicy { glob, expects } => self.delete_policy(glob, *expects),
            Command::PutTokenKey { id, key, expects } => self.put_token_key(id, key, *expects),
            Command::DeleteTokenKey { id, expects } => self.delete_token_key(id, *expects),
            Command::PutSettings { settings, expects } => self.put_settings(settings, *expects),
            Command::PutJoinToken { token, expires, now } => {
                self.put_join_token(*token, *expires, *now)
            }
            Command::RedeemJoinToken { token, joiner, now } => {
                self.redeem_join_token(*token, *joiner, *now)
            }
        };
        done.unwrap_or_else(Answer::Refused)
    }

    /// Notes that an entry without a command was applied.
    pub fn skip(&mut self, index: u64) {
        self.directory.applied = self.directory.applied.max(index);
    }

    /// Index of the last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.directory.applied
    }

    /// A copy for readers.
    #[must_use]
    pub fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// Checks what must always hold, and says what does not. Walks everything: for tests.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        let mut owned = 0;
        let mut ended = BTreeSet::new();
        for (name, record) in self.directory.streams.iter() {
            record.check().map_err(|broken| format!("{name}: {broken}"))?;
            match record.ended {
                Some(index) => {
                    ended.insert((index, name.clone()));
                }
                None => owned += 1,
            }
        }
        if owned != self.directory.owned {
            return Err(format!("{owned} streams are owned, not {}", self.directory.owned));
        }
        if ended != self.ended {
            return Err("the list of ended streams is not that of the records".into());
        }
        for id in self.directory.nodes.keys() {
            if id.0 >= self.directory.joining.next_node {
                return Err(format!("the number of node {id} may be allotted again"));
            }
        }
        Ok(())
    }
}

/// The result of one kind of command.
type Applied = Result<Answer, Refusal>;
