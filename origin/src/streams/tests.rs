use std::net::SocketAddr;

use headwater_media::{BroadcastState, MediaKind};

use super::*;
use crate::ownership::alone::{Alone, pulls};
use crate::sessions::{Role, SessionInfo, Sessions};

fn name(text: &str) -> StreamName {
    StreamName::parse(text).unwrap()
}

fn open(sessions: &Sessions, stream: &str) -> SessionHandle {
    let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let info = SessionInfo { role: Role::Publisher, protocol: "srt", stream: name(stream), peer };
    sessions.open(info).unwrap()
}

fn bed(options: StreamsOptions) -> (Streams, Sessions) {
    let clock = Clock::start();
    (Streams::new(clock, options, Alone::new(), pulls()), Sessions::new(clock, 100))
}

#[tokio::test]
async fn a_second_publisher_is_refused_by_default() {
    let (streams, sessions) = bed(StreamsOptions::default());
    let (first, second) = (open(&sessions, "a"), open(&sessions, "a"));
    let publisher = streams.publish(&name("a"), &first).await.unwrap();
    assert_eq!(
        streams.publish(&name("a"), &second).await.unwrap_err(),
        PublishError::Busy(name("a"))
    );
    drop(publisher);
    assert!(streams.publish(&name("a"), &second).await.is_ok(), "the first one has left");
}

#[tokio::test]
async fn a_publisher_that_fell_silent_gives_way_to_a_second_one() {
    let takeover_after = Duration::from_millis(30);
    let (streams, sessions) = bed(StreamsOptions { takeover_after, ..StreamsOptions::default() });
    let (first, second) = (open(&sessions, "a"), open(&sessions, "a"));
    let silent = streams.publish(&name("a"), &first).await.unwrap();
    assert_eq!(streams.may_publish(&name("a")), Err(PublishError::Busy(name("a"))));
    tokio::time::sleep(takeover_after).await;
    assert_eq!(streams.may_publish(&name("a")), Ok(Standing::GivesWay));
    let _second = streams.publish(&name("a"), &second).await.unwrap();
    assert_eq!(silent.reason(), Some(EndReason::Replaced));
}

#[tokio::test]
async fn a_second_publisher_takes_over_where_the_policy_says_so() {
    let options = StreamsOptions { policy: Policy::Replace, ..StreamsOptions::default() };
    let (streams, sessions) = bed(options);
    let (first, second) = (open(&sessions, "a"), open(&sessions, "a"));
    let mut old = streams.publish(&name("a"), &first).await.unwrap();
    let new = streams.publish(&name("a"), &second).await.unwrap();
    assert!(old.ended().is_cancelled());
    assert_eq!(old.reason(), Some(EndReason::Replaced));
    assert!(old.add_track(MediaKind::Video).is_err());
    drop(old);
    let broadcast = streams.get(&name("a")).unwrap();
    assert_eq!(broadcast.state(), BroadcastState::Live, "the old one's leaving changes nothing");
    drop(new);
    assert_eq!(broadcast.state(), BroadcastState::Waiting);
}

#[tokio::test]
async fn a_broadcast_waits_for_its_publisher_and_then_ends_and_its_numbers_go_on() {
    let options =
        StreamsOptions { reconnect_window: Duration::from_millis(50), ..StreamsOptions::default() };
    let (streams, sessions) = bed(options);
    let session = open(&sessions, "a");
    drop(streams.publish(&name("a"), &session).await.unwrap());
    let broadcast = streams.get(&name("a")).unwrap();
    let again = open(&sessions, "a");
    let publisher = streams.publish(&name("a"), &again).await.unwrap();
    assert_eq!(broadcast.state(), BroadcastState::Live, "back in time: the same broadcast");
    drop(publisher);
    tokio::time::timeout(Duration::from_secs(5), async {
        let mut changes = streams.watch();
        while streams.get(&name("a")).is_some() {
            streams.sweep();
            let _ = tokio::time::timeout(Duration::from_millis(5), changes.changed()).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(broadcast.state(), BroadcastState::Ended);
    let again = streams.publish(&name("a"), &session).await.unwrap();
    assert!(format!("{again:?}").contains("Epoch(3)"), "epochs only rise: {again:?}");
}

#[tokio::test]
async fn a_kick_and_a_drain_end_the_publisher_with_their_reasons() {
    let (streams, sessions) = bed(StreamsOptions::default());
    let (a, b) = (open(&sessions, "a"), open(&sessions, "b"));
    let (kicked, drained) = (
        streams.publish(&name("a"), &a).await.unwrap(),
        streams.publish(&name("b"), &b).await.unwrap(),
    );
    assert!(sessions.kick(a.id()));
    kicked.ended().cancelled().await;
    assert_eq!(kicked.reason(), Some(EndReason::Kicked));
    assert!(!drained.ended().is_cancelled());
    streams.drain();
    assert_eq!(drained.reason(), Some(EndReason::Draining));
    assert_eq!(streams.publish(&name("c"), &a).await.unwrap_err(), PublishError::Draining);
}

#[tokio::test]
async fn the_number_of_streams_is_bounded_and_a_waiter_gets_what_it_waits_for() {
    let (streams, sessions) = bed(StreamsOptions { streams_max: 1, ..StreamsOptions::default() });
    let (a, b) = (open(&sessions, "a"), open(&sessions, "b"));
    let waiting = tokio::spawn({
        let streams = streams.clone();
        async move { streams.wait(&name("a"), Duration::from_secs(5)).await }
    });
    tokio::task::yield_now().await;
    let _publisher = streams.publish(&name("a"), &a).await.unwrap();
    assert!(waiting.await.unwrap().is_some());
    assert_eq!(streams.publish(&name("b"), &b).await.unwrap_err(), PublishError::TooManyStreams(1));
    assert!(streams.wait(&name("b"), Duration::from_millis(1)).await.is_none());
}
