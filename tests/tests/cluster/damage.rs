//! A node's disk is damaged or lost: it says so, does not vote, and joins anew.
//!
//! Not here: what else the store refuses (unit tests of `headwater-cluster`).

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use headwater_tests::cluster::member::{PATIENCE, tail};
use headwater_tests::cluster::{Trio, claims};

/// A name that is looked for in the log's file.
const MARK: &str = "damage/look-for-me-in-the-log";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_log_is_damaged_or_lost_says_so_and_joins_anew() {
    let mut trio = Trio::start("damage", &[]).await.expect("three origins");
    let granted = claims::claim(&trio.members[0].client(), MARK).await.expect("an answer");
    assert_eq!(granted.status, 201);
    let after = claims::until_granted(&trio.members[2].client(), "later", PATIENCE).await;
    after.expect("a claim");
    let log = trio.members[2].data().join("cluster/raft.redb");

    trio.members[2].kill().await.expect("it ran");
    let whole = std::fs::read(&log).expect("its log");
    flip(&log, &whole);
    refuses(&mut trio, 2).await;

    let half = whole.len() as u64 / 2;
    std::fs::write(&log, &whole).expect("its log");
    let file = std::fs::OpenOptions::new().write(true).open(&log).expect("its log");
    file.set_len(half).expect("a shorter log");
    drop(file);
    refuses(&mut trio, 2).await;
    joins_anew(&mut trio, 2).await;

    // The first one, which began the cluster, loses everything.
    trio.members[0].kill().await.expect("it ran");
    joins_anew(&mut trio, 0).await;
}

/// Turns one bit in every copy of the mark.
fn flip(log: &Path, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(log).expect("its log");
    let mark = MARK.as_bytes();
    let mut found = 0;
    for (at, _) in bytes.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark) {
        file.write_all_at(&[mark[0] ^ 1], at as u64).expect("written");
        found += 1;
    }
    assert!(found > 0, "the log has the claim");
}

/// It ends at once and says what is wrong and what to do.
async fn refuses(trio: &mut Trio, place: usize) {
    let member = &mut trio.members[place];
    let before = member.log().len();
    member.launch(None).expect("it starts");
    let status = member.ended().await.expect("it ends by itself");
    assert_eq!(status.code(), Some(1));
    let log = member.log();
    let said = tail(&log[before..]);
    println!("{said}");
    for word in ["raft.redb", "damaged", "join-token"] {
        assert!(said.contains(word), "it says {word}: {said}");
    }
}

/// The old one is removed, and a new one with its name and addresses joins by a token.
async fn joins_anew(trio: &mut Trio, place: usize) {
    let by = (place + 1) % 3;
    std::fs::remove_dir_all(trio.members[place].data()).expect("its data is gone");
    let name = format!("node-{}", place + 1);
    let said = trio.members[by].command(&format!("cluster remove {name}")).await.expect("it ends");
    assert!(said.status.success(), "{}", said.err);
    trio.join(place, by).await.expect("it joins anew");
    trio.whole().await.expect("it votes");
    let client = trio.members[place].client();
    let took = claims::until_granted(&client, &format!("anew/{place}"), PATIENCE).await;
    println!("{name} joined anew; its first claim took {:?}", took.expect("it takes publishers"));
}
