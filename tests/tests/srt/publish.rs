//! Encoders publish: what arrives on the bus, and who is turned away.
//!
//! Not here: lossy links (`loss`).

use headwater_media::codec::Resolution;
use headwater_media::{BroadcastState, Frame, Track};

use crate::programs::{Program, Video};
use crate::world::{World, frames, track, until};

const SECRET: &str = "correct-horse-battery";

/// Frames follow one another without gap or overlap, and each video frame is 1/30 s long.
fn assert_contiguous(track: &Track, frames: &[Frame]) {
    for pair in frames.windows(2) {
        assert_eq!(pair[0].dts.plus(pair[0].duration), pair[1].dts, "{}", track.name());
        assert!(pair[0].pts.since(pair[0].dts).ticks() >= 0, "{:?}", pair[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_each_codec_plain_and_encrypted() {
    for (video, secret) in [
        (Video::H264, None),
        (Video::H264, Some(16)),
        (Video::H264, Some(32)),
        (Video::H265, None),
        (Video::H265, Some(32)),
    ] {
        let world = World::start(secret.map(|_| SECRET));
        let encryption = secret
            .map_or(String::new(), |length| format!("&passphrase={SECRET}&pbkeylen={length}"));
        let url = World::url(world.address, "publish:cam", &encryption);
        let publisher = Program::publish(video, 120, &url);
        let broadcast = world.broadcast("cam").await;
        let (pictures, sound) =
            (track(&broadcast, "video").await, track(&broadcast, "audio").await);
        let shown = frames(&pictures, 100).await;
        let heard = frames(&sound, 120).await;
        let codec = &pictures.config().unwrap().codec;
        let expected = if video == Video::H264 { "h264" } else { "h265" };
        assert_eq!((codec.name(), codec.resolution()), (expected, Some(SIZE)));
        let codec = &sound.config().unwrap().codec;
        assert_eq!((codec.name(), codec.audio()), ("aac", Some((48_000, 2))));
        assert_contiguous(&pictures, &shown);
        assert_contiguous(&sound, &heard);
        assert!(shown.iter().all(|frame| frame.duration.ticks() == 3_000));
        assert!(heard.iter().all(|frame| frame.duration.ticks() == 1_024));
        let keyframes = shown.iter().filter(|frame| frame.keyframe).count();
        assert!(shown[0].keyframe && (3..=4).contains(&keyframes), "{keyframes} keyframes");
        let reordered = shown.iter().any(|frame| frame.pts != frame.dts);
        assert!(reordered || video == Video::H265, "B-frames keep their times");
        let output = publisher.output().await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        until("the publisher's leaving", || broadcast.state() == BroadcastState::Waiting).await;
        until("the session's end", || world.sessions.list().is_empty()).await;
        world.stop().await;
    }
}

const SIZE: Resolution = Resolution { width: 320, height: 180 };

#[tokio::test(flavor = "multi_thread")]
async fn encoders_with_the_wrong_secret_are_turned_away() {
    for (ours, theirs) in [
        (Some(SECRET), "&passphrase=another-passphrase&pbkeylen=32"),
        (Some(SECRET), ""),
        (None, "&passphrase=another-passphrase&pbkeylen=16"),
    ] {
        let world = World::start(ours);
        let url = World::url(world.address, "publish:cam", theirs);
        Program::publish(Video::H264, 120, &url).failure().await;
        assert!(world.streams.list().is_empty());
        assert!(world.sessions.list().is_empty());
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_and_unusable_stream_ids_are_turned_away() {
    let world = World::start(None);
    let url = World::url(world.address, "publish:cam", "");
    let mut first = Program::publish(Video::H264, 600, &url);
    let broadcast = world.broadcast("cam").await;
    for stream_id in ["publish:cam", "publish:a%20b", "nonsense", "%23!::m=publish", ""] {
        let url = World::url(world.address, stream_id, "");
        Program::publish(Video::H264, 120, &url).failure().await;
    }
    assert!(first.runs());
    assert_eq!(broadcast.state(), BroadcastState::Live);
    assert_eq!(world.sessions.list().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_control_form_publishes_and_a_kick_ends_the_session() {
    let world = World::start(None);
    let stream_id = "%23!::r=auction/lot-7,m=publish,u=ann,token=a.b.c";
    let publisher = Program::publish(Video::H264, 900, &World::url(world.address, stream_id, ""));
    let broadcast = world.broadcast("auction/lot-7").await;
    let pictures = track(&broadcast, "video").await;
    frames(&pictures, 30).await;
    let session = world.sessions.list()[0].clone();
    assert!(session.bytes_in > 10_000 && session.frames_in > 30, "{session:?}");
    assert!(world.sessions.kick(session.id));
    until("the session's end", || world.sessions.list().is_empty()).await;
    publisher.failure().await;
    until("the publisher's leaving", || broadcast.state() == BroadcastState::Waiting).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_says_goodbye_to_publishers() {
    let world = World::start(None);
    let url = World::url(world.address, "publish:cam", "");
    let publisher = Program::publish(Video::H264, 900, &url);
    let broadcast = world.broadcast("cam").await;
    frames(&track(&broadcast, "video").await, 1).await;
    let sessions = world.sessions.clone();
    world.stop().await;
    assert!(sessions.list().is_empty());
    publisher.failure().await;
}
