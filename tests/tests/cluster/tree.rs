//! Relays below relays: a region with one gateway, so that its other node takes streams from there;
//! the gateway is killed.
//!
//! Not here: one relay (`relay`), trees in one process (`headwater-relay`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_tests::cluster::{Clip, Member, Publisher, Recorder, Trio};

use crate::allowed;

const STREAM: &str = "live/cam";
/// The relays' places, after the origins.
const RELAYS: std::ops::Range<usize> = 3..5;
/// What a viewer may have to wait for a new part when a parent dies: silence is noticed after
/// 300 ms, and a part has 200 ms.
const FREEZE_MAX: Duration = Duration::from_millis(500);

/// The node that a relay said it took the stream from last, by place.
fn parent_of(relay: &Member) -> Option<usize> {
    let taken = relay.logged("the stream is taken from");
    let node = taken.last()?["node"].as_u64()?;
    usize::try_from(node).ok()?.checked_sub(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_a_gateway_that_is_killed_the_stream_goes_on_and_every_byte_is_the_same() {
    let one_gateway = ("RELAY__GATEWAYS", "1");
    let mut trio = Trio::start("tree", &[one_gateway]).await.expect("three origins");
    let settings = [("CLUSTER__ROLE", "relay"), ("CLUSTER__REGION", "eu"), one_gateway];
    for place in RELAYS {
        let folder = trio.folder().join(format!("node-{}", place + 1));
        let mut relay = Member::new(place, folder, &settings).expect("a relay");
        let token = trio.members[0].token().await.expect("a token");
        relay.launch(Some((trio.members[0].cluster, &token))).expect("it starts");
        relay.ready().await.expect("it is ready");
        trio.members.push(relay);
    }
    let clip = Arc::new(Clip::make().await.expect("a clip"));
    let publisher = Publisher::start(&clip, vec![trio.members[0].rtmp_url(STREAM)], 0);
    assert_eq!(trio.owner(STREAM).await.expect("it is published"), 0);
    let recorder = Recorder::start(&trio.members, STREAM);
    for node in 0..trio.members.len() {
        recorder.advance(node, 5).await.expect("every node serves it");
    }
    let parents = RELAYS.map(|place| parent_of(&trio.members[place])).collect::<Vec<_>>();
    println!("the relays take it from {parents:?}");
    let gateway = RELAYS.zip(&parents).find(|(_, parent)| **parent == Some(0));
    let (gateway, _) = gateway.expect("one takes it from the owner");
    let mut relays = RELAYS;
    let leaf = relays.find(|place| *place != gateway).expect("there are two");
    assert_eq!(parent_of(&trio.members[leaf]), Some(gateway), "the other takes it from there");

    trio.members[gateway].kill().await.expect("it ran");
    let killed = Instant::now();
    recorder.advance(leaf, 10).await.expect("the stream goes on");
    let silence = recorder.silence(leaf, killed, Instant::now());
    println!("below the killed gateway, no new part for {silence:?}");
    assert!(silence <= allowed(FREEZE_MAX), "viewers saw a freeze of {silence:?}");
    assert_ne!(parent_of(&trio.members[leaf]), Some(gateway));
    trio.members[gateway].restart().await.expect("it comes back");
    recorder.advance(gateway, 3).await.expect("it serves again");

    recorder.verify(0..trio.members.len()).await;
    let (totals, complaints) = {
        let mut ledger = recorder.ledger.lock();
        (ledger.totals(), ledger.judge())
    };
    println!("{totals:?}");
    assert_eq!(totals.gaps, 0, "no frame is missing anywhere");
    assert!(complaints.is_empty(), "{complaints:#?}");
    publisher.stop().await;
}
