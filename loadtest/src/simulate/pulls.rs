//! Which node takes which stream from whom, in a simulated cluster: as `headwater_relay::pulls`
//! does it, with the real planner.
//!
//! Not here: viewers (`crowd`), when things happen (`run`).

use std::collections::BTreeMap;

use headwater_media::StreamName;
use headwater_relay::plan::{Plan, Topology};

use super::chance::Chance;
use super::world::{World, id, site};

/// More hops than any tree has: a bound on what follows parents.
const HOPS_MAX: usize = 64;

/// A stream that a node takes.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub(super) parent: usize,
    pub(super) viewers: u32,
    children: u32,
    /// When its first frame is here.
    pub(super) ready_us: u64,
    /// Since when nobody wants it.
    idle_us: Option<u64>,
}

struct Stream {
    name: StreamName,
    owner: usize,
    plan: Option<Plan>,
    pulls: BTreeMap<usize, Pull>,
}

/// All of them.
pub(super) struct Pulls {
    topology: Topology,
    streams: Vec<Stream>,
    /// How many copies each node sends to other nodes.
    pub(super) copies: Vec<u64>,
    /// How many viewers each node has.
    pub(super) viewers: Vec<u64>,
    silent_us: u64,
}

/// What one look at all pulls finds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copies {
    /// From node to node.
    pub(super) hops: u64,
    /// Those between regions.
    pub(super) far: u64,
    /// One into each region where a stream is watched.
    pub(super) far_least: u64,
}

/// What a change of the nodes moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// Edges whose planned parent is another one now.
    pub(super) edges: u64,
    /// All that were in use.
    pub(super) of: u64,
}

impl Pulls {
    pub(super) fn new(world: &World, streams: usize, silent_us: u64) -> anyhow::Result<Self> {
        let stream = |index: usize| {
            let name = StreamName::parse(&format!("show/{index}"))?;
            Ok(Stream { name, owner: world.owner(index), plan: None, pulls: BTreeMap::new() })
        };
        Ok(Self {
            topology: world.topology(),
            streams: (0..streams).map(stream).collect::<anyhow::Result<_>>()?,
            copies: vec![0; world.sites.len()],
            viewers: vec![0; world.sites.len()],
            silent_us,
        })
    }

    pub(super) fn get(&self, stream: usize, node: usize) -> Option<&Pull> {
        self.streams[stream].pulls.get(&node)
    }

    fn plan(&mut self, stream: usize) -> &Plan {
        let Self { topology, streams, .. } = self;
        let stream = &mut streams[stream];
        stream.plan.get_or_insert_with(|| topology.plan(&stream.name, id(stream.owner)))
    }

    /// From whom a node takes the stream now, and what it loses by finding out.
    fn choose(&mut self, world: &World, stream: usize, node: usize) -> (usize, u64) {
        let owner = self.streams[stream].owner;
        let silent_us = self.silent_us;
        let Some(parents) = self.plan(stream).parents(id(node)) else { return (owner, 0) };
        let alive = |site: usize| world.sites.get(site).is_some_and(|site| site.alive);
        let first = site(parents.first);
        if alive(first) {
            return (first, 0);
        }
        let second = parents.second.map(site).filter(|second| alive(*second));
        (second.unwrap_or(owner), silent_us)
    }

    /// Has a node take a stream. The answer is when its newest group begins to be there.
    pub(super) fn want(
        &mut self,
        world: &World,
        chance: &mut Chance,
        stream: usize,
        node: usize,
        now_us: u64,
    ) -> u64 {
        self.want_by(world, chance, (stream, node), now_us, HOPS_MAX)
    }

    fn want_by(
        &mut self,
        world: &World,
        chance: &mut Chance,
        (stream, node): (usize, usize),
        now_us: u64,
        hops_left: usize,
    ) -> u64 {
        if node == self.streams[stream].owner || hops_left == 0 {
            return now_us;
        }
        if let Some(pull) = self.streams[stream].pulls.get_mut(&node) {
            pull.idle_us = None;
            return pull.ready_us.max(now_us);
        }
        let (parent, lost_us) = self.choose(world, stream, node);
        let ready_us =
            self.subscribe(world, chance, (stream, node), parent, now_us + lost_us, hops_left);
        let pull = Pull { parent, viewers: 0, children: 0, ready_us, idle_us: None };
        self.streams[stream].pulls.insert(node, pull);
        ready_us
    }

    /// A subscription goes up and the newest group comes down.
    fn subscribe(
        &mut self,
        world: &World,
        chance: &mut Chance,
        (stream, node): (usize, usize),
        parent: usize,
        now_us: u64,
        hops_left: usize,
    ) -> u64 {
        let way_us = world.one_way_us(node, parent);
        // What is lost comes a round trip later.
        let late = |chance: &mut Chance| {
            if chance.share() < world.loss(node, parent) { 2 * way_us } else { 0 }
        };
        let asked_us = now_us + way_us + late(chance);
        let there_us = self.want_by(world, chance, (stream, parent), asked_us, hops_left - 1);
        self.add_child(stream, parent);
        there_us + way_us + late(chance)
    }

    fn add_child(&mut self, stream: usize, parent: usize) {
        self.copies[parent] += 1;
        if let Some(pull) = self.streams[stream].pulls.get_mut(&parent) {
            pull.children += 1;
            pull.idle_us = None;
        }
    }

    /// A viewer comes to a node that takes the stream.
    pub(super) fn enter(&mut self, stream: usize, node: usize) {
        self.viewers[node] += 1;
        if let Some(pull) = self.streams[stream].pulls.get_mut(&node) {
            pull.viewers += 1;
        }
    }

    /// A viewer leaves. Whether nobody wants the stream there any more.
    pub(super) fn leave(&mut self, stream: usize, node: usize, now_us: u64) -> bool {
        self.viewers[node] = self.viewers[node].saturating_sub(1);
        let Some(pull) = self.streams[stream].pulls.get_mut(&node) else { return false };
        pull.viewers = pull.viewers.saturating_sub(1);
        Self::idles(pull, now_us)
    }

    fn idles(pull: &mut Pull, now_us: u64) -> bool {
        let idle = pull.viewers == 0 && pull.children == 0;
        pull.idle_us = idle.then_some(now_us);
        idle
    }

    /// A child leaves. Whether nobody wants the stream there any more.
    fn lose_child(&mut self, stream: usize, parent: usize, now_us: u64) -> bool {
        self.copies[parent] = self.copies[parent].saturating_sub(1);
        let Some(pull) = self.streams[stream].pulls.get_mut(&parent) else { return false };
        pull.children = pull.children.saturating_sub(1);
        Self::idles(pull, now_us)
    }

    /// Lets a stream go that nobody has wanted since `since_us`. The answer is the parent, if
    /// nobody wants it there either.
    pub(super) fn let_go(
        &mut self,
        stream: usize,
        node: usize,
        since_us: u64,
        now_us: u64,
    ) -> Option<usize> {
        let pulls = &mut self.streams[stream].pulls;
        if pulls.get(&node)?.idle_us != Some(since_us) {
            return None;
        }
        let parent = pulls.remove(&node)?.parent;
        self.lose_child(stream, parent, now_us).then_some(parent)
    }

    /// A node dies: for each of its streams, its viewers and the nodes that took it from there.
    pub(super) fn die(&mut self, node: usize, now_us: u64) -> Vec<(usize, u32, Vec<usize>)> {
        let mut lost = Vec::new();
        for stream in 0..self.streams.len() {
            let Some(pull) = self.streams[stream].pulls.remove(&node) else { continue };
            self.lose_child(stream, pull.parent, now_us);
            let pulls = self.streams[stream].pulls.iter();
            let orphans = pulls.filter(|(_, pull)| pull.parent == node).map(|(node, _)| *node);
            lost.push((stream, pull.viewers, orphans.collect()));
        }
        (self.copies[node], self.viewers[node]) = (0, 0);
        lost
    }

    /// A node has noticed that its parent is silent and turns to another. The answer is when the
    /// stream goes on; none if it has a living parent again.
    pub(super) fn switch(
        &mut self,
        world: &World,
        chance: &mut Chance,
        stream: usize,
        node: usize,
        now_us: u64,
    ) -> Option<u64> {
        let parent = self.get(stream, node)?.parent;
        if world.sites.get(parent).is_some_and(|site| site.alive) {
            return None;
        }
        let (parent, _) = self.choose(world, stream, node);
        let ready_us = self.subscribe(world, chance, (stream, node), parent, now_us, HOPS_MAX);
        let pull = self.streams[stream].pulls.get_mut(&node)?;
        (pull.parent, pull.ready_us) = (parent, ready_us);
        Some(ready_us)
    }

    /// Viewers of a stream at `node` and at all nodes that get it through it.
    pub(super) fn viewers_below(&self, stream: usize, node: usize) -> u64 {
        let pulls = &self.streams[stream].pulls;
        let mut viewers = 0;
        let mut left = vec![node];
        while let Some(node) = left.pop() {
            viewers += pulls.get(&node).map_or(0, |pull| u64::from(pull.viewers));
            left.extend(
                pulls.iter().filter(|(_, pull)| pull.parent == node).map(|(node, _)| *node),
            );
        }
        viewers
    }

    /// Plans anew; streams move to their new parents without a break.
    pub(super) fn replan(&mut self, world: &World, chance: &mut Chance, now_us: u64) -> Moved {
        self.topology = world.topology();
        let mut moved = Moved::default();
        for stream in 0..self.streams.len() {
            let Some(before) = self.streams[stream].plan.take() else { continue };
            let nodes: Vec<usize> = self.streams[stream].pulls.keys().copied().collect();
            for node in nodes {
                let (first, _) = self.choose(world, stream, node);
                let planned = before.parents(id(node)).map(|parents| site(parents.first));
                moved.of += 1;
                moved.edges += u64::from(planned != Some(first));
                self.move_to(world, chance, (stream, node), first, now_us);
            }
        }
        moved
    }

    fn move_to(
        &mut self,
        world: &World,
        chance: &mut Chance,
        (stream, node): (usize, usize),
        parent: usize,
        now_us: u64,
    ) {
        let Some(before) = self.get(stream, node).map(|pull| pull.parent) else { return };
        // Who has lost its parent moves by itself, once it notices.
        if before == parent || !world.sites.get(before).is_some_and(|site| site.alive) {
            return;
        }
        self.subscribe(world, chance, (stream, node), parent, now_us, HOPS_MAX);
        self.lose_child(stream, before, now_us);
        if let Some(pull) = self.streams[stream].pulls.get_mut(&node) {
            pull.parent = parent;
        }
    }

    /// Counts copies.
    pub(super) fn count(&self, world: &World) -> Copies {
        let region = |node: usize| world.sites.get(node).map(|site| site.region);
        let mut copies = Copies::default();
        let mut reached = vec![false; world.regions()];
        for stream in &self.streams {
            reached.iter_mut().for_each(|reached| *reached = false);
            let home = region(stream.owner);
            for (node, pull) in &stream.pulls {
                copies.hops += 1;
                copies.far += u64::from(region(*node) != region(pull.parent));
                if let Some(reached) = region(*node).and_then(|region| reached.get_mut(region))
                    && region(*node) != home
                {
                    *reached |= pull.viewers > 0;
                }
            }
            copies.far_least += reached.iter().filter(|reached| **reached).count() as u64;
        }
        copies
    }

    /// How many viewers are how many hops from the owner.
    pub(super) fn depths(&self) -> Vec<u64> {
        let mut depths = Vec::new();
        for stream in &self.streams {
            for (node, pull) in &stream.pulls {
                let (mut at, mut depth) = (*node, 0);
                while let Some(pull) = stream.pulls.get(&at).filter(|_| depth < HOPS_MAX) {
                    (at, depth) = (pull.parent, depth + 1);
                }
                if depths.len() <= depth {
                    depths.resize(depth + 1, 0);
                }
                depths[depth] += u64::from(pull.viewers);
            }
        }
        depths
    }
}

#[cfg(test)]
mod tests {
    use headwater_relay::plan::Options;

    use super::*;

    fn pulls() -> (World, Pulls, Chance) {
        let mut chance = Chance::new(1);
        let world = World::new(60, 3, Options::default(), &mut chance);
        let pulls = Pulls::new(&world, 2, 300_000).unwrap();
        (world, pulls, chance)
    }

    #[test]
    fn a_second_viewer_finds_the_stream_there_and_the_last_one_frees_the_way_up() {
        let (world, mut pulls, mut chance) = pulls();
        let leaf = (3..63)
            .find(|node| {
                let parents = pulls.plan(0).parents(id(*node)).unwrap();
                world.sites[site(parents.first)].region == 1 && world.sites[*node].region == 1
            })
            .unwrap();
        let ready = pulls.want(&world, &mut chance, 0, leaf, 0);
        assert!(ready > 10_000, "{ready}");
        pulls.enter(0, leaf);
        assert_eq!(pulls.want(&world, &mut chance, 0, leaf, 5_000_000), 5_000_000);
        let copies = pulls.count(&world);
        assert_eq!((copies.hops, copies.far, copies.far_least), (2, 1, 1));
        assert_eq!(pulls.depths(), [0, 0, 1]);
        assert!(pulls.leave(0, leaf, 9));
        let gateway = pulls.let_go(0, leaf, 9, 20).unwrap();
        assert_eq!(pulls.let_go(0, gateway, 20, 30), None);
        assert_eq!(pulls.count(&world).hops, 0);
        assert!(pulls.copies.iter().all(|copies| *copies == 0));
    }

    #[test]
    fn who_loses_its_parent_goes_on_by_the_second_and_moves_back_into_the_plan() {
        let (mut world, mut pulls, mut chance) = pulls();
        for node in 3..63 {
            pulls.want(&world, &mut chance, 0, node, 0);
            pulls.enter(0, node);
        }
        let gateway = (3..63).max_by_key(|node| pulls.copies[*node]).unwrap();
        world.sites[gateway].alive = false;
        let lost = pulls.die(gateway, 1_000_000);
        let (stream, viewers, orphans) = lost[0].clone();
        assert_eq!((lost.len(), stream, viewers), (1, 0, 1));
        assert!(orphans.len() >= 5, "{orphans:?}");
        for orphan in &orphans {
            let goes_on = pulls.switch(&world, &mut chance, 0, *orphan, 1_300_000);
            assert!(goes_on.unwrap() > 1_300_000);
            assert_eq!(pulls.switch(&world, &mut chance, 0, *orphan, 1_300_000), None);
        }
        world.sites[gateway].usable = false;
        let moved = pulls.replan(&world, &mut chance, 2_000_000);
        assert_eq!(moved.of, 59);
        assert!(
            (orphans.len() as u64..orphans.len() as u64 + 3).contains(&moved.edges),
            "{moved:?}"
        );
        assert_eq!(pulls.copies.iter().sum::<u64>(), 59);
        let parents: Vec<_> = (3..63)
            .filter(|node| *node != gateway)
            .map(|node| {
                (
                    site(pulls.plan(0).parents(id(node)).unwrap().first),
                    pulls.get(0, node).unwrap().parent,
                )
            })
            .collect();
        assert!(parents.iter().all(|(planned, parent)| planned == parent));
    }
}
