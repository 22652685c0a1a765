//! When groups begin: the leader's rules, and how the other tracks follow.
//!
//! Not here: which track leads (`core`), how parts end (the track's plan).

use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::GroupHeader;
use headwater_media::{Frame, GroupSeq, MediaKind, MediaTime, WallTime};

use super::track::{Cut, Mapped};
use super::{StreamCore, dropped};
use crate::ingest::timeline::Placed;

/// Keyframes closer than this stay inside their group: a stream of keyframes alone must not
/// make thirty segments a second.
const GROUP_MIN_MICROS: i64 = 500_000;
/// `EXTINF` is rounded to whole seconds against `EXT-X-TARGETDURATION`.
const ROUNDING_MICROS: i64 = 490_000;
/// Groups of this length together show how long groups are.
const SETTLE_MICROS: i64 = 1_900_000;
/// Groups that differ by this much at most are of one length: two frames at 20 a second.
const EVEN_MICROS: i64 = 100_000;

/// Settles `EXT-X-TARGETDURATION`, which never changes afterwards.
#[derive(Default)]
pub(super) struct TargetDuration {
    settled_s: Option<u32>,
    shortest_micros: Option<i64>,
    longest_micros: i64,
    seen_micros: i64,
}

impl TargetDuration {
    /// Counts a group in. Where those seen differ in length, an encoder sets keyframes at cuts of
    /// the scene: its longest groups are still to come, and are taken to last `interval`.
    fn observe(&mut self, group_micros: i64, interval_micros: i64) {
        self.longest_micros = self.longest_micros.max(group_micros);
        self.seen_micros = self.seen_micros.saturating_add(group_micros);
        let shortest = self.shortest_micros.unwrap_or(group_micros).min(group_micros);
        self.shortest_micros = Some(shortest);
        if self.settled_s.is_none() && self.seen_micros >= SETTLE_MICROS {
            let even = self.longest_micros - shortest <= EVEN_MICROS;
            let expected = if even { 0 } else { interval_micros };
            self.settle(self.longest_micros.max(expected));
        }
    }

    /// Takes over what another node has settled for the broadcast.
    pub(super) fn keep(&mut self, settled_s: Option<u32>) {
        self.settled_s = self.settled_s.or(settled_s);
    }

    fn settle(&mut self, group_micros: i64) {
        if self.settled_s.is_none() {
            let rounded = group_micros.saturating_add(500_000) / 1_000_000;
            self.settled_s = Some(u32::try_from(rounded).unwrap_or(u32::MAX).max(1));
        }
    }

    /// A group may become this long.
    fn longest_allowed(&self, max_group_micros: i64) -> i64 {
        match self.settled_s {
            Some(seconds) => max_group_micros.min(i64::from(seconds) * 1_000_000 + ROUNDING_MICROS),
            None => max_group_micros,
        }
    }
}

/// Keyframes farther apart than this make players start late and segments long.
const KEYFRAMES_FAR_MICROS: i64 = 4_000_000;
/// So many groups in a row that began with their keyframe show a rhythm that is right again.
const REGULAR_GROUPS: u32 = 5;

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl StreamCore {
    /// A frame of the track that leads, or may begin to.
    pub(super) fn lead(&mut self, n: usize, frame: Mapped) {
        let longest = self.target.longest_allowed(micros(self.options.max_group));
        let interval = micros(self.options.keyframe_interval);
        let frames_max = self.broadcast.limits().group_frames;
        let Some(session) = self.session.as_mut() else { return };
        let Some(track) = session.tracks.get_mut(n) else { return };
        let (Some(timeline), Some(rate)) = (&track.timeline, track.rate()) else { return };
        let Some(slot) = self.slots.get(track.slot) else { return };
        if frame.keyframe {
            track.last_keyframe = Some(frame.now);
        }
        let open = slot.writer.current().filter(|_| track.begun && session.leader == Some(n));
        let Some(group) = open else {
            if track.kind == MediaKind::Video && !frame.keyframe {
                return dropped("before_keyframe");
            }
            return self.begin_leading(n, frame);
        };
        let start = group.header().start;
        let end = timeline.next_dts().unwrap_or(start).since(start).micros();
        // After a pause the frame is not put where the last one ended.
        let reach = timeline.preview(frame.dts).since(start).micros();
        let one = MediaTime::new(timeline.frame_ticks(), rate).micros();
        let long = end + one > longest || group.len() >= frames_max;
        let full = long || reach + one > longest;
        let regular = match track.kind {
            MediaKind::Video => frame.keyframe && (end >= GROUP_MIN_MICROS || track.codec_changed),
            MediaKind::Audio => end >= interval || track.codec_changed,
        };
        if track.kind == MediaKind::Video && track.codec_changed && !frame.keyframe {
            // Its headers are not the open group's: it cannot be decoded where it stands.
            return dropped("before_keyframe");
        }
        let far = track.kind == MediaKind::Video && end > KEYFRAMES_FAR_MICROS;
        if (long && !regular) || (regular && far) {
            if track.kind == MediaKind::Video {
                let text = if regular {
                    format!(
                        "keyframes are {} s apart: segments are as long; set the encoder's \
                         keyframe interval to 2 s",
                        end / 1_000_000
                    )
                } else {
                    format!(
                        "no keyframe has come for {:.1} s, the longest that a segment of this \
                         stream may be (`[media] max_group`, or what its first groups settled): \
                         segments are cut without one, and players cannot begin there; set the \
                         encoder to a fixed keyframe interval of 2 s",
                        Duration::from_micros(end.unsigned_abs()).as_secs_f64()
                    )
                };
                self.warn("keyframe_interval", text);
            }
            if !regular {
                self.target.settle(end);
            }
        }
        if full || regular {
            self.judge_rhythm(regular && !far);
            self.begin_leader_group(n, &frame);
        }
        self.append(n, frame);
    }

    /// The warning about keyframes goes once they have come in time for a while.
    fn judge_rhythm(&mut self, regular: bool) {
        let Some(session) = self.session.as_mut() else { return };
        session.regular_groups = if regular { session.regular_groups + 1 } else { 0 };
        if session.regular_groups >= REGULAR_GROUPS {
            self.warnings.remove("keyframe_interval");
        }
    }

    fn begin_leading(&mut self, n: usize, frame: Mapped) {
        let interval = micros(self.options.keyframe_interval);
        let Some(session) = self.session.as_mut() else { return };
        let on_request = session.keyframes_on_request;
        let audio_led = session.leader.is_some_and(|leader| leader != n);
        session.leader = Some(n);
        if on_request || session.tracks.get(n).is_some_and(|t| t.kind == MediaKind::Audio) {
            self.target.settle(interval);
        }
        if audio_led {
            self.warnings.remove("no_keyframe");
        }
        self.begin_leader_group(n, &frame);
        self.append(n, frame);
        self.release_followers();
    }

    fn begin_leader_group(&mut self, n: usize, frame: &Mapped) {
        let interval = micros(self.options.keyframe_interval);
        let Some(session) = self.session.as_mut() else { return };
        let Some(track) = session.tracks.get_mut(n) else { return };
        let Some(slot) = self.slots.get_mut(track.slot) else { return };
        if let Some(open) = slot.writer.current().filter(|_| track.begun) {
            let length = open.end().since(open.header().start).micros();
            track.lengths = [track.lengths[1], Some(open.len())];
            self.target.observe(length, interval);
            // By the publisher's own decoding times: the timeline only follows them, and those of
            // presentation are out of order where a group was cut between B-frames.
            let passed = (open.len(), frame.dts.saturating_sub(track.group_dts));
            if track.kind == MediaKind::Video {
                track.correct_cadence(slot, passed, self.options.part_target);
            }
        }
        track.group_dts = frame.dts;
        let expected = track.lengths[1].filter(|_| track.lengths[0] == track.lengths[1]);
        let Some(rate) = track.rate() else { return };
        let at = MediaTime::new(frame.pts, rate).micros();
        let seq = self.numbers.take_group();
        session.newest = Some((seq, at));
        self.begin_group(n, frame, seq, expected);
        self.cut_followers(n, Cut { seq, micros: at });
    }

    /// Tells the other tracks where the leader has cut. What of them reaches that far is
    /// complete, and ends at once.
    fn cut_followers(&mut self, leader: usize, cut: Cut) {
        let Some(session) = self.session.as_mut() else { return };
        for (n, track) in session.tracks.iter_mut().enumerate() {
            if n == leader {
                continue;
            }
            track.cut = Some(cut);
            let half = track.timeline.as_ref().map_or(0, |timeline| timeline.frame_ticks() / 2);
            let (Some(slot), Some(rate)) = (self.slots.get_mut(track.slot), track.rate()) else {
                continue;
            };
            let half = MediaTime::new(half, rate).micros();
            if let Some(open) = slot.writer.current()
                && open.end().micros() + half >= cut.micros
            {
                slot.writer.end_group();
            }
        }
    }

    /// A frame of a track that does not lead.
    pub(super) fn follow(&mut self, n: usize, frame: Mapped) {
        let longest = self.target.longest_allowed(micros(self.options.max_group));
        let frames_max = self.broadcast.limits().group_frames;
        let Some(session) = self.session.as_mut() else { return };
        let Some(track) = session.tracks.get_mut(n) else { return };
        let (Some(timeline), Some(rate)) = (&track.timeline, track.rate()) else { return };
        let Some(slot) = self.slots.get(track.slot) else { return };
        let half = MediaTime::new(timeline.frame_ticks() / 2, rate).micros();
        let at = MediaTime::new(frame.pts, rate).micros();
        let open = slot.writer.current().filter(|_| track.begun);
        let due = track.cut.filter(|cut| at + half >= cut.micros);
        if let Some(cut) = due {
            track.cut = None;
            self.begin_group(n, &frame, cut.seq, None);
        } else if let Some(group) = open {
            let start = group.header().start;
            let length = timeline.preview(frame.dts).since(start).micros();
            if length + 2 * half > longest || group.len() >= frames_max {
                // The leader has stalled: this track goes on alone, and leaves the leader a gap.
                let seq = self.numbers.take_group();
                self.begin_group(n, &frame, seq, None);
            }
        } else {
            // Before the leader's first group, or in a group that this track missed the start of.
            let last = slot.writer.track().newest().map(|group| group.seq());
            let current = session
                .newest
                .filter(|(seq, from)| at + half >= *from && last.is_none_or(|last| last < *seq));
            match current {
                Some((seq, _)) => {
                    track.cut = None;
                    self.begin_group(n, &frame, seq, None);
                }
                None => return dropped("before_leader"),
            }
        }
        self.append(n, frame);
    }

    fn begin_group(&mut self, n: usize, frame: &Mapped, seq: GroupSeq, expected: Option<u32>) {
        let target_duration_s = self.target.settled_s;
        let (epoch, discontinuity) = (self.epoch, self.numbers.discontinuity);
        let Some(session) = self.session.as_mut() else { return };
        let Some(track) = session.tracks.get_mut(n) else { return };
        let Some(slot) = self.slots.get_mut(track.slot) else { return };
        let (Some(codec), Some(rate), Some(plan), Some(timeline)) =
            (&track.codec, track.rate(), track.plan, &mut track.timeline)
        else {
            return;
        };
        let config = slot.configured(seq, codec, rate, plan);
        timeline.begin_group();
        let start = timeline.preview(frame.dts);
        let shown = match track.kind {
            MediaKind::Video => MediaTime::new(frame.pts, rate),
            MediaKind::Audio => start,
        };
        let wall: WallTime = session.clock.wall(shown.micros());
        let header = GroupHeader {
            seq,
            epoch,
            discontinuity,
            start,
            wall,
            independent: frame.keyframe || track.kind == MediaKind::Audio,
            expected_frames: expected,
            target_duration_s,
            config: Arc::clone(&config),
        };
        match slot.writer.begin_group(header) {
            Ok(()) => {
                track.begun = true;
                track.codec_changed = false;
            }
            Err(error) => {
                tracing::error!(stream = %self.broadcast.name(), track = %slot.name, %error,
                    "a group could not begin");
            }
        }
    }

    fn append(&mut self, n: usize, frame: Mapped) {
        let Some(session) = self.session.as_mut() else { return };
        let Some(track) = session.tracks.get_mut(n) else { return };
        let (Some(timeline), Some(slot)) = (&mut track.timeline, self.slots.get_mut(track.slot))
        else {
            return;
        };
        if slot.writer.current().is_none() || !track.begun {
            return dropped("no_group");
        }
        if track.codec_changed && track.kind == MediaKind::Audio {
            return dropped("before_group");
        }
        let Placed { pts, dts, duration } = timeline.place(frame.pts, frame.dts);
        let arrived = frame.now;
        track.pace(frame.dts);
        let keyframe = frame.keyframe || track.kind == MediaKind::Audio;
        let frame =
            Frame { pts, dts, duration, keyframe, capture: frame.capture, payload: frame.payload };
        if let Err(error) = slot.writer.append_arrived(frame, Some(arrived)) {
            tracing::error!(stream = %self.broadcast.name(), track = %slot.name, %error,
                "a frame could not be appended");
            dropped("bus");
        }
    }

    /// Whether the publisher should be asked for a keyframe now: none has come yet, or the
    /// leading group has reached the interval.
    pub(crate) fn keyframe_due(&self, epoch: headwater_media::Epoch, now: WallTime) -> bool {
        let Some(session) = self.session.as_ref().filter(|_| self.is_current(epoch)) else {
            return false;
        };
        let interval = micros(self.options.keyframe_interval);
        let video = session.tracks.iter().find(|track| track.kind == MediaKind::Video);
        video.is_some_and(|track| match track.last_keyframe {
            Some(last) => now.micros_since(last) >= interval,
            None => true,
        })
    }
}
