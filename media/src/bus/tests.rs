use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::broadcast::{AddTrackError, Broadcast, BroadcastState};
use crate::codec::Codec;
use crate::codec::opus::OpusConfig;
use crate::frame::{Frame, GroupHeader};
use crate::id::{ConfigVersion, DiscontinuitySeq, Epoch, StreamName};
use crate::time::{ClockRate, MediaDuration, MediaTime, WallTime};
use crate::track::PartPlan;

fn limits() -> BusLimits {
    BusLimits { window: Duration::from_secs(3), track_bytes: 10_000, ..BusLimits::default() }
}

fn broadcast() -> Broadcast {
    Broadcast::new(StreamName::parse("a/b").unwrap(), limits())
}

fn header(seq: u64) -> GroupHeader {
    let codec = Codec::Opus(OpusConfig { channels: 2, pre_skip: 0, input_sample_rate: 48_000 });
    GroupHeader {
        seq: GroupSeq(seq),
        epoch: Epoch(1),
        discontinuity: DiscontinuitySeq(0),
        start: MediaTime::new(seq as i64 * 48_000, ClockRate::OPUS),
        wall: WallTime(0),
        independent: true,
        expected_frames: None,
        target_duration_s: None,
        config: Arc::new(TrackConfig {
            version: ConfigVersion(0),
            codec,
            rate: ClockRate::OPUS,
            parts: PartPlan { target_ticks: 9_600, frame_ticks: 960 },
        }),
    }
}

fn frame(seq: u64, index: i64, size: usize) -> Frame {
    let dts = MediaTime::new(seq as i64 * 48_000 + index * 24_000, ClockRate::OPUS);
    Frame {
        pts: dts,
        dts,
        duration: MediaDuration::new(24_000, ClockRate::OPUS),
        keyframe: true,
        capture: WallTime(0),
        payload: Bytes::from(vec![index as u8; size]),
    }
}

/// Writes a whole group of two frames, a second of media.
fn write_group(writer: &mut TrackWriter, seq: u64, size: usize) {
    writer.begin_group(header(seq)).unwrap();
    writer.append(frame(seq, 0, size)).unwrap();
    writer.append(frame(seq, 1, size)).unwrap();
}

fn seqs(track: &Track) -> Vec<u64> {
    track.window().iter().map(|group| group.seq().0).collect()
}

#[test]
fn the_window_is_bounded_by_time_and_by_bytes() {
    let mut writer = broadcast().add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    for seq in 0..10 {
        write_group(&mut writer, seq, 10);
    }
    assert_eq!(seqs(&writer.track()), [6, 7, 8, 9], "three seconds behind the open group");
    for seq in 10..14 {
        write_group(&mut writer, seq, 2_500);
    }
    assert_eq!(seqs(&writer.track()), [11, 12, 13], "10,000 bytes behind the open group");
}

#[test]
fn group_numbers_only_rise_and_frames_need_a_group() {
    let mut writer = broadcast().add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    assert_eq!(writer.append(frame(0, 0, 1)), Err(WriteError::NoGroup));
    write_group(&mut writer, 5, 1);
    for seq in [4, 5] {
        let refused = writer.begin_group(header(seq));
        let expected = WriteError::GroupNotAfter { last: GroupSeq(5), next: GroupSeq(seq) };
        assert_eq!(refused, Err(expected));
    }
    assert!(matches!(
        writer.append(frame(5, 2, (16 << 20) + 1)),
        Err(WriteError::FrameTooLarge { .. })
    ));
    writer.append(frame(5, 2, 1)).expect("a refused frame leaves the group open");
}

#[test]
fn a_reader_meets_every_frame_in_order() {
    let mut writer = broadcast().add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    let mut cursor = writer.track().read(Start::Newest);
    assert!(cursor.try_next().is_none());
    write_group(&mut writer, 3, 1);
    assert!(
        matches!(cursor.try_next(), Some(Item::Group { group, skipped: 0 }) if group.seq().0 == 3)
    );
    for index in 0..2 {
        assert!(matches!(cursor.try_next(), Some(Item::Frame(frame)) if frame.index == index));
    }
    assert!(cursor.try_next().is_none(), "the group is still open");
    writer.end_group();
    assert!(
        matches!(cursor.try_next(), Some(Item::GroupEnd(group)) if group.final_len() == Some(2))
    );
    writer.finish();
    assert!(matches!(cursor.try_next(), Some(Item::End)));
    assert!(matches!(cursor.try_next(), Some(Item::End)));
}

#[test]
fn a_slow_reader_skips_groups_that_left_the_window_and_counts_them() {
    let mut writer = broadcast().add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    let mut cursor = writer.track().read(Start::Oldest);
    write_group(&mut writer, 0, 1);
    assert!(matches!(cursor.try_next(), Some(Item::Group { .. })));
    for seq in 1..10 {
        write_group(&mut writer, seq, 1);
    }
    for _ in 0..2 {
        assert!(matches!(cursor.try_next(), Some(Item::Frame(_))), "its own group stays readable");
    }
    assert!(matches!(cursor.try_next(), Some(Item::GroupEnd(_))));
    let next = cursor.try_next();
    assert!(matches!(next, Some(Item::Group { group, skipped: 5 }) if group.seq().0 == 6));
    assert_eq!(writer.track().groups_skipped(), 5);
}

#[test]
fn a_torn_group_ends_and_says_that_it_is_torn() {
    let mut writer = broadcast().add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    let mut cursor = writer.track().read(Start::Oldest);
    write_group(&mut writer, 0, 1);
    writer.tear_group();
    assert_eq!(writer.append(frame(0, 2, 1)), Err(WriteError::NoGroup));
    let met: Vec<_> = std::iter::from_fn(|| cursor.try_next()).collect();
    assert!(matches!(met.last(), Some(Item::GroupEnd(group)) if group.is_torn()));
    write_group(&mut writer, 1, 1);
    writer.end_group();
    assert!(!writer.track().newest().unwrap().is_torn());
}

#[test]
fn a_jump_in_the_owners_numbers_is_not_counted_as_skipped() {
    let mut writer = broadcast().add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    let mut cursor = writer.track().read(Start::Oldest);
    write_group(&mut writer, 0, 1);
    write_group(&mut writer, 100, 1);
    let mut groups = Vec::new();
    while let Some(item) = cursor.try_next() {
        if let Item::Group { group, skipped } = item {
            groups.push((group.seq().0, skipped));
        }
    }
    assert_eq!(groups, [(0, 0), (100, 0)]);
}

#[test]
fn a_viewer_starts_at_the_newest_independent_group_and_can_skip_to_it() {
    let mut writer = broadcast().add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    write_group(&mut writer, 0, 1);
    let mut slow = writer.track().read(Start::Newest);
    assert!(matches!(slow.try_next(), Some(Item::Group { .. })));
    assert!(!slow.skip_to_newest(), "it is there already");
    write_group(&mut writer, 1, 1);
    writer.begin_group(GroupHeader { independent: false, ..header(2) }).unwrap();
    let mut fresh = writer.track().read(Start::Newest);
    assert!(matches!(fresh.try_next(), Some(Item::Group { group, .. }) if group.seq().0 == 1));
    assert!(slow.skip_to_newest());
    assert!(matches!(slow.try_next(), Some(Item::Group { group, .. }) if group.seq().0 == 1));
    let mut resumed = writer.track().read(Start::At(GroupSeq(1), 1));
    assert!(matches!(resumed.try_next(), Some(Item::Group { .. })));
    assert!(matches!(resumed.try_next(), Some(Item::Frame(frame)) if frame.index == 1));
}

#[test]
fn a_broadcast_refuses_a_second_track_of_a_name_and_tracks_without_end() {
    let limits = BusLimits { tracks: 2, ..limits() };
    let broadcast = Broadcast::new(StreamName::parse("x").unwrap(), limits);
    let _audio = broadcast.add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    let again = broadcast.add_track(TrackName::audio(), MediaKind::Audio);
    assert_eq!(again.unwrap_err(), AddTrackError::Exists(TrackName::audio()));
    let _video = broadcast.add_track(TrackName::video(), MediaKind::Video).unwrap();
    let third = broadcast.add_track(TrackName::parse("x").unwrap(), MediaKind::Audio);
    assert_eq!(third.unwrap_err(), AddTrackError::TooMany(2));
    broadcast.set_state(BroadcastState::Ended);
    broadcast.set_state(BroadcastState::Live);
    assert_eq!(broadcast.state(), BroadcastState::Ended, "the end is final");
}

#[test]
fn a_frame_carries_one_derived_value_made_once() {
    let mut writer = broadcast().add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    write_group(&mut writer, 0, 4);
    let group = writer.track().newest().unwrap();
    let slot = group.slot(0).unwrap();
    let first = slot.derived(|frame| frame.payload.len()).unwrap();
    let second = slot.derived(|_| -> usize { panic!("made twice") }).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert!(slot.derived(|_| "another type").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_on_other_threads_lose_nothing_and_wake_for_every_frame() {
    const GROUPS: u64 = 50;
    let broadcast = Broadcast::new(
        StreamName::parse("x").unwrap(),
        BusLimits { window: Duration::from_secs(3_600), ..BusLimits::default() },
    );
    let mut writer = broadcast.add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let mut cursor = writer.track().read(Start::Oldest);
            tokio::spawn(async move {
                let (mut groups, mut frames) = (0u64, 0u64);
                loop {
                    match cursor.next().await {
                        Item::Group { .. } => groups += 1,
                        Item::Frame(frame) => {
                            assert_eq!(
                                frame.frame().unwrap().payload.len(),
                                frame.index as usize % 7
                            );
                            frames += 1;
                        }
                        Item::GroupEnd(_) => {}
                        Item::End => return (groups, frames),
                    }
                }
            })
        })
        .collect();
    for seq in 0..GROUPS {
        writer.begin_group(header(seq)).unwrap();
        for index in 0..100 {
            writer.append(frame(seq, index, index as usize % 7)).unwrap();
            if index % 10 == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    writer.finish();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (GROUPS, GROUPS * 100));
    }
}
