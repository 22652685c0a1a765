//! The packager's rules, one by one, over made-up frames.

pub(crate) mod rig;

use std::collections::BTreeMap;

use headwater_media::fmp4::read::{read_fragments, read_init};
use headwater_media::{DiscontinuitySeq, WallTime};

use super::playlist::{render, skippable};
use super::snapshot::{Find, Reload, Snapshot};
use super::window::WindowOptions;
use rig::{Cadence, Rig};

/// 24, 25, 29.97, 30, 50, 59.94 and 60 frames a second, in ticks of 90 kHz.
const CADENCES: [(u32, u32); 7] =
    [(3_750, 1), (3_600, 1), (3_003, 1), (3_000, 1), (1_800, 1), (3_003, 2), (1_500, 1)];

fn text(snapshot: &Snapshot) -> String {
    render(snapshot, None, &[]).expect("a playlist")
}

fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let at = line.find(&format!("{name}=")).expect("the attribute") + name.len() + 1;
    line[at..].split(',').next().unwrap().trim_matches('"')
}

fn lines<'a>(text: &'a str, tag: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(tag)).collect()
}

fn seconds(text: &str) -> f64 {
    text.parse().expect("seconds")
}

/// `EXT-X-PART` lines by segment.
fn parts_by_segment(text: &str) -> BTreeMap<u64, Vec<f64>> {
    let mut parts = BTreeMap::<u64, Vec<f64>>::new();
    for line in lines(text, "#EXT-X-PART:") {
        let msn = value(line, "URI").split('.').next().unwrap().parse().unwrap();
        parts.entry(msn).or_default().push(seconds(value(line, "DURATION")));
    }
    parts
}

fn part_bytes(snapshot: &Snapshot, seq: u64, index: u64) -> Option<Vec<u8>> {
    match snapshot.part(seq, index) {
        Find::Found(part) => Some(part.data.to_bytes().to_vec()),
        Find::Wait | Find::Gone => None,
    }
}

#[test]
fn every_part_but_a_groups_last_fills_the_target_at_every_frame_rate() {
    for (num, den) in CADENCES {
        let mut rig = Rig::video(Cadence::Steady(num, den));
        for _ in 0..6 {
            rig.group_of_seconds(2);
        }
        let text = text(&rig.end_group());
        let target = seconds(value(lines(&text, "#EXT-X-PART-INF")[0], "PART-TARGET"));
        assert!((0.15..=0.2).contains(&target), "{num}/{den}: {target}");
        let hold_back = value(lines(&text, "#EXT-X-SERVER-CONTROL")[0], "PART-HOLD-BACK");
        assert!(seconds(hold_back) >= 3.0 * target, "{num}/{den}: {hold_back}");
        let parts = parts_by_segment(&text);
        assert!(parts.len() >= 3, "{num}/{den}");
        for durations in parts.values() {
            let (last, rest) = durations.split_last().unwrap();
            assert!(*last <= target && *last > 0.0, "{num}/{den}: {last}");
            for duration in rest {
                let fill = duration / target;
                assert!((0.85..=1.0).contains(&fill), "{num}/{den}: {duration} of {target}");
            }
        }
        for extinf in lines(&text, "#EXTINF:") {
            let duration = seconds(extinf[8..].trim_end_matches(','));
            assert!(duration.round() <= 2.0 && duration > 1.9, "{num}/{den}: {duration}");
        }
    }
}

#[test]
fn parts_of_a_variable_frame_rate_never_exceed_the_target() {
    let mut rig = Rig::video(Cadence::Variable);
    for _ in 0..6 {
        rig.group_of_seconds(2);
    }
    let text = text(&rig.end_group());
    let target = seconds(value(lines(&text, "#EXT-X-PART-INF")[0], "PART-TARGET"));
    let parts = parts_by_segment(&text);
    let durations: Vec<f64> = parts.values().flatten().copied().collect();
    assert!(durations.len() > 20);
    assert!(durations.iter().all(|duration| *duration <= target + 0.05), "{durations:?}");
}

#[test]
fn a_part_is_there_as_soon_as_its_last_frame_is() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.begin();
    for frames in 1..=12u64 {
        let snapshot = rig.frame();
        let expected = frames / 6;
        assert_eq!(snapshot.segments[0].part_count(), expected, "after {frames} frames");
    }
}

#[test]
fn a_segment_is_the_sum_of_its_parts_and_reads_back_frame_by_frame() {
    let mut rig = Rig::video(Cadence::Steady(3_003, 2));
    rig.group_of_seconds(2);
    let snapshot = rig.end_group();
    let Find::Found(whole) = snapshot.segment(0) else { panic!("the segment is complete") };
    let mut sum = Vec::new();
    for index in 0..snapshot.segments[0].part_count() {
        sum.extend(part_bytes(&snapshot, 0, index).expect("a listed part"));
    }
    assert_eq!(whole.to_bytes(), sum);
    let init = read_init(&snapshot.init(0).unwrap().to_bytes()).unwrap();
    let fragments = read_fragments(&init, &sum).unwrap();
    assert_eq!(fragments.len() as u64, snapshot.segments[0].part_count());
    let samples: usize = fragments.iter().map(|fragment| fragment.samples.len()).sum();
    assert_eq!(samples, 120);
}

#[test]
fn two_packagers_fed_at_different_pace_make_the_same_bytes_and_playlists() {
    let mut rig = Rig::video(Cadence::Steady(3_003, 1));
    let mut quick = rig.reader();
    let mut texts = Vec::new();
    for _ in 0..5 {
        rig.begin();
        for _ in 0..60 {
            rig.frame();
            texts.push(render(&quick.drain(), None, &[]));
        }
        rig.end_group();
        texts.push(render(&quick.drain(), None, &[]));
    }
    // The slow one reads all of it at once, from the start.
    let slow = rig.reader().drain();
    let quick = quick.drain();
    assert_eq!(text(&slow), text(&quick));
    assert_eq!(texts.last().unwrap().as_deref(), Some(&*text(&slow)));
    for segment in &quick.segments {
        for index in 0..segment.part_count() {
            let seq = segment.seq.0;
            assert_eq!(part_bytes(&slow, seq, index), part_bytes(&quick, seq, index));
            assert!(part_bytes(&slow, seq, index).is_some());
        }
    }
}

#[test]
fn a_playlist_waits_for_the_target_duration() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.target_duration_s = None;
    rig.group_of_seconds(2);
    let snapshot = rig.end_group();
    assert!(!snapshot.is_ready());
    assert_eq!(render(&snapshot, None, &[]), None);
    rig.target_duration_s = Some(2);
    rig.begin();
    let text = text(&rig.frame());
    assert_eq!(lines(&text, "#EXT-X-TARGETDURATION"), ["#EXT-X-TARGETDURATION:2"]);
    assert_eq!(lines(&text, "#EXTINF").len(), 1);
}

#[test]
fn the_hint_is_the_next_part_of_the_group() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.begin();
    for _ in 0..12 {
        rig.frame();
    }
    let snapshot = rig.now();
    assert_eq!(snapshot.hint(), Some((0, 2)));
    let hints = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"0.2.m4s\"";
    assert_eq!(lines(&text(&snapshot), "#EXT-X-PRELOAD-HINT"), [hints]);
}

#[test]
fn the_hint_is_the_next_groups_first_part_when_the_owner_expects_no_further_frame() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.expected_frames = Some(12);
    rig.begin();
    for _ in 0..12 {
        rig.frame();
    }
    assert_eq!(rig.now().hint(), Some((1, 0)));
    // The group turns out longer: its own next part is hinted again.
    for _ in 0..6 {
        rig.frame();
    }
    assert_eq!(rig.now().hint(), Some((0, 3)));
}

#[test]
fn a_hinted_part_that_the_group_did_not_have_is_the_next_groups_first() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.begin();
    for _ in 0..12 {
        rig.frame();
    }
    assert_eq!(rig.now().hint(), Some((0, 2)));
    assert!(matches!(rig.now().part(0, 2), Find::Wait));
    assert!(matches!(rig.end_group().part(0, 2), Find::Wait), "still to come");
    rig.begin();
    for _ in 0..5 {
        assert!(matches!(rig.frame().part(0, 2), Find::Wait));
    }
    let snapshot = rig.frame();
    assert_eq!(part_bytes(&snapshot, 0, 2), part_bytes(&snapshot, 1, 0));
    assert!(part_bytes(&snapshot, 0, 2).is_some());
    assert!(!text(&snapshot).contains("0.2.m4s"), "never listed under its first name");
    assert!(matches!(snapshot.part(0, 3), Find::Gone), "no further name");
}

#[test]
fn a_hinted_part_is_gone_when_another_publisher_comes_in_its_place() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.begin();
    for _ in 0..12 {
        rig.frame();
    }
    rig.end_group();
    rig.discontinuity = DiscontinuitySeq(1);
    rig.begin();
    assert!(matches!(rig.now().part(0, 2), Find::Gone));
}

#[test]
fn a_short_last_part_is_born_when_its_group_ends() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.begin();
    for _ in 0..8 {
        rig.frame();
    }
    assert_eq!(rig.now().reload(0, Some(1)), Reload::Wait);
    let snapshot = rig.end_group();
    assert_eq!(snapshot.reload(0, Some(1)), Reload::Now);
    assert_eq!(snapshot.segments[0].parts[1].frames, 2);
    assert!(part_bytes(&snapshot, 0, 1).is_some());
}

#[test]
fn a_blocking_request_is_answered_by_the_part_it_names_or_anything_later() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.begin();
    for _ in 0..12 {
        rig.frame();
    }
    let snapshot = rig.now();
    assert_eq!(snapshot.reload(0, Some(0)), Reload::Now);
    assert_eq!(snapshot.reload(0, Some(1)), Reload::Now);
    assert_eq!(snapshot.reload(0, Some(2)), Reload::Wait);
    assert_eq!(snapshot.reload(0, None), Reload::Wait, "the whole segment");
    assert_eq!(snapshot.reload(1, Some(0)), Reload::Wait);
    let snapshot = rig.end_group();
    assert_eq!(snapshot.reload(0, None), Reload::Now);
    assert_eq!(snapshot.reload(0, Some(2)), Reload::Wait, "it stands for part 0 of segment 1");
    rig.begin();
    for _ in 0..6 {
        rig.frame();
    }
    let snapshot = rig.now();
    assert_eq!(snapshot.reload(0, Some(2)), Reload::Now);
    assert_eq!(snapshot.reload(1, Some(0)), Reload::Now);
    assert_eq!(snapshot.reload(1, Some(1)), Reload::Wait);
}

#[test]
fn requests_too_far_ahead_are_refused_at_once() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    for _ in 0..3 {
        rig.group_of_seconds(2);
    }
    let snapshot = rig.end_group();
    assert_eq!(snapshot.reload(4, None), Reload::Wait);
    assert_eq!(snapshot.reload(4, Some(0)), Reload::Wait);
    assert_eq!(snapshot.reload(5, None), Reload::TooFar { last: 2 });
    assert_eq!(snapshot.reload(u64::MAX, Some(u64::MAX)), Reload::TooFar { last: 2 });
    assert_eq!(snapshot.reload(3, Some(15)), Reload::Wait, "three seconds of parts");
    assert_eq!(snapshot.reload(3, Some(16)), Reload::TooFar { last: 2 });
    assert_eq!(snapshot.reload(2, Some(u64::MAX)), Reload::TooFar { last: 2 });
    assert_eq!(snapshot.reload(1, Some(50)), Reload::Now, "stands for the next one's first part");
}

#[test]
fn ten_segments_are_listed_and_parts_for_the_last_three_target_durations() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    for _ in 0..15 {
        rig.group_of_seconds(2);
    }
    let text = text(&rig.end_group());
    assert_eq!(lines(&text, "#EXTINF").len(), 10);
    assert_eq!(lines(&text, "#EXT-X-MEDIA-SEQUENCE"), ["#EXT-X-MEDIA-SEQUENCE:5"]);
    let with_parts: Vec<u64> = parts_by_segment(&text).into_keys().collect();
    assert_eq!(with_parts, [12, 13, 14]);
    assert_eq!(lines(&text, "#EXT-X-PROGRAM-DATE-TIME").len(), 10);
    assert_eq!(lines(&text, "#EXT-X-MAP"), ["#EXT-X-MAP:URI=\"init-0.mp4\""]);
}

#[test]
fn short_segments_still_list_three_target_durations() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.target_duration_s = Some(10);
    for _ in 0..60 {
        rig.group_of_seconds(1);
    }
    let text = text(&rig.end_group());
    assert_eq!(lines(&text, "#EXTINF").len(), 30);
}

#[test]
fn segments_stay_as_long_as_the_rfc_asks_and_then_go() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    for _ in 0..12 {
        rig.group_of_seconds(2);
    }
    // Segment 0 left the playlist (20 s long) when segment 10 was complete, at 22 s: it stays
    // until 22 + 2 + 20 = 44 s.
    for seq in 12..40u64 {
        rig.group_of_seconds(2);
        let snapshot = rig.end_group();
        let end = (seq + 1) * 2;
        let there = matches!(snapshot.segment(0), Find::Found(_));
        assert_eq!(there, end < 44, "at {end} s");
        assert_eq!(matches!(snapshot.part(0, 0), Find::Found(_)), there);
        assert!(snapshot.segments.len() <= 23, "memory is bounded: {}", snapshot.segments.len());
    }
}

#[test]
fn a_rendition_keeps_no_more_bytes_than_it_may() {
    let options = WindowOptions { track_bytes: 100_000, ..WindowOptions::default() };
    let mut rig = Rig::with(Cadence::Steady(3_000, 1), options);
    rig.frame_bytes = 1_000;
    for _ in 0..6 {
        rig.group_of_seconds(2);
        let kept: u64 = rig.now().segments.iter().map(|segment| segment.bytes()).sum();
        assert!(kept <= 100_000 + 62_000 * 2, "{kept}");
    }
    assert!(rig.dropped_early() > 0);
    assert!(rig.end_group().is_ready());
}

#[test]
fn missing_numbers_are_listed_as_gaps() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.group_of_seconds(2);
    rig.end_group();
    rig.skip_groups(2);
    rig.group_of_seconds(2);
    let snapshot = rig.end_group();
    let text = text(&snapshot);
    assert_eq!(lines(&text, "#EXT-X-GAP").len(), 2);
    assert_eq!(lines(&text, "#EXTINF").len(), 4);
    for (seq, gap) in [(0, false), (1, true), (2, true), (3, false)] {
        assert_eq!(matches!(snapshot.segment(seq), Find::Gone), gap, "segment {seq}");
    }
    assert!(text.contains("#EXT-X-GAP\n#EXTINF:2.000000,\n1.m4s\n"), "{text}");
}

#[test]
fn a_gap_is_as_long_as_the_time_that_is_missing_where_that_rounds_to_the_target_duration() {
    for (more, expected) in [(36_000, "2.400000"), (60_000, "2.000000")] {
        let mut rig = Rig::video(Cadence::Steady(3_000, 1));
        rig.group_of_seconds(2);
        rig.end_group();
        rig.skip_groups(1);
        rig.skip_ticks(more);
        rig.group_of_seconds(2);
        let text = text(&rig.end_group());
        let gap = format!("#EXT-X-GAP\n#EXTINF:{expected},\n1.m4s\n");
        assert!(text.contains(&gap), "{text}");
    }
}

#[test]
fn numbers_that_a_new_owner_skips_share_the_time_that_really_went_by() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.group_of_seconds(2);
    rig.end_group();
    rig.skip_groups(12);
    rig.discontinuity = DiscontinuitySeq(1);
    rig.wall = rig.wall.plus_micros(2_000_000 + 1_200_000);
    rig.group_of_seconds(2);
    let text = text(&rig.end_group());
    let gaps = lines(&text, "#EXTINF:0.100000");
    assert_eq!(gaps.len(), 12, "{text}");
    assert_eq!(lines(&text, "#EXT-X-MEDIA-SEQUENCE"), ["#EXT-X-MEDIA-SEQUENCE:0"], "{text}");
}

#[test]
fn numbers_that_a_new_owner_skips_push_nothing_off_the_list_that_can_be_played() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    for _ in 0..12 {
        rig.group_of_seconds(2);
    }
    rig.end_group();
    rig.skip_groups(16);
    rig.discontinuity = DiscontinuitySeq(1);
    rig.wall = rig.wall.plus_micros(24_000_000 + 1_600_000);
    let count = |text: &str, tag| lines(text, tag).len();
    for since in 1..=12 {
        rig.group_of_seconds(2);
        let text = text(&rig.end_group());
        let gaps = if since < 10 { 16 } else { 0 };
        assert_eq!(count(&text, "#EXT-X-GAP"), gaps, "{since} after: {text}");
        assert_eq!(count(&text, "#EXTINF"), 10 + gaps, "{since} after: {text}");
    }
}

#[test]
fn a_gap_longer_than_the_list_begins_the_list_anew() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.group_of_seconds(2);
    rig.skip_groups(1_000_000);
    rig.group_of_seconds(2);
    let snapshot = rig.end_group();
    let text = text(&snapshot);
    assert_eq!(lines(&text, "#EXT-X-MEDIA-SEQUENCE"), ["#EXT-X-MEDIA-SEQUENCE:1000001"]);
    assert_eq!(lines(&text, "#EXT-X-GAP").len(), 0);
    assert!(matches!(snapshot.segment(0), Find::Found(_)), "what was listed stays for its time");
}

#[test]
fn a_change_of_publisher_is_a_discontinuity_counted_from_the_headers_number() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.discontinuity = DiscontinuitySeq(7);
    rig.group_of_seconds(2);
    rig.discontinuity = DiscontinuitySeq(8);
    rig.config_version += 1;
    rig.group_of_seconds(2);
    let first = text(&rig.end_group());
    let tag = "#EXT-X-DISCONTINUITY-SEQUENCE:7";
    assert_eq!(lines(&first, "#EXT-X-DISCONTINUITY-SEQUENCE"), [tag]);
    assert!(first.contains("\n0.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-1.mp4\"\n"));
    for _ in 0..9 {
        rig.group_of_seconds(2);
    }
    let later = text(&rig.end_group());
    let tag = "#EXT-X-DISCONTINUITY-SEQUENCE:8";
    assert_eq!(lines(&later, "#EXT-X-DISCONTINUITY-SEQUENCE"), [tag]);
    assert_eq!(lines(&later, "#EXT-X-DISCONTINUITY\n").len(), 0);
    assert_eq!(lines(&later, "#EXT-X-MAP"), ["#EXT-X-MAP:URI=\"init-1.mp4\""]);
    assert!(rig.now().init(0).is_some(), "the old init section stays with its segment");
}

#[test]
fn program_date_time_is_the_headers() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.wall = WallTime(951_782_400_123_456);
    rig.group_of_seconds(2);
    let text = text(&rig.end_group());
    let tag = "#EXT-X-PROGRAM-DATE-TIME:2000-02-29T00:00:00.123Z";
    assert_eq!(lines(&text, "#EXT-X-PROGRAM-DATE-TIME"), [tag]);
}

#[test]
fn parts_that_begin_with_a_keyframe_are_independent() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.group_of_seconds(2);
    rig.independent = false;
    let before = text(&rig.end_group());
    assert!(before.contains("#EXT-X-INDEPENDENT-SEGMENTS"));
    let parts = lines(&before, "#EXT-X-PART:");
    assert!(parts[0].ends_with(",INDEPENDENT=YES"));
    assert!(parts[1..].iter().all(|part| !part.contains("INDEPENDENT")));
    rig.group_of_seconds(2);
    let after = text(&rig.end_group());
    assert!(!after.contains("#EXT-X-INDEPENDENT-SEGMENTS"), "a continuation is not independent");
    assert_eq!(after.matches("INDEPENDENT=YES").count(), 1);
}

#[test]
fn a_delta_update_leaves_out_what_a_full_playlist_repeats() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    for seq in 0..14usize {
        rig.group_of_seconds(2);
        let snapshot = rig.end_group();
        let skip = skippable(&snapshot);
        let listed = (seq + 1).min(10);
        assert_eq!(skip.unwrap_or(0), listed.saturating_sub(6), "after segment {seq}");
        let Some(skip) = skip else { continue };
        let (full, delta) = (text(&snapshot), render(&snapshot, Some(skip), &[]).unwrap());
        let tag = format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skip}");
        assert_eq!(lines(&delta, "#EXT-X-SKIP"), [tag]);
        // The full playlist's tail, after as many segments, is the delta's.
        let last_skipped = snapshot.listed()[skip - 1].seq;
        let (_, tail) = full.split_once(&format!("\n{last_skipped}.m4s\n")).unwrap();
        assert!(delta.ends_with(tail), "{delta}");
        assert!(lines(&full, "#EXT-X-SERVER-CONTROL")[0].contains("CAN-SKIP-UNTIL=12.0"));
    }
}

#[test]
fn the_end_of_the_broadcast_ends_the_playlist_and_answers_all() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.begin();
    for _ in 0..8 {
        rig.frame();
    }
    let snapshot = rig.finish();
    let text = text(&snapshot);
    assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    assert!(!text.contains("#EXT-X-PRELOAD-HINT"));
    assert_eq!(lines(&text, "#EXTINF").len(), 1, "the open segment is complete");
    assert_eq!(snapshot.reload(0, Some(5)), Reload::Now);
    assert_eq!(snapshot.reload(2, Some(0)), Reload::Now);
    assert!(matches!(snapshot.part(0, 2), Find::Gone));
    assert!(matches!(snapshot.part(1, 0), Find::Gone));
}

#[test]
fn audio_is_packaged_like_video() {
    let mut rig = Rig::audio();
    for _ in 0..4 {
        rig.group_of_seconds(2);
    }
    let text = text(&rig.end_group());
    let target = seconds(value(lines(&text, "#EXT-X-PART-INF")[0], "PART-TARGET"));
    assert!((0.19..=0.2).contains(&target));
    for durations in parts_by_segment(&text).values() {
        let (_, rest) = durations.split_last().unwrap();
        assert!(rest.iter().all(|duration| duration / target >= 0.85));
    }
    assert!(lines(&text, "#EXT-X-PART:").iter().all(|part| part.contains("INDEPENDENT=YES")));
}

#[test]
fn a_segment_whose_rest_does_not_come_becomes_a_gap_and_its_parts_go() {
    let mut rig = Rig::video(Cadence::Steady(3_000, 1));
    rig.group_of_seconds(2);
    rig.begin();
    for _ in 0..8 {
        rig.frame();
    }
    let snapshot = rig.tear_group();
    assert!(matches!(snapshot.segment(1), Find::Gone));
    assert!(part_bytes(&snapshot, 1, 0).is_none(), "what it had may be another part elsewhere");
    rig.group_of_seconds(2);
    let text = text(&rig.end_group());
    assert!(text.contains("#EXT-X-GAP\n#EXTINF:0.200000,\n1.m4s\n"), "{text}");
}
