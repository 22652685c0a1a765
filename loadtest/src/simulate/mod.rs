//! A cluster of a thousand relays and a million viewers on paper: discrete events over a seeded
//! network, with the planner that nodes use.
//!
//! What is real: the planner, first and second parents, when a stream is pulled and let go. What is
//! modelled: a hop is a way and its loss, with the timings that hops have by default; frames are
//! not sent one by one. Not here: load on a real server (`scenario`).

mod chance;
mod crowd;
mod pulls;
mod report;
mod run;
mod world;

use clap::{Args, ValueEnum};
use serde::Serialize;

pub use self::crowd::Curve;
pub use self::report::Report;

use crate::units;

/// To which of its region's nodes a viewer is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// Any of them, as by DNS: each node comes to take nearly every stream
    #[default]
    Any,
    /// By the stream's name: its viewers are together on few nodes, 500 on each
    Stream,
}

/// What to simulate.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Options {
    /// How viewers come
    #[arg(long, value_enum, default_value_t)]
    pub curve: Curve,
    /// Viewers at once
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub viewers: usize,
    /// Relays, spread evenly over the regions; three origins are in the first region
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub relays: usize,
    /// Streams
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub streams: usize,
    /// Regions
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub regions: usize,
    /// How much more some streams are watched than others: the n-th 1/n^X as much as the first
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    pub zipf: f64,
    /// Bit rate of a stream
    #[arg(long, default_value = "4Mbps", value_parser = units::bitrate)]
    pub bitrate: u64,
    /// To which of its region's nodes a viewer is sent
    #[arg(long, value_enum, default_value_t)]
    pub route: Route,
    /// Relays with children that die one by one towards the end
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub kills: usize,
    /// `[relay] gateways`
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub gateways: u32,
    /// `[relay] max_children`
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub max_children: u32,
    /// The same seed makes the same simulation
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

/// Simulates.
///
/// # Errors
/// The options make no sense.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    run::run(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(curve: Curve) -> Options {
        Options {
            curve,
            viewers: 4_000,
            relays: 60,
            streams: 40,
            regions: 4,
            zipf: 1.0,
            bitrate: 4_000_000,
            route: Route::Any,
            kills: 5,
            gateways: 2,
            max_children: 16,
            seed: 3,
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_report_and_another_one_another() {
        let report = run(&options(Curve::Steady)).unwrap();
        let again = run(&options(Curve::Steady)).unwrap();
        assert_eq!(report.json().unwrap(), again.json().unwrap());
        let other = run(&Options { seed: 4, ..options(Curve::Steady) }).unwrap();
        assert_ne!(report.json().unwrap(), other.json().unwrap());
    }

    #[test]
    fn every_viewer_plays_and_freezes_are_short_when_relays_die() {
        let report = run(&options(Curve::Steady)).unwrap();
        let last = report.series.last().unwrap();
        assert_eq!(last.viewers, 4_000, "{last:?}");
        assert_eq!(report.deaths.nodes, 5);
        assert!(report.freeze.count > 0 && report.freeze.max_ms < 1_200.0, "{:?}", report.freeze);
        assert!(report.freeze.p50_ms >= 300.0);
        let (moved, least) = report.churn_in_all();
        assert!(moved < 2.0 * least, "{moved} {least}");
        assert!(last.far_copies >= last.far_copies_least);
        assert!(last.far_copies <= 2 * last.far_copies_least + 200, "{last:?}");
    }

    #[test]
    fn a_flash_crowd_is_fed_by_one_tree_and_a_lost_region_by_the_others() {
        let flash = run(&Options { kills: 0, ..options(Curve::Flash) }).unwrap();
        let last = flash.series.last().unwrap();
        // Each relay once, and whoever the tree needs besides.
        assert!((60..=62).contains(&last.hop_copies), "{last:?}");
        assert!((last.far_copies_least, last.far_copies) == (3, 6), "{last:?}");
        let lost = run(&Options { kills: 0, ..options(Curve::RegionLost) }).unwrap();
        assert_eq!(lost.deaths.nodes, 15);
        assert_eq!(lost.series.last().unwrap().viewers, 4_000);
        let together = run(&Options { kills: 0, route: Route::Stream, ..options(Curve::Steady) });
        let apart = run(&Options { kills: 0, ..options(Curve::Steady) }).unwrap();
        let copies = |report: &Report| report.series.last().unwrap().hop_copies;
        assert!(copies(&together.unwrap()) * 2 < copies(&apart));
    }
}
