//! Brings what this node publishes and takes into line with what the cluster says of owners.
//!
//! Driver: awaits. Not here: hops (`hops`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join_all, select_all};
use futures_util::stream::FuturesUnordered;
use headwater_cluster::cluster::Fault;
use headwater_cluster::command::{Cut, NodeState, Role};
use headwater_cluster::id::NodeId;
use headwater_cluster::state::{Publisher, StreamRecord};
use headwater_cluster::view::View;
use headwater_media::{Epoch, GroupSeq, StreamName, TrackName};
use headwater_relay::intake::CutOutcome;

use super::Bridge;
use crate::ingest::Heritage;

/// How long the rest of a group is looked for that was in flight when its owner died.
const FILL_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks for a hop by which it may come.
const FILL_RETRY: Duration = Duration::from_millis(10);

/// How long a publisher waits for the rest of the group before its own first one. A node that has
/// more answers within milliseconds.
const TAKE_OVER_WITHIN: Duration = Duration::from_millis(300);
/// How often the node looks whether it was stopped.
const PULSE_INTERVAL: Duration = Duration::from_millis(50);

/// Where the tracks of the epoch before end.
fn cuts_of(record: &StreamRecord) -> &[Cut] {
    record.starts.last().map(|start| start.cut.as_slice()).unwrap_or_default()
}

/// The origins that are not dead: a claim asks these how far the stream has come.
fn origins(view: &View) -> Vec<NodeId> {
    let alive = view.nodes().filter(|node| node.state() != NodeState::Down);
    let origins = alive.filter(|node| node.info.role == Role::Origin);
    origins.map(|node| node.info.id).collect()
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
        let (mut views, mut faults) = (self.cluster.view(), self.cluster.fault());
        loop {
            let view = views.borrow_and_update().clone();
            // The others may not have let it see the entry that removed it.
            let told = *faults.borrow_and_update() == Some(Fault::Removed);
            if told || view.is_removed(self.cluster.node()) {
                self.streams.expel();
            }
            self.settle(&view);
            let changed = tokio::select! {
                changed = views.changed() => changed,
                changed = faults.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn settle(&self, view: &View) {
        let me = self.cluster.node();
        if self.tree.lock().follow(view) {
            self.pulls.reconsider(None);
        }
        let (published, _) = self.streams.names();
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
                self.pulls.fence(&name, record.epoch());
            }
        }
        // Also what is taken for other nodes alone.
        for (name, _) in self.pulls.list() {
            let Some(record) = view.stream(&name) else { continue };
            let known = self.pulls.get(&name).map(|(_, epoch)| epoch);
            if known.is_some_and(|epoch| epoch < record.epoch()) {
                self.go_over(&name, record, view);
            }
        }
        // Viewers may wait for a stream that is new.
        self.streams.changed();
    }

    /// The stream has a new owner: the group that was in flight ends where the claim says, and
    /// what the old owner still sends is dropped.
    fn go_over(&self, name: &StreamName, record: &StreamRecord, view: &View) {
        for cut in cuts_of(record) {
            if let CutOutcome::Missing(from) = self.cut(name, cut) {
                tracing::info!(stream = %name, track = %cut.track, group = cut.group.0, from,
                    frames = cut.frames, "the rest of a group is fetched");
                if let Some(bridge) = self.me.upgrade() {
                    let nodes = self.who_may_have(name, record, view);
                    tokio::spawn(bridge.fill(name.clone(), cut.clone(), nodes));
                }
            }
        }
        self.pulls.fence(name, record.epoch());
    }

    /// Who may have the rest of a group. An origin asks all origins. A relay asks who it takes the
    /// stream from and the new owner: there are too many relays to ask more.
    fn who_may_have(&self, name: &StreamName, record: &StreamRecord, view: &View) -> Vec<NodeId> {
        let me = self.cluster.node();
        let is_origin = view.node(me).is_none_or(|node| node.info.role == Role::Origin);
        let mut nodes = if is_origin { origins(view) } else { vec![record.claimant.node] };
        nodes.extend(self.pulls.parent_of(name).map(NodeId));
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn cut(&self, name: &StreamName, cut: &Cut) -> CutOutcome {
        self.pulls.cut(name, &cut.track, cut.group, cut.frames)
    }

    /// This node has been granted a stream. If it took it from elsewhere until now, brings the group in
    /// flight to its agreed end, from whoever has more of it, before the publisher goes on; if it has
    /// nothing of it, asks the others how it went on until now.
    pub(crate) async fn take_over(&self, name: &StreamName, epoch: Epoch) -> Option<Heritage> {
        let follows = self.pulls.get(name).is_some();
        if !follows && self.streams.get(name).is_some() {
            return None;
        }
        let mut views = self.cluster.view();
        let known = views.wait_for(|view| view.epoch_of(name) >= epoch);
        let view = match tokio::time::timeout(FILL_WITHIN, known).await {
            Ok(Ok(view)) => View::clone(&view),
            Ok(Err(_)) | Err(_) => return None,
        };
        let record = view.stream(name)?;
        if !follows {
            return self.heritage(name, record, &view).await;
        }
        let missing = cuts_of(record)
            .iter()
            .filter(|cut| matches!(self.cut(name, cut), CutOutcome::Missing(_)));
        let others = origins(&view);
        let filling = join_all(missing.map(|cut| self.fill_from_any(name, cut, &others)));
        if tokio::time::timeout(TAKE_OVER_WITHIN, filling).await.is_err() {
            metrics::counter!("headwater_cluster_groups_unfilled_total").increment(1);
            tracing::warn!(stream = %name, "the rest of the group in flight is nowhere to be had");
        }
        None
    }

    /// What another node has of the last group before the stream was granted to this one.
    async fn heritage(
        &self,
        name: &StreamName,
        record: &StreamRecord,
        view: &View,
    ) -> Option<Heritage> {
        if record.starts.len() < 2 {
            return None;
        }
        let last = GroupSeq(record.grant.first_group.0.checked_sub(1)?);
        let cut = cuts_of(record).iter().map(|cut| (cut.track.clone(), cut.group));
        let mut wanted: Vec<_> = cut.collect();
        if wanted.is_empty() {
            // Its publisher had left: all that was published is whole.
            wanted = vec![(TrackName::video(), last), (TrackName::audio(), last)];
        }
        // The video's first frame tells best.
        wanted.sort_by_key(|(track, _)| *track != TrackName::video());
        let me = self.cluster.node();
        let others = origins(view).into_iter().filter(|node| *node != me);
        let mut asked: FuturesUnordered<_> =
            others.map(|node| self.heritage_at(node, name, &wanted)).collect();
        let first = async {
            while let Some(answer) = asked.next().await {
                if answer.is_some() {
                    return answer;
                }
            }
            None
        };
        tokio::time::timeout(TAKE_OVER_WITHIN, first).await.ok().flatten()
    }

    async fn heritage_at(
        &self,
        node: NodeId,
        name: &StreamName,
        wanted: &[(TrackName, GroupSeq)],
    ) -> Option<Heritage> {
        let hop = loop {
            match self.hop_to(node) {
                Some(hop) => break hop,
                None => tokio::time::sleep(FILL_RETRY).await,
            }
        };
        for (track, group) in wanted {
            if let Ok(fetched) = hop.fetch(name.clone(), track.clone(), *group, 0).await {
                return Some(Heritage::of(&fetched.header, fetched.frames.first()));
            }
        }
        None
    }

    /// Fetches the rest of a group from whichever node gives it first. A node that has died may
    /// leave its question open for long, so all are asked at once.
    async fn fill_from_any(&self, name: &StreamName, cut: &Cut, nodes: &[NodeId]) {
        let me = self.cluster.node();
        let others = nodes.iter().filter(|node| **node != me);
        let asked: Vec<_> = others.map(|node| Box::pin(self.fill_from(name, cut, *node))).collect();
        if !asked.is_empty() {
            select_all(asked).await;
        }
    }

    /// Until the group is complete here, or cannot become so any more.
    async fn fill_from(&self, name: &StreamName, cut: &Cut, node: NodeId) {
        while matches!(self.cut(name, cut), CutOutcome::Missing(_)) {
            if let Some(hop) = self.hop_to(node)
                && self.pulls.fill(&hop, name, &cut.track, cut.group).await.is_ok()
            {
                continue;
            }
            tokio::time::sleep(FILL_RETRY).await;
        }
    }

    /// Fetches the rest of a group: the new owner has it if it followed the stream, others may.
    async fn fill(self: Arc<Self>, name: StreamName, cut: Cut, nodes: Vec<NodeId>) {
        let filling = self.fill_from_any(&name, &cut, &nodes);
        if tokio::time::timeout(FILL_WITHIN, filling).await.is_err() {
            tracing::warn!(stream = %name, track = %cut.track, group = cut.group.0,
                "the rest of a group is nowhere to be had");
            metrics::counter!("headwater_cluster_groups_unfilled_total").increment(1);
        }
    }
}
