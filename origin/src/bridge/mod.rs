//! Between the cluster, which knows who owns a stream, and the relay, which carries it from there.
//!
//! Driver: awaits. Not here: what is carried and how (`headwater-relay`), who owns what
//! (`headwater-cluster`), what is published and watched on this node (`streams`).

mod follow;
mod hops;
mod serve;
mod tidy;
mod tree;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_cluster::cluster::Cluster;
use headwater_cluster::id::NodeId;
use headwater_media::{Epoch, StreamName};
use headwater_relay::hop::HopOptions;
use headwater_relay::plan::Options as TreeOptions;
use headwater_relay::pulls::{Candidate, Parents, Pulls, Wanted};
use parking_lot::Mutex;
use tokio::task::JoinSet;

pub use self::hops::HopReport;
use self::hops::Hops;
use self::tidy::Hot;
use self::tree::Tree;
pub(crate) use self::tree::nodes_of;
use crate::clock::Clock;
use crate::streams::Streams;
use crate::transcode::audio::AudioBridges;

/// Between two looks whether the children have left.
const LEFT_INTERVAL: Duration = Duration::from_millis(10);

/// What the ties connect.
pub struct BridgeParts {
    /// The node's clock.
    pub clock: Clock,
    /// The node's streams.
    pub streams: Streams,
    /// What it takes from others.
    pub pulls: Pulls,
    /// What makes further audio tracks.
    pub bridges: AudioBridges,
    /// How long a stream waits for its publisher (`[ingest] reconnect_window`).
    pub reconnect_window: Duration,
    /// How trees are made, the same on all nodes.
    pub tree: TreeOptions,
    /// Which streams are taken before anybody here watches them (`[relay] hot`).
    pub hot: Box<dyn Fn(&StreamName) -> bool + Send + Sync>,
}

/// A node's media ties with the others.
pub struct Bridge {
    cluster: Cluster,
    clock: Clock,
    streams: Streams,
    pulls: Pulls,
    bridges: AudioBridges,
    reconnect_window: Duration,
    options: HopOptions,
    hops: Mutex<Hops>,
    tree: Mutex<Tree>,
    hot: Hot,
    /// The node takes no new children.
    leaving: AtomicBool,
    /// Itself, for the tasks that hops need.
    me: Weak<Self>,
}

impl Bridge {
    /// The ties of a node. Nothing happens until [`Self::run`] is polled.
    #[must_use]
    pub fn new(cluster: Cluster, parts: BridgeParts, options: HopOptions) -> Arc<Self> {
        let BridgeParts { clock, streams, pulls, bridges, reconnect_window, tree, hot } = parts;
        let me = cluster.node();
        // Names are for people; the ways of streams are told in numbers.
        let options = HopOptions { id: Some(me.0), ..options };
        Arc::new_cyclic(|weak| Self {
            cluster,
            clock,
            streams,
            pulls,
            bridges,
            reconnect_window,
            options,
            hops: Mutex::default(),
            tree: Mutex::new(Tree::new(me, tree)),
            hot: Hot::new(hot),
            leaving: AtomicBool::new(false),
            me: weak.clone(),
        })
    }

    /// Carries streams in and out until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let parents: Arc<dyn Parents> = self.clone();
        tasks.spawn(self.pulls.clone().run(parents));
        tasks.spawn(Self::take_connections(self.clone()));
        tasks.spawn(Self::follow(self.clone()));
        tasks.spawn(Self::beat(self.clone()));
        tasks.spawn(Self::tidy(self.clone()));
        // They end with this future.
        while tasks.join_next().await.is_some() {}
    }

    /// Tells all children that this node goes away: they look for another parent, and none comes
    /// any more.
    pub fn say_goodbye(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        for hop in self.children() {
            hop.goaway("the node is shutting down");
        }
    }

    /// Waits until the children have gone elsewhere with what this node takes from others. What it
    /// owns they can have nowhere else.
    pub async fn children_left(&self, limit: Duration) {
        let left = async {
            while !self.pulls.list().is_empty() && self.subscriptions() > 0 {
                tokio::time::sleep(LEFT_INTERVAL).await;
            }
        };
        if tokio::time::timeout(limit, left).await.is_err() {
            tracing::warn!(subscriptions = self.subscriptions(), "some nodes still take from here");
        }
    }

    /// What other nodes take from this one, of all streams.
    fn subscriptions(&self) -> usize {
        self.children().iter().map(|hop| hop.status().borrow().subscriptions).sum()
    }

    /// The node that owns a stream, if that is another one.
    fn owner(&self, stream: &StreamName) -> Option<(NodeId, Epoch)> {
        let view = self.cluster.view();
        let view = view.borrow();
        let record = view.stream(stream)?;
        let owner = record.owner()?;
        (owner.node != self.cluster.node()).then(|| (owner.node, record.epoch()))
    }
}

impl Parents for Bridge {
    fn parents(&self, wanted: Wanted<'_>) -> Vec<Candidate> {
        let Some((owner, _)) = self.owner(wanted.stream) else { return Vec::new() };
        let planned = self.tree.lock().parents(wanted.stream, owner);
        let (first, second) = match planned {
            Some(parents) => (NodeId(parents.first), parents.second.map(NodeId)),
            // Not one of the tree's nodes, as far as is known here.
            None => (owner, None),
        };
        let mut nodes = vec![(first, false)];
        nodes.extend(second.map(|node| (node, false)));
        if wanted.starves && nodes.iter().all(|(node, _)| *node != owner) {
            nodes.push((owner, true));
        }
        let me = self.cluster.node();
        let others = nodes.into_iter().filter(|(node, _)| *node != me);
        others
            .map(|(node, last_resort)| Candidate {
                node: node.0,
                way: self.way_to(node),
                last_resort,
            })
            .collect()
    }
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}
