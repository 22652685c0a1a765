//! The origin's side of feeds: sends each follower what it lacks.
//!
//! A driver file: awaits.
//!
//! Not here: what is kept for followers (`log`), what they make of it (`follower`), which relays are
//! alive (`attend`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::SendStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::MESSAGE_MAX;
use super::attendance::{Attendance, AttendanceOptions};
use super::log::{FeedLog, Next, Resume};
use super::wire::{How, Message, Position, Standing};
use crate::cluster::Inner;
use crate::id::NodeId;
use crate::transport::wire::{self, WireError};

/// What an origin has for its followers.
pub(crate) struct Feeds {
    pub(crate) log: Arc<FeedLog>,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) attendance: Mutex<Attendance>,
    /// One feed a node: its newer one ends the older.
    followers: Mutex<HashMap<NodeId, (u64, CancellationToken)>>,
    entered: AtomicU64,
    /// The newest snapshot that was encoded: a hundred relays that come at once share it.
    snapshot: tokio::sync::Mutex<Option<(Position, Bytes)>>,
}

/// A feed that goes on; its end takes it off the list.
struct Entered<'a> {
    feeds: &'a Feeds,
    node: NodeId,
    number: u64,
    stop: CancellationToken,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut followers = self.feeds.followers.lock();
        if followers.get(&self.node).is_some_and(|(number, _)| *number == self.number) {
            followers.remove(&self.node);
        }
        tell(followers.len());
    }
}

fn tell(followers: usize) {
    metrics::gauge!("headwater_cluster_feed_followers")
        .set(f64::from(u32::try_from(followers).unwrap_or(u32::MAX)));
}

impl Feeds {
    pub(crate) fn new(log: Arc<FeedLog>, options: AttendanceOptions) -> Feeds {
        Feeds {
            log,
            standing: watch::Sender::default(),
            attendance: Mutex::new(Attendance::new(options)),
            followers: Mutex::default(),
            entered: AtomicU64::new(0),
            snapshot: tokio::sync::Mutex::default(),
        }
    }

    fn enter(&self, node: NodeId) -> Entered<'_> {
        let (number, stop) =
            (self.entered.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
        let mut followers = self.followers.lock();
        if let Some((_, before)) = followers.insert(node, (number, stop.clone())) {
            before.cancel();
        }
        tell(followers.len());
        Entered { feeds: self, node, number, stop }
    }

    /// A snapshot from which the ring goes on, and its place; `None` while there is no state yet.
    async fn snapshot(&self) -> Result<Option<(Position, Bytes)>, WireError> {
        let mut kept = self.snapshot.lock().await;
        if let Some((at, bytes)) = &*kept
            && self.log.resume(*at) == Resume::On
        {
            return Ok(Some((*at, bytes.clone())));
        }
        let Some((at, view)) = self.log.state() else { return Ok(None) };
        // Tens of milliseconds for a full table: not on a thread that has heartbeats to send.
        let encoded = tokio::task::spawn_blocking(move || view.directory().encode()).await;
        let bytes = match encoded {
            Ok(Ok(bytes)) => Bytes::from(bytes),
            Ok(Err(_)) | Err(_) => return Err(WireError::Write("encoding a snapshot")),
        };
        *kept = Some((at, bytes.clone()));
        Ok(Some((at, bytes)))
    }
}

/// Feeds `node`, which has the log up to `from`, until its stream or this node ends.
pub(crate) async fn serve(
    cluster: &Inner,
    feeds: &Feeds,
    node: NodeId,
    from: Option<Position>,
    mut send: SendStream,
) {
    let entered = feeds.enter(node);
    let feed = Feed { cluster, feeds, node, send: &mut send };
    let fed = entered.stop.run_until_cancelled(feed.run(from)).await;
    match fed {
        Some(Ok(())) => tracing::debug!(node = node.0, "a feed ends"),
        Some(Err(error)) => tracing::debug!(node = node.0, %error, "a feed ends"),
        None => tracing::debug!(node = node.0, "the node has begun another feed"),
    }
    let _ = send.finish();
}

struct Feed<'a> {
    cluster: &'a Inner,
    feeds: &'a Feeds,
    node: NodeId,
    send: &'a mut SendStream,
}

impl Feed<'_> {
    async fn run(mut self, from: Option<Position>) -> Result<(), WireError> {
        let mut standing = self.feeds.standing.subscribe();
        let how = self.how(from).await;
        let now = standing.borrow_and_update().clone();
        tracing::info!(node = self.node.0, ?how, ?from, "feeds a node");
        self.write(&Message::Opening { standing: now, how }).await?;
        let mut after = match (how, from) {
            (How::Behind, _) => return Ok(()),
            (How::On, Some(from)) => from.index,
            _ => self.send_snapshot().await?,
        };
        let mut newest = self.feeds.log.newest();
        loop {
            newest.borrow_and_update();
            match self.feeds.log.next(after) {
                Next::Entries { to, entries } => {
                    self.write(&Message::Entries { after, to, entries }).await?;
                    after = to.index;
                }
                Next::Snapshot => after = self.send_snapshot().await?,
                Next::Wait => tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return Ok(()) },
                    changed = standing.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                        let now = standing.borrow_and_update().clone();
                        self.write(&Message::Standing(now)).await?;
                    }
                    _ = self.send.stopped() => return Ok(()),
                },
            }
        }
    }

    async fn how(&self, from: Option<Position>) -> How {
        let Some(from) = from else { return How::Snapshot };
        let resume = match self.feeds.log.resume(from) {
            Resume::Behind => match self.cluster.linearizable().await {
                Ok(()) => match self.feeds.log.resume(from) {
                    // All that is committed is here, and the relay has more.
                    Resume::Behind => Resume::Other,
                    resume => resume,
                },
                Err(_) => return How::Behind,
            },
            resume => resume,
        };
        match resume {
            Resume::On => How::On,
            Resume::Snapshot => How::Snapshot,
            Resume::Other => {
                let node = self.node.0;
                tracing::warn!(node, ?from, "a node has what this cluster has not: it begins anew");
                How::Anew
            }
            Resume::Behind => How::Behind,
        }
    }

    /// Sends the whole state; gives its index.
    async fn send_snapshot(&mut self) -> Result<u64, WireError> {
        let mut newest = self.feeds.log.newest();
        let (at, bytes) = loop {
            newest.borrow_and_update();
            match self.feeds.snapshot().await? {
                Some(snapshot) => break snapshot,
                None => newest.changed().await.map_err(|_| WireError::Cut)?,
            }
        };
        metrics::counter!("headwater_cluster_feed_snapshots_total").increment(1);
        tracing::debug!(node = self.node.0, index = at.index, bytes = bytes.len(), "a snapshot");
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.write(&Message::Snapshot { at, length }).await?;
        self.send.write_chunk(bytes).await.map_err(|_| WireError::Write("stream closed"))?;
        Ok(at.index)
    }

    async fn write(&mut self, message: &Message) -> Result<(), WireError> {
        wire::write(self.send, message, MESSAGE_MAX).await
    }
}
