//! Who is in the cluster: nodes, their states, and the tokens with which new ones join.
//!
//! Not here: certificates and what a token looks like (`identity`); who finds a node dead
//! (`detect`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    ADDRESS_BYTES_MAX, Applied, HTTP_URLS_MAX, JOIN_TOKEN_LIFE_MS_MAX, JOIN_TOKENS_MAX,
    NODE_ID_AHEAD_MAX, NODES_MAX, REMOVED_MAX, State,
};
use crate::command::{Answer, Digest, Field, NodeInfo, NodeState, Refusal, Table};
use crate::id::{Incarnation, NodeId, WallTime};

/// A node, as the cluster knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What it said of itself.
    pub info: NodeInfo,
    pub(crate) up: bool,
    pub(crate) draining: bool,
}

impl NodeRecord {
    /// Whether it takes part. A draining node that dies and is heard again is still draining.
    #[must_use]
    pub fn state(&self) -> NodeState {
        match (self.up, self.draining) {
            (false, _) => NodeState::Down,
            (true, true) => NodeState::Draining,
            (true, false) => NodeState::Up,
        }
    }
}

/// A token that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinToken {
    /// When it ends.
    pub expires: WallTime,
    /// Who joined with it: hash of its public key, and the number that it got.
    pub used: Option<(Digest, NodeId)>,
}

/// What is kept so that nodes can join and no number is given twice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joining {
    /// The number of the next node that joins.
    pub(crate) next_node: u64,
    /// Tokens by their hashes.
    pub(crate) tokens: BTreeMap<Digest, JoinToken>,
    /// Numbers of nodes that were removed.
    pub(crate) removed: BTreeSet<NodeId>,
    /// Unknown numbers below this one count as removed.
    pub(crate) removed_below: NodeId,
}

impl Default for Joining {
    fn default() -> Self {
        Self {
            next_node: 1,
            tokens: BTreeMap::new(),
            removed: BTreeSet::new(),
            removed_below: NodeId(0),
        }
    }
}

impl Joining {
    pub(crate) fn is_removed(&self, id: NodeId) -> bool {
        id < self.removed_below || self.removed.contains(&id)
    }
}

impl State {
    pub(super) fn put_node(&mut self, index: u64, info: &NodeInfo) -> Applied {
        let addresses = info.http.iter().chain([&info.address]);
        if info.http.len() > HTTP_URLS_MAX || addresses.clone().any(|a| a.len() > ADDRESS_BYTES_MAX)
        {
            return Err(Refusal::OverLimit { what: Field::Address });
        }
        match self.directory.nodes.get(&info.id) {
            Some(known) if info.incarnation < known.info.incarnation => {
                return Err(Refusal::OtherIncarnation { current: known.info.incarnation });
            }
            Some(known) if info.incarnation == known.info.incarnation => {
                if known.info != *info
                    && let Some(known) = Arc::make_mut(&mut self.directory.nodes).get_mut(&info.id)
                {
                    known.info = info.clone();
                }
                return Ok(Answer::Done);
            }
            Some(_) => self.end_streams_of(index, info.id, Some(info.incarnation)),
            None => self.admit(info.id)?,
        }
        let record = NodeRecord { info: info.clone(), up: true, draining: false };
        Arc::make_mut(&mut self.directory.nodes).insert(info.id, record);
        Ok(Answer::Done)
    }

    /// Whether a node with a number that is not in the table may enter it.
    fn admit(&mut self, id: NodeId) -> Result<(), Refusal> {
        let joining = &self.directory.joining;
        if joining.is_removed(id) || id.0 > joining.next_node.saturating_add(NODE_ID_AHEAD_MAX) {
            return Err(Refusal::UnknownNode);
        }
        if u32::try_from(self.directory.nodes.len()).unwrap_or(u32::MAX) >= NODES_MAX {
            return Err(Refusal::TooMany { what: Table::Nodes, max: NODES_MAX });
        }
        if id.0 >= joining.next_node {
            Arc::make_mut(&mut self.directory.joining).next_node = id.0 + 1;
        }
        Ok(())
    }

    pub(super) fn set_node_state(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        state: NodeState,
    ) -> Applied {
        let Some(known) = self.directory.nodes.get(&id) else {
            return Err(Refusal::UnknownNode);
        };
        if known.info.incarnation != incarnation {
            return Err(Refusal::OtherIncarnation { current: known.info.incarnation });
        }
        let (up, draining) = match state {
            NodeState::Up => (true, known.draining),
            NodeState::Down => (false, known.draining),
            NodeState::Draining => (known.up, true),
        };
        if (up, draining) != (known.up, known.draining)
            && let Some(node) = Arc::make_mut(&mut self.directory.nodes).get_mut(&id)
        {
            (node.up, node.draining) = (up, draining);
        }
        Ok(Answer::Done)
    }

    pub(super) fn remove_node(&mut self, index: u64, id: NodeId) -> Applied {
        if !self.directory.nodes.contains_key(&id) {
            let removed = self.directory.joining.is_removed(id);
            return if removed { Ok(Answer::Done) } else { Err(Refusal::UnknownNode) };
        }
        self.end_streams_of(index, id, None);
        Arc::make_mut(&mut self.directory.nodes).remove(&id);
        let joining = Arc::make_mut(&mut self.directory.joining);
        joining.removed.insert(id);
        if joining.removed.len() > REMOVED_MAX
            && let Some(lowest) = joining.removed.pop_first()
        {
            joining.removed_below = joining.removed_below.max(NodeId(lowest.0 + 1));
        }
        Ok(Answer::Done)
    }

    pub(super) fn put_join_token(
        &mut self,
        token: Digest,
        expires: WallTime,
        now: WallTime,
    ) -> Applied {
        if self.directory.joining.tokens.contains_key(&token) {
            return Ok(Answer::Done);
        }
        if expires > now.plus_ms(JOIN_TOKEN_LIFE_MS_MAX) {
            return Err(Refusal::OverLimit { what: Field::Expiry });
        }
        if expires <= now {
            return Err(Refusal::TokenExpired);
        }
        let joining = Arc::make_mut(&mut self.directory.joining);
        joining.tokens.retain(|_, token| token.expires > now);
        if u32::try_from(joining.tokens.len()).unwrap_or(u32::MAX) >= JOIN_TOKENS_MAX {
            return Err(Refusal::TooMany { what: Table::JoinTokens, max: JOIN_TOKENS_MAX });
        }
        joining.tokens.insert(token, JoinToken { expires, used: None });
        Ok(Answer::Done)
    }

    pub(super) fn redeem_join_token(
        &mut self,
        token: Digest,
        joiner: Digest,
        now: WallTime,
    ) -> Applied {
        let Some(known) = self.directory.joining.tokens.get(&token) else {
            return Err(Refusal::TokenUnknown);
        };
        match known.used {
            Some((by, node)) if by == joiner => return Ok(Answer::Redeemed { node }),
            Some(_) => return Err(Refusal::TokenUsed),
            None if known.expires <= now => return Err(Refusal::TokenExpired),
            None => {}
        }
        let joining = Arc::make_mut(&mut self.directory.joining);
        let node = NodeId(joining.next_node);
        joining.next_node += 1;
        if let Some(known) = joining.tokens.get_mut(&token) {
            known.used = Some((joiner, node));
        }
        Ok(Answer::Redeemed { node })
    }
}
