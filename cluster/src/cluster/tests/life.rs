//! What happens to clusters in good order, and in ordinary bad luck.
//!
//! Not here: attacks (`hostile`).

use super::*;
use crate::cluster::upkeep::renew_now;
use crate::command::Refusal;

#[tokio::test]
async fn a_cluster_of_one_opens_in_well_under_a_second_without_a_socket() {
    let folder = TestFolder::new();
    let started = Instant::now();
    let one = Cluster::open(options(folder.path().to_owned())).await.unwrap();
    let opened = started.elapsed();
    assert!(one.is_leader());
    assert!(opened < Duration::from_secs(2), "{opened:?}");
    let grant = one.claim(wish(&one, "auction/lot-7")).await.unwrap();
    one.linearizable().await.unwrap();
    let status = one.status();
    assert_eq!(status.nodes.len(), 1);
    assert_eq!((status.nodes[0].state, status.nodes[0].streams), ("up", 1));
    assert!(one.local_address().is_none());
    one.shutdown().await;
    drop(one);
    // The same folder again: a restart, which has no streams but goes on above their numbers.
    let started = Instant::now();
    let again = Cluster::open(options(folder.path().to_owned())).await.unwrap();
    let reopened = started.elapsed();
    println!("opened in {opened:?}, again in {reopened:?}");
    assert!(reopened < Duration::from_secs(2), "{reopened:?}");
    let next = again.claim(wish(&again, "auction/lot-7")).await.unwrap();
    assert!(next.epoch > grant.epoch);
    assert!(next.first_group >= grant.reserved_to);
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_join_by_tokens_and_go_on_when_their_leader_leaves() {
    let nodes = Nodes::open(3).await;
    let ids: Vec<u64> = nodes.clusters.iter().map(|cluster| cluster.node().0).collect();
    assert_eq!(ids, [1, 2, 3]);
    for (at, cluster) in nodes.clusters.iter().enumerate() {
        cluster.claim(wish(cluster, &format!("from/{at}"))).await.unwrap();
    }
    for cluster in &nodes.clusters {
        cluster.linearizable().await.unwrap();
        assert_eq!(cluster.view().borrow().owned_streams_count(), 3);
    }
    let stolen = nodes.clusters[0].claim(wish(&nodes.clusters[0], "from/1")).await;
    let busy = Refusal::Busy { owner: nodes.clusters[1].node() };
    assert_eq!(stolen, Err(ClaimError::Refused(busy)));
    // All three hold the CA's key: any of them can let the next one in.
    for cluster in &nodes.clusters {
        assert!(cluster.inner.identity().authority().is_ok());
    }
    let leader = nodes.leader().await;
    let gone = nodes.clusters[leader].node();
    nodes.clusters[leader].shutdown().await;
    let started = Instant::now();
    let rest: Vec<&Cluster> =
        nodes.clusters.iter().filter(|cluster| cluster.node() != gone).collect();
    rest[0].claim(wish(rest[0], "after/1")).await.unwrap();
    println!("first claim after the leader left: {:?}", started.elapsed());
    until("the one that left is found dead", || {
        rest.iter().all(|cluster| {
            let view = cluster.view();
            let view = view.borrow();
            view.node(gone).is_some_and(|node| node.state() == NodeState::Down)
        })
    })
    .await;
    println!("found dead after {:?}", started.elapsed());
    // Its stream is free now.
    let stream = format!("from/{leader}");
    rest[1].claim(wish(rest[1], &stream)).await.unwrap();
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_is_taken_back_at_another_address() {
    let mut nodes = Nodes::open(3).await;
    let last = nodes.clusters.pop().unwrap();
    let (id, before) = (last.node(), last.incarnation());
    last.shutdown().await;
    drop(last);
    nodes.clusters[0].claim(wish(&nodes.clusters[0], "meanwhile")).await.unwrap();
    let folder = nodes.folders[2].path().to_owned();
    let back = Cluster::open(with_endpoint(folder)).await.unwrap();
    assert_eq!((back.node(), back.incarnation().0), (id, before.0 + 1));
    nodes.clusters.push(back);
    nodes.all_vote().await;
    nodes.clusters[2].linearizable().await.unwrap();
    assert_eq!(nodes.clusters[2].view().borrow().owned_streams_count(), 1);
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_voter_is_removed_and_one_that_lost_its_data_joins_anew() {
    let mut nodes = Nodes::open(3).await;
    let dead = nodes.clusters.pop().unwrap();
    let id = dead.node();
    dead.shutdown().await;
    drop(dead);
    assert_eq!(nodes.clusters[0].remove(id).await, Ok(Answer::Done));
    until("its vote is gone", || nodes.clusters.iter().all(|c| !c.inner.voters().contains(&id)))
        .await;
    // Its data folder is worth nothing now.
    let folder = nodes.folders.pop().unwrap();
    let back = Cluster::open(with_endpoint(folder.path().to_owned())).await.unwrap();
    let fault = back.fault();
    until("it learns that it was removed", || *fault.borrow() == Some(Fault::Removed)).await;
    back.inner.stop.cancel();
    back.shutdown().await;
    nodes.join().await;
    assert!(nodes.clusters[2].node() > id);
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_drains_gives_leadership_away_and_takes_no_new_streams() {
    let nodes = Nodes::open(3).await;
    let leader = nodes.leader().await;
    let draining = &nodes.clusters[leader];
    let other = &nodes.clusters[(leader + 1) % 3];
    assert_eq!(other.drain(draining.node()).await, Ok(Answer::Done));
    until("somebody else leads", || other.leader().is_some_and(|leader| leader != draining.node()))
        .await;
    let refused = draining.claim(wish(draining, "late")).await;
    assert_eq!(refused, Err(ClaimError::Refused(Refusal::NodeDraining)));
    other.claim(wish(other, "elsewhere")).await.unwrap();
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_claims_say_so_and_force_makes_a_cluster_of_the_survivor() {
    let mut nodes = Nodes::open(3).await;
    let survivor = nodes.clusters.remove(0);
    let grant = survivor.claim(wish(&survivor, "kept")).await.unwrap();
    for cluster in &nodes.clusters {
        cluster.inner.stop.cancel();
        cluster.shutdown().await;
    }
    nodes.clusters.clear();
    let folder = nodes.folders[0].path().to_owned();
    survivor.inner.stop.cancel();
    survivor.shutdown().await;
    drop(survivor);
    // Alone it has no majority.
    let mut alone = with_endpoint(folder.clone());
    alone.timings.propose_within = Duration::from_millis(700);
    let alone = Cluster::open(alone).await.unwrap();
    let claimed = alone.claim(wish(&alone, "new")).await;
    assert_eq!(claimed, Err(ClaimError::Propose(ProposeError::NoQuorum)));
    assert!(recover_force(&folder).await.is_err(), "the folder is in use");
    alone.shutdown().await;
    drop(alone);
    let recovered = recover_force(&folder).await.unwrap();
    assert_eq!(recovered.removed, [NodeId(2), NodeId(3)]);
    let one = Cluster::open(with_endpoint(folder)).await.unwrap();
    assert!(one.is_leader());
    let next = one.claim(wish(&one, "kept")).await.unwrap();
    assert!(next.epoch > grant.epoch && next.first_group >= grant.reserved_to);
    // The others come back and are refused.
    let back = Cluster::open(with_endpoint(nodes.folders[1].path().to_owned())).await.unwrap();
    until("the removed node is refused", || {
        one.refused().unwrap().count(crate::identity::Refusal::RemovedNode) > 0
            || *back.fault().borrow() == Some(Fault::Removed)
            || back.status().nodes.iter().any(|node| node.error.is_some())
    })
    .await;
    back.shutdown().await;
    one.shutdown().await;
}

#[tokio::test]
async fn a_node_renews_its_own_certificate() {
    let folder = TestFolder::new();
    let one = Cluster::open(options(folder.path().to_owned())).await.unwrap();
    let path = folder.path().join("cluster/node.pem");
    let before = std::fs::read(&path).unwrap();
    renew_now(&one.inner).await.unwrap();
    assert_ne!(std::fs::read(&path).unwrap(), before);
    one.shutdown().await;
}

#[tokio::test]
async fn a_data_folder_serves_one_process() {
    let folder = TestFolder::new();
    let one = Cluster::open(options(folder.path().to_owned())).await.unwrap();
    let two = Cluster::open(options(folder.path().to_owned())).await;
    assert!(two.is_err_and(|error| error.to_string().contains("in use")));
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_claims_at_once_are_all_answered() {
    let nodes = Nodes::open(3).await;
    let started = Instant::now();
    let mut claims = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let cluster = nodes.clusters[n % 3].clone();
        claims.spawn(async move { cluster.claim(wish(&cluster, &format!("many/{n}"))).await });
    }
    while let Some(claim) = claims.join_next().await {
        claim.unwrap().unwrap();
    }
    println!("1,000 claims from three nodes: {:?}", started.elapsed());
    let mut times = Vec::new();
    for n in 0..50 {
        let cluster = &nodes.clusters[n % 3];
        let started = Instant::now();
        cluster.claim(wish(cluster, &format!("one/{n}"))).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    println!("one claim at a time: p50 {:?}, max {:?}", times[25], times[49]);
    nodes.close().await;
}
