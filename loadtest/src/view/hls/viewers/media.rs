//! A viewer fetches its media: which part is next, what comes of it.
//!
//! Not here: playlists (`playlists`).

use super::super::client::{Answer, Asks, ClientId, Response};
use super::super::findings::micros;
use super::super::player::Event;
use super::super::timeline::Place;
use super::super::units::{At, Media};
use super::{Tag, TrackId, Viewers};
use crate::histogram::Histogram;
use crate::live::add;
use crate::stamp::Stamp;

impl Viewers {
    /// Asks for the next part of a track, if one is listed and none is under way.
    pub(super) fn pump(&mut self, client: ClientId, id: TrackId, asks: &mut Asks<Tag>) {
        let Some(viewer) = self.viewers.get_mut(client.index()).and_then(Option::as_deref_mut)
        else {
            return;
        };
        let Some(track) = viewer.track(id).filter(|track| !track.fetching) else { return };
        let (Some(next), Some(version)) = (track.next, track.version) else { return };
        let Some(timeline) = self.streams.timeline(track.rendition) else { return };
        let mut next = next;
        if next < timeline.first() {
            self.findings.jumps += 1;
            let start = version.edge - version.start_distance.into();
            next = timeline.start_for(start, version.end).unwrap_or(version.end);
        }
        while next < version.end && timeline.unit(next).is_some_and(|unit| unit.gap) {
            next = next.next();
        }
        track.next = Some(next);
        let Some(unit) = timeline.unit(next).filter(|_| next < version.end) else { return };
        track.fetching = true;
        let tag = if unit.map.is_some() && unit.map != track.map {
            Tag::Init(id)
        } else {
            Tag::Unit(id, next)
        };
        self.ask(client, tag, asks);
    }

    /// An init section came.
    pub(super) fn initialised(&mut self, client: ClientId, id: TrackId, asks: &mut Asks<Tag>) {
        let Some(viewer) = self.viewers.get_mut(client.index()).and_then(Option::as_deref_mut)
        else {
            return;
        };
        let Some(track) = viewer.track(id) else { return };
        let timeline = self.streams.timeline(track.rendition);
        let unit = track.next.and_then(|next| timeline?.unit(next));
        track.map = unit.and_then(|unit| unit.map.clone());
        track.fetching = false;
        track.media_failures = 0;
        self.pump(client, id, asks);
    }

    /// A part or segment came.
    pub(super) fn fetched(
        &mut self,
        client: ClientId,
        (id, place): (TrackId, Place),
        (answer, response): (&Answer<'_>, &Response<'_>),
        asks: &mut Asks<Tag>,
    ) {
        let Some(viewer) = self.viewers.get_mut(client.index()).and_then(Option::as_deref_mut)
        else {
            return;
        };
        let before = viewer.end();
        let Some(track) = viewer.track(id) else { return };
        let timeline = self.streams.timeline(track.rendition);
        let unit = timeline.and_then(|timeline| timeline.unit(place));
        track.fetching = false;
        track.media_failures = 0;
        track.next = Some(place.next());
        let birth = unit.and_then(|unit| unit.birth);
        self.findings.transfers.record(micros(answer.whole.since(answer.sent)));
        if let Some(birth) = birth.filter(|_| track.live) {
            self.findings.part(answer.whole.since(birth), self.options.late_after);
        }
        track.live |= track.version.is_some_and(|version| version.end == place.next());
        if let Some(unit) = unit {
            track.end = Some(unit.end());
        }
        self.play(client, answer.whole, before);
        if id == TrackId::Video {
            self.look(client, response.body, answer.whole, birth);
        }
        self.pump(client, id, asks);
    }

    /// The buffer's end moved from `before`.
    fn play(&mut self, client: ClientId, now: At, before: Option<Media>) {
        let Some(viewer) = self.viewers.get_mut(client.index()).and_then(Option::as_deref_mut)
        else {
            return;
        };
        let Some(end) = viewer.end() else { return };
        match viewer.player.buffer(now, before.unwrap_or(end), end) {
            Some(Event::Started) => {
                self.findings.startup.record(micros(now.since(viewer.joined)));
                add(&self.side.active, 1);
            }
            Some(Event::Resumed(stall)) => {
                viewer.stalled = true;
                self.findings.stalls.record(micros(stall));
            }
            None => {}
        }
    }

    /// A sampled viewer looks for the stamps in a part.
    fn look(&mut self, client: ClientId, body: &[u8], now: At, birth: Option<At>) {
        let wall_us = self.wall_us(now);
        let born_us = birth.map(|birth| self.wall_us(birth));
        let Some(viewer) = self.viewers.get_mut(client.index()).and_then(Option::as_deref_mut)
        else {
            return;
        };
        let Some(meter) = viewer.meter.as_deref_mut() else { return };
        let mut interval = Histogram::default();
        let (mut frames, mut last) = (0, None);
        for stamp in Stamp::find_all(body) {
            frames += 1;
            last = Some(stamp.sent_us);
            if let Some(latency) = meter.on_frame(stamp, wall_us) {
                interval.record(latency);
            }
        }
        add(&self.side.frames, frames);
        self.side.latencies(&interval);
        if let Some((born_us, sent_us)) = born_us.zip(last) {
            self.findings.births.record(born_us.saturating_sub(sent_us));
        }
    }
}
