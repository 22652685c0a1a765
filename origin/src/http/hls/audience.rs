//! Counts the players that follow a stream by its playlists. Driver: reads the clock.
//!
//! Not here: the arithmetic (`packager::audience`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::sync::Arc;
use std::time::Instant;

use headwater_media::{MediaKind, StreamName};

use super::start::plays;
use crate::packager::snapshot::Snapshot;
use crate::packager::{Packager, Rendition, StreamRenditions, taken_micros};

/// Notes that so many players were given a playlist of those who asked for this. A player of pictures and sound follows two: the
/// pictures' counts.
pub(super) fn note(
    stream: &StreamRenditions,
    rendition: &Rendition,
    (msn, part): (Option<u64>, Option<u64>),
    snapshot: &Snapshot,
    players: u64,
) {
    let pictures = || {
        let video = |one: &Arc<Rendition>| one.kind() == MediaKind::Video && plays(stream, one);
        stream.list().iter().any(video)
    };
    if rendition.kind() == MediaKind::Video || !pictures() {
        let micros = taken_micros(snapshot, msn, part);
        let players = i64::try_from(players).unwrap_or(i64::MAX);
        stream.note_taken(Instant::now(), micros.saturating_mul(players));
    }
}

/// Players that follow a stream by HLS now, as far as this node sees them.
#[must_use]
pub fn viewers(packager: &Packager, stream: &StreamName) -> usize {
    packager.get(stream).map_or(0, |stream| stream.viewers(Instant::now()))
}

/// Players that follow any stream by HLS.
#[must_use]
pub fn viewers_in_all(packager: &Packager) -> usize {
    let now = Instant::now();
    packager.list().iter().map(|stream| stream.viewers(now)).sum()
}
