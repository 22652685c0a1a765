//! The simulated time: one thing happens after the other, in the order of their times.
//!
//! Not here: what viewers want (`crowd`), who takes what from whom (`pulls`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use headwater_relay::plan::Options as TreeOptions;

use super::chance::{Chance, Weighted};
use super::crowd::{Arrival, Crowd, Curve, LOST_US};
use super::pulls::{Moved, Pulls};
use super::report::{Churn, Deaths, Load, Report, Sample};
use super::world::World;
use super::{Options, Route};
use crate::histogram::Histogram;

const SECOND_US: u64 = 1_000_000;
/// How long is simulated.
const END_US: u64 = 150 * SECOND_US;
/// When single nodes begin to die, and one after the other.
const KILLS_FROM_US: u64 = 110 * SECOND_US;
const KILL_EVERY_US: u64 = 1_500_000;
/// A stream is kept so long after the last who wanted it (`[relay] linger`).
const LINGER_US: u64 = 30 * SECOND_US;
/// A parent is silent after so long (`HopOptions::silent_after`), as noticed within one question
/// and answer (`ping_interval`).
const SILENT_US: u64 = 300_000;
const PING_US: u64 = 100_000;
/// From a node's death to the new plan everywhere: suspicion (300 ms), a second observer, a commit.
const REPLAN_US: u64 = 600_000;
/// How long a viewer of a dead node takes to try another one: from one to two and a half seconds.
const PLAYER_US: (u64, u64) = (SECOND_US, 1_500_000);
/// A viewer's round trip to its node: from 10 to 60 ms; and how many its start takes beside the
/// stream's own way: TCP and TLS (2), offer and answer (1), ICE (1), DTLS (1).
const ACCESS_US: (u64, u64) = (10_000, 50_000);
const ACCESS_ROUND_TRIPS: u64 = 5;
/// With `--route stream` a node has so many viewers of a stream before the next one gets any.
const TOGETHER: u32 = 500;

enum Event {
    Arrive { arrival: Arrival, lost_us: Option<u64> },
    Leave { stream: usize, node: usize },
    Linger { stream: usize, node: usize, since_us: u64 },
    Kill,
    LoseRegion,
    Switch { stream: usize, node: usize, since_us: u64 },
    Replan,
    Sample,
}

struct Timed(u64, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Run<'a> {
    options: &'a Options,
    world: World,
    pulls: Pulls,
    crowd: Crowd,
    chance: Chance,
    /// Where each region's viewers play.
    serving: Vec<Vec<usize>>,
    events: BinaryHeap<Reverse<Timed>>,
    count: u64,
    startup: Histogram,
    wait: Histogram,
    deaths: Deaths,
    freeze: Histogram,
    moved_viewers: Histogram,
    churn: Vec<Churn>,
    series: Vec<Sample>,
}

/// Simulates.
///
/// # Errors
/// The options make no sense.
pub(super) fn run(options: &Options) -> anyhow::Result<Report> {
    anyhow::ensure!(options.streams > 0 && options.relays > 0, "no streams or no relays");
    let tree = TreeOptions { gateways: options.gateways, max_children: options.max_children };
    let mut chance = Chance::new(options.seed);
    let world = World::new(options.relays, options.regions, tree, &mut chance);
    let popularity = Weighted::zipf(options.streams, options.zipf);
    let seed = Chance::new(chance.next());
    let crowd = Crowd::new(options.curve, options.viewers, popularity, world.regions(), seed);
    let pulls = Pulls::new(&world, options.streams, SILENT_US)?;
    let serving = (0..world.regions()).map(|region| world.serving(region)).collect();
    let mut run = Run {
        options,
        world,
        pulls,
        crowd,
        chance,
        serving,
        events: BinaryHeap::new(),
        count: 0,
        startup: Histogram::default(),
        wait: Histogram::default(),
        deaths: Deaths::default(),
        freeze: Histogram::default(),
        moved_viewers: Histogram::default(),
        churn: Vec::new(),
        series: Vec::new(),
    };
    run.begin();
    while let Some(Reverse(Timed(now_us, _, event))) = run.events.pop() {
        if now_us > END_US {
            break;
        }
        run.happen(event, now_us);
    }
    Ok(run.report())
}

impl Run<'_> {
    fn at(&mut self, at_us: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse(Timed(at_us, self.count, event)));
    }

    fn begin(&mut self) {
        for arrival in self.crowd.arrivals() {
            self.at(arrival.at_us, Event::Arrive { arrival, lost_us: None });
        }
        for kill in 0..self.options.kills as u64 {
            self.at(KILLS_FROM_US + kill * KILL_EVERY_US, Event::Kill);
        }
        if self.options.curve == Curve::RegionLost {
            self.at(LOST_US, Event::LoseRegion);
        }
        for second in 1..=END_US / SECOND_US {
            self.at(second * SECOND_US, Event::Sample);
        }
    }

    fn happen(&mut self, event: Event, now_us: u64) {
        match event {
            Event::Arrive { arrival, lost_us } => self.arrive(arrival, lost_us, now_us),
            Event::Leave { stream, node } => self.leave(stream, node, now_us),
            Event::Linger { stream, node, since_us } => {
                if let Some(parent) = self.pulls.let_go(stream, node, since_us, now_us) {
                    self.linger(stream, parent, now_us);
                }
            }
            Event::Kill => {
                let feeds = |node: &usize| {
                    let site = &self.world.sites[*node];
                    site.alive && !site.origin && self.pulls.copies[*node] > 0
                };
                let feeders: Vec<usize> = (0..self.world.sites.len()).filter(feeds).collect();
                let one = self.chance.below(feeders.len() as u64) as usize;
                if let Some(node) = feeders.get(one) {
                    self.die(&[*node], now_us);
                }
            }
            Event::LoseRegion => {
                let region = self.world.regions() - 1;
                let sites = self.world.sites.iter().enumerate();
                let there = |(node, site): (usize, &super::world::Site)| {
                    (site.region == region && !site.origin).then_some(node)
                };
                let lost: Vec<usize> = sites.filter_map(there).collect();
                self.die(&lost, now_us);
            }
            Event::Switch { stream, node, since_us } => self.switch(stream, node, since_us, now_us),
            Event::Replan => self.replan(now_us),
            Event::Sample => self.sample(now_us),
        }
    }

    fn route(&mut self, arrival: &Arrival) -> Option<usize> {
        let nodes = self.serving.get(arrival.region)?;
        match self.options.route {
            Route::Any => nodes.get(self.chance.below(nodes.len() as u64) as usize).copied(),
            Route::Stream => {
                let from = Chance::new(arrival.stream as u64).below(nodes.len() as u64) as usize;
                let near = nodes.iter().cycle().skip(from).take(nodes.len());
                let room = |node: &&usize| {
                    let pull = self.pulls.get(arrival.stream, **node);
                    self.world.sites[**node].alive
                        && pull.is_none_or(|pull| pull.viewers < TOGETHER)
                };
                let all_full = nodes.get(self.chance.below(nodes.len() as u64) as usize);
                near.clone().find(room).or(all_full).copied()
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival, lost_us: Option<u64>, now_us: u64) {
        let Some(node) = self.route(&arrival) else { return };
        if !self.world.sites[node].alive {
            // The balancer does not know yet.
            let lost_us = Some(lost_us.unwrap_or(now_us));
            self.at(now_us + PLAYER_US.0, Event::Arrive { arrival, lost_us });
            return;
        }
        let access_us = ACCESS_ROUND_TRIPS * (ACCESS_US.0 + self.chance.below(ACCESS_US.1));
        let ready_us = self.pulls.want(&self.world, &mut self.chance, arrival.stream, node, now_us);
        self.pulls.enter(arrival.stream, node);
        match lost_us {
            None => {
                self.wait.record(ready_us - now_us);
                self.startup.record(ready_us - now_us + access_us);
            }
            Some(lost_us) => self.moved_viewers.record(ready_us + access_us - lost_us),
        }
        if let Some(watches_us) = arrival.watches_us {
            self.at(now_us + watches_us, Event::Leave { stream: arrival.stream, node });
        }
    }

    fn leave(&mut self, stream: usize, node: usize, now_us: u64) {
        if !self.world.sites[node].alive {
            // It moved when the node died, and was given another time to leave.
            return;
        }
        if self.pulls.leave(stream, node, now_us) {
            self.linger(stream, node, now_us);
        }
        let arrival = self.crowd.anybody(now_us);
        self.at(now_us, Event::Arrive { arrival, lost_us: None });
    }

    fn linger(&mut self, stream: usize, node: usize, now_us: u64) {
        self.at(now_us + LINGER_US, Event::Linger { stream, node, since_us: now_us });
    }

    fn die(&mut self, nodes: &[usize], now_us: u64) {
        nodes.iter().for_each(|node| self.world.sites[*node].alive = false);
        for node in nodes {
            self.deaths.nodes += 1;
            let region = self.world.sites[*node].region;
            for (stream, viewers, orphans) in self.pulls.die(*node, now_us) {
                self.deaths.viewers += u64::from(viewers);
                for _ in 0..viewers {
                    let at_us = now_us + PLAYER_US.0 + self.chance.below(PLAYER_US.1);
                    let watches_us = self.crowd.anybody(at_us).watches_us;
                    let arrival = Arrival { at_us, stream, region, watches_us };
                    self.at(at_us, Event::Arrive { arrival, lost_us: Some(now_us) });
                }
                for orphan in orphans {
                    if !self.world.sites[orphan].alive {
                        continue;
                    }
                    self.deaths.orphans += 1;
                    let noticed_us = now_us + SILENT_US + self.chance.below(PING_US);
                    let event = Event::Switch { stream, node: orphan, since_us: now_us };
                    self.at(noticed_us, event);
                }
            }
        }
        self.at(now_us + REPLAN_US, Event::Replan);
    }

    fn switch(&mut self, stream: usize, node: usize, since_us: u64, now_us: u64) {
        let goes_on = self.pulls.switch(&self.world, &mut self.chance, stream, node, now_us);
        let Some(goes_on_us) = goes_on else { return };
        for _ in 0..self.pulls.viewers_below(stream, node) {
            self.freeze.record(goes_on_us - since_us);
        }
    }

    fn replan(&mut self, now_us: u64) {
        let usable = |world: &World| world.sites.iter().filter(|site| site.usable).count();
        let before = usable(&self.world);
        self.world.sites.iter_mut().for_each(|site| site.usable &= site.alive);
        let left = before - usable(&self.world);
        if left == 0 {
            return;
        }
        let Moved { edges, of } = self.pulls.replan(&self.world, &mut self.chance, now_us);
        self.churn.push(Churn { nodes: before, left, edges: of, moved: edges });
        let regions = 0..self.world.regions();
        self.serving = regions.map(|region| self.world.serving(region)).collect();
    }

    fn egress_mbps(&self) -> Vec<f64> {
        let sends = self.pulls.copies.iter().zip(&self.pulls.viewers);
        let each = self.options.bitrate as f64 / 1e6;
        sends.map(|(copies, viewers)| (copies + viewers) as f64 * each).collect()
    }

    fn sample(&mut self, now_us: u64) {
        let copies = self.pulls.count(&self.world);
        let egress = self.egress_mbps();
        self.series.push(Sample {
            at_s: now_us as f64 / 1e6,
            viewers: self.pulls.viewers.iter().sum(),
            hop_copies: copies.hops,
            far_copies: copies.far,
            far_copies_least: copies.far_least,
            node_mbps_max: egress.iter().copied().fold(0.0, f64::max),
            node_mbps_mean: egress.iter().sum::<f64>() / egress.len().max(1) as f64,
        });
    }

    fn report(self) -> Report {
        let alive = |origin: bool| {
            let mut egress: Vec<f64> = self
                .egress_mbps()
                .into_iter()
                .zip(&self.world.sites)
                .filter(|(_, site)| site.alive && site.origin == origin)
                .map(|(egress, _)| egress)
                .collect();
            egress.sort_by(f64::total_cmp);
            egress
        };
        Report {
            options: self.options.clone(),
            events: self.count,
            depths: self.pulls.depths(),
            relays: Load::of(&alive(false)),
            origins: Load::of(&alive(true)),
            startup: self.startup.percentiles(),
            startup_distribution: self.startup.distribution(),
            wait: self.wait.percentiles(),
            deaths: self.deaths,
            freeze: self.freeze.percentiles(),
            freeze_distribution: self.freeze.distribution(),
            moved_viewers: self.moved_viewers.percentiles(),
            churn: self.churn,
            series: self.series,
        }
    }
}
