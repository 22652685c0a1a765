//! A viewer's session: frames in, RTP out.
//!
//! A viewer starts at once with the newest group, from its keyframe. The frames of that backlog
//! get time stamps a millisecond apart, ending at the newest frame's own: the player decodes
//! them as fast as it can and shows the present, instead of playing the past at normal speed.
//! Sound starts with the present.
//! Not here: reading the bus (`fanout`), payloads (`packetize`), packets (`egress`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use headwater_media::bus::FrameRef;
use headwater_media::{Track, WallTime};
use str0m::Rtc;
use str0m::crypto::CryptoProvider;
use str0m::rtp::RtpWrite;
use str0m::rtp::rtcp::Rtcp;

use crate::config::SfuConfig;
use crate::egress::keys::SrtpKeys;
use crate::egress::stream::{Egress, FrameOut, Sent};
use crate::egress::{Path, Runs, Sealer, rtcp};
use crate::error::CloseReason;
use crate::metrics;
use crate::outclock::Origin;
use crate::outlet::Outlet;
use crate::pace::Pace;
use crate::packetize::Held;
use crate::peer::Now;
use crate::stats::{DropReason, SessionCounters, SessionKind};

/// Distance of backlog frames' time stamps.
const BACKLOG_STEP_MICROS: i64 = 1_000;

/// Sequence numbers that wait to be sent again; what is asked for beyond is asked for again.
const RESENDS_MAX: usize = 512;

/// A frame that has just come.
#[derive(Clone, Copy)]
pub(crate) struct Fresh<'a> {
    pub(crate) outlet: usize,
    pub(crate) frame: &'a FrameRef,
    pub(crate) packets: &'a Arc<Held>,
}

impl Fresh<'_> {
    /// What is left of it, to wait; only then are references to it counted.
    fn queued(&self, progress: Progress) -> Queued {
        let (frame, packets) = (self.frame.clone(), Arc::clone(self.packets));
        Queued { outlet: self.outlet, frame, packets, progress }
    }
}

/// What has become of a frame.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// How many of its packets have left.
    sent: usize,
    /// The time stamp of those that have left.
    stamp: i64,
    /// For a frame of the backlog: the time it is given, shortly before the newest frame's.
    squeezed: Option<WallTime>,
}

/// A frame that waits.
struct Queued {
    outlet: usize,
    frame: FrameRef,
    packets: Arc<Held>,
    progress: Progress,
}

impl Queued {
    fn fresh(&self) -> Fresh<'_> {
        Fresh { outlet: self.outlet, frame: &self.frame, packets: &self.packets }
    }
}

/// A viewer's session.
pub(crate) struct Viewer {
    config: Arc<SfuConfig>,
    outlets: Vec<Outlet>,
    queue: VecDeque<Queued>,
    /// SSRCs and sequence numbers that the viewer missed.
    missed: Vec<(u32, u16)>,
    origin: Origin,
    pace: Pace,
    /// There once the viewer is connected.
    sealer: Option<Sealer>,
    /// Connected, and the backlog has not been given yet.
    wants_start: bool,
    counters: Arc<SessionCounters>,
}

impl Viewer {
    /// A viewer of tracks by the mids of their m-lines.
    pub(crate) fn new(
        config: Arc<SfuConfig>,
        tracks: Vec<(Track, String)>,
        seed: u64,
        now: Now,
        counters: Arc<SessionCounters>,
    ) -> Self {
        let outlets = tracks.into_iter().enumerate().map(|(index, (track, mid))| {
            // Other bits of the seed for each.
            Outlet::new(track, &mid, (seed >> (16 * (index % 4))) as u16)
        });
        Self {
            outlets: outlets.collect(),
            config,
            queue: VecDeque::new(),
            missed: Vec::new(),
            origin: Origin::default(),
            pace: Pace::new(now.instant),
            sealer: None,
            wants_start: false,
            counters,
        }
    }

    /// The handshake is done: from now on packets can be sent.
    ///
    /// # Errors
    /// [`CloseReason::Protocol`]: the keys are of no use.
    pub(crate) fn connected(
        &mut self,
        rtc: &mut Rtc,
        crypto: &CryptoProvider,
        keys: Option<&SrtpKeys>,
    ) -> Result<(), CloseReason> {
        let sealer = keys.and_then(|keys| Sealer::new(crypto, keys).ok());
        if sealer.is_none() {
            return Err(CloseReason::Protocol(String::from("DTLS gave no keys for SRTP")));
        }
        self.sealer = sealer;
        for outlet in &mut self.outlets {
            outlet.open(rtc, &self.config);
        }
        self.wants_start = true;
        Ok(())
    }

    /// Takes a report or a wish of the viewer.
    pub(crate) fn feedback(&mut self, feedback: &Rtcp, now: Now) {
        match feedback {
            Rtcp::Nack(nack) => {
                metrics::feedback(SessionKind::Viewer, 1, 0);
                self.counters.nacks.fetch_add(1, Ordering::Relaxed);
                for entry in nack.reports.iter() {
                    let more = (0..16).filter(|bit| entry.blp >> bit & 1 == 1);
                    let numbers = std::iter::once(0).chain(more.map(|bit| bit + 1));
                    let room = RESENDS_MAX.saturating_sub(self.missed.len());
                    let missed = numbers.map(|ahead| (*nack.ssrc, entry.pid.wrapping_add(ahead)));
                    self.missed.extend(missed.take(room));
                }
            }
            Rtcp::Pli(pli) => self.wish(*pli.ssrc),
            Rtcp::Fir(fir) => fir.reports.iter().for_each(|entry| self.wish(*entry.ssrc)),
            Rtcp::ReceiverReport(report) => {
                for block in report.reports.iter() {
                    let Some(outlet) = self.outlet_of(*block.ssrc) else { continue };
                    let is_video = outlet.is_video();
                    if let Some(stream) = &mut outlet.stream {
                        stream.acknowledged();
                    }
                    if is_video || self.outlets.len() == 1 {
                        let loss = u32::from(block.fraction_lost) * 1_000 / 256;
                        self.counters.loss_per_mille.store(loss, Ordering::Relaxed);
                    }
                    if let Some(micros) = round_trip(block.last_sr_time, block.last_sr_delay, now) {
                        self.counters.rtt_micros.store(micros, Ordering::Relaxed);
                    }
                }
            }
            _ => {}
        }
    }

    fn outlet_of(&mut self, ssrc: u32) -> Option<&mut Outlet> {
        let has = |outlet: &&mut Outlet| outlet.stream.as_ref().is_some_and(|s| s.ssrc() == ssrc);
        self.outlets.iter_mut().find(has)
    }

    /// The viewer cannot go on without a keyframe.
    fn wish(&mut self, ssrc: u32) {
        if let Some(outlet) = self.outlet_of(ssrc) {
            outlet.track.request_keyframe();
            metrics::feedback(SessionKind::Viewer, 0, 1);
            self.counters.plis.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the backlog is wanted; said once.
    pub(crate) fn take_wants_start(&mut self) -> bool {
        std::mem::take(&mut self.wants_start)
    }

    /// Takes the frames from the newest independent group's start to the present. Empty when
    /// there are none, or too many: then a keyframe is asked for.
    pub(crate) fn start(&mut self, at: usize, backlog: Vec<(FrameRef, Arc<Held>)>) {
        let Some(outlet) = self.outlets.get_mut(at) else { return };
        if backlog.is_empty() || backlog.len() > self.config.viewer_queue_frames / 2 {
            outlet.track.request_keyframe();
            return;
        }
        outlet.waits_for_keyframe = false;
        tracing::debug!(track = %outlet.track.name(), frames = backlog.len(),
            "a viewer starts with the newest group");
        let newest = backlog.last().and_then(|(frame, _)| wall_time(frame));
        for (places, (frame, packets)) in (0..backlog.len()).rev().zip(backlog) {
            let squeeze = (places as i64).saturating_neg() * BACKLOG_STEP_MICROS;
            let squeezed = newest.filter(|_| places > 0).map(|w| w.plus_micros(squeeze));
            let progress = Progress { squeezed, ..Progress::default() };
            self.queue.push_back(Queued { outlet: at, frame, packets, progress });
        }
    }

    /// Whether a new frame is of use: a viewer begins with a keyframe, and so does one that could
    /// not keep up.
    fn admits(&mut self, fresh: &Fresh<'_>) -> bool {
        let Some(outlet) = self.outlets.get_mut(fresh.outlet) else { return false };
        if self.sealer.is_none() || self.wants_start {
            return false;
        }
        if outlet.waits_for_keyframe {
            if !fresh.frame.frame().is_some_and(|frame| frame.keyframe) {
                return false;
            }
            outlet.waits_for_keyframe = false;
        }
        if self.queue.len() >= self.config.viewer_queue_frames {
            self.skip();
            return false;
        }
        true
    }

    /// Drops what waits and goes on with the next keyframe: live beats complete.
    pub(crate) fn skip(&mut self) {
        let dropped = self.queue.len() as u64;
        self.queue.clear();
        for outlet in &mut self.outlets {
            if outlet.is_video() && !outlet.waits_for_keyframe {
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
            && outlet.is_video()
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

    /// Writes what may leave now: what waits, then the frame that has just come.
    ///
    /// # Errors
    /// The session is over: everything has been played, or nothing can be.
    pub(crate) fn pump(
        &mut self,
        rtc: &Rtc,
        path: Path,
        runs: &mut Runs,
        fresh: Option<Fresh<'_>>,
        now: Now,
    ) -> Result<(), CloseReason> {
        let fresh = fresh.filter(|fresh| self.admits(fresh));
        let Some(mut sealer) = self.sealer.take() else { return Ok(()) };
        let mut out = Egress { sealer: &mut sealer, runs, path };
        let mut sent = self.resend(&mut out, now);
        let verdict = self.send(rtc, &mut out, fresh, &mut sent, now);
        // Reports last: the first one follows the first frame.
        for stream in self.outlets.iter_mut().filter_map(|outlet| outlet.stream.as_mut()) {
            sent += stream.report(&mut out, now.instant, now.wall);
        }
        self.sealer = Some(sealer);
        self.counters.packets_out.fetch_add(sent.packets, Ordering::Relaxed);
        self.counters.bytes_out.fetch_add(sent.bytes, Ordering::Relaxed);
        verdict
    }

    /// Sends again what the viewer missed.
    fn resend(&mut self, out: &mut Egress<'_>, now: Now) -> Sent {
        let mut sent = Sent::default();
        for (ssrc, sequence) in std::mem::take(&mut self.missed) {
            if let Some(stream) = self.outlet_of(ssrc).and_then(|outlet| outlet.stream.as_mut()) {
                sent += stream.resend(out, sequence, now.instant);
            }
        }
        metrics::resent(sent.packets);
        sent
    }

    fn send(
        &mut self,
        rtc: &Rtc,
        out: &mut Egress<'_>,
        fresh: Option<Fresh<'_>>,
        sent: &mut Sent,
        now: Now,
    ) -> Result<(), CloseReason> {
        self.pace.refill(now.instant);
        while self.pace.budget > 0
            && let Some(mut queued) = self.queue.pop_front()
        {
            let mut progress = queued.progress;
            *sent += self.write(rtc, out, &queued.fresh(), &mut progress, now)?;
            if progress.sent < queued.packets.payloads.len() {
                queued.progress = progress;
                self.queue.push_front(queued);
            }
        }
        if let Some(fresh) = fresh {
            let mut progress = Progress::default();
            if self.queue.is_empty() && self.pace.budget > 0 {
                *sent += self.write(rtc, out, &fresh, &mut progress, now)?;
            }
            if progress.sent < fresh.packets.payloads.len() {
                self.queue.push_back(fresh.queued(progress));
            }
        }
        if self.queue.is_empty() && self.outlets.iter().all(|outlet| outlet.ended) {
            return Err(CloseReason::Ended);
        }
        Ok(())
    }

    /// Writes a frame's packets, as many as the pace allows. What cannot be sent at all counts as
    /// sent.
    fn write(
        &mut self,
        rtc: &Rtc,
        out: &mut Egress<'_>,
        fresh: &Fresh<'_>,
        progress: &mut Progress,
        now: Now,
    ) -> Result<Sent, CloseReason> {
        let from = std::mem::replace(&mut progress.sent, fresh.packets.payloads.len());
        let nothing = Ok(Sent::default());
        let Some(outlet) = self.outlets.get_mut(fresh.outlet) else { return nothing };
        let (group, Some(frame)) = (&fresh.frame.group, fresh.frame.frame()) else {
            return nothing;
        };
        let header = group.header();
        let Some(types) = outlet.payload_types(rtc, &header.config) else {
            self.counters.count_drop(DropReason::Codec, 1);
            metrics::dropped(DropReason::Codec, 1);
            return self.all_refused().map(|()| Sent::default());
        };
        let Some(wall) = progress.squeezed.or_else(|| wall_time(fresh.frame)) else {
            return nothing;
        };
        if from == 0 {
            progress.stamp = match progress.squeezed {
                Some(wall) => outlet.clock.stamp_by_wall(&mut self.origin, wall),
                None => outlet.clock.stamp(&mut self.origin, frame.pts, wall, header.discontinuity),
            };
        }
        let moment = self.origin.moment(wall, now);
        let video = outlet.is_video();
        let Some(stream) = &mut outlet.stream else { return nothing };
        let frame_out = FrameOut {
            packets: fresh.packets,
            from,
            // The low 32 bits are the RTP time stamp.
            time: progress.stamp as u32,
            marked: video,
            keyframe: frame.keyframe,
        };
        let budget = &mut self.pace.budget;
        let (next, sent) = stream.send(out, &frame_out, types, moment, now.instant, budget);
        progress.sent = next;
        if next == fresh.packets.payloads.len() {
            self.counters.frames.fetch_add(1, Ordering::Relaxed);
            if frame.keyframe && video {
                self.counters.keyframes.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(sent)
    }

    /// A track that cannot go on is dropped; a viewer without any is closed.
    fn all_refused(&self) -> Result<(), CloseReason> {
        if !self.outlets.iter().all(Outlet::is_refused) {
            return Ok(());
        }
        Err(CloseReason::Renegotiate(String::from(
            "the stream's codec changed to one this player did not negotiate; connect again",
        )))
    }

    /// Says goodbye (RTCP BYE).
    pub(crate) fn goodbye(&mut self, path: Path, runs: &mut Runs) {
        let streams = self.outlets.iter().filter_map(|outlet| outlet.stream.as_ref());
        let sources: Vec<u32> = streams.map(|stream| stream.ssrc()).collect();
        if let Some(sealer) = &mut self.sealer
            && !sources.is_empty()
        {
            runs.push(path, &sealer.rtcp(&rtcp::goodbye(&sources)));
        }
    }

    /// Has the engine write a packet that will not leave: where it would have gone is the way to
    /// the viewer that ICE has chosen. False while nothing has been sent.
    pub(crate) fn probe_path(&mut self, rtc: &mut Rtc, now: Now) -> bool {
        let Some((mid, payload_type)) =
            self.outlets.iter().find_map(|o| Some((o.mid, o.current_payload_type()?)))
        else {
            return false;
        };
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(mid, None) else { return false };
        let nothing: Arc<[u8]> = Arc::default();
        stream.write_rtp(RtpWrite::new(payload_type.into(), 0.into(), 0, now.instant, nothing));
        true
    }

    /// When [`Self::pump`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.sealer.as_ref()?;
        let streams = self.outlets.iter().filter_map(|outlet| outlet.stream.as_ref());
        let report = streams.filter_map(|stream| stream.report_at()).min();
        let pace = (!self.queue.is_empty()).then(|| self.pace.ready());
        report.into_iter().chain(pace).min()
    }
}

/// The round trip in microseconds that a receiver report tells of (RFC 3550 §6.4.1), where it has
/// seen a sender report.
fn round_trip(last_report: u32, delay: u32, now: Now) -> Option<u64> {
    if last_report == 0 {
        return None;
    }
    let units = rtcp::ntp_middle(now.wall).wrapping_sub(last_report).wrapping_sub(delay);
    // A clock that stepped makes it negative.
    let units = u64::try_from(units.cast_signed()).ok()?;
    Some(units * 1_000_000 / 65_536)
}

/// A frame's wall-clock time.
fn wall_time(frame: &FrameRef) -> Option<WallTime> {
    let header = frame.group.header();
    let first = frame.group.frame(0).map_or(header.start, |frame| frame.pts);
    Some(header.wall.plus_micros(frame.frame()?.pts.since(first).micros()))
}
