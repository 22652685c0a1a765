//! Plans the tree in which a stream goes from its owner to all nodes.
//!
//! A pure function of the cluster's nodes, the stream's name and its owner: every node computes the
//! same tree with no further talk. For each stream and region some nodes are gateways, which take
//! the stream from the owner's region; the region's other nodes take it from them. No node has more
//! children than it may, as long as there are enough who may have any; further nodes hang one level
//! deeper. Each node has a second parent for when the first is silent.
//!
//! What holds of every plan:
//! - Following first parents leads from each node to the owner.
//! - A node's second parent does not get the stream through its first one, unless that is the owner.
//! - Whoever uses its second parent meanwhile, no circle comes about: both parents of a node come
//!   before it in one order of all nodes. One node has none before it but the owner, and so an
//!   exception: its second parent, if there is any, comes after it; it does not get the stream
//!   through that node by first parents.
//!
//! Which hashes decide is in `hash`; they are part of the protocol between nodes.
//!
//! Not here: who owns a stream (the cluster's directory), whether a parent is silent (`child`), when
//! a stream is fetched at all (`pulls`).

mod edges;
mod gates;
mod hash;
pub mod links;
mod region;
mod seating;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use headwater_media::StreamName;

use self::gates::Core;
use self::links::Links;
use self::region::Region;
use self::seating::{Layout, Seating};

/// What a node does, as far as the tree is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// May own streams.
    Origin,
    /// Owns none.
    Relay,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub role: Role,
    /// Where it stands.
    pub region: String,
    /// How much it can carry, in any unit that all nodes share: its chance of being a gateway is in
    /// proportion.
    pub weight: u32,
    /// Whether it takes part. One that does not has no parents and no children, except that an
    /// owner keeps its children until the stream has another owner.
    pub usable: bool,
    /// Whether it is about to leave: it has no children where others can have them.
    pub draining: bool,
}

/// What an operator decides of all trees; all nodes must have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Gateways of each region: at least 1. With fewer than two, a region's nodes turn to the
    /// owner's region when their gateway is silent.
    pub gateways: u32,
    /// Most children of a node, by stream: at least 2.
    pub max_children: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { gateways: 2, max_children: 32 }
    }
}

/// The nodes, laid out for planning. Made once for each change of the nodes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Topology(Arc<Inner>);

/// A seat of a region: see `shape`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seat {
    region: usize,
    seat: u32,
}

/// Where a node is in the topology.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct At {
    region: usize,
    member: usize,
}

/// The owner of a stream. It is a member of its region only if it is usable.
#[derive(Clone, Copy, Debug)]
struct Root {
    id: u64,
    region: usize,
    member: Option<usize>,
}

/// A gateway's place, whoever takes it.
#[derive(Clone, Copy, Debug)]
struct Gate {
    region: usize,
    seat: u32,
    /// Among all gates.
    number: usize,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    regions: Vec<Region>,
    /// The usable nodes.
    members: HashMap<u64, At>,
    /// The regions of the others, which may own streams all the same.
    unusable: HashMap<u64, usize>,
    /// The number of each region's first gate.
    first_gates: Vec<usize>,
    /// Gates of all regions together.
    gates: u32,
}

impl Topology {
    /// The topology of these nodes. Of several with one number the first counts.
    #[must_use]
    pub fn new(nodes: &[Node], options: Options) -> Self {
        Self::with_links(nodes, options, &Links::default())
    }

    /// The same, where it also counts how good the nodes' ways to other regions are.
    #[must_use]
    pub fn with_links(nodes: &[Node], options: Options, links: &Links) -> Self {
        let options = Options {
            gateways: options.gateways.max(1),
            max_children: options.max_children.max(2),
        };
        let mut by_region: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
        let mut known = HashMap::with_capacity(nodes.len());
        for node in nodes {
            if known.insert(node.id, ()).is_none() {
                by_region.entry(&node.region).or_default().push(node);
            }
        }
        let mut inner = Inner {
            options,
            regions: Vec::with_capacity(by_region.len()),
            members: HashMap::with_capacity(nodes.len()),
            unusable: HashMap::new(),
            first_gates: Vec::with_capacity(by_region.len()),
            gates: 0,
        };
        for (index, (name, nodes)) in by_region.into_iter().enumerate() {
            let (usable, unusable): (Vec<&Node>, Vec<&Node>) =
                nodes.into_iter().partition(|node| node.usable);
            let region = Region::new(name, &usable, &options, links);
            let members = region.ids.iter().enumerate();
            inner.members.extend(members.map(|(member, id)| (*id, At { region: index, member })));
            inner.unusable.extend(unusable.iter().map(|node| (node.id, index)));
            inner.first_gates.push(inner.gates as usize);
            inner.gates += region.shape.tops;
            inner.regions.push(region);
        }
        Self(Arc::new(inner))
    }

    /// The tree of a stream that the node numbered `owner` owns. It costs little: what is asked of
    /// it is worked out as it is asked for, region by region.
    #[must_use]
    pub fn plan(&self, stream: &StreamName, owner: u64) -> Plan {
        Plan::new(Arc::clone(&self.0), hash::of_text(stream.as_str()), owner)
    }

    /// The numbers of all usable nodes, region by region.
    pub fn nodes(&self) -> impl Iterator<Item = u64> {
        self.0.regions.iter().flat_map(|region| region.ids.iter().copied())
    }

    /// What was asked for.
    #[must_use]
    pub fn options(&self) -> Options {
        self.0.options
    }
}

impl Inner {
    fn gates_all(&self) -> usize {
        self.gates as usize
    }

    fn gate(&self, region: usize, seat: u32) -> Gate {
        Gate { region, seat, number: self.first_gates[region] + seat as usize }
    }

    fn gates_of(&self, region: usize) -> impl Iterator<Item = Gate> {
        (0..self.regions[region].shape.tops).map(move |seat| self.gate(region, seat))
    }

    fn gate_key(&self, gate: Gate) -> u64 {
        hash::pair(self.regions[gate.region].key, hash::of_number(u64::from(gate.seat)))
    }

    fn root(&self, owner: u64) -> Option<Root> {
        let at = self.members.get(&owner);
        let region = at.map(|at| at.region).or_else(|| self.unusable.get(&owner).copied())?;
        Some(Root { id: owner, region, member: at.map(|at| at.member) })
    }
}

/// From whom a node takes a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parents {
    /// From whom as long as all is well.
    pub first: u64,
    /// From whom when the first is silent; none where there is no other way.
    pub second: Option<u64>,
    /// Why from the first.
    pub reason: Reason,
}

/// Why a node takes a stream from its first parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// It is in the owner's region, and the owner has room.
    NearOwner,
    /// It is in the owner's region, and the owner has no room: it takes from another node there.
    OwnerFull,
    /// It is a gateway of its region, the one of this number from 0 on, and the owner has room.
    Gateway(u32),
    /// It is a gateway, and the owner has no room: it takes from another node of the owner's region.
    GatewayOwnerFull(u32),
    /// It is a gateway, and the owner's whole region has no room: it takes from another region.
    GatewayRegionFull(u32),
    /// Its gateways have no room for all of its region: it takes part in feeding it.
    Branch,
    /// It takes from a gateway of its region.
    FromGateway,
    /// Its region's gateways have no room for it: it takes from another node there.
    Deeper,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NearOwner => write!(f, "in the owner's region"),
            Self::OwnerFull => write!(f, "in the owner's region, the owner is full"),
            Self::Gateway(number) => write!(f, "gateway {} of its region", number + 1),
            Self::GatewayOwnerFull(number) => {
                write!(f, "gateway {} of its region, the owner is full", number + 1)
            }
            Self::GatewayRegionFull(number) => {
                write!(f, "gateway {} of its region, the owner's region is full", number + 1)
            }
            Self::Branch => write!(f, "shares the load of its region's gateways"),
            Self::FromGateway => write!(f, "from a gateway of its region"),
            Self::Deeper => write!(f, "its region's gateways are full"),
        }
    }
}

/// The tree of one stream.
#[derive(Debug)]
pub struct Plan {
    inner: Arc<Inner>,
    stream: u64,
    root: Option<Root>,
    /// The owner's region, once it was asked for.
    core: OnceLock<Core>,
    /// The others, once they were.
    regions: Vec<OnceLock<Seating>>,
}

impl Plan {
    fn new(inner: Arc<Inner>, stream: u64, owner: u64) -> Self {
        let root = inner.root(owner);
        let regions = inner.regions.iter().map(|_| OnceLock::new()).collect();
        Self { inner, stream, root, core: OnceLock::new(), regions }
    }

    fn core(&self, root: Root) -> &Core {
        self.core.get_or_init(|| {
            gates::plan(&self.inner, root, self.stream, |region| self.outer(root, region))
        })
    }

    /// A region that is not the owner's.
    fn outer(&self, root: Root, index: usize) -> &Seating {
        self.regions[index].get_or_init(|| {
            let region = &self.inner.regions[index];
            let layout = Layout {
                shape: region.shape,
                loads: region.shape.loads(),
                max_children: self.inner.options.max_children,
                taken: 0,
                apart: None,
                flat: false,
                weights: region.weights(&self.inner.regions[root.region].name),
            };
            Seating::new(region, self.stream, layout)
        })
    }
}
