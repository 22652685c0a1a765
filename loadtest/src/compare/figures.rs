//! Figures of two servers that ran in turn, as ratios with their spread.
//!
//! Each round has one run of either, side by side in time, so that what slows the machine for a
//! while slows both: the ratio is taken within a round, and the median over rounds is what counts.
//! Not here: measuring.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// One figure, a value a round for each server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figure {
    /// What it is, with its unit: `cpu_us_per_request`.
    pub name: String,
    /// The first server's values.
    pub a: Vec<f64>,
    /// The second server's values.
    pub b: Vec<f64>,
}

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of `values`; none where there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.3} ({:.3} to {:.3})", self.median, self.min, self.max)
    }
}

impl Figure {
    /// Second over first, round by round.
    #[must_use]
    pub fn ratio(&self) -> Option<Spread> {
        let ratios: Vec<f64> =
            self.a.iter().zip(&self.b).filter(|(a, _)| **a != 0.0).map(|(a, b)| b / a).collect();
        Spread::of(&ratios)
    }
}

/// A limit: `cpu_us_per_request=1.3`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The figure's name.
    pub figure: String,
    /// What it must not exceed.
    pub most: f64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not like cpu_us_per_playlist_request=1.3");
        let (figure, most) = text.split_once('=').ok_or_else(wrong)?;
        let most = most.parse().ok().filter(|most: &f64| *most > 0.0).ok_or_else(wrong)?;
        Ok(Self { figure: figure.to_owned(), most })
    }
}

/// Two servers, compared.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// The first.
    pub a: String,
    /// The second.
    pub b: String,
    /// What both did.
    pub what: String,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What should be known of the figures.
    pub notes: Vec<String>,
    /// The limits that were missed, in words.
    pub broken: Vec<String>,
}

impl Comparison {
    /// Takes down a value of the first server.
    pub fn a(&mut self, name: &str, value: f64) {
        self.figure(name).a.push(value);
    }

    /// Takes down a value of the second server.
    pub fn b(&mut self, name: &str, value: f64) {
        self.figure(name).b.push(value);
    }

    fn figure(&mut self, name: &str) -> &mut Figure {
        let found = self.figures.iter().position(|figure| figure.name == name);
        let at = found.unwrap_or_else(|| {
            self.figures.push(Figure { name: name.to_owned(), ..Figure::default() });
            self.figures.len() - 1
        });
        // The index is that of a figure found or just pushed.
        #[allow(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut self.figures[at]
    }

    /// Holds ratios to limits.
    pub fn hold_ratios(&mut self, limits: &[Limit]) {
        for limit in limits {
            let figure = self.figures.iter().find(|figure| figure.name == limit.figure);
            match figure.and_then(Figure::ratio) {
                Some(ratio) if ratio.median <= limit.most => {}
                Some(ratio) => self.broken.push(format!(
                    "{}: ratio {:.3} ({:.3} to {:.3}) is above {}",
                    limit.figure, ratio.median, ratio.min, ratio.max, limit.most
                )),
                None => self.broken.push(format!("{}: was not measured", limit.figure)),
            }
        }
    }

    /// Holds the second server's median to a limit.
    pub fn hold_b(&mut self, limit: &Limit) {
        let figure = self.figures.iter().find(|figure| figure.name == limit.figure);
        match figure.and_then(|figure| Spread::of(&figure.b)) {
            Some(spread) if spread.median <= limit.most => {}
            Some(spread) => self.broken.push(format!(
                "{} of {}: {:.3} is above {}",
                limit.figure, self.b, spread.median, limit.most
            )),
            None => self.broken.push(format!("{}: was not measured", limit.figure)),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.figures.iter().map(|figure| figure.a.len()).max().unwrap_or(0);
        writeln!(f, "A  {}\nB  {}\n{}, {rounds} rounds of A B\n", self.a, self.b, self.what)?;
        writeln!(f, "median (least to greatest)")?;
        for figure in &self.figures {
            writeln!(f, "{}", figure.name)?;
            for (name, spread) in [
                ("A", Spread::of(&figure.a)),
                ("B", Spread::of(&figure.b)),
                ("B/A", figure.ratio()),
            ] {
                if let Some(spread) = spread {
                    writeln!(f, "  {name:<4}{spread}")?;
                }
            }
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for broken in &self.broken {
            writeln!(f, "MISSED  {broken}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_with_both_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 10.0 });
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[f64::NAN, 1.0]).unwrap().median, 1.0);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut compared = Comparison::default();
        // The machine was twice as slow in the second round.
        for (a, b) in [(10.0, 12.0), (20.0, 24.0), (10.0, 11.0)] {
            compared.a("cpu_us", a);
            compared.b("cpu_us", b);
        }
        let ratio = compared.figures[0].ratio().unwrap();
        assert_eq!(ratio, Spread { median: 1.2, min: 1.1, max: 1.2 });
    }

    #[test]
    fn limits_that_are_missed_are_told() {
        let mut compared = Comparison { b: "node".to_owned(), ..Comparison::default() };
        compared.a("cpu_us", 10.0);
        compared.b("cpu_us", 14.0);
        let limit = |text: &str| text.parse::<Limit>().unwrap();
        compared.hold_ratios(&[limit("cpu_us=1.5")]);
        compared.hold_b(&limit("cpu_us=14"));
        assert!(compared.broken.is_empty());
        compared.hold_ratios(&[limit("cpu_us=1.3"), limit("other=1")]);
        compared.hold_b(&limit("cpu_us=13.9"));
        assert_eq!(compared.broken.len(), 3);
        assert!(compared.to_string().contains("MISSED  cpu_us: ratio 1.400"));
        assert!("cpu_us".parse::<Limit>().is_err() && "a=-1".parse::<Limit>().is_err());
    }
}
