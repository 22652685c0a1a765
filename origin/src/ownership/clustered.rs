//! Asks the real cluster. Driver: awaits and reads the clock.
//!
//! Not here: how the cluster comes to its answers (`headwater-cluster`).
#![allow(clippy::disallowed_methods, reason = "driver: news has a time after which it is old")]

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headwater_cluster::claim::Wish;
use headwater_cluster::cluster::{self, Cluster};
use headwater_cluster::command::{
    Answer, Command, Extension, NodeState, Refusal, Role, StaleStream,
};
use headwater_cluster::id::{NodeId, WallTime as ClusterTime};
use headwater_cluster::state::{NodeRecord, Owner, Publisher};
use headwater_cluster::view::View;
use headwater_media::{Epoch, GroupSeq, StreamName, WallTime};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Ask, ClaimError, Granted, News, Ownership, granted};
use crate::bridge::Bridge;
use crate::streams::Streams;

/// News that may wait to be told: a stream has one or two at a time.
const NEWS_MAX: usize = 8_192;
/// Commands that are told at once.
const TOLD_AT_ONCE: usize = 64;
/// Streams in one command.
const EXTENSIONS_MAX: usize = 256;
/// Between two attempts to tell what could not be told.
const RETRY: Duration = Duration::from_millis(250);
/// How long a publisher that comes back at once waits until the cluster knows that the one before
/// has left.
const LEAVING_WITHIN: Duration = Duration::from_secs(1);
/// News older than this is dropped: a publisher's leaving shows by then in other ways, and numbers
/// are asked for again while they are short.
const OLD: Duration = Duration::from_secs(60);

/// Origins that a publisher is told of who came to a relay.
const ORIGINS_TOLD: usize = 3;

/// A time as the cluster's commands bear it.
pub(crate) fn cluster_time(now: WallTime) -> ClusterTime {
    ClusterTime(now.micros().max(0).unsigned_abs() / 1_000)
}

/// What a node has to tell its cluster, and since when.
pub type NewsQueue = mpsc::Receiver<Told>;

/// A piece of news on its way.
pub struct Told {
    since: Instant,
    news: News,
    /// Says that it was told, or given up.
    _done: TaskTrackerToken,
}

/// Ownership as the cluster decides it.
pub struct Clustered {
    cluster: Cluster,
    news: mpsc::Sender<Told>,
    /// Set once the node has its media ties.
    bridge: OnceLock<Weak<Bridge>>,
    untold: TaskTracker,
}

impl Clustered {
    /// A node's way to its cluster, and the queue of what it tells; see [`Self::run`].
    #[must_use]
    pub fn new(cluster: Cluster) -> (Self, NewsQueue) {
        let (news, queue) = mpsc::channel(NEWS_MAX);
        (Self { cluster, news, bridge: OnceLock::new(), untold: TaskTracker::new() }, queue)
    }

    /// The node's media ties, which bring a stream here that this node takes over. To be called once.
    pub fn set_bridge(&self, bridge: &Arc<Bridge>) {
        // There is one bridge in a node.
        let _ = self.bridge.set(Arc::downgrade(bridge));
    }

    /// Waits until the cluster knows that the publisher of epoch `left` has left this node: a claim
    /// that overtakes the news would find the stream busy.
    async fn told_of_leaving(&self, stream: &StreamName, left: Epoch) {
        let mut views = self.cluster.view();
        let known = views.wait_for(|view| {
            let record = view.stream(stream);
            let gone = |publisher| publisher != Publisher::Live;
            record.is_some_and(|it| it.epoch() > left || (it.epoch() == left && gone(it.publisher)))
        });
        // The claim itself says what is wrong if this does not come.
        let _ = tokio::time::timeout(LEAVING_WITHIN, known).await;
    }

    /// Whether the publisher that has the stream at another node has fallen silent.
    async fn is_silent(&self, owner: NodeId, ask: &Ask) -> bool {
        let elsewhere = owner != self.cluster.node();
        let silence =
            if elsewhere { self.cluster.silence_at(owner, &ask.stream).await } else { None };
        silence.is_some_and(|silence| silence >= ask.takeover_after)
    }

    /// Tells the news of `queue` until the node is gone. What a stream's numbers were extended to
    /// is given back to `streams`, and so is that a stream was lost.
    pub async fn run(cluster: Cluster, streams: Streams, mut queue: NewsQueue) {
        let mut telling = tokio::task::JoinSet::new();
        while let Some(told) = queue.recv().await {
            while telling.len() >= TOLD_AT_ONCE {
                telling.join_next().await;
            }
            telling.spawn(tell(cluster.clone(), streams.clone(), told));
        }
    }
}

async fn tell(cluster: Cluster, streams: Streams, told: Told) {
    let Told { since, news, _done } = told;
    let commands: Vec<Command> = match news {
        News::Paused(stop) => vec![Command::Pause(stop)],
        News::Released(stop) => vec![Command::Release(stop)],
        News::Extend(wanted) => wanted
            .chunks(EXTENSIONS_MAX)
            .map(|streams| Command::Extend {
                node: cluster.node(),
                incarnation: cluster.incarnation(),
                streams: streams.to_vec(),
            })
            .collect(),
    };
    for command in commands {
        loop {
            match cluster.propose(command.clone()).await {
                Ok(answer) => {
                    if let (Command::Extend { streams: wanted, .. }, answer) = (&command, answer) {
                        extended(&streams, wanted, answer);
                    }
                    break;
                }
                // Asked for again by the next sweep, while it is still short.
                Err(_) if matches!(command, Command::Extend { .. }) => break,
                Err(error) if since.elapsed() > OLD => {
                    tracing::warn!(%error, %command, "the cluster could not be told");
                    metrics::counter!("headwater_cluster_news_dropped_total").increment(1);
                    break;
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

fn extended(streams: &Streams, wanted: &[Extension], answer: Answer) {
    let Answer::Extended { stale } = answer else {
        tracing::warn!(?answer, "numbers were not reserved");
        return;
    };
    let lost: HashSet<&StreamName> = stale.iter().map(|one| &one.stream).collect();
    for one in wanted.iter().filter(|one| !lost.contains(&one.stream)) {
        streams.reserved(&one.stream, one.epoch, one.reserved_to);
    }
    for StaleStream { stream, current } in stale {
        // What was cut where comes with the view, a moment later: until then nothing is certain.
        streams.lost(&stream, current, &[]);
    }
}

/// The origins that take publishers, as a sentence lists them: `a at http://10.0.0.1:8080`.
fn origins(view: &View) -> String {
    let fit = |node: &&NodeRecord| node.info.role == Role::Origin && node.state() == NodeState::Up;
    let told = view.nodes().filter(fit).take(ORIGINS_TOLD).map(|node| {
        let (name, url) = (&node.info.name, node.info.http.first());
        url.map_or_else(|| name.to_string(), |url| format!("{name} at {url}"))
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() { "none is known to be up now".to_owned() } else { told.join(", ") }
}

#[async_trait]
impl Ownership for Clustered {
    async fn claim(&self, ask: Ask) -> Result<Granted, ClaimError> {
        if let Some(nobody) = self.takes_nobody() {
            return Err(nobody);
        }
        if let Some(left) = ask.left.filter(|_| !ask.takeover) {
            self.told_of_leaving(&ask.stream, left).await;
        }
        let view = self.cluster.view().borrow().clone();
        let known = view.stream(&ask.stream).is_some();
        drop(view);
        let mut wish = Wish {
            stream: ask.stream.clone(),
            node: self.cluster.node(),
            incarnation: self.cluster.incarnation(),
            session: ask.session,
            takeover: ask.takeover,
            first_group: if known { GroupSeq(0) } else { ask.floor },
        };
        let mut claimed = self.cluster.claim(wish.clone()).await;
        if let Err(cluster::ClaimError::Refused(Refusal::Busy { owner })) = claimed
            && self.is_silent(owner, &ask).await
        {
            wish.takeover = true;
            claimed = self.cluster.claim(wish).await;
        }
        let mut heritage = None;
        let answer = match claimed {
            Ok(grant) => {
                if let Some(bridge) = self.bridge.get().and_then(Weak::upgrade) {
                    heritage = bridge.take_over(&ask.stream, grant.epoch).await;
                }
                Answer::Granted(grant)
            }
            Err(cluster::ClaimError::Refused(refusal)) => Answer::Refused(refusal),
            Err(cluster::ClaimError::Propose(cluster::ProposeError::Stopped(why))) => {
                return Err(ClaimError::NotHere(why));
            }
            Err(_) => return Err(ClaimError::NoQuorum),
        };
        let grant = granted(answer, &ask, |node| {
            let view = self.cluster.view().borrow().clone();
            view.node(node).map_or_else(|| node.to_string(), |known| known.info.name.to_string())
        })?;
        Ok(Granted { grant, heritage })
    }

    fn takes_nobody(&self) -> Option<ClaimError> {
        (self.cluster.role() == Role::Relay).then(|| {
            let view = self.cluster.view().borrow().clone();
            ClaimError::Relay(origins(&view))
        })
    }

    fn is_elsewhere(&self, stream: &StreamName) -> bool {
        let view = self.cluster.view();
        let view = view.borrow();
        let owner = view.stream(stream).and_then(|record| record.owner());
        owner.is_some_and(|owner| owner.node != self.cluster.node())
    }

    fn is_published_elsewhere(&self, stream: &StreamName) -> bool {
        let view = self.cluster.view();
        let view = view.borrow();
        view.stream(stream).is_some_and(|record| {
            let Owner { node, incarnation } = record.claimant;
            let live = record.publisher == Publisher::Live;
            live && node != self.cluster.node() && view.is_alive(node, incarnation)
        })
    }

    fn is_over(&self, stream: &StreamName, epoch: Epoch) -> bool {
        self.cluster.view().borrow().epoch_of(stream) > epoch
    }

    fn tell(&self, news: News) {
        let told = Told { since: Instant::now(), news, _done: self.untold.token() };
        if self.news.try_send(told).is_err() {
            metrics::counter!("headwater_cluster_news_dropped_total").increment(1);
        }
    }

    async fn told(&self) {
        self.untold.close();
        self.untold.wait().await;
        self.untold.reopen();
    }
}
