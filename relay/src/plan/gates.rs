//! How a stream gets from the owner's region to the others' gateways.
//!
//! The owner has the first seat of its region. It feeds everybody itself while it has room: the
//! gateways of other regions and its own region's nodes. When it has not, some of its region's
//! nodes get seats under it; gateways take the owner's places first and then theirs. When the whole
//! region has no room, further regions' gateways take from regions that have the stream.
//!
//! Not here: what is inside of the other regions (`seating`).

use super::hash;
use super::region::{count, sitters};
use super::seating::{Layout, Seating};
use super::shape::Shape;
use super::{Inner, Root, Seat};

/// Seats in the owner's region beside the owner's, whom others turn to when they lose the owner.
const SPARE_SEATS: u32 = 2;

/// The owner's region: its nodes, and who feeds the gateways of the others.
#[derive(Debug)]
pub(super) struct Core {
    /// Its nodes in their places.
    pub(super) seating: Seating,
    /// Who feeds each gateway: see [`Inner::gate`]. Empty where the owner feeds all.
    feeders: Vec<Seat>,
    /// The regions, in the order in which they get a place.
    pub(super) order: Vec<usize>,
}

impl Core {
    /// Who feeds the gateway numbered `gate`.
    pub(super) fn feeder(&self, root: Root, gate: usize) -> Seat {
        self.feeders.get(gate).copied().unwrap_or(Seat { region: root.region, seat: 0 })
    }
}

/// What it takes to plan the owner's region.
struct Demand {
    layout_flat: bool,
    shape: Shape,
    /// Places for gateways of other regions.
    gate_places: u32,
}

impl Demand {
    fn new(inner: &Inner, root: Root) -> Self {
        let region = &inner.regions[root.region];
        let max_children = inner.options.max_children;
        let owner_stays = root.member.is_some_and(|member| member < region.staying);
        let others = region.ids.len() - usize::from(root.member.is_some());
        let staying = region.staying - usize::from(owner_stays);
        let gates = inner.gates - region.shape.tops;
        let children = count(others).saturating_add(gates);
        let may_sit = sitters(staying, others, max_children);
        if children <= max_children {
            let spare = SPARE_SEATS.min(may_sit);
            return Self { layout_flat: true, shape: Shape::flat(spare), gate_places: gates };
        }
        let shape = Shape::new(1, children, 1 + may_sit, max_children);
        // Each of the region's own nodes gets a place before any gateway does.
        let places = u64::from(shape.seats) * u64::from(max_children);
        let places = places.saturating_sub(u64::from(count(others)));
        Self { layout_flat: false, shape, gate_places: u32::try_from(places).unwrap_or(u32::MAX) }
    }
}

/// Plans the owner's region for a stream. `seating` tells of the other regions what it takes to
/// feed regions from them, where it comes to that.
pub(super) fn plan<'a>(
    inner: &Inner,
    root: Root,
    stream: u64,
    seating: impl Fn(usize) -> &'a Seating,
) -> Core {
    let region = &inner.regions[root.region];
    let demand = Demand::new(inner, root);
    let mut layout = Layout {
        shape: demand.shape,
        loads: demand.shape.loads(),
        max_children: inner.options.max_children,
        taken: 1,
        apart: root.member,
        flat: demand.layout_flat,
        weights: region.weights(&region.name),
    };
    if layout.flat {
        // Only without spare seats is it the regions' order that tells who turns to whom.
        let order = if layout.shape.seats == 1 { order(inner, root, stream) } else { Vec::new() };
        let seating = Seating::new(region, stream, layout);
        return Core { seating, feeders: Vec::new(), order };
    }
    let order = order(inner, root, stream);
    let mut feeders = vec![None; inner.gates_all()];
    let mut places = demand.gate_places;
    for gate in order.iter().flat_map(|region| inner.gates_of(*region)) {
        if places == 0 {
            break;
        }
        places -= 1;
        let seat = place_of_gate(&layout, hash::pair(stream, inner.gate_key(gate)));
        layout.loads[seat as usize] += 1;
        feeders[gate.number] = Some(Seat { region: root.region, seat });
    }
    feed_from_others(inner, &order, &mut feeders, seating);
    let fallback = Seat { region: root.region, seat: 0 };
    let feeders = feeders.into_iter().map(|feeder| feeder.unwrap_or(fallback)).collect();
    Core { seating: Seating::new(region, stream, layout), feeders, order }
}

/// The seat for a gateway: the owner's while it has room, else from its home on the next with room.
fn place_of_gate(layout: &Layout<'_>, hash: u64) -> u32 {
    let (seats, home) = (layout.shape.seats, layout.home(hash));
    let roomy = |seat: &u32| layout.loads[*seat as usize] < layout.max_children;
    let others = (0..seats).map(|step| (home + step) % seats);
    std::iter::once(0).chain(others).find(roomy).unwrap_or(0)
}

/// The other regions, in an order of each stream's own.
fn order(inner: &Inner, root: Root, stream: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..inner.regions.len())
        .filter(|region| *region != root.region && !inner.regions[*region].ids.is_empty())
        .collect();
    order.sort_by_cached_key(|region| (hash::pair(stream, inner.regions[*region].key), *region));
    order
}

/// Feeds the gateways that are left from regions before theirs, as they have room.
fn feed_from_others<'a>(
    inner: &Inner,
    order: &[usize],
    feeders: &mut [Option<Seat>],
    seating: impl Fn(usize) -> &'a Seating,
) {
    let left = |region: &usize| inner.gates_of(*region).any(|gate| feeders[gate.number].is_none());
    let Some(first) = order.iter().position(left) else { return };
    // The regions so far, and what each seat there can still take.
    let mut room: Vec<(Seat, u32)> = Vec::new();
    let mut from = 0;
    let add = |room: &mut Vec<(Seat, u32)>, region: usize| {
        let seating = seating(region);
        let loads = seating.count_children(seating.shape.loads());
        room.extend(loads.into_iter().zip(0_u32..).map(|(load, seat)| {
            (Seat { region, seat }, inner.options.max_children.saturating_sub(load))
        }));
    };
    order[..first].iter().for_each(|region| add(&mut room, *region));
    for region in &order[first..] {
        for gate in inner.gates_of(*region) {
            if feeders[gate.number].is_some() {
                continue;
            }
            while room.get(from).is_some_and(|(_, room)| *room == 0) {
                from += 1;
            }
            if let Some((seat, room)) = room.get_mut(from) {
                *room -= 1;
                feeders[gate.number] = Some(*seat);
            }
        }
        add(&mut room, *region);
    }
}
