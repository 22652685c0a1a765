//! The audio bridge: Opus of AAC for WebRTC, AAC of Opus for players that know no Opus.
//!
//! A bridge lives while somebody listens and for a while after, and its product is one more
//! audio track of the broadcast, cut into the same groups. Not here: the conversion itself
//! (`converter`), the codecs (`codecs`).

mod codecs;
mod converter;
mod demand;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use headwater_media::{
    Broadcast, BroadcastState, Item, MediaKind, Start, StreamName, Track, TrackName,
};
use parking_lot::Mutex;

pub use self::codecs::AudioTarget;
use self::converter::Converter;
pub use self::demand::HlsAudio;
use crate::clock::Clock;

/// Groups before the newest that a new bridge makes first.
const GROUPS_BACK: usize = 3;

/// Settings of the bridge.
#[derive(Clone, Debug)]
pub struct AudioOptions {
    /// How long a bridge lives on after its last listener (30 s).
    pub linger: Duration,
    /// Part duration aimed at, as for all tracks.
    pub part_target: Duration,
    /// Bits a second of what is made, in either codec (128 kb/s).
    pub bitrate_bps: u32,
    /// Bridges at once (`[limits] audio_bridges`, 256): each costs about a hundredth of a core.
    pub bridges_max: usize,
}

impl Default for AudioOptions {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(30),
            part_target: Duration::from_millis(200),
            bitrate_bps: 128_000,
            bridges_max: 256,
        }
    }
}

/// All bridges of the node. Cheap to clone.
#[derive(Clone)]
pub struct AudioBridges {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    options: AudioOptions,
    made_here: MadeHere,
    running: Mutex<Running>,
}

/// Whether a broadcast is published on this node. The owner of a stream alone transcodes it, so
/// that all nodes serve the same bytes; the others take its further tracks from there.
pub type MadeHere = Arc<dyn Fn(&Broadcast) -> bool + Send + Sync>;

/// The bridges that run.
type Running = HashMap<(StreamName, AudioTarget), Arc<Lease>>;

/// Who still wants a bridge.
struct Lease {
    listeners: AtomicUsize,
    /// Microseconds of wall-clock time.
    last_wanted: AtomicI64,
}

/// Keeps a bridge alive while a listener holds it.
pub struct Listening {
    clock: Clock,
    lease: Arc<Lease>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.lease.last_wanted.store(self.clock.now().micros(), Ordering::Relaxed);
        self.lease.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

fn source(broadcast: &Broadcast) -> Option<Track> {
    broadcast.track(&TrackName::audio())
}

fn speaks(track: &Track, target: AudioTarget) -> bool {
    track.config().is_some_and(|config| target.is(&config.codec))
}

impl AudioBridges {
    /// No bridges yet.
    #[must_use]
    pub fn new(clock: Clock, options: AudioOptions, made_here: MadeHere) -> Self {
        let running = Mutex::default();
        Self { shared: Arc::new(Shared { clock, options, made_here, running }) }
    }

    /// Whether the stream's owner is another node, which makes further tracks of its audio: owners
    /// do that for nodes that
    /// take a stream from them.
    #[must_use]
    pub fn comes_from_elsewhere(&self, broadcast: &Broadcast) -> bool {
        let config = source(broadcast).and_then(|track| track.config());
        !(self.shared.made_here)(broadcast)
            && config.is_some_and(|config| AudioTarget::can_read(&config.codec))
    }

    /// Ends all bridges of a stream, which this node publishes no longer.
    pub fn end(&self, broadcast: &Broadcast) {
        let mut running = self.shared.running.lock();
        for target in AudioTarget::ALL {
            if running.remove(&(broadcast.name().clone(), target)).is_some() {
                broadcast.remove_track(&target.track_name());
            }
        }
    }

    /// Whether the broadcast's own audio is `target` already.
    #[must_use]
    pub fn is_source(&self, broadcast: &Broadcast, target: AudioTarget) -> bool {
        source(broadcast).is_some_and(|track| speaks(&track, target))
    }

    /// Says that `broadcast`'s audio is wanted as `target` from now on: begins a bridge where the
    /// source is of another codec. `None` where it needs none, or none can be had.
    #[must_use]
    pub fn listen(&self, broadcast: &Broadcast, target: AudioTarget) -> Option<Listening> {
        let source = source(broadcast)?;
        let codec = source.config()?.codec.clone();
        let made_here = (self.shared.made_here)(broadcast);
        if target.is(&codec) || !AudioTarget::can_read(&codec) || !made_here {
            return None;
        }
        let key = (broadcast.name().clone(), target);
        let now = self.shared.clock.now().micros();
        let mut running = self.shared.running.lock();
        // A bridge of an earlier broadcast of this name may be about to end.
        let here = broadcast.track(&target.track_name()).is_some();
        if let Some(lease) = running.get(&key).filter(|_| here) {
            lease.last_wanted.store(now, Ordering::Relaxed);
            lease.listeners.fetch_add(1, Ordering::Relaxed);
            return Some(Listening { clock: self.shared.clock, lease: Arc::clone(lease) });
        }
        if running.len() >= self.shared.options.bridges_max {
            metrics::counter!("headwater_audio_bridges_refused_total").increment(1);
            tracing::warn!(stream = %broadcast.name(), limit = running.len(),
                "no audio bridge: `[limits] audio_bridges` is reached");
            return None;
        }
        let writer = match broadcast.add_track(target.track_name(), MediaKind::Audio) {
            Ok(writer) => writer,
            Err(error) => {
                tracing::warn!(stream = %broadcast.name(), %error, "no audio bridge");
                return None;
            }
        };
        let listeners = AtomicUsize::new(1);
        let lease = Arc::new(Lease { listeners, last_wanted: AtomicI64::new(now) });
        running.insert(key.clone(), Arc::clone(&lease));
        let converter = Converter::new(target, writer, self.shared.options.clone());
        let shared = Arc::clone(&self.shared);
        tokio::spawn(run(shared, key, broadcast.clone(), source, converter, Arc::clone(&lease)));
        Some(Listening { clock: self.shared.clock, lease })
    }

    /// The broadcast's audio as `target`: its own track or a bridge's, once that has begun; waits
    /// up to `timeout`. The second value keeps a bridge alive.
    pub async fn track(
        &self,
        broadcast: &Broadcast,
        target: AudioTarget,
        timeout: Duration,
    ) -> Option<(Track, Option<Listening>)> {
        let source = source(broadcast)?;
        if speaks(&source, target) {
            return Some((source, None));
        }
        let listening = self.listen(broadcast, target);
        if listening.is_none() && !self.comes_from_elsewhere(broadcast) {
            return None;
        }
        let begun = async {
            let track = appears(broadcast, &target.track_name()).await?;
            track.ready().await.then_some(track)
        };
        let track = tokio::time::timeout(timeout, begun).await.ok()??;
        Some((track, listening))
    }
}

/// Waits for a track of that name; nothing when the broadcast ends first.
async fn appears(broadcast: &Broadcast, name: &TrackName) -> Option<Track> {
    let mut changes = broadcast.watch();
    loop {
        if let Some(track) = broadcast.track(name) {
            return Some(track);
        }
        if broadcast.state() == BroadcastState::Ended || !changes.changed().await {
            return None;
        }
    }
}

/// Drives one bridge until nobody wants it or the source ends.
async fn run(
    shared: Arc<Shared>,
    key: (StreamName, AudioTarget),
    broadcast: Broadcast,
    source: Track,
    mut converter: Converter,
    lease: Arc<Lease>,
) {
    let place = Place::take(shared, key, broadcast, lease);
    drive(&place, &source, &mut converter).await;
    drop(place);
    converter.finish();
}

/// A bridge's place among those that run, given back also by one that panics.
struct Place {
    shared: Arc<Shared>,
    key: (StreamName, AudioTarget),
    broadcast: Broadcast,
    lease: Arc<Lease>,
}

impl Place {
    fn take(
        shared: Arc<Shared>,
        key: (StreamName, AudioTarget),
        broadcast: Broadcast,
        lease: Arc<Lease>,
    ) -> Self {
        metrics::gauge!("headwater_audio_bridges").increment(1.0);
        tracing::info!(stream = %key.0, codec = key.1.as_str(), "audio bridge begins");
        Self { shared, key, broadcast, lease }
    }

    /// Takes the bridge off the list when nobody has wanted it for long enough; true also when it
    /// was taken off already.
    fn let_go_if_idle(&self) -> bool {
        let mut running = self.shared.running.lock();
        if !running.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &self.lease)) {
            return true;
        }
        let last_wanted = self.lease.last_wanted.load(Ordering::Relaxed);
        let idle = self.shared.clock.now().micros() - last_wanted;
        let linger = self.shared.options.linger.as_micros();
        let linger = i64::try_from(linger).unwrap_or(i64::MAX);
        if self.lease.listeners.load(Ordering::Relaxed) > 0 || idle <= linger {
            return false;
        }
        self.let_go(&mut running);
        true
    }

    /// Under the lock that `listen` adds tracks with, and only once: the name may be another
    /// bridge's by now.
    fn let_go(&self, running: &mut Running) {
        if running.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &self.lease)) {
            running.remove(&self.key);
            self.broadcast.remove_track(&self.key.1.track_name());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.let_go(&mut self.shared.running.lock());
        metrics::gauge!("headwater_audio_bridges").decrement(1.0);
        tracing::info!(stream = %self.key.0, codec = self.key.1.as_str(), "audio bridge ends");
    }
}

async fn drive(place: &Place, source: &Track, converter: &mut Converter) {
    // As much of the past as a player may start from; more would hold up the present.
    let window = source.window();
    let first = window.get(window.len().saturating_sub(1 + GROUPS_BACK));
    let mut cursor = source.read(first.map_or(Start::Oldest, |group| Start::At(group.seq(), 0)));
    let mut watch = place.broadcast.watch();
    loop {
        let item = tokio::select! {
            item = cursor.next() => item,
            // The end of the broadcast, where the source track stays as it is.
            changed = watch.changed() => {
                if !changed || place.broadcast.state() == BroadcastState::Ended { return }
                continue

            }
        };
        let boundary = matches!(item, Item::Group { .. });
        if matches!(item, Item::End) {
            return;
        }
        if let Err(error) = converter.take(item) {
            metrics::counter!("headwater_audio_bridge_errors_total").increment(1);
            tracing::debug!(stream = %place.key.0, %error, "the bridge lost some audio");
        }
        if boundary && place.let_go_if_idle() {
            return;
        }
        // A window's backlog is a burst of work: let others in between.
        tokio::task::consume_budget().await;
    }
}

#[cfg(test)]
mod tests;
