//! One WebRTC peer as a state machine around str0m: bytes and time in, datagrams out.
//!
//! Keeps str0m's contract: one mutation, then its output drained to the next timeout. A viewer's
//! media and reports do not come from str0m but from `egress`, under the keys of str0m's
//! handshake, on the way that str0m's ICE has chosen.
//! Not here: what publishers and viewers do with media (`publisher`, `viewer`), sockets (`worker`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use headwater_media::WallTime;
use headwater_media::bus::FrameRef;
use str0m::change::SdpOffer;
use str0m::config::CryptoProvider;
use str0m::error::RtcError;
use str0m::net::{DatagramSend, Protocol, Receive, Transmit};
use str0m::rtp::RawPacket;
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

use crate::config::SfuConfig;
use crate::egress::{Path, Runs, keys};
use crate::engine::Engine;
use crate::error::{CloseReason, SfuError};
use crate::packetize::Held;
use crate::publisher::Publisher;
use crate::sdp::{self, Direction, Fragment, Offer};
use crate::stats::{SessionCounters, SessionKind};
use crate::tallies::{BadFrames, Totals};
use crate::viewer::{Fresh, Viewer};

/// The two clocks, read together by a driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: WallTime,
}

impl Now {
    /// The wall-clock time of an earlier (or later) moment.
    pub(crate) fn wall_at(&self, instant: Instant) -> WallTime {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        if instant <= self.instant {
            self.wall.plus_micros(micros(self.instant - instant).saturating_neg())
        } else {
            self.wall.plus_micros(micros(instant - self.instant))
        }
    }
}

/// A viewer whose reports do not come for so long is looked for where ICE says: reports on sound
/// alone come every 2.5 to 7.5 s.
const REPORTS_AWAITED: Duration = Duration::from_secs(10);

/// First bytes of SRTP and SRTCP packets (RFC 7983 §7).
const SRTP_FIRST_BYTES: std::ops::RangeInclusive<u8> = 128..=191;
/// First bytes of STUN messages.
const STUN_FIRST_BYTES: std::ops::RangeInclusive<u8> = 0..=3;

/// A datagram (or TCP frame) that the engine sends.
pub(crate) struct Outgoing {
    pub(crate) tcp: bool,
    pub(crate) destination: SocketAddr,
    pub(crate) contents: DatagramSend,
}

/// Where a peer puts what is to leave.
pub(crate) struct Out<'a> {
    /// What the engine sends.
    pub(crate) engine: Vec<Outgoing>,
    /// A viewer's media and reports.
    pub(crate) runs: &'a mut Runs,
    /// From which of our addresses a peer's address is answered.
    pub(crate) from: &'a dyn Fn(bool, SocketAddr) -> Option<IpAddr>,
}

/// What a peer is for.
pub(crate) enum Role {
    Publisher(Box<Publisher>),
    Viewer(Box<Viewer>),
}

#[derive(Debug, PartialEq)]
enum State {
    HalfOpen {
        until: Instant,
    },
    Connected,
    /// Goodbyes are being sent.
    Closed(CloseReason),
}

/// One WebRTC peer.
pub(crate) struct Peer {
    rtc: Rtc,
    crypto: Arc<CryptoProvider>,
    role: Role,
    /// The way to the peer: over TCP or not, and its address. It is the one that ICE has chosen;
    /// a viewer is followed to wherever its reports come from, which ICE may learn of later.
    path: Option<(bool, SocketAddr)>,
    /// When a viewer's report last came.
    reported: Option<Instant>,
    /// What is being received is the peer's beyond doubt: it was decrypted.
    proved: bool,
    counters: Arc<SessionCounters>,
    offer: Offer,
    etag: String,
    state: State,
    idle_timeout: Duration,
    rtc_deadline: Instant,
    last_heard: Instant,
    totals: Totals,
    bad_frames: BadFrames,
}

/// A peer that has just been made, with its answer.
pub(crate) struct Made {
    pub(crate) peer: Peer,
    pub(crate) sdp: String,
    /// What the client goes without, and what would help.
    pub(crate) warnings: Vec<String>,
}

impl Peer {
    /// Accepts an offer whose directions have been planned already.
    ///
    /// # Errors
    /// The engine refuses the offer.
    pub(crate) fn accept(
        engine: &Engine,
        config: &SfuConfig,
        candidates: &[SocketAddr],
        offer: Offer,
        role: Role,
        counters: Arc<SessionCounters>,
        now: Now,
    ) -> Result<Made, SfuError> {
        let mut rtc = match role {
            Role::Publisher(_) => engine.publisher(now.instant),
            Role::Viewer(_) => engine.viewer(now.instant),
        };
        for address in candidates {
            let udp = Candidate::host(*address, "udp").ok();
            let tcp = config.tcp.then(|| tcp_candidate(*address)).flatten();
            for candidate in udp.into_iter().chain(tcp) {
                rtc.add_local_candidate(candidate);
            }
        }
        let mut peer = Self {
            rtc,
            crypto: Arc::clone(&engine.crypto),
            role,
            path: None,
            reported: None,
            proved: false,
            counters,
            offer,
            etag: String::new(),
            state: State::HalfOpen { until: now.instant + config.handshake_timeout },
            idle_timeout: config.idle_timeout,
            rtc_deadline: now.instant,
            last_heard: now.instant,
            totals: Totals::default(),
            bad_frames: BadFrames::new(now.instant),
        };
        let sdp = peer.answer()?;
        let warnings = peer.check(&sdp)?;
        Ok(Made { peer, sdp, warnings })
    }

    /// Whether the engine has accepted what was planned: it knows the codecs' profiles. Gives
    /// what the client goes without.
    fn check(&self, answer: &str) -> Result<Vec<String>, SfuError> {
        let accepted = sdp::accepted(answer);
        let planned = self.offer.lines.iter().zip(accepted).filter(|(line, _)| {
            line.is_media() && !line.rejected && line.direction != Direction::Inactive
        });
        let (taken, refused): (Vec<_>, Vec<_>) = planned.partition(|(_, accepted)| *accepted);
        let refused = refused.into_iter().map(|(line, _)| {
            format!(
                "m-line {} offers no known profile of its codecs: offer H.264 Baseline, Main or \
                 High up to level 5.2, VP8, VP9, AV1 or Opus",
                line.mid
            )
        });
        let refused: Vec<String> = refused.collect();
        if taken.is_empty() {
            Err(SfuError::NotAcceptable(refused.join("; ")))
        } else {
            Ok(refused)
        }
    }

    /// Gives the current offer to the engine.
    fn answer(&mut self) -> Result<String, SfuError> {
        let refused = |error: &dyn std::fmt::Display| SfuError::MalformedSdp(error.to_string());
        let offer = SdpOffer::from_sdp_string(&self.offer.render()).map_err(|e| refused(&e))?;
        let answer = self.rtc.sdp_api().accept_offer(offer).map_err(|e| refused(&e))?;
        let mut sdp = answer.to_sdp_string();
        if !self.offer.bundled {
            sdp = sdp::unbundled(&sdp);
        }
        self.etag = sdp::attribute(&sdp, "ice-ufrag").unwrap_or_default().to_owned();
        Ok(sdp)
    }

    /// The ICE user name that checks for this session bear, and the entity tag of its ICE
    /// generation.
    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    pub(crate) fn kind(&self) -> SessionKind {
        match self.role {
            Role::Publisher(_) => SessionKind::Publisher,
            Role::Viewer(_) => SessionKind::Viewer,
        }
    }

    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// Why it is over, once it is.
    pub(crate) fn closed(&self) -> Option<&CloseReason> {
        match &self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Trickled candidates or an ICE restart (RFC 9725 §4.4). Gives the fragment of the answer
    /// when the peer restarted.
    ///
    /// # Errors
    /// The engine refuses the new generation.
    pub(crate) fn patch(
        &mut self,
        fragment: &Fragment,
        now: Now,
        out: &mut Out<'_>,
    ) -> Result<Option<String>, SfuError> {
        if self.offer.credentials() == (fragment.ufrag.as_str(), fragment.password.as_str()) {
            return Ok(None);
        }
        let before = self.offer.clone();
        self.offer.restart(&fragment.ufrag, &fragment.password);
        // A restart that failed has not been: the next attempt is one again.
        let answer = self.answer().inspect_err(|_| self.offer = before)?;
        self.drain(now, out);
        Ok(Some(sdp::answer_fragment(&answer)))
    }

    /// Takes a datagram from the peer. Wrong ones are ignored. Says whether it is the peer's
    /// beyond doubt, being media or a report that was decrypted.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        tcp: bool,
        source: SocketAddr,
        local: SocketAddr,
        data: &[u8],
        out: &mut Out<'_>,
    ) -> bool {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let Ok(receive) = Receive::new(protocol, source, local, data) else { return false };
        self.counters.packets_in.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_in.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.last_heard = now.instant;
        self.proved = false;
        self.input(Input::Receive(now.instant, receive), now, out);
        let way = (tcp, source);
        if self.proved && self.is_viewer() && self.state == State::Connected {
            self.path = Some(way);
            self.reported = Some(now.instant);
        }
        let check = data.first().is_some_and(|first| STUN_FIRST_BYTES.contains(first));
        if check && self.path.is_some_and(|path| path != way) && !self.is_followed(now) {
            self.look_for_path(now, out);
        }
        self.pump(now, out);
        self.proved
    }

    fn is_viewer(&self) -> bool {
        matches!(self.role, Role::Viewer(_))
    }

    /// Whether a viewer's reports tell where it is.
    fn is_followed(&self, now: Now) -> bool {
        self.reported.is_some_and(|at| now.instant < at + REPORTS_AWAITED)
    }

    /// After a check from another address than the one in use: has ICE chosen another way?
    fn look_for_path(&mut self, now: Now, out: &mut Out<'_>) {
        if let Role::Viewer(viewer) = &mut self.role
            && viewer.probe_path(&mut self.rtc, now)
        {
            self.reported = None;
            self.input(Input::Timeout(now.instant), now, out);
        }
    }

    /// Does what is due.
    pub(crate) fn timeout(&mut self, now: Now, out: &mut Out<'_>) {
        match self.state {
            State::HalfOpen { until } if until <= now.instant => {
                self.close(CloseReason::HandshakeTimeout, now, out);
                return;
            }
            State::Connected if self.last_heard + self.idle_timeout <= now.instant => {
                self.close(CloseReason::IdleTimeout, now, out);
                return;
            }
            _ => {}
        }
        if self.rtc_deadline <= now.instant {
            self.input(Input::Timeout(now.instant), now, out);
        }
        if let Role::Publisher(publisher) = &mut self.role {
            match publisher.timeout(&mut self.rtc, now) {
                Ok(false) => {}
                // Lets time pass in the engine, so that what was written leaves.
                Ok(true) => self.input(Input::Timeout(now.instant), now, out),
                Err(reason) => self.close(reason, now, out),
            }
        }
        self.pump(now, out);
    }

    /// Gives a viewer's session something and lets it write.
    pub(crate) fn feed(&mut self, now: Now, out: &mut Out<'_>, give: impl FnOnce(&mut Viewer)) {
        let Role::Viewer(viewer) = &mut self.role else { return };
        give(viewer);
        self.pump(now, out);
    }

    /// Gives a viewer's session a new frame of one of its tracks.
    pub(crate) fn offer(
        &mut self,
        now: Now,
        out: &mut Out<'_>,
        outlet: usize,
        frame: &FrameRef,
        packets: &Arc<Held>,
    ) {
        let fresh = Fresh { outlet, frame, packets };
        self.pump_with(Some(fresh), now, out);
    }

    /// Lets a viewer's session write what may leave now.
    fn pump(&mut self, now: Now, out: &mut Out<'_>) {
        self.pump_with(None, now, out);
    }

    fn pump_with(&mut self, fresh: Option<Fresh<'_>>, now: Now, out: &mut Out<'_>) {
        let Some(path) = self.media_path(out) else { return };
        let Role::Viewer(viewer) = &mut self.role else { return };
        if let Err(reason) = viewer.pump(&self.rtc, path, out.runs, fresh, now) {
            self.close(reason, now, out);
        }
    }

    /// The way to the peer that ICE has chosen: over TCP or not, and its address.
    pub(crate) fn path(&self) -> Option<(bool, SocketAddr)> {
        self.path
    }

    /// The way that media takes, while the session is on.
    fn media_path(&self, out: &Out<'_>) -> Option<Path> {
        let (tcp, destination) = self.path.filter(|_| self.state == State::Connected)?;
        Some(Path { tcp, destination, from: (out.from)(tcp, destination) })
    }

    /// Whether a viewer has just connected and wants its backlog.
    pub(crate) fn take_wants_start(&mut self) -> bool {
        match &mut self.role {
            Role::Viewer(viewer) => viewer.take_wants_start(),
            Role::Publisher(_) => false,
        }
    }

    fn input(&mut self, input: Input<'_>, now: Now, out: &mut Out<'_>) {
        if let Err(error) = self.rtc.handle_input(input) {
            // A single bad packet is not the end of a session; a dead engine is noticed below.
            tracing::debug!(%error, "the engine refused an input");
        }
        self.drain(now, out);
    }

    fn drain(&mut self, now: Now, out: &mut Out<'_>) {
        // Keys of another peer, whose handshake ended with its session, are nobody's.
        drop(keys::take());
        let mut verdict = Ok(());
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.rtc_deadline = at;
                    break;
                }
                Ok(Output::Transmit(transmit)) => self.transmit(transmit, out),
                Ok(Output::Event(event)) => {
                    let result = self.event(event, now);
                    verdict = verdict.and(result);
                }
                Err(RtcError::Packet(mid, _, error)) if self.bad_frames.count(now.instant) => {
                    tracing::debug!(%mid, %error, "a frame cannot be put together");
                    crate::metrics::bad_frame();
                    if let Role::Publisher(publisher) = &mut self.role {
                        publisher.frame_lost();
                    }
                }
                Err(error) => {
                    verdict = verdict.and(Err(CloseReason::Protocol(error.to_string())));
                    break;
                }
            }
        }
        match verdict {
            Err(reason) => self.close(reason, now, out),
            Ok(()) if !self.rtc.is_alive() => self.finish(CloseReason::PeerClosed),
            Ok(()) => {}
        }
    }

    /// Passes on what the engine sends, but for a viewer's SRTP, which is ours.
    fn transmit(&mut self, transmit: Transmit, out: &mut Out<'_>) {
        let first = transmit.contents.first().copied().unwrap_or_default();
        let way = (transmit.proto != Protocol::Udp, transmit.destination);
        // Checks are answered whence they came; all else takes the way that ICE has chosen.
        if !STUN_FIRST_BYTES.contains(&first) && self.reported.is_none() {
            self.path = Some(way);
        }
        if self.is_viewer() && SRTP_FIRST_BYTES.contains(&first) {
            return;
        }
        self.counters.packets_out.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_out.fetch_add(transmit.contents.len() as u64, Ordering::Relaxed);
        let (tcp, destination) = way;
        out.engine.push(Outgoing { tcp, destination, contents: transmit.contents });
    }

    fn event(&mut self, event: Event, now: Now) -> Result<(), CloseReason> {
        match &event {
            Event::Connected if self.is_half_open() => {
                self.state = State::Connected;
                self.counters.connected.store(1, Ordering::Relaxed);
                let keys = keys::take();
                if let Role::Viewer(viewer) = &mut self.role {
                    viewer.connected(&mut self.rtc, &self.crypto, keys.as_ref())?;
                }
            }
            Event::Closed => return Err(CloseReason::PeerClosed),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                tracing::debug!("ICE lost its last pair");
            }
            Event::PeerStats(stats) if self.kind() == SessionKind::Publisher => {
                let loss = stats.egress_loss_fraction.or(stats.ingress_loss_fraction);
                if let Some(loss) = loss {
                    let per_mille = (loss.clamp(0.0, 1.0) * 1_000.0) as u32;
                    self.counters.loss_per_mille.store(per_mille, Ordering::Relaxed);
                }
                if let Some(rtt) = stats.rtt {
                    let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
                    self.counters.rtt_micros.store(micros, Ordering::Relaxed);
                }
            }
            Event::MediaIngressStats(stats) => {
                let track = format!("{}{:?}", stats.mid, stats.rid);
                self.count(track, stats.nacks, stats.plis + stats.firs);
            }
            _ => {}
        }
        self.proved |= match &event {
            Event::RawPacket(packet) => matches!(**packet, RawPacket::RtcpRx(_)),
            Event::MediaData(_) | Event::SenderFeedback(_) => true,
            _ => false,
        };
        match &mut self.role {
            Role::Publisher(publisher) => {
                publisher.event(&mut self.rtc, event, &self.counters, now)
            }
            Role::Viewer(viewer) => {
                if let Event::RawPacket(packet) = &event
                    && let RawPacket::RtcpRx(feedback) = &**packet
                {
                    viewer.feedback(feedback, now);
                }
                Ok(())
            }
        }
    }

    fn count(&mut self, track: String, nacks: u64, plis: u64) {
        let (nacks, plis) = self.totals.news(track, nacks, plis);
        self.counters.nacks.fetch_add(nacks, Ordering::Relaxed);
        self.counters.plis.fetch_add(plis, Ordering::Relaxed);
        crate::metrics::feedback(self.kind(), nacks, plis);
    }

    /// Says goodbye (RTCP BYE, DTLS close) and ends the session.
    pub(crate) fn close(&mut self, reason: CloseReason, now: Now, out: &mut Out<'_>) {
        if self.closed().is_some() {
            return;
        }
        if let Some(path) = self.media_path(out)
            && let Role::Viewer(viewer) = &mut self.role
        {
            viewer.goodbye(path, out.runs);
        }
        self.finish(reason);
        if self.rtc.close().is_ok() && self.rtc.handle_input(Input::Timeout(now.instant)).is_ok() {
            while let Ok(output) = self.rtc.poll_output() {
                match output {
                    Output::Transmit(transmit) => self.transmit(transmit, out),
                    Output::Event(_) => {}
                    Output::Timeout(_) => break,
                }
            }
        }
        self.rtc.disconnect();
    }

    /// Ends the session without a word to the peer.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        if self.closed().is_some() {
            return;
        }
        if let Role::Publisher(publisher) = &mut self.role {
            publisher.closed(reason.clone());
        }
        self.counters.connected.store(0, Ordering::Relaxed);
        self.state = State::Closed(reason);
    }

    /// When [`Self::timeout`] is to be called.
    pub(crate) fn deadline(&self) -> Instant {
        let own = match &self.state {
            State::HalfOpen { until } => *until,
            State::Connected => self.last_heard + self.idle_timeout,
            State::Closed(_) => return self.rtc_deadline,
        };
        let role = match &self.role {
            Role::Publisher(publisher) => publisher.deadline(),
            Role::Viewer(viewer) => viewer.deadline(),
        };
        role.into_iter().fold(own.min(self.rtc_deadline), Instant::min)
    }
}

fn tcp_candidate(address: SocketAddr) -> Option<Candidate> {
    Candidate::builder().tcp().host(address).tcptype(str0m::net::TcpType::Passive).build().ok()
}
