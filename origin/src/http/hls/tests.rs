//! Requests against a packager in the same process.
#![allow(clippy::disallowed_methods, reason = "tests read the clock")]

mod stopped;
mod together;

use std::collections::HashSet;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_media::{Broadcast, BroadcastState};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::BodyExt as _;

use super::*;
use crate::auth::Access;
use crate::packager::tests::rig::{Rig, aac, broadcast, opus, vp8, vp9};
use crate::packager::{AudioChoice, Packager, PackagerOptions};

const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Server {
    service: HlsService,
    broadcast: Broadcast,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: HeaderName) -> &str {
        self.headers.get(&name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `type` of a problem.
    fn slug(&self) -> String {
        assert_eq!(self.header(CONTENT_TYPE), "application/problem+json", "{}", self.text());
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem["type"].as_str().unwrap().to_owned()
    }
}

impl Server {
    fn new() -> Self {
        Self::with(HlsOptions::default(), Arc::new(NoDemand))
    }

    fn with(options: HlsOptions, demand: Arc<dyn Demand>) -> Self {
        let ended_linger = Duration::from_secs(1);
        let packager = Packager::new(PackagerOptions { ended_linger, ..Default::default() });
        let broadcast = broadcast();
        broadcast.set_state(BroadcastState::Live);
        packager.attach(&broadcast);
        let service = HlsService::new(packager, Access::new(false), demand, options);
        Self { service, broadcast }
    }

    fn video(&self) -> Rig {
        Rig::on(&self.broadcast, "video", vp9())
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    async fn get_with(&self, path: &str, headers: &[(HeaderName, &str)]) -> Answer {
        self.send(Method::GET, path, headers).await
    }

    async fn send(&self, method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(()).unwrap();
        let (head, body) = self.service.handle(&request, LOOPBACK).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// A request that runs by itself; it has begun to wait when this returns.
    async fn begin(&self, path: &str) -> tokio::task::JoinHandle<Answer> {
        let server = Self { service: self.service.clone(), broadcast: self.broadcast.clone() };
        let path = path.to_owned();
        let task = tokio::spawn(async move { server.get(&path).await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        task
    }

    /// Waits until the packager has seen all that was written.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

/// Three whole segments, and two parts of the fourth.
async fn running() -> (Server, Rig) {
    let server = Server::new();
    let mut rig = server.video();
    for _ in 0..3 {
        rig.group_of_seconds(2);
    }
    rig.begin();
    for _ in 0..12 {
        rig.frame();
    }
    server.settle().await;
    (server, rig)
}

#[tokio::test]
async fn every_route_answers_with_its_type_and_its_cache_rule() {
    let (server, _rig) = running().await;
    for (path, content_type, cache) in [
        (
            "/hls/a/index.m3u8",
            "application/vnd.apple.mpegurl",
            "public, max-age=0, must-revalidate",
        ),
        (
            "/hls/a/-/video/index.m3u8",
            "application/vnd.apple.mpegurl",
            "public, max-age=0, must-revalidate",
        ),
        (
            "/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=1",
            "application/vnd.apple.mpegurl",
            "public, max-age=0, s-maxage=12",
        ),
        ("/hls/a/-/video/init-0.mp4", "video/mp4", "public, max-age=3600, immutable"),
        ("/hls/a/-/video/1.m4s", "video/mp4", "public, max-age=3600, immutable"),
        ("/hls/a/-/video/3.1.m4s", "video/mp4", "public, max-age=3600, immutable"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header(CONTENT_TYPE), content_type, "{path}");
        assert_eq!(answer.header(CACHE_CONTROL), cache, "{path}");
        assert_eq!(answer.header(CONTENT_LENGTH), answer.body.len().to_string(), "{path}");
        assert_eq!(answer.headers["access-control-allow-origin"], "*", "{path}");
        assert!(answer.headers["server"].to_str().unwrap().starts_with("headwater/"), "{path}");
        let head = server.send(Method::HEAD, path, &[]).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header(CONTENT_LENGTH), answer.header(CONTENT_LENGTH), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_that_says_so() {
    let (server, _rig) = running().await;
    for (path, status, slug) in [
        ("/hls/b/index.m3u8", 404, "stream-not-found"),
        ("/hls/b/-/video/index.m3u8", 404, "stream-not-found"),
        ("/hls/a//index.m3u8", 400, "invalid-stream-name"),
        ("/hls/a/-/audio/index.m3u8", 404, "rendition-not-found"),
        ("/hls/a/-/audio/0.m4s", 404, "rendition-not-found"),
        ("/hls/a/-/video/init-1.mp4", 404, "media-not-found"),
        ("/hls/a/-/video/9.m4s", 404, "media-not-found"),
        ("/hls/a/-/video/0.99.m4s", 404, "media-not-found"),
        ("/hls/a/-/video/3.9.m4s", 404, "media-not-found"),
        ("/hls/a/-/video/x.m4s", 404, "not-found"),
        ("/hls/a/-/video/index.m3u8?_HLS_part=1", 400, "invalid-directive"),
        ("/hls/a/-/video/index.m3u8?_HLS_msn=x", 400, "invalid-directive"),
        ("/hls/a/-/video/index.m3u8?_HLS_msn=5", 400, "too-far-ahead"),
        ("/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=999", 400, "too-far-ahead"),
    ] {
        let began = tokio::time::Instant::now();
        let answer = server.get(path).await;
        assert_eq!((answer.status, &*answer.slug()), (status, slug), "{path}");
        assert_eq!(answer.header(CACHE_CONTROL), "no-store", "{path}");
        assert!(began.elapsed() < Duration::from_millis(500), "{path} is answered at once");
    }
}

#[tokio::test]
async fn other_methods_are_refused_and_options_open_the_door_to_browsers() {
    let (server, _rig) = running().await;
    let answer = server.send(Method::POST, "/hls/a/index.m3u8", &[]).await;
    assert_eq!((answer.status, &*answer.slug()), (405, "method-not-allowed"));
    assert_eq!(answer.headers["allow"], "GET, HEAD, OPTIONS");
    let answer = server.send(Method::OPTIONS, "/hls/a/index.m3u8", &[]).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-methods"], "GET, HEAD, OPTIONS");
    let allowed = answer.headers["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("Range") && allowed.contains("Authorization"));
}

#[tokio::test]
async fn every_request_passes_the_seam_of_access() {
    let (server, _rig) = running().await;
    let far = "192.0.2.1".parse().unwrap();
    for path in ["/hls/a/index.m3u8", "/hls/a/-/video/index.m3u8", "/hls/a/-/video/0.m4s"] {
        let request = Request::builder().uri(path).header(AUTHORIZATION, "Bearer x");
        let response = server.service.handle(&request.body(()).unwrap(), far).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_blocking_reload_is_answered_by_the_part_it_waits_for() {
    let (server, mut rig) = running().await;
    let waiting = server.begin("/hls/a/-/video/index.m3u8?_HLS_msn=3&_HLS_part=2").await;
    for _ in 0..5 {
        rig.frame();
    }
    server.settle().await;
    assert!(!waiting.is_finished());
    rig.frame();
    let answer = waiting.await.unwrap();
    assert!(answer.text().contains("URI=\"3.2.m4s\""), "{}", answer.text());
    assert!(answer.text().contains("TYPE=PART,URI=\"3.3.m4s\""), "{}", answer.text());
}

#[tokio::test]
async fn a_hinted_part_and_a_growing_segment_come_when_they_are_there() {
    let (server, mut rig) = running().await;
    let part = server.begin("/hls/a/-/video/3.2.m4s").await;
    let segment = server.begin("/hls/a/-/video/3.m4s").await;
    for _ in 0..8 {
        rig.frame();
    }
    let part = part.await.unwrap();
    assert_eq!(part.status, 200);
    server.settle().await;
    assert!(!segment.is_finished());
    rig.end_group();
    let segment = segment.await.unwrap();
    let mut sum = Vec::new();
    for index in 0..4 {
        sum.extend(server.get(&format!("/hls/a/-/video/3.{index}.m4s")).await.body);
    }
    assert_eq!(segment.body, sum);
}

#[tokio::test]
async fn a_part_hinted_in_vain_comes_as_the_next_groups_first() {
    let (server, mut rig) = running().await;
    let part = server.begin("/hls/a/-/video/3.2.m4s").await;
    rig.end_group();
    rig.begin();
    for _ in 0..6 {
        rig.frame();
    }
    let part = part.await.unwrap();
    let first = server.get("/hls/a/-/video/4.0.m4s").await;
    assert_eq!((part.status, &part.body), (200, &first.body));
    assert_eq!(part.header(ETAG), first.header(ETAG));
}

#[tokio::test]
async fn a_request_that_waits_in_vain_gets_503_after_three_target_durations() {
    let server = Server::new();
    let mut rig = server.video();
    rig.target_duration_s = Some(1);
    rig.group_of_seconds(1);
    rig.end_group();
    server.settle().await;
    let playlist = server.get("/hls/a/-/video/index.m3u8?_HLS_msn=1&_HLS_part=0");
    let part = server.get("/hls/a/-/video/1.0.m4s");
    let began = tokio::time::Instant::now();
    let (playlist, part) = tokio::join!(playlist, part);
    assert_eq!(began.elapsed().as_secs(), 3);
    for answer in [playlist, part] {
        assert_eq!((answer.status, &*answer.slug()), (503, "media-not-ready"));
        assert_eq!(answer.header(RETRY_AFTER), "1");
    }
}

#[tokio::test]
async fn a_stream_that_has_just_begun_is_waited_for() {
    let server = Server::new();
    let multivariant = server.begin("/hls/a/index.m3u8").await;
    let early = server.begin("/hls/a/-/video/index.m3u8").await;
    let mut rig = server.video();
    let playlist = server.begin("/hls/a/-/video/index.m3u8").await;
    rig.group_of_seconds(1);
    assert_eq!(playlist.await.unwrap().status, 200);
    assert_eq!(early.await.unwrap().status, 200);
    let answer = multivariant.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());

    let options = HlsOptions { ready_timeout: Duration::from_secs(1), ..HlsOptions::default() };
    let empty = Server::with(options, Arc::new(NoDemand));
    let began = tokio::time::Instant::now();
    let answer = empty.get("/hls/a/index.m3u8").await;
    assert_eq!((answer.status, &*answer.slug()), (503, "media-not-ready"));
    assert_eq!(began.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn no_more_requests_wait_than_may() {
    let options = HlsOptions { waiting: 2, ..HlsOptions::default() };
    let server = Server::with(options, Arc::new(NoDemand));
    let mut rig = server.video();
    rig.group_of_seconds(2);
    rig.end_group();
    server.settle().await;
    let path = "/hls/a/-/video/index.m3u8?_HLS_msn=1";
    let (first, second) = (server.begin(path).await, server.begin(path).await);
    let third = server.get(path).await;
    assert_eq!((third.status, &*third.slug()), (503, "too-many-waiting"));
    second.abort();
    assert!(second.await.is_err());
    // A client that went away leaves its place.
    let fourth = server.begin(path).await;
    assert_eq!(server.get("/hls/a/-/video/index.m3u8").await.status, 200, "this one needs none");
    rig.group_of_seconds(2);
    rig.end_group();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(fourth.await.unwrap().status, 200);
}

#[tokio::test]
async fn all_encodings_carry_the_same_text_and_are_made_once() {
    let (server, _rig) = running().await;
    for path in ["/hls/a/-/video/index.m3u8", "/hls/a/index.m3u8"] {
        let plain = server.get(path).await;
        assert_eq!(plain.header(VARY), "Accept-Encoding");
        assert_eq!(plain.header(CONTENT_ENCODING), "");
        for (accept, token) in [("gzip", "gzip"), ("br, gzip", "br")] {
            let packed = server.get_with(path, &[(ACCEPT_ENCODING, accept)]).await;
            assert_eq!(packed.header(CONTENT_ENCODING), token);
            assert_eq!(packed.header(VARY), "Accept-Encoding");
            let mut text = String::new();
            if token == "gzip" {
                flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
            } else {
                brotli::Decompressor::new(&packed.body[..], 4_096)
                    .read_to_string(&mut text)
                    .unwrap();
            }
            assert_eq!(text, plain.text());
        }
    }
    let rendition = {
        let name = headwater_media::StreamName::parse("a").unwrap();
        server.service.packager().get(&name).unwrap().get("video").unwrap()
    };
    let version = rendition.version();
    let flavour = crate::packager::Flavour::Full;
    let again = || version.playlist(flavour, crate::packager::Encoding::Brotli, Vec::new);
    let (first, second) = (again().unwrap().0, again().unwrap().0);
    assert_eq!(first.as_ptr(), second.as_ptr(), "the same bytes for all");
}

#[tokio::test]
async fn media_answers_ranges_and_conditions() {
    let (server, _rig) = running().await;
    let path = "/hls/a/-/video/1.m4s";
    let whole = server.get(path).await;
    let len = whole.body.len();
    let part = server.get_with(path, &[(RANGE, "bytes=100-299")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[100..300]));
    assert_eq!(part.header(CONTENT_RANGE), format!("bytes 100-299/{len}"));
    assert_eq!(part.header(CONTENT_LENGTH), "200");
    let beyond = server.get_with(path, &[(RANGE, "bytes=99999999-")]).await;
    assert_eq!((beyond.status, beyond.header(CONTENT_RANGE)), (416, &*format!("bytes */{len}")));
    let several = server.get_with(path, &[(RANGE, "bytes=0-1,3-4")]).await;
    assert_eq!((several.status, &several.body), (200, &whole.body));
    let etag = whole.header(ETAG);
    let same = server.get_with(path, &[(IF_NONE_MATCH, etag)]).await;
    assert_eq!((same.status, same.body.len(), same.header(ETAG)), (304, 0, etag));
    let stale = [(http::header::IF_RANGE, "\"x\""), (RANGE, "bytes=0-1")];
    assert_eq!(server.get_with(path, &stale).await.status, 200);
}

#[tokio::test]
async fn a_range_is_for_get_alone() {
    let (server, _rig) = running().await;
    let path = "/hls/a/-/video/0.0.m4s";
    let whole = server.get(path).await;
    let ranged = server.send(Method::GET, path, &[(RANGE, "bytes=0-0")]).await;
    assert_eq!(ranged.status, 206);
    let head = server.send(Method::HEAD, path, &[(RANGE, "bytes=0-0")]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header(CONTENT_LENGTH), whole.body.len().to_string());
}

#[tokio::test]
async fn the_multivariant_playlist_offers_each_audio_codec_aac_first() {
    let server = Server::new();
    let mut video = server.video();
    let mut audio = Rig::on(&server.broadcast, "audio", opus());
    let mut bridge = Rig::on(&server.broadcast, "audio-aac", aac());
    for rig in [&mut video, &mut audio, &mut bridge] {
        rig.group_of_seconds(2);
        rig.end_group();
    }
    let text = server.get("/hls/a/index.m3u8").await.text().to_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "#EXTM3U");
    let media = |group: &str, uri: &str| {
        format!(
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{uri}\",DEFAULT=YES,\
             AUTOSELECT=YES,CHANNELS=\"2\",URI=\"-/{uri}/index.m3u8\""
        )
    };
    assert_eq!(lines[2], media("aac", "audio-aac"));
    assert_eq!(lines[3], media("opus", "audio"));
    for (line, codecs, group) in
        [(lines[4], "vp09.00.31.08,mp4a.40.2", "aac"), (lines[6], "vp09.00.31.08,opus", "opus")]
    {
        assert!(line.contains(&format!("CODECS=\"{codecs}\"")), "{line}");
        assert!(line.contains(&format!("AUDIO=\"{group}\"")), "{line}");
        assert!(line.contains("RESOLUTION=1280x720,FRAME-RATE=30.000"), "{line}");
    }
    assert_eq!([lines[5], lines[7]], ["-/video/index.m3u8"; 2]);
    // 60 frames and 100 frames of 50 bytes in 2 s, and boxes.
    let bandwidth = |line: &str| -> u64 {
        line.split("BANDWIDTH=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
    };
    assert!(bandwidth(lines[6]) >= (60 + 100) * 50 * 8 / 2);

    let playlist = server.get("/hls/a/-/audio/index.m3u8").await.text().to_owned();
    for report in [
        "#EXT-X-RENDITION-REPORT:URI=\"../video/index.m3u8\",LAST-MSN=0,LAST-PART=9",
        "#EXT-X-RENDITION-REPORT:URI=\"../audio-aac/index.m3u8\",LAST-MSN=0,LAST-PART=",
    ] {
        assert!(playlist.contains(report), "{playlist}");
    }
    assert!(!playlist.contains("URI=\"../audio/index.m3u8\""), "no report about itself");
    assert_eq!(server.get("/hls/a/-/audio/0.0.m4s").await.header(CONTENT_TYPE), "audio/mp4");
}

#[tokio::test]
async fn audio_only_and_video_only_streams_have_variants() {
    let server = Server::new();
    let mut audio = Rig::on(&server.broadcast, "audio", opus());
    audio.group_of_seconds(2);
    let text = server.get("/hls/a/index.m3u8").await.text().to_owned();
    assert!(text.contains("CODECS=\"opus\"\n-/audio/index.m3u8\n"), "{text}");
    assert!(!text.contains("EXT-X-MEDIA") && !text.contains("RESOLUTION"), "{text}");

    let server = Server::new();
    let mut video = server.video();
    video.group_of_seconds(2);
    let text = server.get("/hls/a/index.m3u8").await.text().to_owned();
    assert!(text.contains("CODECS=\"vp09.00.31.08\",RESOLUTION=1280x720"), "{text}");
    assert!(!text.contains("AUDIO="), "{text}");
}

#[tokio::test]
async fn a_codec_that_hls_cannot_carry_is_left_out_and_named_if_nothing_remains() {
    let server = Server::new();
    let mut video = Rig::on(&server.broadcast, "video", vp8());
    video.group_of_seconds(2);
    for path in ["/hls/a/index.m3u8", "/hls/a/-/video/index.m3u8"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &*answer.slug()), (404, "codec-not-in-hls"), "{path}");
    }
    let mut audio = Rig::on(&server.broadcast, "audio", opus());
    audio.group_of_seconds(2);
    server.settle().await;
    let text = server.get("/hls/a/index.m3u8").await.text().to_owned();
    assert!(text.contains("-/audio/index.m3u8") && !text.contains("-/video/"), "{text}");
    // Who can follow nothing but the sound is counted by it.
    let followed = server.get("/hls/a/-/audio/index.m3u8?_HLS_msn=0&_HLS_part=0").await;
    assert_eq!(followed.status, 200);
    let name = headwater_media::StreamName::parse("a").unwrap();
    assert_eq!(crate::http::hls::viewers(server.service.packager(), &name), 1);
}

#[tokio::test]
async fn who_asks_for_heads_alone_is_no_viewer() {
    let (server, _rig) = running().await;
    let name = headwater_media::StreamName::parse("a").unwrap();
    let path = "/hls/a/-/video/index.m3u8?_HLS_msn=0&_HLS_part=0";
    for (method, viewers) in [(Method::HEAD, 0), (Method::GET, 1)] {
        assert_eq!(server.send(method.clone(), path, &[]).await.status, 200);
        let counted = crate::http::hls::viewers(server.service.packager(), &name);
        assert_eq!(counted, viewers, "{method}");
    }
}

#[derive(Default)]
struct Bridge {
    wanted: Mutex<HashSet<AudioCodec>>,
}

impl Demand for Bridge {
    fn find(&self, _: &headwater_media::StreamName) -> Option<Broadcast> {
        None
    }

    fn want(&self, stream: &headwater_media::StreamName, codec: AudioCodec) -> bool {
        assert_eq!(stream.as_str(), "a");
        self.wanted.lock().unwrap().insert(codec);
        true
    }
}

#[tokio::test]
async fn audio_that_is_made_on_demand_is_asked_for_and_waited_for() {
    let bridge = Arc::new(Bridge::default());
    let server = Server::with(HlsOptions::default(), Arc::clone(&bridge) as Arc<dyn Demand>);
    let mut audio = Rig::on(&server.broadcast, "audio", opus());
    for _ in 0..4 {
        audio.group_of_seconds(2);
    }
    server.settle().await;
    let waiting = server.begin("/hls/a/index.m3u8").await;
    let playlist = server.begin("/hls/a/-/audio-aac/index.m3u8").await;
    assert!(!waiting.is_finished() && !playlist.is_finished());
    assert_eq!(bridge.wanted.lock().unwrap().len(), 2);
    let mut bridged = Rig::on(&server.broadcast, "audio-aac", aac());
    bridged.group_of_seconds(1);
    let text = waiting.await.unwrap().text().to_owned();
    assert!(text.contains("-/audio-aac/index.m3u8") && text.contains("-/audio/index.m3u8"));
    assert_eq!(playlist.await.unwrap().status, 200);
}

#[tokio::test]
async fn only_the_configured_codecs_are_listed() {
    for (choice, listed, left_out) in [
        (AudioChoice::Aac, "-/audio-aac/", "-/audio/"),
        (AudioChoice::Opus, "-/audio/", "-/audio-aac/"),
    ] {
        let options = HlsOptions { audio: choice, ..HlsOptions::default() };
        let server = Server::with(options, Arc::new(NoDemand));
        let mut audio = Rig::on(&server.broadcast, "audio", opus());
        let mut bridged = Rig::on(&server.broadcast, "audio-aac", aac());
        audio.group_of_seconds(2);
        bridged.group_of_seconds(2);
        let text = server.get("/hls/a/index.m3u8").await.text().to_owned();
        assert!(text.contains(listed) && !text.contains(left_out), "{text}");
    }
}

#[tokio::test]
async fn a_delta_update_is_given_where_it_is_shorter() {
    let (server, mut rig) = running().await;
    let path = "/hls/a/-/video/index.m3u8?_HLS_skip=YES";
    assert!(!server.get(path).await.text().contains("EXT-X-SKIP"));
    for _ in 0..10 {
        rig.group_of_seconds(2);
    }
    rig.end_group();
    server.settle().await;
    for skip in ["YES", "v2"] {
        let path = format!("/hls/a/-/video/index.m3u8?_HLS_skip={skip}");
        let text = server.get(&path).await.text().to_owned();
        assert!(text.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n"), "{text}");
    }
}
