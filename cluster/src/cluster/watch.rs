//! Watches the other nodes: feeds the failure detector with what connections hear, tells the leader
//! whom this node does not hear, and as leader puts deaths and returns into the directory.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: who is dead (`detect`), what follows (`state`).

#![allow(clippy::disallowed_methods, reason = "driver: the failure detector lives by the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Inner;
use crate::command::{Command, NodeState};
use crate::control::messages::Request;
use crate::detect::Health;
use crate::endpoint::Alpn;
use crate::id::{Incarnation, NodeId};
use crate::transport::hello::frames;

/// How long the leader may take to note a suspicion; the next one follows anyway.
const TELL_WITHIN: Duration = Duration::from_millis(200);

/// What the watch remembers between two looks.
#[derive(Default)]
struct Seen {
    /// Frames heard, by connection.
    frames: BTreeMap<(NodeId, usize), u64>,
    /// Whether the leader was told of a suspicion that may have ended.
    accused: bool,
    /// Nodes about which a proposal is on its way.
    proposing: Arc<Mutex<BTreeSet<NodeId>>>,
}

/// Watches until the node stops.
pub(crate) async fn run(cluster: Arc<Inner>, every: Duration) {
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        look(&cluster, &mut seen, now);
        match cluster.leader() {
            Some(leader) if leader == cluster.identity.node() => judge(&cluster, &seen, now),
            Some(leader) => accuse(&cluster, &mut seen, leader, now),
            None => {}
        }
    }
}

/// Notes who was heard since the last look.
fn look(cluster: &Inner, seen: &mut Seen, now: Instant) {
    let me = cluster.identity.node();
    let view = cluster.view();
    let others = view.nodes().map(|node| (node.info.id, node.info.incarnation));
    let mut heard = BTreeMap::new();
    let mut detector = cluster.detector.lock();
    detector.watch(others.filter(|(id, _)| *id != me), now);
    let out = cluster.links.all(Alpn::Control).into_iter();
    let out = out.filter_map(|(node, link)| link.live().map(|live| (node, live)));
    let out = out.map(|(node, live)| (node, live.hello.incarnation, live.connection));
    let met = cluster.registry().map(|registry| registry.met()).unwrap_or_default();
    for (node, incarnation, connection) in out.chain(met) {
        let key = (node, connection.stable_id());
        let count = frames(&connection);
        if seen.frames.get(&key).is_none_or(|before| *before < count) {
            detector.heard(node, incarnation, now);
        }
        heard.insert(key, count);
    }
    seen.frames = heard;
    for change in detector.poll(now) {
        let (node, health) = (change.peer.0, change.health);
        tracing::info!(node, ?health, "a node's health");
        metrics::counter!("headwater_cluster_health_changes_total").increment(1);
    }
}

/// Tells the leader whom this node does not hear; also, once, that there is nobody any more.
fn accuse(cluster: &Arc<Inner>, seen: &mut Seen, leader: NodeId, now: Instant) {
    let suspects: Vec<(NodeId, Incarnation)> = cluster.detector.lock().suspected(now).collect();
    if suspects.is_empty() && !seen.accused {
        return;
    }
    seen.accused = !suspects.is_empty();
    let cluster = cluster.clone();
    tokio::spawn(async move {
        cluster.ask(leader, &Request::Suspect(suspects), TELL_WITHIN).await;
    });
}

/// As leader: brings the directory into line with what the detector says.
fn judge(cluster: &Arc<Inner>, seen: &Seen, now: Instant) {
    let view = cluster.view();
    let me = cluster.identity.node();
    for node in view.nodes().filter(|node| node.info.id != me) {
        let (id, incarnation) = (node.info.id, node.info.incarnation);
        let health = cluster.detector.lock().health(id, now);
        let state = match (health, node.state()) {
            (Some(Health::Confirmed), NodeState::Up | NodeState::Draining) => NodeState::Down,
            (Some(Health::Alive), NodeState::Down) if is_connected(cluster, id, incarnation) => {
                NodeState::Up
            }
            _ => continue,
        };
        if !seen.proposing.lock().insert(id) {
            continue;
        }
        tracing::warn!(node = id.0, ?state, "a node's state changes");
        let (cluster, proposing) = (cluster.clone(), seen.proposing.clone());
        tokio::spawn(async move {
            let command = Command::SetNodeState { id, incarnation, state };
            if let Err(error) = cluster.propose(command).await {
                tracing::debug!(node = id.0, %error, "a node's state is not noted yet");
            }
            proposing.lock().remove(&id);
        });
    }
}

/// A node that has just come into the directory counts as heard; to be called alive again, it must
/// have been heard in fact.
fn is_connected(cluster: &Inner, node: NodeId, incarnation: Incarnation) -> bool {
    let live = cluster.links.get(Alpn::Control, node).and_then(|link| link.live());
    live.is_some_and(|live| live.hello.incarnation == incarnation)
}

impl Inner {
    /// Another node tells whom it does not hear: all of them.
    pub(crate) fn suspicion_from(&self, observer: NodeId, suspects: &[(NodeId, Incarnation)]) {
        let now = Instant::now();
        let view = self.view();
        let mut detector = self.detector.lock();
        for node in view.nodes() {
            let id = node.info.id;
            match suspects.iter().find(|(suspect, _)| *suspect == id) {
                Some((_, incarnation)) => detector.suspicion_from(observer, id, *incarnation, now),
                None => detector.suspicion_ends(observer, id),
            }
        }
    }
}
