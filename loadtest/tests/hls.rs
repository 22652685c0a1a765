//! LL-HLS viewers against a real node with a real publisher, for a few seconds.
//!
//! Not here: load (`headwater-loadtest run`).
#![allow(clippy::disallowed_methods, reason = "driver: waits")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_loadtest::compare::node::{Node, free_ports};
use headwater_loadtest::live::{Side, get};
use headwater_loadtest::publish::{Protocol, Publishers, Stream};
use headwater_loadtest::source::Settings;
use headwater_loadtest::view::hls::crowd::{HlsCrowd, HlsOptions, Http};
use headwater_loadtest::view::hls::findings::Summary;
use headwater_loadtest::view::hls::fleet;
use headwater_loadtest::view::hls::probe;
use headwater_loadtest::view::hls::target::Server;
use headwater_loadtest::view::{Crowd, Target};

/// How long anything may take here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const VIEWERS: u64 = 12;

/// The node's program: what `E2E_HEADWATER` names, else the one built beside this test.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("E2E_HEADWATER") {
        return named.into();
    }
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join("headwater");
    assert!(binary.exists(), "not built: cargo build --package headwater");
    binary
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

struct Show {
    node: Node,
    publishers: Publishers,
    target: Target,
}

/// A node with one live stream of picture and sound.
async fn show() -> Show {
    let begin = 23_000 + u16::try_from(std::process::id() % 400).unwrap() * 40;
    let start = move || Node::start(&program(), free_ports(begin, 20)?, 200);
    let node = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let settings = Settings {
        width: 320,
        height: 180,
        fps: (30, 1),
        bitrate: 200_000,
        gop_s: 1.0,
        b_frames: false,
        audio: true,
        ..Settings::default()
    };
    let stream = Stream {
        protocol: Protocol::Whip,
        address: format!("{}/whip/show", node.url()),
        name: "show".to_owned(),
        number: 0,
        settings,
        token: None,
        srt_latency: Duration::ZERO,
    };
    let side = |protocol: Protocol| Arc::new(Side::new(protocol.name()));
    let publishers = Publishers::start(vec![stream], side).unwrap();
    let url = format!("{}/hls/show/index.m3u8", node.url());
    let (server, path) = Server::of(&url, None, true).unwrap();
    let live = async {
        loop {
            let (server, path) = (server.clone(), Arc::clone(&path));
            let probe = move || probe::media_playlist(&server, &path);
            if tokio::task::spawn_blocking(probe).await.unwrap().is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, live).await.expect("the stream goes live");
    let target = Target { urls: vec![url], token: None, frame_interval_us: 33_333 };
    Show { node, publishers, target }
}

impl Show {
    async fn end(self) {
        self.publishers.stop().await;
        tokio::task::spawn_blocking(move || drop(self.node)).await.unwrap();
    }

    /// Lets viewers play for some parts; gives what they found, and the frames of the sampled.
    async fn play(&self, http: Http) -> (Summary, u64) {
        let options = HlsOptions { http, sample: 4, ..HlsOptions::default() };
        let mut crowd = HlsCrowd::start(&self.target, &options, 2).unwrap();
        crowd.join(VIEWERS as usize);
        let side = Arc::clone(crowd.side());
        until("all play", || get(&side.active) == VIEWERS).await;
        crowd.begin();
        let from = get(&side.playlist_requests);
        until("playlists of picture and sound for ten parts", || {
            get(&side.playlist_requests) >= from + VIEWERS * 2 * 10
        })
        .await;
        tokio::task::spawn_blocking(move || {
            crowd.stop();
            assert_eq!(get(&side.failed), 0, "{:?}", side.problems());
            assert_eq!(get(&side.active), 0, "all have left");
            (crowd.hls().unwrap(), side.totals().counts.frames)
        })
        .await
        .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_play_a_real_node_without_a_fault_over_both_versions_of_http() {
    let show = show().await;
    for http in [Http::One, Http::Two] {
        let (found, frames) = show.play(http).await;
        // A node may hint at a part that a keyframe forestalls, until it knows a stream's rhythm.
        let mut faults = found.faults.0.clone();
        faults.remove("a hinted part never came");
        assert!(faults.is_empty(), "{http:?}: {found}");
        assert!(found.failures.is_empty(), "{http:?}: {found}");
        assert_eq!(found.statuses.keys().copied().collect::<Vec<_>>(), [200], "{http:?}: {found}");
        assert_eq!((found.gave_up, found.never_played, found.went_back), (0, 0, 0), "{found}");
        assert!(found.answers.count > VIEWERS * 5, "they waited for parts: {found}");
        assert!(found.parts.count > VIEWERS * 10, "picture and sound: {found}");
        assert!(frames > 30, "{http:?}: stamps of {frames} frames were found");
        assert!(found.births.count > 0, "{http:?}: {found}");
    }
    show.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_held_open_and_answered_when_their_segment_comes() {
    let show = show().await;
    let target = show.target.clone();
    let fleet = tokio::task::spawn_blocking(move || fleet::waiting(&target)).await.unwrap();
    let mut fleet = fleet.unwrap();
    fleet.join(50);
    let side = Arc::clone(fleet.side());
    until("all wait", || get(&side.active) == 50).await;
    until("answers to all, and all wait again", || {
        get(&side.playlist_requests) > 100 && get(&side.active) == 50
    })
    .await;
    assert_eq!(get(&side.failed), 0, "{:?}", side.problems());
    tokio::task::spawn_blocking(move || fleet.stop()).await.unwrap();
    show.end().await;
}
