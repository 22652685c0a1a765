#![allow(clippy::disallowed_methods, reason = "tests begin at some time")]

use headwater_media::MediaKind;

use super::*;
use crate::route::Route;
use crate::testing::{Feeder, broadcast, name, print};

const PATIENCE: Duration = Duration::from_secs(2);
const FIRST: SourceId = SourceId(1);
const SECOND: SourceId = SourceId(2);

/// A stream that was made elsewhere, and its intake here.
struct Bed {
    feeder: Feeder,
    intake: Intake,
    now: Instant,
}

fn entry(id: u64, name: TrackName, kind: MediaKind) -> TrackEntry {
    TrackEntry { id, name, kind, finished: None }
}

fn video(id: u64) -> TrackEntry {
    entry(id, TrackName::video(), MediaKind::Video)
}

impl Bed {
    fn new() -> Self {
        let feeder = Feeder::video(&broadcast("a"));
        let mut intake = Intake::new(name("a"), BusLimits::default(), PATIENCE);
        assert_eq!(intake.begin(FIRST), (Epoch(0), StartAt::Newest));
        intake.tracks(FIRST, Epoch(1), BroadcastState::Live, &[video(0)]);
        Self { feeder, intake, now: Instant::now() }
    }

    fn admit_at(
        &mut self,
        source: SourceId,
        order: u64,
        seq: u64,
        first: u32,
        at: Instant,
    ) -> Admission {
        let group = self.feeder.track().group(GroupSeq(seq)).unwrap();
        self.intake.admit(source, (0, order), (group.header(), first), self.now, at)
    }

    fn admit(&mut self, source: SourceId, order: u64, seq: u64, first: u32) -> Admission {
        self.admit_at(source, order, seq, first, self.now)
    }

    fn go(&mut self, source: SourceId, order: u64, seq: u64, first: u32) -> Ticket {
        match self.admit(source, order, seq, first) {
            Admission::Go(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// Takes frames of the ticket's group up to `to`.
    fn take(&mut self, ticket: &mut Ticket, to: u32) -> Result<(), RefuseReason> {
        let group = self.feeder.track().group(ticket.seq).unwrap();
        while ticket.next < to {
            let frame = group.frame(ticket.next).unwrap().clone();
            self.intake.frame(ticket, frame)?;
        }
        Ok(())
    }

    fn here(&self) -> Vec<String> {
        let track = self.intake.broadcast().borrow().track(&TrackName::video()).unwrap();
        print(&track)
    }

    fn refused(admission: Admission) -> RefuseReason {
        match admission {
            Admission::Refuse(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn groups_are_taken_in_the_order_in_which_they_were_sent() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 3);
    bed.feeder.whole_group(6, 3);
    assert!(matches!(bed.admit(FIRST, 1, 6, 0), Admission::Wait(_)), "the first is not here yet");
    let mut first = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut first, 2).unwrap();
    assert!(matches!(bed.admit(FIRST, 1, 6, 0), Admission::Wait(_)), "the first is being read");
    bed.take(&mut first, 3).unwrap();
    bed.intake.group_end(&first, 3);
    let mut second = bed.go(FIRST, 1, 6, 0);
    bed.take(&mut second, 3).unwrap();
    bed.intake.group_end(&second, 3);
    assert_eq!(bed.here(), print(&bed.feeder.track()));
}

#[test]
fn a_group_that_never_comes_is_waited_for_only_so_long() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 3);
    bed.feeder.whole_group(6, 3);
    let mut first = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut first, 2).unwrap();
    let later = bed.now + PATIENCE;
    assert!(matches!(bed.admit(FIRST, 1, 6, 0), Admission::Wait(at) if at == later));
    let Admission::Go(mut second) = bed.admit_at(FIRST, 1, 6, 0, later) else { panic!() };
    assert_eq!(bed.take(&mut first, 3), Err(RefuseReason::Old));
    bed.take(&mut second, 3).unwrap();
    let torn = bed.here().into_iter().find(|line| line.ends_with("torn true")).unwrap();
    assert!(torn.starts_with("5 Some(2)"), "{torn}");
}

#[test]
fn a_group_that_was_given_up_is_torn_and_the_next_one_must_be_independent() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 3);
    bed.feeder.group(6, false);
    bed.feeder.frames(2);
    bed.feeder.whole_group(7, 2);
    let mut first = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut first, 1).unwrap();
    bed.intake.broken(&first, Break::Reset);
    assert_eq!(Bed::refused(bed.admit(FIRST, 1, 6, 0)), RefuseReason::NotIndependent);
    bed.go(FIRST, 2, 7, 0);
}

#[test]
fn a_stream_that_was_dropped_before_it_came_is_not_waited_for() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 1);
    bed.feeder.whole_group(6, 1);
    assert!(matches!(bed.admit(FIRST, 1, 6, 0), Admission::Wait(_)));
    bed.intake.dropped(FIRST, 0, 0);
    bed.go(FIRST, 1, 6, 0);
    assert_eq!(Bed::refused(bed.admit(FIRST, 0, 5, 0)), RefuseReason::Old);
}

#[test]
fn another_parent_goes_on_at_the_exact_frame() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 10);
    let mut ticket = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut ticket, 4).unwrap();
    bed.intake.broken(&ticket, Break::Interrupted);
    let at = Position { track: TrackName::video(), epoch: Epoch(1), group: GroupSeq(5), frame: 4 };
    assert_eq!(bed.intake.begin(SECOND), (Epoch(1), StartAt::Positions(vec![at])));
    assert_eq!(bed.take(&mut ticket, 5), Err(RefuseReason::Replaced));
    bed.intake.tracks(SECOND, Epoch(1), BroadcastState::Live, &[video(0)]);
    // It begins two frames early: those are passed over.
    let mut ticket = bed.go(SECOND, 0, 5, 2);
    bed.take(&mut ticket, 10).unwrap();
    bed.intake.group_end(&ticket, 10);
    assert_eq!(bed.here(), print(&bed.feeder.track()));
    let at = Position { track: TrackName::video(), epoch: Epoch(1), group: GroupSeq(6), frame: 0 };
    assert_eq!(bed.intake.begin(FIRST).1, StartAt::Positions(vec![at]));
}

#[test]
fn a_parent_that_lacks_frames_in_between_tears_the_group() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 10);
    let mut ticket = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut ticket, 4).unwrap();
    bed.intake.begin(SECOND);
    bed.intake.tracks(SECOND, Epoch(1), BroadcastState::Live, &[video(0)]);
    assert_eq!(Bed::refused(bed.admit(SECOND, 0, 5, 6)), RefuseReason::Gap);
    assert_eq!(bed.intake.in_flight(&TrackName::video()), None);
}

#[test]
fn a_lower_epoch_is_dropped_and_a_higher_one_followed() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 4);
    let mut old = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut old, 2).unwrap();
    bed.intake.fence(Epoch(2));
    assert_eq!(bed.take(&mut old, 3), Err(RefuseReason::Fenced));
    bed.feeder.whole_group(6, 4);
    assert_eq!(Bed::refused(bed.admit(FIRST, 1, 6, 0)), RefuseReason::Fenced);
    assert_eq!(bed.intake.in_flight(&TrackName::video()), Some((GroupSeq(5), 2)), "still open");
    // A parent of the new epoch brings the rest of the old group, then goes on.
    assert_eq!(bed.intake.begin(SECOND).0, Epoch(2));
    bed.intake.tracks(SECOND, Epoch(2), BroadcastState::Live, &[video(0)]);
    let mut rest = bed.go(SECOND, 0, 5, 2);
    bed.take(&mut rest, 4).unwrap();
    bed.intake.group_end(&rest, 4);
    bed.feeder.epoch = 2;
    bed.feeder.whole_group(9, 4);
    bed.go(SECOND, 1, 9, 0);
    bed.feeder.epoch = 1;
    bed.feeder.whole_group(10, 4);
    bed.intake.broken(&rest, Break::Interrupted);
    let second = bed.intake.begin(FIRST);
    assert_eq!(second.0, Epoch(2));
    bed.intake.tracks(FIRST, Epoch(1), BroadcastState::Live, &[video(0)]);
    assert!(matches!(bed.admit(FIRST, 0, 10, 0), Admission::Wait(_)), "its list is not taken");
}

#[test]
fn the_group_in_flight_ends_at_the_agreed_frame() {
    let track = TrackName::video();
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 10);
    let mut ticket = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut ticket, 4).unwrap();
    assert_eq!(bed.intake.cut(&track, GroupSeq(6), 4), CutOutcome::NotOpen);
    assert_eq!(bed.intake.cut(&track, GroupSeq(5), 6), CutOutcome::Missing(4));
    bed.take(&mut ticket, 6).unwrap();
    assert_eq!(bed.intake.in_flight(&track), None, "complete");
    assert_eq!(bed.take(&mut ticket, 7), Err(RefuseReason::Old));

    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 10);
    let mut ticket = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut ticket, 4).unwrap();
    bed.intake.stop(FIRST);
    let group = bed.feeder.track().group(GroupSeq(5)).unwrap();
    assert_eq!(bed.intake.cut(&track, GroupSeq(5), 6), CutOutcome::Missing(4));
    let frames = (3..6).map(|index| group.frame(index).unwrap().clone()).collect();
    bed.intake.fetched(&track, GroupSeq(5), 3, frames).unwrap();
    assert!(bed.here().last().unwrap().starts_with("5 Some(6) torn false"));

    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 10);
    let mut ticket = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut ticket, 4).unwrap();
    assert_eq!(bed.intake.cut(&track, GroupSeq(5), 3), CutOutcome::Torn);
}

#[test]
fn a_new_owners_first_group_waits_for_the_rest_of_the_one_in_flight_but_not_for_long() {
    let track = TrackName::video();
    for rest_comes in [true, false] {
        let mut bed = Bed::new();
        bed.feeder.whole_group(5, 10);
        bed.feeder.epoch = 2;
        bed.feeder.whole_group(22, 3);
        let mut ticket = bed.go(FIRST, 0, 5, 0);
        bed.take(&mut ticket, 4).unwrap();
        bed.intake.stop(FIRST);
        assert_eq!(bed.intake.cut(&track, GroupSeq(5), 6), CutOutcome::Missing(4));
        bed.intake.begin(SECOND);
        bed.intake.tracks(SECOND, Epoch(2), BroadcastState::Live, &[video(0)]);
        let until = bed.now + REST_PATIENCE;
        assert!(matches!(bed.admit(SECOND, 0, 22, 0), Admission::Wait(at) if at == until));
        if rest_comes {
            let group = bed.feeder.track().group(GroupSeq(5)).unwrap();
            let frames = (4..6).map(|index| group.frame(index).unwrap().clone()).collect();
            bed.intake.fetched(&track, GroupSeq(5), 4, frames).unwrap();
            bed.go(SECOND, 0, 22, 0);
        } else {
            let late = bed.admit_at(SECOND, 0, 22, 0, until);
            assert!(matches!(late, Admission::Go(_)), "{late:?}");
        }
        let of_five = bed.here().into_iter().find(|line| line.starts_with("5 ")).unwrap();
        assert_eq!(of_five.contains("torn true"), !rest_comes, "{of_five}");
    }
}

#[test]
fn a_track_is_finished_when_all_its_streams_were_read() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 2);
    let mut ticket = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut ticket, 1).unwrap();
    let done = TrackEntry { finished: Some(1), ..video(0) };
    bed.intake.tracks(FIRST, Epoch(1), BroadcastState::Ended, &[done]);
    assert_eq!(bed.intake.ended_by(), None, "a frame is still to come");
    bed.take(&mut ticket, 2).unwrap();
    bed.intake.group_end(&ticket, 2);
    assert_eq!(bed.intake.ended_by(), Some(FIRST));
    let before = bed.intake.broadcast().borrow().clone();
    assert!(before.track(&TrackName::video()).unwrap().is_finished());
    // The stream begins anew: another broadcast, numbers above.
    bed.intake.begin(SECOND);
    bed.intake.route(SECOND, Route::default());
    bed.intake.tracks(SECOND, Epoch(2), BroadcastState::Live, &[]);
    let state = |bed: &Bed| bed.intake.broadcast().borrow().state();
    assert_eq!(state(&bed), BroadcastState::Ended, "the parent has not got it itself");
    bed.intake.route(SECOND, Route::owner());
    bed.intake.tracks(SECOND, Epoch(2), BroadcastState::Live, &[video(0)]);
    assert_eq!(state(&bed), BroadcastState::Live);
    assert_eq!(before.state(), BroadcastState::Ended);
    bed.feeder.epoch = 2;
    bed.feeder.whole_group(6, 2);
    assert_eq!(Bed::refused(bed.admit(SECOND, 0, 5, 0)), RefuseReason::Old);
    bed.go(SECOND, 1, 6, 0);
}

#[test]
fn a_parent_that_learns_of_the_new_epoch_is_asked_anew_from_where_it_was_passed_over() {
    let mut bed = Bed::new();
    bed.intake.route(FIRST, Route::owner());
    bed.feeder.group(5, true);
    bed.feeder.frames(4);
    let mut ticket = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut ticket, 2).unwrap();
    bed.intake.fence(Epoch(2));
    assert!(!bed.intake.brings(FIRST));
    assert_eq!(bed.take(&mut ticket, 3), Err(RefuseReason::Fenced));
    assert!(!bed.intake.wants_resume(FIRST), "it knows no better yet");
    bed.feeder.frames(1);
    bed.feeder.writer.end_group();
    bed.feeder.epoch = 2;
    bed.feeder.whole_group(7, 2);
    // By a group's head, too: the group in flight must not be torn for it.
    assert_eq!(Bed::refused(bed.admit(FIRST, 1, 7, 0)), RefuseReason::Replaced);
    assert!(bed.intake.wants_resume(FIRST) && bed.intake.brings(FIRST));
    let (epoch, start) = bed.intake.begin(SECOND);
    let StartAt::Positions(at) = start else { panic!("{start:?}") };
    assert_eq!((epoch, at[0].group, at[0].frame), (Epoch(2), GroupSeq(5), 2));
    assert!(!bed.intake.wants_resume(SECOND));
}

#[test]
fn tracks_come_and_go_with_the_parents_list() {
    let mut bed = Bed::new();
    let audio = entry(1, TrackName::audio(), MediaKind::Audio);
    bed.intake.tracks(FIRST, Epoch(1), BroadcastState::Live, &[video(0), audio.clone()]);
    let broadcast = bed.intake.broadcast().borrow().clone();
    let names = || broadcast.tracks().iter().map(|t| t.name().to_string()).collect::<Vec<_>>();
    assert_eq!(names(), ["video", "audio"]);
    let old = broadcast.track(&TrackName::video()).unwrap();
    bed.intake.tracks(FIRST, Epoch(1), BroadcastState::Live, std::slice::from_ref(&audio));
    assert_eq!(names(), ["audio"]);
    assert!(old.is_finished());
    bed.intake.tracks(FIRST, Epoch(1), BroadcastState::Live, &[audio.clone(), video(2)]);
    assert_eq!(names(), ["audio", "video"]);
    // Another parent numbers the same tracks otherwise: they go on.
    bed.intake.begin(SECOND);
    let again = [TrackEntry { id: 0, ..audio }, video(1)];
    let kept = broadcast.track(&TrackName::video()).unwrap();
    bed.intake.tracks(SECOND, Epoch(1), BroadcastState::Live, &again);
    assert!(broadcast.track(&TrackName::video()).unwrap().is(&kept));
    assert!(!kept.is_finished());
}

#[test]
fn detaching_hands_over_the_writers_with_their_open_groups() {
    let mut bed = Bed::new();
    bed.feeder.whole_group(5, 4);
    let mut ticket = bed.go(FIRST, 0, 5, 0);
    bed.take(&mut ticket, 3).unwrap();
    let (broadcast, mut writers) = bed.intake.detach();
    assert_eq!(writers[0].current().map(|group| group.len()), Some(3));
    assert_eq!(bed.take(&mut ticket, 4), Err(RefuseReason::Replaced));
    writers[0].end_group();
    assert_eq!(broadcast.tracks().len(), 1);
    assert_eq!(broadcast.state(), BroadcastState::Live);
}

#[test]
fn a_track_that_comes_back_under_its_name_goes_on_above_what_it_had_and_a_new_one_begins_anywhere()
{
    let mut bed = Bed::new();
    bed.feeder.whole_group(7, 3);
    let mut ticket = bed.go(FIRST, 0, 7, 0);
    bed.take(&mut ticket, 3).unwrap();
    bed.intake.group_end(&ticket, 3);
    let audio = entry(1, TrackName::audio(), MediaKind::Audio);
    bed.intake.tracks(FIRST, Epoch(1), BroadcastState::Live, std::slice::from_ref(&audio));
    // Gone, and there again: what it has shown does not come a second time.
    bed.intake.tracks(FIRST, Epoch(1), BroadcastState::Live, &[audio, video(2)]);
    let group = bed.feeder.track().group(GroupSeq(7)).unwrap();
    let again = bed.intake.admit(FIRST, (2, 0), (group.header(), 0), bed.now, bed.now);
    assert_eq!(Bed::refused(again), RefuseReason::Old);
    // The sound is new: its first group may be the one that the picture has had.
    let sound = bed.intake.admit(FIRST, (1, 0), (group.header(), 0), bed.now, bed.now);
    assert!(matches!(sound, Admission::Go(_)), "{sound:?}");
}
