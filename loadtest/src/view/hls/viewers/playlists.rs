//! A viewer gets a playlist: what it learns, when it asks again, where it begins to play.
//!
//! Not here: parts (`media`).

use super::super::client::{Answer, Asks, ClientId, Response};
use super::super::playlist::Reload;
use super::viewer::Track;
use super::{Tag, TrackId, Viewers};

impl Viewers {
    /// The stream's first playlist came.
    pub(super) fn opened(
        &mut self,
        client: ClientId,
        response: &Response<'_>,
        asks: &mut Asks<Tag>,
    ) -> bool {
        let Some(viewer) = self.viewers.get_mut(client.index()).and_then(Option::as_deref_mut)
        else {
            return true;
        };
        match self.streams.open(viewer.stream, response.body, response.gzip) {
            Ok(playable) => {
                viewer.video = Some(Track::new(playable.video));
                viewer.audio = playable.audio.map(Track::new);
                let has_audio = viewer.audio.is_some();
                self.ask(client, Tag::Playlist(TrackId::Video, None), asks);
                if has_audio {
                    self.ask(client, Tag::Playlist(TrackId::Audio, None), asks);
                }
                true
            }
            Err(error) => {
                self.findings.faults.note("no playlist", || error.to_string());
                false
            }
        }
    }

    /// A media playlist came.
    pub(super) fn listed(
        &mut self,
        client: ClientId,
        (id, asked): (TrackId, Option<Reload>),
        (answer, response): (&Answer<'_>, &Response<'_>),
        asks: &mut Asks<Tag>,
    ) -> bool {
        let Some(viewer) = self.viewers.get_mut(client.index()).and_then(Option::as_deref_mut)
        else {
            return true;
        };
        let Some(track) = viewer.track(id) else { return true };
        let Some(timeline) = self.streams.timeline_mut(track.rendition) else { return true };
        let taken = timeline.take(answer.first_byte, response.body, response.gzip);
        let version = match taken {
            Ok(version) => version,
            Err(error) => {
                self.findings.faults.note("no media playlist", || error.to_string());
                return false;
            }
        };
        track.playlist_failures = 0;
        let before = track.version.map(|before| before.reload);
        self.findings.went_back += u64::from(before > Some(version.reload));
        let advanced = before < Some(version.reload);
        if asked.is_some() && advanced {
            let birth = timeline.unit(version.end.previous()).and_then(|unit| unit.birth);
            match birth.filter(|birth| answer.sent < *birth) {
                Some(birth) => {
                    let after = answer.first_byte.since(birth);
                    self.findings.answer(after, self.options.late_after);
                }
                None => self.findings.at_once += 1,
            }
        }
        // A late answer does not take back what is known already.
        if before <= Some(version.reload) {
            track.version = Some(version);
        }
        if !version.ended {
            let next = track.version.and_then(|version| version.reload);
            if version.can_block && advanced {
                self.ask(client, Tag::Playlist(id, next), asks);
            } else {
                let next = next.filter(|_| version.can_block);
                self.later(answer.whole + version.pause, client, Tag::Playlist(id, next));
            }
        }
        self.begin(client);
        self.pump(client, TrackId::Video, asks);
        self.pump(client, TrackId::Audio, asks);
        true
    }

    /// Chooses where a viewer begins, once it has its playlists.
    pub(super) fn begin(&mut self, client: ClientId) {
        let Some(viewer) = self.viewers.get_mut(client.index()).and_then(Option::as_deref_mut)
        else {
            return;
        };
        let Some(version) = viewer.video.as_ref().and_then(|track| track.version) else { return };
        if viewer.player.start().is_none() {
            viewer.player.seek(version.edge - version.start_distance.into());
        }
        let Some(start) = viewer.player.start() else { return };
        for track in viewer.video.iter_mut().chain(viewer.audio.iter_mut()) {
            let Some(version) = track.version.filter(|_| track.next.is_none()) else { continue };
            let timeline = self.streams.timeline(track.rendition);
            track.next = timeline.and_then(|timeline| timeline.start_for(start, version.end));
        }
    }
}
