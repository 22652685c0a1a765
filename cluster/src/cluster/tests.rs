//! Whole clusters in one process, on loopback.
//!
//! Not here: partitions and crashes (the simulation), processes (the project's end-to-end tests).

mod hostile;
mod life;
mod relays;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::id::{GroupSeq, SessionId, StreamName};

use super::*;
use crate::endpoint::EndpointOptions;
use crate::id::{NodeName, Region};
use crate::test_folder::TestFolder;

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

fn options(data: PathBuf) -> ClusterOptions {
    let name = NodeName::parse("node").unwrap();
    let mut options = ClusterOptions::alone(data, name, Region::parse("here").unwrap());
    options.timings.propose_within = Duration::from_secs(10);
    options
}

fn with_endpoint(data: PathBuf) -> ClusterOptions {
    let mut options = options(data);
    options.endpoint = Some(EndpointOptions::new("127.0.0.1:0".parse().unwrap()));
    options
}

fn wish(cluster: &Cluster, stream: &str) -> Wish {
    Wish {
        stream: StreamName::parse(stream).unwrap(),
        node: cluster.node(),
        incarnation: cluster.incarnation(),
        session: SessionId::from_random(rand()),
        takeover: false,
        first_group: GroupSeq(0),
    }
}

fn rand() -> [u8; 16] {
    crate::identity::random().unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Nodes of one cluster, and their folders.
struct Nodes {
    clusters: Vec<Cluster>,
    folders: Vec<TestFolder>,
}

impl Nodes {
    /// The first, and others that join by tokens, one after the other, until all vote.
    async fn open(count: usize) -> Nodes {
        let mut nodes = Nodes { clusters: Vec::new(), folders: Vec::new() };
        for _ in 0..count {
            nodes.join().await;
        }
        nodes
    }

    async fn join(&mut self) {
        let folder = TestFolder::new();
        let mut options = with_endpoint(folder.path().to_owned());
        if let Some(first) = self.clusters.first() {
            let token = first.join_token(Duration::from_secs(60)).await.unwrap();
            let address = first.local_address().unwrap().to_string();
            options.join = Some(Join { address, token });
        }
        self.clusters.push(Cluster::open(options).await.unwrap());
        self.folders.push(folder);
        self.all_vote().await;
    }

    async fn all_vote(&self) {
        let count = self.clusters.len();
        until("all nodes vote and are up", || {
            self.clusters.iter().all(|cluster| {
                let status = cluster.status();
                let fit = |node: &NodeStatus| node.voter && node.state == "up";
                status.nodes.len() == count && status.nodes.iter().all(fit)
            })
        })
        .await;
    }

    async fn leader(&self) -> usize {
        let mut at = None;
        until("somebody leads", || {
            at = self.clusters.iter().position(Cluster::is_leader);
            at.is_some()
        })
        .await;
        at.unwrap()
    }

    fn refused(&self, at: usize, refusal: crate::identity::Refusal) -> u64 {
        self.clusters[at].refused().unwrap().count(refusal)
    }

    async fn close(self) {
        for cluster in &self.clusters {
            cluster.inner.stop.cancel();
            if let Some(raft) = cluster.inner.raft() {
                let _ = raft.shutdown().await;
            }
            if let Some((endpoint, _)) = &cluster.inner.net {
                endpoint.close().await;
            }
        }
    }
}
