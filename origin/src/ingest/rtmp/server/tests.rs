use headwater_media::{BroadcastState, StreamName, TrackName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::ingest::rtmp::reply::kind;
use crate::ingest::rtmp::testing::{Answers, ClientBytes, Order, RECORDED};
use crate::ownership::alone::{Alone, pulls};
use crate::streams::{Policy, StreamsOptions};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    address: SocketAddr,
    deps: RtmpDeps,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

async fn rig(options: RtmpOptions, policy: Policy) -> Rig {
    let clock = Clock::start();
    let deps = RtmpDeps {
        access: Arc::new(Access::new(false)),
        sessions: Sessions::new(clock, 10),
        streams: Streams::new(
            clock,
            StreamsOptions { policy, ..StreamsOptions::default() },
            Alone::new(),
            pulls(),
        ),
        clock,
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = RtmpOptions { listen, ..options };
    let server = RtmpServer::bind(options, deps.clone()).await.unwrap();
    let address = server.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(server.run(shutdown.clone()));
    Rig { address, deps, shutdown, running }
}

async fn default_rig() -> Rig {
    rig(RtmpOptions::default(), Policy::Reject).await
}

struct Client {
    stream: TcpStream,
    answers: Answers,
    codes: Vec<String>,
}

impl Rig {
    async fn connect(&self, bytes: &[u8]) -> Client {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        Client { stream, answers: Answers::new(), codes: Vec::new() }
    }

    /// A client that publishes `live/{key}` and knows it.
    async fn publish(&self, key: &str) -> Client {
        let bytes = ClientBytes::publishing("live", key, Order::ReleaseFirst).take();
        let mut client = self.connect(&bytes).await;
        client.until("NetStream.Publish.Start").await;
        client
    }

    fn sessions(&self) -> usize {
        self.deps.sessions.list().len()
    }
}

impl Client {
    /// Reads once; false at the end of the connection.
    async fn read(&mut self) -> bool {
        let mut bytes = vec![0; 4_096];
        match timeout(PATIENCE, self.stream.read(&mut bytes)).await.expect("an answer in time") {
            Ok(count @ 1..) => {
                self.codes.extend(self.answers.codes(&bytes[..count]));
                true
            }
            Ok(0) | Err(_) => false,
        }
    }

    async fn until(&mut self, code: &str) {
        while !self.codes.iter().any(|seen| seen == code) {
            assert!(self.read().await, "closed before {code}: {:?}", self.codes);
        }
    }

    /// The last code before the server closed the connection.
    async fn last_words(mut self) -> String {
        while self.read().await {}
        self.codes.pop().unwrap_or_default()
    }
}

#[tokio::test]
async fn a_recorded_publisher_reaches_the_bus_and_its_end_is_clean() {
    let rig = default_rig().await;
    let mut client = rig.connect(RECORDED).await;
    client.until("NetStream.Unpublish.Success").await;
    let name = StreamName::parse("live/cam").unwrap();
    let broadcast = rig.deps.streams.get(&name).unwrap();
    assert_eq!(broadcast.state(), BroadcastState::Waiting);
    for (track, frames) in [(TrackName::video(), 30), (TrackName::audio(), 87)] {
        let track = broadcast.track(&track).unwrap();
        let count: u32 = track.window().iter().map(|group| group.len()).sum();
        assert_eq!(count, frames, "{}", track.name());
    }
    assert_eq!(rig.sessions(), 0);
    let warnings = rig.deps.streams.snapshot(&name).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("B-frames"), "{warnings:?}");
}

#[tokio::test]
async fn a_second_publisher_of_a_name_is_refused_and_the_first_goes_on() {
    let rig = default_rig().await;
    let mut first = rig.publish("cam").await;
    let bytes = ClientBytes::publishing("live", "cam", Order::CreateFirst).take();
    let second = rig.connect(&bytes).await;
    assert_eq!(second.last_words().await, "NetStream.Publish.BadName");
    let mut other = ClientBytes::default();
    other.command(1, "closeStream", &[]);
    first.stream.write_all(&other.take()).await.unwrap();
    first.until("NetStream.Unpublish.Success").await;
}

#[tokio::test]
async fn with_replace_the_first_publisher_hears_that_it_was_taken_over() {
    let rig = rig(RtmpOptions::default(), Policy::Replace).await;
    let first = rig.publish("cam").await;
    let _second = rig.publish("cam").await;
    assert_eq!(first.last_words().await, "NetStream.Publish.BadName");
    assert_eq!(rig.sessions(), 1);
}

#[tokio::test]
async fn a_kicked_publisher_hears_it_and_its_name_is_free() {
    let rig = default_rig().await;
    let client = rig.publish("cam").await;
    assert!(rig.deps.sessions.kick(rig.deps.sessions.list()[0].id));
    assert_eq!(client.last_words().await, "NetStream.Publish.Denied");
    assert_eq!(rig.sessions(), 0);
    rig.publish("cam").await;
}

#[tokio::test]
async fn shutdown_ends_publishers_with_a_status_and_returns() {
    let rig = default_rig().await;
    let client = rig.publish("cam").await;
    let _idle = rig.connect(&[3]).await;
    rig.shutdown.cancel();
    assert_eq!(client.last_words().await, "NetStream.Unpublish.Success");
    timeout(PATIENCE, rig.running).await.expect("run returns").unwrap();
    assert!(TcpStream::connect(rig.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_full_node_says_so() {
    let rig = default_rig().await;
    let mut publishers = Vec::new();
    for n in 0..10 {
        publishers.push(rig.publish(&format!("cam{n}")).await);
    }
    let bytes = ClientBytes::publishing("live", "more", Order::CreateOnly).take();
    assert_eq!(rig.connect(&bytes).await.last_words().await, "NetStream.Publish.Failed");
}

#[tokio::test]
async fn silent_slow_and_half_open_clients_are_closed_in_time() {
    let short = Duration::from_millis(300);
    let options =
        RtmpOptions { handshake_timeout: short, idle_timeout: short, ..RtmpOptions::default() };
    let rig = rig(options, Policy::Reject).await;
    let silent = rig.connect(&[]).await;
    let half = rig.connect(&ClientBytes::new().take()[..1_000]).await;
    let idle = rig.publish("cam").await;
    let slow = tokio::spawn({
        let mut slow = rig.connect(&[3]).await;
        async move {
            // A byte now and then does not extend the time for the handshake.
            while slow.stream.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    assert_eq!(silent.last_words().await, "");
    assert_eq!(half.last_words().await, "");
    assert_eq!(idle.last_words().await, "NetStream.Publish.Failed");
    timeout(PATIENCE, slow).await.expect("closed").unwrap();
    assert_eq!(rig.sessions(), 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_rest_untouched() {
    let options = RtmpOptions { connections: 2, ..RtmpOptions::default() };
    let rig = rig(options, Policy::Reject).await;
    let first = rig.publish("a").await;
    let mut second = rig.publish("b").await;
    assert_eq!(rig.connect(&[]).await.last_words().await, "");
    drop(first);
    let bytes = ClientBytes::publishing("live", "c", Order::CreateOnly).take();
    let third = async {
        loop {
            let mut client = rig.connect(&bytes).await;
            if client.read().await {
                return client;
            }
        }
    };
    timeout(PATIENCE, third).await.expect("a slot is free again");
    let mut bytes = ClientBytes::default();
    bytes.command(1, "closeStream", &[]);
    second.stream.write_all(&bytes.take()).await.unwrap();
    second.until("NetStream.Unpublish.Success").await;
}

#[tokio::test]
async fn hostile_clients_end_alone_and_hear_why_where_they_can() {
    let options = RtmpOptions { message_bytes: 100_000, ..RtmpOptions::default() };
    let rig = rig(options, Policy::Reject).await;
    let mut bystander = rig.publish("bystander").await;

    let mut client = rig.publish("big").await;
    let mut bytes = ClientBytes::default();
    bytes.message(kind::VIDEO, 1, 0, &vec![0x17; 1_000_000]);
    client.stream.write_all(&bytes.take()).await.unwrap();
    assert_eq!(client.last_words().await, "NetStream.Publish.Failed");

    let mut client = rig.publish("bad-tags").await;
    let mut bytes = ClientBytes::default();
    (0..100).for_each(|_| bytes.message(kind::VIDEO, 1, 0, &[0x17, 9, 0, 0, 0]));
    client.stream.write_all(&bytes.take()).await.unwrap();
    assert_eq!(client.last_words().await, "NetStream.Publish.Failed");

    let http = rig.connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(http.last_words().await, "");

    let mut bytes = ClientBytes::default();
    bytes.command(1, "closeStream", &[]);
    bystander.stream.write_all(&bytes.take()).await.unwrap();
    bystander.until("NetStream.Unpublish.Success").await;
}

#[tokio::test]
async fn frames_ahead_of_their_header_are_dropped_and_the_session_goes_on() {
    let rig = default_rig().await;
    let mut client = rig.publish("early").await;
    let mut bytes = ClientBytes::default();
    (0..200).for_each(|n| bytes.message(kind::AUDIO, 1, n * 21, &[0xaf, 1, 0x21, 0x10]));
    bytes.message(kind::AUDIO, 1, 4_200, &[0xaf, 0, 0x11, 0x90]);
    (200..300).for_each(|n| bytes.message(kind::AUDIO, 1, n * 21, &[0xaf, 1, 0x21, 0x10]));
    bytes.command(1, "closeStream", &[]);
    client.stream.write_all(&bytes.take()).await.unwrap();
    client.until("NetStream.Unpublish.Success").await;
    let broadcast = rig.deps.streams.get(&StreamName::parse("live/early").unwrap()).unwrap();
    let track = broadcast.track(&TrackName::audio()).unwrap();
    assert!(track.window().iter().map(|group| group.len()).sum::<u32>() > 50);
}
