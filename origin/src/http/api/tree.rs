//! The tree of a stream in the API: who takes it from whom, and why.
//!
//! It is planned here as every node plans it, from the cluster as this node sees it. Not here: the
//! planning (`headwater_relay::plan`), which hops are open (`bridge`).

use axum::response::Response;
use headwater_cluster::command::{NodeState, Role as NodeRole};
use headwater_cluster::id::NodeId;
use headwater_cluster::state::NodeRecord;
use headwater_cluster::view::View;
use headwater_media::StreamName;
use headwater_relay::plan::{Options, Plan, Reason, Topology};
use serde::Serialize;

use super::{Operator, json};
use crate::bridge::nodes_of;
use crate::http::Problem;
use crate::http::names::{self, PathOf};

/// `/api/v1/cluster/tree/{stream}`.
#[derive(Serialize, Debug)]
pub struct TreeView {
    /// The stream.
    pub stream: String,
    /// The number of the node that answers.
    pub this: u64,
    /// The number of the node that owns the stream.
    pub owner: u64,
    /// The ownership's epoch.
    pub epoch: u64,
    /// `[relay] gateways`.
    pub gateways: u32,
    /// `[relay] max_children`.
    pub max_children: u32,
    /// Hops from the owner to the farthest node.
    pub depth: u32,
    /// The owner first, then each node after its parent.
    pub nodes: Vec<TreeNodeView>,
}

/// A node of a tree.
#[derive(Serialize, Debug)]
pub struct TreeNodeView {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `origin` or `relay`.
    pub role: &'static str,
    /// Where it stands.
    pub region: String,
    /// `up`, `draining` or `down`.
    pub state: &'static str,
    /// Hops from the owner.
    pub depth: u32,
    /// From whom it takes the stream; none of the owner.
    pub parent: Option<u64>,
    /// From whom it takes it when that one is silent.
    pub second: Option<u64>,
    /// `owner`, `near`, `gateway`, `branch` or `member`.
    pub place: &'static str,
    /// Why it takes it from its parent, in words.
    pub reason: String,
    /// How many nodes take it from this one.
    pub children: usize,
}

/// Answers with the tree of a stream.
pub(super) async fn tree(
    Operator { app, .. }: Operator,
    path: PathOf,
) -> Result<Response, Problem> {
    let name = names::stream(&names::path(path)?)?;
    let view = app.cluster.view().borrow().clone();
    let relay = &app.config.values().relay;
    let options = Options { gateways: relay.gateways, max_children: relay.max_children };
    let tree = describe(&view, &name, options, app.cluster.node());
    tree.map(json).ok_or_else(|| names::no_such_stream(&name))
}

fn describe(view: &View, name: &StreamName, options: Options, this: NodeId) -> Option<TreeView> {
    let record = view.stream(name)?;
    let owner = record.owner()?.node;
    let topology = Topology::new(&nodes_of(view), options);
    let plan = topology.plan(name, owner.0);
    let mut nodes = Vec::new();
    // Each node after its parent, and the children of one together.
    let mut left = vec![owner.0];
    while let Some(id) = left.pop() {
        let children = plan.children(id);
        nodes.extend(view.node(NodeId(id)).map(|node| describe_node(node, &plan, children.len())));
        left.extend(children.into_iter().rev());
    }
    let depth = nodes.iter().map(|node| node.depth).max().unwrap_or(0);
    Some(TreeView {
        stream: name.to_string(),
        this: this.0,
        owner: owner.0,
        epoch: record.epoch().0,
        gateways: options.gateways,
        max_children: options.max_children,
        depth,
        nodes,
    })
}

fn describe_node(record: &NodeRecord, plan: &Plan, children: usize) -> TreeNodeView {
    let id = record.info.id.0;
    let parents = plan.parents(id);
    TreeNodeView {
        id,
        name: record.info.name.to_string(),
        role: match record.info.role {
            NodeRole::Origin => "origin",
            NodeRole::Relay => "relay",
        },
        region: record.info.region.to_string(),
        state: match record.state() {
            NodeState::Up => "up",
            NodeState::Down => "down",
            NodeState::Draining => "draining",
        },
        depth: plan.depth(id).unwrap_or(0),
        parent: parents.map(|parents| parents.first),
        second: parents.and_then(|parents| parents.second),
        place: parents.map_or("owner", |parents| place(parents.reason)),
        reason: parents.map_or_else(|| "owns it".to_owned(), |parents| parents.reason.to_string()),
        children,
    }
}

fn place(reason: Reason) -> &'static str {
    match reason {
        Reason::NearOwner | Reason::OwnerFull => "near",
        Reason::Gateway(_) | Reason::GatewayOwnerFull(_) | Reason::GatewayRegionFull(_) => {
            "gateway"
        }
        Reason::Branch => "branch",
        _ => "member",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_cluster::command::{Answer, Claim, Command, NodeInfo};
    use headwater_cluster::id::{Incarnation, NodeName, Region, WallTime};
    use headwater_cluster::state::State as Directory;
    use headwater_media::{DiscontinuitySeq, Epoch, GroupSeq, SessionId};

    fn directory(stream: &StreamName) -> Directory {
        let mut state = Directory::default();
        for (id, region) in [(1, "eu"), (2, "eu"), (3, "us"), (4, "us"), (5, "us")] {
            let info = NodeInfo {
                id: NodeId(id),
                name: NodeName::parse(&format!("n{id}")).unwrap(),
                role: if id == 1 || id == 2 { NodeRole::Origin } else { NodeRole::Relay },
                region: Region::parse(region).unwrap(),
                address: String::new(),
                http: Vec::new(),
                capacity_mbps: 1_000,
                incarnation: Incarnation(1),
            };
            assert_eq!(state.apply(id, &Command::PutNode(info)), Answer::Done);
        }
        let claim = Claim {
            stream: stream.clone(),
            node: NodeId(1),
            incarnation: Incarnation(1),
            session: SessionId::from_random([1; 16]),
            expects: Epoch(0),
            takeover: false,
            owner_answered: false,
            first_group: GroupSeq(0),
            discontinuity: DiscontinuitySeq(0),
            cut: Vec::new(),
            now: WallTime(0),
        };
        let answer = state.apply(6, &Command::Claim(claim));
        assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
        state
    }

    #[test]
    fn a_tree_lists_the_owner_first_and_each_node_after_its_parent() {
        let name = StreamName::parse("auction/lot-7").unwrap();
        let view = View::from(directory(&name).directory());
        let tree = describe(&view, &name, Options::default(), NodeId(2)).unwrap();
        assert_eq!((tree.owner, tree.this, tree.depth), (1, 2, 2));
        assert_eq!(tree.nodes.len(), 5);
        assert_eq!(
            (tree.nodes[0].id, tree.nodes[0].place, tree.nodes[0].children),
            (1, "owner", 3)
        );
        for (at, node) in tree.nodes.iter().enumerate().skip(1) {
            let parent = tree.nodes.iter().position(|other| Some(other.id) == node.parent).unwrap();
            assert!(parent < at, "{node:?}");
            assert_eq!(tree.nodes[parent].depth + 1, node.depth);
            assert!(node.second.is_some(), "{node:?}");
        }
        let at = |place: &str| tree.nodes.iter().filter(|node| node.place == place).count();
        assert_eq!((at("near"), at("gateway"), at("member")), (1, 2, 1));
        let unknown = StreamName::parse("x").unwrap();
        assert!(describe(&view, &unknown, Options::default(), NodeId(2)).is_none());
    }
}
