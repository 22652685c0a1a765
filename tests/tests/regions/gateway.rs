//! A gateway is killed: what viewers below it see.
//!
//! Not here: bytes over long times (`bytes`).

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{STREAM, Show, allowed, asked, in_namespace};

/// What a viewer below a gateway may have to wait for a new part when it dies.
const FREEZE_MAX: Duration = Duration::from_millis(500);
/// A silence of this length in a stream that flows is noted to the end.
const AFTER: Duration = Duration::from_millis(500);

#[test]
fn a_killed_gateways_children_go_on_from_their_second_parent() {
    in_namespace(
        "gateway::a_killed_gateways_children_go_on_from_their_second_parent",
        "REGIONS_KILLS",
        killed_gateways(),
    );
}

/// The node that has most children among relays in region b, by the tree as a node sees it.
async fn gateway(show: &Show) -> usize {
    let path = format!("/api/v1/cluster/tree/{STREAM}");
    let answer = show.fleet.members[0].client().get(&path).await.expect("an answer");
    assert_eq!(answer.status, 200, "{:?}", answer.text());
    let tree: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
    let in_b = nodes.iter().filter(|node| node["region"] == "b");
    let most = in_b.max_by_key(|node| node["children"].as_u64()).expect("relays of region b");
    assert!(most["children"].as_u64() > Some(0), "no relay of region b has children: {tree:#}");
    show.fleet.place(most["name"].as_str().expect("a name")).expect("one of the nodes")
}

async fn killed_gateways() {
    let mut show = Show::begin().await;
    let mut freezes = Vec::new();
    for kill in 1..=asked("REGIONS_KILLS", 1) {
        let victim = gateway(&show).await;
        let killed = Instant::now();
        show.fleet.members[victim].kill().await.expect("it ran");
        let rest: Vec<usize> = (3..show.fleet.members.len()).filter(|at| *at != victim).collect();
        for place in &rest {
            show.recorder.advance(*place, 5).await.expect("the stream goes on");
        }
        tokio::time::sleep(AFTER).await;
        let now = Instant::now();
        let silence = |place: &usize| show.recorder.silence(*place, killed, now);
        let longest: Vec<Duration> = rest.iter().map(silence).collect();
        println!("kill {kill}: {}: no new part for {longest:?}", show.fleet.seats[victim].name);
        freezes.extend(longest);
        show.restart(victim).await;
        show.fleet.whole().await.expect("it is up again");
        show.recorder.advance(victim, 3).await.expect("it serves again");
    }
    freezes.sort_unstable();
    let at = |percent: usize| freezes[(freezes.len() * percent).div_ceil(100).saturating_sub(1)];
    println!("{} times: p50 {:?}, p99 {:?}, max {:?}", freezes.len(), at(50), at(99), at(100));
    // A part's own length is in what was measured.
    assert!(at(99) <= allowed(FREEZE_MAX), "viewers saw a freeze of {:?}", at(99));
    assert_eq!(show.recorder.ledger.lock().totals().gaps, 0, "a frame was lost");
    show.end().await;
}
