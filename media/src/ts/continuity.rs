//! The continuity counter: which packets are missing, and which came twice
//! (ISO/IEC 13818-1 §2.4.3.3).
//!
//! Not here: what a gap costs (`demux`).

use super::packet::Packet;

/// Follows the continuity counter of a PID.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    /// None when the next packet is taken as it comes.
    last: Option<u8>,
    /// The last payload, to tell a duplicate from sixteen packets lost.
    payload: Vec<u8>,
    repeated: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// In its place.
    Next,
    /// The one before once more.
    Duplicate,
    /// Others are missing before it.
    Gap,
}

impl Continuity {
    /// The counter cannot be trusted: the next packet is taken as it comes.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Where the packet stands after the ones before it.
    pub(super) fn check(&mut self, packet: &Packet<'_>, payload: &[u8]) -> Order {
        let order = match self.last {
            None => Order::Next,
            Some(last) if packet.continuity == (last + 1) & 0x0f => Order::Next,
            Some(last)
                if packet.continuity == last && !self.repeated && self.payload == payload =>
            {
                Order::Duplicate
            }
            // An announced jump ends what came before, but nothing is missing.
            Some(_) if packet.discontinuity && packet.starts => Order::Next,
            Some(_) => Order::Gap,
        };
        self.repeated = order == Order::Duplicate;
        if !self.repeated {
            self.last = Some(packet.continuity);
            self.payload.clear();
            self.payload.extend_from_slice(payload);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::PACKET_BYTES;

    /// Checks packets of (counter, discontinuity, start, payload) one after another.
    fn check(packets: &[(u8, bool, bool, u8)]) -> Vec<Order> {
        let mut continuity = Continuity::default();
        let orders = packets.iter().map(|&(counter, discontinuity, starts, fill)| {
            let mut bytes = [fill; PACKET_BYTES];
            bytes[..3].copy_from_slice(&[0x47, u8::from(starts) << 6 | 1, 0]);
            bytes[3..6].copy_from_slice(&[0x30 | counter, 1, u8::from(discontinuity) << 7]);
            let packet = Packet::parse(&bytes).unwrap();
            continuity.check(&packet, packet.payload.unwrap())
        });
        orders.collect()
    }

    #[test]
    fn the_counter_tells_next_repeated_and_missing() {
        use Order::{Duplicate, Gap, Next};
        let plain = |counter, fill| (counter, false, false, fill);
        assert_eq!(check(&[plain(14, 0), plain(15, 0), plain(0, 0)]), [Next, Next, Next]);
        assert_eq!(check(&[plain(3, 0), plain(5, 0), plain(6, 0)]), [Next, Gap, Next]);
        // Repeated once, not twice, and only with the same payload.
        assert_eq!(check(&[plain(3, 0), plain(3, 0), plain(4, 0)]), [Next, Duplicate, Next]);
        assert_eq!(check(&[plain(3, 0), plain(3, 0), plain(3, 0)]), [Next, Duplicate, Gap]);
        assert_eq!(check(&[plain(3, 0), plain(3, 1)]), [Next, Gap]);
    }

    #[test]
    fn an_announced_jump_is_no_loss_where_a_pes_begins() {
        use Order::{Gap, Next};
        assert_eq!(check(&[(3, false, true, 0), (9, true, true, 0)]), [Next, Next]);
        assert_eq!(check(&[(3, false, true, 0), (9, true, false, 0)]), [Next, Gap]);
    }
}
