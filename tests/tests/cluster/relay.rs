//! A relay beside three origins: it follows whichever lives, takes no publishers, serves what the
//! origins have, and goes on without them. And a live origin that is removed.
//!
//! Not here: trees of relays, the feed's own tests (`headwater-cluster`).

use std::time::{Duration, Instant};

use headwater_tests::cluster::member::{PATIENCE, until};
use headwater_tests::cluster::{Clip, Member, Trio, claims};
use serde_json::Value;

use crate::allowed;

const STREAM: &str = "live/cam";
/// `[cluster] suspect_after`, and what finding another origin takes.
const SWITCHED_WITHIN: Duration = Duration::from_millis(700);

fn node<'a>(status: &'a Value, name: &str) -> &'a Value {
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.into_iter().find(|node| node["name"] == name).unwrap_or(&Value::Null)
}

async fn fed_by(relay: &Member) -> Option<usize> {
    let place = relay.status().await["fed_by"].as_u64()?.checked_sub(1)?;
    usize::try_from(place).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_follows_whichever_origin_lives_and_takes_no_publishers() {
    let mut trio = Trio::start("relay", &[]).await.expect("three origins");
    let settings = [("CLUSTER__ROLE", "relay"), ("CLUSTER__REGION", "eu")];
    let mut relay = Member::new(3, trio.folder().join("relay"), &settings).expect("a relay");
    let token = trio.members[0].token().await.expect("a token");
    relay.launch(Some((trio.members[0].cluster, &token))).expect("it starts");
    relay.ready().await.expect("it is ready");
    let seen = relay.command("cluster status").await.expect("a status");
    println!("{}", seen.out);
    let status = trio.members[1].status().await;
    let own = node(&status, "node-4");
    assert_eq!((&own["role"], &own["region"]), (&"relay".into(), &"eu".into()), "{status}");
    assert_eq!((&own["state"], &own["voter"]), (&"up".into(), &false.into()), "{status}");

    let clip = Clip::make().await.expect("a clip");
    refuses(&relay, &clip).await;

    // What an origin has, the relay serves; also when the origin that feeds it is stopped.
    let feeder = fed_by(&relay).await.expect("an origin feeds it");
    let owner = (feeder + 1) % 3;
    let url = trio.members[owner].rtmp_url(STREAM);
    let _encoder = clip.publish(&url).expect("an encoder");
    let playlist = format!("/hls/{STREAM}/-/video/index.m3u8");
    let client = relay.client();
    let serves = || async {
        client.get(&playlist).await.is_ok_and(|answer| {
            answer.status == 200 && String::from_utf8_lossy(&answer.body).contains("#EXTINF")
        })
    };
    until("the relay serves the stream", serves).await.expect("it does");
    let before = relay.logged("an origin feeds this relay").len();
    trio.members[feeder].signal("STOP").await.expect("it stops");
    let stopped = Instant::now();
    // By its log: the API first asks for what is current, which a silent origin does not answer.
    let feeds = || relay.logged("an origin feeds this relay").len();
    until("another origin feeds it", || async { feeds() > before }).await.expect("one does");
    let took = stopped.elapsed();
    assert_ne!(fed_by(&relay).await, Some(feeder));
    println!("another origin feeds the relay {took:?} after one fell silent");
    assert!(took < allowed(SWITCHED_WITHIN), "{took:?}");
    trio.members[feeder].signal("CONT").await.expect("it goes on");

    // A relay that dies is found dead, and is back with its next start.
    relay.kill().await.expect("it dies");
    let killed = Instant::now();
    until("it is down", || async { is(&trio.members[owner], "down").await }).await.expect("down");
    println!("a dead relay is down after {:?}", killed.elapsed());
    relay.restart().await.expect("it starts again");
    until("it is up", || async { is(&trio.members[owner], "up").await }).await.expect("up");

    // Without any origin it goes on with what it knows, and they find it again.
    for member in &mut trio.members {
        member.kill().await.expect("it dies");
    }
    until("it knows that nobody feeds it", || async {
        let status = relay.status().await;
        status["fed_by"].is_null() && status["nodes"].as_array().is_some_and(|all| all.len() == 4)
    })
    .await
    .expect("it tells what it knows");
    assert_eq!(client.get("/readyz").await.expect("an answer").status, 200);
    for member in &mut trio.members {
        member.launch(None).expect("it starts");
    }
    until("it is fed again", || async { fed_by(&relay).await.is_some() }).await.expect("it is");
}

async fn is(at: &Member, state: &str) -> bool {
    node(&at.status().await, "node-4")["state"] == state
}

async fn refuses(relay: &Member, clip: &Clip) {
    let answer = claims::claim(&relay.client(), "new/whip").await.expect("an answer");
    let problem: Value = serde_json::from_slice(&answer.body).expect("a problem in JSON");
    let told = (answer.status, problem["type"].as_str());
    assert_eq!(told, (403, Some("relay-takes-no-publishers")), "{problem}");
    println!("{}", problem["detail"]);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("node-1 at http://")));
    let encoder = clip.publish(&relay.rtmp_url("new/rtmp")).expect("an encoder");
    let said = encoder.finish(PATIENCE).await.expect("it is refused");
    assert!(said.err.contains("relays take no publishers"), "{}", said.err);
    let url = format!("srt://{}?mode=caller&streamid=publish:new/srt", relay.srt);
    let said = clip.publish(&url).expect("an encoder").finish(PATIENCE).await.expect("refused");
    // How libsrt writes 1403.
    assert!(said.err.contains("PREDEFINED:403"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_origin_that_is_removed_ends_its_publishers_sessions_and_says_why() {
    let trio = Trio::start("removed", &[]).await.expect("three origins");
    let clip = Clip::make().await.expect("a clip");
    let gone = &trio.members[2];
    let encoder = clip.publish(&gone.rtmp_url(STREAM)).expect("an encoder");
    assert_eq!(trio.owner(STREAM).await.expect("it is published"), 2);
    let said = trio.members[0].command("cluster remove node-3").await.expect("an answer");
    assert!(said.status.success(), "{}", said.err);
    let said = encoder.finish(PATIENCE).await.expect("its session ends");
    assert!(said.err.contains("removed from its cluster"), "{}", said.err);
    assert!(!gone.owns(STREAM).await);
    let other = &trio.members[0];
    let _encoder = clip.publish(&other.rtmp_url(STREAM)).expect("an encoder");
    assert_eq!(trio.owner(STREAM).await.expect("it goes on elsewhere"), 0);
}
