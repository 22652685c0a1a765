//! What becomes of a packet between two hosts: pure, and the same for the same seed.
//!
//! Not here: packets and devices (`network`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// One direction between two hosts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// Time that a packet travels.
    pub delay: Duration,
    /// Up to so much is added to it, by chance. Packets may overtake each other then.
    pub jitter: Duration,
    /// Share of the packets that are lost, in parts of a million.
    pub loss_ppm: u32,
    /// What it carries, in bits a second. `None`: everything.
    pub rate_bps: Option<u64>,
}

impl Link {
    /// A link that delays alone.
    #[must_use]
    pub const fn delayed(delay: Duration) -> Self {
        Self { delay, jitter: Duration::ZERO, loss_ppm: 0, rate_bps: None }
    }

    /// The same with loss, in parts of a million.
    #[must_use]
    pub const fn losing(self, loss_ppm: u32) -> Self {
        Self { loss_ppm, ..self }
    }
}

/// A packet waits no longer than this for a link with a rate; one that would is dropped, as the
/// last one in a router's queue is.
pub const QUEUE: Duration = Duration::from_millis(200);

/// All links between hosts, which are numbers here.
#[derive(Debug)]
pub struct Links {
    chance: u64,
    usual: HashMap<(usize, usize), Link>,
    /// Faults, by direction; they hide the usual link.
    faults: HashMap<(usize, usize), Fault>,
    /// Until when a link with a rate is busy.
    busy: HashMap<(usize, usize), Instant>,
    counts: Counts,
}

/// What is wrong with a direction between two hosts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// Nothing gets through.
    Cut,
    /// It behaves like this link instead.
    Like(Link),
}

/// What became of the packets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Carried.
    pub carried: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped since a link was full, cut, or not there.
    pub dropped: u64,
}

impl Links {
    /// No links; chance comes from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            chance: seed,
            usual: HashMap::new(),
            faults: HashMap::new(),
            busy: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Ties two hosts, in both directions.
    pub fn tie(&mut self, one: usize, other: usize, link: Link) {
        self.usual.insert((one, other), link);
        self.usual.insert((other, one), link);
    }

    /// Breaks what lies between two hosts, in both directions.
    pub fn fault(&mut self, one: usize, other: usize, fault: Fault) {
        self.faults.insert((one, other), fault);
        self.faults.insert((other, one), fault);
    }

    /// Mends what lies between two hosts.
    pub fn mend(&mut self, one: usize, other: usize) {
        self.faults.remove(&(one, other));
        self.faults.remove(&(other, one));
    }

    /// Mends everything.
    pub fn mend_all(&mut self) {
        self.faults.clear();
    }

    /// What became of the packets until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When a packet that is sent now arrives; `None`: never.
    pub fn carry(&mut self, now: Instant, from: usize, to: usize, bytes: usize) -> Option<Instant> {
        let way = (from, to);
        let link = match self.faults.get(&way) {
            Some(Fault::Cut) => None,
            Some(Fault::Like(link)) => Some(*link),
            None => self.usual.get(&way).copied(),
        };
        let Some(link) = link else {
            self.counts.dropped += 1;
            return None;
        };
        if u64::from(link.loss_ppm) > self.draw() % 1_000_000 {
            self.counts.lost += 1;
            return None;
        }
        let leaves = match link.rate_bps {
            None => now,
            Some(rate) => {
                let begins = self.busy.get(&way).map_or(now, |busy| now.max(*busy));
                if begins - now > QUEUE {
                    self.counts.dropped += 1;
                    return None;
                }
                let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
                let takes = bits.saturating_mul(1_000_000_000) / rate.max(1);
                let ends = begins + Duration::from_nanos(takes);
                self.busy.insert(way, ends);
                ends
            }
        };
        self.counts.carried += 1;
        let spread = u64::try_from(link.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = if spread == 0 { 0 } else { self.draw() % spread };
        Some(leaves + link.delay + Duration::from_nanos(jitter))
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a beginning of time for the tests")]
mod tests {
    use super::*;

    const LINK: Link = Link::delayed(Duration::from_millis(40));

    fn sent(links: &mut Links, count: usize, bytes: usize) -> Vec<Option<Duration>> {
        let now = Instant::now();
        let packets = (0..count).map(|_| links.carry(now, 0, 1, bytes));
        packets.map(|at| at.map(|at| at - now)).collect()
    }

    #[test]
    fn a_packet_arrives_after_the_links_delay() {
        let mut links = Links::new(1);
        links.tie(0, 1, LINK);
        assert_eq!(sent(&mut links, 2, 1_000), vec![Some(LINK.delay); 2]);
    }

    #[test]
    fn the_stated_share_is_lost_and_the_same_packets_for_the_same_seed() {
        let run = |seed| {
            let mut links = Links::new(seed);
            links.tie(0, 1, LINK.losing(10_000));
            sent(&mut links, 100_000, 1_000)
        };
        let first = run(7);
        assert_eq!(first, run(7));
        assert_ne!(first, run(8));
        let lost = first.iter().filter(|at| at.is_none()).count();
        assert!((900..1_100).contains(&lost), "{lost} of 100000 at 1 %");
    }

    #[test]
    fn a_full_link_queues_then_drops() {
        let mut links = Links::new(1);
        // A packet of 1,000 bytes takes 8 ms.
        links.tie(0, 1, Link { rate_bps: Some(1_000_000), ..LINK });
        let times = sent(&mut links, 100, 1_000);
        assert_eq!(times[1].unwrap() - times[0].unwrap(), Duration::from_millis(8));
        let carried = times.iter().flatten().count();
        assert_eq!(carried, 26, "200 ms of queue hold 25 packets behind the first");
        assert_eq!(links.counts().dropped, 74);
    }

    #[test]
    fn what_is_cut_carries_nothing_until_it_is_mended() {
        let mut links = Links::new(1);
        links.tie(0, 1, LINK);
        links.fault(1, 0, Fault::Cut);
        assert_eq!(sent(&mut links, 1, 100), [None]);
        links.mend(0, 1);
        assert!(sent(&mut links, 1, 100)[0].is_some());
        assert!(links.carry(Instant::now(), 0, 2, 100).is_none(), "no such host");
    }
}
