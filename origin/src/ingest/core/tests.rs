use std::sync::Arc;

use bytes::Bytes;
use headwater_media::codec::h264::H264Config;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::codec::{FrameRate, Resolution};
use headwater_media::frame::Group;
use headwater_media::limits::BusLimits;
use headwater_media::{ClockRate, DiscontinuitySeq, StreamName, Track};

use super::*;

mod owners;

const FRAME: i64 = 3_000;

fn h264(level: u8) -> Codec {
    Codec::H264(H264Config {
        sps: vec![Bytes::from_static(&[0x67])],
        pps: vec![Bytes::from_static(&[0x68])],
        profile: 66,
        constraints: 0xc0,
        level,
        resolution: Resolution { width: 640, height: 360 },
        frame_rate: Some(FrameRate { num: 30, den: 1 }),
        reorder_frames: 0,
    })
}

fn opus() -> Codec {
    Codec::Opus(OpusConfig { channels: 2, pre_skip: 312, input_sample_rate: 48_000 })
}

/// A stream and the hand that feeds it, in a world whose clock we turn.
struct Bed {
    core: StreamCore,
    epoch: Epoch,
    now: WallTime,
    video: Option<TrackId>,
    audio: Option<TrackId>,
}

impl Bed {
    fn new(video: bool, audio: bool) -> Self {
        let name = StreamName::parse("test").unwrap();
        let broadcast = Broadcast::new(name, BusLimits::default());
        let core = StreamCore::new(broadcast, IngestOptions::default());
        let now = WallTime(1_700_000_000_000_000);
        let mut bed = Self { core, epoch: Epoch(0), now, video: None, audio: None };
        bed.begin(video, audio);
        bed
    }

    fn begin(&mut self, video: bool, audio: bool) {
        let id = SessionId::from_random([self.epoch.0 as u8; 16]);
        let numbers = self.core.numbers();
        self.epoch = numbers.epoch.next();
        let grant = Grant {
            epoch: self.epoch,
            first_group: numbers.next_group,
            discontinuity: DiscontinuitySeq(self.epoch.0 - 1),
            reserved_to: GroupSeq(numbers.next_group.0 + 16),
        };
        self.core.begin(id, self.now, grant);
        let mut add = |kind, codec| {
            let track = self.core.add_track(self.epoch, kind).unwrap();
            self.core.configure(self.epoch, track, codec).unwrap();
            track
        };
        self.video = video.then(|| add(MediaKind::Video, h264(31)));
        self.audio = audio.then(|| add(MediaKind::Audio, opus()));
    }

    fn video(&mut self, stamp: i64, keyframe: bool) -> Result<(), PushError> {
        let time = MediaTime::new(stamp, ClockRate::VIDEO);
        let payload = Bytes::from_static(&[0; 100]);
        let frame = RawFrame { pts: time, dts: time, keyframe, capture: None, payload };
        self.core.push(self.epoch, self.video.unwrap(), frame, self.now)
    }

    fn audio(&mut self, stamp: i64) -> Result<(), PushError> {
        let time = MediaTime::new(stamp, ClockRate::OPUS);
        // A 20 ms CELT packet.
        let payload = Bytes::from_static(&[0xf8, 0xff, 0xfe]);
        let frame = RawFrame { pts: time, dts: time, keyframe: true, capture: None, payload };
        self.core.push(self.epoch, self.audio.unwrap(), frame, self.now)
    }

    /// `count` frames of 30 fps video with a keyframe every `gop`, and the sound between them,
    /// from `from` frames on, in real time.
    fn run(&mut self, from: i64, count: i64, gop: i64) {
        let mut sound = from * 5 / 3;
        for n in from..from + count {
            self.now = self.now.plus_micros(33_333);
            if self.video.is_some() {
                self.video(n * FRAME, (n - from) % gop == 0).unwrap();
            }
            while self.audio.is_some() && sound * 960 * 30 < (n + 1) * 48_000 {
                self.audio(sound * 960).unwrap();
                sound += 1;
            }
        }
    }

    fn track(&self, name: &str) -> Track {
        self.core.broadcast.track(&TrackName::parse(name).unwrap()).unwrap()
    }

    fn groups(&self, name: &str) -> Arc<Vec<Arc<Group>>> {
        self.track(name).window()
    }
}

#[test]
fn audio_is_cut_where_the_video_was_and_numbers_agree() {
    let mut bed = Bed::new(true, true);
    bed.run(0, 240, 60);
    let (video, audio) = (bed.groups("video"), bed.groups("audio"));
    let seqs = |groups: &[Arc<Group>]| groups.iter().map(|g| g.seq().0).collect::<Vec<_>>();
    assert_eq!(seqs(&video), [0, 1, 2, 3]);
    assert_eq!(seqs(&audio), [0, 1, 2, 3]);
    for (v, a) in video.iter().zip(audio.iter()) {
        let video_at = v.frame(0).unwrap().pts.micros();
        let audio_at = a.frame(0).unwrap().pts.micros();
        assert!((audio_at - video_at).abs() <= 10_000, "{video_at} {audio_at}");
        assert_eq!(v.header().discontinuity, a.header().discontinuity);
        let apart = v.header().wall.micros_since(a.header().wall) - (video_at - audio_at);
        assert!(apart.abs() <= 1, "both tell the time by one clock");
    }
    assert_eq!(video[1].final_len(), Some(60));
}

#[test]
fn lip_sync_is_the_publishers_to_the_tick() {
    let mut bed = Bed::new(true, true);
    bed.run(0, 120, 60);
    let video = bed.groups("video")[1].frame(7).unwrap().pts;
    let audio = bed.groups("audio")[1].frame(7).unwrap().pts;
    let video_from_zero = video.micros() - (67 * 33_333 + 1);
    let audio_from_zero = audio.micros() - (107 * 20_000);
    assert!((video_from_zero - audio_from_zero).abs() <= 20_000);
}

#[test]
fn a_frame_is_on_the_bus_as_soon_as_it_is_pushed() {
    let mut bed = Bed::new(true, false);
    bed.run(0, 30, 60);
    for n in 30..60 {
        bed.now = bed.now.plus_micros(33_333);
        bed.video(n * FRAME, false).unwrap();
        assert_eq!(bed.groups("video")[0].len(), n as u32 + 1);
    }
}

#[test]
fn a_regular_rhythm_is_announced_and_the_target_duration_settles_with_the_first_group() {
    let mut bed = Bed::new(true, true);
    bed.run(0, 241, 60);
    let headers: Vec<_> = bed.groups("video").iter().map(|g| g.header().clone()).collect();
    let expected: Vec<_> = headers.iter().map(|h| h.expected_frames).collect();
    assert_eq!(expected, [None, None, Some(60), Some(60), Some(60)]);
    let targets: Vec<_> = headers.iter().map(|h| h.target_duration_s).collect();
    assert_eq!(targets, [None, Some(2), Some(2), Some(2), Some(2)]);
}

#[test]
fn a_cadence_mistaken_at_the_start_is_corrected_with_the_next_group() {
    let mut bed = Bed::new(true, false);
    // The camera starts in a burst, as under load: 7 frames in 120 ms. Then 30 a second.
    for n in 0..7 {
        bed.now = bed.now.plus_micros(17_000);
        bed.video(n * 1_530, n == 0).unwrap();
    }
    let mut stamp = 7 * 1_530;
    for n in 0..200 {
        bed.now = bed.now.plus_micros(33_333);
        bed.video(stamp, n % 60 == 53).unwrap();
        stamp += FRAME;
    }
    let plans: Vec<_> = bed.groups("video").iter().map(|g| g.header().config.parts).collect();
    assert_eq!(plans.last().unwrap().frame_ticks, 3_000, "{plans:?}");
    assert!(plans.iter().all(|plan| plan.target_ticks == plans[0].target_ticks));
    let last = bed.groups("video").last().unwrap().clone();
    assert!((2..last.len()).all(|n| last.frame(n).unwrap().duration.ticks() == 3_000));
}

#[test]
fn a_publisher_without_keyframes_is_cut_at_the_limit_and_warned() {
    let mut bed = Bed::new(true, true);
    bed.run(0, 30 * 35, 100_000);
    let groups = bed.groups("video");
    let independent: Vec<_> = groups.iter().map(|g| g.header().independent).collect();
    assert_eq!(independent, [true, false, false, false]);
    for group in &groups[..3] {
        let length = group.end().since(group.header().start).micros();
        assert!(length <= 10_000_000, "{length}");
    }
    assert_eq!(groups[1].header().target_duration_s, Some(10));
    assert!(bed.core.warnings()[0].contains("keyframe"), "{:?}", bed.core.warnings());
    bed.run(30 * 35, 30 * 12, 60);
    assert!(bed.core.warnings().is_empty(), "it has mended its ways");
}

#[test]
fn later_groups_never_round_to_more_than_the_target_duration() {
    let mut bed = Bed::new(true, false);
    bed.run(0, 120, 60);
    bed.run(120, 900, 200);
    for group in bed.groups("video").iter().filter(|g| g.final_len().is_some()) {
        let micros = group.end().since(group.header().start).micros();
        assert!((micros + 500_000) / 1_000_000 <= 2, "{micros}");
    }
}

#[test]
fn cuts_of_the_scene_at_the_start_do_not_make_later_groups_too_long() {
    let mut bed = Bed::new(true, false);
    bed.run(0, 27, 60);
    bed.run(27, 36, 60);
    bed.run(63, 300, 60);
    let groups = bed.groups("video");
    assert!(groups.iter().all(|group| group.header().independent), "no group was cut");
    assert_eq!(groups.last().unwrap().header().target_duration_s, Some(2));
    // Groups of a second each keep their own target duration.
    let mut bed = Bed::new(true, false);
    bed.run(0, 120, 30);
    assert_eq!(bed.groups("video").last().unwrap().header().target_duration_s, Some(1));
}

#[test]
fn a_stream_of_keyframes_alone_does_not_make_a_group_each() {
    let mut bed = Bed::new(true, false);
    bed.run(0, 300, 1);
    let groups = bed.groups("video").len();
    assert!((15..=21).contains(&groups), "{groups} groups in ten seconds");
}

#[test]
fn audio_alone_makes_groups_of_the_keyframe_interval() {
    let mut bed = Bed::new(false, true);
    bed.run(0, 300, 60);
    let groups = bed.groups("audio");
    assert_eq!(groups[0].final_len(), Some(100));
    assert_eq!(groups[0].header().target_duration_s, Some(2));
    assert!(groups.len() >= 4);
}

#[test]
fn audio_goes_on_alone_when_the_announced_video_never_brings_a_keyframe() {
    let mut bed = Bed::new(true, true);
    let mut sound = 0;
    for n in 0..300 {
        bed.now = bed.now.plus_micros(33_333);
        bed.video(n * FRAME, false).unwrap();
        while sound * 960 * 30 < (n + 1) * 48_000 {
            bed.audio(sound * 960).unwrap();
            sound += 1;
        }
    }
    assert!(bed.groups("audio").len() >= 3, "{:?}", bed.groups("audio"));
    assert!(bed.groups("video").is_empty());
    assert!(bed.core.warnings()[0].contains("no keyframe"));
    // It comes after all, and leads from there.
    bed.run(300, 130, 60);
    let (video, audio) = (bed.groups("video"), bed.groups("audio"));
    assert!(video.len() >= 2);
    assert_eq!(video.last().unwrap().seq(), audio.last().unwrap().seq());
}

#[test]
fn video_that_stalls_leaves_a_gap_in_its_own_numbers_alone() {
    let mut bed = Bed::new(true, true);
    bed.run(0, 120, 60);
    let before = bed.groups("video").last().unwrap().seq();
    for sound in 200..700 {
        bed.now = bed.now.plus_micros(20_000);
        bed.audio(sound * 960).unwrap();
    }
    bed.now = bed.now.plus_micros(10_000);
    bed.video(420 * FRAME, true).unwrap();
    let video = bed.groups("video").last().unwrap().seq();
    assert!(video.0 > before.0 + 1, "audio went on under numbers of its own");
    bed.audio(701 * 960).unwrap();
    assert_eq!(bed.groups("audio").last().unwrap().seq(), video);
    for group in bed.groups("audio").iter().filter(|g| g.final_len().is_some()) {
        let micros = group.end().since(group.header().start).micros();
        assert!((micros + 500_000) / 1_000_000 <= 2, "{micros}");
    }
}

#[test]
fn a_pause_within_a_group_makes_no_segment_longer_than_the_target_duration() {
    let mut bed = Bed::new(true, true);
    bed.run(0, 150, 60);
    // Five seconds are lost on the way, the keyframe among them.
    bed.now = bed.now.plus_micros(5_000_000);
    for n in 300..450 {
        bed.now = bed.now.plus_micros(33_333);
        bed.video(n * FRAME, n % 60 == 0 && n > 300).unwrap();
        for sound in [n * 5 / 3, n * 5 / 3 + 1].iter().take(if n % 3 == 1 { 1 } else { 2 }) {
            let _ = bed.audio(sound * 960);
        }
    }
    for name in ["video", "audio"] {
        let groups = bed.groups(name);
        for group in groups.iter().filter(|g| g.final_len().is_some()) {
            let micros = group.end().since(group.header().start).micros();
            assert!((micros + 500_000) / 1_000_000 <= 2, "{name} {}: {micros}", group.seq());
        }
        assert!(groups.last().unwrap().end().micros() > 15_000_000, "it caught up");
    }
    let groups = bed.groups("video");
    let cadences = groups.iter().map(|group| group.header().config.parts.frame_ticks);
    assert_eq!(cadences.collect::<Vec<_>>(), vec![3_000; groups.len()], "no slower for the pause");
}

#[test]
fn a_publisher_that_returns_continues_the_numbers_after_a_discontinuity() {
    let mut bed = Bed::new(true, true);
    bed.run(0, 150, 60);
    let old_epoch = bed.epoch;
    assert!(bed.core.leave(bed.epoch));
    assert_eq!(bed.core.broadcast.state(), BroadcastState::Waiting);
    assert!(bed.groups("video").last().unwrap().final_len().is_some(), "what came can be played");
    let last = bed.groups("video").last().unwrap().seq();
    let end = bed.groups("video").last().unwrap().end();
    bed.now = bed.now.plus_micros(3_000_000);
    bed.begin(true, true);
    bed.run(0, 130, 60);
    let groups = bed.groups("video");
    let first_new = groups.iter().find(|g| g.header().epoch == bed.epoch).unwrap();
    assert_eq!(first_new.seq(), last.next());
    assert_eq!(first_new.header().discontinuity.0, 1);
    assert!(first_new.header().start.ticks() >= end.ticks() + 2 * 90_000, "time went on");
    let versions: Vec<_> = groups.iter().map(|g| g.header().config.version.0).collect();
    assert!(versions.iter().all(|v| *v == 0), "the same headers keep their init section");
    assert!(!bed.core.leave(old_epoch), "the old session has no say any more");
    assert_eq!(bed.groups("audio").last().unwrap().seq(), groups.last().unwrap().seq());
}

#[test]
fn changed_headers_take_effect_at_a_keyframe_under_a_new_version() {
    let mut bed = Bed::new(true, false);
    bed.run(0, 65, 60);
    let track = bed.video.unwrap();
    bed.core.configure(bed.epoch, track, h264(40)).unwrap();
    bed.now = bed.now.plus_micros(33_333);
    bed.video(65 * FRAME, false).unwrap();
    assert_eq!(bed.groups("video").last().unwrap().len(), 5, "nothing under the wrong headers");
    bed.run(66, 30, 60);
    let last = bed.groups("video").last().unwrap().clone();
    assert_eq!(
        u64::from(last.header().config.version.0),
        last.seq().0,
        "named after its first group"
    );
    assert_eq!(last.header().config.codec, h264(40));
    assert_eq!(last.len(), 30);
}

#[test]
fn a_fenced_session_can_do_nothing() {
    let mut bed = Bed::new(true, false);
    bed.run(0, 30, 60);
    let old = bed.epoch;
    bed.begin(true, false);
    let time = MediaTime::new(0, ClockRate::VIDEO);
    let payload = Bytes::from_static(&[0]);
    let frame = RawFrame { pts: time, dts: time, keyframe: true, capture: None, payload };
    assert!(bed.core.push(old, TrackId(0), frame, bed.now).is_err());
    assert!(bed.core.add_track(old, MediaKind::Audio).is_err());
}

#[test]
fn too_large_a_frame_and_too_high_a_bitrate_are_refused_for_good() {
    let mut bed = Bed::new(true, false);
    let time = MediaTime::new(0, ClockRate::VIDEO);
    let big = |size: usize| RawFrame {
        pts: time,
        dts: time,
        keyframe: true,
        capture: None,
        payload: Bytes::from(vec![0; size]),
    };
    let refused = bed.core.push(bed.epoch, TrackId(0), big(50 << 20), bed.now).unwrap_err();
    assert!(matches!(refused, PushError::FrameTooLarge { .. }) && refused.is_fatal());
    let mut last = Ok(());
    for _ in 0..30 {
        bed.now = bed.now.plus_micros(1_000);
        last = bed.core.push(bed.epoch, TrackId(0), big(1 << 20), bed.now);
        if last.is_err() {
            break;
        }
    }
    let refused = last.unwrap_err();
    assert!(matches!(refused, PushError::Bitrate { .. }) && refused.is_fatal(), "{refused}");
}

#[test]
fn a_hundred_thousand_tiny_frames_stay_within_every_bound() {
    let mut bed = Bed::new(true, false);
    for n in 0..100_000i64 {
        bed.now = bed.now.plus_micros(10);
        let _ = bed.video(n, n == 0);
    }
    for group in bed.groups("video").iter() {
        assert!(group.len() <= BusLimits::default().group_frames);
    }
}

#[test]
fn a_new_publisher_without_audio_ends_the_audio_track() {
    let mut bed = Bed::new(true, true);
    bed.run(0, 120, 60);
    let audio = bed.track("audio");
    bed.core.leave(bed.epoch);
    bed.begin(true, false);
    bed.run(0, 200, 60);
    assert!(audio.is_finished());
    assert_eq!(bed.core.broadcast.tracks().len(), 1);
    assert_eq!(bed.groups("video").last().unwrap().header().epoch, bed.epoch);
}

/// H.264 Main, 640x360, without `max_num_reorder_frames`: so NVENC and phones write it.
fn h264_without_vui() -> Codec {
    let sps = Bytes::from_static(&[0x67, 0x4d, 0, 0x1e, 0xf4, 5, 1, 0x7f, 0xca, 0x80]);
    let pps = Bytes::from_static(&[0x68, 0xce, 0x3c, 0x80]);
    let config = H264Config::from_parameter_sets(vec![sps], vec![pps]).unwrap();
    assert_eq!((config.resolution.height, config.reorder_frames), (360, 8));
    Codec::H264(config)
}

/// A group of `count` frames from `from` on, with two B-frames between the others (I, P, B, B, P …):
/// when they are shown and decoded.
fn b_frames(from: i64, count: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..count).map(move |n| {
        let shown = match n % 3 {
            _ if n == 0 => 0,
            1 => n + 2,
            _ => n - 1,
        };
        (from + shown + 1, from + n)
    })
}

impl Bed {
    /// Publishes frames shown and decoded at these times, in frames of 30 fps; the first is a
    /// keyframe.
    fn reordered(&mut self, frames: impl Iterator<Item = (i64, i64)>) {
        for (n, (pts, dts)) in frames.enumerate() {
            self.now = self.now.plus_micros(33_333);
            let time = |frames: i64| MediaTime::new(frames * FRAME, ClockRate::VIDEO);
            let payload = Bytes::from_static(&[0; 100]);
            let (pts, dts) = (time(pts), time(dts));
            let frame = RawFrame { pts, dts, keyframe: n == 0, capture: None, payload };
            self.core.push(self.epoch, self.video.unwrap(), frame, self.now).unwrap();
        }
    }

    fn reorder_frames(&self) -> u8 {
        let groups = self.groups("video");
        match &groups.last().unwrap().header().config.codec {
            Codec::H264(config) => config.reorder_frames,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn headers_that_leave_b_frames_open_are_read_by_the_frames_times() {
    let mut bed = Bed::new(true, false);
    bed.core.configure(bed.epoch, bed.video.unwrap(), h264_without_vui()).unwrap();
    bed.reordered((0..30).map(|n| (n, n)));
    assert_eq!(bed.reorder_frames(), 0, "the times are in order: WebRTC can carry it");
    assert_eq!(bed.core.warnings(), [""; 0]);
    // B-frames after all: seen at the next keyframe.
    bed.reordered(b_frames(30, 30));
    bed.reordered(b_frames(60, 30));
    assert_eq!(bed.reorder_frames(), 8);
    assert!(bed.core.warnings().iter().any(|text| text.contains("B-frames")));

    let mut bed = Bed::new(true, false);
    bed.core.configure(bed.epoch, bed.video.unwrap(), h264_without_vui()).unwrap();
    bed.reordered(b_frames(0, 30));
    assert_eq!(bed.reorder_frames(), 8, "I and P are shown after what is decoded later");
    assert!(bed.core.warnings().iter().any(|text| text.contains("B-frames")));
}

#[test]
fn a_group_cut_between_b_frames_does_not_change_the_cadence() {
    let mut bed = Bed::new(true, false);
    // Groups of a second settle the target duration; then come groups of two, which are cut.
    bed.run(0, 120, 30);
    bed.core.leave(bed.epoch);
    bed.begin(true, false);
    for group in 0..10 {
        bed.reordered(b_frames(1_000 + group * 60, 60));
    }
    let groups = bed.groups("video");
    let second = groups.iter().filter(|group| group.header().discontinuity.0 == 1);
    let parts: Vec<_> = second.map(|group| group.header().config.parts).collect();
    assert!(parts.len() >= 18, "the groups are cut");
    assert!(parts.iter().all(|plan| *plan == parts[0]), "{parts:?}");
    for frame in groups.iter().flat_map(|group| (0..group.len()).filter_map(|n| group.frame(n))) {
        assert_eq!(frame.duration.ticks(), FRAME);
    }
}

/// How full the parts of these groups are, in per cent of their target, but for each group's last.
fn parts_filled(groups: &[Arc<Group>]) -> Vec<i64> {
    let mut filled = Vec::new();
    for group in groups {
        let plan = group.header().config.parts;
        let (mut sum, mut of_group) = (0, Vec::new());
        for frame in (0..group.len()).filter_map(|n| group.frame(n)) {
            sum += frame.duration.ticks();
            if plan.is_full(sum.unsigned_abs()) {
                of_group.push(sum * 100 / i64::from(plan.target_ticks));
                sum = 0;
            }
        }
        if sum == 0 {
            of_group.pop();
        }
        filled.extend(of_group);
    }
    filled
}

#[test]
fn a_camera_that_leaves_out_frames_keeps_its_cadence_and_its_init_section() {
    let mut bed = Bed::new(true, false);
    for group in 0..20i64 {
        for n in 0..60i64 {
            bed.now = bed.now.plus_micros(33_333);
            // Every other group in the dark, where a third of the frames is missing.
            if n % 3 != 2 || group % 2 == 0 {
                bed.video((group * 60 + n) * FRAME, n == 0).unwrap();
            }
        }
    }
    let groups = bed.groups("video");
    let first = &groups[0].header().config;
    assert!(groups.iter().all(|group| group.header().config.version == first.version));
    assert!(parts_filled(&groups).iter().all(|percent| (85..=100).contains(percent)));
    for frame in groups.iter().flat_map(|group| (0..group.len()).filter_map(|n| group.frame(n))) {
        assert!(frame.pts.since(frame.dts).ticks() >= 0, "{frame:?}");
    }
}

#[test]
fn a_source_of_an_odd_rate_fills_its_parts() {
    for frame in [11_250, 6_400, 4_100] {
        let mut bed = Bed::new(true, false);
        for n in 0..120 {
            bed.now = bed.now.plus_micros(frame * 100 / 9);
            bed.video(n * frame, n % 30 == 0).unwrap();
        }
        let filled = parts_filled(&bed.groups("video"));
        assert!(filled.len() > 20);
        assert!(filled.iter().all(|percent| (85..=100).contains(percent)), "{frame}: {filled:?}");
    }
}
