//! A fault every twenty seconds, by chance from a seed, for as long as one likes.
//!
//! Not here: any single fault's own test (`bytes`, `gateway`).

use std::time::{Duration, Instant};

use headwater_tests::wan::link::Fault;

use crate::{BETWEEN_REGIONS, SEATS, Show, asked, in_namespace};

/// From one fault to the next; it is over before.
const EVERY: Duration = Duration::from_secs(20);
/// How long a node is stopped, or a network cut.
const LASTS: Duration = Duration::from_secs(5);

#[test]
fn whatever_befalls_a_cluster_every_node_plays_in_the_end_and_numbers_never_lie() {
    in_namespace(
        "chaos::whatever_befalls_a_cluster_every_node_plays_in_the_end_and_numbers_never_lie",
        "REGIONS_CHAOS_SECONDS",
        chaos(),
    );
}

/// Chance from a seed (a linear congruential generator; its high bits).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }
}

/// Resident memory of all nodes in MiB, as the kernel counts it.
fn memory_mib(show: &Show) -> Vec<u64> {
    let resident = |pid: Option<u32>| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let members = show.fleet.members.iter();
    members.map(|member| resident(member.pid()).unwrap_or(0) / 1_024).collect()
}

async fn chaos() {
    let mut show = Show::begin().await;
    let seed = asked("REGIONS_SEED", 1);
    let mut chance = Chance(seed.into());
    let began = Instant::now();
    let length = Duration::from_secs(asked("REGIONS_CHAOS_SECONDS", 0).into());
    let mut number = 0;
    while began.elapsed() < length {
        number += 1;
        let next = Instant::now() + EVERY;
        let victim = chance.below(SEATS.len());
        let name = SEATS[victim].name;
        let kind = chance.below(4);
        let what = ["killed", "stopped", "cut off", "on a line that loses 20 %"][kind];
        println!("{:?}: {name} is {what} (seed {seed}, fault {number})", began.elapsed());
        match kind {
            0 => {
                show.fleet.members[victim].kill().await.expect("it ran");
                show.restart(victim).await;
            }
            1 => {
                show.fleet.members[victim].signal("STOP").await.expect("it runs");
                tokio::time::sleep(LASTS).await;
                show.fleet.members[victim].signal("CONT").await.expect("it is there");
            }
            2 => {
                show.fleet.network.fault(name, "*", Fault::Cut).expect("a host");
                tokio::time::sleep(LASTS).await;
                show.fleet.network.mend_all();
            }
            _ => {
                let lossy = Fault::Like(BETWEEN_REGIONS.losing(200_000));
                show.fleet.network.fault(name, "*", lossy).expect("a host");
                tokio::time::sleep(LASTS).await;
                show.fleet.network.mend_all();
            }
        }
        show.fleet.whole().await.expect("all nodes are up again");
        show.flows().await;
        println!("  memory {:?} MiB", memory_mib(&show));
        tokio::time::sleep(next.saturating_duration_since(Instant::now())).await;
    }
    println!("{number} faults in {:?}", began.elapsed());
    show.flows().await;
    show.end().await;
}
