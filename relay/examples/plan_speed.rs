//! Times the planner: `cargo run --release -p headwater-relay --example plan_speed`.
//!
//! 1,000 relays in ten regions, three origins, 10,000 streams; the median of seven runs on one
//! core. "Whole trees" works out first and second parent of every node for every stream, ten
//! million of each; "one node" what a node needs of that: its own parents for every stream.
//! Not here: that plans are right (the tests).
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use headwater_media::StreamName;
use headwater_media::id::StreamNameError;
use headwater_relay::plan::{Node, Options, Role, Topology};

const RELAYS: u64 = 1_000;
const STREAMS: u64 = 10_000;
const RUNS: usize = 7;

fn nodes(regions: u64, even: bool) -> Vec<Node> {
    let node = |id: u64, role, region: String| {
        let weight = if even { 1_000 } else { 1_000 + u32::try_from(id % 7).unwrap_or(0) * 500 };
        Node { id, role, region, weight, usable: true, draining: false }
    };
    let origins = (1..=3).map(|id| node(id, Role::Origin, "r0".into()));
    let relays = (4..4 + RELAYS).map(|id| node(id, Role::Relay, format!("r{}", id % regions)));
    origins.chain(relays).collect()
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times.get(RUNS / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), StreamNameError> {
    let streams: Vec<StreamName> =
        (0..STREAMS).map(|i| StreamName::parse(&format!("show/{i}"))).collect::<Result<_, _>>()?;
    for (label, regions, even) in [
        ("10 regions, weights alike", 10, true),
        ("10 regions, weights differ", 10, false),
        ("1 region, weights alike", 1, true),
        ("50 regions, weights alike", 50, true),
    ] {
        let nodes = nodes(regions, even);
        let layout = median(|| drop(black_box(Topology::new(&nodes, Options::default()))));
        let topology = Topology::new(&nodes, Options::default());
        let owner = |i: usize| 1 + i as u64 % 3;
        let mut edges = 0;
        let whole = median(|| {
            edges = 0;
            for (i, stream) in streams.iter().enumerate() {
                let plan = topology.plan(stream, owner(i));
                edges += plan.edges().map(black_box).count();
            }
        });
        let firsts = median(|| {
            for (i, stream) in streams.iter().enumerate() {
                black_box(topology.plan(stream, owner(i)).work_out());
            }
        });
        let one = median(|| {
            for (i, stream) in streams.iter().enumerate() {
                black_box(topology.plan(stream, owner(i)).parents(500));
            }
        });
        println!(
            "{label}: topology {layout:.1?}; {STREAMS} streams: whole trees {firsts:.1?}, with all \
             {edges} edges listed {whole:.1?}; one node {one:.1?}"
        );
    }
    Ok(())
}
