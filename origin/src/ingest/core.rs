//! One stream's ingest: takes a publisher's frames, gives them final times, and cuts all tracks
//! into groups at the same boundaries under the same numbers.
//!
//! Video leads: its keyframes begin groups, and the other tracks are cut where it was. A stream
//! without video is led by its first audio track. Not here: the mapping of time stamps
//! (`source_clock`), the times within a track (`timeline`), who may publish (`streams`).

mod group;
mod numbers;
mod reorder;
mod track;

pub(crate) use numbers::{Numbers, floor_of_unknown};

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use headwater_cluster::command::{Cut, Grant};
use headwater_media::broadcast::AddTrackError;
use headwater_media::{
    Broadcast, BroadcastState, ClockRate, Codec, Epoch, Frame, GroupHeader, GroupSeq, MediaKind,
    MediaTime, SessionId, TrackName, TrackWriter, WallTime,
};

use self::group::TargetDuration;
use self::track::{Mapped, SessionTrack, Slot};
use super::policy::{IngestOptions, PushError, RawFrame, TrackId};
use super::source_clock::{SourceClock, Verdict};

/// How long other tracks wait for the video that was announced.
const LEADER_WAIT_MICROS: i64 = 3_000_000;
/// Frames kept while a track's cadence is measured or its leader awaited.
const HELD_FRAMES_MAX: usize = 1_024;
/// A cadence is taken as measured at the latest when this much time has passed.
const CADENCE_WAIT_MICROS: i64 = 500_000;
/// The bitrate limit is judged over windows of two seconds.
const BITRATE_WINDOW_MICROS: i64 = 2_000_000;
/// A track that a new publisher has not brought after this time is over.
const ABANDONED_TRACK_MICROS: i64 = 5_000_000;

/// A stream's numbers, tracks and, while there is one, its publisher's session.
pub(crate) struct StreamCore {
    broadcast: Broadcast,
    options: IngestOptions,
    /// Wall-clock time of the broadcast timeline's zero.
    zero: Option<WallTime>,
    /// By how much the last publisher's drift has moved that clock, in microseconds.
    slew: i64,
    epoch: Epoch,
    numbers: Numbers,
    target: TargetDuration,
    slots: Vec<Slot>,
    session: Option<Session>,
    warnings: BTreeMap<&'static str, String>,
}

struct Session {
    id: SessionId,
    since: WallTime,
    /// When its last frame came; at first, when it began.
    heard: WallTime,
    clock: SourceClock,
    tracks: Vec<SessionTrack>,
    /// Leads the cutting, once it has begun a group.
    leader: Option<usize>,
    /// The leader's newest group and where it began, in microseconds of the timeline.
    newest: Option<(GroupSeq, i64)>,
    keyframes_on_request: bool,
    /// Groups in a row that began as they should.
    regular_groups: u32,
    bitrate: BitrateMeter,
    abandoned_checked: bool,
}

#[derive(Default)]
struct BitrateMeter {
    since: Option<WallTime>,
    bytes: u64,
}

impl BitrateMeter {
    fn take(&mut self, bytes: usize, now: WallTime, limit: u64) -> Result<(), PushError> {
        let since = *self.since.get_or_insert(now);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let elapsed = now.micros_since(since);
        // Within a window the sum alone is judged, so that a burst is caught before its end.
        let window = BITRATE_WINDOW_MICROS.max(elapsed).unsigned_abs();
        let bps = self.bytes.saturating_mul(8_000_000) / window;
        if bps > limit {
            return Err(PushError::Bitrate { bps, limit });
        }
        if elapsed >= BITRATE_WINDOW_MICROS {
            *self = Self { since: Some(now), bytes: 0 };
        }
        Ok(())
    }
}

impl StreamCore {
    pub(crate) fn new(broadcast: Broadcast, options: IngestOptions) -> Self {
        Self {
            broadcast,
            options,
            zero: None,
            slew: 0,
            epoch: Epoch::default(),
            numbers: Numbers::default(),
            target: TargetDuration::default(),
            slots: Vec::new(),
            session: None,
            warnings: BTreeMap::new(),
        }
    }

    /// Goes on where another node stopped: with its broadcast as this node has it, and the writers
    /// of its tracks. A group that is still open has not got what was agreed of it, and is torn.
    pub(crate) fn adopt(
        broadcast: Broadcast,
        options: IngestOptions,
        writers: Vec<TrackWriter>,
    ) -> Self {
        let mut core = Self::new(broadcast, options);
        for mut writer in writers {
            writer.tear_group();
            let newest = writer.track().newest();
            if let Some(group) = &newest {
                let header = group.header();
                core.numbers.epoch = core.numbers.epoch.max(header.epoch);
                core.numbers.next_group = core.numbers.next_group.max(header.seq.next());
                core.numbers.discontinuity = core.numbers.discontinuity.max(header.discontinuity);
                core.inherit(Some(Heritage::of(header, group.frame(0))));
            }
            core.slots.push(Slot::adopt(writer, newest.as_deref()));
        }
        core
    }

    /// Goes on with what another node knows, where this one has nothing of the stream.
    pub(crate) fn inherit(&mut self, heritage: Option<Heritage>) {
        let Some(Heritage { zero, target_duration_s }) = heritage else { return };
        self.zero = self.zero.or(zero);
        self.target.keep(target_duration_s);
    }

    pub(crate) fn broadcast(&self) -> &Broadcast {
        &self.broadcast
    }

    /// The publisher's session, while there is one.
    pub(crate) fn publisher(&self) -> Option<SessionId> {
        self.session.as_ref().map(|session| session.id)
    }

    /// For how long the publisher has sent no frame on any track; zero without one.
    pub(crate) fn silent_for(&self, now: WallTime) -> Duration {
        let silent = self.session.as_ref().map_or(0, |session| now.micros_since(session.heard));
        Duration::from_micros(silent.max(0).unsigned_abs())
    }

    /// What an operator or a viewer should know about this stream, a sentence each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.values().cloned().collect()
    }

    pub(crate) fn warn(&mut self, key: &'static str, text: String) {
        if self.warnings.get(key) != Some(&text) {
            tracing::warn!(stream = %self.broadcast.name(), kind = key, "{text}");
            self.warnings.insert(key, text);
        }
    }

    /// Where the numbers have come to.
    pub(crate) fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// More numbers are reserved, up to that one.
    pub(crate) fn reserved(&mut self, epoch: Epoch, reserved_to: GroupSeq) {
        if epoch == self.epoch {
            self.numbers.reserved_to = self.numbers.reserved_to.max(reserved_to);
        }
    }

    /// A publisher's session begins, in an epoch of its own and under the numbers it was granted.
    pub(crate) fn begin(&mut self, id: SessionId, now: WallTime, grant: Grant) {
        self.numbers.begin_session(grant);
        self.epoch = self.numbers.epoch;
        self.warnings.clear();
        let zero = *self.zero.get_or_insert_with(|| SourceClock::zero_for(now));
        self.keep_slew();
        self.session = Some(Session {
            id,
            since: now,
            heard: now,
            clock: SourceClock::new(zero, self.slew),
            tracks: Vec::new(),
            leader: None,
            newest: None,
            keyframes_on_request: false,
            regular_groups: 0,
            bitrate: BitrateMeter::default(),
            abandoned_checked: false,
        });
        self.broadcast.set_state(BroadcastState::Live);
    }

    fn keep_slew(&mut self) {
        self.slew = self.session.as_ref().map_or(self.slew, |session| session.clock.slew());
    }

    /// The publisher of `epoch` is gone: open groups end, so that all that came can be played.
    pub(crate) fn leave(&mut self, epoch: Epoch) -> bool {
        if self.epoch != epoch || self.session.is_none() {
            return false;
        }
        self.keep_slew();
        self.session = None;
        for slot in &mut self.slots {
            slot.writer.end_group();
        }
        self.broadcast.set_state(BroadcastState::Waiting);
        true
    }

    /// Ends the open groups where the cluster has agreed that they end. One that has other frames
    /// than that, or of which nothing was agreed, is torn.
    pub(crate) fn cut(&mut self, cuts: &[Cut]) {
        for slot in &mut self.slots {
            let Some(open) = slot.writer.current() else { continue };
            let here = (slot.name.clone(), open.seq(), open.len());
            if cuts.iter().any(|cut| (cut.track.clone(), cut.group, cut.frames) == here) {
                slot.writer.end_group();
            } else {
                slot.writer.tear_group();
            }
        }
    }

    /// Another node goes on with the broadcast: gives the writers of its tracks.
    pub(crate) fn hand_over(&mut self) -> Vec<TrackWriter> {
        self.session = None;
        self.slots.drain(..).map(|slot| slot.writer).collect()
    }

    /// The broadcast is over; gives the numbers that a later one of this name goes on from.
    pub(crate) fn end(&mut self) -> Numbers {
        self.session = None;
        for slot in self.slots.drain(..) {
            slot.writer.finish();
        }
        self.broadcast.set_state(BroadcastState::Ended);
        self.numbers
    }

    fn session(&mut self, epoch: Epoch) -> Option<&mut Session> {
        if epoch == self.epoch { self.session.as_mut() } else { None }
    }

    /// False when the epoch is over.
    pub(crate) fn is_current(&self, epoch: Epoch) -> bool {
        epoch == self.epoch && self.session.is_some()
    }

    pub(crate) fn set_keyframes_on_request(&mut self, epoch: Epoch) {
        if let Some(session) = self.session(epoch) {
            session.keyframes_on_request = true;
        }
    }

    pub(crate) fn add_track(
        &mut self,
        epoch: Epoch,
        kind: MediaKind,
    ) -> Result<TrackId, PushError> {
        let Some(session) = self.session.as_ref().filter(|_| epoch == self.epoch) else {
            return Err(PushError::NoTrack);
        };
        let same_kind = session.tracks.iter().filter(|track| track.kind == kind).count();
        let stem = match kind {
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
        };
        let text = if same_kind == 0 { stem.into() } else { format!("{stem}-{}", same_kind + 1) };
        let name = TrackName::parse(&text).map_err(|_| PushError::NoTrack)?;
        let slot = match self.slots.iter().position(|slot| slot.name == name) {
            Some(slot) => slot,
            None => {
                let writer =
                    self.broadcast.add_track(name.clone(), kind).map_err(|error| match error {
                        AddTrackError::TooMany(limit) => PushError::TooManyTracks(limit),
                        _ => PushError::NoTrack,
                    })?;
                self.slots.push(Slot::new(name, writer));
                self.slots.len() - 1
            }
        };
        let Some(session) = self.session.as_mut() else { return Err(PushError::NoTrack) };
        session.clock.add_track(kind);
        session.tracks.push(SessionTrack::new(slot, kind));
        Ok(TrackId(session.tracks.len() - 1))
    }

    pub(crate) fn configure(
        &mut self,
        epoch: Epoch,
        track: TrackId,
        codec: Codec,
    ) -> Result<(), PushError> {
        let n = track.0;
        let session = self.session(epoch).ok_or(PushError::NoTrack)?;
        let track = session.tracks.get_mut(n).ok_or(PushError::NoTrack)?;
        if track.kind != codec.kind() {
            return Err(PushError::NoTrack);
        }
        track.configure(codec);
        if track.timeline.is_some() {
            self.judge_codec(n);
        }
        Ok(())
    }

    /// Says what some output cannot carry of a track, once its frames have shown what it is.
    fn judge_codec(&mut self, n: usize) {
        let Some(track) = self.session.as_ref().and_then(|session| session.tracks.get(n)) else {
            return;
        };
        match track.codec.as_ref().and_then(hint) {
            Some(text) => self.warn("codec", text.into()),
            None if track.kind == MediaKind::Video => drop(self.warnings.remove("codec")),
            None => {}
        }
    }

    /// Takes a frame; see [`super::Publisher::push`].
    pub(crate) fn push(
        &mut self,
        epoch: Epoch,
        track: TrackId,
        frame: RawFrame,
        now: WallTime,
    ) -> Result<(), PushError> {
        let floor = self.slots.iter().filter_map(Slot::end_micros).max().unwrap_or(0);
        let limit = self.broadcast.limits().frame_bytes;
        let bitrate = self.options.publisher_bitrate_bps;
        let session = self.session(epoch).ok_or(PushError::NoTrack)?;
        let size = frame.payload.len();
        if size > limit {
            return Err(PushError::FrameTooLarge { size, limit });
        }
        session.bitrate.take(size, now, bitrate)?;
        session.heard = now;
        let n = track.0;
        let state = session.tracks.get_mut(n).ok_or(PushError::NoTrack)?;
        let rate = state.rate().ok_or(PushError::NotConfigured)?;
        let (pts, dts) = (frame.pts.micros(), frame.dts.micros());
        // A presentation time far from the decoding time is nonsense of one of the two.
        let sane = (-1_000_000..=10_000_000).contains(&pts.saturating_sub(dts));
        let offset = match session.clock.judge(n, if sane { pts } else { dts }, dts, now, floor)? {
            Verdict::Take(offset) => MediaTime::new(offset, ClockRate::MICROS),
            Verdict::Drop(reason) => {
                dropped(reason);
                return Ok(());
            }
        };
        let offset = offset.to_rate(rate).ticks();
        let ticks = |time: MediaTime| time.to_rate(rate).ticks().saturating_add(offset);
        let dts = ticks(frame.dts);
        if dts < i64::from(rate.hz() / 4) {
            // Before the broadcast's zero (with a lead's room): nobody can have it.
            dropped("before_start");
            return Ok(());
        }
        let pts = if sane { ticks(frame.pts) } else { dts };
        let capture = frame.capture.unwrap_or(now);
        let mapped =
            Mapped { pts, dts, keyframe: frame.keyframe, capture, now, payload: frame.payload };
        self.place(n, mapped, now);
        self.drop_abandoned_tracks(now);
        Ok(())
    }

    /// Holds the frame while its track's cadence is unknown, else sends it on.
    fn place(&mut self, n: usize, frame: Mapped, now: WallTime) {
        let Some(session) = self.session.as_mut() else { return };
        let Some(track) = session.tracks.get_mut(n) else { return };
        track.observe(&frame);
        if track.timeline.is_none() {
            track.hold(frame);
            if !track.find_cadence(now, CADENCE_WAIT_MICROS) {
                return;
            }
            let Some(slot) = self.slots.get_mut(track.slot) else { return };
            track.make_timeline(slot, self.options.part_target);
            track.decide_codec();
            let held = std::mem::take(&mut track.held);
            self.judge_codec(n);
            for frame in held {
                self.route(n, frame);
            }
        } else {
            // B-frames that come later than the first ones are seen at the next keyframe.
            if frame.keyframe && track.decide_codec() {
                self.judge_codec(n);
            }
            self.route(n, frame);
        }
    }

    /// To the cutting of a leader or a follower.
    fn route(&mut self, n: usize, frame: Mapped) {
        let Some(session) = self.session.as_mut() else { return };
        let first_video = session.tracks.iter().position(|track| track.kind == MediaKind::Video);
        if first_video == Some(n) || session.leader == Some(n) {
            self.lead(n, frame);
        } else if session.leader.is_some() {
            self.follow(n, frame);
        } else {
            let has_video = first_video.is_some();
            let Some(track) = session.tracks.get_mut(n) else { return };
            track.hold(frame);
            let tired = track.held_micros() > LEADER_WAIT_MICROS;
            // A stream without video is known as such once it has said so for a moment: the
            // announcement of video may come with the next packet.
            let settled = !has_video && track.held_micros() > CADENCE_WAIT_MICROS;
            if tired || settled {
                let held = std::mem::take(&mut track.held);
                if has_video {
                    let text = "no keyframe of the video has come: audio goes on alone; set the \
                                encoder's keyframe interval to 2 s";
                    self.warn("no_keyframe", text.into());
                }
                self.lead_with_audio(n, held);
            }
        }
    }

    fn lead_with_audio(&mut self, n: usize, held: VecDeque<Mapped>) {
        let Some(session) = self.session.as_mut() else { return };
        session.leader = Some(n);
        for frame in held {
            self.lead(n, frame);
        }
        self.release_followers();
    }

    /// Frames that waited for the leader go on, from where it began.
    fn release_followers(&mut self) {
        let Some(session) = self.session.as_mut() else { return };
        let mut waiting = Vec::new();
        for (n, track) in session.tracks.iter_mut().enumerate() {
            if session.leader != Some(n) && track.timeline.is_some() {
                waiting.push((n, std::mem::take(&mut track.held)));
            }
        }
        for (n, held) in waiting {
            for frame in held {
                self.follow(n, frame);
            }
        }
    }

    /// Tracks of an earlier publisher that this one has not brought are over.
    fn drop_abandoned_tracks(&mut self, now: WallTime) {
        let Some(session) = self.session.as_mut() else { return };
        let waited = now.micros_since(session.since);
        if session.abandoned_checked || waited < ABANDONED_TRACK_MICROS {
            return;
        }
        session.abandoned_checked = true;
        let kept: Vec<_> = session.tracks.iter().map(|track| track.slot).collect();
        let mut index = 0;
        let (gone, stay): (Vec<_>, Vec<_>) = self.slots.drain(..).partition(|_| {
            index += 1;
            !kept.contains(&(index - 1))
        });
        if gone.is_empty() {
            self.slots = stay;
            return;
        }
        for slot in gone {
            self.broadcast.remove_track(&slot.name);
            slot.writer.finish();
        }
        // Slots moved: point the session's tracks at their new places.
        for track in &mut session.tracks {
            let before = kept.iter().filter(|slot| **slot < track.slot).count();
            track.slot = before;
        }
        self.slots = stay;
    }
}

/// What the next owner of a stream must know of it to go on as the one before: playlists on other
/// nodes list the segments of both, under one target duration that never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Heritage {
    /// Wall-clock time of the broadcast timeline's zero.
    zero: Option<WallTime>,
    /// `EXT-X-TARGETDURATION`, once it was settled.
    target_duration_s: Option<u32>,
}

impl Heritage {
    /// By what a group's owner said of it and of its first frame.
    pub(crate) fn of(header: &GroupHeader, first: Option<&Frame>) -> Self {
        let shown = match header.config.codec.kind() {
            MediaKind::Video => first.map(|frame| frame.pts),
            MediaKind::Audio => Some(header.start),
        };
        let zero = shown.map(|shown| header.wall.plus_micros(-shown.micros()));
        Self { zero, target_duration_s: header.target_duration_s }
    }
}

/// What an operator should know about a codec that some output cannot carry.
fn hint(codec: &Codec) -> Option<&'static str> {
    match codec {
        Codec::H264(config) if config.reorder_frames > 0 => Some(
            "the video may have B-frames, which WebRTC cannot carry: it plays by LL-HLS and SRT \
             alone; set the encoder's B-frames to 0 (ffmpeg: -bf 0 or -tune zerolatency)",
        ),
        Codec::H265(_) => Some(
            "H.265 plays by LL-HLS and SRT alone, since browsers' WebRTC does not take it; \
             publish H.264 for WebRTC viewers",
        ),
        Codec::Vp8(_) => Some(
            "VP8 plays by WebRTC alone, since HLS has no place for it; publish H.264, VP9 or AV1 \
             for LL-HLS viewers",
        ),
        _ => None,
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("headwater_ingest_dropped_total", "reason" => reason).increment(1);
}

#[cfg(test)]
mod tests;
