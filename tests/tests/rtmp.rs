//! Real encoders publish by RTMP and Enhanced RTMP; what they sent is read off the bus.
//!
//! Not here: players (the end-to-end tests), hostile clients (beside the code).
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use headwater::auth::Access;
use headwater::clock::Clock;
use headwater::ingest::rtmp::{RtmpDeps, RtmpOptions, RtmpServer};
use headwater::ownership::alone::{self, Alone};
use headwater::sessions::Sessions;
use headwater::streams::{Streams, StreamsOptions};
use headwater_media::{
    Broadcast, BroadcastState, Codec, Frame, Item, Start, StreamName, TrackName,
};
use headwater_tests::program::new_ffmpeg;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than any encoder takes to start on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    address: SocketAddr,
    streams: Streams,
    sessions: Sessions,
    shutdown: CancellationToken,
}

async fn node() -> Node {
    let clock = Clock::start();
    let sessions = Sessions::new(clock, 10);
    let streams = Streams::new(clock, StreamsOptions::default(), Alone::new(), alone::pulls());
    let deps = RtmpDeps {
        access: Arc::new(Access::new(false)),
        sessions: sessions.clone(),
        streams: streams.clone(),
        clock,
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = RtmpServer::bind(RtmpOptions { listen, ..RtmpOptions::default() }, deps);
    let server = server.await.expect("a free port");
    let address = server.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    tokio::spawn(server.run(shutdown.clone()));
    Node { address, streams, sessions, shutdown }
}

/// A publisher's process, ended with the test.
struct Publisher(Child);

impl Drop for Publisher {
    fn drop(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}

impl Node {
    /// Publishes `seconds` of a test picture at 30 frames a second, and a tone.
    fn publish(&self, ffmpeg: &str, codecs: &[&str], path: &str) -> Publisher {
        let url = format!("rtmp://{}/{path}", self.address);
        let child = Command::new(ffmpeg)
            .args(["-nostdin", "-loglevel", "error", "-re"])
            .args(["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=30"])
            .args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"])
            .args(["-g", "30"])
            .args(codecs)
            .args(["-f", "flv", &url])
            .stdin(Stdio::null())
            .spawn()
            .expect("ffmpeg starts");
        Publisher(child)
    }

    async fn broadcast(&self, name: &str) -> Broadcast {
        let name = StreamName::parse(name).expect("a name");
        self.streams.wait(&name, PATIENCE).await.expect("the stream appears")
    }
}

/// The first `count` frames of a track and the codec that its groups name.
async fn frames(broadcast: &Broadcast, track: TrackName, count: usize) -> (Codec, Vec<Frame>) {
    let read = async {
        let mut changes = broadcast.watch();
        let track = loop {
            match broadcast.track(&track) {
                Some(track) => break track,
                None => assert!(changes.changed().await, "the broadcast ended"),
            }
        };
        let mut cursor = track.read(Start::Oldest);
        let (mut codec, mut frames) = (None, Vec::new());
        while frames.len() < count {
            match cursor.next().await {
                Item::Group { group, .. } => codec = Some(group.header().config.codec.clone()),
                Item::Frame(frame) => frames.push(frame.frame().expect("it is there").clone()),
                Item::GroupEnd(_) => {}
                Item::End => panic!("the track ended after {} frames", frames.len()),
            }
        }
        (codec.expect("a group came first"), frames)
    };
    timeout(PATIENCE, read).await.expect("frames in time")
}

fn check_video(frames: &[Frame]) {
    assert!(frames[0].keyframe, "a stream begins with a keyframe");
    assert!(frames.iter().filter(|frame| frame.keyframe).count() >= 2);
    for pair in frames.windows(2) {
        assert_eq!(pair[0].dts.plus(pair[0].duration), pair[1].dts, "no gap in decoding times");
    }
    let mut shown: Vec<_> = frames.iter().map(|frame| frame.pts.micros()).collect();
    shown.sort_unstable();
    // The last frames' neighbours in order of presentation may not have come yet.
    for pair in shown[..shown.len() - 4].windows(2) {
        let step = pair[1] - pair[0];
        assert!((32_000..=35_000).contains(&step), "a picture stands {step} µs");
    }
}

fn check_audio(frames: &[Frame]) {
    for pair in frames.windows(2) {
        assert_eq!(pair[0].dts.plus(pair[0].duration), pair[1].dts, "no gap in the sound");
        assert!(!pair[0].payload.is_empty());
    }
}

#[tokio::test]
async fn ffmpeg_publishes_h264_with_b_frames_and_aac() {
    let node = node().await;
    let codecs = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-c:a", "aac"];
    let publisher = node.publish("ffmpeg", &codecs, "live/cam?token=abc");
    let broadcast = node.broadcast("live/cam").await;
    let (codec, video) = frames(&broadcast, TrackName::video(), 75).await;
    let Codec::H264(config) = codec else { panic!("{codec:?}") };
    assert_eq!((config.resolution.width, config.resolution.height), (320, 240));
    check_video(&video);
    let reordered = video.iter().any(|frame| frame.pts.since(frame.dts).micros() > 60_000);
    assert!(reordered, "B-frames keep their composition times");
    let (codec, audio) = frames(&broadcast, TrackName::audio(), 100).await;
    assert!(matches!(&codec, Codec::Aac(aac) if aac.sample_rate == 48_000), "{codec:?}");
    check_audio(&audio);
    let distance = audio[0].pts.micros() - video[0].pts.micros();
    assert!(distance.abs() < 150_000, "sound and picture start {distance} µs apart");
    let sessions = node.sessions.list();
    assert_eq!(sessions[0].info.protocol, "rtmp");
    assert!(sessions[0].frames_in > 150 && sessions[0].bytes_in > 10_000);
    drop(publisher);
    let mut changes = broadcast.watch();
    let gone = async {
        while broadcast.state() != BroadcastState::Waiting {
            assert!(changes.changed().await, "the broadcast ended");
        }
    };
    timeout(PATIENCE, gone).await.expect("the end of the publisher is noticed");
    assert!(node.sessions.list().is_empty());
    node.shutdown.cancel();
}

#[tokio::test]
async fn ffmpeg_publishes_h265_and_opus_by_enhanced_rtmp() {
    let ffmpeg = new_ffmpeg().expect("a new ffmpeg");
    let node = node().await;
    let codecs = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"];
    let codecs = [&codecs[..], &["-c:a", "libopus"]].concat();
    let _publisher = node.publish(&ffmpeg, &codecs, "live/cam");
    let broadcast = node.broadcast("live/cam").await;
    let (codec, video) = frames(&broadcast, TrackName::video(), 75).await;
    let Codec::H265(config) = codec else { panic!("{codec:?}") };
    assert_eq!((config.resolution.width, config.resolution.height), (320, 240));
    check_video(&video);
    let (codec, audio) = frames(&broadcast, TrackName::audio(), 100).await;
    assert!(matches!(codec, Codec::Opus(_)), "{codec:?}");
    check_audio(&audio);
    node.shutdown.cancel();
}

#[tokio::test]
async fn ffmpeg_publishes_av1_and_aac_by_enhanced_rtmp() {
    let ffmpeg = new_ffmpeg().expect("a new ffmpeg");
    let node = node().await;
    let codecs = ["-c:v", "libsvtav1", "-preset", "12", "-c:a", "aac"];
    let _publisher = node.publish(&ffmpeg, &codecs, "live/cam");
    let broadcast = node.broadcast("live/cam").await;
    let (codec, video) = frames(&broadcast, TrackName::video(), 75).await;
    let Codec::Av1(config) = codec else { panic!("{codec:?}") };
    assert_eq!((config.resolution.width, config.resolution.height), (320, 240));
    check_video(&video);
    let (codec, audio) = frames(&broadcast, TrackName::audio(), 100).await;
    assert!(matches!(codec, Codec::Aac(_)), "{codec:?}");
    check_audio(&audio);
    node.shutdown.cancel();
}
