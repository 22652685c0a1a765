//! An independent WebRTC implementation publishes by WHIP what a real encoder makes, and plays by
//! WHEP into a real decoder.
//!
//! Not here: browsers (`e2e`).
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use headwater_tests::conformance::client::Client;
use headwater_tests::conformance::follow::{Target, follow};
use headwater_tests::node::{Node, free};
use headwater_tests::program::{Program, new_ffmpeg};
use headwater_tests::webrtc::{Codec, SrtpProtectionProfile, Viewer, WhipClient};

const PATIENCE: Duration = Duration::from_secs(60);
/// Two seconds of video.
const FRAMES: u32 = 60;

/// Sends the test picture and a tone as plain RTP.
fn encode(codec: Codec, client: &WhipClient) -> Program {
    let encoder: &[&str] = match codec {
        Codec::H264 => &["libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-bf", "0"],
        Codec::Vp8 => &["libvpx", "-deadline", "realtime", "-cpu-used", "8"],
        Codec::Vp9 => {
            &["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0"]
        }
        Codec::Av1 => &["libsvtav1", "-preset", "12", "-svtav1-params", "pred-struct=1:rc=2"],
        Codec::Opus => unreachable!("it is audio"),
    };
    let [video, audio] = client.inputs() else { panic!("two tracks") };
    let (video, audio) = (format!("rtp://{video}?pkt_size=1200"), format!("rtp://{audio}"));
    let input = "-hide_banner -nostdin -loglevel error -re -f lavfi -i \
        testsrc2=size=320x180:rate=30 -re -f lavfi -i sine=frequency=440:sample_rate=48000";
    let mut arguments: Vec<&str> = input.split_whitespace().collect();
    arguments.extend(["-map", "0:v", "-pix_fmt", "yuv420p", "-b:v", "500k", "-g", "30", "-c:v"]);
    arguments.extend(encoder);
    arguments.extend(["-strict", "-2", "-f", "rtp", &video]);
    arguments.extend("-map 1:a -c:a libopus -ac 2 -b:a 64k -f rtp".split_whitespace());
    arguments.push(&audio);
    Program::start(&new_ffmpeg().expect("a new ffmpeg"), arguments).expect("ffmpeg starts")
}

/// Decodes so much RTP from these ports, and says how loud it was. It may have to wait for the second
/// keyframe: the client throws away what comes while it completes its DTLS handshake.
async fn decode(codec: Codec, ports: (u16, u16)) -> Program {
    let description = format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{}{}",
        codec.description(ports.0),
        Codec::Opus.description(ports.1)
    );
    let file = std::env::temp_dir().join(format!("headwater-test-{}.sdp", ports.0));
    std::fs::write(&file, description).expect("a file");
    let frames = FRAMES.to_string();
    let input = "-hide_banner -nostdin -protocol_whitelist file,udp,rtp -i";
    let mut arguments: Vec<&str> = input.split_whitespace().collect();
    let file = file.to_string_lossy();
    arguments.push(&file);
    arguments.extend(["-map", "0:v", "-frames:v", &frames, "-progress", "pipe:1", "-f", "null"]);
    arguments.push("-");
    arguments.extend("-map 0:a -t 2 -af volumedetect -f null -".split_whitespace());
    let program =
        Program::start(&new_ffmpeg().expect("a new ffmpeg"), arguments).expect("ffmpeg starts");
    // It listens before anything is sent to it.
    let listens = async {
        let port = format!(":{:04X} ", ports.1);
        while !std::fs::read_to_string("/proc/net/udp").is_ok_and(|all| all.contains(&port)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listens).await.expect("the decoder listens");
    program
}

async fn there_and_back(codec: Codec) {
    let node = Node::start(&[]).await.expect("a node");
    let client = node.client();
    let publisher = WhipClient::publish(&client, "peer/show", &[codec, Codec::Opus]).await;
    let publisher = publisher.expect("it publishes");
    let mut encoder = encode(codec, &publisher);
    node.live("peer/show").await.expect("the stream is live");

    let ports = free(4).expect("ports");
    let ports = (ports, ports + 2);
    let decoder = decode(codec, ports).await;
    let to = |port| Some(([127, 0, 0, 1], port).into());
    let codecs = [(codec, to(ports.0)), (Codec::Opus, to(ports.1))];
    let viewer = Viewer::play(&client, "peer/show", &codecs).await.expect("it plays");
    let said = decoder.finish(PATIENCE).await.expect("two seconds arrive");
    assert!(said.status.success(), "{}", said.err);
    let frame = format!("frame={FRAMES}\n");
    assert!(said.out.contains(&frame), "{}\n{}", said.out, said.err);
    let loudness = said.err.split("mean_volume: ").nth(1).and_then(|rest| rest.split(' ').next());
    let loudness: f32 = loudness.and_then(|text| text.parse().ok()).expect("audio was decoded");
    assert!(loudness > -40.0, "the tone is at {loudness} dB");

    // VP8 has no place in HLS.
    if codec != Codec::Vp8 {
        follow_hls(&client).await;
    }
    assert!(encoder.runs(), "the encoder goes on");
    assert!(viewer.peer.is_connected());
    viewer.peer.close().await.expect("the viewer leaves");
    publisher.close().await.expect("the publisher leaves");
}

async fn follow_hls(client: &Client) {
    let time = Duration::from_secs(4);
    let target = Target { stream: "peer/show".into(), rendition: "video".into(), time };
    let outcome = follow(client, &target, None).await.expect("LL-HLS goes on");
    assert_eq!(outcome.complaints, Vec::<String>::new());
    assert!(outcome.parts > 10, "{outcome:?}");
}

#[tokio::test]
async fn an_independent_client_publishes_and_plays_h264_and_opus() {
    there_and_back(Codec::H264).await;
}

#[tokio::test]
async fn an_independent_client_publishes_and_plays_vp8_and_opus() {
    there_and_back(Codec::Vp8).await;
}

#[tokio::test]
async fn an_independent_client_publishes_and_plays_vp9_and_opus() {
    there_and_back(Codec::Vp9).await;
}

#[tokio::test]
async fn an_independent_client_publishes_and_plays_av1_and_opus() {
    there_and_back(Codec::Av1).await;
}

#[tokio::test]
async fn every_srtp_profile_is_played_without_a_loss() {
    let node = Node::start(&[]).await.expect("a node");
    let client = node.client();
    let codecs = [Codec::H264, Codec::Opus];
    let publisher = WhipClient::publish(&client, "peer/sealed", &codecs).await;
    let publisher = publisher.expect("it publishes");
    let _encoder = encode(Codec::H264, &publisher);
    node.live("peer/sealed").await.expect("the stream is live");
    for profile in [
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    ] {
        let codecs = codecs.map(|codec| (codec, None));
        let playing = Viewer::play_sealed(&client, "peer/sealed", &codecs, &[profile]).await;
        let viewer = playing.expect("it plays");
        let (video, audio) = (&viewer.video, &viewer.audio);
        let enough = async {
            while video.frames.load(Relaxed) < FRAMES.into() || audio.packets.load(Relaxed) < 50 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.unwrap_or_else(|_| {
            panic!("{profile:?}: {video:?} {audio:?}");
        });
        assert_eq!((video.lost.load(Relaxed), audio.lost.load(Relaxed)), (0, 0), "{profile:?}");
        viewer.peer.close().await.expect("the viewer leaves");
    }
    publisher.close().await.expect("the publisher leaves");
}
