//! Ends what nobody ends: streams whose owner died and whose publisher stays away, claims that were
//! granted after their publisher had given up, broadcasts here whose stream is over elsewhere.
//!
//! Driver: awaits and reads the clock. Not here: what the cluster makes of it.
#![allow(clippy::disallowed_methods, reason = "driver: waits a while before it ends something")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_cluster::command::{Command, Stop};
use headwater_cluster::id::NodeId;
use headwater_cluster::state::{Publisher, StreamRecord};
use headwater_cluster::view::View;
use headwater_media::{Epoch, StreamName};
use headwater_relay::pulls::{Pull, Pulls};
use parking_lot::Mutex;

use super::Bridge;
use crate::ownership::cluster_time;

const INTERVAL: Duration = Duration::from_secs(1);
/// How long a stream that was granted to this node may be without a publisher here: a claim's
/// answer may still be on its way.
const UNCLAIMED_AFTER: Duration = Duration::from_secs(5);
/// How long the last frames of a stream that has ended elsewhere are waited for.
const LAST_FRAMES: Duration = Duration::from_secs(2);

/// What is wrong, and since when.
#[derive(Default)]
struct Seen {
    since: HashMap<(StreamName, Epoch), Instant>,
}

impl Seen {
    /// Keeps those that are still wrong; gives those that have been for so long.
    fn look(
        &mut self,
        wrong: impl Iterator<Item = (StreamName, Epoch)>,
        now: Instant,
        patience: Duration,
    ) -> Vec<StreamName> {
        let before = std::mem::take(&mut self.since);
        self.since = wrong
            .map(|key| {
                let since = before.get(&key).copied().unwrap_or(now);
                (key, since)
            })
            .collect();
        let due = |since: &Instant| now.saturating_duration_since(*since) >= patience;
        let due = self.since.iter().filter(|(_, since)| due(since));
        due.map(|((name, _), _)| name.clone()).collect()
    }
}

impl Bridge {
    /// Looks once a second until it is dropped.
    pub(super) async fn tidy(self: Arc<Self>) {
        let (mut unclaimed, mut deserted) = (Seen::default(), Seen::default());
        let (mut over, mut orphaned) = (Seen::default(), Seen::default());
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (now, view) = (Instant::now(), self.cluster.view().borrow().clone());
            self.tidy_hops();
            self.hot.follow(&self.pulls, &view, self.cluster.node());
            for name in unclaimed.look(self.not_held(&view), now, UNCLAIMED_AFTER) {
                tracing::warn!(stream = %name, "released: it was granted to nobody who publishes it");
                self.release(&view, &name).await;
            }
            // One node is enough, and the leader knows best who is dead.
            if self.cluster.is_leader() {
                for name in deserted.look(of_the_dead(&view), now, self.reconnect_window) {
                    tracing::info!(stream = %name, "ended: its owner died, and no publisher came");
                    self.release(&view, &name).await;
                }
            }
            let ended = |(_, record): &Followed| record.publisher == Publisher::None;
            let (left_behind, told): (Vec<_>, Vec<_>) = (self.followed(&view).into_iter())
                .partition(|(_, record)| is_of_the_dead(&view, record));
            let over_now = told.iter().filter(|it| ended(it)).map(key);
            let due = over.look(over_now, now, LAST_FRAMES);
            // A process that starts anew ends the streams of the one before; their publishers
            // may come back all the same.
            let orphans = orphaned.look(left_behind.iter().map(key), now, self.reconnect_window);
            let given_up = left_behind.iter().filter(|it| ended(it) && orphans.contains(&it.0));
            for name in due.iter().chain(given_up.map(|(name, _)| name)) {
                self.pulls.end(name);
            }
        }
    }

    /// Streams that the cluster says are published at this node, and that are not.
    fn not_held<'a>(
        &'a self,
        view: &'a View,
    ) -> impl Iterator<Item = (StreamName, Epoch)> + use<'a> {
        let (me, incarnation) = (self.cluster.node(), self.cluster.incarnation());
        let mine = view.owned_streams().filter(move |(_, record)| {
            record.claimant.node == me && record.claimant.incarnation == incarnation
        });
        let held = |name: &StreamName, record: &StreamRecord| {
            self.streams.owned(name).is_some_and(|(_, epoch)| epoch >= record.epoch())
        };
        mine.filter(move |(name, record)| !held(name, record))
            .map(|(name, record)| (name.clone(), record.epoch()))
    }

    /// Streams that are taken from elsewhere, for viewers here or for other nodes.
    fn followed(&self, view: &View) -> Vec<Followed> {
        let known = |(name, _)| {
            let record = Arc::clone(view.stream(&name)?);
            Some((name, record))
        };
        self.pulls.list().into_iter().filter_map(known).collect()
    }

    /// Ends a stream for the whole cluster, under numbers that were surely not used.
    async fn release(&self, view: &View, name: &StreamName) {
        let Some(record) = view.stream(name) else { return };
        let stop = Stop {
            stream: name.clone(),
            epoch: record.epoch(),
            next_group: record.reserved_to,
            discontinuity: record.discontinuity,
            now: cluster_time(self.clock.now()),
        };
        if let Err(error) = self.cluster.propose(Command::Release(stop)).await {
            tracing::debug!(stream = %name, %error, "not released yet");
        }
    }
}

/// Streams that are taken before anybody watches them here.
pub(super) struct Hot {
    is_hot: Box<dyn Fn(&StreamName) -> bool + Send + Sync>,
    held: Mutex<HashMap<StreamName, Pull>>,
}

impl Hot {
    pub(super) fn new(is_hot: Box<dyn Fn(&StreamName) -> bool + Send + Sync>) -> Self {
        Self { is_hot, held: Mutex::default() }
    }

    /// Holds those that other nodes own now, and lets go those that nobody does.
    fn follow(&self, pulls: &Pulls, view: &View, me: NodeId) {
        let mut held = self.held.lock();
        let mut before = std::mem::take(&mut *held);
        for (name, record) in view.owned_streams() {
            let elsewhere = record.owner().is_some_and(|owner| owner.node != me);
            if !elsewhere || !(self.is_hot)(name) {
                continue;
            }
            let pull = before.remove(name).filter(Pull::is_held);
            if let Some(pull) = pull.or_else(|| pulls.pull(name).ok()) {
                held.insert(name.clone(), pull);
            }
        }
    }
}

type Followed = (StreamName, Arc<StreamRecord>);

fn key((name, record): &Followed) -> (StreamName, Epoch) {
    (name.clone(), record.epoch())
}

/// Whether who owned the stream last is dead, or a process that is no more.
fn is_of_the_dead(view: &View, record: &StreamRecord) -> bool {
    !view.is_alive(record.claimant.node, record.claimant.incarnation)
}

fn of_the_dead(view: &View) -> impl Iterator<Item = (StreamName, Epoch)> {
    view.owned_streams()
        .filter(|(_, record)| is_of_the_dead(view, record))
        .map(|(name, record)| (name.clone(), record.epoch()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_for_long_enough_is_told_and_what_was_mended_begins_anew() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let name = StreamName::parse("cam").unwrap();
        let patience = Duration::from_secs(5);
        let at = |seconds| start + Duration::from_secs(seconds);
        let one = |epoch| std::iter::once((name.clone(), Epoch(epoch)));
        assert!(seen.look(one(1), at(0), patience).is_empty());
        assert!(seen.look(one(1), at(4), patience).is_empty());
        assert_eq!(seen.look(one(1), at(5), patience).len(), 1);
        assert!(seen.look(one(2), at(6), patience).is_empty(), "another epoch is another case");
        assert!(seen.look(std::iter::empty(), at(7), patience).is_empty());
        assert!(seen.look(one(2), at(20), patience).is_empty(), "it was mended in between");
    }
}
