//! The multiplexer and the demultiplexer against each other, and the demultiplexer against losses
//! and tables of every kind.

mod hostile;

use bytes::{Bytes, BytesMut};

use super::{
    CHUNK_BYTES, DemuxOptions, Demuxer, Event, LostReason, MuxError, Muxer, OpusUnits,
    PACKET_BYTES, Pes, StreamCodec, TIME_OFFSET_TICKS,
};
use crate::codec::aac::AacConfig;
use crate::codec::h264::H264Config;
use crate::codec::h265::H265Config;
use crate::codec::opus::OpusConfig;
use crate::codec::vp8::Vp8Config;
use crate::codec::{Codec, Resolution};
use crate::frame::Frame;
use crate::id::ConfigVersion;
use crate::time::{ClockRate, MediaDuration, MediaTime, WallTime};
use crate::track::{PartPlan, TrackConfig};

const SIZE: Resolution = Resolution { width: 640, height: 360 };
const WRAP: i64 = 1 << 33;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;

fn config(codec: Codec, hz: u32) -> TrackConfig {
    let parts = PartPlan { target_ticks: 18_000, frame_ticks: 3_000 };
    let rate = ClockRate::new(hz).unwrap();
    TrackConfig { version: ConfigVersion(0), codec, rate, parts }
}

fn h264() -> TrackConfig {
    let codec = H264Config {
        sps: vec![Bytes::from_static(&[0x67, 1, 2])],
        pps: vec![Bytes::from_static(&[0x68, 3])],
        profile: 0x42,
        constraints: 0,
        level: 30,
        resolution: SIZE,
        frame_rate: None,
        reorder_frames: 0,
    };
    config(Codec::H264(codec), 90_000)
}

fn h265() -> TrackConfig {
    let codec = H265Config {
        vps: vec![Bytes::from_static(&[0x40, 1])],
        sps: vec![Bytes::from_static(&[0x42, 1])],
        pps: vec![Bytes::from_static(&[0x44, 1])],
        profile_tier_level: [0; 12],
        chroma_format: 1,
        bit_depth_luma: 8,
        bit_depth_chroma: 8,
        resolution: SIZE,
        frame_rate: None,
    };
    config(Codec::H265(codec), 90_000)
}

fn aac() -> TrackConfig {
    let codec = AacConfig {
        asc: Bytes::from_static(&[0x11, 0x90]),
        object_type: 2,
        sample_rate: 48_000,
        channels: 2,
        frame_samples: 1024,
    };
    config(Codec::Aac(codec), 48_000)
}

fn opus() -> TrackConfig {
    let codec = OpusConfig { channels: 2, pre_skip: 312, input_sample_rate: 48_000 };
    config(Codec::Opus(codec), 48_000)
}

fn frame(rate: ClockRate, dts: i64, offset: i64, keyframe: bool, payload: Vec<u8>) -> Frame {
    Frame {
        pts: MediaTime::new(dts + offset, rate),
        dts: MediaTime::new(dts, rate),
        duration: MediaDuration::new(3_000, rate),
        keyframe,
        capture: WallTime(0),
        payload: payload.into(),
    }
}

/// A frame of one NAL unit of `size` bytes.
fn video(dts: i64, offset: i64, keyframe: bool, size: usize) -> Frame {
    let mut payload = (size as u32).to_be_bytes().to_vec();
    payload.push(if keyframe { 0x65 } else { 0x41 });
    payload.extend((1..size).map(|i| (i % 251) as u8 | 8));
    frame(ClockRate::VIDEO, dts, offset, keyframe, payload)
}

fn annex_b(frame: &Frame) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 1, 9, 0xf0];
    if frame.keyframe {
        out.extend([0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3]);
    }
    out.extend([0, 0, 1]);
    out.extend(&frame.payload[4..]);
    out
}

fn mux(configs: &[TrackConfig], frames: &[(usize, Frame)]) -> BytesMut {
    let mut muxer = Muxer::new(configs).unwrap();
    let mut out = BytesMut::new();
    for (track, frame) in frames {
        muxer.push(*track, frame, &configs[*track], &mut out).unwrap();
    }
    assert_eq!(out.len() % PACKET_BYTES, 0);
    out
}

fn drain(demuxer: &mut Demuxer) -> Vec<Event> {
    std::iter::from_fn(|| demuxer.poll()).collect()
}

fn demux(bytes: &[u8], cut: usize) -> Vec<Event> {
    let mut demuxer = Demuxer::new(DemuxOptions::default());
    let mut events = Vec::new();
    for chunk in bytes.chunks(cut) {
        demuxer.push(chunk);
        events.extend(drain(&mut demuxer));
    }
    demuxer.finish();
    events.extend(drain(&mut demuxer));
    events
}

fn pes(events: &[Event], wanted: u16) -> Vec<&Pes> {
    fn any(event: &Event) -> Option<&Pes> {
        if let Event::Pes(pes) = event { Some(pes) } else { None }
    }
    events.iter().filter_map(any).filter(|pes| pes.pid == wanted).collect()
}

fn lost(events: &[Event]) -> Vec<(Option<u16>, LostReason)> {
    let of = |event: &Event| match event {
        Event::Lost { pid, reason } => Some((*pid, *reason)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// Forty frames of video of growing size, two of audio for each.
fn show(start: i64) -> Vec<(usize, Frame)> {
    let mut frames = Vec::new();
    for index in 0..40i64 {
        let dts = start + index * 3_000;
        let size = 1 + index as usize * 97;
        frames.push((0, video(dts, index % 3 * 3_000, index % 20 == 0, size)));
        let dts = MediaTime::new(dts, ClockRate::VIDEO).to_rate(ClockRate::OPUS).ticks();
        for half in 0..2 {
            let payload = vec![half as u8; 100 + index as usize * 9];
            frames.push((1, frame(ClockRate::OPUS, dts + half * 800, 0, true, payload)));
        }
    }
    frames
}

#[test]
fn what_is_multiplexed_demultiplexes_to_the_same_frames_however_it_is_cut() {
    let frames = show(500);
    let bytes = mux(&[h264(), aac()], &frames);
    for cut in [1, 187, 188, 189, 377, CHUNK_BYTES, bytes.len()] {
        let events = demux(&bytes, cut);
        assert_eq!(events[0], Event::Track { pid: VIDEO_PID, codec: StreamCodec::H264 });
        assert_eq!(events[1], Event::Track { pid: AUDIO_PID, codec: StreamCodec::AacAdts });
        assert_eq!(lost(&events), []);
        let given = pes(&events, VIDEO_PID);
        let sent: Vec<_> = frames.iter().filter(|(track, _)| *track == 0).collect();
        assert_eq!(given.len(), sent.len(), "cut {cut}");
        for (pes, (_, frame)) in given.into_iter().zip(sent) {
            assert_eq!(pes.pts, Some(frame.pts.ticks() + TIME_OFFSET_TICKS));
            assert_eq!(pes.dts, Some(frame.dts.ticks() + TIME_OFFSET_TICKS));
            assert_eq!(pes.data, annex_b(frame));
            assert_eq!(pes.random_access, frame.keyframe);
        }
        let given = pes(&events, AUDIO_PID);
        let sent: Vec<_> = frames.iter().filter(|(track, _)| *track == 1).collect();
        assert_eq!(given.len(), sent.len());
        for (pes, (_, frame)) in given.into_iter().zip(sent) {
            let want = frame.pts.to_rate(ClockRate::VIDEO).ticks() + TIME_OFFSET_TICKS;
            assert_eq!(pes.pts, Some(want));
            let length = frame.payload.len() + 7;
            // AAC LC at 48 kHz, two channels.
            let length_bits = (length as u64) << 13;
            let header = 0xff_f1_4c_80_00_1f_fc | length_bits;
            assert_eq!(pes.data[..7], header.to_be_bytes()[1..]);
            assert_eq!(pes.data[7..], frame.payload);
        }
    }
}

#[test]
fn every_size_of_frame_survives_the_packets() {
    let frames: Vec<_> =
        (1..800).map(|size| (0, video(size as i64 * 3_000, 0, false, size))).collect();
    let events = demux(&mux(&[h264()], &frames), CHUNK_BYTES);
    let given = pes(&events, VIDEO_PID);
    assert_eq!(given.len(), frames.len());
    assert!(given.iter().zip(&frames).all(|(pes, (_, frame))| pes.data == annex_b(frame)));
}

#[test]
fn a_frame_is_given_out_with_its_last_packet() {
    let config = h264();
    let mut muxer = Muxer::new([&config]).unwrap();
    let mut demuxer = Demuxer::new(DemuxOptions::default());
    let mut late = 0;
    // Frames beyond 64 KiB have no length; their end shows by the stuffing alone.
    for index in 0..60i64 {
        let size = if index % 2 == 0 { 500 } else { 70_000 + index as usize };
        let mut bytes = BytesMut::new();
        muxer.push(0, &video(index * 3_000, 0, false, size), &config, &mut bytes).unwrap();
        demuxer.push(&bytes);
        let events = drain(&mut demuxer);
        let on_time = pes(&events, VIDEO_PID).iter().any(|pes| pes.data.len() > size);
        late += usize::from(!on_time);
        assert!(on_time || index < 40, "frame {index}");
        assert_eq!(lost(&events), []);
    }
    assert!(late <= 17, "{late} frames waited for the next one");
}

#[test]
fn opus_keeps_its_packets_and_channels() {
    let config = opus();
    let frames: Vec<_> = [3usize, 254, 255, 600]
        .iter()
        .enumerate()
        .map(|(i, &size)| (0, frame(ClockRate::OPUS, i as i64 * 960, 0, true, vec![5; size])))
        .collect();
    let events = demux(&mux(&[config], &frames), CHUNK_BYTES);
    let codec = StreamCodec::Opus { channels: 2 };
    assert_eq!(events[0], Event::Track { pid: VIDEO_PID, codec });
    let given = pes(&events, VIDEO_PID);
    assert_eq!(given.len(), 4);
    for (pes, (_, frame)) in given.into_iter().zip(&frames) {
        let units: Vec<_> = OpusUnits::new(pes.data.clone()).collect();
        assert_eq!(units, [Ok(frame.payload.clone())]);
    }
}

#[test]
fn h265_begins_keyframes_with_delimiter_and_parameter_sets() {
    let payload = vec![0, 0, 0, 3, 0x46, 1, 0x50, 0, 0, 0, 2, 0x26, 1];
    let key = frame(ClockRate::VIDEO, 0, 0, true, payload);
    let events = demux(&mux(&[h265()], &[(0, key)]), CHUNK_BYTES);
    assert_eq!(events[0], Event::Track { pid: VIDEO_PID, codec: StreamCodec::H265 });
    #[rustfmt::skip]
    let want = [
        0, 0, 0, 1, 0x46, 1, 0x50,
        0, 0, 0, 1, 0x40, 1, 0, 0, 0, 1, 0x42, 1, 0, 0, 0, 1, 0x44, 1,
        0, 0, 1, 0x26, 1,
    ];
    assert_eq!(pes(&events, VIDEO_PID)[0].data, want[..]);
}

#[test]
fn times_run_on_across_the_wrap_on_all_tracks_together() {
    let frames = show(WRAP - 60_000);
    let events = demux(&mux(&[h264(), aac()], &frames), CHUNK_BYTES);
    for (pid, track) in [(VIDEO_PID, 0), (AUDIO_PID, 1)] {
        let sent = frames.iter().filter(|(of, _)| *of == track);
        let want: Vec<_> = sent
            .map(|(_, frame)| Some(frame.pts.to_rate(ClockRate::VIDEO).ticks() + TIME_OFFSET_TICKS))
            .collect();
        let given: Vec<_> = pes(&events, pid).iter().map(|pes| pes.pts).collect();
        assert_eq!(given, want);
        assert!(want.last().unwrap().unwrap() > WRAP);
    }
}

#[test]
fn a_track_that_begins_before_the_first_time_wraps_below_zero() {
    let frames = [
        (0, video(2 * WRAP - TIME_OFFSET_TICKS + 10, 0, true, 9)),
        (1, frame(ClockRate::VIDEO, 2 * WRAP - TIME_OFFSET_TICKS - 5, 0, true, vec![1; 9])),
    ];
    let events = demux(&mux(&[h264(), aac()], &frames), CHUNK_BYTES);
    assert_eq!(pes(&events, VIDEO_PID)[0].pts, Some(10));
    assert_eq!(pes(&events, AUDIO_PID)[0].pts, Some(-5));
}

/// The index of the packets of a PID, in order.
fn packets_of(bytes: &[u8], pid: u16) -> Vec<usize> {
    let is = |packet: &[u8]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == pid;
    let packets = bytes.chunks(PACKET_BYTES).enumerate();
    packets.filter(|(_, packet)| is(packet)).map(|(index, _)| index).collect()
}

fn without(bytes: &[u8], index: usize) -> Vec<u8> {
    let packets = bytes.chunks(PACKET_BYTES).enumerate();
    packets.filter(|(at, _)| *at != index).flat_map(|(_, packet)| packet.to_vec()).collect()
}

#[test]
fn a_lost_packet_costs_the_pes_it_belonged_to_and_no_other() {
    let frames: Vec<_> = (0..4).map(|i| (0, video(i * 3_000, 0, i == 0, 1_000))).collect();
    let bytes = mux(&[h264()], &frames);
    let whole: Vec<_> = demux(&bytes, CHUNK_BYTES);
    for index in packets_of(&bytes, VIDEO_PID) {
        let events = demux(&without(&bytes, index), CHUNK_BYTES);
        let given = pes(&events, VIDEO_PID);
        assert_eq!(given.len(), 3, "without packet {index}");
        assert!(given.iter().all(|pes| pes_among(pes, &whole)), "without packet {index}");
        let last = *packets_of(&bytes, VIDEO_PID).last().unwrap();
        let first = packets_of(&bytes, VIDEO_PID)[0];
        match index {
            _ if index == last => {
                assert_eq!(lost(&events), [(Some(VIDEO_PID), LostReason::Truncated)]);
            }
            // Nothing came before, so nothing is known to be missing.
            _ if index == first => assert_eq!(lost(&events), []),
            _ => assert!(lost(&events).contains(&(Some(VIDEO_PID), LostReason::Continuity))),
        }
    }
}

fn pes_among(pes: &Pes, events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Pes(other) if other == pes))
}

#[test]
fn a_repeated_packet_is_ignored_and_sixteen_lost_are_noticed() {
    let frames: Vec<_> = (0..4).map(|i| (0, video(i * 3_000, 0, i == 0, 5_000))).collect();
    let bytes = mux(&[h264()], &frames);
    let whole = demux(&bytes, CHUNK_BYTES);
    let twice: Vec<u8> =
        bytes.chunks(PACKET_BYTES).flat_map(|packet| [packet, packet].concat()).collect();
    assert_eq!(pes(&demux(&twice, CHUNK_BYTES), VIDEO_PID), pes(&whole, VIDEO_PID));
    // Sixteen packets less leave the counter as it was.
    let gone = packets_of(&bytes, VIDEO_PID)[5..21].to_vec();
    let packets = bytes.chunks(PACKET_BYTES).enumerate();
    let rest: Vec<u8> = packets
        .filter(|(index, _)| !gone.contains(index))
        .flat_map(|(_, packet)| packet.to_vec())
        .collect();
    let events = demux(&rest, CHUNK_BYTES);
    assert!(
        lost(&events).contains(&(Some(VIDEO_PID), LostReason::Truncated))
            || lost(&events).contains(&(Some(VIDEO_PID), LostReason::Continuity))
    );
    assert!(pes(&events, VIDEO_PID).iter().all(|pes| pes_among(pes, &whole)));
}

#[test]
fn bytes_between_packets_are_passed_over() {
    let frames = show(0);
    let bytes = mux(&[h264(), aac()], &frames);
    let mut spoilt = bytes.to_vec();
    let noise: Vec<u8> = (0..1_000u32).map(|i| if i % 3 == 0 { 0x47 } else { i as u8 }).collect();
    let at = 50 * PACKET_BYTES;
    spoilt.splice(at..at, noise);
    for cut in [1, 188, CHUNK_BYTES] {
        let events = demux(&spoilt, cut);
        let (pid, reason) = (None, LostReason::Sync);
        assert!(lost(&events).contains(&(pid, reason)), "cut {cut}");
        let given = pes(&events, VIDEO_PID).len() + pes(&events, AUDIO_PID).len();
        assert!(given >= frames.len() - 3, "cut {cut}: {given} of {}", frames.len());
    }
    let mut late = vec![0u8; 777];
    late.extend_from_slice(&bytes);
    assert_eq!(pes(&demux(&late, 100), VIDEO_PID).len(), 40);
}

#[test]
fn marked_and_encrypted_packets_are_dropped_and_reported() {
    let frames: Vec<_> = (0..3).map(|i| (0, video(i * 3_000, 0, i == 0, 1_000))).collect();
    let bytes = mux(&[h264()], &frames);
    let second = packets_of(&bytes, VIDEO_PID)[8];
    let mut marked = bytes.to_vec();
    marked[second * PACKET_BYTES + 1] |= 0x80;
    let events = demux(&marked, CHUNK_BYTES);
    assert_eq!(pes(&events, VIDEO_PID).len(), 2);
    assert_eq!(lost(&events), [(Some(VIDEO_PID), LostReason::TransportError)]);
    let mut encrypted = bytes.to_vec();
    for index in packets_of(&bytes, VIDEO_PID) {
        encrypted[index * PACKET_BYTES + 3] |= 0x80;
    }
    let events = demux(&encrypted, CHUNK_BYTES);
    assert_eq!(lost(&events), [(Some(VIDEO_PID), LostReason::Scrambled)]);
}

#[test]
fn a_table_with_a_wrong_crc_is_not_believed() {
    let bytes = mux(&[h264()], &[(0, video(0, 0, true, 100))]);
    let mut spoilt = bytes.to_vec();
    spoilt[PACKET_BYTES + 20] ^= 1;
    let events = demux(&spoilt, CHUNK_BYTES);
    assert_eq!(events, [Event::Lost { pid: Some(0x1000), reason: LostReason::Table }]);
}

#[test]
fn a_new_program_map_ends_and_begins_tracks() {
    let first = mux(&[h264(), aac()], &[(0, video(0, 0, true, 100))]);
    let second = mux(&[h264(), opus()], &[(0, video(3_000, 0, true, 100))]);
    let events = demux(&[first, second].concat(), CHUNK_BYTES);
    let opus = StreamCodec::Opus { channels: 2 };
    assert!(events.contains(&Event::TrackEnded { pid: AUDIO_PID }));
    assert!(events.contains(&Event::Track { pid: AUDIO_PID, codec: opus }));
    assert!(!events.contains(&Event::TrackEnded { pid: VIDEO_PID }));
    assert_eq!(pes(&events, VIDEO_PID).len(), 2);
}

/// A packet with one section: the table's number, its extension and its body.
fn table(pid: u16, id: u8, extension: u16, body: &[u8]) -> Vec<u8> {
    let mut section = vec![id];
    section.extend((0xb000 | (9 + body.len()) as u16).to_be_bytes());
    section.extend(extension.to_be_bytes());
    section.extend([0xc1, 0, 0]);
    section.extend(body);
    section.extend(super::psi::crc32(&section).to_be_bytes());
    let mut packet = vec![0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x10, 0];
    packet.extend(section);
    packet.resize(PACKET_BYTES, 0xff);
    packet
}

#[test]
fn the_first_program_with_media_is_taken_and_other_codecs_are_named() {
    let mut bytes = table(0, 0, 1, &[0, 0, 0xe0, 0x10, 0, 1, 0xe0, 0x20, 0, 2, 0xe0, 0x21]);
    let none = [0xff, 0xff, 0xf0, 0, 0x86, 0xe0, 0x41, 0xf0, 0, 0x03, 0xe0, 0x42, 0xf0, 0];
    let media = [
        0xe0, 0x51, 0xf0, 0, 0x81, 0xe0, 0x50, 0xf0, 0, 0x1b, 0xe0, 0x51, 0xf0, 0, 0x11, 0xe0,
        0x52, 0xf0, 0,
    ];
    bytes.extend(table(0x20, 2, 1, &none));
    bytes.extend(table(0x21, 2, 2, &media));
    let unsupported = |pid, stream_type, name| Event::Unsupported { pid, stream_type, name };
    assert_eq!(
        demux(&bytes, 188),
        [
            unsupported(0x41, 0x86, "SCTE-35"),
            unsupported(0x42, 0x03, "MPEG-1 audio (MP2 or MP3)"),
            unsupported(0x50, 0x81, "AC-3"),
            unsupported(0x52, 0x11, "AAC in LATM"),
            Event::Track { pid: 0x51, codec: StreamCodec::H264 },
        ]
    );
}

#[test]
fn what_cannot_be_multiplexed_is_an_error_and_writes_nothing() {
    let vp8 = config(Codec::Vp8(Vp8Config { resolution: SIZE }), 90_000);
    assert_eq!(Muxer::new([&vp8]).err(), Some(MuxError::Codec("vp8")));
    assert_eq!(Muxer::new([]).err(), Some(MuxError::Tracks(0)));
    assert_eq!(Muxer::new(&vec![aac(); 9]).err(), Some(MuxError::Tracks(9)));
    let mut muxer = Muxer::new([&h264(), &aac()]).unwrap();
    let mut out = BytesMut::new();
    let key = video(0, 0, true, 10);
    let cut = frame(ClockRate::VIDEO, 0, 0, true, vec![0, 0, 0, 9, 1]);
    let huge = frame(ClockRate::OPUS, 0, 0, true, vec![0; 9_000]);
    let mut odd = aac();
    if let Codec::Aac(codec) = &mut odd.codec {
        codec.sample_rate = 12_345;
    }
    let wrong = MuxError::Adts { sample_rate: 12_345, channels: 2 };
    assert_eq!(muxer.push(2, &key, &h264(), &mut out), Err(MuxError::NoTrack(2)));
    assert_eq!(muxer.push(0, &key, &h265(), &mut out), Err(MuxError::CodecChanged("h265")));
    assert_eq!(muxer.push(0, &cut, &h264(), &mut out), Err(MuxError::NalUnits));
    assert_eq!(muxer.push(1, &huge, &aac(), &mut out), Err(MuxError::FrameSize(9_000)));
    assert_eq!(muxer.push(1, &huge, &odd, &mut out), Err(wrong));
    assert!(out.is_empty());
}

#[test]
fn tables_come_before_keyframes_and_often_enough() {
    let frames: Vec<_> = (0..30).map(|i| (0, video(i * 3_000, 0, i == 7, 50))).collect();
    let bytes = mux(&[h264()], &frames);
    let (pat, video) = (packets_of(&bytes, 0), packets_of(&bytes, VIDEO_PID));
    // At the start, every three frames (100 ms), and at the keyframe.
    assert_eq!(pat.len(), 11);
    assert!(pat.contains(&(video[7] - 2)));
    assert_eq!(packets_of(&bytes, 0x1000).len(), pat.len());
}

#[test]
fn a_jump_of_the_clock_is_announced() {
    let times = [0, 3_000, 6_000, 200_000, 203_000, 10];
    let frames: Vec<_> = times.iter().map(|&dts| (0, video(dts, 0, false, 50))).collect();
    let bytes = mux(&[h264()], &frames);
    let announced = packets_of(&bytes, VIDEO_PID).into_iter().map(|index| {
        let packet = &bytes[index * PACKET_BYTES..];
        packet[5] & 0x80 != 0
    });
    let announced: Vec<bool> = announced.collect();
    assert_eq!(announced, [false, false, false, true, false, true]);
    assert_eq!(pes(&demux(&bytes, CHUNK_BYTES), VIDEO_PID).len(), times.len());
}

#[test]
fn a_picture_shown_before_its_decoding_is_written_with_both_times_alike() {
    let frames = [(0, video(90_000, 0, true, 100)), (0, video(93_000, -450, false, 100))];
    let events = demux(&mux(&[h264()], &frames), CHUNK_BYTES);
    let times: Vec<_> = pes(&events, VIDEO_PID).iter().map(|pes| (pes.pts, pes.dts)).collect();
    let at = |ticks| Some(ticks + TIME_OFFSET_TICKS);
    assert_eq!(times, [(at(90_000), at(90_000)), (at(93_000), at(93_000))]);
}
