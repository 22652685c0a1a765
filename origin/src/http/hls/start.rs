//! Lets players start near the edge. They place their start once, by the first media playlist that
//! they read, and never make good what they lose then. Driver: awaits and reads the clock.
//!
//! Not here: what the playlists say (`packager`), what a stream must have to be listed (`serve`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::MediaKind;

use super::serve::goes_on;
use super::wait::{Look, Waiting, pause, until};
use crate::packager::{Rendition, StreamRenditions};

/// How much later than asked for an audio playlist beside video is given to a player that starts.
/// hls.js (1.7) cannot place sound before it has parsed video, which takes it some 200 ms; if the
/// sound's playlist is there first, it looks again every 100 ms and starts that much later.
const AUDIO_AFTER_VIDEO: Duration = Duration::from_millis(250);
/// A player that asked for the multivariant playlist asks for the others within this time.
const START: Duration = Duration::from_secs(1);

/// Whether players can follow a rendition: HLS carries it, and its publisher still brings it.
pub(super) fn plays(stream: &StreamRenditions, rendition: &Rendition) -> bool {
    rendition.version().snapshot().unsupported.is_none() && goes_on(stream, rendition)
}

/// The rendition by which players place their start: the video, where there is one to play.
fn leader(stream: &StreamRenditions) -> Option<Arc<Rendition>> {
    let list = stream.list();
    let video = |one: &&Arc<Rendition>| one.kind() == MediaKind::Video && plays(stream, one);
    list.iter().find(video).or(list.first()).cloned()
}

/// Whether the leading rendition has a whole segment, or never will: players do not begin without
/// one, and look for it again after a second only.
pub(super) fn has_begun(stream: &StreamRenditions) -> bool {
    leader(stream).is_none_or(|leader| {
        let version = leader.version();
        version.snapshot().has_whole_segment() || version.snapshot().unsupported.is_some()
    })
}

/// Waits until the leading rendition has a new part, a part's duration at most. To be called when
/// all else of the multivariant playlist is there: players ask for the media playlist next, and
/// find it at its freshest.
pub(super) async fn next_part(waiting: &Arc<Waiting>, stream: &StreamRenditions) {
    if let Some(leader) = leader(stream) {
        let before = leader.version();
        let target = before.snapshot().part_target_micros().max(0).unsigned_abs();
        let newer = until(waiting, vec![leader.changes()], |_| {
            let version = leader.version();
            if version.snapshot().ended || !Arc::ptr_eq(&version, &before) {
                Look::Done(())
            } else {
                Look::Wait(Duration::from_micros(target))
            }
        });
        // No new part within its time, or too many wait: the playlist as it is will do.
        let _ = newer.await;
    }
    stream.note_start(Instant::now());
}

/// Holds the answer of an audio playlist back while a player starts that needs the video's first.
pub(super) async fn after_video(
    waiting: &Arc<Waiting>,
    stream: &StreamRenditions,
    rendition: &Rendition,
) {
    let beside_video = rendition.kind() == MediaKind::Audio
        && leader(stream).is_some_and(|leader| leader.kind() == MediaKind::Video);
    let starts = || stream.last_start().is_some_and(|at| at.elapsed() < START);
    if beside_video && starts() {
        pause(waiting, AUDIO_AFTER_VIDEO).await;
    }
}
