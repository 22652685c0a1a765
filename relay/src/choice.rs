//! Which of the nodes that a stream may be taken from it is taken from.
//!
//! Pure. Parents are offered in the order of preference. One that falls silent, refuses, or is
//! about to leave is left for the next at once; a better one is gone back to once it has been
//! steady for a while. Not here: which nodes are offered (`plan`, the node), how a hop is
//! (`hop`), subscribing (`pulls`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Parents that are remembered for their refusals; more are never offered of one stream at a time.
const BLAMED_MAX: usize = 32;
/// A parent that goes on refusing is asked at least this often: a stream begins anew where nobody
/// could foresee it.
const BLAME_MAX: Duration = Duration::from_secs(2);

/// When one parent is left for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChoiceOptions {
    /// A better parent is gone back to when it has been steady for so long (10 s). Shorter mends a
    /// detour sooner, and follows a parent that comes and goes.
    pub return_after: Duration,
    /// How long a stream that nobody brings yet waits for a better parent's connection (300 ms).
    pub open_within: Duration,
    /// How long none of the planned parents may serve before one is asked that is not planned to:
    /// the owner (1 s). By then the cluster has planned anew if nodes died.
    pub last_resort_after: Duration,
    /// A parent that refused is asked again after this time, doubled each time (100 ms).
    pub retry: Duration,
    /// How long a parent may be without the stream itself before another is asked (1 s): it looks
    /// for another parent of its own first.
    pub flow_within: Duration,
}

impl Default for ChoiceOptions {
    fn default() -> Self {
        Self {
            return_after: Duration::from_secs(10),
            open_within: Duration::from_millis(300),
            last_resort_after: Duration::from_secs(1),
            retry: Duration::from_millis(100),
            flow_within: Duration::from_secs(1),
        }
    }
}

/// How an offered parent is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fitness {
    /// Its connection is being made.
    Opening,
    /// It answers, and has since then.
    Ready(Instant),
    /// It does not answer, or is about to leave.
    Unfit,
}

/// A parent that may be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The node.
    pub node: u64,
    /// How it is.
    pub fitness: Fitness,
    /// Whether it is asked only when the others have failed for a while.
    pub last_resort: bool,
}

/// Why a stream is taken from another node than before; a label of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It was taken from nowhere.
    First,
    /// The node before is not planned to bring it any more.
    Planned,
    /// The node before fell silent, ended or is about to.
    Lost,
    /// The node before refused, or has not got the stream itself.
    Refused,
    /// A better one is steady again.
    Better,
}

impl Why {
    /// A short name for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Planned => "planned",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Better => "better",
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The node to take the stream from, if that is another than now.
    pub go: Option<(u64, Why)>,
    /// When to ask again, if nothing happens before.
    pub again_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Blame {
    until: Instant,
    next: Duration,
}

/// One stream's choice; see the module.
#[derive(Clone, Debug)]
pub struct Choice {
    options: ChoiceOptions,
    current: Option<u64>,
    blamed: HashMap<u64, Blame>,
    /// Since when nobody brings the stream; none while somebody does.
    starved_since: Option<Instant>,
    /// Since when the parent of now does not bring it.
    idle_since: Option<Instant>,
    /// Why the last parent was left.
    left: Option<Why>,
}

impl Choice {
    /// Of a stream that is wanted from `now` on.
    #[must_use]
    pub fn new(options: ChoiceOptions, now: Instant) -> Self {
        Self {
            options,
            current: None,
            blamed: HashMap::new(),
            starved_since: Some(now),
            idle_since: None,
            left: None,
        }
    }

    /// The parent of now.
    #[must_use]
    pub fn current(&self) -> Option<u64> {
        self.current
    }

    /// Since when nobody brings the stream; none while somebody does.
    #[must_use]
    pub fn starved_since(&self) -> Option<Instant> {
        self.starved_since
    }

    /// Whether nobody has brought the stream for so long that a last resort is in place.
    #[must_use]
    pub fn starves(&self, now: Instant) -> bool {
        self.starved_since.is_some_and(|since| now >= since + self.options.last_resort_after)
    }

    /// Whether the parent of now brings the stream, as far as it says.
    pub fn observe(&mut self, brings: bool, now: Instant) {
        if brings {
            (self.starved_since, self.idle_since) = (None, None);
            if let Some(node) = self.current {
                self.blamed.remove(&node);
            }
        } else {
            self.starved_since.get_or_insert(now);
            if self.current.is_some() {
                self.idle_since.get_or_insert(now);
            }
        }
    }

    /// The parent of now refuses: others go first for a while.
    pub fn blame(&mut self, now: Instant) {
        let Some(node) = self.leave(Why::Refused, now) else { return };
        self.blamed.retain(|_, blame| now < blame.until + BLAME_MAX * 2);
        if self.blamed.len() >= BLAMED_MAX {
            self.blamed.clear();
        }
        let wait = self.blamed.get(&node).map_or(self.options.retry, |blame| blame.next);
        let blame = Blame { until: now + wait, next: (wait * 2).min(BLAME_MAX) };
        self.blamed.insert(node, blame);
    }

    /// The hop to the parent of now has ended.
    pub fn lost(&mut self, now: Instant) {
        self.leave(Why::Lost, now);
    }

    fn leave(&mut self, why: Why, now: Instant) -> Option<u64> {
        let node = self.current.take()?;
        self.starved_since.get_or_insert(now);
        self.idle_since = None;
        self.left = Some(why);
        Some(node)
    }

    /// The stream has another owner: what was refused before says nothing any more.
    pub fn forgive(&mut self) {
        self.blamed.clear();
    }

    /// Chooses among `offers`, the best first.
    pub fn choose(&mut self, offers: &[Offer], now: Instant) -> Decision {
        let Some(current) = self.current else {
            return self.find(offers, self.left.unwrap_or(Why::First), now);
        };
        let Some((at, offer)) = offers.iter().enumerate().find(|(_, o)| o.node == current) else {
            return self.find(offers, Why::Planned, now);
        };
        if offer.fitness == Fitness::Unfit {
            self.starved_since.get_or_insert(now);
            return self.find(offers, Why::Lost, now);
        }
        let mut again_at = now + self.options.return_after;
        if let Some(since) = self.idle_since {
            let idle_at = since + self.options.flow_within;
            if idle_at <= now {
                return self.find(offers, Why::Refused, now);
            }
            again_at = idle_at;
        }
        for offer in offers.iter().take(at).filter(|offer| !offer.last_resort) {
            let Fitness::Ready(since) = offer.fitness else { continue };
            let clean = self.blamed.get(&offer.node).map_or(since, |blame| since.max(blame.until));
            let steady_at = clean + self.options.return_after;
            if steady_at <= now {
                return Self::go(offer.node, Why::Better, again_at);
            }
            again_at = again_at.min(steady_at);
        }
        Decision { go: None, again_at }
    }

    /// The best one that can serve now, while the parent of now cannot.
    fn find(&mut self, offers: &[Offer], why: Why, now: Instant) -> Decision {
        let mut again_at = now + self.options.open_within;
        let starved_since = self.starved_since.unwrap_or(now);
        let patience_ends = starved_since + self.options.open_within;
        let last_resort_at = starved_since + self.options.last_resort_after;
        let only_resort = offers.iter().all(|offer| offer.last_resort);
        for offer in offers.iter().filter(|offer| Some(offer.node) != self.current) {
            if let Some(blame) = self.blamed.get(&offer.node).filter(|blame| now < blame.until) {
                again_at = again_at.min(blame.until);
                continue;
            }
            if offer.last_resort && !only_resort && now < last_resort_at {
                again_at = again_at.min(last_resort_at);
                continue;
            }
            match offer.fitness {
                Fitness::Ready(_) => {
                    if why == Why::Refused {
                        self.blame(now);
                    }
                    return Self::go(offer.node, why, again_at);
                }
                Fitness::Opening if why == Why::First && now < patience_ends => {
                    return Decision { go: None, again_at: again_at.min(patience_ends) };
                }
                Fitness::Opening | Fitness::Unfit => {}
            }
        }
        Decision { go: None, again_at }
    }

    fn go(node: u64, why: Why, again_at: Instant) -> Decision {
        Decision { go: Some((node, why)), again_at }
    }

    /// The stream is taken from `node` from now on.
    pub fn took(&mut self, node: u64, now: Instant) {
        self.current = Some(node);
        self.idle_since = Some(now);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests begin at some time")]
mod tests {
    use super::*;

    /// Three parents, the third the last resort, and a clock.
    struct Bed {
        choice: Choice,
        start: Instant,
        fitness: [Fitness; 3],
    }

    impl Bed {
        fn new() -> Self {
            let start = Instant::now();
            let choice = Choice::new(ChoiceOptions::default(), start);
            Self { choice, start, fitness: [Fitness::Ready(start); 3] }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn choose(&mut self, ms: u64) -> Option<(u64, Why)> {
            let offers: Vec<_> = (1..)
                .zip(self.fitness)
                .map(|(node, fitness)| Offer { node, fitness, last_resort: node == 3 })
                .collect();
            let now = self.at(ms);
            let go = self.choice.choose(&offers, now).go;
            if let Some((node, _)) = go {
                self.choice.took(node, now);
            }
            go
        }

        fn brings(&mut self, ms: u64) {
            self.choice.observe(true, self.at(ms));
        }
    }

    #[test]
    fn the_first_is_taken_and_a_silent_one_left_at_once_and_gone_back_to_when_steady() {
        let mut bed = Bed::new();
        assert_eq!(bed.choose(0), Some((1, Why::First)));
        bed.brings(10);
        assert_eq!(bed.choose(20), None);
        bed.fitness[0] = Fitness::Unfit;
        assert_eq!(bed.choose(1_000), Some((2, Why::Lost)));
        bed.brings(1_010);
        bed.fitness[0] = Fitness::Ready(bed.at(2_000));
        assert_eq!(bed.choose(11_999), None);
        // It falls silent again: the ten seconds begin anew.
        bed.fitness[0] = Fitness::Ready(bed.at(11_900));
        assert_eq!(bed.choose(12_000), None);
        assert_eq!(bed.choose(21_900), Some((1, Why::Better)));
    }

    #[test]
    fn a_stream_that_nobody_brings_waits_a_moment_for_the_better_parents_connection() {
        let mut bed = Bed::new();
        bed.fitness[0] = Fitness::Opening;
        assert_eq!(bed.choose(0), None);
        assert_eq!(bed.choose(299), None);
        assert_eq!(bed.choose(300), Some((2, Why::First)));
        // Without any other, it waits on.
        let mut bed = Bed::new();
        bed.fitness = [Fitness::Opening, Fitness::Unfit, Fitness::Unfit];
        assert_eq!(bed.choose(2_000), None);
        bed.fitness[0] = Fitness::Ready(bed.at(2_001));
        assert_eq!(bed.choose(2_001), Some((1, Why::First)));
    }

    #[test]
    fn refusals_are_asked_again_ever_more_rarely_and_the_last_resort_comes_after_a_second() {
        let mut bed = Bed::new();
        let mut asked = Vec::new();
        for ms in 0..8_000 {
            if let Some((node, _)) = bed.choose(ms) {
                asked.push((ms, node));
                bed.choice.blame(bed.at(ms));
            }
        }
        let of = |node| asked.iter().filter(move |(_, n)| *n == node).map(|(ms, _)| *ms);
        assert_eq!(of(1).take(5).collect::<Vec<_>>(), [0, 100, 300, 700, 1_500]);
        assert!(of(1).count() <= 9, "{asked:?}");
        assert_eq!(of(3).next(), Some(1_000), "{asked:?}");
    }

    #[test]
    fn a_parent_that_has_not_got_the_stream_itself_is_left_only_for_one_that_may() {
        let mut bed = Bed::new();
        assert_eq!(bed.choose(0), Some((1, Why::First)));
        bed.choice.observe(false, bed.at(5));
        assert_eq!(bed.choose(999), None);
        assert_eq!(bed.choose(1_000), Some((2, Why::Refused)));
        bed.brings(1_100);
        assert_eq!(bed.choose(2_000), None, "blamed ones are no better");
        let mut bed = Bed::new();
        bed.fitness = [Fitness::Ready(bed.start), Fitness::Unfit, Fitness::Unfit];
        assert_eq!(bed.choose(0), Some((1, Why::First)));
        assert_eq!(bed.choose(5_000), None, "there is no other");
        assert_eq!(bed.choice.starved_since(), Some(bed.start));
    }

    #[test]
    fn a_parent_that_is_planned_no_more_is_left_at_once_when_another_is_ready() {
        let mut bed = Bed::new();
        assert_eq!(bed.choose(0), Some((1, Why::First)));
        bed.brings(10);
        let mut offers = [Offer { node: 7, fitness: Fitness::Opening, last_resort: false }; 1];
        assert_eq!(bed.choice.choose(&offers, bed.at(20)).go, None);
        offers[0].fitness = Fitness::Ready(bed.at(30));
        assert_eq!(bed.choice.choose(&offers, bed.at(30)).go, Some((7, Why::Planned)));
    }
}
