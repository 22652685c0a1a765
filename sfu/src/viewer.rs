//! A viewer's session: frames in, RTP out.
//!
//! A viewer starts at once with the newest group, from its keyframe. The frames of that backlog
//! get time stamps a millisecond apart, ending at the newest frame's own: the player decodes
//! them as fast as it can and shows the present, instead of playing the past at normal speed.
//! Sound starts with the present.
//! Not here: reading the bus (`fanout`), payloads (`packetize`), sending (`batch`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use headwater_media::bus::FrameRef;
use headwater_media::codec::Codec;
use headwater_media::{ClockRate, MediaKind, Track, TrackConfig, WallTime};
use str0m::media::{MediaTime, Mid, Pt};
use str0m::rtp::{ExtensionValues, RtpWrite};
use str0m::{Event, Rtc};

use crate::config::SfuConfig;
use crate::error::CloseReason;
use crate::metrics;
use crate::outclock::{Origin, OutClock};
use crate::packetize::Packets;
use crate::peer::Now;
use crate::sdp;
use crate::stats::{DropReason, SessionCounters};

/// Bytes a second that leave towards one viewer: above any stream's rate, so that only the start
/// and large keyframes are spread out, which overflow queues on the way otherwise.
const PACE_BYTES_PER_SECOND: u64 = 12_500_000;
/// Bytes that may leave at once: browsers' sockets hold 64 KiB.
const PACE_BURST_BYTES: u64 = 40 << 10;
/// Bytes that must have gathered until more leave, for a millisecond or so: packets go in batches.
const PACE_QUANTUM_BYTES: u64 = 12 << 10;
/// Headers of a packet: IP, UDP, RTP with extensions, and the authentication tag.
const PACKET_OVERHEAD_BYTES: usize = 80;
/// Distance of backlog frames' time stamps.
const BACKLOG_STEP_MICROS: i64 = 1_000;

/// One of the viewer's tracks.
struct Outlet {
    track: Track,
    mid: Mid,
    clock: OutClock,
    sequence: u64,
    /// The configuration last seen, and the payload type it is sent with.
    config: Option<(Arc<TrackConfig>, Option<Pt>)>,
    /// Frames are no use until a keyframe comes.
    waits_for_keyframe: bool,
    ended: bool,
}

struct Queued {
    outlet: usize,
    frame: FrameRef,
    packets: Arc<Packets>,
    /// How many of them have left.
    sent: usize,
    /// The time stamp of those that have left.
    stamp: i64,
    /// For a frame of the backlog: the time it is given, shortly before the newest frame's.
    squeezed: Option<WallTime>,
}

/// A viewer's session.
pub(crate) struct Viewer {
    outlets: Vec<Outlet>,
    queue: VecDeque<Queued>,
    queue_max: usize,
    rtx: (usize, Duration, f32),
    origin: Origin,
    pace: Pace,
    connected: bool,
    /// Connected, and the backlog has not been given yet.
    wants_start: bool,
    counters: Arc<SessionCounters>,
}

impl Viewer {
    /// A viewer of tracks by the mids of their m-lines.
    pub(crate) fn new(
        config: &SfuConfig,
        tracks: Vec<(Track, String)>,
        seed: u64,
        now: Now,
        counters: Arc<SessionCounters>,
    ) -> Self {
        let outlets = tracks.into_iter().enumerate().map(|(index, (track, mid))| Outlet {
            clock: OutClock::new(match track.kind() {
                MediaKind::Video => ClockRate::VIDEO,
                MediaKind::Audio => ClockRate::OPUS,
            }),
            waits_for_keyframe: track.kind() == MediaKind::Video,
            track,
            mid: Mid::from(mid.as_str()),
            // A late joiner's first packet must have roll-over counter 0 (RFC 3711 §3.3.1).
            sequence: (seed >> (16 * (index % 4))) & 0x7fff,
            config: None,
            ended: false,
        });
        Self {
            outlets: outlets.collect(),
            queue: VecDeque::new(),
            queue_max: config.viewer_queue_frames,
            rtx: (config.rtx_packets, config.rtx_age, config.rtx_ratio),
            origin: Origin::default(),
            pace: Pace { budget: PACE_BURST_BYTES as i64, at: now.instant },
            connected: false,
            wants_start: false,
            counters,
        }
    }

    /// Bounds the engine's resend caches.
    pub(crate) fn prepare(&self, rtc: &mut Rtc) {
        let (packets, age, ratio) = self.rtx;
        for outlet in &self.outlets {
            let mut direct = rtc.direct_api();
            if let Some(stream) = direct.stream_tx_by_mid(outlet.mid, None) {
                stream.set_rtx_cache(packets, age, Some(ratio));
            }
        }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Connected if !self.connected => {
                self.connected = true;
                self.wants_start = true;
            }
            Event::KeyframeRequest(request) => {
                let asked = self.outlets.iter().filter(|outlet| outlet.mid == request.mid);
                asked.for_each(|outlet| outlet.track.request_keyframe());
            }
            _ => {}
        }
    }

    /// Whether the backlog is wanted; said once.
    pub(crate) fn take_wants_start(&mut self) -> bool {
        std::mem::take(&mut self.wants_start)
    }

    /// Takes the frames from the newest independent group's start to the present. Empty when
    /// there are none, or too many: then a keyframe is asked for.
    pub(crate) fn start(&mut self, at: usize, backlog: Vec<(FrameRef, Arc<Packets>)>) {
        let Some(outlet) = self.outlets.get_mut(at) else { return };
        if backlog.is_empty() || backlog.len() > self.queue_max / 2 {
            outlet.track.request_keyframe();
            return;
        }
        outlet.waits_for_keyframe = false;
        tracing::debug!(track = %outlet.track.name(), frames = backlog.len(),
            sequence = outlet.sequence, "a viewer starts with the newest group");
        let newest = backlog.last().and_then(|(frame, _)| wall_time(frame));
        for (places, (frame, packets)) in (0..backlog.len()).rev().zip(backlog) {
            let squeeze = (places as i64).saturating_neg() * BACKLOG_STEP_MICROS;
            let squeezed = newest.filter(|_| places > 0).map(|w| w.plus_micros(squeeze));
            self.queue.push_back(Queued {
                outlet: at,
                frame,
                packets,
                sent: 0,
                stamp: 0,
                squeezed,
            });
        }
    }

    /// Takes a new frame of a track.
    pub(crate) fn offer(&mut self, at: usize, frame: &FrameRef, packets: &Arc<Packets>) {
        let Some(outlet) = self.outlets.get_mut(at) else { return };
        if !self.connected || self.wants_start {
            return;
        }
        if outlet.waits_for_keyframe {
            if !frame.frame().is_some_and(|frame| frame.keyframe) {
                return;
            }
            outlet.waits_for_keyframe = false;
        }
        if self.queue.len() >= self.queue_max {
            self.skip();
            return;
        }
        let (frame, packets) = (frame.clone(), Arc::clone(packets));
        self.queue.push_back(Queued {
            outlet: at,
            frame,
            packets,
            sent: 0,
            stamp: 0,
            squeezed: None,
        });
    }

    /// Drops what waits and goes on with the next keyframe: live beats complete.
    pub(crate) fn skip(&mut self) {
        let dropped = self.queue.len() as u64;
        self.queue.clear();
        for outlet in &mut self.outlets {
            if outlet.track.kind() == MediaKind::Video && !outlet.waits_for_keyframe {
                outlet.waits_for_keyframe = true;
                outlet.track.request_keyframe();
            }
        }
        self.counters.count_drop(DropReason::SlowViewer, dropped);
        metrics::dropped(DropReason::SlowViewer, dropped);
    }

    /// Groups of a track went missing before they were read.
    pub(crate) fn gap(&mut self, at: usize) {
        if let Some(outlet) = self.outlets.get_mut(at)
            && outlet.track.kind() == MediaKind::Video
        {
            outlet.waits_for_keyframe = true;
        }
    }

    /// A track has ended for good.
    pub(crate) fn end(&mut self, at: usize) {
        if let Some(outlet) = self.outlets.get_mut(at) {
            outlet.ended = true;
        }
    }

    /// Writes what may leave now; says whether the engine was changed.
    pub(crate) fn pump(&mut self, rtc: &mut Rtc, now: Now) -> Result<bool, CloseReason> {
        if !self.connected {
            return Ok(false);
        }
        self.pace.refill(now.instant);
        let mut changed = false;
        while self.pace.budget > 0
            && let Some(mut queued) = self.queue.pop_front()
        {
            changed |= self.write(rtc, &mut queued, now)?;
            if queued.sent < queued.packets.payloads.len() {
                self.queue.push_front(queued);
            }
        }
        if self.queue.is_empty() && self.outlets.iter().all(|outlet| outlet.ended) {
            return Err(CloseReason::Ended);
        }
        Ok(changed)
    }

    /// Writes a frame's packets, as many as the pace allows. What cannot be sent at all counts as
    /// sent.
    fn write(&mut self, rtc: &mut Rtc, queued: &mut Queued, now: Now) -> Result<bool, CloseReason> {
        let from = std::mem::replace(&mut queued.sent, queued.packets.payloads.len());
        let Some(outlet) = self.outlets.get_mut(queued.outlet) else { return Ok(false) };
        let (group, Some(frame)) = (&queued.frame.group, queued.frame.frame()) else {
            return Ok(false);
        };
        let header = group.header();
        let Some(pt) = outlet.payload_type(rtc, &header.config) else {
            self.counters.count_drop(DropReason::Codec, 1);
            metrics::dropped(DropReason::Codec, 1);
            return self.all_refused();
        };
        let Some(wall) = queued.squeezed.or_else(|| wall_time(&queued.frame)) else {
            return Ok(false);
        };
        if from == 0 {
            queued.stamp = match queued.squeezed {
                Some(wall) => outlet.clock.stamp_by_wall(&mut self.origin, wall),
                None => outlet.clock.stamp(&mut self.origin, frame.pts, wall, header.discontinuity),
            };
        }
        let wallclock = self.origin.moment(wall, now);
        let video = outlet.track.kind() == MediaKind::Video;
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(outlet.mid, None) else { return Ok(false) };
        let last = queued.packets.payloads.len().saturating_sub(1);
        for (index, payload) in queued.packets.payloads.iter().enumerate().skip(from) {
            if self.pace.budget <= 0 {
                queued.sent = index;
                return Ok(true);
            }
            self.pace.budget -= (payload.len() + PACKET_OVERHEAD_BYTES) as i64;
            let mut extensions = ExtensionValues::default();
            if frame.keyframe && video {
                extensions.play_delay_min = Some(MediaTime::ZERO);
                extensions.play_delay_max = Some(MediaTime::ZERO);
            }
            // The low 32 bits are the RTP time stamp.
            let packet = RtpWrite::new(
                pt,
                outlet.sequence.into(),
                queued.stamp as u32,
                wallclock,
                Arc::clone(payload),
            )
            .marker(video && index == last)
            .nackable(video)
            .ext_vals(extensions);
            stream.write_rtp(packet);
            outlet.sequence += 1;
        }
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        if frame.keyframe && video {
            self.counters.keyframes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// A track that cannot go on is dropped; a viewer without any is closed.
    fn all_refused(&self) -> Result<bool, CloseReason> {
        let refused = |o: &Outlet| matches!(&o.config, Some((_, None))) || o.ended;
        if !self.outlets.iter().all(refused) {
            return Ok(false);
        }
        Err(CloseReason::Renegotiate(String::from(
            "the stream's codec changed to one this player did not negotiate; connect again",
        )))
    }

    pub(crate) fn timeout(&mut self, rtc: &mut Rtc, now: Now) -> Result<bool, CloseReason> {
        self.pump(rtc, now)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.connected && !self.queue.is_empty()).then(|| self.pace.ready())
    }
}

/// A frame's wall-clock time.
fn wall_time(frame: &FrameRef) -> Option<WallTime> {
    let header = frame.group.header();
    let first = frame.group.frame(0).map_or(header.start, |frame| frame.pts);
    Some(header.wall.plus_micros(frame.frame()?.pts.since(first).micros()))
}

impl Outlet {
    /// The payload type for a configuration; looked up when the configuration changes.
    fn payload_type(&mut self, rtc: &Rtc, config: &Arc<TrackConfig>) -> Option<Pt> {
        if let Some((known, pt)) = &self.config
            && Arc::ptr_eq(known, config)
        {
            return *pt;
        }
        let refused = sdp::cannot_carry(&self.track, &config.codec);
        let pt = if refused.is_none() { choose(rtc, self.mid, &config.codec) } else { None };
        if pt.is_none() {
            let why = refused.unwrap_or_else(|| String::from("the codec was not negotiated"));
            tracing::warn!(track = %self.track.name(), %why, "a viewer's track stops");
        }
        self.config = Some((Arc::clone(config), pt));
        pt
    }
}

/// The negotiated payload type that fits a codec best.
fn choose(rtc: &Rtc, mid: Mid, codec: &Codec) -> Option<Pt> {
    use str0m::format::Codec as Wire;
    let media = rtc.media(mid)?;
    let wanted = match codec {
        Codec::H264(_) => Wire::H264,
        Codec::Vp8(_) => Wire::Vp8,
        Codec::Vp9(_) => Wire::Vp9,
        Codec::Av1(_) => Wire::Av1,
        Codec::Opus(_) => Wire::Opus,
        Codec::H265(_) | Codec::Aac(_) => return None,
    };
    let params = rtc.codec_config().params().iter();
    let fits = |p: &&str0m::format::PayloadParams| {
        let format = p.spec().format;
        let mode = wanted != Wire::H264 || format.packetization_mode == Some(1);
        p.spec().codec == wanted && mode && media.remote_pts().contains(&p.pt())
    };
    let rank = |p: &&str0m::format::PayloadParams| {
        let format = p.spec().format;
        match codec {
            // The nearest profile: browsers decode more than they list.
            Codec::H264(config) => {
                let profile = format.profile_level_id.unwrap_or_default() >> 16;
                profile.abs_diff(u32::from(config.profile))
            }
            Codec::Vp9(config) => {
                format.profile_id.unwrap_or_default().abs_diff(u32::from(config.profile))
            }
            _ => 0,
        }
    };
    params.filter(fits).min_by_key(rank).map(|p| p.pt())
}

/// A token bucket of bytes.
struct Pace {
    budget: i64,
    at: Instant,
}

impl Pace {
    fn refill(&mut self, now: Instant) {
        let micros = now.saturating_duration_since(self.at).as_micros();
        let bytes = micros.saturating_mul(u128::from(PACE_BYTES_PER_SECOND)) / 1_000_000;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.budget = self.budget.saturating_add(bytes).min(PACE_BURST_BYTES as i64);
        self.at = self.at.max(now);
    }

    /// When bytes may leave again.
    fn ready(&self) -> Instant {
        let missing = (PACE_QUANTUM_BYTES as i64).saturating_sub(self.budget);
        let missing = u64::try_from(missing).unwrap_or_default();
        self.at + Duration::from_micros(missing.saturating_mul(1_000_000) / PACE_BYTES_PER_SECOND)
    }
}
