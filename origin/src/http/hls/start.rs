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
use crate::packager::playlist::HOLD_BACK_PARTS;
use crate::packager::snapshot::Snapshot;
use crate::packager::{Rendition, StreamRenditions};

/// How long after the video's playlist that of the sound beside it is given to a player that starts,
/// at least. hls.js (1.7) cannot place sound before it has parsed video, which takes it 100 to 200 ms;
/// if the sound's playlist is there first, it looks again every 100 ms and starts that much later.
const AUDIO_AFTER_VIDEO: Duration = Duration::from_millis(180);
/// And at most, where no such playlist was asked for or parts are long. hls.js sought its place by the
/// video's playlist and moves it to where the sound begins, if that is less than 250 ms later; else
/// it goes back for older sound, or waits at a hole.
const AUDIO_AFTER_VIDEO_MAX: Duration = Duration::from_millis(250);
/// By how much more than a whole number of parts that is. The player begins with the part of sound
/// that holds its place, up to a part behind it by chance. A whole number of parts after the video's
/// playlist, which is given at a part's birth, the place is 10 to 40 ms after a part's beginning; and
/// sound's parts begin up to 25 ms before or after those of the video.
const AFTER_PART: Duration = Duration::from_millis(10);
/// How long after the sound's playlist was asked for that of the video has surely been given.
const BOTH_ASKED: Duration = Duration::from_millis(120);
/// hls.js (1.7) takes a segment for loaded of which up to 200 ms are missing at either end, and may then
/// wait for a part of it, or of the next one, that it never asks for, until its picture stands.
const UNNOTICED_MICROS: i64 = 200_000;
/// How many parts later than the video's playlist says, at most, a start is so put off.
const BETTER_STARTS_MAX: usize = 6;
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
        for _ in 0..BETTER_STARTS_MAX {
            birth(waiting, &leader).await;
            if !is_bad_start(leader.version().snapshot()) {
                break;
            }
        }
    }
    stream.note_start(Instant::now());
}

/// Whether a player that starts now would leave so little of a segment out that it does not notice:
/// its sound would begin with the segment's second part or so, or its pictures would end just before
/// the segment's short last part. Just after that, parts are out of step with the place.
fn is_bad_start(snapshot: &Snapshot) -> bool {
    let Some(open) = snapshot.segments.last().filter(|open| open.is_open() && !snapshot.ended)
    else {
        return false;
    };
    let part = snapshot.part_target_micros();
    // The sound begins about 200 ms after the place, which is three parts behind the edge.
    let left_out = open.micros() - HOLD_BACK_PARTS * part + UNNOTICED_MICROS;
    // From 0 on it begins in this segment, though the place may be in the one before.
    let sound = left_out >= 0 && left_out < part + UNNOTICED_MICROS;
    let before = snapshot.segments.iter().rev().skip(1).find(|one| !one.is_gap());
    let ends = before.is_some_and(|before| (before.micros() - open.micros()).abs() < part);
    sound || ends
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

/// Notes that a player was given the leading rendition's playlist, by which it places its start.
pub(super) fn placed(stream: &StreamRenditions, rendition: &Rendition) {
    if leader(stream).is_some_and(|leader| leader.name() == rendition.name()) {
        stream.note_placed(Instant::now());
    }
}

/// Holds the answer of an audio playlist back while a player starts that needs the video's first.
pub(super) async fn after_video(
    waiting: &Arc<Waiting>,
    stream: &StreamRenditions,
    rendition: &Rendition,
) {
    let video = leader(stream).filter(|leader| leader.kind() == MediaKind::Video);
    let Some(video) = video.filter(|_| rendition.kind() == MediaKind::Audio) else { return };
    let asked = Instant::now();
    let started = stream.last_start().filter(|at| asked.duration_since(*at) < START);
    let Some(started) = started else { return };
    pause(waiting, BOTH_ASKED).await;
    let latest = asked + AUDIO_AFTER_VIDEO_MAX;
    let placed = stream.last_placed().filter(|at| *at >= started);
    let target = video.version().snapshot().part_target_micros();
    let at = placed.map_or(latest, |at| latest.min(at + after_place(target)));
    pause(waiting, at.saturating_duration_since(Instant::now())).await;
}

/// How long after the video's playlist that of the sound is given, for parts of `target` microseconds.
fn after_place(target: i64) -> Duration {
    let part = Duration::from_micros(target.max(1_000).unsigned_abs());
    let parts = AUDIO_AFTER_VIDEO.as_micros().div_ceil(part.as_micros());
    part * u32::try_from(parts).unwrap_or(1) + AFTER_PART
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::tests::rig::{Cadence, Rig};

    #[test]
    fn starts_are_put_off_that_leave_less_than_a_player_notices_out_of_a_segment() {
        let mut rig = Rig::video(Cadence::Steady(3_000, 1));
        rig.begin();
        for _ in 0..61 {
            rig.frame();
        }
        rig.begin();
        let mut bad = Vec::new();
        for frames in 1..=61 {
            if is_bad_start(&rig.frame()) {
                bad.push(frames);
            }
        }
        // Parts are of six frames: two parts, where the place is before the segment and the sound in it;
        // three, of which the sound's first is left out; ten, while the one frame after them is no part
        // yet.
        let expected: Vec<_> = (12..24).chain(60..62).collect();
        assert_eq!(bad, expected);
    }

    #[test]
    fn sound_is_given_just_after_a_whole_number_of_parts_after_the_video() {
        for (part_ms, after_ms) in [(20, 190), (50, 210), (100, 210), (200, 210), (66, 208)] {
            assert_eq!(after_place(part_ms * 1_000).as_millis(), after_ms, "{part_ms} ms");
        }
    }
}
