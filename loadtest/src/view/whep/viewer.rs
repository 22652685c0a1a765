//! One viewer by WHEP, from its offer to its goodbye.
//!
//! Not here: threads and commands (the parent), when a frame is whole (`frames`).
#![allow(clippy::disallowed_methods, reason = "driver: reads clocks, waits")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use str0m::media::{Direction, KeyframeRequestKind, MediaKind};
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::{Event, Rtc};
use tokio::sync::watch;

use super::frames::Frames;
use super::{Shared, Tally, count};
use crate::clock::now_us;
use crate::live::{add, sub};
use crate::meter::Meter;
use crate::rtc::{CONNECT_TIMEOUT, Handler, Peer, Standing};

/// A keyframe is asked for at most so often.
const PLI_SPACING: Duration = Duration::from_secs(1);
/// Reads of a socket before timers get their turn.
const READS_MAX: usize = 16;
/// First bytes of RTP and RTCP packets, and the payload types that RTCP takes (RFC 5761 §4).
const RTP_FIRST: std::ops::RangeInclusive<u8> = 128..=191;
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 64..=95;

/// Views until told to leave, or cut off.
pub(super) async fn run(shared: Rc<Shared>, url: String, mut leave: watch::Receiver<bool>) {
    let Ok(permit) = shared.joining.acquire().await else { return };
    if *leave.borrow() {
        return;
    }
    let side = &shared.side;
    add(&side.started, 1);
    let mut meter = Meter::new(shared.frame_interval_us);
    meter.on_join(now_us());
    let joined = join(&shared, &url).await;
    let (mut peer, session) = match joined {
        Ok(joined) => joined,
        Err(problem) => {
            side.fail(problem);
            side.left(&meter);
            return;
        }
    };
    let mut viewer = Viewer::new(&shared, meter);
    let until = tokio::time::Instant::now() + CONNECT_TIMEOUT;
    let connect = viewer.play(&mut peer, |standing| standing != Standing::Connecting);
    let connected = tokio::select! {
        biased;
        _ = leave.wait_for(|leave| *leave) => None,
        result = tokio::time::timeout_at(until, connect) => Some(result.is_ok()),
    };
    drop(permit);
    match connected {
        Some(true) if peer.standing == Standing::Connected => {
            add(&side.active, 1);
            let dead = shared.behaviour.dead;
            let play = async {
                if dead {
                    std::future::pending::<()>().await
                }
                viewer.play(&mut peer, |standing| standing == Standing::Lost).await;
            };
            tokio::select! {
                biased;
                _ = leave.wait_for(|leave| *leave) => {}
                () = play => side.fail("the server ended the session"),
            }
            sub(&side.active, 1);
        }
        None => {}
        _ => side.fail(format!("not connected within {} s", CONNECT_TIMEOUT.as_secs())),
    }
    if !shared.behaviour.dead {
        viewer.meter.on_leave(now_us());
    }
    side.left(&viewer.meter);
    peer.rtc.disconnect();
    if let Some(session) = session {
        shared.http.end(&session).await;
    }
}

/// Makes the offer and takes the answer.
async fn join(shared: &Shared, url: &str) -> Result<(Peer, Option<String>), String> {
    let config = shared.engine.config().set_rtp_mode(true);
    let mut peer = Peer::new(config, shared.local, Instant::now()).map_err(|e| e.to_string())?;
    let mut api = peer.rtc.sdp_api();
    for kind in [MediaKind::Video, MediaKind::Audio] {
        api.add_media(kind, Direction::RecvOnly, None, None, None);
    }
    let (offer, pending) = api.apply().ok_or("no offer can be made")?;
    let accepted = shared.http.offer(url, offer.to_sdp_string()).await;
    let accepted = accepted.map_err(|refused| format!("WHEP: {refused}"))?;
    let answer = str0m::change::SdpAnswer::from_sdp_string(&accepted.answer)
        .map_err(|error| format!("the answer is not understood: {error}"))?;
    peer.rtc
        .sdp_api()
        .accept_answer(pending, answer)
        .map_err(|error| format!("the answer does not fit the offer: {error}"))?;
    Ok((peer, accepted.session))
}

/// What a viewer knows beside its peer.
struct Viewer<'a> {
    meter: Meter,
    frames: Frames,
    video: Option<Ssrc>,
    asked_at: Option<Instant>,
    drop: f64,
    random: u64,
    /// The wall clock of what is being read.
    wall: u64,
    tally: &'a Tally,
}

impl<'a> Viewer<'a> {
    fn new(shared: &'a Shared, meter: Meter) -> Self {
        Self {
            meter,
            frames: Frames::default(),
            video: None,
            asked_at: None,
            drop: shared.behaviour.drop,
            random: now_us() | 1,
            wall: now_us(),
            tally: &shared.tally,
        }
    }

    /// Reads and keeps time until `done` says so.
    async fn play(&mut self, peer: &mut Peer, done: impl Fn(Standing) -> bool) {
        self.tick(peer);
        while !done(peer.standing) {
            peer.flush();
            let deadline = peer.deadline.into();
            tokio::select! {
                biased;
                () = peer.readable() => self.read(peer),
                () = tokio::time::sleep_until(deadline) => self.tick(peer),
            }
        }
        peer.flush();
    }

    fn read(&mut self, peer: &mut Peer) {
        for _ in 0..READS_MAX {
            self.wall = now_us();
            if !peer.read(Instant::now(), self) {
                break;
            }
        }
        if peer.deadline <= Instant::now() {
            self.tick(peer);
        }
    }

    fn tick(&mut self, peer: &mut Peer) {
        let now = Instant::now();
        self.wall = now_us();
        if self.frames.gives_up(self.wall)
            && self.asked_at.is_none_or(|at| at + PLI_SPACING <= now)
            && let Some(video) = self.video
            && let Some(stream) = peer.rtc.direct_api().stream_rx(&video)
        {
            stream.request_keyframe(KeyframeRequestKind::Pli);
            self.asked_at = Some(now);
        }
        peer.tick(now, self);
    }

    fn is_video(&mut self, rtc: &mut Rtc, packet: &RtpPacket) -> bool {
        let ssrc = packet.header.ssrc;
        if self.video.is_none() {
            let mid = rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid());
            let media = mid.and_then(|mid| rtc.media(mid));
            if media.is_some_and(|media| media.kind() == MediaKind::Video) {
                self.video = Some(ssrc);
            }
        }
        self.video == Some(ssrc)
    }

    /// Chance, by xorshift.
    fn drops(&mut self) -> bool {
        if self.drop <= 0.0 {
            return false;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) as f64 / (1_u64 << 53) as f64) < self.drop
    }
}

impl Handler for Viewer<'_> {
    fn admits(&mut self, datagram: &[u8]) -> bool {
        if !is_rtp(datagram) {
            return true;
        }
        count(&self.tally.packets, 1);
        count(&self.tally.bytes, datagram.len() as u64);
        let drops = self.drops();
        count(&self.tally.dropped, u64::from(drops));
        !drops
    }

    fn event(&mut self, rtc: &mut Rtc, event: Event) {
        let Event::RtpPacket(packet) = event else { return };
        if !self.is_video(rtc, &packet) {
            return;
        }
        let (number, time, marker) = (*packet.seq_no, packet.time.numer(), packet.header.marker);
        let whole = self.frames.packet(number, time, marker, &packet.payload, self.wall);
        let Some(stamp) = whole else { return };
        count(&self.tally.frames, 1);
        if let Some(latency) = self.meter.on_frame(stamp, self.wall) {
            self.tally.latency.borrow_mut().record(latency);
        }
    }
}

fn is_rtp(datagram: &[u8]) -> bool {
    match datagram {
        [first, kind, ..] => RTP_FIRST.contains(first) && !RTCP_TYPES.contains(&(kind & 0x7f)),
        _ => false,
    }
}
