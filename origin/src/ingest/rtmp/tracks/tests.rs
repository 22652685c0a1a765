use super::*;
use crate::ingest::rtmp::session::Event;
use crate::ingest::rtmp::testing::{RECORDED, RECORDED_AV1, RECORDED_H265, recorded_events};

fn drain(tracks: &mut Tracks) -> Vec<TrackEvent> {
    std::iter::from_fn(|| tracks.poll()).collect()
}

fn frames(events: &[TrackEvent]) -> Vec<&TrackFrame> {
    let frames = events.iter().filter_map(|event| match event {
        TrackEvent::Frame(frame) => Some(frame),
        _ => None,
    });
    frames.collect()
}

/// The recording's video tags: the header, then the frames.
fn video_tags() -> Vec<(u32, Bytes)> {
    let tags = recorded_events(RECORDED).into_iter().filter_map(|event| match event {
        Event::Video(time, body) => Some((time, body)),
        _ => None,
    });
    tags.collect()
}

fn audio_tags() -> Vec<(u32, Bytes)> {
    let tags = recorded_events(RECORDED).into_iter().filter_map(|event| match event {
        Event::Audio(time, body) => Some((time, body)),
        _ => None,
    });
    tags.collect()
}

/// The recording's video tag `body` as Enhanced RTMP writes it: packet type and FourCC instead of
/// the codec's number and the legacy packet type.
fn enhanced(body: &Bytes, packet_type: u8, extra: &[u8]) -> Bytes {
    let mut tag = vec![0x80 | body[0] & 0x70 | packet_type];
    tag.extend_from_slice(extra);
    tag.extend_from_slice(b"avc1");
    tag.extend_from_slice(if packet_type == 1 { &body[2..] } else { &body[5..] });
    tag.into()
}

#[test]
fn times_go_on_over_the_32_bit_wrap_in_both_directions() {
    let mut clock = Unwrap::default();
    let times = [u32::MAX - 20, u32::MAX - 40, 5, u32::MAX, 40, 0x8000_0000, 0xffff_ffff, 3];
    let wide: Vec<_> = times.iter().map(|time| clock.unwrap(*time)).collect();
    let turn = 1i64 << 32;
    let expected = [
        turn - 21,
        turn - 41,
        turn + 5,
        turn - 1,
        turn + 40,
        turn + 0x8000_0000,
        2 * turn - 1,
        2 * turn + 3,
    ];
    assert_eq!(wide, expected);
}

#[test]
fn metadata_announces_the_codecs_that_are_carried() {
    let number = |four_cc: &[u8; 4]| Value::Number(f64::from(u32::from_be_bytes(*four_cc)));
    for (video, audio, expected) in [
        (Value::Number(7.0), Value::Number(10.0), 2),
        (number(b"hvc1"), number(b"Opus"), 2),
        (Value::text("avc1"), Value::text("mp4a"), 2),
        (Value::Number(12.0), Value::Number(2.0), 1),
        (Value::Number(2.0), Value::Null, 0),
        (Value::Number(-1.0), Value::Number(f64::NAN), 0),
        (Value::text("h264"), Value::text("a long name"), 0),
    ] {
        let mut tracks = Tracks::default();
        let metadata = Value::object([("videocodecid", video.clone()), ("audiocodecid", audio)]);
        tracks.metadata(&metadata);
        tracks.metadata(&metadata);
        assert_eq!(drain(&mut tracks).len(), expected, "{video:?}");
    }
}

#[test]
fn b_frames_keep_their_composition_times() {
    let mut tracks = Tracks::default();
    for (time, body) in video_tags() {
        tracks.video(time, body).unwrap();
    }
    let events = drain(&mut tracks);
    assert_eq!(events[0], TrackEvent::Announce(MediaKind::Video));
    assert!(matches!(events[1], TrackEvent::Configure(Codec::H264(_))));
    let frames = frames(&events);
    assert_eq!(frames.len(), 30);
    assert!(frames[0].keyframe && !frames[1].keyframe);
    let mut shown: Vec<_> = frames.iter().map(|frame| frame.pts.micros() / 1_000).collect();
    assert!(!shown.is_sorted(), "B-frames come after the picture that follows them");
    shown.sort_unstable();
    for pair in shown.windows(2) {
        assert!((66..=67).contains(&(pair[1] - pair[0])), "15 pictures a second: {pair:?}");
    }
    assert!(frames.is_sorted_by_key(|frame| frame.dts.micros()));
}

/// What a recording's tags lead to.
fn tracks_of(recording: &[u8]) -> Vec<TrackEvent> {
    let mut tracks = Tracks::default();
    for event in recorded_events(recording) {
        match event {
            Event::Metadata(metadata) => tracks.metadata(&metadata),
            Event::Video(time, body) => tracks.video(time, body).unwrap(),
            Event::Audio(time, body) => tracks.audio(time, body).unwrap(),
            _ => {}
        }
    }
    drain(&mut tracks)
}

fn codecs(events: &[TrackEvent]) -> Vec<&Codec> {
    let codecs = events.iter().filter_map(|event| match event {
        TrackEvent::Configure(codec) => Some(codec),
        _ => None,
    });
    codecs.collect()
}

fn count(frames: &[&TrackFrame], kind: MediaKind) -> usize {
    frames.iter().filter(|frame| frame.kind == kind).count()
}

#[test]
fn av1_and_opus_come_in_by_enhanced_rtmp() {
    let events = tracks_of(RECORDED_AV1);
    // The av1C and the stream's own sequence header differ in their colours.
    let codecs = codecs(&events);
    let [Codec::Av1(first), Codec::Opus(opus), Codec::Av1(second)] = &codecs[..] else {
        panic!("{codecs:?}")
    };
    assert_eq!((first.resolution, first.resolution.width), (second.resolution, 96));
    assert_eq!(opus.channels, 1);
    let frames = frames(&events);
    assert_eq!(count(&frames, MediaKind::Video), 10);
    assert_eq!(count(&frames, MediaKind::Audio), 51);
    assert!(frames.iter().find(|frame| frame.kind == MediaKind::Video).unwrap().keyframe);
}

#[test]
fn h265_with_b_frames_comes_in_by_enhanced_rtmp_and_by_the_legacy_number() {
    let events = tracks_of(RECORDED_H265);
    let codecs = codecs(&events);
    let [Codec::H265(config), Codec::Opus(_)] = &codecs[..] else { panic!("{codecs:?}") };
    assert_eq!((config.resolution.width, config.resolution.height), (96, 64));
    let frames = frames(&events);
    assert_eq!(count(&frames, MediaKind::Video), 15);
    let mut shown: Vec<_> = frames
        .iter()
        .filter(|frame| frame.kind == MediaKind::Video)
        .map(|frame| frame.pts.micros())
        .collect();
    assert!(!shown.is_sorted(), "there are B-frames");
    shown.sort_unstable();
    assert!(shown.windows(2).all(|pair| pair[1] - pair[0] == 100_000), "{shown:?}");

    let mut tracks = Tracks::default();
    for event in recorded_events(RECORDED_H265) {
        let Event::Video(time, body) = event else { continue };
        // Frame type, then packet type 0 or 1 with a composition time, as before the FourCC.
        let (packet_type, rest) = match body[0] & 0x0f {
            0 => (0, [&[0; 3], &body[5..]].concat()),
            1 => (1, body[5..].to_vec()),
            3 => (1, [&[0; 3], &body[5..]].concat()),
            _ => continue,
        };
        let head = [body[0] & 0x70 | 12, packet_type];
        tracks.video(time, [&head[..], &rest].concat().into()).unwrap();
    }
    let legacy = drain(&mut tracks);
    assert_eq!(self::frames(&legacy).len(), 15);
}

#[test]
fn vp9_is_configured_by_its_keyframes() {
    // A keyframe's header (profile 0, 96x64), then a frame that is none.
    let key = b"\x91vp09\x82\x49\x83\x42\x00\x05\xf0\x03\xf0\x00";
    let other = b"\xa3vp09\x86\x00\x00";
    let mut tracks = Tracks::default();
    assert_eq!(tracks.video(0, Bytes::from_static(other)), Err(TagError::NoHeader));
    tracks.video(0, Bytes::from_static(b"\x90vp09\x01\0\0\0\0\x0a\x80\x02\x02\x02\0\0")).unwrap();
    for (time, body) in [(0, &key[..]), (33, &other[..]), (66, &key[..])] {
        tracks.video(time, Bytes::copy_from_slice(body)).unwrap();
    }
    let events = drain(&mut tracks);
    assert!(matches!(&codecs(&events)[..], [Codec::Vp9(vp9)] if vp9.resolution.width == 96));
    let keys: Vec<_> = frames(&events).iter().map(|frame| frame.keyframe).collect();
    assert_eq!(keys, [true, false, true]);
    let broken = Bytes::from_static(b"\x91vp09\x00");
    assert!(matches!(tracks.video(99, broken), Err(TagError::Codec(_))));
}

#[test]
fn negative_composition_times_put_the_picture_before_its_decoding() {
    let mut tracks = Tracks::default();
    let tags = video_tags();
    tracks.video(0, tags[0].1.clone()).unwrap();
    let mut body = tags[1].1.to_vec();
    body[2..5].copy_from_slice(&[0xff, 0xff, 0xd8]);
    tracks.video(100, body.into()).unwrap();
    let events = drain(&mut tracks);
    let frames = frames(&events);
    assert_eq!((frames[0].dts.micros(), frames[0].pts.micros()), (100_000, 60_000));
}

#[test]
fn enhanced_tags_lead_to_the_same_frames_as_legacy_ones() {
    let (mut legacy, mut modern) = (Tracks::default(), Tracks::default());
    for (time, body) in video_tags() {
        match body[1] {
            0 => modern.video(time, enhanced(&body, 0, &[])).unwrap(),
            1 => modern.video(time, enhanced(&body, 1, &[])).unwrap(),
            _ => {}
        }
        legacy.video(time, body).unwrap();
    }
    assert_eq!(drain(&mut legacy), drain(&mut modern));
}

#[test]
fn nanoseconds_refine_a_frames_time() {
    let mut tracks = Tracks::default();
    let tags = video_tags();
    tracks.video(0, tags[0].1.clone()).unwrap();
    // ModEx of 3 bytes, 500,000 ns, then the packet type of a frame without composition time.
    let frame = enhanced(&tags[1].1, 7, &[2, 0x07, 0xa1, 0x20, 0x03]);
    tracks.video(33, frame).unwrap();
    assert_eq!(frames(&drain(&mut tracks))[0].dts.micros(), 33_500);
}

#[test]
fn a_header_that_says_nothing_new_changes_nothing() {
    let mut tracks = Tracks::default();
    let header = &video_tags()[0].1;
    let sound = &audio_tags()[0].1;
    for _ in 0..3 {
        tracks.video(0, header.clone()).unwrap();
        tracks.audio(0, sound.clone()).unwrap();
    }
    let events = drain(&mut tracks);
    assert_eq!(events.len(), 4, "two announcements, two configurations: {events:?}");
}

#[test]
fn a_codec_that_is_not_carried_is_left_out_and_the_rest_goes_on() {
    let mut tracks = Tracks::default();
    for body in [&[0x2fu8, 1, 2][..], &[0x2f, 3, 4], &[0xb2, 1]] {
        tracks.audio(0, Bytes::copy_from_slice(body)).unwrap();
    }
    for (time, body) in video_tags() {
        tracks.video(time, body).unwrap();
    }
    let events = drain(&mut tracks);
    let TrackEvent::Warn(key, text) = &events[0] else { panic!("{events:?}") };
    assert_eq!(*key, "rtmp_audio_codec");
    assert!(text.contains("MP3") && text.contains("AAC or Opus"), "{text}");
    assert_eq!(events.iter().filter(|event| matches!(event, TrackEvent::Warn(..))).count(), 1);
    assert_eq!(frames(&events).len(), 30);

    let mut tracks = Tracks::default();
    tracks.video(0, Bytes::from_static(&[0x12, 1])).unwrap();
    tracks.video(0, Bytes::from_static(b"\x90vvc1conf")).unwrap();
    let events = drain(&mut tracks);
    assert!(matches!(&events[..], [TrackEvent::Warn("rtmp_video_codec", text)]
        if text.contains("Sorenson")));
}

#[test]
fn a_header_of_an_unsupported_kind_leaves_its_track_out() {
    let mut tracks = Tracks::default();
    // AAC Main at 44.1 kHz.
    tracks.audio(0, Bytes::from_static(&[0xaf, 0, 0x0a, 0x10])).unwrap();
    tracks.audio(0, audio_tags()[1].1.clone()).unwrap();
    let events = drain(&mut tracks);
    assert!(matches!(&events[..], [TrackEvent::Warn("rtmp_audio_header", text)]
        if text.contains("AAC-LC")));
    tracks.audio(0, audio_tags()[0].1.clone()).unwrap();
    tracks.audio(0, audio_tags()[1].1.clone()).unwrap();
    assert_eq!(frames(&drain(&mut tracks)).len(), 1, "a good header brings it back");
}

#[test]
fn further_tracks_and_ts_headers_are_warned_about() {
    let mut tracks = Tracks::default();
    tracks.video(0, Bytes::from_static(b"\x96\x01hvc1\x01data")).unwrap();
    tracks.video(0, Bytes::from_static(b"\x95av01descriptor")).unwrap();
    tracks.audio(0, Bytes::from_static(b"\x95\x01Opus\x01data")).unwrap();
    let events = drain(&mut tracks);
    let keys: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            TrackEvent::Warn(key, _) => Some(*key),
            _ => None,
        })
        .collect();
    assert_eq!(keys, ["rtmp_video_tracks", "rtmp_video_ts_header", "rtmp_audio_tracks"]);
}

#[test]
fn frames_without_their_codecs_header_are_refused() {
    let mut tracks = Tracks::default();
    let frame = &video_tags()[1].1;
    assert_eq!(tracks.video(0, frame.clone()), Err(TagError::NoHeader));
    assert_eq!(tracks.audio(0, audio_tags()[1].1.clone()), Err(TagError::NoHeader));
    let opus = Bytes::from_static(b"\x91Opusdata");
    tracks.audio(0, audio_tags()[0].1.clone()).unwrap();
    assert_eq!(tracks.audio(0, opus), Err(TagError::NoHeader), "AAC's header is not Opus's");
    assert!(frames(&drain(&mut tracks)).is_empty());
}

#[test]
fn headers_and_access_units_that_cannot_be_used_are_refused() {
    let mut tracks = Tracks::default();
    for body in [
        &b"\x17\0\0\0\0"[..],
        b"\x17\0\0\0\0\x01\x64",
        b"\x1c\0\0\0\0\x01",
        b"\x90av01",
        b"\x90hvc1\x01\x02",
    ] {
        let refused = tracks.video(0, Bytes::copy_from_slice(body));
        assert!(matches!(refused, Err(TagError::Codec(_))), "{body:?}: {refused:?}");
    }
    for body in [&b"\xaf\0"[..], b"\xaf\0\0", b"\x90Opus", b"\x90OpusHead"] {
        let refused = tracks.audio(0, Bytes::copy_from_slice(body));
        assert!(matches!(refused, Err(TagError::Codec(_))), "{body:?}: {refused:?}");
    }
    tracks.video(0, video_tags()[0].1.clone()).unwrap();
    let cut = Bytes::from_static(b"\x17\x01\0\0\0\0\0\0\xffshort");
    assert!(matches!(tracks.video(0, cut), Err(TagError::Codec(_))));
}
