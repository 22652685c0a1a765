//! ffprobe reads every init section with each part alone, and ffmpeg decodes whole segments without
//! a complaint: for every codec that HLS carries, published by a real encoder.
//!
//! Not here: what playlists say of them (`low_latency`).
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use headwater_tests::conformance::client::Client;
use headwater_tests::conformance::playlist::Playlist;
use headwater_tests::node::Node;
use headwater_tests::program::{Program, Said, new_ffmpeg};

const PATIENCE: Duration = Duration::from_secs(60);
/// Parts read of each rendition.
const PARTS: usize = 8;

/// Publishes the test picture and a tone in these codecs.
fn publish(codecs: &str, format: &str, url: &str) -> Program {
    let input = "-hide_banner -nostdin -loglevel error -re -f lavfi -i \
        testsrc2=size=320x180:rate=30 -re -f lavfi -i sine=frequency=440:sample_rate=48000 \
        -pix_fmt yuv420p -g 30 -b:v 500k -ac 2";
    let mut arguments: Vec<&str> = input.split_whitespace().collect();
    arguments.extend(codecs.split_whitespace());
    arguments.extend(["-f", format, url]);
    Program::start(&new_ffmpeg().expect("a new ffmpeg"), arguments).expect("ffmpeg starts")
}

async fn run(name: &str, arguments: &str, file: &std::path::Path) -> Said {
    let file = file.to_string_lossy();
    let words = arguments.split_whitespace().map(|word| if word == "FILE" { &*file } else { word });
    let program = Program::start(name, words).expect("it starts");
    program.finish(PATIENCE).await.expect("it ends")
}

/// The bytes of a file of the rendition.
async fn get(client: &Client, folder: &str, name: &str) -> Vec<u8> {
    let answer = client.get(&format!("{folder}/{name}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{name}");
    answer.body.to_vec()
}

/// A playlist with a whole segment and enough parts.
async fn playlist(client: &Client, folder: &str) -> Playlist {
    let mut query = String::new();
    loop {
        let answer = client.get(&format!("{folder}/index.m3u8{query}")).await.expect("an answer");
        if answer.status == 200 {
            let list = Playlist::parse(answer.text().expect("text")).expect("a playlist");
            let parts: usize = list.all().map(|segment| segment.parts.len()).sum();
            if list.segments.iter().any(|segment| !segment.gap) && parts >= PARTS {
                return list;
            }
            let (msn, part) = list.next_part();
            query = format!("?_HLS_msn={msn}&_HLS_part={part}");
        }
    }
}

async fn check(node: &Node, stream: &str, rendition: &str, codec: &str) {
    let client = node.client();
    let folder = format!("/hls/{stream}/-/{rendition}");
    let reading = tokio::time::timeout(PATIENCE, playlist(&client, &folder));
    let list = reading.await.expect("a segment in time");
    let whole = list.segments.iter().find(|segment| !segment.gap).expect("a whole segment");
    let init = get(&client, &folder, whole.map.as_deref().expect("EXT-X-MAP")).await;
    let name = format!("headwater-parts-{}-{rendition}.mp4", node.http.port());
    let file = std::env::temp_dir().join(name);

    let parts = list.all().flat_map(|segment| &segment.parts).take(PARTS);
    for part in parts {
        let media = get(&client, &folder, &part.uri).await;
        std::fs::write(&file, [&init[..], &media].concat()).expect("a file");
        let ask = "-v error -count_packets -show_entries stream=codec_name,nb_read_packets \
            -of csv=p=0 FILE";
        let said = run("ffprobe", ask, &file).await;
        assert!(said.status.success(), "{}: {}", part.uri, said.err);
        let mut words = said.out.trim().split(',');
        assert_eq!(words.next(), Some(codec), "{}: {}", part.uri, said.out);
        let packets: u32 = words.next().and_then(|word| word.parse().ok()).expect("a number");
        assert!(packets > 0, "{} holds nothing", part.uri);
    }

    let media = get(&client, &folder, &whole.uri).await;
    std::fs::write(&file, [&init[..], &media].concat()).expect("a file");
    let decode = "-hide_banner -nostdin -v error -xerror -i FILE -fps_mode passthrough \
        -enc_time_base:v demux -f null -";
    let said = run(&new_ffmpeg().expect("a new ffmpeg"), decode, &file).await;
    assert!(said.status.success() && said.err.is_empty(), "{}: {}", whole.uri, said.err);
    // It lies in the system's folder for temporary files.
    let _ = std::fs::remove_file(&file);
}

#[tokio::test]
async fn ffprobe_reads_every_part_of_h264_with_b_frames_and_aac_by_srt() {
    let node = Node::start(&[]).await.expect("a node");
    let codecs = "-c:v libx264 -preset veryfast -bf 2 -c:a aac";
    let _encoder = publish(codecs, "mpegts", &node.srt_url("parts"));
    node.live("parts").await.expect("live");
    check(&node, "parts", "video", "h264").await;
    check(&node, "parts", "audio", "aac").await;
    // Made on demand from the AAC.
    check(&node, "parts", "audio-opus", "opus").await;
}

#[tokio::test]
async fn ffprobe_reads_every_part_of_h265_and_aac_by_srt() {
    let node = Node::start(&[]).await.expect("a node");
    let codecs = "-c:v libx265 -preset ultrafast -x265-params log-level=error -c:a aac";
    let _encoder = publish(codecs, "mpegts", &node.srt_url("parts"));
    node.live("parts").await.expect("live");
    check(&node, "parts", "video", "hevc").await;
    check(&node, "parts", "audio", "aac").await;
}

#[tokio::test]
async fn ffprobe_reads_every_part_of_av1_and_opus_by_enhanced_rtmp() {
    let node = Node::start(&[]).await.expect("a node");
    let url = format!("rtmp://{}/live/parts", node.rtmp);
    let _encoder = publish("-c:v libsvtav1 -preset 12 -c:a libopus", "flv", &url);
    node.live("live/parts").await.expect("live");
    check(&node, "live/parts", "video", "av1").await;
    check(&node, "live/parts", "audio", "opus").await;
    // Made on demand from the Opus.
    check(&node, "live/parts", "audio-aac", "aac").await;
}

#[tokio::test]
async fn ffprobe_reads_every_part_of_h264_and_opus_by_whip() {
    let node = Node::start(&[]).await.expect("a node");
    let url = format!("http://{}/whip/parts", node.http);
    let codecs = "-c:v libx264 -preset veryfast -profile:v baseline -bf 0 -c:a libopus";
    let _encoder = publish(codecs, "whip", &url);
    node.live("parts").await.expect("live");
    check(&node, "parts", "video", "h264").await;
    check(&node, "parts", "audio", "opus").await;
}
