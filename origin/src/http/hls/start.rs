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

/// How much later than asked for an audio playlist beside video is given to a player that starts,
/// at least. hls.js (1.7) cannot place sound before it has parsed video, which takes it some 200 ms;
/// if the sound's playlist is there first, it looks again every 100 ms and starts that much later.
const AUDIO_AFTER_VIDEO: Duration = Duration::from_millis(250);
/// How long after a part's birth it is then given. Where the player finds its place by the sound, it
/// starts with the part that holds the place, and so up to a part behind it. Just after a birth the
/// place, three parts behind the edge by the player's own clock, is just after a part's beginning;
/// this much after, so that parts which come a little late do not put it just before.
const AFTER_BIRTH: Duration = Duration::from_millis(20);
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
        birth(waiting, &leader).await;
    }
    stream.note_start(Instant::now());
}

/// Waits until the rendition has a new part, a part's duration at most.
async fn birth(waiting: &Arc<Waiting>, leader: &Rendition) {
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

/// Holds the answer of an audio playlist back while a player starts that needs the video's first.
pub(super) async fn after_video(
    waiting: &Arc<Waiting>,
    stream: &StreamRenditions,
    rendition: &Rendition,
) {
    let video = leader(stream).filter(|leader| leader.kind() == MediaKind::Video);
    let Some(video) = video.filter(|_| rendition.kind() == MediaKind::Audio) else { return };
    if stream.last_start().is_some_and(|at| at.elapsed() < START) {
        pause(waiting, AUDIO_AFTER_VIDEO).await;
        birth(waiting, &video).await;
        pause(waiting, AFTER_BIRTH).await;
    }
}
