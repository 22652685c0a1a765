//! Looks after the relays, on each origin: hears who is there, tells the leader, and as leader puts
//! deaths and returns into the directory. And keeps followers told of who leads.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: who is dead (`attendance`), feeds themselves (`server`).

#![allow(clippy::disallowed_methods, reason = "driver: attendance lives by the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;

use super::server::Feeds;
use super::wire::Standing;
use crate::cluster::Inner;
use crate::command::{Command, Role};
use crate::control::messages::Request;
use crate::detect::Health;
use crate::id::NodeId;
use crate::transport::hello::frames;

/// How long the leader may take to note who is here; the next word follows anyway.
const TELL_WITHIN: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Seen {
    /// Frames heard, by connection.
    frames: BTreeMap<(NodeId, usize), u64>,
    /// Nodes about which a proposal is on its way.
    proposing: Arc<Mutex<BTreeSet<NodeId>>>,
}

/// Looks until the node stops.
pub(crate) async fn run(cluster: Arc<Inner>, feeds: Arc<Feeds>, keep_alive: Duration) {
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(keep_alive);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let standing = standing(&cluster, now);
        feeds.standing.send_if_modified(|before| {
            let changed = *before != standing;
            if changed {
                before.clone_from(&standing);
            }
            changed
        });
        let leads = standing.leader == Some(cluster.identity().node());
        feeds.attendance.lock().lead(leads, now);
        if look(&cluster, &feeds, &mut seen, now) {
            report(&cluster, &feeds, standing.leader, now);
        }
        if leads {
            judge(&cluster, &feeds, &seen, now);
        }
    }
}

/// Who leads, as this origin knows.
fn standing(cluster: &Inner, now: Instant) -> Standing {
    let Some(raft) = cluster.raft() else { return Standing::default() };
    let me = cluster.identity().node();
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
    let leader = metrics.current_leader;
    let quorum = match leader {
        None => false,
        Some(leader) if leader == me => {
            let acked = metrics.last_quorum_acked;
            let lease = cluster.lease();
            voters == [me] || acked.is_some_and(|acked| acked.elapsed() <= lease)
        }
        Some(leader) => cluster.health_of(leader, now) == Some(Health::Alive),
    };
    Standing { leader, term: metrics.current_term, quorum, voters }
}

/// Notes which relays were heard since the last look. Says whether there are any.
fn look(cluster: &Inner, feeds: &Feeds, seen: &mut Seen, now: Instant) -> bool {
    let view = cluster.view();
    let relays = view.nodes().filter(|node| node.info.role == Role::Relay);
    let relays: BTreeMap<_, _> = relays.map(|node| (node.info.id, node.info.incarnation)).collect();
    let mut attendance = feeds.attendance.lock();
    attendance.watch(relays.iter().map(|(id, incarnation)| (*id, *incarnation)), now);
    let mut heard = BTreeMap::new();
    let met = cluster.registry().map(|registry| registry.met()).unwrap_or_default();
    for (node, incarnation, connection) in met {
        if !relays.contains_key(&node) {
            continue;
        }
        let (key, count) = ((node, connection.stable_id()), frames(&connection));
        if seen.frames.get(&key).is_none_or(|before| *before < count) {
            attendance.heard(node, incarnation, now);
        }
        heard.insert(key, count);
    }
    seen.frames = heard;
    !relays.is_empty()
}

/// Tells the leader which relays are heard here.
fn report(cluster: &Arc<Inner>, feeds: &Feeds, leader: Option<NodeId>, now: Instant) {
    let present = {
        let mut attendance = feeds.attendance.lock();
        let present = attendance.present(now);
        attendance.told(&present, now);
        present
    };
    let Some(leader) = leader.filter(|leader| *leader != cluster.identity().node()) else { return };
    if present.is_empty() {
        return;
    }
    let cluster = cluster.clone();
    tokio::spawn(async move {
        cluster.ask(leader, &Request::Attending(present), TELL_WITHIN).await;
    });
}

/// As leader: brings the directory into line with who is heard.
fn judge(cluster: &Arc<Inner>, feeds: &Feeds, seen: &Seen, now: Instant) {
    let view = cluster.view();
    for node in view.nodes().filter(|node| node.info.role == Role::Relay) {
        let id = node.info.id;
        let verdict = feeds.attendance.lock().verdict(id, node.state(), now);
        let Some((incarnation, state)) = verdict else { continue };
        if !seen.proposing.lock().insert(id) {
            continue;
        }
        tracing::warn!(node = id.0, ?state, "a relay's state changes");
        let (cluster, proposing) = (cluster.clone(), seen.proposing.clone());
        tokio::spawn(async move {
            let command = Command::SetNodeState { id, incarnation, state };
            if let Err(error) = cluster.propose(command).await {
                tracing::debug!(node = id.0, %error, "a relay's state is not noted yet");
            }
            proposing.lock().remove(&id);
        });
    }
}
