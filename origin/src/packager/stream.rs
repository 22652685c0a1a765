//! The renditions of every stream: starts a task for each track, keeps what has ended long enough
//! for viewers to play it out. Driver: awaits and spawns.
//!
//! Not here: one rendition (`rendition`), HTTP (`http::hls`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use headwater_media::{Broadcast, BroadcastState, StreamName, TrackName};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::audience::Audience;
use super::compress::{Encoding, Latest};
use super::playlist::Report;
use super::rendition::Rendition;
use super::window::WindowOptions;
use crate::streams::Streams;

/// A rendition so many segments behind another is not live.
const STALE_SEGMENTS: u64 = 4;

/// How streams are packaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackagerOptions {
    /// What a rendition lists and keeps.
    pub window: WindowOptions,
    /// `[hls] ended_linger` (60 s): how long the playlists and media of a stream that has ended
    /// stay, so that its viewers see the end. Longer keeps memory in use.
    pub ended_linger: Duration,
}

impl Default for PackagerOptions {
    fn default() -> Self {
        Self { window: WindowOptions::default(), ended_linger: Duration::from_secs(60) }
    }
}

/// All renditions of one stream.
#[derive(Debug)]
pub struct StreamRenditions {
    broadcast: Broadcast,
    list: ArcSwap<Vec<Arc<Rendition>>>,
    changes: watch::Sender<u64>,
    last_start: Mutex<Option<Instant>>,
    last_placed: Mutex<Option<Instant>>,
    audience: Mutex<Option<Audience>>,
    multivariant: Latest,
}

impl StreamRenditions {
    /// The broadcast they are made of.
    #[must_use]
    pub fn broadcast(&self) -> &Broadcast {
        &self.broadcast
    }

    /// The renditions, in the order of their tracks.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<Arc<Rendition>>> {
        self.list.load_full()
    }

    /// The rendition of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Rendition>> {
        self.list.load().iter().find(|rendition| rendition.name().as_str() == name).cloned()
    }

    /// A watch that changes when a rendition is added.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notes that a player starts.
    pub fn note_start(&self, now: Instant) {
        *self.last_start.lock() = Some(now);
    }

    /// When a player last started.
    #[must_use]
    pub fn last_start(&self) -> Option<Instant> {
        *self.last_start.lock()
    }

    /// Notes that a player that starts was given the playlist by which it finds its place.
    pub fn note_placed(&self, now: Instant) {
        *self.last_placed.lock() = Some(now);
    }

    /// When one last was.
    #[must_use]
    pub fn last_placed(&self) -> Option<Instant> {
        *self.last_placed.lock()
    }

    /// Notes that a player took `micros` of media time.
    pub fn note_taken(&self, now: Instant, micros: i64) {
        self.audience.lock().get_or_insert_with(|| Audience::new(now)).note(now, micros);
    }

    /// Players that follow it by its playlists.
    #[must_use]
    pub fn viewers(&self, now: Instant) -> usize {
        let list = self.list.load();
        let target = list.iter().find_map(|one| one.version().snapshot().target_duration_s);
        self.audience.lock().as_ref().map_or(0, |audience| audience.viewers(now, target))
    }

    /// Its multivariant playlist, which is `text`, in `encoding`, with the encoding it really has.
    #[must_use]
    pub fn multivariant(&self, text: String, encoding: Encoding) -> (Bytes, Encoding) {
        self.multivariant.get(text, encoding)
    }

    /// Where every rendition but `name` is.
    #[must_use]
    pub fn reports_without(&self, name: &TrackName) -> Vec<Report> {
        let list = self.list.load();
        let others = list.iter().filter(|other| other.name() != name);
        let reports: Vec<_> = others.filter_map(|other| other.report()).collect();
        // One that was made on demand and let go says where it was, not where it is.
        let edge = reports.iter().map(|report| report.last_msn).max().unwrap_or(0);
        reports.into_iter().filter(|report| report.last_msn + STALE_SEGMENTS > edge).collect()
    }

    async fn run(self: Arc<Self>, options: PackagerOptions) {
        let mut tasks = JoinSet::new();
        let mut changes = self.broadcast.watch();
        loop {
            for track in self.broadcast.tracks().iter() {
                if self.get(track.name().as_str()).is_some() {
                    continue;
                }
                let rendition = Arc::new(Rendition::new(track.name().clone(), track.kind()));
                let mut list = self.list.load().to_vec();
                list.push(Arc::clone(&rendition));
                self.list.store(Arc::new(list));
                tasks.spawn(rendition.run(self.broadcast.clone(), options.window));
                self.changes.send_modify(|version| *version += 1);
            }
            if self.broadcast.state() == BroadcastState::Ended || !changes.changed().await {
                break;
            }
        }
        while tasks.join_next().await.is_some() {}
        tokio::time::sleep(options.ended_linger).await;
    }
}

/// Packages every stream of the node. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Packager {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PackagerOptions,
    /// Read by every request without a lock; written when a stream starts or goes.
    streams: ArcSwap<HashMap<StreamName, Arc<StreamRenditions>>>,
    writing: Mutex<()>,
}

impl Packager {
    /// A packager without streams.
    #[must_use]
    pub fn new(options: PackagerOptions) -> Self {
        let streams = ArcSwap::from_pointee(HashMap::new());
        Self { shared: Arc::new(Shared { options, streams, writing: Mutex::new(()) }) }
    }

    /// Packages `broadcast` from now on, if that has not begun yet; to be called on a tokio runtime.
    /// It takes the place of an earlier broadcast of the same name that has ended.
    pub fn attach(&self, broadcast: &Broadcast) -> Arc<StreamRenditions> {
        let stream = Arc::new(StreamRenditions {
            broadcast: broadcast.clone(),
            list: ArcSwap::from_pointee(Vec::new()),
            changes: watch::channel(0).0,
            last_start: Mutex::new(None),
            last_placed: Mutex::new(None),
            audience: Mutex::new(None),
            multivariant: Latest::default(),
        });
        let name = broadcast.name();
        let mut standing = None;
        self.shared.update(|streams| {
            let goes_on = |known: &&Arc<StreamRenditions>| {
                known.broadcast.is(broadcast) || known.broadcast.state() != BroadcastState::Ended
            };
            standing = streams.get(name).filter(goes_on).cloned();
            if standing.is_none() {
                streams.insert(name.clone(), Arc::clone(&stream));
            }
        });
        if let Some(standing) = standing {
            return standing;
        }
        let (packager, running) = (self.clone(), Arc::clone(&stream));
        tokio::spawn(async move {
            Arc::clone(&running).run(packager.shared.options).await;
            packager.shared.update(|streams| {
                let name = running.broadcast.name();
                if streams.get(name).is_some_and(|current| Arc::ptr_eq(current, &running)) {
                    streams.remove(name);
                }
            });
        });
        stream
    }

    /// Packages every broadcast of `streams` as it appears, until `shutdown`.
    pub async fn follow(&self, streams: Streams, shutdown: CancellationToken) {
        let mut changes = streams.watch();
        loop {
            for broadcast in streams.list() {
                // A name has one broadcast at a time: one that goes on is the one known.
                let live = |stream: Arc<StreamRenditions>| {
                    stream.broadcast.state() != BroadcastState::Ended
                };
                if broadcast.state() != BroadcastState::Ended
                    && !self.get(broadcast.name()).is_some_and(live)
                {
                    self.attach(&broadcast);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Has all who wait for something of a stream look again.
    pub fn wake(&self) {
        for stream in self.list() {
            stream.changes.send_modify(|version| *version += 1);
            stream.list().iter().for_each(|rendition| rendition.wake());
        }
    }

    /// The renditions of a stream that is live or has ended a moment ago.
    #[must_use]
    pub fn get(&self, name: &StreamName) -> Option<Arc<StreamRenditions>> {
        self.shared.streams.load().get(name).cloned()
    }

    /// The renditions of all such streams.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<StreamRenditions>> {
        self.shared.streams.load().values().cloned().collect()
    }
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut HashMap<StreamName, Arc<StreamRenditions>>)) {
        let _one_at_a_time = self.writing.lock();
        let mut streams = HashMap::clone(&self.streams.load());
        change(&mut streams);
        self.streams.store(Arc::new(streams));
    }
}
