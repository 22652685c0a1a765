use super::*;

const INTERVAL: u64 = 33_333;
const START: u64 = 1_790_000_000_000_000;

fn stamp(sequence: u64) -> Stamp {
    Stamp { stream: 0, sequence, sent_us: START + sequence * INTERVAL }
}

/// Plays frames that arrive 10 ms after they were sent.
fn play(meter: &mut Meter, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        let stamp = stamp(sequence);
        meter.on_frame(stamp, stamp.sent_us + 10_000);
    }
}

#[test]
fn frames_in_order_are_counted_and_their_latency_kept() {
    let mut meter = Meter::new(INTERVAL);
    meter.on_join(START);
    play(&mut meter, 3..303);
    let counts = meter.counts();
    assert_eq!(counts.frames, 300);
    assert_eq!((counts.lost, counts.reordered, counts.duplicates, counts.freezes), (0, 0, 0, 0));
    assert_eq!(meter.startup_us(), Some(3 * INTERVAL + 10_000));
    assert_eq!(meter.latency.max_us(), 10_000);
}

#[test]
fn a_gap_is_lost_when_the_viewer_leaves_and_when_it_leaves_the_window() {
    let mut meter = Meter::new(INTERVAL);
    play(&mut meter, [0, 1, 4, 5]);
    assert_eq!(meter.counts().lost, 2);
    play(&mut meter, 6..1_000);
    assert_eq!(meter.counts().lost, 2);
}

#[test]
fn a_late_frame_is_reordered_and_not_lost() {
    let mut meter = Meter::new(INTERVAL);
    play(&mut meter, [0, 2, 1, 3]);
    let counts = meter.counts();
    assert_eq!((counts.frames, counts.lost, counts.reordered), (4, 0, 1));
}

#[test]
fn copies_are_counted_once_each() {
    let mut meter = Meter::new(INTERVAL);
    play(&mut meter, (0..200).chain([150, 199, 3]));
    let counts = meter.counts();
    assert_eq!((counts.frames, counts.duplicates, counts.lost), (200, 3, 0));
}

#[test]
fn a_jump_past_the_whole_window_counts_every_frame_of_it() {
    for jump in [WINDOW - 1, WINDOW, WINDOW + 1, 1_000, 1_000_000] {
        let mut meter = Meter::new(INTERVAL);
        play(&mut meter, [0, jump]);
        assert_eq!(meter.counts().lost, jump - 1, "a jump of {jump}");
        play(&mut meter, jump + 1..jump + 500);
        assert_eq!(meter.counts().lost, jump - 1, "a jump of {jump}");
    }
}

#[test]
fn a_publisher_that_begins_anew_is_no_loss() {
    let mut meter = Meter::new(INTERVAL);
    play(&mut meter, 0..500);
    for sequence in 0..100 {
        let stamp = Stamp { sent_us: START + (600 + sequence) * INTERVAL, ..stamp(sequence) };
        meter.on_frame(stamp, stamp.sent_us + 10_000);
    }
    let counts = meter.counts();
    assert_eq!((counts.frames, counts.lost, counts.restarts, counts.duplicates), (600, 0, 1, 0));
}

#[test]
fn a_gap_beyond_three_intervals_and_200_ms_is_a_freeze() {
    let mut meter = Meter::new(INTERVAL);
    play(&mut meter, [0, 5, 10]);
    assert_eq!(meter.counts().freezes, 0);
    play(&mut meter, [17]);
    assert_eq!(meter.counts().freezes, 1);
    assert_eq!(meter.counts().longest_gap_us, 7 * INTERVAL);
    assert_eq!(meter.counts().frozen_us, 6 * INTERVAL);
    meter.on_leave(START + 30 * INTERVAL);
    assert_eq!(meter.counts().freezes, 2);
}

#[test]
fn totals_add_viewers_up() {
    let mut totals = Totals::default();
    for lost in [0, 1, 2] {
        let mut meter = Meter::new(INTERVAL);
        meter.on_join(START);
        play(&mut meter, (0..100).filter(|n| !(10..10 + lost).contains(n)));
        totals.add(&meter);
    }
    let mut unlucky = Meter::new(INTERVAL);
    unlucky.on_join(START);
    let mut brief = unlucky.clone();
    brief.on_leave(START + 50_000);
    totals.add(&brief);
    unlucky.on_leave(START + 5_000_000);
    let mut more = Totals::default();
    more.add(&unlucky);
    totals.merge(&more);
    assert_eq!((totals.viewers, totals.without_frames, totals.losing_viewers), (5, 1, 2));
    assert_eq!((totals.counts.frames, totals.counts.lost), (297, 3));
    assert!((totals.loss() - 0.01).abs() < 1e-9);
    assert_eq!(totals.startup().count, 3);
    assert_eq!(totals.latency().max_ms, 10.0);
}

#[test]
fn the_latency_of_frames_from_before_the_viewer_joined_is_left_out() {
    let mut meter = Meter::new(INTERVAL);
    meter.on_join(START + 9 * INTERVAL);
    let now = START + 10 * INTERVAL;
    for sequence in 0..10 {
        let latency = meter.on_frame(stamp(sequence), now);
        assert_eq!(latency, (sequence == 9).then_some(INTERVAL), "frame {sequence}");
    }
    assert_eq!((meter.counts().frames, meter.counts().backlog), (10, 9));
    assert_eq!(meter.latency.max_us(), INTERVAL);
}
