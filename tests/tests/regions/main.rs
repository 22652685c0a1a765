//! Nine nodes in three regions as real processes, each on a host of its own: three origins, four
//! relays in one region, two in another; 1 ms within a region, 40 ms and 1 % loss between two. A
//! reader fetches all that any node serves: no name may have two versions, no number go back.
//!
//! Nine nodes are a load for a small machine: each runs when it is asked for, one at a time.
//! ```text
//! cargo nextest run -p headwater-tests -E 'binary(regions)' -j 1 --no-capture   (with these set)
//! REGIONS_SECONDS=300        how long the bytes of all nodes are compared
//! REGIONS_KILLS=20           SIGKILLs of a gateway
//! REGIONS_CHAOS_SECONDS=1800 how long a fault every 20 s goes on
//! CLUSTER_STRICT=1           times are judged, too: on a machine that does nothing else
//! CLUSTER_KEEP=1             a test that fails leaves the nodes' folders and logs behind
//! ```
//! They need root, `ip`, `target/debug/headwater` (or what `E2E_HEADWATER` names) and the static
//! ffmpeg of `tests/run` (or `E2E_FFMPEG`).
//!
//! Not here: the network by itself (`wan`), a cluster on one host (`cluster`).
#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]
#![allow(clippy::print_stdout, reason = "a silent run looks hung")]

mod bytes;
mod chaos;
mod gateway;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use headwater_tests::cluster::fleet::{Seat, origin, relay};
use headwater_tests::cluster::{Clip, Fleet, Publisher, Recorder};
use headwater_tests::wan::Link;

const STREAM: &str = "live/cam";
/// Set in the process that runs inside a namespace of its own.
const INSIDE: &str = "REGIONS_INSIDE_NAMESPACE";
const SEATS: [Seat; 9] = [
    origin("a1", "a"),
    origin("a2", "a"),
    origin("a3", "a"),
    relay("b1", "b"),
    relay("b2", "b"),
    relay("b3", "b"),
    relay("b4", "b"),
    relay("c1", "c"),
    relay("c2", "c"),
];
const INSIDE_REGION: Link = Link::delayed(Duration::from_millis(1));
const BETWEEN_REGIONS: Link = Link::delayed(Duration::from_millis(40)).losing(10_000);

/// A number from the environment.
fn asked(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The allowed time: what is promised, or ten times that where the machine may be busy.
fn allowed(promised: Duration) -> Duration {
    if asked("CLUSTER_STRICT", 0) > 0 { promised } else { promised * 10 }
}

/// Runs a test in a network namespace of its own, as this program anew, if `asked_by` is set in the
/// environment; says so where it is not, or where no namespace can be made.
fn in_namespace(name: &str, asked_by: &str, test: impl Future<Output = ()>) {
    if asked(asked_by, 0) == 0 {
        println!("SKIPPED: set {asked_by}");
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        return runtime.expect("a runtime").block_on(test);
    }
    let root = Command::new("unshare").args(["-n", "ip", "link"]).output();
    if !root.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no network namespace can be made here (root, unshare and ip)");
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command.args(["-n", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]).arg(program);
    command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    assert!(command.status().expect("unshare").success(), "see above");
}

/// A stream that is published at the first origin and recorded on all nodes.
struct Show {
    fleet: Fleet,
    recorder: Recorder,
    publisher: Publisher,
}

impl Show {
    async fn begin() -> Self {
        let links = (INSIDE_REGION, BETWEEN_REGIONS);
        let fleet = Fleet::start(&SEATS, links, &[]).await.expect("nine nodes");
        let clip = Arc::new(Clip::make().await.expect("a clip"));
        let origins = fleet.members.iter().zip(&fleet.seats).filter(|(_, seat)| !seat.relay);
        let urls = origins.map(|(member, _)| member.rtmp_url(STREAM)).collect();
        let publisher = Publisher::start(&clip, urls, 0);
        let recorder = Recorder::start(&fleet.members, STREAM);
        let show = Self { fleet, recorder, publisher };
        show.flows().await;
        show
    }

    /// Starts a node again on its data folder.
    async fn restart(&mut self, place: usize) {
        self.recorder.ledger.lock().begins_anew(place);
        self.fleet.members[place].restart().await.expect("it comes back");
    }

    /// Waits until all nodes have something new.
    async fn flows(&self) {
        for (place, seat) in self.fleet.seats.iter().enumerate() {
            let advanced = self.recorder.advance(place, 5).await;
            advanced.unwrap_or_else(|error| panic!("{} serves the stream: {error:#}", seat.name));
        }
    }

    /// All that the recorder saw must fit together.
    async fn end(self) {
        self.recorder.verify(0..self.fleet.members.len()).await;
        let complaints = {
            let mut ledger = self.recorder.ledger.lock();
            println!("{:?}; {:?}", ledger.totals(), self.fleet.network.counts());
            ledger.judge()
        };
        self.publisher.stop().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
