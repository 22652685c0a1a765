//! Several nodes in one process, in virtual time, on a bad day: openraft itself, our state machine
//! and claim protocol, over a network and disks that a seed makes fail.
//!
//! Phase one: delays, losses, reorder, duplicates, partitions, crashes that lose what was not
//! synced, clocks that differ and run at other speeds,
//! leaders that hand over, voters that change. After each step (`check`): no two owners in
//! one epoch, no acknowledged claim lost, no group number used twice, all replicas the same at the
//! same index. Phase two: faults off; all must settle, and every stream can be claimed again. In
//! the end the history of claims must be linearizable (`linear`).
//!
//! `SIM_SEEDS=10000 cargo test -p headwater-cluster --release sim::` runs as many seeds;
//! `SIM_SEED=n` runs one, and with `SIM_TRACE=1` tells what reaches
//! the disks. A seed fixes faults, network, disks, workload and election timeouts.
//! What it does not fix is openraft's tick phase and the order in which tokio's `select!` looks:
//! a failing seed may need a few runs to fail again (`SIM_REPEAT=50`).
//!
//! Open: in about one of 400 seeds (5470 and 5552 did) a debug assertion of openraft's about the
//! order of its own progress stops a node, and the day does not settle. No rule was broken in them.
//! It was not yet seen without messages delivered twice.
//!
//! Not here: QUIC, redb, real clocks; `store::tests` and the tests with real processes have those.

mod check;
mod disk;
mod linear;
mod net;
mod node;
mod publisher;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::world::{Options, Report, World};

/// Chance, from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `from..to`.
    pub(crate) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from).max(1)
    }

    /// True in so many of a thousand cases.
    pub(crate) fn permille(&mut self, permille: u64) -> bool {
        self.next() % 1000 < permille
    }

    /// Another source, so that one use does not shift another's draws.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }
}

/// Tells what happens, when `SIM_TRACE` is set: for one seed.
fn trace(what: impl FnOnce() -> String) {
    if std::env::var_os("SIM_TRACE").is_some() {
        println!("{:>6} ms  {}", TRACE_START.with(|start| start.elapsed().as_millis()), what());
    }
}

thread_local! {
    static TRACE_START: tokio::time::Instant = tokio::time::Instant::now();
}

/// Runs one seed in a runtime of its own.
fn run(seed: u64, options: Options) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|e| e.to_string())?;
    let result = runtime.block_on(World::run(seed, options));
    runtime.shutdown_background();
    result
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs seeds on all cores, and gives the first failure (or the sum of the reports).
fn run_seeds(first: u64, count: u64, options: Options) -> Result<Report, (u64, String)> {
    let next = AtomicU64::new(first);
    let failure = Mutex::new(None);
    let total = Mutex::new(Report::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failure.lock().unwrap().is_some() {
                        break;
                    }
                    match run(seed, options) {
                        Ok(report) => total.lock().unwrap().add(&report),
                        Err(error) => {
                            *failure.lock().unwrap() = Some((seed, error));
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap() {
        Some(failure) => Err(failure),
        None => Ok(total.into_inner().unwrap()),
    }
}

#[test]
fn a_bad_day_breaks_no_rule_and_all_settles() {
    let (first, count) = match env("SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (env("SIM_FIRST").unwrap_or(0), env("SIM_SEEDS").unwrap_or(16)),
    };
    for _ in 0..env("SIM_REPEAT").unwrap_or(1) {
        match run_seeds(first, count, Options::default()) {
            Ok(report) => println!("{count} seeds from {first}: {report:?}"),
            Err((seed, error)) => panic!(
                "seed {seed}: {error}\nreplay: SIM_SEED={seed} SIM_REPEAT=50 \
                 cargo test -p headwater-cluster --lib sim::a_bad_day -- --nocapture"
            ),
        }
    }
}

/// Runs seeds with a planted bug until one notices it; `first` is one that did, to be quick.
fn must_be_caught(first: u64, options: Options) {
    let most = env("SIM_BUG_SEEDS").unwrap_or(400);
    match run_seeds(first, most, options) {
        Ok(report) => panic!("{most} seeds did not notice it: {report:?}"),
        Err((seed, error)) => println!("seed {seed} caught it: {error}"),
    }
}

#[test]
fn a_vote_that_is_not_synced_is_caught() {
    must_be_caught(0, Options { vote_unsynced: true, elections: true, ..Options::default() });
}

#[test]
fn a_leader_that_leads_on_after_a_crash_is_caught() {
    must_be_caught(49, Options { leader_restore: true, ..Options::default() });
}
