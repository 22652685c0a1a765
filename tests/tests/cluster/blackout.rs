//! All nodes are killed at once while they grant claims, and started again: what was granted stays
//! granted, and numbers go on.
//!
//! Not here: one node at a time (`failover`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use headwater_tests::cluster::member::PATIENCE;
use headwater_tests::cluster::{Clip, Member, Publisher, Recorder, Trio, claims};
use headwater_tests::conformance::client::Client;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{asked, judge, report};

const STREAM: &str = "live/cam";
/// Names that are claimed over and over, each by a client of its own, in turn with new ones.
const NAMES: usize = 12;
/// For how long they are, before the nodes die.
const CLAIMING: Duration = Duration::from_millis(1_200);

/// A name's epochs, each with its first group, as the nodes' logs have them.
type Granted = BTreeMap<String, BTreeMap<u64, u64>>;

/// What clients were told: names with the node's place, and how often.
type Acknowledged = Arc<Mutex<HashMap<(String, usize), usize>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_claim_is_lost_when_all_nodes_are_killed_at_once() {
    let mut trio = Trio::start("blackout", &[]).await.expect("three origins");
    let clip = Arc::new(Clip::make().await.expect("a clip"));
    let urls = trio.members.iter().map(|member| member.rtmp_url(STREAM)).collect();
    let publisher = Publisher::start(&clip, urls, 0);
    trio.owner(STREAM).await.expect("it is published");
    let recorder = Recorder::start(&trio.members, STREAM);
    let (mut before, mut back) = (Granted::new(), Vec::new());
    let acknowledged = Acknowledged::default();
    for round in 1..=asked("CLUSTER_BLACKOUTS", 2) {
        for node in 0..3 {
            recorder.advance(node, 3).await.expect("every node serves the stream");
        }
        let newest: Vec<_> =
            (0..3).map(|node| recorder.ledger.lock().newest(node, "video")).collect();
        claim_until_dead(&mut trio, &acknowledged).await;
        let dark = Instant::now();
        for member in &mut trio.members {
            member.launch(None).expect("it starts");
        }
        for member in &mut trio.members {
            member.ready().await.expect("it is ready");
        }
        let client = trio.members[0].client();
        claims::until_granted(&client, &format!("after/{round}"), PATIENCE).await.expect("a claim");
        back.push(dark.elapsed());
        trio.whole().await.expect("all vote");
        let granted = granted(&trio.members);
        let count: usize = granted.values().map(BTreeMap::len).sum();
        println!(
            "round {round}: {count} claims granted so far, claims again after {:?}",
            back.last()
        );
        went_on(&before, &granted);
        before = granted;
        for (node, newest) in newest.into_iter().enumerate() {
            recorder.advance(node, 3).await.expect("the stream goes on");
            assert!(recorder.ledger.lock().newest(node, "video") > newest, "numbers went back");
        }
    }
    report("all killed, claims again from their start on", &back);
    told_is_granted(&trio.members, &acknowledged.lock());
    judge(&recorder).await;
    publisher.stop().await;
}

/// Every granted claim of `before` is still there, and every new one lies above them.
fn went_on(before: &Granted, after: &Granted) {
    for (name, epochs) in before {
        let now = &after[name];
        let (last, _) = epochs.last_key_value().expect("a name has an epoch");
        assert!(epochs.iter().all(|(epoch, first)| now.get(epoch) == Some(first)));
        let new = now.range(last + 1..).count();
        assert_eq!(now.len(), epochs.len() + new, "{name}: an old epoch was granted anew: {now:?}");
    }
    for (name, epochs) in after {
        let groups: Vec<u64> = epochs.values().copied().collect();
        assert!(groups.is_sorted(), "{name}: groups go back: {epochs:?}");
    }
}

/// All epochs that were ever granted, as the nodes logged them before they told anybody.
fn granted(members: &[Member]) -> Granted {
    let mut granted = Granted::new();
    for member in members {
        for line in member.logged("publishing") {
            let name = line["stream"].as_str().expect("a stream").to_owned();
            let epoch = line["epoch"].as_u64().expect("an epoch");
            let first = line["first_group"].as_u64().expect("a group");
            let twice = granted.entry(name.clone()).or_default().insert(epoch, first);
            assert!(twice.is_none(), "{name}: epoch {epoch} was granted twice");
        }
    }
    granted
}

/// What clients were told had been granted.
fn told_is_granted(members: &[Member], told: &HashMap<(String, usize), usize>) {
    let mut logged: HashMap<(String, usize), usize> = HashMap::new();
    for member in members {
        for line in member.logged("publishing") {
            let name = line["stream"].as_str().unwrap_or_default().to_owned();
            *logged.entry((name, member.place)).or_default() += 1;
        }
    }
    let total: usize = told.values().sum();
    println!("{total} claims were acknowledged");
    assert!(total > 0, "claims were made");
    for (claim, count) in told {
        let known = logged.get(claim).copied().unwrap_or(0);
        assert!(known >= *count, "{claim:?}: {count} acknowledged, {known} granted");
    }
}

async fn claim_until_dead(trio: &mut Trio, acknowledged: &Acknowledged) {
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let clients: Vec<Client> = trio.members.iter().map(Member::client).collect();
    let mut claiming = JoinSet::new();
    for name in 0..NAMES {
        let (clients, stop, acknowledged) =
            (clients.clone(), Arc::clone(&stop), Arc::clone(acknowledged));
        claiming.spawn(async move {
            let stream = format!("claimed/{name}");
            for (turn, node) in (0..clients.len()).cycle().skip(name).enumerate() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // A name that nobody has is granted before the answer. One that another node
                // publishes is taken over when the new publisher's media comes: no proof.
                let own = format!("{stream}/{}/{turn}", began.elapsed().as_nanos());
                match claims::claim(&clients[node], &own).await {
                    Ok(answer) if answer.status == 201 => {
                        *acknowledged.lock().entry((own, node)).or_default() += 1;
                        claims::end(&clients[node], &answer).await;
                    }
                    // The node is dead.
                    Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
                if let Ok(answer) = claims::claim(&clients[node], &stream).await
                    && answer.status == 201
                    && node.is_multiple_of(2)
                {
                    claims::end(&clients[node], &answer).await;
                }
            }
        });
    }
    tokio::time::sleep(CLAIMING).await;
    let kills = trio.members.iter_mut().map(Member::kill);
    for killed in join_all(kills).await {
        killed.expect("it ran");
    }
    stop.store(true, Ordering::Relaxed);
    while claiming.join_next().await.is_some() {}
}
