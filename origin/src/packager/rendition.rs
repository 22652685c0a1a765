//! Drives one rendition: reads its track, publishes a version for every change, lets requests
//! wait for one. Driver: awaits, and reads the clock for metrics.
//!
//! Not here: what follows from a frame (`parts`, `window`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use headwater_media::{
    Broadcast, BroadcastState, Cursor, GroupSeq, Item, MediaKind, Start, TrackName,
};
use tokio::sync::watch;

use super::compress::{Compressed, Encoding};
use super::parts::{Cut, Cutter};
use super::playlist::{self, Report};
use super::snapshot::Snapshot;
use super::window::{Window, WindowOptions};

/// How long the tracks of a broadcast that has ended are given to end too.
const END_GRACE: Duration = Duration::from_secs(1);

/// Which form of a playlist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    /// All that is listed.
    Full,
    /// `_HLS_skip`: without the segments that a client already knows, where it is worth it.
    Delta,
}

/// A rendition at one moment, with its playlist: rendered once, shared by all who ask.
#[derive(Debug, Default)]
pub struct Version {
    snapshot: Snapshot,
    full: Compressed,
    delta: Compressed,
}

impl Version {
    fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, full: Compressed::default(), delta: Compressed::default() }
    }

    /// What is there.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The playlist, with the encoding it really has. `reports` is asked by the first caller
    /// alone. None while there is nothing to list.
    pub fn playlist(
        &self,
        flavour: Flavour,
        encoding: Encoding,
        reports: impl FnOnce() -> Vec<Report>,
    ) -> Option<(Bytes, Encoding)> {
        let skip = match flavour {
            Flavour::Full => None,
            Flavour::Delta => playlist::skippable(&self.snapshot),
        };
        let text = if skip.is_some() { &self.delta } else { &self.full };
        text.get(encoding, || playlist::render(&self.snapshot, skip, &reports()))
    }
}

/// One rendition of a stream. Shared by its task, which writes, and by requests.
#[derive(Debug)]
pub struct Rendition {
    name: TrackName,
    kind: MediaKind,
    current: ArcSwap<Version>,
    changes: watch::Sender<u64>,
}

impl Rendition {
    pub(super) fn new(name: TrackName, kind: MediaKind) -> Self {
        let current = ArcSwap::from_pointee(Version::default());
        Self { name, kind, current, changes: watch::channel(0).0 }
    }

    /// Its name, the track's.
    #[must_use]
    pub fn name(&self) -> &TrackName {
        &self.name
    }

    /// Pictures or sound.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    /// The newest version.
    #[must_use]
    pub fn version(&self) -> Arc<Version> {
        self.current.load_full()
    }

    /// A watch that changes with every version.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Where it is, for the playlists of the other renditions; none where it has nothing to play.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let version = self.current.load();
        let (last_msn, last_part) =
            version.snapshot.is_ready().then(|| version.snapshot.last_part()).flatten()?;
        Some(Report { rendition: self.name.to_string(), last_msn, last_part })
    }

    /// Its newest segment; none where it has nothing to play.
    #[must_use]
    pub fn last_msn(&self) -> Option<u64> {
        let version = self.current.load();
        version.snapshot.last_part().filter(|_| version.snapshot.is_ready()).map(|(msn, _)| msn)
    }

    fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(Version::new(snapshot)));
        self.wake();
    }

    /// Has all who wait for a version look again.
    pub(super) fn wake(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    /// Runs until the broadcast has ended. A track that ends before it does (an audio bridge
    /// that nobody listened to) may come back under the same name; the rendition goes on then.
    pub(super) async fn run(self: Arc<Self>, broadcast: Broadcast, options: WindowOptions) {
        let mut driver =
            Driver { rendition: self, window: Window::new(options), last: None, dropped: 0 };
        let mut changes = broadcast.watch();
        loop {
            let track = broadcast.track(&driver.rendition.name);
            let fresh = track.filter(|track| driver.last.is_none() || !track.is_finished());
            let ended = broadcast.state() == BroadcastState::Ended;
            match fresh {
                Some(track) => {
                    let start = match driver.last {
                        Some(last) => Start::At(last.next(), 0),
                        None => Start::Oldest,
                    };
                    driver.follow(track.read(start), &broadcast).await;
                    // A track that ends without a group must not be read again and again.
                    driver.last.get_or_insert_default();
                }
                None if ended => break,
                None => {
                    changes.changed().await;
                }
            }
            if ended {
                break;
            }
        }
        driver.window.end();
        driver.rendition.publish(driver.window.snapshot());
    }
}

struct Driver {
    rendition: Arc<Rendition>,
    window: Window,
    /// The newest group that was read.
    last: Option<GroupSeq>,
    dropped: u64,
}

impl Driver {
    /// Reads a track to its end.
    async fn follow(&mut self, mut cursor: Cursor, broadcast: &Broadcast) {
        let mut cutter = Cutter::default();
        let mut changes = broadcast.watch();
        loop {
            if self.drain(&mut cursor, &mut cutter) {
                return;
            }
            if broadcast.state() == BroadcastState::Ended {
                if tokio::time::timeout(END_GRACE, cursor.changed()).await.is_err() {
                    return;
                }
            } else {
                tokio::select! {
                    () = cursor.changed() => {}
                    _ = changes.changed() => {}
                }
            }
        }
    }

    /// Takes all that is there, and publishes what came of it; says whether the track has ended.
    fn drain(&mut self, cursor: &mut Cursor, cutter: &mut Cutter) -> bool {
        let woken = Instant::now();
        let (mut changed, mut parts, mut over) = (false, 0u32, false);
        while let Some(item) = cursor.try_next() {
            if let Item::Group { group, .. } = &item {
                self.last = Some(group.seq());
            }
            let window = &mut self.window;
            let name = &self.rendition.name;
            cutter.push(&item, |cut| {
                match &cut {
                    Cut::Part(_) => parts += 1,
                    Cut::Broken(error) => {
                        metrics::counter!("headwater_hls_parts_unwritable_total").increment(1);
                        tracing::warn!(rendition = %name, %error, "a part cannot be written");
                    }
                    Cut::TrackEnd => over = true,
                    Cut::Torn => {
                        metrics::counter!("headwater_hls_segments_torn_total").increment(1);
                    }
                    Cut::Begin(_) | Cut::End(_) => {}
                }
                changed = true;
                window.push(cut);
            });
            if over {
                break;
            }
        }
        if changed {
            self.rendition.publish(self.window.snapshot());
            self.count(parts, woken);
        }
        over
    }

    fn count(&mut self, parts: u32, woken: Instant) {
        if parts > 0 {
            metrics::counter!("headwater_hls_parts_total").increment(u64::from(parts));
            metrics::histogram!("headwater_hls_part_latency_seconds").record(woken.elapsed());
        }
        let dropped = self.window.dropped_early();
        if dropped > self.dropped {
            metrics::counter!("headwater_hls_segments_dropped_total", "reason" => "track_bytes")
                .increment(dropped - self.dropped);
            self.dropped = dropped;
        }
    }
}
