//! A listener with everything it needs, and waiting on conditions.
//!
//! Not here: encoders and players (`programs`).

use std::net::SocketAddr;
use std::time::Duration;

use headwater::auth::Access;
use headwater::clock::Clock;
use headwater::ingest::srt::{SrtDeps, SrtOptions, SrtServer};
use headwater::ownership::alone::{self, Alone};
use headwater::sessions::Sessions;
use headwater::streams::{Streams, StreamsOptions};
use headwater_media::{Broadcast, Frame, Item, Start, StreamName, Track, TrackName};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) streams: Streams,
    pub(crate) sessions: Sessions,
    pub(crate) shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl World {
    pub(crate) fn start(passphrase: Option<&str>) -> Self {
        // RUST_LOG shows what the listener says of a failing test.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Another test of this process may have done it.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let clock = Clock::start();
        let sessions = Sessions::new(clock, 100);
        let streams = Streams::new(clock, StreamsOptions::default(), Alone::new(), alone::pulls());
        let access = Access::new(false);
        let options = SrtOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            passphrase: passphrase.map(str::to_owned),
            ..SrtOptions::default()
        };
        let deps = SrtDeps { clock, access, sessions: sessions.clone(), streams: streams.clone() };
        let server = SrtServer::bind(options, deps).unwrap();
        let address = server.local_addr();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(server.run(shutdown.clone()));
        Self { address, streams, sessions, shutdown, server }
    }

    /// The URL under which ffmpeg reaches the listener (or a proxy before it).
    pub(crate) fn url(address: SocketAddr, stream_id: &str, options: &str) -> String {
        format!("srt://{address}?streamid={stream_id}&pkt_size=1316{options}")
    }

    pub(crate) async fn broadcast(&self, name: &str) -> Broadcast {
        let name = StreamName::parse(name).unwrap();
        self.streams.wait(&name, PATIENCE).await.expect("the stream goes live")
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.server).await.unwrap().unwrap().unwrap();
    }
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "never: {what}");
}

/// The track of that name once it has frames.
pub(crate) async fn track(broadcast: &Broadcast, name: &str) -> Track {
    let name = TrackName::parse(name).unwrap();
    until(&format!("track {name}"), || broadcast.track(&name).is_some()).await;
    let track = broadcast.track(&name).unwrap();
    assert!(tokio::time::timeout(PATIENCE, track.ready()).await.unwrap());
    track
}

/// The first `count` frames of a track from its oldest group on.
pub(crate) async fn frames(track: &Track, count: usize) -> Vec<Frame> {
    let mut cursor = track.read(Start::Oldest);
    let mut frames = Vec::new();
    while frames.len() < count {
        let item = tokio::time::timeout(PATIENCE, cursor.next()).await;
        match item.unwrap_or_else(|_| panic!("only {} of {count} frames", frames.len())) {
            Item::Frame(place) => frames.push(place.frame().unwrap().clone()),
            Item::Group { skipped, .. } => assert_eq!(skipped, 0),
            Item::GroupEnd(_) => {}
            Item::End => panic!("the track ended after {} of {count} frames", frames.len()),
        }
    }
    frames
}
