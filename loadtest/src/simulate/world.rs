//! The nodes of a simulated cluster and the network between them.
//!
//! Regions lie on a map whose unit is a millisecond one way; loss grows with distance.
//! Not here: what happens there (`run`).

use headwater_relay::plan::{Node, Options, Role, Topology};

use super::chance::Chance;

/// One way within a region, in microseconds.
const NEAR_US: u64 = 500;
/// One way to another region beside the distance, in microseconds.
const FAR_US: f64 = 5_000.0;
/// The map, in milliseconds one way.
const MAP_MS: (f64, f64) = (110.0, 50.0);
/// Loss between regions: this share, and this more for each 100 ms one way.
const LOSS: (f64, f64) = (0.001, 0.004);
/// Origins, all in the first region.
const ORIGINS: usize = 3;

/// A node; its number in the cluster is its place in the list and one.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) region: usize,
    pub(super) origin: bool,
    /// Whether it runs.
    pub(super) alive: bool,
    /// Whether the cluster takes it for running.
    pub(super) usable: bool,
}

/// The cluster.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) sites: Vec<Site>,
    places: Vec<(f64, f64)>,
    options: Options,
}

impl World {
    pub(super) fn new(
        relays: usize,
        regions: usize,
        options: Options,
        chance: &mut Chance,
    ) -> Self {
        let regions = regions.max(1);
        let place = |_| (chance.share() * MAP_MS.0, chance.share() * MAP_MS.1);
        let places = (0..regions).map(place).collect();
        let site = |origin, region| Site { region, origin, alive: true, usable: true };
        let origins = (0..ORIGINS).map(|_| site(true, 0));
        let relays = (0..relays).map(|relay| site(false, relay % regions));
        Self { sites: origins.chain(relays).collect(), places, options }
    }

    pub(super) fn regions(&self) -> usize {
        self.places.len()
    }

    /// One way between two nodes, in microseconds.
    pub(super) fn one_way_us(&self, a: usize, b: usize) -> u64 {
        match self.distance_ms(a, b) {
            None => NEAR_US,
            Some(distance) => (FAR_US + distance * 1_000.0) as u64,
        }
    }

    /// The share of packets that is lost between two nodes.
    pub(super) fn loss(&self, a: usize, b: usize) -> f64 {
        self.distance_ms(a, b).map_or(0.0, |distance| LOSS.0 + LOSS.1 * distance / 100.0)
    }

    fn distance_ms(&self, a: usize, b: usize) -> Option<f64> {
        let (a, b) = (self.sites.get(a)?.region, self.sites.get(b)?.region);
        (a != b).then(|| self.between(a, b))
    }

    fn between(&self, a: usize, b: usize) -> f64 {
        let at = |region: usize| self.places.get(region).copied().unwrap_or_default();
        let ((ax, ay), (bx, by)) = (at(a), at(b));
        (ax - bx).hypot(ay - by)
    }

    /// The nodes from which a region's viewers may play: its relays, its origins if it has none;
    /// those of the nearest region that has any if it has neither.
    pub(super) fn serving(&self, region: usize) -> Vec<usize> {
        let mut regions: Vec<usize> = (0..self.regions()).collect();
        regions.sort_by(|a, b| self.between(region, *a).total_cmp(&self.between(region, *b)));
        let of = |wanted: usize, origin: bool| {
            let here = |(_, site): &(usize, &Site)| {
                site.region == wanted && site.origin == origin && site.usable && site.alive
            };
            self.sites.iter().enumerate().filter(here).map(|(site, _)| site).collect::<Vec<_>>()
        };
        let serving = regions.into_iter().flat_map(|region| [of(region, false), of(region, true)]);
        serving.into_iter().find(|nodes| !nodes.is_empty()).unwrap_or_default()
    }

    /// What the cluster plans with now.
    pub(super) fn topology(&self) -> Topology {
        let node = |(site, at): (usize, &Site)| Node {
            id: id(site),
            role: if at.origin { Role::Origin } else { Role::Relay },
            region: format!("r{:02}", at.region),
            weight: 1,
            usable: at.usable,
            draining: false,
        };
        let nodes: Vec<Node> = self.sites.iter().enumerate().map(node).collect();
        Topology::new(&nodes, self.options)
    }

    /// The origin that owns a stream.
    pub(super) fn owner(&self, stream: usize) -> usize {
        stream % ORIGINS
    }
}

/// A node's number in the cluster.
pub(super) fn id(site: usize) -> u64 {
    site as u64 + 1
}

/// The node of that number.
pub(super) fn site(id: u64) -> usize {
    usize::try_from(id.saturating_sub(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_whose_nodes_are_gone_is_served_by_the_nearest_other_one() {
        let mut world = World::new(40, 4, Options::default(), &mut Chance::new(3));
        assert_eq!(world.serving(2).len(), 10);
        assert!(world.serving(0).iter().all(|node| !world.sites[*node].origin));
        for site in world.sites.iter_mut().filter(|site| site.region == 2) {
            site.alive = false;
        }
        let serving = world.serving(2);
        let nearest = (0..4)
            .filter(|region| *region != 2)
            .min_by(|a, b| world.between(2, *a).total_cmp(&world.between(2, *b)));
        assert!(serving.iter().all(|node| Some(world.sites[*node].region) == nearest));
    }

    #[test]
    fn ways_are_as_long_in_both_directions_and_short_within_a_region() {
        let world = World::new(8, 4, Options::default(), &mut Chance::new(3));
        assert_eq!(world.one_way_us(3, 4), world.one_way_us(4, 3));
        assert_eq!((world.one_way_us(3, 7), world.loss(3, 7)), (NEAR_US, 0.0));
        assert!(world.one_way_us(3, 4) > 5_000 && world.loss(3, 4) > 0.001);
    }
}
