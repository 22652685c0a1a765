//! Streams through several nodes: parents that die, owners that change, rings, many children.
//!
//! Not here: one hop (`plain`, `faults`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use headwater_media::{Broadcast, BroadcastState, Epoch, GroupSeq, Track, TrackName};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::world::{Counters, Link, Origin, Relay, until};
use crate::hop::{Command, Hop, HopOptions, TakenStream};
use crate::intake::{CutOutcome, Intake, SourceId};
use crate::pulls::{Pull, PullOptions};
use crate::testing::{Feeder, broadcast, name, print};

fn video() -> TrackName {
    TrackName::video()
}

fn track(pull: &Pull) -> Option<Track> {
    pull.broadcast().track(&video())
}

fn begun(pull: &Pull) -> bool {
    track(pull).is_some_and(|track| track.newest().is_some())
}

/// An owner of stream `a` with its pictures, numbered 1.
fn owner() -> (Origin, Broadcast, Feeder) {
    let (origin, here) = (Origin::numbered(1), broadcast("a"));
    origin.add(&here, 1);
    let pictures = Feeder::video(&here);
    (origin, here, pictures)
}

async fn hop(origin: &Origin, child: &Relay) -> Hop {
    origin.hop_with(origin.address(), origin.streams.clone(), child.options()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_made_on_demand_and_every_node_of_it_has_the_same() {
    let (origin, _here, mut pictures) = owner();
    let chain: Vec<_> = (2..5).map(Relay::numbered).collect();
    chain[0].take_from(&[hop(&origin, &chain[0]).await]);
    chain[1].take_from(&[chain[0].hop_of(&chain[1]).await]);
    chain[2].take_from(&[chain[1].hop_of(&chain[2]).await]);
    pictures.whole_group(1, 5);
    pictures.group(2, true);
    pictures.frames(5);
    let pull = chain[2].edge.pull("a");
    until("the stream's arrival", || begun(&pull)).await;
    let standing = pull.standing().borrow().clone();
    assert_eq!((standing.epoch, &standing.route.nodes[..]), (Epoch(1), &[1, 2, 3][..]));
    assert!(standing.route.flowing);
    pictures.frames(5);
    pictures.writer.end_group();
    pictures.whole_group(3, 10);
    // A whole group before the newest one comes, too.
    let want = print(&pictures.track());
    for relay in &chain {
        let (there, _) = relay.edge.pulls.get(&name("a")).unwrap();
        let track = there.track(&video()).unwrap();
        until("everything's arrival", || print(&track) == want).await;
    }
    // Clocks of one machine: their sum along the way is next to nothing.
    let clock = || pull.standing().borrow().route.clock_micros;
    until("the clocks are known", || clock().is_some_and(|micros| micros.abs() < 20_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_middle_falls_silent_the_second_parent_goes_on_at_the_frame_from_a_cold_start() {
    let (origin, _here, mut pictures) = owner();
    let (first, second, leaf) = (Relay::numbered(2), Relay::numbered(3), Relay::numbered(4));
    first.take_from(&[hop(&origin, &first).await]);
    second.take_from(&[hop(&origin, &second).await]);
    let link = Link::to(first.node.address()).await;
    let ways = [first.hop_at(link.address, &leaf).await, second.hop_of(&leaf).await];
    leaf.take_from(&ways);
    pictures.group(1, true);
    pictures.frames(3);
    let pull = leaf.edge.pull("a");
    until("the stream's arrival", || begun(&pull)).await;
    assert_eq!(second.edge.pulls.list(), [], "nothing is taken that nobody wants");
    link.cut.store(true, Ordering::Relaxed);
    let cut_at = Instant::now();
    // The group ends while nobody brings it, so that the second parent's newest is another.
    pictures.frames(4);
    pictures.writer.end_group();
    pictures.whole_group(2, 4);
    pictures.group(3, true);
    pictures.frames(1);
    let there = track(&pull).unwrap();
    until("the rest's arrival", || print(&there) == print(&pictures.track())).await;
    let took = cut_at.elapsed();
    assert!((200..800).contains(&took.as_millis()), "{took:?}");
    assert_eq!(leaf.edge.pulls.parent_of(&name("a")), Some(id(&ways[1])));
    // Heard again, the first is not gone back to at once.
    link.cut.store(false, Ordering::Relaxed);
    until("the first's return", || ways[0].is_usable()).await;
    pictures.frames(5);
    until("the rest's arrival", || print(&there) == print(&pictures.track())).await;
    assert_eq!(leaf.edge.pulls.parent_of(&name("a")), Some(id(&ways[1])));
}

fn id(hop: &Hop) -> u64 {
    hop.connection().stable_id() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_says_goodbye_is_left_and_gone_back_to_after_a_steady_while() {
    let (origin, _here, mut pictures) = owner();
    let mut options = PullOptions::default();
    options.choice.return_after = Duration::from_millis(400);
    let (first, second) = (Relay::numbered(2), Relay::numbered(3));
    let leaf = Relay::new(4, options);
    first.take_from(&[hop(&origin, &first).await]);
    second.take_from(&[hop(&origin, &second).await]);
    let mut ways = [first.hop_of(&leaf).await, second.hop_of(&leaf).await];
    leaf.take_from(&ways);
    pictures.group(1, true);
    pictures.frames(3);
    let pull = leaf.edge.pull("a");
    until("the stream's arrival", || begun(&pull)).await;
    let there = track(&pull).unwrap();
    let end = first.node.ends().remove(0);
    assert_eq!(end.status().borrow().subscriptions, 1);
    assert!(end.goaway("drain"));
    until("the children have left", || end.status().borrow().subscriptions == 0).await;
    pictures.frames(9);
    first.node.kill();
    until("the rest's arrival", || print(&there) == print(&pictures.track())).await;
    // It comes back, as another process.
    let back = Relay::numbered(2);
    back.take_from(&[hop(&origin, &back).await]);
    ways[0] = back.hop_of(&leaf).await;
    leaf.take_from(&ways);
    until("the return", || leaf.edge.pulls.parent_of(&name("a")) == Some(id(&ways[0]))).await;
    for _ in 0..50 {
        pictures.frames(1);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    pictures.writer.end_group();
    until("the rest's arrival", || print(&there) == print(&pictures.track())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_that_take_each_other_for_the_parent_both_find_the_owner() {
    let (origin, _here, mut pictures) = owner();
    let (one, other) = (Relay::numbered(2), Relay::numbered(3));
    one.take_from(&[other.hop_of(&one).await, hop(&origin, &one).await]);
    other.take_from(&[one.hop_of(&other).await, hop(&origin, &other).await]);
    pictures.group(1, true);
    pictures.frames(3);
    let pulls = [one.edge.pull("a"), other.edge.pull("a")];
    until("the stream's arrival at both", || pulls.iter().all(begun)).await;
    pictures.frames(20);
    for pull in &pulls {
        let there = track(pull).unwrap();
        until("everything's arrival", || print(&there) == print(&pictures.track())).await;
        let nodes = pull.standing().borrow().route.nodes.clone();
        assert!(nodes.len() <= 2 && nodes[0] == 1, "{nodes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_owner_is_followed_through_a_relay_that_learns_of_it_later() {
    let (old, _before, mut first) = owner();
    let (new, after) = (Origin::numbered(9), broadcast("a"));
    let mut second = Feeder::video(&after);
    let (relay, leaf) = (Relay::numbered(2), Relay::numbered(3));
    relay.take_from(&[hop(&old, &relay).await]);
    leaf.take_from(&[relay.hop_of(&leaf).await]);
    for feeder in [&mut first, &mut second] {
        feeder.group(1, true);
        feeder.frames(10);
    }
    let pull = leaf.edge.pull("a");
    let here = |pull: &Pull| track(pull).and_then(|t| t.newest()).map_or(0, |group| group.len());
    until("the stream's arrival", || here(&pull) == 10).await;
    // The owner dies; the claim says that its group ends after 14 frames. The leaf hears of it first.
    old.kill();
    second.frames(4);
    second.writer.end_group();
    second.epoch = 2;
    second.whole_group(5, 6);
    second.group(6, true);
    second.frames(2);
    new.add(&after, 2);
    let cut = |relay: &Relay| {
        let cut = relay.edge.pulls.cut(&name("a"), &video(), GroupSeq(1), 14);
        assert_eq!(cut, CutOutcome::Missing(10));
        relay.edge.pulls.fence(&name("a"), Epoch(2));
    };
    cut(&leaf);
    tokio::time::sleep(Duration::from_millis(50)).await;
    cut(&relay);
    relay.take_from(&[hop(&new, &relay).await]);
    let there = track(&pull).unwrap();
    until("the new owner's groups", || print(&there) == print(&second.track())).await;
    second.frames(5);
    second.writer.end_group();
    until("all of it", || print(&there) == print(&second.track())).await;
    assert_eq!(pull.epoch(), Epoch(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_learns_of_a_new_owner_from_its_parent_alone_follows_it() {
    let (old, _before, mut first) = owner();
    let (new, after) = (Origin::numbered(9), broadcast("a"));
    let mut second = Feeder::video(&after);
    let (relay, leaf) = (Relay::numbered(2), Relay::numbered(3));
    relay.take_from(&[hop(&old, &relay).await]);
    leaf.take_from(&[relay.hop_of(&leaf).await]);
    first.whole_group(1, 4);
    second.whole_group(1, 4);
    let pull = leaf.edge.pull("a");
    until("the stream's arrival", || begun(&pull)).await;
    second.epoch = 2;
    second.whole_group(3, 4);
    new.add(&after, 2);
    relay.edge.pulls.fence(&name("a"), Epoch(2));
    relay.take_from(&[hop(&new, &relay).await]);
    let there = track(&pull).unwrap();
    until("the new owner's groups", || print(&there) == print(&second.track())).await;
    until("the epoch", || pull.epoch() == Epoch(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_brings_ends_after_a_while_and_goes_on_when_somebody_does() {
    let (origin, _here, mut pictures) = owner();
    let orphaned_after = Duration::from_millis(700);
    let options = PullOptions { orphaned_after, ..PullOptions::default() };
    let (relay, leaf) = (Relay::new(2, options.clone()), Relay::new(3, options));
    relay.take_from(&[hop(&origin, &relay).await]);
    leaf.take_from(&[relay.hop_of(&leaf).await]);
    pictures.whole_group(1, 4);
    let mut pull = leaf.edge.pull("a");
    until("the stream's arrival", || begun(&pull)).await;
    let before = pull.broadcast();
    relay.take_from(&[]);
    for hop in origin.ends() {
        hop.close("cut off");
    }
    until("the end", || before.state() == BroadcastState::Ended).await;
    assert!(before.track(&video()).is_none_or(|track| track.is_finished()));
    pictures.whole_group(2, 4);
    relay.take_from(&[hop(&origin, &relay).await]);
    let after = pull.renewed().await;
    until("the new group's arrival", || {
        let newest = after.track(&video()).and_then(|track| track.newest());
        newest.is_some_and(|group| group.seq() == GroupSeq(2) && group.final_len() == Some(4))
    })
    .await;
    let groups = after.track(&video()).unwrap().window().len();
    assert_eq!(groups, 1, "what was shown before is not shown again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_children_cost_one_copy_upstream() {
    const HOPS: u64 = 20;
    const EACH: u64 = 50;
    let counters = Counters::install();
    let (origin, _here, mut pictures) = owner();
    let relay = Relay::numbered(2);
    relay.take_from(&[hop(&origin, &relay).await]);
    pictures.group(1, true);
    pictures.frames(1);
    let mut children = Vec::new();
    for _ in 0..HOPS {
        let source = Arc::new(relay.edge.pulls.clone());
        let options = HopOptions::new("child");
        let hop = relay.node.hop_with(relay.node.address(), source, options).await;
        for source in 0..EACH {
            let limits = headwater_media::limits::BusLimits::default();
            let taken = Arc::new(TakenStream {
                name: name("a"),
                intake: Mutex::new(Intake::new(name("a"), limits, Duration::from_secs(2))),
                refused: Mutex::default(),
                changed: Arc::new(Notify::new()),
            });
            let (taking, source) = (Arc::clone(&taken), SourceId(source));
            assert!(hop.command(Command::Subscribe { taken: taking, source, terms: None }));
            children.push((hop.clone(), taken));
        }
    }
    let here = |taken: &TakenStream| {
        let broadcast = taken.intake.lock().broadcast().borrow().clone();
        broadcast.track(&video())
    };
    until("the first frame at all", || {
        children.iter().all(|(_, taken)| here(taken).is_some_and(|t| t.newest().is_some()))
    })
    .await;
    pictures.frames(9);
    pictures.writer.end_group();
    let want = print(&pictures.track());
    for (_, taken) in &children {
        let track = here(taken).unwrap();
        until("everything's arrival", || print(&track) == want).await;
    }
    let sent = counters.of("headwater_relay_sent_frames_total");
    assert_eq!(sent, 10 * (HOPS * EACH + 1), "ten frames to each child, and once to the relay");
    assert_eq!(relay.edge.pulls.list(), [(name("a"), 1_000)]);
    for hop in relay.node.ends() {
        hop.close("enough");
    }
    until("all have left", || relay.edge.pulls.list() == [(name("a"), 0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_leaf_has_the_same_from_where_it_joined() {
    let (origin, _here, mut pictures) = owner();
    let (relay, leaf) = (Relay::numbered(2), Relay::numbered(3));
    relay.take_from(&[hop(&origin, &relay).await]);
    leaf.take_from(&[relay.hop_of(&leaf).await]);
    pictures.group(1, true);
    pictures.frames(5);
    let early = relay.edge.pull("a");
    until("the stream's arrival", || begun(&early)).await;
    pictures.writer.end_group();
    pictures.whole_group(2, 5);
    pictures.group(3, true);
    pictures.frames(2);
    let all = track(&early).unwrap();
    until("the groups' arrival", || print(&all) == print(&pictures.track())).await;
    let late = leaf.edge.pull("a");
    until("the stream's arrival", || begun(&late)).await;
    pictures.frames(3);
    pictures.writer.end_group();
    let want = print(&pictures.track());
    let there = track(&late).unwrap();
    until("the rest's arrival", || want.ends_with(&print(&there)) && there.window().len() == 2)
        .await;
}
