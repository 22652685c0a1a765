//! A publisher's session: RTP in, frames out to the node's sink.
//!
//! Not here: the peer's connection (`peer`), when keyframes are due (`keyframes`), the timeline
//! (`timeline`), what becomes of a frame (the node).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use headwater_media::{ClockRate, MediaKind, MediaTime, WallTime};
use str0m::format::Codec;
use str0m::media::{KeyframeRequestKind, MediaData, Mid, Rid};
use str0m::{Event, Rtc};

use crate::config::SfuConfig;
use crate::error::CloseReason;
use crate::frames::{IncomingCodec, IncomingFrame, PublisherSink, TrackSlot};
use crate::keyframes::Keyframes;
use crate::peer::Now;
use crate::stats::SessionCounters;
use crate::timeline::{SenderPoint, Timeline, TrackTimeline};

/// Encoded streams taken from one publisher: three layers of a few cameras.
const TRACKS_MAX: usize = 16;
const _: () = assert!(TRACKS_MAX <= crate::keyframes::TRACKS_MAX);
/// How often the sink is asked for wishes.
const WISH_POLL: Duration = Duration::from_millis(50);
/// How often a bitrate limit is told.
const REMB_INTERVAL: Duration = Duration::from_secs(1);

/// One encoded stream.
struct IncomingTrack {
    mid: Mid,
    rid: Option<Rid>,
    slot: TrackSlot,
    timeline: TrackTimeline,
    report: Option<SenderPoint>,
}

/// A publisher's session.
pub(crate) struct Publisher {
    sink: Box<dyn PublisherSink>,
    /// The offer's m-lines, by place.
    mids: Vec<String>,
    tracks: Vec<IncomingTrack>,
    timeline: Timeline,
    keyframes: Keyframes,
    connected: bool,
    next_wish_poll: Option<Instant>,
    bitrate_max: u64,
    next_remb: Option<Instant>,
}

impl Publisher {
    pub(crate) fn new(config: &SfuConfig, mids: Vec<String>, sink: Box<dyn PublisherSink>) -> Self {
        Self {
            sink,
            mids,
            tracks: Vec::new(),
            timeline: Timeline::default(),
            keyframes: Keyframes::new(config.keyframe_interval, config.keyframe_spacing),
            connected: false,
            next_wish_poll: None,
            bitrate_max: config.publisher_bitrate_max,
            next_remb: None,
        }
    }

    pub(crate) fn event(
        &mut self,
        rtc: &mut Rtc,
        event: Event,
        counters: &SessionCounters,
        now: Now,
    ) -> Result<(), CloseReason> {
        match event {
            Event::Connected if !self.connected => {
                self.connected = true;
                self.next_wish_poll = Some(now.instant);
                self.next_remb = Some(now.instant);
                self.sink.connected();
                Ok(())
            }
            Event::SenderFeedback(feedback) => {
                let info = feedback.sender_info;
                let time = info.rtp_time;
                let found =
                    self.tracks.iter_mut().find(|t| t.mid == feedback.mid && t.rid == feedback.rid);
                if let Some(track) = found {
                    track.report = sender_point(info.ntp_time, media_time(time));
                }
                Ok(())
            }
            Event::MediaData(data) => self.frame(rtc, data, counters, now),
            _ => Ok(()),
        }
    }

    fn frame(
        &mut self,
        rtc: &mut Rtc,
        data: MediaData,
        counters: &SessionCounters,
        now: Now,
    ) -> Result<(), CloseReason> {
        let Some(codec) = incoming_codec(&data) else { return Ok(()) };
        let Some(at) = self.track(&data, codec) else { return Ok(()) };
        let keyframe = matches!(codec, IncomingCodec::Opus { .. }) || data.is_keyframe();
        let video = !matches!(codec, IncomingCodec::Opus { .. });
        if video {
            self.watch_keyframes(rtc, at, keyframe, data.contiguous, now);
        }
        let Some(track) = self.tracks.get_mut(at) else { return Ok(()) };
        let time = media_time(data.time);
        let arrival = now.wall_at(data.network_time);
        let absolute = data.ext_vals.abs_capture_time;
        let report = data
            .last_sender_info
            .and_then(|info| sender_point(info.ntp_time, media_time(info.rtp_time)));
        let point =
            absolute.and_then(|a| sender_point(a.capture_time, time)).or(report).or(track.report);
        let (capture, synced) = self.timeline.capture(&mut track.timeline, time, arrival, point);
        counters.frames.fetch_add(1, Ordering::Relaxed);
        if keyframe && video {
            counters.keyframes.fetch_add(1, Ordering::Relaxed);
        }
        let frame = IncomingFrame {
            track: track.slot.clone(),
            codec,
            time,
            capture,
            synced,
            keyframe,
            contiguous: data.contiguous,
            data: Bytes::from_owner(data.data),
            received: data.network_time,
        };
        self.sink.frame(frame).map_err(|_| CloseReason::SinkClosed)
    }

    fn watch_keyframes(
        &mut self,
        rtc: &mut Rtc,
        track: usize,
        keyframe: bool,
        contiguous: bool,
        now: Now,
    ) {
        self.keyframes.came(track);
        if keyframe {
            self.keyframes.arrived(track, now.instant);
        } else if !contiguous {
            self.keyframes.loss(track);
        }
        self.request_if_due(rtc, now);
    }

    /// A frame of some track could not be put together: pictures go on from a keyframe.
    pub(crate) fn frame_lost(&mut self) {
        let tracks = self.tracks.iter().enumerate();
        let videos = tracks.filter(|(_, track)| track.slot.kind == MediaKind::Video);
        videos.for_each(|(at, _)| self.keyframes.loss(at));
    }

    /// The place of the frame's track; a new one is made for a new stream.
    fn track(&mut self, data: &MediaData, codec: IncomingCodec) -> Option<usize> {
        let known = self.tracks.iter().position(|t| t.mid == data.mid && t.rid == data.rid);
        if known.is_some() || self.tracks.len() >= TRACKS_MAX {
            return known;
        }
        let kind = match codec {
            IncomingCodec::Opus { .. } => MediaKind::Audio,
            _ => MediaKind::Video,
        };
        let mid: &str = &data.mid;
        let line = self.mids.iter().position(|m| m == mid)?;
        let rid = data.rid.map(|rid| Arc::<str>::from(&*rid));
        self.tracks.push(IncomingTrack {
            mid: data.mid,
            rid: data.rid,
            slot: TrackSlot { kind, line, rid },
            timeline: TrackTimeline::default(),
            report: None,
        });
        Some(self.tracks.len() - 1)
    }

    /// Asks all layers for a keyframe if it is time; says whether it did.
    fn request_if_due(&mut self, rtc: &mut Rtc, now: Now) -> bool {
        let video = |t: &&IncomingTrack| t.slot.kind == MediaKind::Video;
        if !self.tracks.iter().any(|t| video(&t)) || !self.keyframes.poll(now.instant) {
            return false;
        }
        let mut asked = false;
        for track in self.tracks.iter().filter(video) {
            let Some(mut writer) = rtc.writer(track.mid) else { continue };
            let result = writer.request_keyframe(track.rid, KeyframeRequestKind::Pli);
            asked |= result.is_ok();
        }
        asked
    }

    /// Does what is due; says whether the engine was changed.
    pub(crate) fn timeout(&mut self, rtc: &mut Rtc, now: Now) -> Result<bool, CloseReason> {
        let mut changed = false;
        if let Some(at) = self.next_wish_poll
            && at <= now.instant
        {
            self.next_wish_poll = Some(now.instant + WISH_POLL);
            if self.sink.wants_keyframe(now.instant) {
                self.keyframes.wish();
            }
            changed |= self.request_if_due(rtc, now);
        }
        if let Some(at) = self.next_remb
            && at <= now.instant
        {
            self.next_remb = Some(now.instant + REMB_INTERVAL);
            changed |= self.limit_bitrate(rtc);
        }
        Ok(changed)
    }

    fn limit_bitrate(&self, rtc: &mut Rtc) -> bool {
        let mut changed = false;
        for track in self.tracks.iter().filter(|t| t.slot.kind == MediaKind::Video) {
            let mut direct = rtc.direct_api();
            if let Some(stream) = direct.stream_rx_by_mid(track.mid, track.rid) {
                stream.request_remb(self.bitrate_max.into());
                changed = true;
            }
        }
        changed
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let remb = self.next_remb.into_iter();
        self.next_wish_poll.into_iter().chain(remb).min()
    }

    pub(crate) fn closed(&mut self, reason: CloseReason) {
        self.sink.closed(reason);
    }
}

fn media_time(time: str0m::media::MediaTime) -> MediaTime {
    let rate = ClockRate::new(time.denom()).unwrap_or(ClockRate::VIDEO);
    MediaTime::new(i64::try_from(time.numer()).unwrap_or(i64::MAX), rate)
}

/// None for the zero time that senders without a clock report.
fn sender_point(ntp: SystemTime, rtp: MediaTime) -> Option<SenderPoint> {
    let micros = match ntp.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).ok()?,
        Err(before) => i64::try_from(before.duration().as_micros()).ok()?.checked_neg()?,
    };
    Some(SenderPoint { ntp: WallTime(micros), rtp })
}

fn incoming_codec(data: &MediaData) -> Option<IncomingCodec> {
    let spec = data.params.spec();
    match spec.codec {
        Codec::H264 => Some(IncomingCodec::H264),
        Codec::Vp8 => Some(IncomingCodec::Vp8),
        Codec::Vp9 => Some(IncomingCodec::Vp9),
        Codec::Av1 => Some(IncomingCodec::Av1),
        Codec::Opus => {
            Some(IncomingCodec::Opus { channels: spec.channels.unwrap_or(2).clamp(1, 2) })
        }
        _ => None,
    }
}
