//! The hops to other nodes: one to each that something is taken from, opened when it is needed,
//! and those that others have opened to this one.
//!
//! Driver: awaits. Not here: what is taken by which (`bridge`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::endpoint::Inbound;
use headwater_cluster::id::NodeId;
use headwater_relay::hop::{Hop, Source};
use tokio::task::JoinSet;

use super::Bridge;

/// Between two attempts to reach a node. It is asked for again as long as something is wanted from
/// there.
const RETRY: Duration = Duration::from_millis(100);
/// How long a node may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Hops by the node at their other end.
pub(super) type Hops = HashMap<NodeId, HopState>;

/// Where a hop to a node is.
pub(super) enum HopState {
    Connecting,
    Ready(Hop),
}

impl Bridge {
    /// The hop to a node; where there is none, one is opened, and who waits is asked again.
    pub(super) fn hop_to(&self, node: NodeId) -> Option<Hop> {
        let mut hops = self.hops.lock();
        match hops.get(&node) {
            Some(HopState::Ready(hop)) => return Some(hop.clone()),
            Some(HopState::Connecting) => return None,
            None => {}
        }
        let bridge = self.me.upgrade()?;
        hops.insert(node, HopState::Connecting);
        tokio::spawn(bridge.connect(node));
        None
    }

    pub(super) fn ready_hops(&self) -> Vec<Hop> {
        let hops = self.hops.lock();
        let ready = hops.values().filter_map(|state| match state {
            HopState::Ready(hop) => Some(hop.clone()),
            HopState::Connecting => None,
        });
        ready.collect()
    }

    /// Opens a hop and drives it to its end.
    async fn connect(self: Arc<Self>, node: NodeId) {
        let connecting = self.cluster.connect_relay(node);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => {
                let source: Arc<dyn Source> = self.clone();
                let (hop, driver) = Hop::new(connection, self.options.clone(), source);
                self.hops.lock().insert(node, HopState::Ready(hop));
                tracing::info!(node = node.0, "hop opened");
                self.pulls.reconsider(None);
                let ended = driver.await;
                tracing::info!(node = node.0, reason = %ended, "hop ended");
            }
            Ok(Err(error)) => {
                tracing::debug!(node = node.0, %error, "no hop");
                tokio::time::sleep(RETRY).await;
            }
            Err(_) => tracing::debug!(node = node.0, "no hop: the node does not answer"),
        }
        self.hops.lock().remove(&node);
        self.pulls.reconsider(None);
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
        let (_hop, driver) = Hop::new(inbound.connection.clone(), self.options.clone(), source);
        let ended = driver.await;
        tracing::debug!(peer = ?inbound.peer, reason = %ended, "a child's hop ended");
    }
}
