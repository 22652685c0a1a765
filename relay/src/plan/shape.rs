//! How the seats of a region hang together. A seat is a place in the tree that has children; which
//! node sits on it is decided stream by stream. The shape depends on numbers of nodes alone.
//!
//! Not here: who sits where (`seating`).

/// Seats are made for this many children more than there are, in eighths, so that a hash may be
/// uneven and a node may fail without everybody moving.
const SPARE_EIGHTHS: u32 = 10;

/// A number of seats, the first `tops` of which are fed from above; the others hang from earlier
/// ones, level by level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// Seats at the top: a region's gateways, or the owner.
    pub(super) tops: u32,
    /// All seats.
    pub(super) seats: u32,
    /// Most seats under a seat.
    fan_out: u32,
}

impl Shape {
    /// The shape for a region in which `children` are to be fed and `sitters` nodes may have
    /// children of their own, at most `max_children` each.
    ///
    /// The number of seats doubles rather than grow by one, as each change of it moves nodes.
    pub(super) fn new(tops: u32, children: u32, sitters: u32, max_children: u32) -> Self {
        let tops = tops.min(sitters);
        let wanted = u64::from(children) * u64::from(SPARE_EIGHTHS) / 8;
        let mut seats = tops;
        while seats > 0 && seats < sitters && u64::from(seats) * u64::from(max_children) < wanted {
            seats = seats.saturating_mul(2).min(sitters);
        }
        Self { tops, seats, fan_out: max_children.div_ceil(2).max(1) }
    }

    /// The owner, who feeds everybody, and `spare` further seats whom others may turn to.
    pub(super) fn flat(spare: u32) -> Self {
        Self { tops: 1, seats: 1 + spare, fan_out: spare.max(1) }
    }

    /// The seat that feeds this one; none for those at the top.
    pub(super) fn above(self, seat: u32) -> Option<u32> {
        let mut rest = seat.checked_sub(self.tops)?;
        let (mut level, mut width) = (0, self.tops.max(1));
        while rest >= width.saturating_mul(self.fan_out) {
            rest -= width * self.fan_out;
            level += width;
            width *= self.fan_out;
        }
        Some(level + rest % width)
    }

    /// Whether `seat` is `top`, or is fed through it.
    pub(super) fn is_under(self, seat: u32, top: u32) -> bool {
        let mut at = Some(seat);
        while let Some(seat) = at {
            if seat == top {
                return true;
            }
            at = self.above(seat);
        }
        false
    }

    /// The seats right under `seat`.
    pub(super) fn below(self, seat: u32) -> impl Iterator<Item = u32> {
        (self.tops..self.seats).filter(move |below| self.above(*below) == Some(seat))
    }

    /// How many seats are right under each, by seat.
    pub(super) fn loads(self) -> Vec<u32> {
        let mut loads = vec![0; self.seats as usize];
        for seat in self.tops..self.seats {
            if let Some(above) = self.above(seat) {
                loads[above as usize] += 1;
            }
        }
        loads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_hang_from_earlier_ones_and_no_seat_has_more_than_half_its_children_as_seats() {
        for (tops, max_children) in [(1, 2), (2, 2), (2, 3), (3, 5), (2, 32), (4, 64)] {
            let shape = Shape::new(tops, 200, 400, max_children);
            assert!(shape.seats * max_children >= 250, "{shape:?}");
            let mut loads = vec![0; shape.seats as usize];
            for seat in 0..shape.seats {
                match shape.above(seat) {
                    None => assert!(seat < tops),
                    Some(above) => {
                        assert!(above < seat, "{shape:?}: {seat} under {above}");
                        assert!(shape.is_under(seat, above) && !shape.is_under(above, seat));
                        loads[above as usize] += 1;
                    }
                }
            }
            assert!(loads.iter().all(|load| *load <= max_children.div_ceil(2)), "{shape:?}");
            assert_eq!(loads, shape.loads());
        }
    }

    #[test]
    fn there_are_no_more_seats_than_nodes_that_may_sit() {
        assert_eq!(Shape::new(2, 100, 1, 8), Shape { tops: 1, seats: 1, fan_out: 4 });
        assert_eq!(Shape::new(2, 100, 7, 8).seats, 7);
        assert_eq!(Shape::new(2, 100, 0, 8).seats, 0);
        assert_eq!(Shape::new(2, 51, 100, 32).seats, 2);
        assert_eq!(Shape::new(2, 52, 100, 32).seats, 4);
    }

    #[test]
    fn in_a_flat_shape_all_seats_hang_from_the_first() {
        assert!((1..4).all(|seat| Shape::flat(3).above(seat) == Some(0)));
        assert_eq!(Shape::flat(0).seats, 1);
    }
}
