//! The tree by which streams come to nodes, planned anew when the cluster's nodes change.
//!
//! Not here: the planning (`headwater_relay::plan`), hops (`hops`).

use std::collections::HashMap;

use headwater_cluster::command::{NodeState, Role as NodeRole};
use headwater_cluster::id::NodeId;
use headwater_cluster::state::NodeRecord;
use headwater_cluster::view::View;
use headwater_media::StreamName;
use headwater_relay::plan::{Node, Options, Parents, Role, Topology};

/// Plans that are remembered; the oldest do not matter more than others.
const PLANS_MAX: usize = 4_096;

/// The nodes of a view, as the planner takes them.
pub(crate) fn nodes_of(view: &View) -> Vec<Node> {
    view.nodes().map(node).collect()
}

fn node(record: &NodeRecord) -> Node {
    let info = &record.info;
    Node {
        id: info.id.0,
        role: match info.role {
            NodeRole::Origin => Role::Origin,
            NodeRole::Relay => Role::Relay,
        },
        region: info.region.to_string(),
        weight: info.capacity_mbps,
        usable: record.state() != NodeState::Down,
        draining: record.state() == NodeState::Draining,
    }
}

/// What this node has planned.
pub(super) struct Tree {
    me: NodeId,
    options: Options,
    /// The state of the view that was looked at last.
    index: u64,
    nodes: Vec<Node>,
    topology: Topology,
    /// This node's parents by stream, and for which owner.
    plans: HashMap<StreamName, (NodeId, Option<Parents>)>,
}

impl Tree {
    pub(super) fn new(me: NodeId, options: Options) -> Self {
        let topology = Topology::new(&[], options);
        Self { me, options, index: 0, nodes: Vec::new(), topology, plans: HashMap::new() }
    }

    /// Brings the topology into line with the view. Whether it has changed.
    pub(super) fn follow(&mut self, view: &View) -> bool {
        if view.index() == self.index {
            return false;
        }
        self.index = view.index();
        let nodes = nodes_of(view);
        if nodes == self.nodes {
            return false;
        }
        self.topology = Topology::new(&nodes, self.options);
        self.nodes = nodes;
        self.plans.clear();
        true
    }

    /// From whom this node takes the stream.
    pub(super) fn parents(&mut self, stream: &StreamName, owner: NodeId) -> Option<Parents> {
        if let Some((of, parents)) = self.plans.get(stream)
            && *of == owner
        {
            return *parents;
        }
        let parents = self.topology.plan(stream, owner.0).parents(self.me.0);
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        self.plans.insert(stream.clone(), (owner, parents));
        parents
    }
}
