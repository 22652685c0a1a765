//! What all viewers of one thread know together: of each stream its multivariant playlist, of
//! each media playlist its timeline.
//!
//! Not here: what a viewer does with it (`viewers`).

use std::fmt::Write as _;
use std::sync::Arc;

use super::multivariant::{choose, is_multivariant, resolve};
use super::playlist::Reload;
use super::timeline::{TextError, Timeline, unpack};

/// The number of a media playlist in [`Streams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenditionId(usize);

/// The media playlists that a viewer of a stream plays: its picture, and its sound apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Playable {
    /// The picture, or whatever the variant's own playlist has.
    pub video: RenditionId,
    /// The sound, where it has a playlist of its own.
    pub audio: Option<RenditionId>,
}

/// See the module.
#[derive(Debug)]
pub struct Streams {
    streams: Vec<Stream>,
    renditions: Vec<Rendition>,
    video_only: bool,
}

#[derive(Debug)]
struct Stream {
    path: Arc<str>,
    /// The last body, and what it led to.
    known: Option<(Vec<u8>, Playable)>,
}

#[derive(Debug)]
struct Rendition {
    timeline: Timeline,
    /// The path of the last reload that was asked for: most viewers ask for the same.
    reload: Option<(Reload, bool, Arc<str>)>,
}

impl Streams {
    /// Streams whose playlists are at `paths`; with `video_only`, sound is left alone.
    #[must_use]
    pub fn new(paths: Vec<Arc<str>>, video_only: bool) -> Self {
        let streams = paths.into_iter().map(|path| Stream { path, known: None }).collect();
        Self { streams, renditions: Vec::new(), video_only }
    }

    /// Path of the playlist of stream `index`, modulo their number.
    #[must_use]
    pub fn path(&self, index: usize) -> Option<Arc<str>> {
        let index = index.checked_rem(self.streams.len())?;
        self.streams.get(index).map(|stream| Arc::clone(&stream.path))
    }

    /// Takes the body at [`Streams::path`], which may be a media playlist itself. None where it
    /// is none of both.
    ///
    /// # Errors
    /// It is no text, or names nothing to play.
    pub fn open(&mut self, index: usize, body: &[u8], gzip: bool) -> Result<Playable, TextError> {
        let index = index.checked_rem(self.streams.len()).ok_or(TextError::Text)?;
        let stream = self.streams.get(index).ok_or(TextError::Text)?;
        match &stream.known {
            Some((text, playable)) if text == body => return Ok(*playable),
            _ => {}
        }
        let unpacked = if gzip { Some(unpack(body)?) } else { None };
        let text = std::str::from_utf8(unpacked.as_deref().unwrap_or(body));
        let text = text.map_err(|_| TextError::Text)?;
        let path = Arc::clone(&stream.path);
        let playable = if is_multivariant(text) {
            let chosen = choose(text).ok_or(super::playlist::PlaylistError::Empty)?;
            let audio = chosen.audio.filter(|_| !self.video_only);
            Playable {
                video: self.rendition(&resolve(&path, &chosen.video)),
                audio: audio.map(|uri| self.rendition(&resolve(&path, &uri))),
            }
        } else if text.starts_with("#EXTM3U") {
            Playable { video: self.rendition(&path), audio: None }
        } else {
            return Err(super::playlist::PlaylistError::NotAPlaylist.into());
        };
        if let Some(stream) = self.streams.get_mut(index) {
            stream.known = Some((body.to_vec(), playable));
        }
        Ok(playable)
    }

    /// The rendition whose playlist is at `path`, known or new.
    fn rendition(&mut self, path: &str) -> RenditionId {
        let found = self.renditions.iter().position(|known| &**known.timeline.path() == path);
        RenditionId(found.unwrap_or_else(|| {
            let timeline = Timeline::new(Arc::from(path));
            self.renditions.push(Rendition { timeline, reload: None });
            self.renditions.len() - 1
        }))
    }

    /// The timeline of a rendition.
    #[must_use]
    pub fn timeline(&self, id: RenditionId) -> Option<&Timeline> {
        self.renditions.get(id.0).map(|rendition| &rendition.timeline)
    }

    /// The same, to learn from a body.
    pub fn timeline_mut(&mut self, id: RenditionId) -> Option<&mut Timeline> {
        self.renditions.get_mut(id.0).map(|rendition| &mut rendition.timeline)
    }

    /// All timelines.
    pub fn timelines(&self) -> impl Iterator<Item = &Timeline> {
        self.renditions.iter().map(|rendition| &rendition.timeline)
    }

    /// The path that asks for a playlist, at once or by a blocking reload, whole or by a delta
    /// update.
    pub fn playlist_path(
        &mut self,
        id: RenditionId,
        reload: Option<Reload>,
        skip: bool,
    ) -> Option<Arc<str>> {
        let rendition = self.renditions.get_mut(id.0)?;
        let path = rendition.timeline.path();
        let Some(reload) = reload else { return Some(Arc::clone(path)) };
        match &rendition.reload {
            Some((of, skipping, path)) if (*of, *skipping) == (reload, skip) => {
                return Some(Arc::clone(path));
            }
            _ => {}
        }
        let path = reload_path(path, reload, skip);
        rendition.reload = Some((reload, skip, Arc::clone(&path)));
        Some(path)
    }
}

/// Adds the delivery directives to a playlist's path, in the order in which hls.js writes them.
#[must_use]
pub fn reload_path(path: &str, reload: Reload, skip: bool) -> Arc<str> {
    let mut text = path.to_owned();
    let separator = if path.contains('?') { '&' } else { '?' };
    let _ = write!(text, "{separator}_HLS_msn={}", reload.msn);
    if let Some(part) = reload.part {
        let _ = write!(text, "&_HLS_part={part}");
    }
    if skip {
        text.push_str("&_HLS_skip=YES");
    }
    Arc::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MULTIVARIANT: &str = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"-/audio/i.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\n-/video/i.m3u8\n";

    #[test]
    fn a_stream_is_opened_once_for_all_its_viewers() {
        let mut streams = Streams::new(vec![Arc::from("/hls/s/i.m3u8")], false);
        let first = streams.open(0, MULTIVARIANT.as_bytes(), false).unwrap();
        assert_eq!(streams.open(5, MULTIVARIANT.as_bytes(), false), Ok(first));
        assert_eq!(streams.timelines().count(), 2);
        let audio = streams.timeline(first.audio.unwrap()).unwrap();
        assert_eq!(&**audio.path(), "/hls/s/-/audio/i.m3u8");
        assert!(streams.open(0, b"<html>", false).is_err());
        let media = streams.open(0, b"#EXTM3U\n#EXTINF:1,\na\n", false).unwrap();
        assert_eq!(&**streams.timeline(media.video).unwrap().path(), "/hls/s/i.m3u8");
    }

    #[test]
    fn reloads_carry_the_directives() {
        let reload = Reload { msn: 7, part: Some(3) };
        assert_eq!(&*reload_path("/a", reload, true), "/a?_HLS_msn=7&_HLS_part=3&_HLS_skip=YES");
        let whole = Reload { msn: 7, part: None };
        assert_eq!(&*reload_path("/a?t=1", whole, false), "/a?t=1&_HLS_msn=7");
    }
}
