//! An owner that is stopped for a while does not know it. When it wakes, its old publisher still
//! sends, and the stream is another's: it must find out before it serves a byte of that.
//!
//! Not here: owners that die (`failover`).

use std::sync::Arc;
use std::time::Duration;

use headwater_tests::cluster::member::until;
use headwater_tests::cluster::{Clip, Publisher, Recorder, Trio};

use crate::{asked, judge};

const STREAM: &str = "live/cam";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_stopped_finds_itself_fenced_and_no_name_has_two_versions() {
    let trio = Trio::start("freeze", &[]).await.expect("three origins");
    let clip = Arc::new(Clip::make().await.expect("a clip"));
    let urls = trio.members.iter().map(|member| member.rtmp_url(STREAM)).collect();
    // Not the leader, which is the first, and once the leader.
    let publisher = Publisher::start(&clip, urls, 1);
    trio.owner(STREAM).await.expect("it is published");
    let recorder = Recorder::start(&trio.members, STREAM);
    for node in 0..3 {
        recorder.advance(node, 5).await.expect("every node serves it");
    }
    let freeze = Duration::from_secs(asked("CLUSTER_FREEZE_SECONDS", 3).into());
    for (owner, next) in [(1, 2), (2, 0), (0, 1)] {
        let member = &trio.members[owner];
        // By then its session has ended: fenced, or (after 10 s) for its silence.
        let follows = "following the stream's new owner";
        let before = (member.logged(follows).len(), recorder.ledger.lock().newest(owner, "video"));
        member.signal("STOP").await.expect("it stops");
        // The old encoder is not told: its connection stands, its frames pile up.
        publisher.move_to(next).await.expect("it publishes");
        let moved = std::time::Instant::now();
        for node in (0..3).filter(|node| *node != owner) {
            recorder.advance(node, 5).await.expect("the stream goes on");
        }
        tokio::time::sleep(freeze.saturating_sub(moved.elapsed())).await;
        member.signal("CONT").await.expect("it goes on");
        until("it finds itself fenced", || async { member.logged(follows).len() > before.0 })
            .await
            .expect("it ends its session");
        recorder.advance(owner, 5).await.expect("it serves the stream from its new owner");
        assert_eq!(trio.owner(STREAM).await.expect("an owner"), next);
        assert!(!member.owns(STREAM).await, "two owners");
        recorder.verify(0..3).await;
        println!(
            "owner {} stopped for {freeze:?}: had {:?}, is at {:?}",
            owner + 1,
            before.1,
            recorder.ledger.lock().newest(owner, "video")
        );
    }
    judge(&recorder).await;
    publisher.stop().await;
}
