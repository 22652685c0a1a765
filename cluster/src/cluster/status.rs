//! What an operator sees of the cluster, from this node.
//!
//! Not here: how it is printed (the node's commands and API).

use std::collections::BTreeMap;

use serde::Serialize;

use super::Inner;
use crate::command::{NodeState, Role};
use crate::endpoint::Alpn;
use crate::id::NodeId;
use crate::state::NodeRecord;
use crate::transport::link::Link;

/// The cluster, as this node knows it.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: String,
    /// This node.
    pub this: NodeId,
    /// Who leads, if anybody does.
    pub leader: Option<NodeId>,
    /// Raft's term: rises at each election.
    pub term: u64,
    /// Index of the newest entry that this replica has applied.
    pub applied: u64,
    /// What is wrong with this node, in words.
    pub fault: Option<String>,
    /// The origin that feeds this node, if it is a relay that has one.
    pub fed_by: Option<NodeId>,
    /// All nodes, by number.
    pub nodes: Vec<NodeStatus>,
}

/// One node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its number.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// `origin` or `relay`.
    pub role: &'static str,
    /// Where it stands.
    pub region: String,
    /// `up`, `down` or `draining`.
    pub state: &'static str,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it votes. A new origin learns first.
    pub voter: bool,
    /// Its cluster address.
    pub address: String,
    /// How often it started.
    pub incarnation: u64,
    /// Streams that it owns.
    pub streams: usize,
    /// Entries by which its log is behind; known to the leader only.
    pub lag: Option<u64>,
    /// Whether this node has the connection to it that it should have (where it should have none:
    /// yes; a relay to itself: whether an origin feeds it).
    pub connected: bool,
    /// Why not.
    pub error: Option<String>,
}

impl Inner {
    /// Whether this node keeps a connection to that one: origins to origins, and not to relays,
    /// which call one origin; a relay to none but its own.
    fn should_link_to(&self, node: &NodeRecord) -> bool {
        let mine = node.info.id == self.identity.node();
        match self.following() {
            Some(_) => mine,
            None => !mine && node.info.role == Role::Origin,
        }
    }

    /// Whether an origin feeds this relay; an origin needs none.
    fn is_fed(&self) -> bool {
        self.following().is_none_or(|following| following.feeder().is_some())
    }

    fn why_not(&self, link: Option<&Link>) -> String {
        let link = link.map(Link::error);
        let feed = self.following().map(|following| following.error());
        link.or(feed).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        let situation = self.situation(self.view());
        let view = self.view();
        let leader = self.leader();
        let voters: Vec<NodeId> = situation.voters.iter().flatten().copied().collect();
        let mut owned: BTreeMap<NodeId, usize> = BTreeMap::new();
        for owner in view.owned_streams().filter_map(|(_, record)| record.owner()) {
            let count = owned.entry(owner.node).or_default();
            *count = count.saturating_add(1);
        }
        let nodes = view.nodes().map(|node| {
            let id = node.info.id;
            let link = self.links.get(Alpn::Control, id);
            let connected = (id == self.identity.node() && self.is_fed())
                || link.as_ref().is_some_and(|link| link.live().is_some())
                || !self.should_link_to(node);
            let matched = situation.matched.get(&id).copied().flatten();
            NodeStatus {
                id,
                name: node.info.name.to_string(),
                role: match node.info.role {
                    Role::Origin => "origin",
                    Role::Relay => "relay",
                },
                region: node.info.region.to_string(),
                state: match node.state() {
                    NodeState::Up => "up",
                    NodeState::Down => "down",
                    NodeState::Draining => "draining",
                },
                leader: leader == Some(id),
                voter: voters.contains(&id),
                address: node.info.address.clone(),
                incarnation: node.info.incarnation.0,
                streams: owned.get(&id).copied().unwrap_or(0),
                lag: matched.map(|matched| situation.last.saturating_sub(matched)),
                connected,
                error: (!connected).then(|| self.why_not(link.as_deref())),
            }
        });
        ClusterStatus {
            cluster: self.identity.subject().cluster.to_string(),
            this: self.identity.node(),
            leader,
            term: self.term(),
            applied: view.index(),
            fed_by: self
                .following()
                .and_then(|following| following.feeder())
                .map(|it| it.hello.node),
            fault: self.fault.borrow().as_ref().map(ToString::to_string),
            nodes: nodes.collect(),
        }
    }
}
