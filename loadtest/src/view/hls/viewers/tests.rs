use super::super::client::{Ask, Response};
use super::super::playlist::tests::example;
use super::*;
use crate::live::get;

const MULTIVARIANT: &str = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n-/video/i.m3u8\n";
const WITH_SOUND: &str = "#EXTM3U\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"-/audio/i.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\n-/video/i.m3u8\n";

/// A server in which time passes only when it is told.
struct World {
    viewers: Viewers,
    asks: Asks<Tag>,
    under_way: VecDeque<(ClientId, Tag, String, Body, At)>,
    now: At,
}

impl World {
    fn new(sample: u32) -> Self {
        let options = ViewerOptions {
            paths: vec![Arc::from("/s/i.m3u8")],
            video_only: false,
            delta: true,
            sample,
            late_after: Duration::from_millis(20),
            epoch_us: 1_000_000_000,
        };
        let viewers = Viewers::new(options, Arc::new(Side::new("hls")));
        Self { viewers, asks: Asks::default(), under_way: VecDeque::new(), now: At::default() }
    }

    fn join(&mut self, count: usize) {
        self.viewers.join(self.now, count, &mut self.asks);
        self.collect();
    }

    fn collect(&mut self) {
        for ask in self.asks.drain() {
            if let Ask::Get { client, tag, path, body } = ask {
                self.under_way.push_back((client, tag, path.to_string(), body, self.now));
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.viewers.wake(self.now, &mut self.asks);
        self.collect();
    }

    /// Answers the first request whose path ends with `part`, or contains it if it is a directive.
    fn answer(&mut self, part: &str, status: u16, body: &[u8]) -> String {
        let directive = part.starts_with("_HLS");
        let matches = |path: &str| path.ends_with(part) || (directive && path.contains(part));
        let found = self.under_way.iter().position(|(_, _, path, _, _)| matches(path));
        let found = found.unwrap_or_else(|| panic!("{part:?} not in {:?}", self.under_way));
        let (client, tag, path, kept, sent) = self.under_way.remove(found).unwrap();
        let (bytes, body) = (body.len() as u64, if kept == Body::Keep { body } else { &[] });
        let response = Response { status, gzip: false, body, bytes };
        let answer = Answer { result: Ok(response), sent, first_byte: self.now, whole: self.now };
        self.viewers.answered(client, tag, &answer, &mut self.asks);
        self.collect();
        path
    }

    fn paths(&self) -> Vec<&str> {
        self.under_way.iter().map(|(_, _, path, _, _)| path.as_str()).collect()
    }

    /// A viewer that has joined and is at the live edge, waiting for part 2 of segment 9.
    fn live(&mut self) {
        self.answer("/s/i.m3u8", 200, MULTIVARIANT.as_bytes());
        self.answer("/video/i.m3u8", 200, example(2).as_bytes());
        self.answer("init-1.mp4", 200, b"");
        for part in ["8.0.m4s", "8.1.m4s", "9.0.m4s", "9.1.m4s"] {
            self.answer(part, 200, &[0; 100]);
        }
    }
}

#[test]
fn a_viewer_starts_at_the_hold_back_with_a_keyframe_and_catches_up() {
    let mut world = World::new(1);
    world.join(1);
    world.answer("/s/i.m3u8", 200, MULTIVARIANT.as_bytes());
    world.answer("/video/i.m3u8", 200, example(2).as_bytes());
    let reload = "/s/-/video/i.m3u8?_HLS_msn=9&_HLS_part=2&_HLS_skip=YES";
    assert_eq!(world.paths(), [reload, "/s/-/video/init-1.mp4"]);
    world.answer("init-1.mp4", 200, b"");
    assert_eq!(world.paths(), [reload, "/s/-/video/8.0.m4s"], "0.6 s back is inside segment 8");
    world.pass(30);
    world.answer("8.0.m4s", 200, b"");
    world.answer("8.1.m4s", 200, b"");
    world.answer("9.0.m4s", 200, b"");
    world.answer("9.1.m4s", 200, b"");
    assert_eq!(world.paths(), [reload], "nothing is fetched that is only hinted");
    let findings = world.viewers.findings();
    assert_eq!((findings.startup.count(), findings.startup.max_us()), (1, 30_000));
    assert_eq!(findings.parts.count(), 0, "parts from before it came are not late");
}

#[test]
fn what_comes_after_a_parts_birth_is_measured_for_every_viewer() {
    let mut world = World::new(1);
    world.join(2);
    world.live();
    world.live();
    world.pass(200);
    world.answer("_HLS_part=2", 200, example(3).as_bytes());
    world.pass(5);
    world.answer("_HLS_part=2", 200, example(3).as_bytes());
    world.pass(25);
    world.answer("9.2.m4s", 200, &[0; 100]);
    world.answer("9.2.m4s", 200, &[0; 100]);
    let findings = world.viewers.findings();
    assert_eq!((findings.answers.count(), findings.answers.max_us()), (2, 5_000));
    assert_eq!((findings.parts.count(), findings.late_parts), (2, 2), "30 ms after the birth");
    assert_eq!(findings.late_answers, 0);
    assert_eq!(findings.faults.0.len(), 0, "{:?}", findings.faults);
}

#[test]
fn a_viewer_stalls_when_parts_do_not_come() {
    let mut world = World::new(1);
    world.join(1);
    world.live();
    world.pass(1_000);
    world.answer("_HLS_part=2", 200, example(3).as_bytes());
    world.answer("9.2.m4s", 200, &[0; 100]);
    let stalls = world.viewers.findings().stalls;
    assert_eq!((stalls.count(), stalls.max_us()), (1, 400_000), "its buffer held 600 ms");
    world.viewers.finish(world.now);
    assert_eq!(world.viewers.findings().stalled_viewers, 1);
}

#[test]
fn sound_begins_where_the_picture_does_and_both_are_needed_to_play() {
    let mut world = World::new(1);
    world.join(1);
    world.answer("/s/i.m3u8", 200, WITH_SOUND.as_bytes());
    world.answer("/audio/i.m3u8", 200, example(2).replace(",INDEPENDENT=YES", "").as_bytes());
    assert!(world.paths().iter().all(|path| !path.contains("mp4")), "{:?}", world.paths());
    world.answer("/video/i.m3u8", 200, example(2).as_bytes());
    world.answer("/video/init-1.mp4", 200, b"");
    world.answer("/audio/init-1.mp4", 200, b"");
    for part in ["8.0", "8.1", "9.0", "9.1"] {
        world.answer(&format!("/video/{part}.m4s"), 200, b"");
    }
    assert_eq!(get(&world.viewers.side.active), 0, "no sound yet");
    world.answer("/audio/8.1.m4s", 200, b"");
    assert_eq!(get(&world.viewers.side.active), 1);
}

#[test]
fn a_sampled_viewer_finds_the_stamps_of_its_frames() {
    let mut world = World::new(2);
    world.join(2);
    let stamp = crate::stamp::Stamp { stream: 0, sequence: 5, sent_us: 1_000_000_000 };
    world.live();
    world.live();
    world.pass(200);
    world.answer("_HLS_part=2", 200, example(3).as_bytes());
    world.answer("_HLS_part=2", 200, example(3).as_bytes());
    world.answer("9.2.m4s", 200, &stamp.to_sei());
    world.answer("9.2.m4s", 200, &stamp.to_sei());
    assert_eq!(get(&world.viewers.side.frames), 1, "the other is not sampled");
    assert_eq!(world.viewers.findings().births.max_us(), 200_000);
    world.viewers.finish(world.now);
    let totals = world.viewers.side.totals();
    assert_eq!((totals.viewers, totals.counts.frames), (1, 1));
}

#[test]
fn failures_are_tried_again_and_then_given_up() {
    let mut world = World::new(1);
    world.join(1);
    world.answer("/s/i.m3u8", 404, b"");
    assert!(world.paths().is_empty());
    world.pass(1_000);
    world.answer("/s/i.m3u8", 503, b"");
    world.pass(1_000);
    assert!(world.paths().is_empty(), "the pause doubles");
    world.pass(1_000);
    world.answer("/s/i.m3u8", 200, b"<html>");
    world.pass(60_000);
    assert!(world.paths().is_empty() && world.viewers.is_empty());
    let findings = world.viewers.findings();
    assert_eq!((findings.gave_up, findings.never_played), (1, 1));
    assert_eq!(findings.statuses.get(&404), Some(&1));
    assert_eq!(get(&world.viewers.side.failed), 1);
}

#[test]
fn an_older_playlist_counts_as_going_back_and_changes_nothing() {
    let mut world = World::new(1);
    world.join(1);
    world.live();
    world.answer("_HLS_part=2", 200, example(1).as_bytes());
    assert_eq!(world.viewers.findings().went_back, 1);
    world.pass(200);
    assert_eq!(world.paths(), ["/s/-/video/i.m3u8?_HLS_msn=9&_HLS_part=2&_HLS_skip=YES"]);
}

#[test]
fn those_that_came_first_leave_first() {
    let mut world = World::new(1);
    world.join(3);
    world.viewers.leave(world.now, 2, &mut world.asks);
    let left: Vec<_> = world.asks.drain().collect();
    assert!(matches!(&*left, [Ask::Leave(ClientId(0)), Ask::Leave(ClientId(1))]), "{left:?}");
    assert_eq!(world.viewers.len(), 1);
}
