//! A region's nodes, laid out for planning many streams: what of it does not depend on the stream.
//!
//! Not here: which of them sits where for a stream (`seating`).

use std::collections::HashMap;

use super::hash;
use super::links::Links;
use super::shape::Shape;
use super::{Node, Options};

/// The usable nodes of a region.
#[derive(Debug)]
pub(super) struct Region {
    /// Its name.
    pub(super) name: String,
    /// Its name's hash.
    pub(super) key: u64,
    /// The nodes' numbers: first those that stay, by number, then those that drain, by number.
    pub(super) ids: Vec<u64>,
    /// Their hashes, in the same order.
    pub(super) keys: Vec<u64>,
    /// How many of them stay.
    pub(super) staying: usize,
    /// The shape in which it is fed by another region.
    pub(super) shape: Shape,
    weights: Weights,
}

/// By which weights the region's nodes are chosen; nothing where all weigh the same.
#[derive(Debug, Default)]
struct Weights {
    /// What each node's own weight costs to divide by.
    own: Option<Vec<u64>>,
    /// The same where links to the owner's region count, by that region's name.
    towards: HashMap<String, Vec<u64>>,
}

impl Region {
    /// The region of these nodes, all usable.
    pub(super) fn new(name: &str, nodes: &[&Node], options: &Options, links: &Links) -> Self {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|node| (node.draining, node.id));
        let staying = nodes.iter().filter(|node| !node.draining).count();
        let sitters = sitters(staying, nodes.len(), options.max_children);
        let tops = options.gateways.min(options.max_children);
        let tops = if staying > 0 { tops.min(count(staying)) } else { tops };
        Self {
            name: name.to_owned(),
            key: hash::of_text(name),
            ids: nodes.iter().map(|node| node.id).collect(),
            keys: nodes.iter().map(|node| hash::of_number(node.id)).collect(),
            staying,
            shape: Shape::new(tops, count(nodes.len()), sitters, options.max_children),
            weights: Weights::new(&nodes, links),
        }
    }

    /// The weights that count when the owner is in the region called `owners`.
    pub(super) fn weights(&self, owners: &str) -> Option<&[u64]> {
        self.weights.towards.get(owners).or(self.weights.own.as_ref()).map(Vec::as_slice)
    }
}

/// How many nodes may have children: those that stay, and all where these are too few.
pub(super) fn sitters(staying: usize, all: usize, max_children: u32) -> u32 {
    let carried = u64::from(count(staying)) * u64::from(max_children);
    if staying == 0 || carried < u64::from(count(all)) { count(all) } else { count(staying) }
}

/// A number of nodes as planned with.
pub(super) fn count(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}

impl Weights {
    fn new(nodes: &[&Node], links: &Links) -> Self {
        let even = nodes.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let weigh = |node: &&Node, region: Option<&str>| {
            hash::reciprocal(links.weigh(node.id, region, node.weight))
        };
        let own = (!even).then(|| nodes.iter().map(|node| weigh(node, None)).collect());
        let towards = links.regions_of(nodes.iter().map(|node| node.id));
        let towards = towards.into_iter().map(|region| {
            let weights = nodes.iter().map(|node| weigh(node, Some(&region))).collect();
            (region, weights)
        });
        Self { own, towards: towards.collect() }
    }
}
