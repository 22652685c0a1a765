//! Two of three origins are frozen: what is live goes on, nothing new begins, and whoever asks is
//! told why by the protocol's own means.
//!
//! Not here: a network that is cut (`partition`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_tests::cluster::member::PATIENCE;
use headwater_tests::cluster::{Clip, Member, Publisher, Recorder, Trio, claims};
use serde_json::Value;

use crate::{allowed, judge};

const STREAM: &str = "live/cam";
/// `[cluster] propose_within`, and what the answer takes.
const REFUSED_WITHIN: Duration = Duration::from_millis(2_500);
/// Parts of a stream that nothing happens to.
const FLOWS: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_live_streams_go_on_and_new_publishers_are_told_to_come_again() {
    let trio = Trio::start("quorum", &[]).await.expect("three origins");
    let clip = Arc::new(Clip::make().await.expect("a clip"));
    let alone = &trio.members[2];
    let publisher = Publisher::start(&clip, vec![alone.rtmp_url(STREAM)], 0);
    trio.owner(STREAM).await.expect("it is published");
    let recorder = Recorder::start(&trio.members, STREAM);
    for node in 0..3 {
        recorder.advance(node, 5).await.expect("every node serves it");
    }
    for member in &trio.members[..2] {
        member.signal("STOP").await.expect("it stops");
    }
    let stopped = Instant::now();
    by_whip(alone).await;
    by_rtmp(alone, &clip).await;
    by_srt(alone, &clip).await;
    recorder.advance(2, 10).await.expect("the live stream goes on");
    let silence = recorder.silence(2, stopped, Instant::now());
    println!("no new part for {silence:?} at most, {:?} without quorum", stopped.elapsed());
    assert!(silence < allowed(FLOWS), "the live stream stood still for {silence:?}");
    assert_eq!(publisher.starts().len(), 1, "its publisher was left alone");

    for member in &trio.members[..2] {
        member.signal("CONT").await.expect("it goes on");
    }
    for member in &trio.members {
        let again = claims::until_granted(&member.client(), "again", PATIENCE).await;
        println!("node {} grants claims again after {again:?}", member.place + 1);
        again.expect("claims work again");
    }
    for node in 0..3 {
        recorder.advance(node, 3).await.expect("every node serves it again");
    }
    judge(&recorder).await;
    publisher.stop().await;
}

async fn by_whip(member: &Member) {
    let answer = claims::claim(&member.client(), "new/whip").await.expect("an answer");
    let problem: Value = serde_json::from_slice(&answer.body).expect("a problem in JSON");
    assert_eq!((answer.status, problem["type"].as_str()), (503, Some("no-quorum")), "{problem}");
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    println!("WHIP: 503 no-quorum after {:?}", answer.took);
    assert!(answer.took < allowed(REFUSED_WITHIN));
}

async fn by_rtmp(member: &Member, clip: &Clip) {
    let began = Instant::now();
    let encoder = clip.publish(&member.rtmp_url("new/rtmp")).expect("an encoder");
    let said = encoder.finish(PATIENCE).await.expect("it is refused");
    println!("RTMP: refused after {:?}: {}", began.elapsed(), said.err.trim());
    assert!(!said.status.success());
    assert!(said.err.contains("majority"), "the refusal says why: {}", said.err);
}

async fn by_srt(member: &Member, clip: &Clip) {
    let began = Instant::now();
    let url = format!("srt://{}?mode=caller&streamid=publish:new/srt", member.srt);
    let encoder = clip.publish(&url).expect("an encoder");
    let said = encoder.finish(PATIENCE).await.expect("it is refused");
    println!("SRT: refused after {:?}: {}", began.elapsed(), said.err.trim());
    assert!(!said.status.success());
    // How libsrt writes 1503.
    assert!(said.err.contains("PREDEFINED:503"), "the refusal is SRT's 1503: {}", said.err);
}
