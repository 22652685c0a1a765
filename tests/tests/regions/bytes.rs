//! The same bytes on all nodes, while one relay is killed and another one drained.
//!
//! Not here: how long viewers wait (`gateway`).

use std::time::{Duration, Instant};

use crate::{Show, asked, in_namespace};

#[test]
fn nine_nodes_in_three_regions_serve_the_same_bytes_while_relays_die_and_drain() {
    in_namespace(
        "bytes::nine_nodes_in_three_regions_serve_the_same_bytes_while_relays_die_and_drain",
        "REGIONS_SECONDS",
        same_bytes(),
    );
}

async fn same_bytes() {
    let mut show = Show::begin().await;
    let length = Duration::from_secs(asked("REGIONS_SECONDS", 12).into());
    let began = Instant::now();
    let (killed, drained) =
        (show.fleet.place("b1").expect("b1"), show.fleet.place("b2").expect("b2"));
    tokio::time::sleep(length / 4).await;
    show.fleet.members[killed].kill().await.expect("it ran");
    println!("b1 is killed after {:?}", began.elapsed());
    tokio::time::sleep(length / 4).await;
    show.restart(killed).await;
    let said = show.fleet.members[0].command("cluster drain b2").await.expect("it runs");
    assert!(said.status.success(), "{}", said.err);
    tokio::time::sleep(length / 8).await;
    show.fleet.members[drained].signal("TERM").await.expect("it runs");
    show.fleet.members[drained].ended().await.expect("it ends by itself");
    println!("b2 was drained after {:?}", began.elapsed());
    show.restart(drained).await;
    tokio::time::sleep(length.saturating_sub(began.elapsed())).await;
    show.fleet.whole().await.expect("all nodes are up");
    show.flows().await;
    show.end().await;
}
