//! Viewers over real loopback sockets: frames on the bus, the same frames at the player.
//! Not here: publishers (`publish`).
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests drive sockets and clocks"
)]

mod client;
mod source;

use std::time::{Duration, Instant, SystemTime};

use client::{Client, PATIENCE, session, sfu, stream};
use headwater_media::limits::BusLimits;
use headwater_media::{Broadcast, StreamName, Track};
use headwater_sfu::{Answer, CloseReason, PlayTracks, Sfu, SfuError};
use source::{Source, aac, av1, h264, opus, vp8, vp9, wall_now};
use str0m::media::{Direction, KeyframeRequestKind, MediaData, MediaKind, Mid};
use str0m::{Event, RtcConfig};

const RECEIVE: [(MediaKind, Direction); 2] =
    [(MediaKind::Video, Direction::RecvOnly), (MediaKind::Audio, Direction::RecvOnly)];

fn broadcast() -> Broadcast {
    Broadcast::new(StreamName::parse("test").unwrap(), BusLimits::default())
}

async fn join(
    server: &Sfu,
    n: u8,
    lines: &[(MediaKind, Direction)],
    video: Option<Track>,
    audio: Option<Track>,
    config: RtcConfig,
) -> (Client, Vec<Mid>, Answer) {
    let mut client = Client::new(config).await;
    let (mids, offer, pending) = client.offer(lines);
    let tracks = PlayTracks { video, audio };
    // The name chooses the worker: another one for each viewer.
    let name = StreamName::parse(&format!("viewer-{n}")).unwrap();
    let answer = server.play(&offer.to_sdp_string(), session(n), &name, tracks).await.unwrap();
    client.answer(pending, &answer.sdp);
    client.run_until("connected", |c| c.rtc.is_connected()).await;
    (client, mids, answer)
}

fn media(client: &mut Client) -> Vec<MediaData> {
    let (media, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut client.events)
        .into_iter()
        .partition(|event| matches!(event, Event::MediaData(_)));
    client.events.extend(rest);
    let data = |event| match event {
        Event::MediaData(data) => Some(data),
        _ => None,
    };
    media.into_iter().filter_map(data).collect()
}

async fn pass(client: &mut Client, span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        client.step(Duration::from_millis(2)).await;
    }
}

const FRAME: Duration = Duration::from_millis(20);

#[tokio::test]
async fn every_codec_is_played_from_the_newest_keyframe_and_then_live() {
    let server = sfu(|_| {});
    for (n, codec) in [(1, h264(0)), (2, vp8()), (3, vp9()), (4, av1())] {
        let broadcast = broadcast();
        let mut video = Source::new(&broadcast, "video", codec);
        let mut audio = Source::new(&broadcast, "audio", opus());
        video.write(true);
        let mut expected = vec![video.write(true)];
        audio.write(true);
        for _ in 0..20 {
            expected.push(video.write(false));
            audio.write(false);
        }
        let (mut client, mids, answer) =
            join(&server, n, &RECEIVE, Some(video.track()), Some(audio.track()), RtcConfig::new())
                .await;
        assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
        let mut got = Vec::new();
        for i in 0..40 {
            expected.push(video.write(i == 20));
            audio.write(i == 20);
            pass(&mut client, FRAME).await;
            got.extend(media(&mut client));
        }
        let end = Instant::now() + PATIENCE;
        let videos = |got: &[MediaData]| got.iter().filter(|d| d.mid == mids[0]).count();
        while videos(&got) < expected.len() && Instant::now() < end {
            pass(&mut client, FRAME).await;
            got.extend(media(&mut client));
        }
        let (video_got, audio_got): (Vec<_>, Vec<_>) =
            got.into_iter().partition(|data| data.mid == mids[0]);
        assert_eq!(video_got.len(), expected.len(), "codec {n}");
        for (i, (data, expected)) in video_got.iter().zip(&expected).enumerate() {
            assert_eq!(*data.data, **expected, "codec {n} frame {i}");
            assert!(data.contiguous, "codec {n} frame {i}");
        }
        assert!(video_got[0].is_keyframe(), "codec {n}");
        assert!(audio_got.len() >= 38, "{} packets of sound", audio_got.len());
        // The backlog is squeezed, what follows has its own distances.
        let times: Vec<u64> = video_got.iter().map(|d| d.time.numer()).collect();
        assert!(times[20] - times[0] <= 20 * 91, "{times:?}");
        for pair in times[22..].windows(2) {
            assert!((1_790..=1_810).contains(&(pair[1] - pair[0])), "{times:?}");
        }
        video.writer.finish();
        audio.writer.finish();
        let reason = tokio::time::timeout(PATIENCE, async {
            let mut closed = answer.closed;
            loop {
                pass(&mut client, FRAME).await;
                if let Ok(reason) = closed.try_recv() {
                    break reason;
                }
            }
        })
        .await
        .unwrap();
        assert_eq!(reason, CloseReason::Ended);
        client.run_until("goodbye", |c| c.events.iter().any(|e| matches!(e, Event::Closed))).await;
    }
}

#[tokio::test]
async fn dropped_packets_are_sent_again() {
    let server = sfu(|_| {});
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", h264(0));
    video.size = 8_000;
    video.write(true);
    let (mut client, _, _) =
        join(&server, 1, &RECEIVE[..1], Some(video.track()), None, RtcConfig::new()).await;
    client.drop_every = 13;
    let mut got = 0;
    for _ in 0..150 {
        video.write(false);
        pass(&mut client, FRAME).await;
        got += media(&mut client).len();
    }
    client.drop_every = 0;
    let end = Instant::now() + PATIENCE;
    while got < 151 && Instant::now() < end {
        video.write(false);
        pass(&mut client, FRAME).await;
        got += media(&mut client).len();
    }
    assert!(client.dropped > 50, "{} dropped", client.dropped);
    assert!(got >= 151, "{got} frames came");
    let end = Instant::now() + PATIENCE;
    while server.session(session(1)).unwrap().nacks == 0 {
        assert!(Instant::now() < end, "no NACK was counted");
        pass(&mut client, FRAME).await;
    }
}

#[tokio::test]
async fn a_viewers_keyframe_request_reaches_the_track() {
    let server = sfu(|_| {});
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", vp8());
    video.write(true);
    let (mut client, mids, _) =
        join(&server, 1, &RECEIVE[..1], Some(video.track()), None, RtcConfig::new()).await;
    client.run_until("a frame", |c| !media(c).is_empty()).await;
    let mut wishes = video.track().keyframe_wishes();
    wishes.mark_unchanged();
    let mut writer = client.rtc.writer(mids[0]).unwrap();
    writer.request_keyframe(None, KeyframeRequestKind::Pli).unwrap();
    client.run_until("the wish", |_| wishes.has_changed().unwrap()).await;
}

#[tokio::test]
async fn what_cannot_be_served_is_answered_inactive_with_a_remedy() {
    let server = sfu(|_| {});
    let broadcast = broadcast();
    let mut plain = Source::new(&broadcast, "video", h264(0));
    let mut reordered = Source::new(&broadcast, "b-frames", h264(2));
    let mut sound = Source::new(&broadcast, "audio", opus());
    let mut aac = Source::new(&broadcast, "audio-aac", aac());
    for source in [&mut plain, &mut reordered, &mut sound, &mut aac] {
        source.write(true);
    }
    let (plain, reordered, sound, aac) =
        (plain.track(), reordered.track(), sound.track(), aac.track());
    let three =
        [RECEIVE[1], RECEIVE[0], RECEIVE[0], (MediaKind::Audio, Direction::SendOnly), RECEIVE[1]];
    let only_vp8 = || RtcConfig::new().clear_codecs().enable_vp8(true).enable_opus(true, false);
    let cases = [
        (&RECEIVE[..], Some(&plain), Some(&sound), RtcConfig::new(), "ss", ""),
        (&three[..], Some(&plain), Some(&sound), RtcConfig::new(), "ssiii", ""),
        (&RECEIVE[..], Some(&reordered), Some(&sound), RtcConfig::new(), "is", "B-frames"),
        (&RECEIVE[..], Some(&plain), Some(&aac), RtcConfig::new(), "si", "AAC"),
        (&RECEIVE[..], Some(&plain), Some(&sound), only_vp8(), "is", "h264"),
        (&RECEIVE[..], Some(&plain), None, RtcConfig::new(), "si", "no audio"),
        (&RECEIVE[1..], Some(&plain), Some(&sound), RtcConfig::new(), "s", ""),
    ];
    for (n, (lines, video, audio, config, directions, warning)) in cases.into_iter().enumerate() {
        let (_client, _, answer) =
            join(&server, n as u8, lines, video.cloned(), audio.cloned(), config).await;
        let got: String = answer
            .sdp
            .lines()
            .filter_map(|line| match line {
                "a=sendonly" => Some('s'),
                "a=inactive" => Some('i'),
                "a=recvonly" | "a=sendrecv" => Some('?'),
                _ => None,
            })
            .collect();
        assert_eq!(got, directions, "case {n}: {}", answer.sdp);
        let warnings = answer.warnings.join("; ");
        assert!(
            warnings.contains(warning) && warning.is_empty() == warnings.is_empty(),
            "{n}: {warnings}"
        );
    }
    let mut client = Client::new(RtcConfig::new()).await;
    let (_, offer, _) = client.offer(&RECEIVE[..1]);
    let tracks = PlayTracks { video: Some(reordered), audio: Some(sound) };
    let none = server.play(&offer.to_sdp_string(), session(99), &stream(), tracks).await;
    assert!(matches!(none, Err(SfuError::NotAcceptable(why)) if why.contains("B-frames")));
}

#[tokio::test]
async fn a_returning_publisher_goes_on_without_a_step_back() {
    let server = sfu(|_| {});
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", vp8());
    video.write(true);
    let (mut client, _, _) =
        join(&server, 1, &RECEIVE[..1], Some(video.track()), None, RtcConfig::new()).await;
    let mut got = Vec::new();
    for i in 0..60 {
        if i == 30 {
            // The new publisher's clock begins somewhere else.
            pass(&mut client, 10 * FRAME).await;
            video.discontinuity += 1;
            video.frames = 1_000_000;
            video.zero = wall_now() - 1_000_000 * 20_000;
            video.version += 1;
        }
        video.write(i == 30);
        pass(&mut client, FRAME).await;
        got.extend(media(&mut client));
    }
    client
        .run_until("all frames", |c| {
            got.extend(media(c));
            got.len() == 61
        })
        .await;
    assert!(got.iter().all(|d| d.contiguous));
    let steps: Vec<u64> =
        got.windows(2).map(|pair| pair[1].time.numer() - pair[0].time.numer()).collect();
    assert!(steps.iter().all(|step| (1..90_000).contains(step)), "{steps:?}");
}

#[tokio::test]
async fn a_codec_that_was_not_negotiated_ends_the_session_with_a_reason() {
    let server = sfu(|_| {});
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", vp8());
    video.write(true);
    let config = RtcConfig::new().clear_codecs().enable_vp8(true);
    let (mut client, _, mut answer) =
        join(&server, 1, &RECEIVE[..1], Some(video.track()), None, config).await;
    client.run_until("a frame", |c| !media(c).is_empty()).await;
    video.codec = h264(0);
    video.version += 1;
    video.write(true);
    let mut reason = None;
    client
        .run_until("the end", |_| {
            reason = answer.closed.try_recv().ok();
            reason.is_some()
        })
        .await;
    assert!(matches!(reason, Some(CloseReason::Renegotiate(_))), "{reason:?}");
}

#[tokio::test]
async fn picture_and_sound_share_a_clock_in_sender_reports() {
    let server = sfu(|_| {});
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", vp8());
    let mut audio = Source::new(&broadcast, "audio", opus());
    video.write(true);
    audio.write(true);
    let (mut client, mids, _) =
        join(&server, 1, &RECEIVE, Some(video.track()), Some(audio.track()), RtcConfig::new())
            .await;
    let mut newest = [None, None];
    let end = Instant::now() + PATIENCE;
    while newest.iter().any(Option::is_none) {
        assert!(Instant::now() < end, "no sender reports");
        let key = video.frames.is_multiple_of(50);
        video.write(key);
        audio.write(key);
        pass(&mut client, FRAME).await;
        for data in media(&mut client) {
            let Some(info) = data.last_sender_info else { continue };
            let at = usize::from(data.mid == mids[1]);
            // When this frame was captured, by its track's sender report.
            let since = data.time.as_seconds() - info.rtp_time.as_seconds();
            let ntp = info.ntp_time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
            let written = video.zero + (video.frames as i64 - 1) * 20_000;
            newest[at] = Some((ntp + since) * 1e6 - written as f64);
        }
    }
    let (v, a) = (newest[0].unwrap(), newest[1].unwrap());
    assert!((v - a).abs() < 30_000.0, "{} ms apart", (v - a) / 1e3);
    assert!(v.abs() < 100_000.0, "{} ms from the truth", v / 1e3);
}

#[tokio::test]
async fn a_viewer_over_tcp_gets_every_frame() {
    let server = sfu(|_| {});
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", h264(0));
    video.write(true);
    let mut client = Client::tcp(RtcConfig::new(), server.addresses()[0]).await;
    let (_, offer, pending) = client.offer(&RECEIVE[..1]);
    let tracks = PlayTracks { video: Some(video.track()), audio: None };
    let answer = server.play(&offer.to_sdp_string(), session(1), &stream(), tracks).await.unwrap();
    client.answer(pending, &answer.sdp);
    client.run_until("connected", |c| c.rtc.is_connected()).await;
    let mut got = 0;
    for _ in 0..50 {
        video.write(false);
        pass(&mut client, FRAME).await;
        got += media(&mut client).len();
    }
    client
        .run_until("all frames", |c| {
            got += media(c).len();
            got == 51
        })
        .await;
}

#[tokio::test]
async fn a_viewer_whose_port_changes_is_followed_there() {
    let server = sfu(|_| {});
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", h264(0));
    video.write(true);
    let (mut client, _, _) =
        join(&server, 1, &RECEIVE[..1], Some(video.track()), None, RtcConfig::new()).await;
    client.run_until("a frame", |c| !media(c).is_empty()).await;
    client.rebind().await;
    // By its reports; ICE itself holds the old address for 15 s.
    let end = Instant::now() + PATIENCE / 2;
    let mut newest = None;
    // What was sent to the old port is lost, so a keyframe is needed.
    while newest.is_none() {
        assert!(Instant::now() < end, "nothing came to the new port");
        let key = video.frames.is_multiple_of(10);
        video.write(key);
        pass(&mut client, FRAME).await;
        newest = media(&mut client).pop();
    }
}

#[tokio::test]
async fn tcp_connections_without_a_session_are_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = sfu(|c| c.handshake_timeout = Duration::from_millis(300));
    for frame in [&b"\x00\x05hello"[..], b"\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"", b"\x00"] {
        let mut stream = tokio::net::TcpStream::connect(server.addresses()[0]).await.unwrap();
        stream.write_all(frame).await.unwrap();
        let closed = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 10])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{frame:?}");
    }
}

#[tokio::test]
async fn a_backlog_that_is_too_long_is_left_out_and_a_keyframe_asked_for() {
    let server = sfu(|c| c.viewer_queue_frames = 20);
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", vp8());
    let mut wishes = video.track().keyframe_wishes();
    video.write(true);
    for _ in 0..30 {
        video.write(false);
    }
    wishes.mark_unchanged();
    let (mut client, _, _) =
        join(&server, 1, &RECEIVE[..1], Some(video.track()), None, RtcConfig::new()).await;
    client.run_until("the wish", |_| wishes.has_changed().unwrap()).await;
    for _ in 0..5 {
        video.write(false);
        pass(&mut client, FRAME).await;
    }
    assert!(media(&mut client).is_empty());
    let expected = video.write(true);
    let mut got = Vec::new();
    client
        .run_until("the keyframe", |c| {
            got.extend(media(c));
            !got.is_empty()
        })
        .await;
    assert_eq!(*got[0].data, *expected);
}

#[tokio::test]
async fn a_silent_peer_is_let_go() {
    let server = sfu(|c| c.idle_timeout = Duration::from_millis(500));
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", vp8());
    video.write(true);
    let (_client, _, answer) =
        join(&server, 1, &RECEIVE[..1], Some(video.track()), None, RtcConfig::new()).await;
    let reason = tokio::time::timeout(PATIENCE, answer.closed).await.unwrap().unwrap();
    assert_eq!(reason, CloseReason::IdleTimeout);
    assert!(server.stats().is_empty());
}

#[tokio::test]
async fn viewers_of_several_workers_see_the_same_stream() {
    let server = sfu(|c| c.workers = 2);
    let broadcast = broadcast();
    let mut video = Source::new(&broadcast, "video", vp9());
    video.write(true);
    let mut clients = Vec::new();
    for n in 0..6 {
        let (client, _, _) =
            join(&server, n, &RECEIVE[..1], Some(video.track()), None, RtcConfig::new()).await;
        clients.push((client, Vec::new()));
    }
    let mut expected = Vec::new();
    for i in 0..40 {
        expected.push(video.write(i == 20));
        for (client, got) in &mut clients {
            pass(client, Duration::from_millis(3)).await;
            got.extend(media(client));
        }
    }
    let workers: Vec<usize> = server.stats().iter().map(|s| s.worker).collect();
    assert!(workers.contains(&0) && workers.contains(&1), "{workers:?}");
    for (client, got) in &mut clients {
        client
            .run_until("all frames", |c| {
                got.extend(media(c));
                got.len() >= 41
            })
            .await;
        let tail: Vec<_> = got.iter().rev().take(40).rev().collect();
        assert!(tail.iter().zip(&expected).all(|(data, expected)| *data.data == **expected));
        assert!(got.iter().all(|data| data.contiguous));
    }
}
