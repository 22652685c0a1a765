//! What comes of renditions that stop: with their stream, or while it goes on without them.
//!
//! Not here: streams that run (the tests beside this).

use super::*;

#[tokio::test]
async fn who_waits_for_a_codec_that_hls_cannot_carry_is_told_at_once() {
    let (server, rig) = running().await;
    let waiting = server.begin("/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=2").await;
    rig.republish(vp8()).group_of_seconds(2);
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, &*answer.slug()), (404, "codec-not-in-hls"));
    assert_eq!(server.get("/hls/a/-/video/2.m4s").await.status, 200, "still to be played");
}

#[tokio::test]
async fn a_node_that_shuts_down_sends_all_who_wait_elsewhere_and_lets_nobody_wait() {
    let (server, mut rig) = running().await;
    let next = "/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=2";
    let waiting = [server.begin(next).await, server.begin("/hls/a/-/video/3.2.m4s").await];
    server.service.close();
    for one in waiting {
        let answer = one.await.unwrap();
        assert_eq!((answer.status, &*answer.slug()), (503, "shutting-down"));
        assert_eq!(answer.header(RETRY_AFTER), "1");
    }
    assert_eq!(server.get(next).await.status, 503);
    assert_eq!(server.get("/hls/a/-/video/3.1.m4s").await.status, 200, "what is here is given");
    rig.group_of_seconds(2);
    server.settle().await;
    assert_eq!(server.get(next).await.status, 200);
}

#[tokio::test]
async fn the_end_of_the_broadcast_answers_all_who_wait_and_is_seen_for_a_while() {
    let (server, mut rig) = running().await;
    let waiting = server.begin("/hls/a/-/video/index.m3u8?_HLS_msn=4&_HLS_part=0").await;
    let part = server.begin("/hls/a/-/video/3.2.m4s").await;
    server.broadcast.set_state(BroadcastState::Ended);
    rig.finish();
    let ended = waiting.await.unwrap();
    assert!(ended.text().ends_with("#EXT-X-ENDLIST\n"));
    let kept = ended.header(CACHE_CONTROL);
    assert!(!kept.contains("s-maxage"), "{kept}: the next broadcast has these numbers");
    assert_eq!(part.await.unwrap().status, 404);
    assert_eq!(server.get("/hls/a/-/video/3.m4s").await.status, 200);
    let gone = async {
        while server.get("/hls/a/-/video/3.m4s").await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it goes after the linger");
    assert_eq!(server.get("/hls/a/-/video/3.m4s").await.slug(), "stream-not-found");
}

#[tokio::test]
async fn a_track_that_comes_back_goes_on_in_the_same_rendition() {
    let server = Server::new();
    let mut audio = Rig::on(&server.broadcast, "audio-aac", aac());
    audio.group_of_seconds(2);
    audio.finish();
    server.settle().await;
    let text = server.get("/hls/a/-/audio-aac/index.m3u8").await.text().to_owned();
    assert!(!text.contains("ENDLIST"), "the broadcast goes on: {text}");
    server.broadcast.remove_track(&headwater_media::TrackName::parse("audio-aac").unwrap());
    let mut again = Rig::on(&server.broadcast, "audio-aac", aac());
    again.skip_groups(3);
    again.group_of_seconds(2);
    again.end_group();
    server.settle().await;
    let text = server.get("/hls/a/-/audio-aac/index.m3u8").await.text().to_owned();
    assert!(text.contains("\n0.m4s\n") && text.contains("\n3.m4s\n"), "{text}");
    assert_eq!(text.matches("#EXT-X-GAP").count(), 2, "{text}");
}

#[tokio::test]
async fn a_rendition_that_the_publisher_no_longer_brings_is_not_offered_any_more() {
    let (server, mut video) = running().await;
    let mut audio = Rig::on(&server.broadcast, "audio", aac());
    for _ in 0..3 {
        audio.group_of_seconds(2);
    }
    server.settle().await;
    let path = "/hls/a/-/audio/index.m3u8?_HLS_msn=3&_HLS_part=0";
    assert!(server.get("/hls/a/index.m3u8").await.text().contains("-/audio/index.m3u8"));
    let waiting = server.begin(path).await;
    audio.finish();
    server.broadcast.remove_track(&headwater_media::TrackName::parse("audio").unwrap());
    video.group_of_seconds(2);
    server.settle().await;
    let text = server.get("/hls/a/index.m3u8").await.text().to_owned();
    assert!(!text.contains("audio") && !text.contains("mp4a"), "{text}");
    let answer = server.get(path).await;
    assert_eq!((answer.status, &*answer.slug()), (404, "rendition-not-found"));
    assert_eq!(server.get("/hls/a/-/audio/2.0.m4s").await.status, 200, "still to be played");
    waiting.abort();
    // It comes back with the next publisher.
    let mut again = Rig::on(&server.broadcast, "audio", aac());
    again.skip_groups(4);
    again.group_of_seconds(2);
    server.settle().await;
    assert!(server.get("/hls/a/index.m3u8").await.text().contains("-/audio/index.m3u8"));
    assert_eq!(server.get("/hls/a/-/audio/index.m3u8").await.status, 200);
}
