//! What was measured of the links between nodes, made coarse and slow enough to plan with.
//!
//! A tree that followed every measurement would never stand still. So a node tells of its way to a
//! region only a [`Grade`], of which there are few, and a [`Gauge`] changes it only when what is
//! measured is past the next grade's bound by a margin, for a while. What the nodes have told is
//! the [`Links`] that all plan with.
//!
//! Not here: measuring (`clock`, `hop`), how nodes tell each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How good a node's way to a region is: 0 the best, each further one half as good for carrying a
/// stream from there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Grade(u8);

impl Grade {
    /// The worst.
    pub const WORST: Self = Self(4);

    /// The grade of this number; the worst of those above [`Grade::WORST`].
    #[must_use]
    pub fn new(number: u8) -> Self {
        Self(number).min(Self::WORST)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

/// Bounds of the grades 1, 2, … in microseconds of burden (see [`Measured::burden`]): a link within
/// a city, a country, a continent, an ocean.
const BOUNDS_MICROS: [u64; Grade::WORST.0 as usize] = [25_000, 75_000, 150_000, 300_000];

/// How far past a bound the burden must be for the grade to change, in eighths of the bound.
const MARGIN_EIGHTHS: u64 = 2;

/// For how long: shorter than this is weather.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// What each thousandth of loss weighs, in microseconds of round trip: at 1 % the group streams of
/// a hop lose about as much time as on a link that is 50 ms longer.
const MICROS_A_THOUSANDTH: u64 = 5_000;

/// What a node measures of its way to another region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Measured {
    /// The shortest round trip of late.
    pub round_trip: Duration,
    /// Packets lost of late, in thousandths of those sent.
    pub lost_thousandths: u32,
}

impl Measured {
    /// Round trip and loss as one number, in microseconds.
    #[must_use]
    pub fn burden(self) -> u64 {
        let lost = u64::from(self.lost_thousandths.min(1_000)) * MICROS_A_THOUSANDTH;
        u64::try_from(self.round_trip.as_micros()).unwrap_or(u64::MAX).saturating_add(lost)
    }
}

/// Turns a node's measurements of its way to one region into its grade.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    grade: Option<Grade>,
    /// The grade that it would be, and since when.
    other: Option<(Grade, Duration)>,
}

impl Gauge {
    /// The grade that stands; none before the first measurement.
    #[must_use]
    pub fn grade(&self) -> Option<Grade> {
        self.grade
    }

    /// Takes a measurement of the time `now`, counted from any fixed moment. Tells the new grade
    /// if it changes.
    pub fn take(&mut self, measured: Measured, now: Duration) -> Option<Grade> {
        let burden = measured.burden();
        let Some(grade) = self.grade else {
            self.grade = Some(plain(burden));
            return self.grade;
        };
        let wanted = past_margin(burden, grade);
        if wanted == grade {
            self.other = None;
            return None;
        }
        // It need not be the same other grade all the while, if it is on the same side.
        let same_side = |other: Grade| (other > grade) == (wanted > grade);
        let since = match self.other {
            Some((other, since)) if same_side(other) => since,
            _ => now,
        };
        self.other = Some((wanted, since));
        if now.saturating_sub(since) < SETTLED_AFTER {
            return None;
        }
        (self.grade, self.other) = (Some(wanted), None);
        self.grade
    }
}

fn plain(burden: u64) -> Grade {
    let passed = BOUNDS_MICROS.iter().filter(|bound| burden >= **bound).count();
    Grade::new(u8::try_from(passed).unwrap_or(u8::MAX))
}

/// The grade of a burden that counts as past a bound only by the margin.
fn past_margin(burden: u64, grade: Grade) -> Grade {
    let up = plain(burden.saturating_mul(8) / (8 + MARGIN_EIGHTHS));
    let down = plain(burden.saturating_mul(8) / (8 - MARGIN_EIGHTHS));
    if up > grade {
        up
    } else if down < grade {
        down
    } else {
        grade
    }
}

/// The grades of nodes' ways to regions, as all nodes know them. A way of which nothing is told
/// has the best grade.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Links {
    grades: BTreeMap<(u64, String), Grade>,
}

impl Links {
    /// Sets the grade of the way of the node numbered `node` to a region.
    pub fn set(&mut self, node: u64, region: &str, grade: Grade) {
        self.grades.insert((node, region.to_owned()), grade);
    }

    /// The grade of a way.
    #[must_use]
    pub fn grade(&self, node: u64, region: &str) -> Grade {
        self.grades.get(&(node, region.to_owned())).copied().unwrap_or_default()
    }

    /// The weight of a node as one that carries from a region.
    pub(super) fn weigh(&self, node: u64, region: Option<&str>, weight: u32) -> u64 {
        let grade = region.map_or(Grade::default(), |region| self.grade(node, region));
        // Shifted up first, so that a small weight does not vanish.
        (u64::from(weight.max(1)) << Grade::WORST.0) >> grade.0
    }

    /// The regions of which anything is told by one of `nodes`.
    pub(super) fn regions_of(&self, nodes: impl Iterator<Item = u64>) -> BTreeSet<String> {
        if self.grades.is_empty() {
            return BTreeSet::new();
        }
        let nodes: BTreeSet<u64> = nodes.collect();
        let told = self.grades.keys().filter(|(node, _)| nodes.contains(node));
        told.map(|(_, region)| region.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(round_trip: u64) -> Measured {
        Measured { round_trip: Duration::from_millis(round_trip), lost_thousandths: 0 }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_grade_changes_only_past_a_margin_and_only_when_that_lasts() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.take(ms(70), at(0)), Some(Grade(1)));
        // Past the bound of 75 ms, but not by a quarter.
        for second in 1..60 {
            assert_eq!(gauge.take(ms(90), at(second)), None);
        }
        // Past the margin, but with calm in between.
        for second in 60..120 {
            let measured = if second % 9 == 0 { ms(80) } else { ms(100) };
            assert_eq!(gauge.take(measured, at(second)), None, "{second}");
        }
        assert_eq!(gauge.take(ms(80), at(120)), None);
        assert_eq!(gauge.take(ms(100), at(121)), None);
        assert_eq!(gauge.take(ms(400), at(130)), None);
        assert_eq!(gauge.take(ms(100), at(131)), Some(Grade(2)));
        // And back: below 75 ms by a quarter.
        assert_eq!(gauge.take(ms(60), at(132)), None);
        assert_eq!(gauge.take(ms(60), at(151)), None);
        assert_eq!(gauge.take(ms(50), at(152)), None);
        assert_eq!(gauge.take(ms(50), at(162)), Some(Grade(1)));
    }

    #[test]
    fn loss_weighs_like_a_longer_way() {
        let lossy = Measured { lost_thousandths: 10, ..ms(40) };
        assert_eq!(lossy.burden(), ms(90).burden());
        assert_eq!(plain(u64::MAX), Grade::WORST);
        assert_eq!(plain(0), Grade::default());
    }

    #[test]
    fn a_node_with_a_bad_way_to_a_region_weighs_less_for_what_comes_from_there_alone() {
        let mut links = Links::default();
        links.set(1, "us", Grade::new(2));
        assert_eq!(links.weigh(1, Some("us"), 100) * 4, links.weigh(1, Some("eu"), 100));
        assert_eq!(links.weigh(1, None, 100), links.weigh(2, Some("us"), 100));
        assert!(links.weigh(1, Some("us"), 0) > 0);
        assert_eq!(links.regions_of([1].into_iter()).len(), 1);
        assert!(links.regions_of([2].into_iter()).is_empty());
    }
}
