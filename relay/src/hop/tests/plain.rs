//! What arrives when nothing fails.
//!
//! Not here: slow links, broken connections, new owners (`faults`).

use std::sync::Arc;
use std::time::Duration;

use headwater_media::{BroadcastState, Epoch, GroupSeq, Track, TrackName};

use super::world::{Edge, Origin, Streams, until};
use crate::hop::{FetchError, Hop, HopOptions};
use crate::pulls::{PullOptions, Pulls};
use crate::testing::{Feeder, broadcast, h264, name, print};
use crate::wire::RefusalCode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_as_it_was_and_in_order() {
    let origin = Origin::new();
    let here = broadcast("live/a");
    origin.add(&here, 1);
    let (mut video, mut audio) = (Feeder::video(&here), Feeder::audio(&here));
    let edge = Edge::new(&[origin.hop(origin.address()).await]);
    let pull = edge.pull("live/a");
    until("the list's arrival", || pull.broadcast().tracks().len() == 2).await;
    for seq in 10..16 {
        if seq == 12 {
            video.config = Arc::new(h264(2));
        }
        if seq == 14 {
            (video.discontinuity, audio.discontinuity) = (1, 1);
        }
        video.group(seq, seq != 13);
        audio.group(seq, true);
        for _ in 0..15 {
            video.frames(2);
            audio.frames(3);
            tokio::task::yield_now().await;
        }
        video.writer.end_group();
        audio.writer.end_group();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let there = pull.broadcast();
    for feeder in [&video, &audio] {
        let track = there.track(feeder.track().name()).unwrap();
        until("the end's arrival", || print(&track) == print(&feeder.track())).await;
    }
    let order: Vec<_> = there.tracks().iter().map(|t| t.name().to_string()).collect();
    assert_eq!(order, ["video", "audio"], "as on the owner");
    assert_eq!(there.state(), BroadcastState::Live);
    here.set_state(BroadcastState::Waiting);
    until("the state's arrival", || there.state() == BroadcastState::Waiting).await;
}

#[tokio::test]
async fn a_late_child_starts_with_the_whole_group_before_the_newest_at_once() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut video = Feeder::video(&here);
    video.whole_group(1, 30);
    video.whole_group(2, 30);
    video.group(3, true);
    video.frames(7);
    let edge = Edge::new(&[origin.hop(origin.address()).await]);
    let pull = edge.pull("a");
    let arrived = || {
        let track = pull.broadcast().track(&TrackName::video())?;
        let newest = track.newest()?;
        Some((track.window().len(), newest.seq(), newest.len()))
    };
    until("the newest group's arrival", || arrived() == Some((2, GroupSeq(3), 7))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_children_and_a_grandchild_get_the_same() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut video = Feeder::video(&here);
    let mut edges = Vec::new();
    for _ in 0..10 {
        edges.push(Edge::new(&[origin.hop(origin.address()).await]));
    }
    let mut pulls: Vec<_> = edges.iter().map(|edge| edge.pull("a")).collect();
    // Ten viewers more on one node are no subscription more.
    let more: Vec<_> = (0..10).map(|_| edges[0].pull("a")).collect();
    let relay = Origin::new();
    let hop = relay
        .hop_with(relay.address(), Arc::new(edges[0].pulls.clone()), HopOptions::new("grandchild"))
        .await;
    until("the list's arrival", || pulls.iter().all(|p| p.broadcast().tracks().len() == 1)).await;
    let grandchild = Edge::new(&[hop]);
    pulls.push(grandchild.pull("a"));
    until("the list's arrival", || pulls.iter().all(|p| p.broadcast().tracks().len() == 1)).await;
    video.group(1, true);
    video.frames(1);
    let begun = |track: Option<Track>| track.is_some_and(|track| track.newest().is_some());
    let begun = || pulls.iter().all(|p| begun(p.broadcast().track(&TrackName::video())));
    until("the first frame's arrival", begun).await;
    for seq in 2..6 {
        video.whole_group(seq, 10);
    }
    let want = print(&video.track());
    for pull in &pulls {
        let track = pull.broadcast().track(&TrackName::video()).unwrap();
        until("everything's arrival", || print(&track) == want).await;
    }
    assert_eq!(edges[0].pulls.list(), [(name("a"), 12)]);
    drop(more);
}

#[tokio::test]
async fn a_stream_is_let_go_a_while_after_its_last_viewer() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut video = Feeder::video(&here);
    video.whole_group(1, 3);
    let options = PullOptions { linger: Duration::from_millis(300), ..PullOptions::default() };
    let edge = Edge::with(&[origin.hop(origin.address()).await], options);
    let pull = edge.pull("a");
    let there = pull.broadcast();
    until("the group's arrival", || {
        there.track(&TrackName::video()).is_some_and(|t| t.newest().is_some())
    })
    .await;
    drop(pull);
    // A viewer who comes back in time finds the stream as it was.
    let pull = edge.pull("a");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_ne!(there.state(), BroadcastState::Ended);
    let track = there.track(&TrackName::video()).unwrap();
    drop(pull);
    until("the end of the linger", || edge.pulls.list().is_empty()).await;
    assert_eq!(there.state(), BroadcastState::Ended);
    assert!(track.is_finished());
    let before = track.window().len();
    video.whole_group(2, 3);
    // The hop lives, and brings nothing of it any more.
    let again = edge.pull("a");
    until("the group's arrival", || {
        again.broadcast().track(&TrackName::video()).is_some_and(|t| t.newest().is_some())
    })
    .await;
    assert_eq!(track.window().len(), before);
}

#[tokio::test]
async fn a_wish_for_a_keyframe_reaches_the_publisher() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut video = Feeder::video(&here);
    video.whole_group(1, 3);
    let mut wishes = video.track().keyframe_wishes();
    let edge = Edge::new(&[origin.hop(origin.address()).await]);
    let pull = edge.pull("a");
    until("the list's arrival", || !pull.broadcast().tracks().is_empty()).await;
    // Wishes from before the subscription was up are not passed on.
    until("the wish's arrival", || {
        pull.broadcast().track(&TrackName::video()).unwrap().request_keyframe();
        wishes.has_changed().unwrap()
    })
    .await;
    wishes.mark_unchanged();
}

#[tokio::test]
async fn a_past_group_can_be_fetched() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut video = Feeder::video(&here);
    video.whole_group(1, 9);
    video.group(2, true);
    video.frames(4);
    let hop = origin.hop(origin.address()).await;
    let fetch = |seq, from| hop.fetch(name("a"), TrackName::video(), GroupSeq(seq), from);
    let whole = fetch(1, 3).await.unwrap();
    assert_eq!((whole.first_frame, whole.frames.len(), whole.final_len), (3, 6, Some(9)));
    let group = video.track().group(GroupSeq(1)).unwrap();
    assert_eq!(format!("{:?}", whole.frames[0]), format!("{:?}", group.frame(3).unwrap()));
    let open = fetch(2, 0).await.unwrap();
    assert_eq!((open.frames.len(), open.final_len), (4, None));
    let none = fetch(3, 0).await;
    assert!(matches!(none, Err(FetchError::Refused(r)) if r.code == RefusalCode::NotFound));
}

#[tokio::test]
async fn a_refusal_says_who_may_have_the_stream_and_is_asked_again() {
    let origin = Origin::new();
    *origin.streams.hint.lock() = Some("node-7".into());
    let edge = Edge::new(&[origin.hop(origin.address()).await]);
    let pull = edge.pull("a");
    let hint = || edge.choice.refusals.lock().first().cloned();
    until("the refusal", || hint().is_some()).await;
    let refusal = hint().unwrap();
    assert_eq!((refusal.code, refusal.hint.as_deref()), (RefusalCode::NotOwner, Some("node-7")));
    let here = broadcast("a");
    let mut video = Feeder::video(&here);
    video.whole_group(1, 2);
    origin.add(&here, 1);
    until("the stream's arrival", || !pull.broadcast().tracks().is_empty()).await;
}

#[tokio::test]
async fn a_stream_that_ends_ends_here_too_and_begins_anew() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut video = Feeder::video(&here);
    video.group(1, true);
    video.frames(20);
    let edge = Edge::new(&[origin.hop(origin.address()).await]);
    let mut pull = edge.pull("a");
    let there = pull.broadcast();
    until("the list's arrival", || !there.tracks().is_empty()).await;
    let track = there.track(&TrackName::video()).unwrap();
    video.frames(5);
    let (source, want) = (video.track(), 25);
    video.writer.finish();
    here.set_state(BroadcastState::Ended);
    until("the end's arrival", || there.state() == BroadcastState::Ended).await;
    assert_eq!(track.newest().unwrap().final_len(), Some(want));
    assert_eq!(print(&track), print(&source), "nothing was lost at the end");
    let next = broadcast("a");
    let mut video = Feeder::video(&next);
    video.epoch = 2;
    video.whole_group(9, 3);
    origin.add(&next, 2);
    let renewed = tokio::time::timeout(super::world::SOON, pull.renewed()).await.unwrap();
    assert_eq!(renewed.state(), BroadcastState::Live);
    until("its group's arrival", || {
        renewed.track(&TrackName::video()).is_some_and(|t| t.newest().is_some())
    })
    .await;
}

#[tokio::test]
async fn the_other_clock_and_the_round_trip_are_measured() {
    let origin = Origin::new();
    let hop = origin.hop(origin.address()).await;
    let edge = Edge::new(std::slice::from_ref(&hop));
    let _pull = edge.pull("a");
    let status = hop.status();
    until("a measurement", || status.borrow().round_trip.is_some()).await;
    let offset = status.borrow().clock_offset_micros.unwrap();
    assert!(offset.abs() < 100_000, "one clock, {offset} µs apart");
    assert_eq!(status.borrow().node.as_deref(), Some("origin"));
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let options = PullOptions { streams_max: 1, ..PullOptions::default() };
    let pulls = Pulls::new(options);
    let _one = pulls.pull(&name("a")).unwrap();
    assert!(pulls.pull(&name("b")).is_err());
    assert!(pulls.pull(&name("a")).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_carries_streams_both_ways() {
    let origin = Origin::new();
    let (parent, child) = origin.connect(origin.address()).await;
    let (mine, yours) = (broadcast("mine"), broadcast("yours"));
    let mut feeders = Vec::new();
    let mut pulls = Vec::new();
    let mut edges = Vec::new();
    for (connection, here, wanted) in [(parent, &mine, "yours"), (child, &yours, "mine")] {
        let streams = Streams::default();
        streams.table.lock().insert(here.name().clone(), (here.clone(), Epoch(1)));
        let (hop, driver) = Hop::new(connection, HopOptions::new(wanted), Arc::new(streams));
        tokio::spawn(driver);
        let edge = Edge::new(&[hop]);
        pulls.push(edge.pull(wanted));
        edges.push(edge);
        let mut feeder = Feeder::audio(here);
        feeder.whole_group(1, 20);
        feeders.push(feeder);
    }
    for (pull, feeder) in pulls.iter().zip(feeders.iter().rev()) {
        let track = || pull.broadcast().track(&TrackName::audio());
        let want = print(&feeder.track());
        until("the stream's arrival", || track().is_some_and(|track| print(&track) == want)).await;
    }
}

#[tokio::test]
async fn a_track_that_cannot_be_added_holds_up_no_other() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let (mut video, mut audio) = (Feeder::video(&here), Feeder::audio(&here));
    video.whole_group(1, 3);
    audio.whole_group(1, 3);
    let edge = Edge::new(&[]);
    let pull = edge.pull("a");
    let _own = Feeder::audio(&pull.broadcast());
    let hop = origin.hop(origin.address()).await;
    edge.choice.hops.lock().push(hop);
    edge.pulls.reconsider(None);
    let track = || pull.broadcast().track(&TrackName::video());
    until("the video's arrival", || {
        track().is_some_and(|track| print(&track) == print(&video.track()))
    })
    .await;
    let own = pull.broadcast().track(&TrackName::audio()).unwrap();
    assert!(own.window().is_empty());
}
