//! What is written reads back, and what cannot be written is refused.

use bytes::Bytes;

use super::read::{Init, read_fragments, read_init};
use super::{Fmp4Error, fragment, init_section};
use crate::codec::aac::AacConfig;
use crate::codec::av1::Av1Config;
use crate::codec::h264::H264Config;
use crate::codec::h265::H265Config;
use crate::codec::opus::OpusConfig;
use crate::codec::vp8::Vp8Config;
use crate::codec::vp9::Vp9Config;
use crate::codec::{Codec, Resolution};
use crate::frame::Frame;
use crate::id::ConfigVersion;
use crate::time::{ClockRate, MediaDuration, MediaTime, WallTime};
use crate::track::{PartPlan, TrackConfig};

const HD: Resolution = Resolution { width: 1280, height: 720 };

fn config(codec: Codec, hz: u32) -> TrackConfig {
    let parts = PartPlan { target_ticks: 18_000, frame_ticks: 3_000 };
    let rate = ClockRate::new(hz).unwrap();
    TrackConfig { version: ConfigVersion(0), codec, rate, parts }
}

fn h264() -> TrackConfig {
    let codec = Codec::H264(H264Config {
        sps: vec![Bytes::from_static(&[
            0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe9, 0xa8, 0x10, 0x10, 0x10, 0xf0,
        ])],
        pps: vec![Bytes::from_static(&[0x68, 0xce, 0x3c, 0x80])],
        profile: 0x42,
        constraints: 0xc0,
        level: 31,
        resolution: HD,
        frame_rate: None,
        reorder_frames: 0,
    });
    config(codec, 90_000)
}

fn opus() -> TrackConfig {
    let codec = OpusConfig { channels: 2, pre_skip: 312, input_sample_rate: 44_100 };
    config(Codec::Opus(codec), 48_000)
}

fn frame(dts: i64, offset: i64, duration: i64, keyframe: bool, size: usize) -> Frame {
    let rate = ClockRate::VIDEO;
    Frame {
        pts: MediaTime::new(dts + offset, rate),
        dts: MediaTime::new(dts, rate),
        duration: MediaDuration::new(duration, rate),
        keyframe,
        capture: WallTime(0),
        payload: Bytes::from(vec![size as u8; size]),
    }
}

fn init(config: &TrackConfig) -> Init {
    read_init(&init_section(config).unwrap()).unwrap()
}

#[test]
fn every_codec_has_its_sample_entry_and_record() {
    let aac = AacConfig {
        asc: Bytes::from_static(&[0x12, 0x10]),
        object_type: 2,
        sample_rate: 44_100,
        channels: 2,
        frame_samples: 1024,
    };
    let h265 = H265Config {
        vps: vec![Bytes::from_static(&[0x40, 1, 0x0c])],
        sps: vec![Bytes::from_static(&[0x42, 1, 1])],
        pps: vec![Bytes::from_static(&[0x44, 1, 0xc1])],
        profile_tier_level: [1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93],
        chroma_format: 1,
        bit_depth_luma: 8,
        bit_depth_chroma: 8,
        resolution: HD,
        frame_rate: None,
    };
    let av1 = Av1Config {
        sequence_header: Bytes::from_static(&[0x0a, 1, 0]),
        profile: 0,
        level: 5,
        tier: 0,
        bit_depth: 8,
        monochrome: false,
        subsampling_x: true,
        subsampling_y: true,
        chroma_sample_position: 0,
        resolution: HD,
        frame_rate: None,
    };
    let vp9 = Vp9Config {
        profile: 0,
        level: 31,
        bit_depth: 8,
        chroma_subsampling: 1,
        full_range: false,
        resolution: HD,
    };
    let cases: [(TrackConfig, &[u8; 4], &[u8; 4]); 6] = [
        (h264(), b"avc1", b"avcC"),
        (config(Codec::H265(h265), 90_000), b"hvc1", b"hvcC"),
        (config(Codec::Av1(av1), 90_000), b"av01", b"av1C"),
        (config(Codec::Vp9(vp9), 90_000), b"vp09", b"vpcC"),
        (config(Codec::Aac(aac), 44_100), b"mp4a", b"esds"),
        (opus(), b"Opus", b"dOps"),
    ];
    for (config, entry, record) in cases {
        let init = init(&config);
        assert_eq!((&init.codec, &init.record_type), (entry, record));
        assert_eq!(init.timescale, config.rate.hz());
        match config.codec.audio() {
            Some((rate, channels)) => {
                assert_eq!(init.handler, *b"soun");
                assert_eq!(init.audio, (u16::from(channels), rate));
            }
            None => {
                assert_eq!(init.handler, *b"vide");
                assert_eq!(init.size, (1280, 720));
            }
        }
        assert_eq!(init.brands.contains(b"av01"), entry == b"av01");
        match record {
            b"vpcC" => assert_eq!(init.record, [1, 0, 0, 0, 0, 31, 0x82, 2, 2, 2, 0, 0]),
            b"av1C" => assert_eq!(init.record, [0x81, 5, 0x0c, 0, 0x0a, 1, 0]),
            _ => assert!(!init.record.is_empty()),
        }
    }
}

#[test]
fn the_records_bytes_are_those_of_the_specifications() {
    assert_eq!(init(&opus()).record, [0, 2, 1, 0x38, 0, 0, 0xac, 0x44, 0, 0, 0]);
    let aac = AacConfig {
        asc: Bytes::from_static(&[0x12, 0x10]),
        object_type: 2,
        sample_rate: 44_100,
        channels: 2,
        frame_samples: 1024,
    };
    #[rustfmt::skip]
    let esds = [
        0, 0, 0, 0,
        3, 0x80, 0x80, 0x80, 34, 0, 0, 0,
        4, 0x80, 0x80, 0x80, 20, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        5, 0x80, 0x80, 0x80, 2, 0x12, 0x10,
        6, 0x80, 0x80, 0x80, 1, 2,
    ];
    assert_eq!(init(&config(Codec::Aac(aac), 44_100)).record, esds);
    let avcc = init(&h264()).record;
    assert_eq!(avcc.get(..8), Some(&[1, 0x42, 0xc0, 31, 0xff, 0xe1, 0, 14][..]));
    assert_eq!(avcc.get(22..), Some(&[1, 0, 4, 0x68, 0xce, 0x3c, 0x80][..]));
}

#[test]
fn vp8_is_refused_with_the_remedy() {
    let error = init_section(&config(Codec::Vp8(Vp8Config { resolution: HD }), 90_000));
    assert_eq!(error, Err(Fmp4Error::Codec("vp8")));
    assert!(error.unwrap_err().to_string().contains("transcode"));
}

#[test]
fn an_overlong_audio_specific_config_is_refused() {
    let aac = AacConfig {
        asc: Bytes::from(vec![0; 5_000]),
        object_type: 2,
        sample_rate: 44_100,
        channels: 2,
        frame_samples: 1024,
    };
    let error = init_section(&config(Codec::Aac(aac), 44_100));
    assert!(matches!(error, Err(Fmp4Error::Config(_))), "{error:?}");
}

#[test]
fn parameter_sets_that_do_not_fit_their_record_are_refused() {
    let mut many = h264();
    let mut long = h264();
    if let (Codec::H264(many), Codec::H264(long)) = (&mut many.codec, &mut long.codec) {
        many.sps = vec![Bytes::from_static(&[0x67]); 32];
        long.pps = vec![Bytes::from(vec![0x68; 65_536])];
    }
    for config in [many, long] {
        let error = init_section(&config);
        assert!(matches!(error, Err(Fmp4Error::Config(_))), "{error:?}");
    }
}

/// Frames with these (composition offset, duration, keyframe, size), from `start` on.
fn frames(start: i64, rows: &[(i64, i64, bool, usize)]) -> Vec<Frame> {
    let mut dts = start;
    let make = |&(offset, duration, keyframe, size): &(i64, i64, bool, usize)| {
        let made = frame(dts, offset, duration, keyframe, size);
        dts += duration;
        made
    };
    rows.iter().map(make).collect()
}

#[test]
fn fragments_read_back_as_the_frames_they_were_made_of() {
    // (rows, bytes of the head): every combination of uniform and varying columns that occurs.
    let base = 100;
    type Rows = &'static [(i64, i64, bool, usize)];
    let cases: [(Rows, usize); 8] = [
        (&[(0, 3_000, true, 10)], base + 8),
        (&[(0, 3_000, true, 10), (0, 3_000, false, 10)], base + 8 + 4),
        (&[(0, 3_000, false, 10), (0, 3_000, false, 11)], base + 4 + 2 * 4),
        (&[(0, 3_000, true, 10), (0, 3_000, false, 11), (0, 3_000, true, 9)], base + 4 + 3 * 8),
        (&[(0, 3_003, false, 1), (0, 3_004, false, 1)], base + 4 + 2 * 4),
        (&[(6_000, 3_000, true, 5), (-3_000, 3_000, false, 4)], base + 4 + 4 + 2 * 8),
        (&[(0, 0, false, 0), (90_000, 1, true, 70_000), (0, 2, false, 3)], base + 3 * 16),
        (&[(0, 3_000, true, 0), (0, 3_000, true, 0)], base + 8),
    ];
    let config = h264();
    let init = init(&config);
    for (number, (rows, head)) in cases.into_iter().enumerate() {
        let frames = frames((1 << 40) + 7, rows);
        let made = fragment(number as u32, &frames, &config).unwrap();
        assert_eq!(made.head.len(), head, "case {number}");
        let bytes = made.to_bytes();
        assert_eq!(bytes.len(), made.len);
        let read = read_fragments(&init, &bytes).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].sequence_number, number as u32);
        assert_eq!(read[0].samples.len(), frames.len());
        for (sample, frame) in read[0].samples.iter().zip(&frames) {
            assert_eq!(sample.dts as i64, frame.dts.ticks(), "case {number}");
            assert_eq!(sample.pts, frame.pts.ticks());
            assert_eq!(i64::from(sample.duration), frame.duration.ticks());
            assert_eq!(sample.sync, frame.keyframe);
            assert_eq!(bytes.slice(sample.data.clone()), frame.payload);
        }
    }
}

#[test]
fn the_same_frames_give_the_same_bytes_and_payloads_are_shared() {
    let frames = frames(0, &[(0, 3_000, true, 1_000), (0, 3_000, false, 200)]);
    let first = fragment(9, &frames, &h264()).unwrap();
    let second = fragment(9, frames.iter(), &h264()).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.payloads[0].as_ptr(), frames[0].payload.as_ptr());
    assert_ne!(first.head, fragment(10, &frames, &h264()).unwrap().head);
}

#[test]
fn a_segment_is_the_sum_of_its_parts() {
    let config = h264();
    let mut segment = Vec::new();
    for part in 0..10u32 {
        let start = i64::from(part) * 6_000;
        let rows = [(0, 3_000, part == 0, 50), (0, 3_000, false, 20 + part as usize)];
        let made = fragment(part, &frames(start, &rows), &config).unwrap();
        made.chunks().for_each(|chunk| segment.extend_from_slice(chunk));
    }
    let read = read_fragments(&init(&config), &segment).unwrap();
    assert_eq!(read.len(), 10);
    assert!(read.windows(2).all(|pair| pair[0].end() == pair[1].samples[0].dts));
    assert!(read[0].samples[0].sync && !read[1].samples[0].sync);
}

#[test]
fn every_audio_sample_is_a_sync_sample() {
    let config = config(opus().codec, 90_000);
    let made = fragment(0, &frames(0, &[(0, 1_800, false, 7), (0, 1_800, false, 7)]), &config);
    let bytes = made.unwrap().to_bytes();
    let read = read_fragments(&init(&config), &bytes).unwrap();
    assert!(read[0].samples.iter().all(|sample| sample.sync));
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let config = h264();
    let none: [Frame; 0] = [];
    assert_eq!(fragment(0, &none, &config), Err(Fmp4Error::Empty));
    let refused = |frames: &[Frame]| fragment(0, frames, &config).unwrap_err();
    assert_eq!(refused(&[frame(-1, 0, 1, true, 1)]), Fmp4Error::NegativeTime(-1));
    assert_eq!(
        refused(&[frame(0, 0, 3_000, true, 1), frame(3_001, 0, 3_000, false, 1)]),
        Fmp4Error::Gap { index: 1, got: 3_001, want: 3_000 }
    );
    let range = |field, value| Fmp4Error::Range { index: 0, field, value };
    assert_eq!(refused(&[frame(0, 0, -1, true, 1)]), range("duration", -1));
    assert_eq!(refused(&[frame(0, 0, 1 << 32, true, 1)]), range("duration", 1 << 32));
    assert_eq!(refused(&[frame(0, 1 << 31, 1, true, 1)]), range("composition offset", 1 << 31));
    let mut foreign = frame(0, 0, 1, true, 1);
    foreign.dts = MediaTime::new(0, ClockRate::MILLIS);
    let (got, want) = (ClockRate::MILLIS, ClockRate::VIDEO);
    assert_eq!(refused(&[foreign]), Fmp4Error::Rate { index: 0, got, want });
}

#[test]
fn the_reader_refuses_damage() {
    let config = h264();
    let init = init(&config);
    let frames = frames(5, &[(0, 3_000, true, 10), (0, 3_000, false, 11)]);
    let good = fragment(0, &frames, &config).unwrap().to_bytes();
    assert!(read_fragments(&init, &good).is_ok());
    for cut in 1..good.len() {
        assert!(read_fragments(&init, &good[..cut]).is_err(), "cut at {cut}");
    }
    let section = init_section(&config).unwrap();
    for cut in 0..section.len() {
        assert!(read_init(&section[..cut]).is_err(), "cut at {cut}");
    }
}
