//! The hops to other nodes: one to each that something may be taken from, opened when it is asked
//! for, and those that others have opened to this one.
//!
//! Driver: awaits and reads the clock. Not here: what is taken by which (`bridge`).
#![allow(clippy::disallowed_methods, reason = "driver: a hop that nobody asks for is closed")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_cluster::endpoint::Inbound;
use headwater_cluster::id::NodeId;
use headwater_relay::hop::{Hop, HopStatus, Source};
use headwater_relay::pulls::Way;
use tokio::task::JoinSet;

use super::Bridge;

/// Between two attempts to reach a node: the first pause, which doubles up to the longest.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long a node may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A hop is kept for so long after it was asked for last. Streams that are taken are looked after
/// every ten seconds, their second parents included.
const KEPT: Duration = Duration::from_secs(30);

/// Hops to other nodes.
#[derive(Default)]
pub(super) struct Hops {
    /// By the node at their other end.
    outward: HashMap<NodeId, Outward>,
    /// Those that others opened, in the order in which they came.
    inward: HashMap<u64, Inward>,
    last_inward: u64,
}

struct Outward {
    /// None while the connection is being made.
    hop: Option<Hop>,
    asked: Instant,
}

struct Inward {
    node: Option<NodeId>,
    hop: Hop,
}

/// What is known of a hop to another node.
#[derive(Clone, Debug)]
pub struct HopReport {
    /// The other node.
    pub node: NodeId,
    /// Whether this node opened it, to take from there; otherwise the other did.
    pub outward: bool,
    /// What the hop says of itself.
    pub status: HopStatus,
    /// Packets sent and lost on the way there, since it was opened.
    pub packets: (u64, u64),
    /// Bytes sent and received, since it was opened.
    pub bytes: (u64, u64),
}

impl HopReport {
    fn new(node: NodeId, outward: bool, hop: &Hop) -> Self {
        let stats = hop.connection().stats();
        Self {
            node,
            outward,
            status: hop.status().borrow().clone(),
            packets: (stats.path.sent_packets, stats.path.lost_packets),
            bytes: (stats.udp_tx.bytes, stats.udp_rx.bytes),
        }
    }
}

impl Bridge {
    /// The way to a node; where there is no hop, one is opened, and who waits is asked again.
    pub(super) fn way_to(&self, node: NodeId) -> Way {
        let now = Instant::now();
        let mut hops = self.hops.lock();
        if let Some(outward) = hops.outward.get_mut(&node) {
            outward.asked = now;
            return outward.hop.as_ref().map_or(Way::Opening, |hop| Way::Hop(hop.clone()));
        }
        let Some(bridge) = self.me.upgrade() else { return Way::None };
        hops.outward.insert(node, Outward { hop: None, asked: now });
        tokio::spawn(bridge.keep_hop(node));
        Way::Opening
    }

    /// The hop to a node, if it is there.
    pub(super) fn hop_to(&self, node: NodeId) -> Option<Hop> {
        match self.way_to(node) {
            Way::Hop(hop) => Some(hop),
            Way::Opening | Way::None => None,
        }
    }

    /// Hops that other nodes opened, to take from this one.
    pub(super) fn children(&self) -> Vec<Hop> {
        self.hops.lock().inward.values().map(|inward| inward.hop.clone()).collect()
    }

    /// All hops.
    #[must_use]
    pub fn hops(&self) -> Vec<HopReport> {
        let hops = self.hops.lock();
        let outward = hops
            .outward
            .iter()
            .filter_map(|(node, outward)| Some(HopReport::new(*node, true, outward.hop.as_ref()?)));
        let inward = hops
            .inward
            .values()
            .filter_map(|inward| Some(HopReport::new(inward.node?, false, &inward.hop)));
        outward.chain(inward).collect()
    }

    /// Opens a hop and drives it to its end, again and again, for as long as somebody asks for it.
    async fn keep_hop(self: Arc<Self>, node: NodeId) {
        let mut pause = RETRY;
        while self.is_asked_for(node) {
            let connecting = self.cluster.connect_relay(node);
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => {
                    pause = RETRY;
                    let source: Arc<dyn Source> = self.clone();
                    let (hop, driver) = Hop::new(connection, self.options.clone(), source);
                    // Its silence is to be known before anything is taken by it.
                    let _ = hop.watch();
                    self.set_hop(node, Some(hop));
                    tracing::info!(node = node.0, "hop opened");
                    let ended = driver.await;
                    tracing::info!(node = node.0, reason = %ended, "hop ended");
                    self.set_hop(node, None);
                }
                Ok(Err(error)) => tracing::debug!(node = node.0, %error, "no hop"),
                Err(_) => tracing::debug!(node = node.0, "no hop: the node does not answer"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        self.hops.lock().outward.remove(&node);
    }

    fn is_asked_for(&self, node: NodeId) -> bool {
        let hops = self.hops.lock();
        hops.outward.get(&node).is_some_and(|outward| outward.asked.elapsed() < KEPT)
    }

    fn set_hop(&self, node: NodeId, hop: Option<Hop>) {
        if let Some(outward) = self.hops.lock().outward.get_mut(&node) {
            outward.hop = hop;
        }
        self.pulls.reconsider(None);
    }

    /// Closes the hops by which nothing has been taken for a while, and tells of the others.
    pub(super) fn tidy_hops(&self) {
        let mut unused = Vec::new();
        for (node, outward) in &self.hops.lock().outward {
            let Some(hop) = &outward.hop else { continue };
            if outward.asked.elapsed() >= KEPT {
                unused.push(hop.clone());
                continue;
            }
            let status = hop.status();
            let status = status.borrow();
            let peer = node.0.to_string();
            if let Some(round_trip) = status.round_trip {
                metrics::gauge!("headwater_relay_hop_round_trip_seconds", "node" => peer.clone())
                    .set(round_trip.as_secs_f64());
            }
            if let Some(micros) = status.clock_offset_micros {
                metrics::gauge!("headwater_relay_hop_clock_offset_seconds", "node" => peer)
                    .set(micros as f64 / 1e6);
            }
        }
        for hop in unused {
            hop.close("nothing is taken by it");
        }
    }

    /// Serves the nodes that come for streams.
    pub(super) async fn take_connections(self: Arc<Self>) {
        let Some(mut queue) = self.cluster.take_relay_connections() else { return };
        let mut hops = JoinSet::new();
        loop {
            tokio::select! {
                inbound = queue.recv() => match inbound {
                    Some(inbound) => { hops.spawn(self.clone().serve(inbound)); }
                    None => return,
                },
                Some(_) = hops.join_next() => {}
            }
        }
    }

    async fn serve(self: Arc<Self>, inbound: Inbound) {
        let source: Arc<dyn Source> = self.clone();
        let (hop, driver) = Hop::new(inbound.connection.clone(), self.options.clone(), source);
        let node = inbound.peer.as_ref().map(|peer| peer.node);
        let id = {
            let mut hops = self.hops.lock();
            hops.last_inward += 1;
            let id = hops.last_inward;
            hops.inward.insert(id, Inward { node, hop });
            id
        };
        let _gone = Gone { bridge: &self, id };
        let ended = driver.await;
        tracing::debug!(peer = ?inbound.peer, reason = %ended, "a child's hop ended");
    }
}

/// Forgets a hop that another node opened, however its driver ends.
struct Gone<'a> {
    bridge: &'a Bridge,
    id: u64,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.bridge.hops.lock().inward.remove(&self.id);
    }
}
