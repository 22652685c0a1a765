//! What is remembered of one viewer: little, since there are thousands.
//!
//! Not here: what it does (`viewers`).

use std::sync::Arc;

use super::super::player::Player;
use super::super::streams::RenditionId;
use super::super::timeline::{Place, Version};
use super::super::units::{At, Media};
use super::TrackId;
use crate::meter::Meter;

#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) stream: usize,
    pub(super) joined: At,
    pub(super) video: Option<Track>,
    pub(super) audio: Option<Track>,
    pub(super) player: Player,
    pub(super) stalled: bool,
    /// Of a sampled viewer.
    pub(super) meter: Option<Box<Meter>>,
    /// Failures in a row of the multivariant playlist.
    pub(super) failures: u8,
}

#[derive(Debug)]
pub(super) struct Track {
    pub(super) rendition: RenditionId,
    pub(super) version: Option<Version>,
    pub(super) next: Option<Place>,
    /// The init section that it has.
    pub(super) map: Option<Arc<str>>,
    /// A part or an init section is under way, or waits to be asked for again.
    pub(super) fetching: bool,
    /// It has come to the live edge: parts are fetched as they are born.
    pub(super) live: bool,
    /// Where the buffer ends; none while it is empty.
    pub(super) end: Option<Media>,
    pub(super) playlist_failures: u8,
    pub(super) media_failures: u8,
}

impl Track {
    pub(super) fn new(rendition: RenditionId) -> Self {
        Self {
            rendition,
            version: None,
            next: None,
            map: None,
            fetching: false,
            live: false,
            end: None,
            playlist_failures: 0,
            media_failures: 0,
        }
    }
}

impl Viewer {
    pub(super) fn track(&mut self, id: TrackId) -> Option<&mut Track> {
        match id {
            TrackId::Video => self.video.as_mut(),
            TrackId::Audio => self.audio.as_mut(),
        }
    }

    /// Where the buffer of all tracks ends.
    pub(super) fn end(&self) -> Option<Media> {
        let video = self.video.as_ref()?.end?;
        match &self.audio {
            Some(audio) => audio.end.map(|end| end.min(video)),
            None => Some(video),
        }
    }

    pub(super) fn is_sampled(&self) -> bool {
        self.meter.is_some()
    }
}
