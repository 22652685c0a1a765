//! Players read a stream by SRT.
//!
//! Not here: the order of tracks and skipping (unit tests of `play`).

use crate::programs::{Program, Video, decode};
use crate::world::{World, frames, track, until};

const SECRET: &str = "correct-horse-battery";

fn scratch(name: &str) -> String {
    let folder = std::env::temp_dir().join(format!("headwater-srt-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_what_ffmpeg_publishes_plain_and_encrypted() {
    for (video, secret) in [(Video::H264, ""), (Video::H264, "32"), (Video::H265, "16")] {
        let world = World::start((!secret.is_empty()).then_some(SECRET));
        let options = if secret.is_empty() {
            String::new()
        } else {
            format!("&passphrase={SECRET}&pbkeylen={secret}")
        };
        let url = World::url(world.address, "publish:cam", &options);
        let publisher = Program::publish(video, 600, &url);
        let broadcast = world.broadcast("cam").await;
        frames(&track(&broadcast, "video").await, 10).await;
        let path = scratch(&format!("read-{video:?}-{secret}.ts"));
        let url = World::url(world.address, "read:cam", &options);
        let reader = Program::spawn(
            "ffmpeg",
            &[
                "-hide_banner",
                "-nostdin",
                "-y",
                "-loglevel",
                "error",
                "-i",
                &url,
                "-t",
                "4",
                "-c",
                "copy",
                &path,
            ],
        );
        let output = reader.output().await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (pictures, sounds) = decode(&path).await;
        assert!((100..=130).contains(&pictures), "{video:?}: {pictures} frames in 4 s");
        assert!((160..=200).contains(&sounds), "{video:?}: {sounds} audio frames in 4 s");
        std::fs::remove_file(&path).unwrap();
        until("the reader's leaving", || world.sessions.list().len() == 1).await;
        drop(publisher);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_the_streams_end_and_a_missing_stream_is_refused() {
    let world = World::start(None);
    let from = World::url(world.address, "read:cam", "");
    let path = scratch("transmit.ts");
    let to = "file://con";
    let refused = Program::spawn("srt-live-transmit", &["-a:no", "-q", &from, to]);
    let output = refused.output().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("rejection") && output.stdout.is_empty(), "{said}");
    let url = World::url(world.address, "publish:cam", "");
    let publisher = Program::publish(Video::H264, 150, &url);
    let broadcast = world.broadcast("cam").await;
    frames(&track(&broadcast, "video").await, 10).await;
    // Read as it comes: a full pipe would stop the player, and the stream would skip ahead for it.
    let reader = Program::spawn("srt-live-transmit", &["-a:no", "-q", &from, to]);
    let reader = tokio::spawn(reader.output());
    until("the reader", || world.sessions.list().len() == 2).await;
    assert!(publisher.output().await.status.success());
    world.streams.end_all();
    let output = reader.await.unwrap();
    std::fs::write(&path, &output.stdout).unwrap();
    let (pictures, sounds) = decode(&path).await;
    assert!((100..=150).contains(&pictures), "{pictures} of 150 frames");
    assert!((160..=260).contains(&sounds), "{sounds} audio frames");
    std::fs::remove_file(&path).unwrap();
    world.stop().await;
}
