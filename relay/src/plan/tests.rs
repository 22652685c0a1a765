use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::links::{Grade, Links};
use super::*;

fn node(id: u64, role: Role, region: &str) -> Node {
    Node { id, role, region: region.into(), weight: 100, usable: true, draining: false }
}

fn name(number: u64) -> StreamName {
    StreamName::parse(&format!("show/{number}")).unwrap()
}

/// Three origins in the region `a`, and relays: `relays[i]` of them in the region `r{i}`.
fn cluster(relays: &[u64]) -> Vec<Node> {
    let mut nodes: Vec<_> = (1..=3).map(|id| node(id, Role::Origin, "a")).collect();
    for (region, count) in relays.iter().enumerate() {
        for _ in 0..*count {
            let id = nodes.len() as u64 + 1;
            nodes.push(node(id, Role::Relay, &format!("r{region}")));
        }
    }
    nodes
}

/// What must hold of every plan.
struct Checked {
    plan: Plan,
    parents: BTreeMap<u64, Parents>,
    owner: u64,
}

impl Checked {
    fn new(topology: &Topology, stream: &StreamName, owner: u64) -> Self {
        let plan = topology.plan(stream, owner);
        let parents: BTreeMap<_, _> = plan.edges().collect();
        let this = Self { plan, parents, owner };
        assert_eq!(this.plan.parents(owner), None);
        assert_eq!(this.plan.depth(owner), Some(0));
        for node in topology.nodes().filter(|node| *node != owner) {
            let parents = this.plan.parents(node).unwrap_or_else(|| panic!("{node} has none"));
            assert_eq!(this.parents.get(&node), Some(&parents));
            let way = this.way(node);
            assert_eq!(way.last(), Some(&owner));
            assert_eq!(this.plan.depth(node), u32::try_from(way.len()).ok());
            if let Some(second) = parents.second {
                assert_ne!(second, parents.first, "of {node}");
                assert_ne!(second, node);
                let second_way = this.way(second);
                assert!(!second_way.contains(&node), "{second} is fed by {node}");
                let independent = parents.first == owner
                    || (second != parents.first && !second_way.contains(&parents.first));
                assert!(independent, "{second} is fed by {}, both feed {node}", parents.first);
            }
        }
        this.children_agree(topology);
        this.no_circle_whoever_switches();
        this
    }

    /// The nodes from which `node` gets the stream by first parents, up to the owner.
    fn way(&self, node: u64) -> Vec<u64> {
        let mut way = Vec::new();
        let mut at = node;
        while at != self.owner {
            at = self.parents[&at].first;
            way.push(at);
            assert!(way.len() <= self.parents.len(), "{node} is in a circle: {way:?}");
        }
        way
    }

    fn children_agree(&self, topology: &Topology) {
        let mut told = BTreeSet::new();
        for node in topology.nodes().chain([self.owner]).collect::<BTreeSet<_>>() {
            for child in self.plan.children(node) {
                assert_eq!(self.parents[&child].first, node);
                assert!(told.insert(child), "{child} is told twice");
            }
        }
        assert_eq!(told.len(), self.parents.len());
    }

    /// With the second parent of one child of the owner left out, first and second parents together
    /// make no circle.
    fn no_circle_whoever_switches(&self) {
        let left = without_fed(self.parents.clone());
        let excepted = left.iter().filter(|(_, parents)| parents.first == self.owner);
        let opens = |(lone, _): (&u64, &Parents)| {
            let mut left = left.clone();
            left.remove(lone);
            without_fed(left).is_empty()
        };
        assert!(left.is_empty() || excepted.into_iter().any(opens), "a circle among {left:?}");
    }

    fn most_children(&self) -> usize {
        let mut count: BTreeMap<u64, usize> = BTreeMap::new();
        self.parents.values().for_each(|parents| *count.entry(parents.first).or_default() += 1);
        count.values().copied().max().unwrap_or(0)
    }

    fn edges(&self) -> BTreeSet<(u64, u64)> {
        self.parents.iter().map(|(node, parents)| (*node, parents.first)).collect()
    }
}

/// The nodes that are left when those are taken away, again and again, whose parents are all gone.
fn without_fed(mut left: BTreeMap<u64, Parents>) -> BTreeMap<u64, Parents> {
    loop {
        let fed = |node: u64| !left.contains_key(&node);
        let free = |(node, parents): (&u64, &Parents)| {
            (fed(parents.first) && parents.second.is_none_or(fed)).then_some(*node)
        };
        let next: Vec<u64> = left.iter().filter_map(free).collect();
        if next.is_empty() {
            return left;
        }
        left.retain(|node, _| !next.contains(node));
    }
}

#[test]
fn gateways_take_from_the_owner_and_their_regions_nodes_from_them() {
    let topology = Topology::new(&cluster(&[4, 2]), Options::default());
    let checked = Checked::new(&topology, &name(1), 1);
    let gateways = |region: std::ops::RangeInclusive<u64>| {
        let parents = region.map(|node| (node, checked.parents[&node]));
        parents.filter(|(_, parents)| parents.first == 1).map(|(node, _)| node).collect::<Vec<_>>()
    };
    let near: Vec<_> = (2..=3).map(|node| checked.parents[&node]).collect();
    assert!(near.iter().all(|parents| parents.first == 1 && parents.reason == Reason::NearOwner));
    assert_eq!((near[0].second, near[1].second), (Some(3), Some(2)));
    let of_b = gateways(4..=7);
    assert_eq!(of_b.len(), 2);
    assert_eq!(gateways(8..=9), [8, 9]);
    for node in (4..=7).filter(|node| !of_b.contains(node)) {
        let parents = checked.parents[&node];
        assert_eq!(parents.reason, Reason::FromGateway);
        assert!(of_b.contains(&parents.first) && of_b.contains(&parents.second.unwrap()));
        assert_eq!(checked.plan.depth(node), Some(2));
    }
    // A gateway that loses the owner turns to another node of the owner's region.
    assert!(of_b.iter().all(|node| matches!(checked.parents[node].second, Some(2 | 3))));
}

#[test]
fn the_plan_of_a_known_cluster_is_the_one_that_older_nodes_make() {
    let topology = Topology::new(&cluster(&[4, 2]), Options::default());
    let firsts = |stream| {
        let plan = topology.plan(&name(stream), 2);
        (4..=7).map(|node| plan.parents(node).unwrap().first).collect::<Vec<_>>()
    };
    assert_eq!(
        [firsts(1), firsts(2), firsts(3)],
        [[2, 4, 4, 2], [2, 6, 2, 6], [2, 2, 4, 5]].map(Vec::from)
    );
}

#[test]
fn without_an_owner_that_is_known_nobody_has_parents() {
    let topology = Topology::new(&cluster(&[2]), Options::default());
    let plan = topology.plan(&name(1), 99);
    assert_eq!(plan.edges().count(), 0);
    assert_eq!((plan.parents(1), plan.depth(1), plan.owner()), (None, None, None));
    assert!(plan.children(1).is_empty());
    let alone = Topology::new(&cluster(&[])[..1], Options::default());
    assert!(Checked::new(&alone, &name(1), 1).parents.is_empty());
}

#[test]
fn a_dead_owner_keeps_its_tree_until_there_is_another_one() {
    let mut nodes = cluster(&[4]);
    let before = Checked::new(&Topology::new(&nodes, Options::default()), &name(1), 1);
    nodes[0].usable = false;
    let after = Checked::new(&Topology::new(&nodes, Options::default()), &name(1), 1);
    assert_eq!(before.edges(), after.edges());
    assert_eq!(after.plan.children(1).len(), 4);
}

#[test]
fn a_draining_node_is_fed_and_feeds_nobody_unless_there_is_nobody_else() {
    let mut nodes = cluster(&[6]);
    for drained in [3, 4, 5, 6] {
        nodes[drained].draining = true;
        let topology = Topology::new(&nodes, Options::default());
        for stream in 0..50 {
            let checked = Checked::new(&topology, &name(stream), 1);
            let idle = |node: &u64| checked.plan.children(*node).is_empty();
            assert!((4..=drained as u64 + 1).all(|node| idle(&node)));
        }
    }
    nodes[7].draining = true;
    nodes[8].draining = true;
    let checked = Checked::new(&Topology::new(&nodes, Options::default()), &name(1), 1);
    assert_eq!((4..=9).filter(|node| checked.plan.children(*node).len() == 2).count(), 2);
}

#[test]
fn an_owner_without_room_is_helped_by_its_region_and_that_by_other_regions() {
    let options = Options { gateways: 2, max_children: 4 };
    // 3 origins have room for 10; 40 gateways of 20 regions want it.
    let topology = Topology::new(&cluster(&[5; 20]), options);
    let checked = Checked::new(&topology, &name(1), 1);
    assert_eq!(checked.most_children(), 4);
    let reasons: Vec<_> = checked.parents.values().map(|parents| parents.reason).collect();
    let count =
        |wanted: fn(&Reason) -> bool| reasons.iter().filter(|reason| wanted(reason)).count();
    assert_eq!(count(|reason| matches!(reason, Reason::Gateway(_))), 2);
    assert_eq!(count(|reason| matches!(reason, Reason::GatewayOwnerFull(_))), 8);
    assert_eq!(count(|reason| matches!(reason, Reason::GatewayRegionFull(_))), 30);
}

#[test]
fn capacity_decides_how_often_a_node_is_a_gateway() {
    let mut nodes = cluster(&[10]);
    nodes[3].weight = 500;
    let topology = Topology::new(&nodes, Options::default());
    let mut gateway = BTreeMap::new();
    for stream in 0..2_000 {
        for node in topology.plan(&name(stream), 1).children(1) {
            *gateway.entry(node).or_insert(0) += 1;
        }
    }
    let others: i32 = (5..=13).map(|node| gateway[&node]).sum::<i32>() / 9;
    // Two gateways of ten nodes: of 4,000 places, 14 shares.
    assert!(gateway[&4] > 3 * others, "{gateway:?}");
    assert!((5..=13).all(|node| (gateway[&node] - others).abs() < others / 3), "{gateway:?}");
}

#[test]
fn a_node_with_a_bad_way_to_the_owners_region_is_seldom_its_gateway() {
    let nodes = cluster(&[4]);
    let mut links = Links::default();
    links.set(4, "a", Grade::WORST);
    let count = |links: &Links| {
        let topology = Topology::with_links(&nodes, Options::default(), links);
        (0..400).filter(|stream| topology.plan(&name(*stream), 1).children(1).contains(&4)).count()
    };
    let (with, without) = (count(&links), count(&Links::default()));
    assert!(without > 150 && with < 60, "{with} of {without}");
}

/// How many of the edges that stay possible move when one node leaves, as a multiple of 1/n, on
/// average over nodes and streams.
fn churn(nodes: &[Node], options: Options, streams: u64, step: usize) -> f64 {
    let full = Topology::new(nodes, options);
    let before: Vec<_> = (0..streams)
        .map(|stream| full.plan(&name(stream), 1).edges().collect::<BTreeMap<_, _>>())
        .collect();
    let (mut moved, mut all) = (0, 0);
    for gone in (3..nodes.len()).step_by(step) {
        let mut left = nodes.to_vec();
        let gone = left.remove(gone).id;
        let topology = Topology::new(&left, options);
        for (stream, before) in (0..).zip(&before) {
            let plan = topology.plan(&name(stream), 1);
            for (node, parents) in plan.edges().filter(|(node, _)| *node != gone) {
                all += 1;
                moved += i32::from(before[&node].first != parents.first);
            }
        }
    }
    f64::from(moved) / f64::from(all) * nodes.len() as f64
}

#[test]
fn removing_a_node_moves_hardly_more_edges_than_it_had_children() {
    for (relays, options) in [
        (vec![4, 2], Options::default()),
        (vec![10; 10], Options::default()),
        (vec![40; 5], Options::default()),
        (vec![200], Options::default()),
        (vec![30; 4], Options { gateways: 3, max_children: 8 }),
    ] {
        let nodes = cluster(&relays);
        let step = nodes.len() / 20 + 1;
        let churn = churn(&nodes, options, 40, step);
        println!("{relays:?} {options:?}: {churn:.2}/n");
        assert!(churn < 1.5, "{relays:?}, {options:?}: {churn}/n");
    }
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let one = (0..5_u8, any::<bool>(), 1..1_000_u32, 0..8_u8, 0..5_u8).prop_map(
        |(region, relay, weight, unusable, draining)| Node {
            id: 0,
            role: if relay { Role::Relay } else { Role::Origin },
            region: format!("r{region}"),
            weight,
            usable: unusable != 0,
            draining: draining == 0,
        },
    );
    let sized = prop_oneof![2 => 1..12_usize, 1 => 12..150_usize];
    sized.prop_flat_map(move |count| prop::collection::vec(one.clone(), count)).prop_map(
        |mut nodes| {
            for (id, node) in (1..).zip(&mut nodes) {
                node.id = id * 7;
            }
            nodes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_plan_is_a_tree_with_independent_second_parents(
        nodes in nodes(),
        gateways in 1..5_u32,
        max_children in 2..40_u32,
        stream in any::<u64>(),
        owner in any::<prop::sample::Index>(),
    ) {
        let owner = owner.get(&nodes).id;
        let options = Options { gateways, max_children };
        let checked = Checked::new(&Topology::new(&nodes, options), &name(stream), owner);
        if nodes.iter().all(|node| !node.draining) {
            prop_assert!(checked.most_children() <= max_children as usize);
        }
        let mut shuffled = nodes.clone();
        shuffled.reverse();
        shuffled.rotate_left(nodes.len() / 3);
        let again = Checked::new(&Topology::new(&shuffled, options), &name(stream), owner);
        prop_assert_eq!(&checked.parents, &again.parents);
    }

    #[test]
    fn nobody_has_too_many_children_as_long_as_nobody_drains(
        mut nodes in nodes(),
        gateways in 1..5_u32,
        max_children in 2..12_u32,
        stream in any::<u64>(),
    ) {
        nodes.iter_mut().for_each(|node| (node.draining, node.usable) = (false, true));
        let options = Options { gateways, max_children };
        let checked = Checked::new(&Topology::new(&nodes, options), &name(stream), nodes[0].id);
        prop_assert!(checked.most_children() <= max_children as usize);
        // A lone node beside the owner has nobody else, and one that feeds all others has not either.
        let without = checked.parents.values().filter(|parents| parents.second.is_none()).count();
        prop_assert!(without <= 1, "{:?}", checked.parents);
    }
}
