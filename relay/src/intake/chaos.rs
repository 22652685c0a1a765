//! An intake under random parents: streams out of order, given up, cut off, taken up by others.
//!
//! Not here: single rules (`tests`).
#![allow(clippy::disallowed_methods, reason = "tests begin at some time")]

use headwater_media::MediaKind;
use proptest::prelude::*;

use super::*;
use crate::testing::{Feeder, broadcast, name};

const FRAMES: u32 = 5;
const GROUPS: u64 = 12;

/// A group's stream on its way.
struct Stream {
    order: u64,
    seq: u64,
    next: u32,
    ticket: Option<Ticket>,
}

struct Chaos {
    feeder: Feeder,
    intake: Intake,
    now: Instant,
    source: u64,
    /// The group that the parent sends next, the frame in it, and the stream's number.
    cursor: (u64, u32, u64),
    streams: Vec<Stream>,
}

impl Chaos {
    fn new() -> Self {
        let mut feeder = Feeder::video(&broadcast("a"));
        feeder.frame_bytes = 10;
        for seq in 1..=GROUPS {
            feeder.whole_group(seq, FRAMES);
        }
        let intake = Intake::new(name("a"), BusLimits::default(), Duration::from_secs(2));
        let now = Instant::now();
        let (cursor, streams) = ((1, 0, 0), Vec::new());
        let mut chaos = Self { feeder, intake, now, source: 0, cursor, streams };
        chaos.another_parent();
        chaos
    }

    fn source(&self) -> SourceId {
        SourceId(self.source)
    }

    /// The streams break off, and another parent goes on where the intake says.
    fn another_parent(&mut self) {
        for stream in self.streams.drain(..) {
            if let Some(ticket) = stream.ticket {
                self.intake.broken(&ticket, Break::Interrupted);
            }
        }
        self.source += 1;
        let (_, start) = self.intake.begin(self.source());
        self.cursor = match start {
            StartAt::Newest => (1, 0, 0),
            StartAt::Positions(at) => (at[0].group.0, at[0].frame, 0),
        };
        let track =
            TrackEntry { id: 7, name: TrackName::video(), kind: MediaKind::Video, finished: None };
        self.intake.tracks(self.source(), Epoch(1), BroadcastState::Live, &[track]);
    }

    fn open_stream(&mut self) {
        let (seq, next, order) = self.cursor;
        if seq <= GROUPS {
            self.streams.push(Stream { order, seq, next, ticket: None });
            self.cursor = (seq + 1, 0, order + 1);
        }
    }

    /// A step of one stream: its admission, a frame, or its end.
    fn advance(&mut self, at: usize) {
        if self.streams.is_empty() {
            return;
        }
        let at = at % self.streams.len();
        let mut stream = self.streams.swap_remove(at);
        let group = self.feeder.track().group(GroupSeq(stream.seq)).unwrap();
        let Some(ticket) = &mut stream.ticket else {
            let place = (7, stream.order);
            let head = (group.header(), stream.next);
            match self.intake.admit(self.source(), place, head, self.now, self.now) {
                Admission::Go(ticket) => stream.ticket = Some(ticket),
                Admission::Wait(_) => {}
                Admission::Refuse(_) => return,
            }
            return self.streams.push(stream);
        };
        if stream.next == FRAMES {
            return self.intake.group_end(ticket, FRAMES);
        }
        let frame = group.frame(stream.next).unwrap().clone();
        stream.next += 1;
        if self.intake.frame(ticket, frame).is_ok() {
            self.streams.push(stream);
        }
    }

    /// The parent gives a stream up, and says so.
    fn reset(&mut self, at: usize) {
        if self.streams.is_empty() {
            return;
        }
        let at = at % self.streams.len();
        let stream = self.streams.swap_remove(at);
        if let Some(ticket) = &stream.ticket {
            self.intake.broken(ticket, Break::Reset);
        }
        self.intake.dropped(self.source(), 7, stream.order);
    }

    /// What is on the bus is what was made, in order; what is complete is so to the last frame.
    fn check(&self) {
        let Some(track) = self.intake.broadcast().borrow().track(&TrackName::video()) else {
            return;
        };
        let mut last = 0;
        for group in track.window().iter() {
            assert!(group.seq().0 > last);
            last = group.seq().0;
            let made = self.feeder.track().group(group.seq()).unwrap();
            for index in 0..group.len() {
                let (here, there) = (group.frame(index).unwrap(), made.frame(index).unwrap());
                assert_eq!((here.dts, &here.payload), (there.dts, &there.payload));
            }
            if group.final_len().is_some() && !group.is_torn() {
                assert_eq!(group.len(), FRAMES, "group {last}");
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_parents_do_the_bus_holds_what_was_made(
        steps in prop::collection::vec((0u8..40, any::<usize>()), 0..400),
    ) {
        let mut chaos = Chaos::new();
        for (what, which) in steps {
            match what {
                0 => chaos.another_parent(),
                1 => chaos.reset(which),
                2..=9 => chaos.open_stream(),
                _ => chaos.advance(which),
            }
            chaos.check();
        }
        // Faults off: all that is left to come comes, to the last frame.
        chaos.another_parent();
        for _ in 0..GROUPS {
            chaos.open_stream();
        }
        for turn in 0..1_000 {
            chaos.advance(turn);
            chaos.check();
        }
        prop_assert!(chaos.streams.is_empty());
        let track = chaos.intake.broadcast().borrow().track(&TrackName::video()).unwrap();
        let newest = track.newest().unwrap();
        prop_assert_eq!(newest.seq().0, GROUPS);
        prop_assert!(newest.is_torn() || newest.final_len() == Some(FRAMES));
    }
}
