//! Publishers packet by packet: what they should not send, and what others send in their name.
//! Not here: well-behaved publishers (`publish`).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests drive sockets and clocks"
)]

mod client;

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use client::{Client, PATIENCE, session, sfu, stream};
use headwater_sfu::{CloseReason, IncomingFrame, PublisherSink, Sfu, SinkClosed};
use str0m::change::SdpAnswer;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Input, Output, Rtc, RtcConfig};

struct Sink(Sender<Result<IncomingFrame, CloseReason>>);

impl PublisherSink for Sink {
    fn frame(&mut self, frame: IncomingFrame) -> Result<(), SinkClosed> {
        self.0.send(Ok(frame)).map_err(|_| SinkClosed)
    }
    fn wants_keyframe(&mut self, _: Instant) -> bool {
        false
    }
    fn connected(&mut self) {}
    fn closed(&mut self, reason: CloseReason) {
        let _ = self.0.send(Err(reason));
    }
}

/// A publisher of H.264 whose every packet is made by the test.
struct Publisher {
    client: Client,
    heard: Receiver<Result<IncomingFrame, CloseReason>>,
    mid: Mid,
    pt: Pt,
    sequence: u64,
    time: u32,
}

impl Publisher {
    async fn start(server: &Sfu, n: u8) -> Self {
        let mut client = Client::new(RtcConfig::new().set_rtp_mode(true)).await;
        let (mids, offer, pending) = client.offer(&[(MediaKind::Video, Direction::SendOnly)]);
        let (sender, heard) = channel();
        let sink = Box::new(Sink(sender));
        let answer =
            server.publish(&offer.to_sdp_string(), session(n), &stream(), sink).await.unwrap();
        client.answer(pending, &answer.sdp);
        client.run_until("connected", |c| c.rtc.is_connected()).await;
        let taken = client.rtc.media(mids[0]).unwrap().remote_pts().to_vec();
        let fits = |p: &&str0m::format::PayloadParams| {
            p.spec().codec == Codec::H264
                && p.spec().format.packetization_mode == Some(1)
                && taken.contains(&p.pt())
        };
        let pt = client.rtc.codec_config().params().iter().find(fits).unwrap().pt();
        Self { client, heard, mid: mids[0], pt, sequence: 100, time: 0 }
    }

    /// Sends one access unit, a packet for each payload.
    async fn unit(&mut self, payloads: &[&[u8]]) {
        for (at, payload) in payloads.iter().enumerate() {
            let mut direct = self.client.rtc.direct_api();
            let stream = direct.stream_tx_by_mid(self.mid, None).unwrap();
            let now = Instant::now();
            let packet = RtpWrite::new(self.pt, self.sequence.into(), self.time, now, *payload);
            stream.write_rtp(packet.marker(at + 1 == payloads.len()));
            self.sequence += 1;
            self.client.rtc.handle_input(Input::Timeout(now)).unwrap();
            self.client.step(Duration::from_millis(1)).await;
        }
        self.time += 3_000;
    }

    async fn keyframe(&mut self) {
        self.unit(&[SETS, IDR]).await;
    }

    /// How many frames have come to the sink; the session must be on.
    fn frames(&self) -> usize {
        let heard: Result<Vec<_>, _> = self.heard.try_iter().collect();
        heard.expect("the session goes on").len()
    }
}

/// A STAP-A with parameter sets, and a slice of an IDR picture (RFC 6184).
const SETS: &[u8] = &[0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 2, 0x68, 0xce];
const IDR: &[u8] = &[0x65, 0x80, 1];

#[tokio::test]
async fn a_frame_that_cannot_be_put_together_costs_itself_and_not_the_session() {
    let server = sfu(|_| {});
    for (n, unit) in [
        // A NAL unit of a reserved type.
        (1, &[&[0x7e, 1, 2][..]][..]),
        // A packet without a payload between two slices.
        (2, &[&[0x41, 0x9a, 1], &[], &[0x41, 0x9a, 2]]),
        // A STAP-A whose first length reaches beyond its end.
        (3, &[&[0x78, 0, 9, 0x41]]),
    ] {
        let mut publisher = Publisher::start(&server, n).await;
        publisher.keyframe().await;
        publisher.unit(unit).await;
        let mut after = 0;
        let end = Instant::now() + PATIENCE;
        while after < 3 {
            assert!(Instant::now() < end, "nothing comes after case {n}");
            publisher.keyframe().await;
            publisher.client.step(Duration::from_millis(5)).await;
            after += publisher.frames();
        }
    }
}

/// A session of an attacker, and the check with which its client would prove its address.
async fn stranger(server: &Sfu) -> (Rtc, Vec<u8>, SocketAddr) {
    let mut rtc = RtcConfig::new().build(Instant::now());
    rtc.add_local_candidate(Candidate::host("127.0.0.1:9".parse().unwrap(), "udp").unwrap());
    let mut api = rtc.sdp_api();
    api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let (offer, pending) = api.apply().unwrap();
    let sink = Box::new(Sink(channel().0));
    let answer =
        server.publish(&offer.to_sdp_string(), session(99), &stream(), sink).await.unwrap();
    let answer = SdpAnswer::from_sdp_string(&answer.sdp).unwrap();
    rtc.sdp_api().accept_answer(pending, answer).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "no check is made");
        rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        match rtc.poll_output().unwrap() {
            Output::Transmit(check) => return (rtc, check.contents.to_vec(), check.destination),
            Output::Event(_) => {}
            Output::Timeout(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test]
async fn a_check_with_a_forged_address_does_not_take_the_address_from_its_session() {
    let server = sfu(|_| {});
    let mut publisher = Publisher::start(&server, 1).await;
    publisher.keyframe().await;
    let (_session, check, to) = stranger(&server).await;
    let mut came = 0;
    for _ in 0..20 {
        publisher.client.forge(&check, to).await;
        publisher.keyframe().await;
        came += publisher.frames();
    }
    let end = Instant::now() + PATIENCE;
    while came < 21 {
        assert!(Instant::now() < end, "{came} of 21 frames came");
        publisher.client.step(Duration::from_millis(5)).await;
        came += publisher.frames();
    }
}

#[tokio::test]
async fn an_address_taken_before_media_came_goes_back_to_its_session() {
    let server = sfu(|_| {});
    let mut publisher = Publisher::start(&server, 1).await;
    let (_session, check, to) = stranger(&server).await;
    publisher.client.forge(&check, to).await;
    let end = Instant::now() + PATIENCE;
    let mut came = 0;
    while came < 10 {
        assert!(Instant::now() < end, "{came} frames came");
        publisher.keyframe().await;
        publisher.client.step(Duration::from_millis(20)).await;
        came += publisher.frames();
    }
}

#[tokio::test]
async fn a_dual_stack_socket_answers_from_the_address_that_was_asked() {
    let server = sfu(|config| {
        config.listen = "[::]:0".parse().unwrap();
        config.public_addresses = vec!["127.0.0.2".parse().unwrap()];
    });
    let mut publisher = Publisher::start(&server, 1).await;
    let end = Instant::now() + PATIENCE;
    while publisher.frames() == 0 {
        assert!(Instant::now() < end, "nothing came");
        publisher.keyframe().await;
    }
}

#[tokio::test]
async fn an_offer_of_profiles_that_nobody_takes_is_not_acceptable() {
    let server = sfu(|_| {});
    let mut client = Client::new(RtcConfig::new()).await;
    let (_, offer, _) = client.offer(&[(MediaKind::Video, Direction::SendOnly)]);
    let offer = offer.to_sdp_string();
    let (lines, formats) = (offer.lines(), "96");
    // One H.264 format alone, of High 4:4:4 Predictive profile.
    let only = lines.filter_map(|line| {
        if line.starts_with("m=video") {
            return Some(format!("m=video 9 UDP/TLS/RTP/SAVPF {formats}"));
        }
        let format = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:", "a=ssrc"];
        (!format.iter().any(|f| line.starts_with(f))).then(|| line.to_owned())
    });
    let mut text = only.collect::<Vec<_>>().join("\r\n");
    text += "\r\na=rtpmap:96 H264/90000\r\n\
             a=fmtp:96 packetization-mode=1;profile-level-id=f4001f\r\n";
    let refused = server.publish(&text, session(1), &stream(), Box::new(Sink(channel().0))).await;
    let refused = refused.map(|answer| answer.sdp);
    assert!(
        matches!(&refused, Err(headwater_sfu::SfuError::NotAcceptable(why)) if why.contains("H.264")),
        "{refused:?}"
    );
}
