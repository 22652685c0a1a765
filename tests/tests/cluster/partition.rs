//! The network between the nodes is cut by nftables, in a network namespace of the test's own.
//!
//! Not here: nodes that stand still (`quorum`, `freeze`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_tests::cluster::member::{PATIENCE, until};
use headwater_tests::cluster::{Clip, Publisher, Recorder, Trio, claims};
use headwater_tests::program::Program;

use crate::allowed;

const STREAM: &str = "live/cam";
/// Set in the process that runs inside the namespace.
const INSIDE: &str = "CLUSTER_INSIDE_NAMESPACE";
const NAME: &str =
    "partition::an_isolated_leader_is_replaced_and_its_stream_goes_on_where_its_publisher_goes";
/// Until the majority grants claims again: as after the leader's death.
const CLAIMS_AGAIN: Duration = Duration::from_secs(1);

#[test]
fn an_isolated_leader_is_replaced_and_its_stream_goes_on_where_its_publisher_goes() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        return runtime.block_on(Box::pin(cut_off()));
    }
    let within = "ip link set lo up && nft list ruleset && exec \"$@\"";
    let test = std::env::current_exe().expect("this program");
    let mut command = std::process::Command::new("unshare");
    command.args(["-n", "sh", "-c", within, "sh"]).arg(test);
    command.args(["--exact", NAME, "--nocapture"]).env(INSIDE, "1");
    let root = std::process::Command::new("unshare").args(["-n", "true"]).status();
    if !root.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no network namespace can be made here (root, unshare, ip and nft)");
        return;
    }
    assert!(command.status().expect("unshare").success(), "see above");
}

async fn nft(rule: &str) {
    let said = Program::start("nft", [rule]).expect("nft");
    let said = said.finish(PATIENCE).await.expect("it ends");
    assert!(said.status.success(), "{rule}: {}", said.err);
}

/// Drops all between the cluster port at `place` and the others' (HTTP goes on: it is the test's).
async fn cut(trio: &Trio, place: usize) {
    nft("add table ip cut").await;
    nft("add chain ip cut output { type filter hook output priority 0; }").await;
    let one = trio.members[place].cluster;
    for other in trio.members.iter().filter(|member| member.place != place) {
        for (from, to) in [(one, other.cluster), (other.cluster, one)] {
            nft(&format!(
                "add rule ip cut output ip saddr {} ip daddr {} udp dport {} drop",
                from.ip(),
                to.ip(),
                to.port()
            ))
            .await;
        }
    }
}

async fn cut_off() {
    let trio = Trio::start("partition", &[]).await.expect("three origins");
    let clip = Arc::new(Clip::make().await.expect("a clip"));
    let leader = trio.leader().await.expect("a leader");
    let next = (leader + 1) % 3;
    let urls = trio.members.iter().map(|member| member.rtmp_url(STREAM)).collect();
    let publisher = Publisher::start(&clip, urls, leader);
    trio.owner(STREAM).await.expect("it is published");
    let recorder = Recorder::start(&trio.members, STREAM);
    for node in 0..3 {
        recorder.advance(node, 5).await.expect("every node serves it");
    }

    cut(&trio, leader).await;
    let since = Instant::now();
    let client = trio.members[next].client();
    let again = claims::until_granted(&client, "majority", allowed(CLAIMS_AGAIN)).await;
    println!("the leader is cut off: the others grant claims after {again:?}");
    again.expect("the majority goes on");
    let refused = claims::claim(&trio.members[leader].client(), "minority/a").await;
    assert_eq!(refused.expect("an answer").status, 503, "the minority grants nothing");
    recorder.advance(leader, 5).await.expect("what is live goes on where it is published");
    println!("at the owner, no new part for {:?}", recorder.silence(leader, since, Instant::now()));

    let (in_flight, _) = recorder.ledger.lock().newest(next, "video");
    // Its publisher is still there; another encoder of it goes to a node of the majority.
    publisher.move_to(next).await.expect("it publishes");
    for node in (0..3).filter(|node| *node != leader) {
        recorder.advance(node, 5).await.expect("the stream goes on");
    }
    nft("delete table ip cut").await;
    let lost = "the cluster has given the stream to another publisher meanwhile";
    until("it finds itself fenced", || async { !trio.members[leader].logged(lost).is_empty() })
        .await
        .expect("the old owner ends its session");
    recorder.advance(leader, 5).await.expect("it serves the stream from its new owner");
    assert_eq!(trio.owner(STREAM).await.expect("an owner"), next);
    recorder.verify(0..3).await;
    println!("{:?}", recorder.ledger.lock().totals());
    // The one exception: of the segment that was in flight at the cut, the cut-off owner has more
    // than the majority could know of, and could not be told where it ends.
    let in_flight = in_flight.to_string();
    let mut complaints = recorder.ledger.lock().judge();
    complaints.retain(|complaint| !complaint.contains(&in_flight));
    assert!(complaints.is_empty(), "{complaints:#?}");
    publisher.stop().await;
}
