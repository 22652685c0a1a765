//! Relays follow origins, whichever live; whole clusters in one process.
//!
//! Not here: what a feed's pieces do (`feed`), silent processes (the project's end-to-end tests).

use super::*;
use crate::command::Role;
use crate::feed::ENTRIES_MAX;
use crate::feed::log::Resume;

/// A relay, and the indexes that its readers saw.
struct Relay {
    cluster: Cluster,
    folder: TestFolder,
    falls: Arc<Mutex<Vec<(u64, u64)>>>,
}

fn as_relay(folder: &TestFolder) -> ClusterOptions {
    let mut options = with_endpoint(folder.path().to_owned());
    options.role = Role::Relay;
    options.region = Region::parse("eu").unwrap();
    options
}

impl Relay {
    async fn join(at: &Cluster) -> Relay {
        let folder = TestFolder::new();
        let token = at.join_token(Duration::from_secs(60)).await.unwrap();
        let mut options = as_relay(&folder);
        options.join = Some(Join { address: at.local_address().unwrap().to_string(), token });
        let cluster = Cluster::open(options).await.unwrap();
        Relay::watched(cluster, folder)
    }

    /// Its view's index must never fall: whoever reads it looks all the time.
    fn watched(cluster: Cluster, folder: TestFolder) -> Relay {
        let falls = Arc::new(Mutex::new(Vec::new()));
        let (mut view, found) = (cluster.view(), falls.clone());
        tokio::spawn(async move {
            let mut last = 0;
            while view.changed().await.is_ok() {
                let index = view.borrow_and_update().index();
                if index < last {
                    found.lock().push((last, index));
                }
                last = index;
            }
        });
        Relay { cluster, folder, falls }
    }

    fn knows(&self, stream: &str) -> bool {
        let name = StreamName::parse(stream).unwrap();
        let view = self.cluster.view().borrow().clone();
        view.stream(&name).and_then(|record| record.owner()).is_some()
    }

    fn fed_by(&self) -> Option<NodeId> {
        self.cluster.status().fed_by
    }

    fn is_entered(&self) -> bool {
        let view = self.cluster.view();
        let incarnation = self.cluster.incarnation();
        let known = view.borrow().node(self.cluster.node()).map(|node| node.info.incarnation);
        known == Some(incarnation)
    }

    async fn stop(self) -> TestFolder {
        assert!(self.falls.lock().is_empty(), "its index fell: {:?}", self.falls.lock());
        self.cluster.shutdown().await;
        self.folder
    }
}

fn state_of(at: &Cluster, node: NodeId) -> Option<NodeState> {
    at.view().borrow().node(node).map(|node| node.state())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_follow_whichever_origin_lives_and_are_no_part_of_any_majority() {
    let mut origins = Nodes::open(3).await;
    let mut relays = Vec::new();
    for at in 0..2 {
        relays.push(Relay::join(&origins.clusters[at]).await);
    }
    let ids: Vec<NodeId> = relays.iter().map(|relay| relay.cluster.node()).collect();
    until("both are up", || {
        ids.iter().all(|id| state_of(&origins.clusters[0], *id) == Some(NodeState::Up))
    })
    .await;
    origins.clusters[0].claim(wish(&origins.clusters[0], "one")).await.unwrap();
    for relay in &relays {
        relay.cluster.linearizable().await.unwrap();
        assert!(relay.knows("one"), "what was committed is in the view after a current read");
        let status = relay.cluster.status();
        assert_eq!(status.leader, origins.clusters[0].leader());
        let voters: Vec<u64> =
            status.nodes.iter().filter(|node| node.voter).map(|node| node.id.0).collect();
        assert_eq!((voters, status.nodes.len()), (vec![1, 2, 3], 5));
        assert_eq!(relay.cluster.claim(wish(&relay.cluster, "x")).await, Err(ClaimError::Relay));
        let removal = relay.cluster.remove(NodeId(1)).await;
        assert_eq!(removal, Err(ProposeError::Relay));
        crate::cluster::upkeep::renew_now(&relay.cluster.inner).await.unwrap();
        assert!(relay.cluster.inner.identity().authority().is_err(), "no relay can sign");
    }
    // The origin that feeds the first relay dies.
    let feeder = relays[0].fed_by().unwrap();
    let at = origins.clusters.iter().position(|origin| origin.node() == feeder).unwrap();
    let dead = origins.clusters.remove(at);
    dead.shutdown().await;
    let started = Instant::now();
    until("another origin feeds it", || relays[0].fed_by().is_some_and(|id| id != feeder)).await;
    println!("another origin feeds it after {:?}", started.elapsed());
    let origin = origins.clusters[0].clone();
    origin.claim(wish(&origin, "two")).await.unwrap();
    until("both know what happened since", || relays.iter().all(|relay| relay.knows("two"))).await;
    until("the dead origin is down and the relays are not", || {
        state_of(&origin, feeder) == Some(NodeState::Down)
            && ids.iter().all(|id| state_of(&origin, *id) == Some(NodeState::Up))
    })
    .await;
    // A relay stops: it is dead until its next start.
    let folder = relays.remove(0).stop().await;
    assert_eq!(state_of(&origin, ids[0]), Some(NodeState::Draining), "it said goodbye");
    until("it is down", || state_of(&origin, ids[0]) == Some(NodeState::Down)).await;
    let again = Relay::watched(Cluster::open(as_relay(&folder)).await.unwrap(), folder);
    assert_eq!((again.cluster.node(), again.cluster.incarnation().0), (ids[0], 2));
    assert!(again.knows("two"), "it kept what it knew");
    until("it is back", || state_of(&origin, ids[0]) == Some(NodeState::Up)).await;
    // And is removed.
    assert_eq!(origin.remove(ids[0]).await, Ok(Answer::Done));
    let fault = again.cluster.fault();
    until("it learns that it was removed", || *fault.borrow() == Some(Fault::Removed)).await;
    assert_eq!(state_of(&origin, ids[1]), Some(NodeState::Up));
    again.stop().await;
    relays.remove(0).stop().await;
    origins.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_cut_off_keeps_what_it_knows_and_one_far_behind_gets_a_snapshot() {
    let mut origins = Nodes::open(1).await;
    let relay = Relay::join(&origins.clusters[0]).await;
    let origin = origins.clusters[0].clone();
    origin.claim(wish(&origin, "one")).await.unwrap();
    until("it knows", || relay.knows("one")).await;
    until("it is known", || relay.is_entered()).await;
    let listen = origin.local_address().unwrap();
    let folder = relay.stop().await;
    // So much happens that nobody keeps it entry by entry.
    let kept = crate::feed::keep::load(&folder.path().join("cluster")).unwrap().0;
    let mut many = tokio::task::JoinSet::new();
    for part in 0..64 {
        let origin = origin.clone();
        many.spawn(async move {
            for n in 0..=ENTRIES_MAX / 64 {
                let (glob, policy) = (format!("p/{part}"), vec![u8::try_from(n % 250).unwrap()]);
                let command = Command::PutPolicy { glob, policy: policy.into(), expects: None };
                origin.propose(command).await.unwrap();
            }
        });
    }
    while many.join_next().await.is_some() {}
    assert_eq!(origin.inner.feeds().unwrap().log.resume(kept), Resume::Snapshot);
    let relay = Relay::watched(Cluster::open(as_relay(&folder)).await.unwrap(), folder);
    until("it has it all", || relay.cluster.view().borrow().config().policies.len() == 64).await;
    relay.cluster.linearizable().await.unwrap();
    let bytes = |at: &Cluster| at.view().borrow().directory().encode().unwrap();
    until("it is known again", || relay.is_entered()).await;
    until("both are the same", || bytes(&relay.cluster) == bytes(&origin)).await;
    // The only origin goes.
    drop(origins.clusters.pop());
    origin.shutdown().await;
    drop(origin);
    until("nobody feeds it", || relay.fed_by().is_none()).await;
    assert!(relay.knows("one"), "it keeps its view");
    let status = relay.cluster.status();
    let own = status.nodes.iter().find(|node| node.id == relay.cluster.node()).unwrap();
    assert!(!own.connected, "and says that it is cut off");
    // Cut off, it starts anew and knows it still.
    let folder = relay.stop().await;
    let relay = Relay::watched(Cluster::open(as_relay(&folder)).await.unwrap(), folder);
    assert!(relay.knows("one"));
    assert_eq!(relay.cluster.view().borrow().config().policies.len(), 64);
    let mut options = with_endpoint(origins.folders[0].path().to_owned());
    options.endpoint = Some(EndpointOptions::new(listen));
    let origin = Cluster::open(options).await.unwrap();
    until("it is fed again", || relay.fed_by() == Some(origin.node())).await;
    origin.claim(wish(&origin, "three")).await.unwrap();
    until("it goes on", || relay.knows("three")).await;
    relay.stop().await;
    origins.clusters.push(origin);
    origins.close().await;
}

#[tokio::test]
async fn a_relay_needs_a_cluster_to_join_and_a_folder_of_its_own() {
    let folder = TestFolder::new();
    let alone = Cluster::open(as_relay(&folder)).await;
    assert!(matches!(alone, Err(OpenError::RelayAlone)), "{alone:?}");
    let origin = Cluster::open(options(folder.path().to_owned())).await.unwrap();
    origin.shutdown().await;
    drop(origin);
    let taken = Cluster::open(as_relay(&folder)).await;
    assert!(matches!(taken, Err(OpenError::OriginsFolder)), "{taken:?}");
}
