//! When viewers come, where and for which stream.
//!
//! Not here: what they find (`run`).

use clap::ValueEnum;

use super::chance::{Chance, Weighted};

/// How viewers come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// They come over a minute, watch for ten on average, and are replaced
    #[default]
    Steady,
    /// A third is there; the others come within ten seconds for one stream
    Goal,
    /// All come within five seconds for one stream that nobody watched before
    Flash,
    /// As `steady`; after 90 seconds a region dies, and its viewers go to the nearest others
    RegionLost,
}

const SECOND_US: u64 = 1_000_000;
/// Until when a steady crowd has come.
const RAMP_US: u64 = 60 * SECOND_US;
/// When the goal is scored, and how long the others then take to come.
const GOAL_US: u64 = 90 * SECOND_US;
const GOAL_WITHIN_US: u64 = 10 * SECOND_US;
/// When a flash crowd begins to come, and how long it takes.
const FLASH_US: u64 = 10 * SECOND_US;
const FLASH_WITHIN_US: u64 = 5 * SECOND_US;
/// When the region dies.
pub(super) const LOST_US: u64 = 90 * SECOND_US;
/// The share of a crowd that is there before a goal.
const BEFORE_GOAL: f64 = 1.0 / 3.0;
/// How long a viewer watches on average, in microseconds.
const WATCHED_US: f64 = 600.0 * 1e6;

/// A viewer who comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    pub(super) at_us: u64,
    pub(super) stream: usize,
    pub(super) region: usize,
    /// Until it leaves; none if it stays to the end.
    pub(super) watches_us: Option<u64>,
}

/// Draws viewers.
pub(super) struct Crowd {
    curve: Curve,
    viewers: usize,
    streams: Weighted,
    regions: u64,
    chance: Chance,
}

impl Crowd {
    pub(super) fn new(
        curve: Curve,
        viewers: usize,
        streams: Weighted,
        regions: usize,
        chance: Chance,
    ) -> Self {
        Self { curve, viewers, streams, regions: regions as u64, chance }
    }

    /// Everybody who comes of their own accord.
    pub(super) fn arrivals(&mut self) -> Vec<Arrival> {
        (0..self.viewers).map(|viewer| self.arrival(viewer)).collect()
    }

    fn arrival(&mut self, viewer: usize) -> Arrival {
        let before = (self.viewers as f64 * BEFORE_GOAL) as usize;
        match self.curve {
            Curve::Goal if viewer >= before => {
                let at_us = GOAL_US + self.chance.below(GOAL_WITHIN_US);
                Arrival { at_us, stream: 0, region: self.region(), watches_us: None }
            }
            Curve::Flash => {
                let at_us = FLASH_US + self.chance.below(FLASH_WITHIN_US);
                Arrival { at_us, stream: 0, region: self.region(), watches_us: None }
            }
            Curve::Steady | Curve::Goal | Curve::RegionLost => {
                let at_us = self.chance.below(RAMP_US);
                self.anybody(at_us)
            }
        }
    }

    /// Who comes in the place of one who left.
    pub(super) fn anybody(&mut self, at_us: u64) -> Arrival {
        let stream = self.streams.pick(&mut self.chance);
        let watches_us = Some(self.chance.waiting(WATCHED_US) as u64);
        Arrival { at_us, stream, region: self.region(), watches_us }
    }

    fn region(&mut self) -> usize {
        self.chance.below(self.regions) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(curve: Curve) -> Vec<Arrival> {
        Crowd::new(curve, 3_000, Weighted::zipf(10, 1.0), 4, Chance::new(5)).arrivals()
    }

    #[test]
    fn two_thirds_come_for_one_stream_when_a_goal_is_scored() {
        let goal = crowd(Curve::Goal);
        let late: Vec<_> = goal.iter().filter(|one| one.at_us >= GOAL_US).collect();
        assert_eq!((goal.len(), late.len()), (3_000, 2_000));
        assert!(late.iter().all(|one| one.stream == 0 && one.at_us < GOAL_US + GOAL_WITHIN_US));
    }

    #[test]
    fn a_steady_crowd_comes_over_a_minute_for_all_streams_and_a_flash_crowd_at_once() {
        let steady = crowd(Curve::Steady);
        assert!(steady.iter().all(|one| one.at_us < RAMP_US && one.watches_us.is_some()));
        assert!((0..10).all(|stream| steady.iter().any(|one| one.stream == stream)));
        assert!(crowd(Curve::Flash).iter().all(|one| one.stream == 0 && one.at_us >= FLASH_US));
        assert_eq!(crowd(Curve::RegionLost).len(), 3_000);
    }
}
