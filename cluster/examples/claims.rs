//! How long claims take: three nodes in this process, on loopback, with real disks below the
//! temporary folder (or `$TMPDIR`). One claim after the other on a quiet cluster, then many at once.
//!
//! `cargo run --release -p headwater-cluster --example claims`
//!
//! Not here: claims while something fails (the simulation, the project's end-to-end tests).
#![allow(clippy::expect_used, reason = "a tool for developers")]
#![allow(clippy::print_stdout, reason = "its figures")]
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use headwater_cluster::claim::Wish;
use headwater_cluster::cluster::{Cluster, ClusterOptions, Join};
use headwater_cluster::endpoint::EndpointOptions;
use headwater_cluster::id::{NodeName, Region};
use headwater_media::id::{GroupSeq, SessionId, StreamName};
use tokio::task::JoinSet;

const CLAIMS_EACH: usize = 200;
const CLAIMS_AT_ONCE: usize = 1_000;

#[tokio::main]
async fn main() {
    let folder = std::env::temp_dir().join(format!("headwater-claims-{}", std::process::id()));
    let mut clusters: Vec<Cluster> = Vec::new();
    for place in 0..3 {
        let mut options = options(folder.join(place.to_string()));
        if let Some(first) = clusters.first() {
            let token = first.join_token(Duration::from_secs(60)).await.expect("a token");
            let address = first.local_address().expect("an endpoint").to_string();
            options.join = Some(Join { address, token });
        }
        clusters.push(Cluster::open(options).await.expect("it opens"));
    }
    let all_vote = || {
        let whole = |cluster: &Cluster| {
            let nodes = cluster.status().nodes;
            nodes.len() == 3 && nodes.iter().all(|node| node.voter && node.state == "up")
        };
        clusters.iter().all(whole)
    };
    while !all_vote() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (place, cluster) in clusters.iter().enumerate() {
        let mut times = Vec::new();
        for n in 0..CLAIMS_EACH {
            let began = Instant::now();
            let wish = wish(cluster, &format!("quiet/{place}-{n}"));
            cluster.claim(wish).await.expect("granted");
            times.push(began.elapsed());
        }
        let who = if cluster.is_leader() { "the leader" } else { "a follower" };
        report(&format!("{CLAIMS_EACH} claims of {who}, one at a time"), times);
    }
    let (began, mut claiming) = (Instant::now(), JoinSet::new());
    for n in 0..CLAIMS_AT_ONCE {
        let cluster = clusters[n % clusters.len()].clone();
        claiming.spawn(async move {
            cluster.claim(wish(&cluster, &format!("many/{n}"))).await.expect("granted");
            began.elapsed()
        });
    }
    let times = claiming.join_all().await;
    report(&format!("{CLAIMS_AT_ONCE} claims at once, from all three"), times);
    for cluster in &clusters {
        cluster.shutdown().await;
    }
    // They are in the temporary folder anyway.
    let _ = std::fs::remove_dir_all(folder);
}

fn options(data: PathBuf) -> ClusterOptions {
    let name = NodeName::parse("node").expect("a name");
    let region = Region::parse("here").expect("a region");
    let mut options = ClusterOptions::alone(data, name, region);
    options.endpoint = Some(EndpointOptions::new("127.0.0.1:0".parse().expect("an address")));
    options
}

fn wish(cluster: &Cluster, stream: &str) -> Wish {
    let mut session = [0; 16];
    session[..8].copy_from_slice(&cluster.node().0.to_le_bytes());
    for (byte, given) in session[8..].iter_mut().zip(stream.bytes().rev()) {
        *byte = given;
    }
    Wish {
        stream: StreamName::parse(stream).expect("a name"),
        node: cluster.node(),
        incarnation: cluster.incarnation(),
        session: SessionId::from_random(session),
        takeover: false,
        first_group: GroupSeq(0),
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).saturating_sub(1)];
    println!("{what}: p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100));
}
