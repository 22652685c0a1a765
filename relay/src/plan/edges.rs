//! What may be asked of a plan: who takes from whom.
//!
//! Not here: who sits where (`seating`), who feeds the gateways (`gates`).

use super::seating::{Seating, Spot};
use super::{At, Gate, Parents, Plan, Reason, Root, Seat, hash};

impl Plan {
    /// From whom a node takes the stream. Nothing of the owner, of a node that is not usable or not
    /// known, and of all if the owner is not known.
    #[must_use]
    pub fn parents(&self, node: u64) -> Option<Parents> {
        let root = self.root?;
        let at = *self.inner.members.get(&node)?;
        self.parents_at(root, at)
    }

    /// Works out the whole tree now, rather than region by region as it is asked for.
    #[must_use]
    pub fn work_out(self) -> Self {
        if let Some(root) = self.root {
            (0..self.inner.regions.len()).for_each(|region| {
                self.seating(root, region);
            });
        }
        self
    }

    /// All nodes that have parents, region by region.
    pub fn edges(&self) -> impl Iterator<Item = (u64, Parents)> {
        let regions = self.inner.regions.iter().enumerate();
        let all = regions.flat_map(|(region, nodes)| {
            nodes.ids.iter().enumerate().map(move |(member, id)| (*id, At { region, member }))
        });
        let edge = |(id, at): (u64, At)| Some((id, self.parents_at(self.root?, at)?));
        all.filter_map(edge)
    }

    /// The nodes whose first parent this one is, by region.
    #[must_use]
    pub fn children(&self, node: u64) -> Vec<u64> {
        let mut children = Vec::new();
        let Some(root) = self.root else { return children };
        let Some(seat) = self.seat_of(root, node) else { return children };
        let seating = self.seating(root, seat.region);
        let ids = &self.inner.regions[seat.region].ids;
        let sitting = seating.shape.below(seat.seat).filter_map(|below| seating.holder(below));
        let others = seating.members_under(seat.seat);
        let others =
            others.filter(|member| !(seat.region == root.region && Some(*member) == root.member));
        children.extend(sitting.chain(others).map(|member| ids[member]));
        for region in (0..self.inner.regions.len()).filter(|region| *region != root.region) {
            for gate in self.inner.gates_of(region) {
                if self.core(root).feeder(root, gate.number) == seat {
                    let holder = self.seating(root, region).holder(gate.seat);
                    children.extend(holder.map(|member| self.inner.regions[region].ids[member]));
                }
            }
        }
        children
    }

    /// How many hops the node is from the owner, which has 0.
    #[must_use]
    pub fn depth(&self, node: u64) -> Option<u32> {
        let root = self.root?;
        if node == root.id {
            return Some(0);
        }
        let at = *self.inner.members.get(&node)?;
        let mut depth = 1;
        let mut seat = self.above(root, at)?;
        while let Some(above) = self.above_seat(root, seat) {
            depth += 1;
            seat = above;
        }
        Some(depth)
    }

    /// The owner whose stream this is, if it is known.
    #[must_use]
    pub fn owner(&self) -> Option<u64> {
        self.root.map(|root| root.id)
    }

    fn parents_at(&self, root: Root, at: At) -> Option<Parents> {
        if at.region == root.region && Some(at.member) == root.member {
            return None;
        }
        let first = self.above(root, at)?;
        let second = self.second(root, at, first).and_then(|seat| self.node_on(root, seat));
        let first_node = self.node_on(root, first)?;
        let second = second.filter(|second| *second != first_node);
        Some(Parents { first: first_node, second, reason: self.reason(root, at, first) })
    }

    fn seating(&self, root: Root, region: usize) -> &Seating {
        if region == root.region { &self.core(root).seating } else { self.outer(root, region) }
    }

    /// The seat of a node, if it has one.
    fn seat_of(&self, root: Root, node: u64) -> Option<Seat> {
        if node == root.id {
            return Some(Seat { region: root.region, seat: 0 });
        }
        let at = self.inner.members.get(&node)?;
        match self.seating(root, at.region).spot(at.member) {
            Spot::Seat(seat) => Some(Seat { region: at.region, seat }),
            Spot::Under(_) => None,
        }
    }

    fn node_on(&self, root: Root, seat: Seat) -> Option<u64> {
        if seat == (Seat { region: root.region, seat: 0 }) {
            return Some(root.id);
        }
        let member = self.seating(root, seat.region).holder(seat.seat)?;
        Some(self.inner.regions[seat.region].ids[member])
    }

    /// The seat that feeds a seat; nothing above the owner's.
    fn above_seat(&self, root: Root, seat: Seat) -> Option<Seat> {
        match self.seating(root, seat.region).shape.above(seat.seat) {
            Some(above) => Some(Seat { region: seat.region, seat: above }),
            None if seat.region == root.region => None,
            None => {
                let gate = self.inner.gate(seat.region, seat.seat);
                Some(self.core(root).feeder(root, gate.number))
            }
        }
    }

    /// The seat that feeds a node other than the owner.
    fn above(&self, root: Root, at: At) -> Option<Seat> {
        match self.seating(root, at.region).spot(at.member) {
            Spot::Seat(seat) => self.above_seat(root, Seat { region: at.region, seat }),
            Spot::Under(seat) => Some(Seat { region: at.region, seat }),
        }
    }

    fn reason(&self, root: Root, at: At, first: Seat) -> Reason {
        let at_home = at.region == root.region;
        let tops = self.inner.regions[at.region].shape.tops;
        match self.seating(root, at.region).spot(at.member) {
            _ if at_home && first.seat == 0 => Reason::NearOwner,
            _ if at_home => Reason::OwnerFull,
            Spot::Seat(seat) if seat < tops && first.region != root.region => {
                Reason::GatewayRegionFull(seat)
            }
            Spot::Seat(seat) if seat < tops && first.seat != 0 => Reason::GatewayOwnerFull(seat),
            Spot::Seat(seat) if seat < tops => Reason::Gateway(seat),
            Spot::Seat(_) => Reason::Branch,
            Spot::Under(seat) if seat < tops => Reason::FromGateway,
            Spot::Under(_) => Reason::Deeper,
        }
    }

    /// The seat to which a node turns when the seat `first` is silent.
    fn second(&self, root: Root, at: At, first: Seat) -> Option<Seat> {
        let seating = self.seating(root, at.region);
        let hash = hash::pair(self.stream, self.inner.regions[at.region].keys[at.member]) >> 16;
        match seating.spot(at.member) {
            Spot::Under(_) if at.region == root.region => self.in_core(root, first, hash),
            Spot::Seat(seat) if at.region == root.region => self.before_in_core(root, seat),
            Spot::Under(seat) => {
                let seats = seating.shape.seats;
                let start = hash::pick(hash, seats);
                let others = (0..seats).map(|step| (start + step) % seats);
                let other = others.into_iter().find(|other| !seating.shape.is_under(*other, seat));
                let other = other.map(|seat| Seat { region: at.region, seat });
                other.or_else(|| self.outside(root, hash))
            }
            Spot::Seat(seat) => match seating.shape.above(seat) {
                Some(above) => {
                    let before = (0..seat).rev();
                    let other =
                        before.into_iter().find(|other| !seating.shape.is_under(*other, above));
                    let other = other.map(|seat| Seat { region: at.region, seat });
                    other.or_else(|| self.outside(root, hash))
                }
                None => self.second_of_gate(root, self.inner.gate(at.region, seat), first, hash),
            },
        }
    }

    /// Another seat of the owner's region than `first`, which is one, and not fed by it.
    fn in_core(&self, root: Root, first: Seat, hash: u64) -> Option<Seat> {
        let shape = self.core(root).seating.shape;
        let seat = |seat| Seat { region: root.region, seat };
        if first.seat == 0 {
            return (shape.seats > 1).then(|| seat(1 + hash::pick(hash, shape.seats - 1)));
        }
        let start = hash::pick(hash, shape.seats);
        let others = (0..shape.seats).map(|step| (start + step) % shape.seats);
        others.into_iter().find(|other| !shape.is_under(*other, first.seat)).map(seat)
    }

    /// For a seat of the owner's region: one before it that is not fed by the one that feeds it.
    fn before_in_core(&self, root: Root, seat: u32) -> Option<Seat> {
        let shape = self.core(root).seating.shape;
        let above = shape.above(seat)?;
        let apart = |other: &u32| above == 0 || !shape.is_under(*other, above);
        let from = u32::from(above == 0);
        let before = (from..seat).rev().find(apart);
        let before = before.map(|seat| Seat { region: root.region, seat });
        // Before the very first there is the owner alone, which it has already.
        before.or_else(|| self.after_first(root, Seat { region: root.region, seat }))
    }

    /// Where a region's node turns when its region has no other seat.
    fn outside(&self, root: Root, hash: u64) -> Option<Seat> {
        let seats = self.core(root).seating.shape.seats;
        let seat = if seats > 1 { 1 + hash::pick(hash, seats - 1) } else { 0 };
        Some(Seat { region: root.region, seat })
    }

    fn second_of_gate(&self, root: Root, gate: Gate, first: Seat, hash: u64) -> Option<Seat> {
        if first.region != root.region {
            return self.outside(root, hash);
        }
        let core = self.core(root);
        if core.seating.shape.seats > 1 {
            return self.in_core(root, first, hash);
        }
        // The owner is alone in its region: a gateway turns to one that is before its own.
        if let Some(seat) = gate.seat.checked_sub(1) {
            return Some(Seat { region: gate.region, seat });
        }
        let place = core.order.iter().position(|region| *region == gate.region)?;
        let Ok(before @ 1..) = u32::try_from(place) else {
            return self.after_first(root, Seat { region: gate.region, seat: 0 });
        };
        let region = core.order[hash::pick(hash, before) as usize];
        let seat = hash::pick(hash >> 8, self.inner.regions[region].shape.tops);
        Some(Seat { region, seat })
    }

    /// For the one seat that has only the owner before it: another one that does not get the stream
    /// through it by first parents.
    fn after_first(&self, root: Root, lone: Seat) -> Option<Seat> {
        let core = self.core(root);
        let near = (1..core.seating.shape.seats).map(|seat| Seat { region: root.region, seat });
        let regions = self.inner.regions.len();
        let outer = std::iter::once(lone.region).chain(0..regions);
        let gates = outer.filter(|region| *region != root.region).flat_map(|region| {
            self.inner.gates_of(region).map(|gate| Seat { region: gate.region, seat: gate.seat })
        });
        near.chain(gates).find(|seat| !self.is_fed_through(root, *seat, lone))
    }

    fn is_fed_through(&self, root: Root, seat: Seat, through: Seat) -> bool {
        let mut at = Some(seat);
        while let Some(seat) = at {
            if seat == through {
                return true;
            }
            at = self.above_seat(root, seat);
        }
        false
    }
}
