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
use crate::command::{Command, NodeState, Role};
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
    /// Whether the others were told of a suspicion that may have ended.
    accused: bool,
    /// How often it was looked while the leader was silent.
    leaderless: usize,
    /// Nodes about which a proposal is on its way.
    proposing: Arc<Mutex<BTreeSet<NodeId>>>,
}

/// Watches until the node stops.
pub(crate) async fn run(cluster: Arc<Inner>, keep_alive: Duration) {
    let mut seen = Seen::default();
    // Twice a keep-alive: silence is then known half a keep-alive late at most.
    let mut ticks = tokio::time::interval(keep_alive / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        look(&cluster, &mut seen, now);
        accuse(&cluster, &mut seen, now);
        match cluster.leader() {
            Some(leader) if leader == cluster.identity.node() => judge(&cluster, &seen, now),
            Some(leader) => campaign(&cluster, &mut seen, leader, now).await,
            None => {}
        }
    }
}

/// Notes who was heard since the last look.
fn look(cluster: &Inner, seen: &mut Seen, now: Instant) {
    let me = cluster.identity.node();
    let view = cluster.view();
    // Relays are others' affair (`feed::attend`).
    let others = view.nodes().filter(|node| node.info.role == Role::Origin);
    let others = others.map(|node| (node.info.id, node.info.incarnation));
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

/// Tells the others whom this node does not hear; also, once, that there is nobody any more. All are
/// told, not the leader alone: it may be the leader that is dead, and the next one must know.
fn accuse(cluster: &Arc<Inner>, seen: &mut Seen, now: Instant) {
    let view = cluster.view();
    let is_up = |node: NodeId| view.node(node).is_some_and(|node| node.state() != NodeState::Down);
    let suspects: Vec<(NodeId, Incarnation)> =
        cluster.detector.lock().suspected(now).filter(|(node, _)| is_up(*node)).collect();
    if suspects.is_empty() && !seen.accused {
        return;
    }
    seen.accused = !suspects.is_empty();
    for (node, link) in cluster.links.all(Alpn::Control) {
        if link.live().is_none() || suspects.iter().any(|(suspect, _)| *suspect == node) {
            continue;
        }
        let (cluster, suspects) = (cluster.clone(), suspects.clone());
        tokio::spawn(async move {
            cluster.ask(node, &Request::Suspect(suspects), TELL_WITHIN).await;
        });
    }
}

/// A leader that is silent need not be waited for until Raft's own timeouts, which must allow for
/// leaders that are slow: as soon as its lease is over, the voters that are alive campaign, in turn
/// and by pre-vote, which changes nothing where the leader is heard by others.
async fn campaign(cluster: &Inner, seen: &mut Seen, leader: NodeId, now: Instant) {
    let me = cluster.identity.node();
    let alive: Vec<NodeId> = {
        let detector = cluster.detector.lock();
        if detector.health(leader, now).is_none_or(|health| health == Health::Alive) {
            seen.leaderless = 0;
            return;
        }
        let is_alive =
            |node: &NodeId| *node == me || detector.health(*node, now) == Some(Health::Alive);
        cluster.voters().into_iter().filter(is_alive).collect()
    };
    let turn = seen.leaderless.checked_rem(alive.len()).unwrap_or(0);
    seen.leaderless = seen.leaderless.saturating_add(1);
    let Some(raft) = cluster.raft() else { return };
    if alive.get(turn) == Some(&me) && raft.trigger().elect(true).await.is_err() {
        tracing::debug!("raft has stopped");
    }
}

/// As leader: brings the directory into line with what the detector says.
fn judge(cluster: &Arc<Inner>, seen: &Seen, now: Instant) {
    let view = cluster.view();
    let me = cluster.identity.node();
    let others = view.nodes().filter(|node| node.info.id != me);
    for node in others.filter(|node| node.info.role == Role::Origin) {
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
        let suspects: BTreeMap<NodeId, Incarnation> = suspects.iter().copied().collect();
        let view = self.view();
        let mut detector = self.detector.lock();
        for id in view.nodes().map(|node| node.info.id) {
            match suspects.get(&id) {
                Some(incarnation) => detector.suspicion_from(observer, id, *incarnation, now),
                None => detector.suspicion_ends(observer, id),
            }
        }
    }
}
