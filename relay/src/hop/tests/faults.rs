//! Broken connections, slow links, new owners and hostile ends.
//!
//! Not here: what arrives when nothing fails (`plain`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_media::{Epoch, GroupSeq, TrackName};

use super::world::{Counters, Edge, Link, Origin, SOON, until};
use crate::hop::{Hop, HopError, HopOptions, NoSource};
use crate::intake::CutOutcome;
use crate::parent::Refusal;
use crate::testing::{Feeder, broadcast, name, print};
use crate::wire::{self, RefusalCode};

fn video() -> TrackName {
    TrackName::video()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cut_within_a_group_no_frame_is_doubled_or_missing() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let (mut pictures, mut sound) = (Feeder::video(&here), Feeder::audio(&here));
    let first = origin.hop(origin.address()).await;
    let edge = Edge::new(std::slice::from_ref(&first));
    let pull = edge.pull("a");
    until("the list's arrival", || pull.broadcast().tracks().len() == 2).await;
    let there = pull.broadcast();
    let mut hop = first;
    for seq in 1..8 {
        pictures.group(seq, true);
        sound.group(seq, true);
        for step in 0..20 {
            pictures.frames(2);
            sound.frames(3);
            if step == 7 {
                hop.close("cut");
                hop = origin.hop(origin.address()).await;
                *edge.choice.hops.lock() = vec![hop.clone()];
                edge.pulls.reconsider(None);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pictures.writer.end_group();
        sound.writer.end_group();
    }
    for feeder in [&pictures, &sound] {
        let track = there.track(feeder.track().name()).unwrap();
        until("everything's arrival", || print(&track) == print(&feeder.track())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_parent_is_left_for_another_within_half_a_second() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut pictures = Feeder::video(&here);
    let link = Link::to(origin.address()).await;
    let silent = origin.hop(link.address).await;
    let second = origin.hop(origin.address()).await;
    let edge = Edge::new(&[silent.clone(), second]);
    let pull = edge.pull("a");
    pictures.group(1, true);
    pictures.frames(3);
    let there = || pull.broadcast().track(&video());
    until("the stream's arrival", || there().is_some_and(|t| t.newest().is_some())).await;
    link.cut.store(true, Ordering::Relaxed);
    pictures.frames(4);
    let cut_at = std::time::Instant::now();
    let track = there().unwrap();
    until("the rest's arrival", || track.newest().unwrap().len() == 7).await;
    let took = cut_at.elapsed();
    assert!(silent.status().borrow().silent);
    assert!((200..700).contains(&took.as_millis()), "{took:?}");
    assert_eq!(print(&track), print(&pictures.track()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_child_skips_whole_groups_and_each_is_counted() {
    let counters = Counters::install();
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let (mut pictures, mut sound) = (Feeder::video(&here), Feeder::audio(&here));
    let link = Link::to(origin.address()).await;
    // A quarter of a second here is one of media.
    let mut options = HopOptions::new("slow");
    options.terms.max_age = Duration::from_millis(250);
    let hop = origin.hop_with(link.address, origin.streams.clone(), options).await;
    let edge = Edge::new(&[hop]);
    let pull = edge.pull("a");
    until("the list's arrival", || pull.broadcast().tracks().len() == 2).await;
    let there = pull.broadcast();
    let (seen, heard) = (there.track(&video()).unwrap(), there.track(&TrackName::audio()).unwrap());
    // 8 Mb/s of media over a link of 2.4, four times as fast as real time.
    link.bytes_per_s.store(300_000, Ordering::Relaxed);
    pictures.frame_bytes = 8_000;
    let mut last = 0;
    for seq in 1..=16 {
        pictures.group(seq, true);
        sound.group(seq, true);
        for _ in 0..15 {
            pictures.frames(1);
            sound.frames(2);
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
        pictures.writer.end_group();
        sound.writer.end_group();
        last = seq;
    }
    until("the newest group's arrival", || {
        let newest = |track: &headwater_media::Track| track.newest().map(|group| group.seq());
        newest(&seen) == Some(GroupSeq(last)) && newest(&heard) == Some(GroupSeq(last))
    })
    .await;
    let (groups, skipped) = (seen.window().len(), 16 - seen.window().len());
    assert!(skipped >= 3, "{groups} of 16 groups came");
    // A group that was given up may have come to the child as a torn one, or not at all.
    let left_out = counters.of("headwater_relay_groups_left_out_total");
    let given_up = counters.of("headwater_relay_groups_given_up_total");
    let counted = left_out + given_up;
    assert!(counted >= skipped as u64, "{left_out} + {given_up} counted, {skipped} skipped");
    assert!(counters.of("headwater_relay_groups_skipped_total") > 0);
    let torn_of = |track: &headwater_media::Track| {
        track.window().iter().filter(|group| group.is_torn()).count()
    };
    let (torn, torn_sound) = (torn_of(&seen), torn_of(&heard));
    let counted = counters.of("headwater_relay_groups_torn_total");
    assert_eq!(counted, (torn + torn_sound) as u64);
    assert!(torn <= 1 + skipped / 2, "{torn} torn of {groups}");
    let (all, want) = (print(&seen), print(&pictures.track()));
    // What is whole is exactly what was sent.
    for group in seen.window().iter().filter(|g| !g.is_torn() && g.final_len().is_some()) {
        assert_eq!(group.final_len(), Some(15), "group {}", group.seq());
    }
    assert!(all.iter().filter(|line| !line.contains("torn")).all(|line| want.contains(line)));
}

#[tokio::test]
async fn a_node_of_an_old_epoch_is_refused_and_the_new_owner_goes_on_at_the_frame() {
    let (old, new) = (Origin::new(), Origin::new());
    let (before, after) = (broadcast("a"), broadcast("a"));
    old.add(&before, 1);
    new.add(&after, 2);
    let mut first = Feeder::video(&before);
    first.group(1, true);
    first.frames(10);
    let edge = Edge::new(&[old.hop(old.address()).await]);
    let pull = edge.pull("a");
    let there = pull.broadcast();
    until("the stream's arrival", || {
        there.track(&video()).is_some_and(|t| t.newest().is_some_and(|g| g.len() == 10))
    })
    .await;
    let track = there.track(&video()).unwrap();
    // The directory says that the stream has another owner, which has 14 frames of the group.
    edge.pulls.fence(&name("a"), Epoch(2));
    let mut second = Feeder::video(&after);
    second.group(1, true);
    second.frames(14);
    second.writer.end_group();
    first.frames(9);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(track.newest().unwrap().len(), 10, "the old owner's frames are dropped");
    *edge.choice.hops.lock() = vec![new.hop(new.address()).await];
    edge.pulls.reconsider(None);
    second.epoch = 2;
    second.discontinuity = 1;
    second.whole_group(5, 3);
    until("the new owner's groups", || print(&track) == print(&second.track())).await;
    // A child that knows better does not take from the old owner.
    *edge.choice.hops.lock() = vec![old.hop(old.address()).await];
    edge.pulls.reconsider(None);
    until("the refusal", || {
        edge.choice.refusals.lock().iter().any(|r| r.code == RefusalCode::EpochTooOld)
    })
    .await;
}

#[tokio::test]
async fn a_node_that_becomes_the_owner_fills_its_group_to_the_agreed_end() {
    let (owner, witness) = (Origin::new(), Origin::new());
    let (here, copy) = (broadcast("a"), broadcast("a"));
    owner.add(&here, 1);
    witness.add(&copy, 1);
    let (mut pictures, mut same) = (Feeder::video(&here), Feeder::video(&copy));
    pictures.group(1, true);
    pictures.frames(6);
    same.group(1, true);
    same.frames(8);
    let edge = Edge::new(&[owner.hop(owner.address()).await]);
    let pull = edge.pull("a");
    let in_flight = || edge.pulls.in_flight(&name("a"), &video());
    until("the stream's arrival", || in_flight() == Some((GroupSeq(1), 6))).await;
    for hop in owner.ends() {
        hop.close("the owner is gone");
    }
    edge.choice.hops.lock().clear();
    let cut = edge.pulls.cut(&name("a"), &video(), GroupSeq(1), 8);
    assert_eq!(cut, CutOutcome::Missing(6));
    let hop = witness.hop(witness.address()).await;
    edge.pulls.fill(&hop, &name("a"), &video(), GroupSeq(1)).await.unwrap();
    same.writer.end_group();
    let (broadcast, writers) = edge.pulls.detach(&name("a")).unwrap();
    assert_eq!(print(&broadcast.track(&video()).unwrap()), print(&same.track()));
    assert_eq!(writers.len(), 1);
    assert!(edge.pulls.list().is_empty());
    drop(pull);
}

#[tokio::test]
async fn a_parent_can_revoke_a_stream_and_say_that_it_leaves() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut pictures = Feeder::video(&here);
    pictures.whole_group(1, 2);
    let hop = origin.hop(origin.address()).await;
    let edge = Edge::new(std::slice::from_ref(&hop));
    let pull = edge.pull("a");
    until("the list's arrival", || !pull.broadcast().tracks().is_empty()).await;
    origin.streams.table.lock().clear();
    let end = origin.ends().remove(0);
    let refusal = Refusal { hint: Some("b".into()), ..Refusal::new(RefusalCode::NotOwner) };
    assert!(end.revoke(name("a"), refusal.clone()));
    until("the refusal", || edge.choice.refusals.lock().first() == Some(&refusal)).await;
    assert!(end.goaway("drain"));
    until("the goodbye", || hop.status().borrow().goaway.is_some()).await;
    assert!(!hop.is_usable());
}

#[tokio::test]
async fn an_end_that_breaks_the_protocol_is_closed() {
    let origin = Origin::new();
    let unknown = [0x7f_u8, 0];
    let subscribe_first = wire::encode_message(&wire::Message::Unsubscribe { id: 1 });
    let too_long = [1_u8, 0xff, 0xff, 0xff, 0x7f];
    for (bytes, closes) in
        [(&unknown[..], false), (&subscribe_first[..], true), (&too_long[..], true)]
    {
        let (parent, child) = origin.connect(origin.address()).await;
        let (_hop, driver) = Hop::new(parent, HopOptions::new("p"), Arc::new(NoSource));
        let driver = tokio::spawn(driver);
        let (mut send, _receive) = child.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        if closes {
            let error = tokio::time::timeout(SOON, driver).await.unwrap().unwrap();
            assert!(matches!(error, HopError::Wire(_) | HopError::Protocol(_)), "{error}");
        } else {
            // An unknown message is passed over; what follows is still judged.
            send.write_all(&subscribe_first).await.unwrap();
            let error = tokio::time::timeout(SOON, driver).await.unwrap().unwrap();
            assert!(matches!(error, HopError::Protocol(_)), "{error}");
        }
    }
}

#[tokio::test]
async fn a_parent_s_garbage_ends_the_hop_and_harms_nothing_else() {
    let origin = Origin::new();
    let (parent, child) = origin.connect(origin.address()).await;
    let (hop, driver) = Hop::new(child, HopOptions::new("c"), Arc::new(NoSource));
    let driver = tokio::spawn(driver);
    let edge = Edge::new(&[hop]);
    let pull = edge.pull("a");
    let (_send, _receive) = parent.accept_bi().await.unwrap();
    let mut stream = parent.open_uni().await.unwrap();
    stream.write_all(&[0xff; 64]).await.unwrap();
    let error = tokio::time::timeout(SOON, driver).await.unwrap().unwrap();
    assert!(matches!(error, HopError::Wire(_)), "{error}");
    // The stream goes on by another hop.
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut pictures = Feeder::video(&here);
    pictures.whole_group(1, 2);
    *edge.choice.hops.lock() = vec![origin.hop(origin.address()).await];
    edge.pulls.reconsider(None);
    until("the stream's arrival", || !pull.broadcast().tracks().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_comes_back_late_gets_all_that_it_missed() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let mut pictures = Feeder::video(&here);
    pictures.group(1, true);
    pictures.frames(3);
    let first = origin.hop(origin.address()).await;
    let edge = Edge::new(std::slice::from_ref(&first));
    let pull = edge.pull("a");
    let there = || pull.broadcast().track(&video());
    until("the stream's arrival", || there().is_some_and(|t| t.newest().is_some())).await;
    first.close("cut");
    edge.choice.hops.lock().clear();
    // Ten seconds of media, five times the greatest age.
    pictures.frames(20);
    for seq in 2..12 {
        pictures.whole_group(seq, 30);
    }
    *edge.choice.hops.lock() = vec![origin.hop(origin.address()).await];
    edge.pulls.reconsider(None);
    let track = there().unwrap();
    until("everything's arrival", || print(&track) == print(&pictures.track())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_overtake_each_other_on_a_bad_link_come_out_in_order() {
    let origin = Origin::new();
    let here = broadcast("a");
    origin.add(&here, 1);
    let (mut pictures, mut sound) = (Feeder::video(&here), Feeder::audio(&here));
    let link = Link::to(origin.address()).await;
    let edge = Edge::new(&[origin.hop(link.address).await]);
    let pull = edge.pull("a");
    pictures.group(1, true);
    sound.group(1, true);
    pictures.frames(1);
    sound.frames(1);
    let there = |name: &TrackName| pull.broadcast().track(name);
    let begun = |name: &TrackName| there(name).is_some_and(|track| track.newest().is_some());
    until("the stream's arrival", || begun(&video()) && begun(&TrackName::audio())).await;
    link.loss_percent.store(5, Ordering::Relaxed);
    // Groups of a few frames, so that their streams are sent side by side.
    for seq in 2..60 {
        pictures.whole_group(seq, 3);
        sound.whole_group(seq, 5);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for feeder in [&pictures, &sound] {
        let track = there(feeder.track().name()).unwrap();
        until("everything's arrival", || print(&track).last() == print(&feeder.track()).last())
            .await;
        assert_eq!(print(&track), print(&feeder.track()));
    }
}
