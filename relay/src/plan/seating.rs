//! Which node of a region sits on which seat for one stream, and at whose feet the others are.
//!
//! Each node's hash with the stream picks a home among the seats; the best of those at home there
//! takes the seat, and the others are its children. So when a node fails, the next best of its home
//! takes its seat with all its children, and nobody else moves.
//!
//! Not here: how the seats hang together (`shape`), how regions do (`gates`).

use super::hash;
use super::region::{Region, count};
use super::shape::Shape;

/// Where a node is in its region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spot {
    /// It has this seat.
    Seat(u32),
    /// It has none, and is a child of this seat.
    Under(u32),
}

/// What is seated.
pub(super) struct Layout<'a> {
    /// The seats.
    pub(super) shape: Shape,
    /// Children that each seat has already from elsewhere, in full or not at all.
    pub(super) loads: Vec<u32>,
    /// Most children of a seat.
    pub(super) max_children: u32,
    /// Seats that are taken already: 1 in the owner's region, whose first is the owner's.
    pub(super) taken: u32,
    /// A member that is not seated: the owner.
    pub(super) apart: Option<usize>,
    /// All who get no seat are children of the first one.
    pub(super) flat: bool,
    /// Weights, by member; all the same if there are none.
    pub(super) weights: Option<&'a [u64]>,
}

impl Layout<'_> {
    /// The seat at which a node or gate with this hash is at home.
    pub(super) fn home(&self, hash: u64) -> u32 {
        // In a flat shape the spare seats alone are a home.
        let (first, of) = if self.flat {
            (self.taken, self.shape.seats - self.taken)
        } else {
            (0, self.shape.seats)
        };
        if of == 0 { 0 } else { first + hash::pick(hash, of) }
    }
}

const NOBODY: u32 = u32::MAX;

/// The mark of those who have a seat, in `spots`.
const SITS: u32 = 1 << 31;

/// A region's nodes in their places.
#[derive(Debug)]
pub(super) struct Seating {
    /// The seats.
    pub(super) shape: Shape,
    /// The member on each seat; `NOBODY` where none of the region's members sits: the owner does.
    holders: Vec<u32>,
    /// The seat at which each member is, marked if it has it.
    spots: Vec<u32>,
    /// Children of each seat, once they had to be counted.
    pub(super) loads: Vec<u32>,
}

impl Seating {
    /// Seats a region's nodes.
    pub(super) fn new(region: &Region, stream: u64, layout: Layout<'_>) -> Self {
        let seats = layout.shape.seats as usize;
        let mut this = Self {
            shape: layout.shape,
            holders: vec![NOBODY; seats],
            spots: Vec::with_capacity(region.ids.len()),
            loads: Vec::new(),
        };
        let mut homes = vec![0_u32; seats];
        this.settle(region, stream, &layout, &mut homes);
        this.fill(region, stream, &layout);
        this.bound(&layout, &homes);
        this
    }

    /// Lets everybody go home, and gives each seat to the best there who stays.
    fn settle(&mut self, region: &Region, stream: u64, layout: &Layout<'_>, homes: &mut [u32]) {
        let mut best = vec![u64::MAX; self.holders.len()];
        for (member, key) in region.keys.iter().enumerate() {
            let hash = hash::pair(stream, *key);
            let home = layout.home(hash);
            self.spots.push(home);
            if Some(member) == layout.apart {
                continue;
            }
            homes[home as usize] += 1;
            if member < region.staying && home >= layout.taken {
                let cost = cost(hash, member, layout.weights);
                if cost < best[home as usize] {
                    best[home as usize] = cost;
                    self.holders[home as usize] = count(member);
                }
            }
        }
        for (seat, holder) in self.holders.iter().enumerate() {
            if let Some(spot) = self.spots.get_mut(*holder as usize) {
                *spot = SITS | count(seat);
            }
        }
    }

    /// Gives seats at which nobody is at home to the best who have none: first of those who stay.
    fn fill(&mut self, region: &Region, stream: u64, layout: &Layout<'_>) {
        for seat in layout.taken as usize..self.holders.len() {
            if self.holders[seat] != NOBODY {
                continue;
            }
            let free =
                |member: &usize| self.spots[*member] & SITS == 0 && Some(*member) != layout.apart;
            let order = |member: &usize| {
                let hash = hash::pair(stream, region.keys[*member]);
                (*member >= region.staying, cost(hash, *member, layout.weights), *member)
            };
            let best = (0..region.keys.len()).filter(free).min_by_key(order);
            if let Some(best) = best {
                self.holders[seat] = count(best);
                self.spots[best] = SITS | count(seat);
            }
        }
    }

    /// Sends on from seats that have too many children to the next seats that have room.
    fn bound(&mut self, layout: &Layout<'_>, homes: &[u32]) {
        if layout.flat {
            let rest = self.spots.iter_mut().filter(|spot| **spot & SITS == 0);
            rest.for_each(|spot| *spot = 0);
            return;
        }
        // Whoever is at home counts here, its seat's holder too: one too many at most.
        let fits = |(home, load): (&u32, &u32)| home + load <= layout.max_children;
        if homes.iter().zip(&layout.loads).all(fits) {
            return;
        }
        self.loads.clone_from(&layout.loads);
        let seats = self.shape.seats;
        for (member, spot) in self.spots.iter_mut().enumerate() {
            if *spot & SITS != 0 || Some(member) == layout.apart {
                continue;
            }
            let home = *spot;
            let on = (0..seats).map(|step| (home + step) % seats);
            let roomy = |seat: &u32| self.loads[*seat as usize] < layout.max_children;
            // With too few who may have children all are full: the bound gives way.
            *spot = on.clone().find(roomy).unwrap_or(home);
            self.loads[*spot as usize] += 1;
        }
    }

    /// Where a member is.
    pub(super) fn spot(&self, member: usize) -> Spot {
        match self.spots[member] {
            spot if spot & SITS != 0 => Spot::Seat(spot & !SITS),
            spot => Spot::Under(spot),
        }
    }

    /// The member on a seat; nobody on the owner's.
    pub(super) fn holder(&self, seat: u32) -> Option<usize> {
        let holder = *self.holders.get(seat as usize)?;
        (holder != NOBODY).then_some(holder as usize)
    }

    /// Members right under a seat that have none, but for the one that stands apart.
    pub(super) fn members_under(&self, seat: u32) -> impl Iterator<Item = usize> {
        let under = move |(member, spot): (usize, &u32)| (*spot == seat).then_some(member);
        self.spots.iter().enumerate().filter_map(under)
    }

    /// Children of each seat within the region, those counted that `from` has already.
    pub(super) fn count_children(&self, from: Vec<u32>) -> Vec<u32> {
        let mut loads = from;
        for spot in self.spots.iter().filter(|spot| **spot & SITS == 0) {
            loads[*spot as usize] += 1;
        }
        loads
    }
}

fn cost(hash: u64, member: usize, weights: Option<&[u64]>) -> u64 {
    let preference = hash::preference(hash);
    match weights {
        None => u64::from(!preference),
        Some(weights) => hash::cost(preference, weights[member]),
    }
}
