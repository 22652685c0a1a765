//! Puts packets of H.264 (RFC 6184) together to frames, as far as to tell when a stamped frame is
//! whole: from the packet with its stamp to the one with the marker, none missing.
//!
//! Not here: decryption and resent packets (the engine), what a whole frame is counted as
//! (`meter`).

use std::collections::VecDeque;

use crate::stamp::Stamp;

/// Frames under way at once: two seconds at 30 a second, longer than any jitter buffer.
const OPEN_MAX: usize = 64;
/// A frame that lacks packets for so long, in microseconds, will not come: a player would ask
/// for a keyframe.
const PATIENCE_US: u64 = 300_000;

/// Packets of one frame that are remembered before its stamp came: 5 MB.
const PACKETS_MAX: usize = 4_096;

const TYPE_MASK: u8 = 0x1f;
const NAL_SLICE: u8 = 1;
const NAL_IDR: u8 = 5;
const NAL_SEI: u8 = 6;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;

/// The frames of one video stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// In order of their RTP times.
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    time: u64,
    since_us: u64,
    stamp: Option<(u64, Stamp)>,
    last: Option<u64>,
    /// Packets from the stamp's on.
    count: u64,
    /// Numbers of packets that came before the stamp's.
    early: Vec<u64>,
    whole: bool,
}

impl Open {
    fn new(time: u64, since_us: u64) -> Self {
        Self { time, since_us, stamp: None, last: None, count: 0, early: Vec::new(), whole: false }
    }

    fn take(&mut self, number: u64, marker: bool, payload: &[u8]) {
        if marker {
            self.last = Some(number);
        }
        match self.stamp {
            Some((first, _)) => self.count += u64::from(number > first),
            None => match find(payload) {
                Some(stamp) => {
                    self.stamp = Some((number, stamp));
                    let later = self.early.iter().filter(|early| **early > number).count();
                    self.count = 1 + later as u64;
                    self.early = Vec::new();
                }
                None if self.early.len() < PACKETS_MAX => self.early.push(number),
                None => {}
            },
        }
    }

    fn is_whole(&self) -> bool {
        matches!((self.stamp, self.last), (Some((first, _)), Some(last))
            if last.checked_sub(first).is_some_and(|span| span + 1 == self.count))
    }
}

/// Only packets with an SEI message or the start of a slice can hold a stamp.
fn find(payload: &[u8]) -> Option<Stamp> {
    let [first, second, ..] = payload else { return None };
    let may = match first & TYPE_MASK {
        NAL_SLICE | NAL_IDR | NAL_SEI | STAP_A => true,
        FU_A => second & FU_START != 0,
        _ => false,
    };
    may.then(|| Stamp::find(payload)).flatten().map(|(stamp, _)| stamp)
}

impl Frames {
    /// Takes one packet, by its extended number and RTP time, once each. Gives the stamp of the
    /// frame that it makes whole.
    pub(super) fn packet(
        &mut self,
        number: u64,
        time: u64,
        marker: bool,
        payload: &[u8],
        now_us: u64,
    ) -> Option<Stamp> {
        let at = match self.open.iter().rposition(|open| open.time <= time) {
            Some(at) if self.open.get(at).is_some_and(|open| open.time == time) => at,
            // Older than all that are kept: too late.
            None if self.open.len() >= OPEN_MAX => return None,
            before => {
                let at = before.map_or(0, |at| at + 1);
                self.open.insert(at, Open::new(time, now_us));
                if self.open.len() > OPEN_MAX {
                    self.open.pop_front();
                    at - 1
                } else {
                    at
                }
            }
        };
        let open = self.open.get_mut(at).filter(|open| !open.whole)?;
        open.take(number, marker, payload);
        open.whole = open.is_whole();
        if open.whole { open.stamp.map(|(_, stamp)| stamp) } else { None }
    }

    /// Whether a frame lacks packets for so long that a player would ask for a keyframe. Such
    /// frames are given up.
    pub(super) fn gives_up(&mut self, now_us: u64) -> bool {
        let late = |open: &Open| !open.whole && open.since_us + PATIENCE_US < now_us;
        let any = self.open.iter().any(late);
        if any {
            self.open.iter_mut().filter(|open| late(open)).for_each(|open| open.whole = true);
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64) -> Stamp {
        Stamp { stream: 1, sequence, sent_us: 5 }
    }

    /// A frame of four packets: the stamp's, two fragments, the last.
    fn packets(sequence: u64) -> Vec<(u64, u64, bool, Vec<u8>)> {
        let (first, time) = (sequence * 4, sequence * 3_000);
        let fragment = vec![28, 0x05, 1, 2, 3];
        vec![
            (first, time, false, stamp(sequence).to_sei()),
            (first + 1, time, false, fragment.clone()),
            (first + 2, time, false, fragment.clone()),
            (first + 3, time, true, fragment),
        ]
    }

    fn feed(frames: &mut Frames, packets: &[(u64, u64, bool, Vec<u8>)]) -> Vec<u64> {
        let whole = packets.iter().filter_map(|(number, time, marker, payload)| {
            frames.packet(*number, *time, *marker, payload, 0)
        });
        whole.map(|stamp| stamp.sequence).collect()
    }

    #[test]
    fn a_frame_is_whole_with_its_last_packet() {
        let mut frames = Frames::default();
        for sequence in 0..300 {
            assert_eq!(feed(&mut frames, &packets(sequence)), [sequence]);
        }
    }

    #[test]
    fn packets_may_come_in_any_order() {
        let [a, b, c, d] = packets(7).try_into().unwrap();
        for order in [[&d, &c, &b, &a], [&b, &a, &d, &c], [&c, &d, &a, &b]] {
            let mut frames = Frames::default();
            let order = order.map(Clone::clone);
            assert_eq!(feed(&mut frames, &order[..3]), [] as [u64; 0]);
            assert_eq!(feed(&mut frames, &order[3..]), [7]);
        }
    }

    #[test]
    fn a_resent_packet_completes_its_frame_after_later_ones() {
        let mut frames = Frames::default();
        let mut first = packets(0);
        let missing = first.remove(2);
        assert_eq!(feed(&mut frames, &first), [] as [u64; 0]);
        assert_eq!(feed(&mut frames, &packets(1)), [1]);
        assert_eq!(feed(&mut frames, &[missing]), [0]);
    }

    #[test]
    fn parameter_sets_before_the_stamp_are_not_waited_for() {
        let mut frames = Frames::default();
        let mut all = vec![(99, 12 * 3_000, false, vec![7, 1, 2])];
        let shifted = packets(12)
            .into_iter()
            .map(|(number, time, marker, payload)| (number + 100 - 48, time, marker, payload));
        all.extend(shifted);
        assert_eq!(feed(&mut frames, &all), [12]);
    }

    #[test]
    fn a_frame_that_never_becomes_whole_is_given_up_once() {
        let mut frames = Frames::default();
        let first = packets(0).remove(0);
        frames.packet(first.0, first.1, first.2, &first.3, 1_000);
        assert!(!frames.gives_up(1_000 + PATIENCE_US));
        assert!(frames.gives_up(1_001 + PATIENCE_US));
        assert!(!frames.gives_up(1_002 + PATIENCE_US));
    }

    #[test]
    fn frames_under_way_are_bounded() {
        let mut frames = Frames::default();
        for sequence in 0..10_000 {
            let first = packets(sequence).remove(0);
            frames.packet(first.0, first.1, first.2, &first.3, 0);
            assert!(frames.open.len() <= OPEN_MAX);
        }
        let old = packets(3).remove(0);
        assert_eq!(frames.packet(old.0, old.1, true, &old.3, 0), None);
        assert_eq!(frames.open.len(), OPEN_MAX);
    }
}
