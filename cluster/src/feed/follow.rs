//! The relay's side of feeds: follows an origin, notices when it falls silent or loses its quorum,
//! and goes on with another one. Without any it keeps what it has.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: what a feed's messages do (`follower`), finding origins (`find`).

#![allow(clippy::disallowed_methods, reason = "driver: silence is told by the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use quinn::RecvStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::MESSAGE_MAX;
use super::choose::Failures;
use super::find::{FindError, Opened, Search, find};
use super::follower::Follower;
use super::keep::Keeper;
use super::wire::{How, Message, Position, Standing};
use crate::cluster::Inner;
use crate::id::NodeId;
use crate::identity::{Peer, Refusal};
use crate::state::State;
use crate::transport::hello::frames;
use crate::transport::link::Live;
use crate::transport::wire::{self, SNAPSHOT_MAX};
use crate::view::View;

/// Between two searches when nobody feeds: first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// An origin without a quorum is left after this time, for one that has it: two elections.
const LEADERLESS_MAX: Duration = Duration::from_secs(1);
/// Messages that may wait to be applied. Behind them QUIC's window holds the origin back.
const WAITING_MAX: usize = 8;

/// What the rest of the node knows of the feed.
pub(crate) struct Following {
    feeder: watch::Sender<Option<Live>>,
    standing: Mutex<Standing>,
    failures: Mutex<Failures>,
    /// What the last attempt failed for.
    trouble: Mutex<(String, Option<Refusal>)>,
    /// The newest state and its place, to be kept.
    newest: Mutex<Option<(Position, Arc<View>)>>,
}

impl Following {
    pub(crate) fn new() -> Following {
        Following {
            feeder: watch::Sender::new(None),
            standing: Mutex::default(),
            failures: Mutex::default(),
            trouble: Mutex::new(("no origin was asked yet".into(), None)),
            newest: Mutex::default(),
        }
    }

    /// The origin that feeds this relay.
    pub(crate) fn feeder(&self) -> Option<Live> {
        self.feeder.borrow().clone().filter(|live| live.connection.close_reason().is_none())
    }

    /// It, as soon as there is one; waits no longer than `within`.
    pub(crate) async fn wait(&self, within: Duration) -> Option<Live> {
        let mut feeder = self.feeder.subscribe();
        let up = feeder.wait_for(|live| {
            live.as_ref().is_some_and(|live| live.connection.close_reason().is_none())
        });
        tokio::time::timeout(within, up).await.ok()?.ok()?.clone()
    }

    /// What it says of the cluster's leadership.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// Why an origin refuses this relay, if one does and none feeds it.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.trouble.lock().1
    }

    /// Why nobody feeds it.
    pub(crate) fn error(&self) -> String {
        self.trouble.lock().0.clone()
    }

    pub(crate) fn newest(&self) -> Option<(Position, Arc<View>)> {
        self.newest.lock().clone()
    }

    pub(crate) fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock()
    }

    pub(crate) fn failed(&self, peer: &Peer, error: &FindError, now: Instant) {
        self.failures().note(peer.node, now);
        let (node, address) = (peer.node.0, &peer.address);
        let mut trouble = self.trouble.lock();
        let told = (format!("node {node}: {error}"), error.refusal());
        if *trouble != told {
            // Once a change, not once an attempt.
            match told.1 {
                Some(_) => tracing::warn!(node, %address, %error, "an origin refuses this relay"),
                None => {
                    tracing::info!(node, %address, %error, "an origin does not feed this relay")
                }
            }
        }
        *trouble = told;
    }
}

/// What comes from a feed.
enum Incoming {
    Snapshot { at: Position, state: Box<State>, anew: bool },
    Entries { after: u64, to: Position, entries: Vec<Bytes> },
    Standing(Standing),
    Ended(String),
}

/// The feed that is followed.
struct Current {
    node: NodeId,
    connection: quinn::Connection,
    incoming: mpsc::Receiver<Incoming>,
    /// Reads; ends with this value.
    _reading: JoinSet<()>,
    frames: u64,
    heard: Instant,
    leaderless: Option<Instant>,
}

impl Current {
    /// The next message; never, where there is no feed.
    async fn next(current: &mut Option<Current>) -> Incoming {
        match current {
            Some(current) => {
                let next = current.incoming.recv().await;
                next.unwrap_or_else(|| Incoming::Ended("its reader ended".into()))
            }
            None => std::future::pending().await,
        }
    }
}

struct Relay {
    cluster: Arc<Inner>,
    following: Arc<Following>,
    follower: Follower,
    view: watch::Sender<Arc<View>>,
    current: Option<Current>,
    /// The search that goes on, one at most.
    searching: JoinSet<Option<Opened>>,
    pause: Duration,
    search_again: Instant,
    keeper: Keeper,
}

/// Follows until the node stops.
pub(crate) async fn run(
    cluster: Arc<Inner>,
    following: Arc<Following>,
    follower: Follower,
    view: watch::Sender<Arc<View>>,
    keep_alive: Duration,
) {
    let keeper = Keeper::new(cluster.identity().folder().path(), Instant::now());
    let mut relay = Relay {
        cluster,
        following,
        follower,
        view,
        current: None,
        searching: JoinSet::new(),
        pause: PAUSE.0,
        search_again: Instant::now(),
        keeper,
    };
    // Twice a keep-alive: silence is then known half a keep-alive late at most.
    let mut ticks = tokio::time::interval(keep_alive / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            incoming = Current::next(&mut relay.current) => relay.take(incoming),
            Some(found) = relay.searching.join_next() => relay.found(found.ok().flatten()),
            _ = ticks.tick() => relay.look(Instant::now()),
        }
    }
}

impl Relay {
    /// What a feed brought.
    fn take(&mut self, incoming: Incoming) {
        let done = match incoming {
            Incoming::Snapshot { at, state, anew } => {
                if anew {
                    tracing::error!(index = at.index, "the cluster begins anew at an older entry");
                }
                self.follower.on_snapshot(at, *state, anew)
            }
            Incoming::Entries { after, to, entries } => {
                self.follower.on_entries(after, to, &entries)
            }
            Incoming::Standing(standing) => {
                self.stand(standing);
                return;
            }
            Incoming::Ended(why) => return self.leave(&why),
        };
        match done {
            Ok(true) => self.publish(),
            Ok(false) => {}
            Err(error) => self.leave(&error.to_string()),
        }
    }

    fn publish(&mut self) {
        let view = Arc::new(self.follower.view());
        *self.following.newest.lock() = self.follower.at().map(|at| (at, view.clone()));
        self.view.send_replace(view);
    }

    fn stand(&mut self, standing: Standing) {
        if let Some(current) = &mut self.current {
            current.leaderless =
                if standing.quorum { None } else { current.leaderless.or(Some(Instant::now())) };
        }
        *self.following.standing.lock() = standing;
    }

    /// The feed is over. What it brought stays.
    fn leave(&mut self, why: &str) {
        let Some(current) = self.current.take() else { return };
        let now = Instant::now();
        tracing::info!(origin = current.node.0, why, "a feed ended");
        self.following.failures().note(current.node, now);
        self.following.feeder.send_replace(None);
        self.following.standing.lock().quorum = false;
        self.search_again = now;
        self.search(now);
    }

    /// Looks whether the origin is still there, and whether it is worth following.
    fn look(&mut self, now: Instant) {
        self.keeper.look(self.following.newest(), now);
        let suspect_after = self.cluster.suspect_after();
        let Some(current) = &mut self.current else { return self.search(now) };
        let frames = frames(&current.connection);
        if frames != current.frames {
            current.frames = frames;
            current.heard = now;
        }
        let silent = now.saturating_duration_since(current.heard) > suspect_after;
        let leaderless = current.leaderless;
        let stale = leaderless.is_some_and(|at| now.saturating_duration_since(at) > LEADERLESS_MAX);
        match silent || stale {
            true => self.search(now),
            false => self.searching.abort_all(),
        }
    }

    /// Begins a search, unless one goes on or the last one has just failed.
    fn search(&mut self, now: Instant) {
        if !self.searching.is_empty() || now < self.search_again {
            return;
        }
        let leaderless = self.current.as_ref().and_then(|current| current.leaderless);
        let search = Search {
            from: self.follower.at(),
            current: self.current.as_ref().map(|current| current.node),
            // One that speaks is left only for a better one.
            fresh: leaderless.is_some(),
        };
        self.searching.spawn(find(self.cluster.clone(), search));
    }

    /// A search ended.
    fn found(&mut self, opened: Option<Opened>) {
        let now = Instant::now();
        let Some(opened) = opened else {
            self.search_again = now + self.pause;
            self.pause = self.pause.saturating_mul(2).min(PAUSE.1);
            return;
        };
        self.pause = PAUSE.0;
        metrics::counter!("headwater_cluster_feed_switches_total").increment(1);
        let Opened { node, live, standing, how, receive } = opened;
        tracing::info!(origin = node.0, ?how, "an origin feeds this relay");
        let (tell, incoming) = mpsc::channel(WAITING_MAX);
        let mut reading = JoinSet::new();
        reading.spawn(read(receive, how, tell));
        self.current = Some(Current {
            node,
            connection: live.connection.clone(),
            incoming,
            _reading: reading,
            frames: frames(&live.connection),
            heard: now,
            leaderless: None,
        });
        *self.following.trouble.lock() = (String::new(), None);
        self.following.feeder.send_replace(Some(live));
        self.stand(standing);
    }
}

/// Reads a feed until it ends.
async fn read(mut receive: RecvStream, how: How, tell: mpsc::Sender<Incoming>) {
    let mut anew = how == How::Anew;
    loop {
        let next = match next(&mut receive, anew).await {
            Ok(next) => next,
            Err(why) => Incoming::Ended(why),
        };
        anew &= !matches!(next, Incoming::Snapshot { .. });
        let ended = matches!(next, Incoming::Ended(_));
        if tell.send(next).await.is_err() || ended {
            return;
        }
    }
}

async fn next(receive: &mut RecvStream, anew: bool) -> Result<Incoming, String> {
    let message = wire::read::<Message>(receive, MESSAGE_MAX).await;
    Ok(match message.map_err(|error| error.to_string())? {
        Message::Entries { after, to, entries } => Incoming::Entries { after, to, entries },
        Message::Standing(standing) => Incoming::Standing(standing),
        Message::Opening { .. } => return Err("a second opening".into()),
        Message::Snapshot { at, length } => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > SNAPSHOT_MAX {
                return Err(format!("a snapshot of {length} bytes"));
            }
            let bytes = wire::read_bytes(receive, length).await;
            let bytes = bytes.map_err(|error| error.to_string())?;
            let read = tokio::task::spawn_blocking(move || State::decode(&bytes)).await;
            let state = read.map_err(|error| error.to_string())?;
            let state = Box::new(state.map_err(|error| error.to_string())?);
            Incoming::Snapshot { at, state, anew }
        }
    })
}
