use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::av1::Av1Config;
use headwater_media::codec::h265::H265Config;
use headwater_media::codec::vp8::Vp8Config;
use headwater_media::codec::vp9::Vp9Config;
use headwater_media::codec::{FrameRate, Resolution};
use headwater_media::{
    BroadcastState, ClockRate, Codec, ConfigVersion, DiscontinuitySeq, Epoch, Frame, GroupHeader,
    GroupSeq, MediaDuration, MediaKind, MediaTime, PartPlan, StreamName, TrackConfig, TrackName,
    WallTime,
};
use proptest::prelude::*;

use super::group::{FrameCoder, encode_group_end, encode_group_head};
use super::input::Input;
use super::*;
use crate::route::Route;
use crate::testing::{Feeder, broadcast, h264, opus};

fn codecs() -> Vec<Codec> {
    let resolution = Resolution { width: 1_920, height: 1_080 };
    let frame_rate = Some(FrameRate { num: 30_000, den: 1_001 });
    let set = |byte: u8| vec![Bytes::from(vec![byte; 40])];
    vec![
        h264(1).codec,
        opus().codec,
        Codec::H265(H265Config {
            vps: set(0x40),
            sps: set(0x42),
            pps: vec![Bytes::from_static(&[0x44, 1]), Bytes::from_static(&[0x44, 2])],
            profile_tier_level: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            chroma_format: 1,
            bit_depth_luma: 10,
            bit_depth_chroma: 8,
            resolution,
            frame_rate,
        }),
        Codec::Av1(Av1Config {
            sequence_header: Bytes::from_static(&[10, 11, 0, 0]),
            profile: 0,
            level: 8,
            tier: 1,
            bit_depth: 10,
            monochrome: false,
            subsampling_x: true,
            subsampling_y: true,
            chroma_sample_position: 2,
            resolution,
            frame_rate,
        }),
        Codec::Vp8(Vp8Config { resolution }),
        Codec::Vp9(Vp9Config {
            profile: 2,
            level: 41,
            bit_depth: 10,
            chroma_subsampling: 1,
            full_range: true,
            resolution,
        }),
        Codec::Aac(AacConfig::lc(44_100, 2).unwrap()),
    ]
}

fn header(codec: Codec, rate: ClockRate) -> GroupHeader {
    let parts = PartPlan { target_ticks: 18_000, frame_ticks: 3_003 };
    GroupHeader {
        seq: GroupSeq(1 << 40),
        epoch: Epoch(7),
        discontinuity: DiscontinuitySeq(3),
        start: MediaTime::new(-5, rate),
        wall: WallTime(1_700_000_000_000_000),
        independent: true,
        expected_frames: Some(60),
        target_duration_s: None,
        config: Arc::new(TrackConfig { version: ConfigVersion(9), codec, rate, parts }),
    }
}

/// Decodes a whole stream that arrives in pieces of `piece` bytes.
fn decode(bytes: &Bytes, piece: usize) -> Result<Vec<GroupEvent>, WireError> {
    let mut decoder = GroupDecoder::new(1 << 20);
    let mut events = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        decoder.feed(rest.split_to(piece.min(rest.len())));
        while let Some(event) = decoder.poll()? {
            events.push(event);
        }
    }
    Ok(events)
}

#[test]
fn every_codec_s_configuration_comes_back_as_it_was() {
    for codec in codecs() {
        let header = header(codec, ClockRate::VIDEO);
        let kind = StreamKind::Subscription { id: 3, track: 1, order: 300 };
        let head = GroupHead { kind, header, first_frame: 17, skipped: 2 };
        let bytes = encode_group_head(&head).unwrap();
        for piece in [1, 7, bytes.len()] {
            let events = decode(&bytes, piece).unwrap();
            let [GroupEvent::Head(back)] = &events[..] else { panic!("{events:?}") };
            assert_eq!(format!("{back:?}"), format!("{head:?}"));
        }
    }
}

#[test]
fn a_group_comes_back_whatever_pieces_it_arrives_in() {
    let broadcast = broadcast("x");
    let mut feeder = Feeder::video(&broadcast);
    feeder.group(4, true);
    feeder.frames(20);
    let group = feeder.track().newest().unwrap();
    let kind = StreamKind::Fetch { id: 1 };
    let header = group.header().clone();
    let head = GroupHead { kind, header: header.clone(), first_frame: 0, skipped: 0 };
    let mut out = BytesMut::from(&encode_group_head(&head).unwrap()[..]);
    let mut coder = FrameCoder::new(&header);
    for index in 0..20 {
        let frame = group.frame(index).unwrap();
        coder.encode(frame, &mut out);
        out.extend_from_slice(&frame.payload);
    }
    encode_group_end(20, &mut out);
    let bytes = out.freeze();
    for piece in [1, 2, 50, 1_200, bytes.len()] {
        let events = decode(&bytes, piece).unwrap();
        assert_eq!(events.len(), 22);
        for (index, event) in (0..20).zip(&events[1..]) {
            let GroupEvent::Frame(frame) = event else { panic!("{event:?}") };
            assert_eq!(format!("{frame:?}"), format!("{:?}", group.frame(index).unwrap()));
        }
        assert!(matches!(events[21], GroupEvent::End(20)));
    }
}

#[test]
fn a_regular_frame_has_a_head_of_a_few_bytes() {
    let codec = opus();
    let header = GroupHeader { config: Arc::new(codec.clone()), ..header(codec.codec, codec.rate) };
    let mut coder = FrameCoder::new(&header);
    let mut out = BytesMut::new();
    for index in 0..100 {
        let dts = header.start.plus(MediaDuration::new(960 * index, ClockRate::OPUS));
        let frame = Frame {
            pts: dts,
            dts,
            duration: MediaDuration::new(960, ClockRate::OPUS),
            keyframe: true,
            // Half a millisecond of jitter.
            capture: header.wall.plus_micros(20_000 * index + 500 * (index % 2)),
            payload: Bytes::from(vec![0; 160]),
        };
        coder.encode(&frame, &mut out);
    }
    assert!(out.len() <= 500, "{} bytes for 100 heads", out.len());
}

#[test]
fn hostile_groups_are_errors() {
    let header = header(opus().codec, ClockRate::OPUS);
    let kind = StreamKind::Fetch { id: 1 };
    let head = GroupHead { kind, header, first_frame: 0, skipped: 0 };
    let good = encode_group_head(&head).unwrap();
    let with = |more: &[u8]| Bytes::from([&good[..], more].concat());
    // A frame of 2 MiB where 1 MiB is the limit.
    let large = decode(&with(&[0, 0x80, 0x80, 0x80, 1]), 1);
    assert!(matches!(large, Err(WireError::TooLong { what: "frame", .. })), "{large:?}");
    // Unknown flags, bytes after the end, a number without end.
    assert!(decode(&with(&[0x40]), 1).is_err());
    assert!(decode(&with(&[0x80, 0, 0]), 1).is_err());
    assert!(
        decode(&with(&[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), 1).is_err()
    );
    // A head that is said to be longer than any.
    assert!(decode(&Bytes::from_static(&[0xff, 0xff, 0x7f]), 1).is_err());
    // A head that ends within a field.
    assert!(decode(&Bytes::from_static(&[2, 2, 0]), 3).is_err());
}

fn names() -> impl Strategy<Value = StreamName> {
    "[a-z]{1,8}(/[a-z0-9]{1,8}){0,3}".prop_map(|text| StreamName::parse(&text).unwrap())
}

fn tracks() -> impl Strategy<Value = TrackName> {
    "[a-z]{1,8}".prop_map(|text| TrackName::parse(&text).unwrap())
}

fn states() -> impl Strategy<Value = BroadcastState> {
    prop_oneof![
        Just(BroadcastState::Live),
        Just(BroadcastState::Waiting),
        Just(BroadcastState::Ended)
    ]
}

fn epochs() -> impl Strategy<Value = Epoch> {
    (0..u64::MAX).prop_map(Epoch)
}

fn starts() -> impl Strategy<Value = StartAt> {
    let position = (tracks(), epochs(), any::<u64>(), any::<u32>()).prop_map(
        |(track, epoch, group, frame)| Position { track, epoch, group: GroupSeq(group), frame },
    );
    prop_oneof![
        Just(StartAt::Newest),
        prop::collection::vec(position, 0..4).prop_map(StartAt::Positions)
    ]
}

fn loads() -> impl Strategy<Value = Load> {
    (any::<u16>(), any::<u32>(), any::<u64>()).prop_map(
        |(cpu_permille, children, sent_bytes_per_s)| Load {
            cpu_permille,
            children,
            sent_bytes_per_s,
        },
    )
}

fn messages() -> impl Strategy<Value = Message> {
    let entry = (any::<u64>(), tracks(), any::<bool>(), any::<Option<u64>>()).prop_map(
        |(id, name, audio, finished)| {
            let kind = if audio { MediaKind::Audio } else { MediaKind::Video };
            TrackEntry { id, name, kind, finished }
        },
    );
    let wall = || any::<i64>().prop_map(WallTime);
    let code = (1u8..=9).prop_map(|n| {
        let bytes = encode_message(&Message::Refused {
            id: 0,
            code: RefusalCode::Other(n),
            epoch: Epoch(0),
            hint: None,
        });
        match decode_message(&bytes) {
            Ok((Some(Message::Refused { code, .. }), _)) => code,
            other => panic!("{other:?}"),
        }
    });
    prop_oneof![
        (".{0,20}", ".{0,20}", wall(), any::<bool>()).prop_map(
            |(version, node, time, announcements)| Message::Hello {
                version,
                node,
                time,
                announcements
            }
        ),
        (names(), epochs(), states()).prop_map(|(stream, epoch, state)| Message::Announce(
            Announced { stream, epoch, state }
        )),
        names().prop_map(Message::Unannounce),
        (
            any::<u64>(),
            names(),
            prop::option::of(tracks()),
            epochs(),
            starts(),
            any::<u8>(),
            any::<u32>()
        )
            .prop_map(|(id, stream, track, epoch, start, priority, max_age_ms)| {
                Message::Subscribe { id, stream, track, epoch, start, priority, max_age_ms }
            }),
        (any::<u64>(), any::<u8>(), any::<u32>()).prop_map(|(id, priority, max_age_ms)| {
            Message::SubscribeUpdate { id, priority, max_age_ms }
        }),
        any::<u64>().prop_map(|id| Message::Unsubscribe { id }),
        (any::<u64>(), epochs(), states(), prop::collection::vec(entry, 0..5), routes()).prop_map(
            |(id, epoch, state, tracks, route)| Message::Tracks { id, epoch, state, tracks, route }
        ),
        (any::<u64>(), code, epochs(), any::<Option<u8>>()).prop_map(|(id, code, epoch, hint)| {
            Message::Refused { id, code, epoch, hint: hint.map(|n| n.to_string()) }
        }),
        (any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(id, track, order)| Message::Dropped { id, track, order }),
        (any::<u64>(), any::<u64>()).prop_map(|(id, track)| Message::KeyframeWish { id, track }),
        (any::<u64>(), names(), tracks(), any::<u64>(), any::<u32>()).prop_map(
            |(id, stream, track, group, frame)| {
                Message::Fetch { id, stream, track, group: GroupSeq(group), frame }
            }
        ),
        ".{0,30}".prop_map(|reason| Message::Goaway { reason }),
        (wall(), loads()).prop_map(|(sent, load)| Message::Ping { sent, load }),
        (wall(), wall(), loads()).prop_map(|(sent, received, load)| Message::Pong {
            sent,
            received,
            load
        }),
    ]
}

fn routes() -> impl Strategy<Value = Route> {
    (prop::collection::vec(any::<u64>(), 0..17), any::<bool>(), any::<Option<i64>>())
        .prop_map(|(nodes, flowing, clock_micros)| Route { nodes, flowing, clock_micros })
}

fn frames() -> impl Strategy<Value = Frame> {
    let rate = ClockRate::VIDEO;
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    let ticks = -(1i64 << 53)..=1 << 53;
    let offset = -(1i64 << 32) + 1..1 << 32;
    let wall = -(1i64 << 58)..=1 << 58;
    (offset, ticks, 0..1i64 << 32, any::<bool>(), wall, payload).prop_map(
        move |(offset, dts, duration, keyframe, capture, payload)| Frame {
            pts: MediaTime::new(dts + offset, rate),
            dts: MediaTime::new(dts, rate),
            duration: MediaDuration::new(duration, rate),
            keyframe,
            capture: WallTime(capture),
            payload: payload.into(),
        },
    )
}

proptest! {
    #[test]
    fn a_number_comes_back(value: u64, signed: i64) {
        let mut out = BytesMut::new();
        put_uint(&mut out, value);
        put_uint(&mut out, zigzag(signed));
        let mut input = Input::new(&out);
        prop_assert_eq!(input.uint(), Ok(value));
        prop_assert_eq!(input.int(), Ok(signed));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn a_message_comes_back_and_needs_all_its_bytes(message in messages()) {
        let bytes = encode_message(&message);
        prop_assert_eq!(decode_message(&bytes), Ok((Some(message), bytes.len())));
        for end in 0..bytes.len() {
            prop_assert_eq!(decode_message(&bytes[..end]), Err(WireError::Truncated));
        }
    }

    #[test]
    fn bytes_that_a_newer_node_adds_are_passed_over(message in messages(), more: [u8; 3]) {
        let bytes = encode_message(&message);
        let mut input = Input::new(&bytes);
        let kind = input.uint().unwrap();
        let body = input.run("body", MESSAGE_BYTES_MAX).unwrap();
        let mut longer = BytesMut::new();
        put_uint(&mut longer, kind);
        super::input::put_run(&mut longer, &[body, &more].concat());
        prop_assert_eq!(decode_message(&longer), Ok((Some(message), longer.len())));
        let mut unknown = BytesMut::new();
        put_uint(&mut unknown, 1_000);
        super::input::put_run(&mut unknown, &more);
        prop_assert_eq!(decode_message(&unknown), Ok((None, unknown.len())));
    }

    #[test]
    fn garbage_is_no_message_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_message(&bytes);
        for kind in 0..16 {
            let mut out = BytesMut::new();
            put_uint(&mut out, kind);
            super::input::put_run(&mut out, &bytes);
            let _ = decode_message(&out);
        }
    }

    #[test]
    fn any_frames_come_back(all in prop::collection::vec(frames(), 0..8), piece in 1usize..400) {
        let header = header(h264(1).codec, ClockRate::VIDEO);
        let kind = StreamKind::Fetch { id: 1 };
        let head = GroupHead { kind, header: header.clone(), first_frame: 0, skipped: 0 };
        let mut out = BytesMut::from(&encode_group_head(&head).unwrap()[..]);
        let mut coder = FrameCoder::new(&header);
        for frame in &all {
            coder.encode(frame, &mut out);
            out.extend_from_slice(&frame.payload);
        }
        let events = decode(&out.freeze(), piece).unwrap();
        prop_assert_eq!(events.len(), all.len() + 1);
        for (event, frame) in events[1..].iter().zip(&all) {
            let GroupEvent::Frame(back) = event else { panic!("{event:?}") };
            prop_assert_eq!(format!("{back:?}"), format!("{frame:?}"));
        }
    }

    #[test]
    fn a_damaged_group_is_no_panic(
        at in 0usize..400,
        with: u8,
        tail in prop::collection::vec(any::<u8>(), 0..100),
        piece in 1usize..50,
    ) {
        let header = header(codecs()[at % 7].clone(), ClockRate::VIDEO);
        let kind = StreamKind::Subscription { id: 1, track: 0, order: 0 };
        let head = GroupHead { kind, header, first_frame: 0, skipped: 0 };
        let mut bytes = encode_group_head(&head).unwrap().to_vec();
        let place = at % bytes.len();
        bytes[place] = with;
        bytes.extend(tail);
        let _ = decode(&bytes.into(), piece);
    }
}
