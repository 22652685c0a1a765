//! One publisher by WHIP: the engine packetizes, resends and answers keyframe requests.
//!
//! Not here: signalling's HTTP (`http`), the peer's loop contract (`rtc`).
#![allow(clippy::disallowed_methods, reason = "driver: reads clocks, waits")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use str0m::format::Codec;
use str0m::media::{Direction, Frequency, MediaKind, MediaTime, Mid, Pt};
use str0m::{Event, Rtc};
use tokio::sync::watch;

use super::{Pace, Stream};
use crate::http::{self, Http};
use crate::live::{Side, add, sub};
use crate::rtc::{CONNECT_TIMEOUT, Engine, Handler, Peer, Standing};
use crate::source::Item;

/// Packetization mode 1, Constrained Baseline: what the source makes.
const PROFILE_CONSTRAINED_BASELINE: u32 = 0x42_e0_00;

/// Publishes until told to stop.
///
/// # Errors
/// The server refuses, or the connection is lost.
pub(super) async fn run(
    stream: &Stream,
    engine: &Engine,
    offset: Duration,
    side: &Arc<Side>,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let http = Http::new(stream.token.clone());
    let local = http::local_address(&stream.address).await?;
    let mut peer = Peer::new(engine.config(), local, Instant::now())?;
    let mut api = peer.rtc.sdp_api();
    let video = api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let sound = stream.settings.audio;
    let audio =
        sound.then(|| api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None));
    let (offer, pending) = api.apply().context("no offer can be made")?;
    let accepted = http.offer(&stream.address, offer.to_sdp_string()).await?;
    let answer = str0m::change::SdpAnswer::from_sdp_string(&accepted.answer)?;
    peer.rtc.sdp_api().accept_answer(pending, answer)?;
    let mut publisher =
        Publisher { peer, video, audio, wishes: Wishes::default(), session: accepted.session };
    let result = publisher.publish(stream, offset, side, stop).await;
    publisher.peer.rtc.disconnect();
    if let Some(session) = &publisher.session {
        http.end(session).await;
    }
    result
}

struct Publisher {
    peer: Peer,
    video: Mid,
    audio: Option<Mid>,
    wishes: Wishes,
    session: Option<String>,
}

impl Publisher {
    async fn publish(
        &mut self,
        stream: &Stream,
        offset: Duration,
        side: &Side,
        stop: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + CONNECT_TIMEOUT;
        self.tick();
        while self.peer.standing == Standing::Connecting {
            self.step(until, stop).await;
            if *stop.borrow() {
                return Ok(());
            }
            if until <= Instant::now() {
                bail!("not connected within {} s", CONNECT_TIMEOUT.as_secs());
            }
        }
        add(&side.active, 1);
        let result = self.send(stream, offset, side, stop).await;
        sub(&side.active, 1);
        result
    }

    async fn send(
        &mut self,
        stream: &Stream,
        offset: Duration,
        side: &Side,
        stop: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let video = self.payload_type(self.video, Codec::H264).context("H.264 was refused")?;
        let audio = self.audio.and_then(|mid| Some((mid, self.payload_type(mid, Codec::Opus)?)));
        let mut pace = Pace::new(stream, offset);
        while self.peer.standing == Standing::Connected && !*stop.borrow() {
            if std::mem::take(&mut self.wishes.keyframe) {
                pace.program.want_keyframe();
            }
            while let Some(item) = pace.take(Instant::now()) {
                match item {
                    Item::Video(unit) => {
                        let data = unit.annex_b();
                        add(&side.frames, 1);
                        add(&side.bytes, data.len() as u64);
                        self.write(self.video, video, MediaTime::from_90khz(unit.pts), data)?;
                    }
                    Item::Audio { pts, packet } => {
                        if let Some((mid, pt)) = audio {
                            let time = MediaTime::new(pts, Frequency::FORTY_EIGHT_KHZ);
                            self.write(mid, pt, time, packet.to_vec())?;
                        }
                    }
                }
                self.tick();
            }
            self.step(pace.due(), stop).await;
        }
        if self.peer.standing == Standing::Lost && !*stop.borrow() {
            bail!("the server ended the session");
        }
        Ok(())
    }

    fn write(&mut self, mid: Mid, pt: Pt, time: MediaTime, data: Vec<u8>) -> anyhow::Result<()> {
        let writer = self.peer.rtc.writer(mid).context("the m-line is gone")?;
        writer.write(pt, Instant::now(), time, data)?;
        Ok(())
    }

    /// The payload type of a codec, of H.264 the one that fits best.
    fn payload_type(&mut self, mid: Mid, codec: Codec) -> Option<Pt> {
        let writer = self.peer.rtc.writer(mid)?;
        let fits = |params: &&str0m::format::PayloadParams| params.spec().codec == codec;
        let best = writer.payload_params().filter(fits).max_by_key(|params| {
            let format = params.spec().format;
            let profile = format.profile_level_id.unwrap_or(PROFILE_CONSTRAINED_BASELINE);
            let baseline = profile & 0xff_ff_00 == PROFILE_CONSTRAINED_BASELINE;
            (format.packetization_mode == Some(1), baseline)
        })?;
        Some(best.pt())
    }

    /// Reads and keeps time until `until` at most.
    async fn step(&mut self, until: Instant, stop: &mut watch::Receiver<bool>) {
        self.peer.flush();
        let deadline = self.peer.deadline.min(until);
        tokio::select! {
            biased;
            () = self.peer.readable() => {
                while self.peer.read(Instant::now(), &mut self.wishes) {}
            }
            () = tokio::time::sleep_until(deadline.into()) => {
                if self.peer.deadline <= Instant::now() {
                    self.tick();
                }
            }
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    fn tick(&mut self) {
        self.peer.tick(Instant::now(), &mut self.wishes);
    }
}

/// What the server asked for.
#[derive(Default)]
struct Wishes {
    keyframe: bool,
}

impl Handler for Wishes {
    fn event(&mut self, _: &mut Rtc, event: Event) {
        self.keyframe |= matches!(event, Event::KeyframeRequest(_));
    }
}
