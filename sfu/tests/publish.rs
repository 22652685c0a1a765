//! Publishers over real loopback sockets: offer, ICE, DTLS, frames at the sink.
//! Not here: viewers (`play`).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests drive sockets and clocks"
)]

mod client;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use client::{Client, PATIENCE, session, sfu, stream};
use headwater_media::MediaKind as Kind;
use headwater_sfu::{
    CloseReason, IncomingCodec, IncomingFrame, PatchOutcome, PublisherSink, SfuError, SinkClosed,
};
use str0m::format::Codec;
use str0m::media::{Direction, Frequency, MediaKind, MediaTime};
use str0m::{Event, Rtc, RtcConfig};

enum Heard {
    Frame(IncomingFrame),
    Connected,
    Closed(CloseReason),
}

struct Sink(Sender<Heard>);

impl PublisherSink for Sink {
    fn frame(&mut self, frame: IncomingFrame) -> Result<(), SinkClosed> {
        self.0.send(Heard::Frame(frame)).map_err(|_| SinkClosed)
    }
    fn wants_keyframe(&mut self, _: Instant) -> bool {
        false
    }
    fn connected(&mut self) {
        self.0.send(Heard::Connected).unwrap();
    }
    fn closed(&mut self, reason: CloseReason) {
        let _ = self.0.send(Heard::Closed(reason));
    }
}

fn sink() -> (Box<Sink>, Receiver<Heard>) {
    let (sender, receiver) = channel();
    (Box::new(Sink(sender)), receiver)
}

fn frames(heard: &Receiver<Heard>) -> Vec<IncomingFrame> {
    let frame = |heard| match heard {
        Heard::Frame(frame) => Some(frame),
        Heard::Connected => None,
        Heard::Closed(reason) => panic!("closed: {reason}"),
    };
    heard.try_iter().filter_map(frame).collect()
}

const AV: [(MediaKind, Direction); 2] =
    [(MediaKind::Audio, Direction::SendOnly), (MediaKind::Video, Direction::SendOnly)];

/// A frame of `size` bytes that the codec's packetizer takes, marked with `n`.
fn encoded(codec: Codec, n: u8, key: bool, size: usize) -> Vec<u8> {
    let mut data = match codec {
        Codec::H264 if key => {
            vec![0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 0, 0, 0, 1, 0x68, 0xce, 0, 0, 0, 1, 0x65]
        }
        Codec::H264 => vec![0, 0, 0, 1, 0x41],
        // RFC 6386 §9.1: the first bit is 0 in a keyframe.
        Codec::Vp8 => vec![u8::from(!key), 0, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1],
        _ => Vec::new(),
    };
    data.push(0xff);
    data.resize(size, n.max(1));
    data
}

struct Publishing {
    client: Client,
    heard: Receiver<Heard>,
    mids: Vec<str0m::media::Mid>,
    sent: u32,
    started: Instant,
}

impl Publishing {
    async fn start(server: &headwater_sfu::Sfu, config: RtcConfig, n: u8) -> Self {
        let mut client = Client::new(config).await;
        let (mids, offer, pending) = client.offer(&AV);
        let (sink, heard) = sink();
        let answer =
            server.publish(&offer.to_sdp_string(), session(n), &stream(), sink).await.unwrap();
        assert!(answer.sdp.contains("a=ice-lite") && answer.sdp.contains("a=recvonly"));
        client.answer(pending, &answer.sdp);
        client.run_until("connected", |c| c.rtc.is_connected()).await;
        Self { client, heard, mids, sent: 0, started: Instant::now() }
    }

    fn write(rtc: &mut Rtc, mid: str0m::media::Mid, codec: Codec, time: MediaTime, data: Vec<u8>) {
        let writer = rtc.writer(mid).unwrap();
        let fits = |p: &&str0m::format::PayloadParams| p.spec().codec == codec;
        let pt = writer.payload_params().find(fits).unwrap().pt();
        writer.write(pt, Instant::now(), time, data).unwrap();
    }

    /// Sends one video and one audio frame and lets 20 ms pass.
    async fn tick(&mut self, codec: Codec, key: bool, size: usize) {
        let n = self.sent;
        self.sent += 1;
        let video = MediaTime::new(u64::from(n) * 1_800, Frequency::NINETY_KHZ);
        let data = encoded(codec, n as u8, key, size);
        Self::write(&mut self.client.rtc, self.mids[1], codec, video, data);
        self.client.step(Duration::from_millis(1)).await;
        let audio = MediaTime::new(u64::from(n) * 960, Frequency::FORTY_EIGHT_KHZ);
        Self::write(&mut self.client.rtc, self.mids[0], Codec::Opus, audio, vec![0xfc, n as u8, 1]);
        let until = self.started + Duration::from_millis(20) * self.sent;
        while Instant::now() < until {
            self.client.step(Duration::from_millis(2)).await;
        }
    }

    fn keyframe_requests(&mut self) -> usize {
        let asked = self.client.events.iter().filter(|e| matches!(e, Event::KeyframeRequest(_)));
        let count = asked.count();
        self.client.events.clear();
        count
    }
}

#[tokio::test]
async fn h264_vp8_and_opus_frames_arrive_whole_and_on_one_timeline() {
    let server = sfu(|_| {});
    for (n, codec, expected) in
        [(1, Codec::H264, IncomingCodec::H264), (2, Codec::Vp8, IncomingCodec::Vp8)]
    {
        let mut publishing = Publishing::start(&server, RtcConfig::new(), n).await;
        for i in 0..30 {
            publishing.tick(codec, i % 10 == 0, if i % 10 == 0 { 20_000 } else { 3_000 }).await;
        }
        let mut got = Vec::new();
        let end = Instant::now() + PATIENCE;
        while got.len() < 60 && Instant::now() < end {
            publishing.client.step(Duration::from_millis(5)).await;
            got.extend(frames(&publishing.heard));
        }
        let (video, audio): (Vec<_>, Vec<_>) =
            got.into_iter().partition(|f| f.track.kind == Kind::Video);
        assert_eq!((video.len(), audio.len()), (30, 30));
        for (i, frame) in video.iter().enumerate() {
            assert_eq!(frame.codec, expected);
            let key = i % 10 == 0;
            assert_eq!(frame.data, encoded(codec, i as u8, key, if key { 20_000 } else { 3_000 }));
            assert_eq!((frame.keyframe, frame.contiguous), (key, true), "frame {i}");
            assert_eq!((frame.track.line, &frame.track.rid), (1, &None));
        }
        assert_eq!(audio[0].codec, IncomingCodec::Opus { channels: 2 });
        for (v, a) in video.iter().zip(&audio) {
            let apart = v.capture.micros_since(a.capture);
            assert!(apart.abs() < 20_000, "{apart} µs between picture and sound");
        }
        let step = video[29].time.since(video[0].time).ticks();
        assert_eq!(step, 29 * 1_800);
        let stats = server.session(session(n)).unwrap();
        assert!(stats.connected && stats.frames == 60 && stats.keyframes == 3, "{stats:?}");
    }
    assert!(server.shutdown(PATIENCE).await);
}

#[tokio::test]
async fn a_publisher_is_asked_for_a_keyframe_at_the_interval() {
    let server = sfu(|c| c.keyframe_interval = Duration::from_millis(300));
    let mut publishing = Publishing::start(&server, RtcConfig::new(), 1).await;
    let (mut asked, mut key) = (0, true);
    for _ in 0..60 {
        publishing.tick(Codec::Vp8, key, 500).await;
        let requests = publishing.keyframe_requests();
        asked += requests;
        key = requests > 0;
    }
    assert!((3..=5).contains(&asked), "{asked} requests in 1.2 s");
}

#[tokio::test]
async fn lost_packets_are_asked_for_again_and_arrive() {
    let server = sfu(|_| {});
    let mut publishing = Publishing::start(&server, RtcConfig::new(), 1).await;
    for i in 0..100 {
        publishing.client.lose_every = 9;
        publishing.tick(Codec::H264, i == 0, 8_000).await;
    }
    publishing.client.lose_every = 0;
    let mut got = 0;
    let end = Instant::now() + PATIENCE;
    while got < 95 && Instant::now() < end {
        publishing.client.step(Duration::from_millis(5)).await;
        got += frames(&publishing.heard).iter().filter(|f| f.track.kind == Kind::Video).count();
    }
    assert!(publishing.client.lost > 20, "{} packets lost", publishing.client.lost);
    assert!(got >= 95, "{got} of 100 frames came");
}

#[tokio::test]
async fn ice_restarts_by_patch_and_a_stale_tag_is_refused() {
    let server = sfu(|_| {});
    let mut client = Client::new(RtcConfig::new()).await;
    let (_, offer, pending) = client.offer(&AV);
    let (sink, heard) = sink();
    let offer = offer.to_sdp_string();
    let answer = server.publish(&offer, session(1), &stream(), sink).await.unwrap();
    client.answer(pending, &answer.sdp);
    client.run_until("connected", |c| c.rtc.is_connected()).await;

    let value = |sdp: &str, name: &str| {
        let line = sdp.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    let trickle = format!(
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
         a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n",
        value(&offer, "a=ice-ufrag"),
        value(&offer, "a=ice-pwd")
    );
    let trickled = server.patch(session(1), &trickle, Some(&answer.etag)).await.unwrap();
    assert_eq!(trickled, PatchOutcome::NoContent);
    let stale = server.patch(session(1), &trickle, Some("other")).await;
    assert!(matches!(stale, Err(SfuError::StaleEtag { .. })));

    let mut api = client.rtc.sdp_api();
    let creds = api.ice_restart(true);
    let (_, pending) = api.apply().unwrap();
    let restart = format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", creds.ufrag, creds.pass);
    let outcome = server.patch(session(1), &restart, None).await.unwrap();
    let PatchOutcome::Restarted { fragment, etag } = outcome else { panic!("{outcome:?}") };
    assert_ne!(etag, answer.etag);
    assert_eq!(value(&fragment, "a=ice-ufrag"), etag);
    let renewed = answer
        .sdp
        .replace(&value(&answer.sdp, "a=ice-ufrag"), &etag)
        .replace(&value(&answer.sdp, "a=ice-pwd"), &value(&fragment, "a=ice-pwd"));
    client.answer(pending, &renewed);
    client.events.clear();
    client
        .run_until("ICE is up again", |c| {
            c.events.iter().any(
                |e| matches!(e, Event::IceConnectionStateChange(state) if state.is_connected()),
            )
        })
        .await;
    assert!(heard.try_iter().all(|heard| !matches!(heard, Heard::Closed(_))));
    assert!(server.session(session(1)).unwrap().connected);
}

#[tokio::test]
async fn a_session_that_never_connects_times_out_and_counts_against_the_limit() {
    let server = sfu(|c| {
        c.half_open_max = 2;
        c.handshake_timeout = Duration::from_millis(400);
    });
    let mut client = Client::new(RtcConfig::new()).await;
    let (_, offer, _) = client.offer(&AV);
    let offer = offer.to_sdp_string();
    let (first, heard) = sink();
    let answer = server.publish(&offer, session(1), &stream(), first).await.unwrap();
    let same = server.publish(&offer, session(1), &stream(), sink().0).await;
    assert!(matches!(same, Err(SfuError::SessionExists)));
    server.publish(&offer, session(2), &stream(), sink().0).await.unwrap();
    let third = server.publish(&offer, session(3), &stream(), sink().0).await;
    assert!(matches!(third, Err(SfuError::LimitReached { limit: 2, .. })));
    let reason = tokio::time::timeout(PATIENCE, answer.closed).await.unwrap().unwrap();
    assert_eq!(reason, CloseReason::HandshakeTimeout);
    assert!(matches!(heard.try_recv(), Ok(Heard::Closed(CloseReason::HandshakeTimeout))));
    let end = Instant::now() + PATIENCE;
    while !server.stats().is_empty() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.publish(&offer, session(3), &stream(), sink().0).await.unwrap();
}

#[tokio::test]
async fn closing_tells_the_peer_and_the_sink() {
    let server = sfu(|_| {});
    let mut publishing = Publishing::start(&server, RtcConfig::new(), 1).await;
    assert!(server.close(session(1), CloseReason::Requested).await);
    assert!(!server.close(session(1), CloseReason::Requested).await);
    publishing
        .client
        .run_until("the peer hears", |c| c.events.iter().any(|e| matches!(e, Event::Closed)))
        .await;
    let heard: Vec<_> = publishing.heard.try_iter().collect();
    assert!(matches!(heard.last(), Some(Heard::Closed(CloseReason::Requested))));
    assert!(heard.iter().any(|h| matches!(h, Heard::Connected)));
}

#[tokio::test]
async fn garbage_makes_no_state_and_disturbs_nobody() {
    let server = sfu(|_| {});
    let mut publishing = Publishing::start(&server, RtcConfig::new(), 1).await;
    let target = server.addresses()[0];
    let attacker = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut seed = 7u64;
    for n in 0..2_000usize {
        let mut datagram: Vec<u8> = (0..n % 200)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        // A STUN request with a user name that nobody has, now and then.
        if n % 3 == 0 {
            datagram = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
            datagram.extend([n as u8; 12]);
            datagram.extend([0, 6, 0, 8]);
            datagram.extend(b"abcd:efg");
        }
        attacker.send_to(&datagram, target).await.unwrap();
    }
    for i in 0..20 {
        publishing.tick(Codec::Vp8, i == 0, 2_000).await;
    }
    let mut video = 0;
    let end = Instant::now() + PATIENCE;
    while video < 20 && Instant::now() < end {
        publishing.client.step(Duration::from_millis(5)).await;
        video += frames(&publishing.heard).iter().filter(|f| f.track.kind == Kind::Video).count();
    }
    assert_eq!(video, 20);
    assert_eq!(server.stats().len(), 1);
    let mut answer = [0; 100];
    assert!(attacker.try_recv(&mut answer).is_err(), "garbage was answered");
}

#[tokio::test]
async fn offers_that_cannot_be_used_are_refused() {
    let server = sfu(|_| {});
    let bad = server.publish("v=0\r\nnonsense", session(1), &stream(), sink().0).await;
    assert!(matches!(bad, Err(SfuError::MalformedSdp(_))));
    let mut client = Client::new(RtcConfig::new()).await;
    let (_, offer, _) = client.offer(&[(MediaKind::Video, Direction::RecvOnly)]);
    let none = server.publish(&offer.to_sdp_string(), session(1), &stream(), sink().0).await;
    assert!(matches!(none, Err(SfuError::NotAcceptable(_))));
    assert!(server.stats().is_empty());
}

#[tokio::test]
async fn simulcast_layers_arrive_by_their_rids() {
    use str0m::media::{Simulcast, SimulcastLayer};
    let server = sfu(|_| {});
    let mut client = Client::new(RtcConfig::new()).await;
    let mut layers = Simulcast::new();
    for rid in ["l", "h"] {
        layers.add_send_layer(SimulcastLayer::new(rid));
    }
    let mut api = client.rtc.sdp_api();
    let direction = Direction::SendOnly;
    let mid = api.add_media(MediaKind::Video, direction, None, None, Some(layers));
    let (offer, pending) = api.apply().unwrap();
    let (sink, heard) = sink();
    let answer = server.publish(&offer.to_sdp_string(), session(1), &stream(), sink).await.unwrap();
    assert!(answer.sdp.contains("a=simulcast:recv"), "{}", answer.sdp);
    client.answer(pending, &answer.sdp);
    client.run_until("connected", |c| c.rtc.is_connected()).await;
    let mut got = Vec::new();
    for n in 0..30u8 {
        for (rid, size) in [("l", 500), ("h", 4_000)] {
            let writer = client.rtc.writer(mid).unwrap().rid(rid.into());
            let vp8 = |p: &&str0m::format::PayloadParams| p.spec().codec == Codec::Vp8;
            let pt = writer.payload_params().find(vp8).unwrap().pt();
            let time = MediaTime::new(u64::from(n) * 3_000, Frequency::NINETY_KHZ);
            let data = encoded(Codec::Vp8, n, n == 0, size);
            writer.write(pt, Instant::now(), time, data).unwrap();
            client.step(Duration::from_millis(5)).await;
        }
        got.extend(frames(&heard));
    }
    let end = Instant::now() + PATIENCE;
    while got.len() < 60 && Instant::now() < end {
        client.step(Duration::from_millis(5)).await;
        got.extend(frames(&heard));
    }
    for (rid, size) in [("l", 500), ("h", 4_000)] {
        let of = got.iter().filter(|f| f.track.rid.as_deref() == Some(rid));
        let sizes: Vec<usize> = of.map(|f| f.data.len()).collect();
        assert_eq!(sizes, [size; 30], "layer {rid}");
    }
    let requests = client.events.iter().filter_map(|event| match event {
        Event::KeyframeRequest(request) => Some(request.rid),
        _ => None,
    });
    let rids: Vec<_> = requests.collect();
    assert!(rids.iter().all(Option::is_some), "{rids:?}");
}

#[tokio::test]
async fn mangled_offers_are_refused_and_never_harm_the_worker() {
    let server = sfu(|c| c.half_open_max = 10_000);
    let mut client = Client::new(RtcConfig::new()).await;
    let (_, offer, _) = client.offer(&AV);
    let good = offer.to_sdp_string();
    let lines: Vec<&str> = good.lines().collect();
    let mut seed = 99u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut refused = 0;
    for n in 0..400u32 {
        let mut mangled: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for _ in 0..=random(3) {
            let at = random(mangled.len());
            match random(4) {
                0 => {
                    mangled.remove(at);
                }
                1 => {
                    let line = mangled[at].clone();
                    let to = random(mangled.len());
                    mangled.insert(to, line);
                }
                2 => {
                    let digit = char::from(b'0' + random(10) as u8);
                    mangled[at] =
                        mangled[at].replace(|c: char| c.is_ascii_digit(), &digit.to_string());
                }
                _ => {
                    let keep = random(mangled[at].len().max(1));
                    mangled[at].truncate(keep);
                }
            }
        }
        let id = headwater_media::SessionId::from_random(u128::from(n).to_be_bytes());
        let text = mangled.join("\r\n") + "\r\n";
        match server.publish(&text, id, &stream(), sink().0).await {
            Ok(_) => assert!(server.close(id, CloseReason::Requested).await),
            Err(SfuError::MalformedSdp(_) | SfuError::NotAcceptable(_)) => refused += 1,
            Err(other) => panic!("{other}\n{text}"),
        }
    }
    assert!((50..400).contains(&refused), "{refused} refused");
    assert!(server.stats().is_empty());
    server.publish(&good, session(1), &stream(), sink().0).await.unwrap();
}
