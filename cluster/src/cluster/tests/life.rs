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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_late_starts_from_a_snapshot() {
    let mut nodes = Nodes::open(2).await;
    for n in 0..200 {
        nodes.clusters[1].claim(wish(&nodes.clusters[1], &format!("early/{n}"))).await.unwrap();
    }
    let leader = nodes.leader().await;
    let raft = nodes.clusters[leader].inner.raft().unwrap();
    raft.trigger().snapshot().await.unwrap();
    let index = nodes.clusters[leader].status().applied;
    until("a snapshot is there", || {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.snapshot.is_some_and(|snapshot| snapshot.index >= index)
    })
    .await;
    raft.trigger().purge_log(index).await.unwrap();
    until("the log before it is gone", || {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.purged.is_some_and(|purged| purged.index >= index)
    })
    .await;
    nodes.join().await;
    let late = &nodes.clusters[2];
    late.linearizable().await.unwrap();
    assert_eq!(late.view().borrow().owned_streams_count(), 200);
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_for_media_are_handed_to_the_node() {
    let nodes = Nodes::open(2).await;
    let mut queue = nodes.clusters[0].take_relay_connections().unwrap();
    assert!(nodes.clusters[0].take_relay_connections().is_none());
    let out = nodes.clusters[1].connect_relay(NodeId(1)).await.unwrap();
    let inbound = queue.recv().await.unwrap();
    assert_eq!(inbound.peer.unwrap().node, NodeId(2));
    let mut send = out.open_uni().await.unwrap();
    send.write_all(b"media").await.unwrap();
    send.finish().unwrap();
    let mut receive = inbound.connection.accept_uni().await.unwrap();
    assert_eq!(receive.read_to_end(10).await.unwrap(), b"media");
    let nobody = nodes.clusters[1].connect_relay(NodeId(99)).await;
    assert!(nobody.is_err());
    nodes.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_can_be_removed_while_it_leads() {
    let nodes = Nodes::open(3).await;
    let leader = nodes.leader().await;
    let gone = nodes.clusters[leader].node();
    let rest: Vec<&Cluster> =
        nodes.clusters.iter().filter(|cluster| cluster.node() != gone).collect();
    assert_eq!(rest[0].remove(gone).await, Ok(Answer::Done));
    until("the others go on without it", || {
        rest.iter().all(|cluster| {
            let leads = cluster.leader().is_some_and(|leader| leader != gone);
            leads && !cluster.inner.voters().contains(&gone)
        })
    })
    .await;
    rest[0].claim(wish(rest[0], "after")).await.unwrap();
    let fault = nodes.clusters[leader].fault();
    until("it learns that it was removed", || *fault.borrow() == Some(Fault::Removed)).await;
    let refused = nodes.clusters[leader].claim(wish(&nodes.clusters[leader], "mine")).await;
    assert!(matches!(refused, Err(ClaimError::Propose(ProposeError::Stopped(_)))), "{refused:?}");
    nodes.close().await;
}

/// As by SIGKILL: nothing more is said, not even that connections end.
fn kill(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_background();
}

#[test]
fn a_leader_that_is_killed_is_replaced_within_a_second() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let mut runtimes: Vec<_> = (0..3).map(|_| Some(runtime())).collect();
    let main = runtime();
    let mut nodes = Nodes { clusters: Vec::new(), folders: Vec::new() };
    for runtime in runtimes.iter().flatten() {
        let folder = TestFolder::new();
        let mut options = with_endpoint(folder.path().to_owned());
        if let Some(first) = nodes.clusters.first() {
            let token = main.block_on(first.join_token(Duration::from_secs(60))).unwrap();
            let address = first.local_address().unwrap().to_string();
            options.join = Some(Join { address, token });
        }
        let opened = runtime.block_on(Cluster::open(options)).unwrap();
        nodes.clusters.push(opened);
        nodes.folders.push(folder);
        main.block_on(nodes.all_vote());
    }
    let leader = main.block_on(nodes.leader());
    let dead = nodes.clusters[leader].node();
    let rest: Vec<Cluster> =
        nodes.clusters.iter().filter(|cluster| cluster.node() != dead).cloned().collect();
    let held = nodes.clusters[leader].clone();
    main.block_on(held.claim(wish(&held, "held"))).unwrap();
    drop(held);
    kill(runtimes[leader].take().unwrap());
    let killed = Instant::now();
    main.block_on(rest[0].claim(wish(&rest[0], "new"))).unwrap();
    let claimed = killed.elapsed();
    main.block_on(until("the leader is found dead", || {
        rest.iter().all(|cluster| {
            let view = cluster.view();
            let view = view.borrow();
            view.node(dead).is_some_and(|node| node.state() == NodeState::Down)
        })
    }));
    let found = killed.elapsed();
    main.block_on(rest[1].claim(wish(&rest[1], "held"))).unwrap();
    println!(
        "leader killed: new claim after {claimed:?}, found dead after {found:?}, its stream taken \
         after {:?}",
        killed.elapsed()
    );
    // A second on a quiet machine; the tests' machine has other things to do.
    assert!(claimed < Duration::from_secs(5), "{claimed:?}");
    for runtime in runtimes.into_iter().flatten() {
        kill(runtime);
    }
}

/// Notes whether it was told to stop.
#[derive(Default)]
struct Notes(std::sync::atomic::AtomicBool);

impl crate::control::holder::Holder for Notes {
    fn progress(&self, _: &StreamName) -> Option<crate::claim::Progress> {
        None
    }

    fn fence(
        &self,
        _: &StreamName,
        _: headwater_media::id::Epoch,
    ) -> Option<crate::claim::Progress> {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nobody_is_stopped_for_a_claim_that_cannot_be_granted() {
    let (folder, notes) = (TestFolder::new(), Arc::new(Notes::default()));
    let mut first = with_endpoint(folder.path().to_owned());
    first.timings.propose_within = Duration::from_secs(1);
    first.holder = notes.clone();
    let first = Cluster::open(first).await.unwrap();
    let mut nodes = Nodes { clusters: vec![first.clone()], folders: vec![folder] };
    nodes.join().await;
    first.claim(wish(&first, "kept")).await.unwrap();
    nodes.clusters[1].shutdown().await;
    let taking = || Wish { takeover: true, ..wish(&first, "kept") };
    assert_eq!(
        first.claim(taking()).await,
        Err(ClaimError::Propose(ProposeError::NoQuorum)),
        "of two, one is no majority"
    );
    assert!(!notes.0.load(std::sync::atomic::Ordering::Relaxed));
    nodes.close().await;
}
