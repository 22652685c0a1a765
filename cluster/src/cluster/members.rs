//! Makes the changes of membership that are due, while this node leads; and hands leadership over
//! when it drains.
//!
//! A driver file: awaits.
//!
//! Not here: which change is due (`membership`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::{Inner, Mind};
use crate::command::NodeState;
use crate::id::NodeId;
use crate::membership::{Change, Situation, next_change, successor};
use crate::raft::PeerAddress;
use crate::view::View;

/// Nothing tells that a learner has caught up; so it is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks in any case: the directory of a busy cluster changes all the time.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// A change that takes longer is tried again.
const CHANGE_WITHIN: Duration = Duration::from_secs(5);
/// How long a successor is waited for.
const TRANSFER_WITHIN: Duration = Duration::from_secs(1);

/// Keeps the membership in line with the directory until the node stops.
pub(crate) async fn run(cluster: Arc<Inner>) {
    let mut view = cluster.view.clone();
    loop {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            changed = view.changed() => if changed.is_err() { return },
        }
        if cluster.leader() != Some(cluster.identity.node()) {
            continue;
        }
        let seen = cluster.view();
        let me = seen.node(cluster.identity.node()).map(|node| node.state());
        if me == Some(NodeState::Draining) {
            cluster.hand_over().await;
            continue;
        }
        let Some(change) = next_change(&cluster.situation(seen)) else { continue };
        match tokio::time::timeout(CHANGE_WITHIN, make(&cluster, &change)).await {
            Ok(Ok(())) => tracing::info!(?change, "membership changed"),
            Ok(Err(error)) => tracing::debug!(?change, error, "membership not changed"),
            Err(_) => tracing::warn!(?change, "a change of membership takes long"),
        }
    }
}

async fn make(cluster: &Inner, change: &Change) -> Result<(), String> {
    let one = |node: &NodeId| BTreeSet::from([*node]);
    let at = |node: &NodeId, address: &String| {
        BTreeMap::from([(*node, PeerAddress { address: address.clone() })])
    };
    let members = match change {
        Change::Settle(voters) => ChangeMembers::ReplaceAllVoters(voters.clone()),
        Change::Remove(node) if *node == cluster.identity.node() => {
            cluster.hand_over().await;
            return Ok(());
        }
        Change::Remove(node) => {
            let voters = cluster.voters();
            match voters.contains(node) {
                true => ChangeMembers::RemoveVoters(one(node)),
                false => ChangeMembers::RemoveNodes(one(node)),
            }
        }
        Change::Readdress(node, address) => ChangeMembers::SetNodes(at(node, address)),
        Change::AddLearner(node, address) => ChangeMembers::AddNodes(at(node, address)),
        Change::Promote(node) => ChangeMembers::AddVoterIds(one(node)),
    };
    let Some(raft) = cluster.raft() else { return Ok(()) };
    let changed = raft.change_membership(members, false).await;
    changed.map(|_| ()).map_err(|error| error.to_string())
}

impl Inner {
    /// What the leader knows of the members.
    pub(crate) fn situation(&self, view: Arc<View>) -> Situation {
        let Some(raft) = self.raft() else { return Situation::of_relay(view, self.voters()) };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let matched = metrics.replication.iter().flatten();
        Situation {
            view,
            voters: membership.get_joint_config().clone(),
            addresses: membership.nodes().map(|(id, node)| (*id, node.address.clone())).collect(),
            matched: matched.map(|(id, log)| (*id, log.as_ref().map(|log| log.index))).collect(),
            last: metrics.last_log_index.unwrap_or(0),
        }
    }

    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        match &self.mind {
            Mind::Votes { raft, .. } => {
                raft.metrics().borrow_watched().membership_config.voter_ids().collect()
            }
            Mind::Follows(following) => following.standing().voters.into_iter().collect(),
        }
    }

    /// Gives leadership to another voter, if this node has it and there is one.
    pub(crate) async fn hand_over(&self) {
        let me = self.identity.node();
        if self.leader() != Some(me) {
            return;
        }
        let Some(to) = successor(&self.situation(self.view()), me) else { return };
        let Some(raft) = self.raft() else { return };
        tracing::info!(to = to.0, "handing leadership over");
        if raft.trigger().transfer_leader(to).await.is_err() {
            return;
        }
        let wait = raft.wait(Some(TRANSFER_WITHIN));
        let _ = wait.metrics(|metrics| metrics.current_leader != Some(me), "handed over").await;
    }
}
