//! Brings what this node publishes and takes into line with what the cluster says of owners.
//!
//! Driver: awaits. Not here: hops (`hops`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use headwater_cluster::command::Cut;
use headwater_cluster::id::NodeId;
use headwater_cluster::state::{Publisher, StreamRecord};
use headwater_cluster::view::View;
use headwater_media::{Epoch, StreamName};
use headwater_relay::intake::CutOutcome;

use super::Bridge;

/// How long the rest of a group is looked for that was in flight when its owner died.
const FILL_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks for a hop by which it may come.
const FILL_RETRY: Duration = Duration::from_millis(50);

/// How long a publisher waits for the rest of the group before its own first one, and how often
/// it is looked for. A node that has more answers within milliseconds.
const TAKE_OVER_WITHIN: Duration = Duration::from_millis(300);
const TAKE_OVER_RETRY: Duration = Duration::from_millis(10);
/// How often the node looks whether it was stopped.
const PULSE_INTERVAL: Duration = Duration::from_millis(50);

/// Where the tracks of the epoch before end.
fn cuts_of(record: &StreamRecord) -> &[Cut] {
    record.starts.last().map(|start| start.cut.as_slice()).unwrap_or_default()
}

impl Bridge {
    /// Keeps the streams' pulse. After a pause, the cluster is asked first what became of them; if
    /// it has no quorum to answer, they go on.
    pub(super) async fn beat(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(PULSE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let pulse = self.streams.pulse();
            if self.cluster.view().borrow().nodes().count() < 2 {
                pulse.rest();
                continue;
            }
            if pulse.is_late(self.clock.now()) {
                tracing::warn!(
                    "this node was stopped for a while: asking what became of its streams"
                );
                if let Err(error) = self.cluster.linearizable().await {
                    tracing::warn!(%error, "going on without knowing");
                }
                let view = self.cluster.view().borrow().clone();
                self.settle(&view);
            }
            pulse.beat(self.clock.now());
        }
    }

    /// Follows the cluster's view until it is gone.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut views = self.cluster.view();
        loop {
            let view = views.borrow_and_update().clone();
            self.settle(&view);
            if views.changed().await.is_err() {
                return;
            }
        }
    }

    fn settle(&self, view: &View) {
        let me = self.cluster.node();
        let (published, taken) = self.streams.names();
        for name in published {
            let Some(record) = view.stream(&name) else { continue };
            if record.publisher == Publisher::None {
                self.streams.over(&name, record.epoch());
                continue;
            }
            let elsewhere = record.owner().is_some_and(|owner| owner.node != me);
            if elsewhere && self.streams.turn_round(&name, record.epoch(), cuts_of(record)) {
                if let Some(broadcast) = self.streams.get(&name) {
                    self.bridges.end(&broadcast);
                }
                self.pulls.reconsider(Some(&name));
            }
        }
        for name in taken {
            let Some(record) = view.stream(&name) else { continue };
            let known = self.pulls.get(&name).map(|(_, epoch)| epoch);
            if known.is_some_and(|epoch| epoch < record.epoch()) {
                self.go_over(&name, record);
            }
        }
        // Viewers may wait for a stream that is new.
        self.streams.changed();
    }

    /// The stream has a new owner: the group that was in flight ends where the claim says, and
    /// what the old owner still sends is dropped.
    fn go_over(&self, name: &StreamName, record: &StreamRecord) {
        let owner = record.claimant.node;
        for cut in cuts_of(record) {
            if let CutOutcome::Missing(from) = self.cut(name, cut) {
                tracing::info!(stream = %name, track = %cut.track, group = cut.group.0, from,
                    frames = cut.frames, "the rest of a group is fetched");
                if let Some(bridge) = self.me.upgrade() {
                    tokio::spawn(bridge.fill(name.clone(), cut.clone(), owner));
                }
            }
        }
        self.pulls.fence(name, record.epoch());
    }

    fn cut(&self, name: &StreamName, cut: &Cut) -> CutOutcome {
        self.pulls.cut(name, &cut.track, cut.group, cut.frames)
    }

    /// This node has been granted a stream that it took from elsewhere until now: brings the group in
    /// flight to its agreed end, from whoever has more of it, before the publisher goes on.
    pub async fn take_over(&self, name: &StreamName, epoch: Epoch) {
        if self.pulls.get(name).is_none() {
            return;
        }
        let mut views = self.cluster.view();
        let known = views.wait_for(|view| view.epoch_of(name) >= epoch);
        let view = match tokio::time::timeout(FILL_WITHIN, known).await {
            Ok(Ok(view)) => View::clone(&view),
            Ok(Err(_)) | Err(_) => return,
        };
        let Some(record) = view.stream(name) else { return };
        let missing = cuts_of(record)
            .iter()
            .filter(|cut| matches!(self.cut(name, cut), CutOutcome::Missing(_)));
        let others: Vec<_> = view.nodes().map(|node| node.info.id).collect();
        let filling = join_all(missing.map(|cut| self.fill_from_any(name, cut, &others)));
        if tokio::time::timeout(TAKE_OVER_WITHIN, filling).await.is_err() {
            metrics::counter!("headwater_cluster_groups_unfilled_total").increment(1);
            tracing::warn!(stream = %name, "the rest of the group in flight is nowhere to be had");
        }
    }

    async fn fill_from_any(&self, name: &StreamName, cut: &Cut, nodes: &[NodeId]) {
        let me = self.cluster.node();
        loop {
            for node in nodes.iter().filter(|node| **node != me) {
                if let Some(hop) = self.hop_to(*node)
                    && self.pulls.fill(&hop, name, &cut.track, cut.group).await.is_ok()
                    && !matches!(self.cut(name, cut), CutOutcome::Missing(_))
                {
                    return;
                }
            }
            tokio::time::sleep(TAKE_OVER_RETRY).await;
        }
    }

    /// Fetches the rest of a group from the new owner, which has it whole.
    async fn fill(self: Arc<Self>, name: StreamName, cut: Cut, owner: NodeId) {
        let filling = async {
            loop {
                if let Some(hop) = self.hop_to(owner)
                    && self.pulls.fill(&hop, &name, &cut.track, cut.group).await.is_ok()
                {
                    return;
                }
                tokio::time::sleep(FILL_RETRY).await;
            }
        };
        if tokio::time::timeout(FILL_WITHIN, filling).await.is_err() {
            tracing::warn!(stream = %name, track = %cut.track, group = cut.group.0,
                "the rest of a group is nowhere to be had");
            metrics::counter!("headwater_cluster_groups_unfilled_total").increment(1);
        }
    }
}
