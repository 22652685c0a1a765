//! Seeded chance: the same seed makes the same simulation, on every machine.
//!
//! Not here: what is drawn for.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Evenly from 0 up to 1, which is left out.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly from 0 up to `end`, which is left out; 0 if that is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// With this mean, as the time to the next of many independent events.
    pub(super) fn waiting(&mut self, mean: f64) -> f64 {
        -(1.0 - self.share()).ln() * mean
    }
}

/// Picks from a list in proportion to weights.
#[derive(Clone, Debug)]
pub(super) struct Weighted {
    /// Sums of the weights so far, up to 1.
    sums: Vec<f64>,
}

impl Weighted {
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        sums.iter_mut().for_each(|at| *at /= sum);
        Self { sums }
    }

    /// By Zipf's law: the n-th weighs 1/n^`exponent`.
    pub(super) fn zipf(count: usize, exponent: f64) -> Self {
        Self::new((1..=count).map(|rank| (rank as f64).powf(-exponent)))
    }

    pub(super) fn pick(&self, chance: &mut Chance) -> usize {
        let at = chance.share();
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_weighs_more_is_picked_more_often() {
        let mut chance = Chance::new(1);
        let zipf = Weighted::zipf(100, 1.0);
        let mut picked = vec![0_u32; 100];
        (0..100_000).for_each(|_| picked[zipf.pick(&mut chance)] += 1);
        let ratio = f64::from(picked[0]) / f64::from(picked[9]);
        assert!((8.0..12.5).contains(&ratio), "{ratio}");
        assert!(picked.iter().all(|count| *count > 0));
    }

    #[test]
    fn waiting_has_its_mean_and_the_seed_decides() {
        let mut chance = Chance::new(7);
        let mean = (0..20_000).map(|_| chance.waiting(3.0)).sum::<f64>() / 20_000.0;
        assert!((2.9..3.1).contains(&mean), "{mean}");
        assert_eq!(Chance::new(7).next(), Chance::new(7).next());
        assert!((0..1_000).all(|_| chance.below(3) < 3));
    }
}
