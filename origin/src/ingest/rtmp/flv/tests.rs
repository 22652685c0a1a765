use super::*;

fn video(body: &[u8]) -> Result<Parsed<VideoTag>, FlvError> {
    parse_video(Bytes::copy_from_slice(body))
}

fn audio(body: &[u8]) -> Result<Parsed<AudioTag>, FlvError> {
    parse_audio(Bytes::copy_from_slice(body))
}

fn frame(codec: VideoCodec, keyframe: bool, composition: i32, nanos: u32) -> VideoTag {
    VideoTag::Frame { codec, keyframe, composition, nanos, data: Bytes::from_static(b"data") }
}

fn video_of(parts: &[&[u8]]) -> VideoTag {
    let parsed = video(&parts.concat()).unwrap();
    assert!(!parsed.other_tracks);
    parsed.tag.unwrap()
}

fn audio_of(parts: &[&[u8]]) -> AudioTag {
    audio(&parts.concat()).unwrap().tag.unwrap()
}

#[test]
fn legacy_video_tags_are_read() {
    let record = Bytes::from_static(b"avcC");
    assert_eq!(
        video_of(&[&[0x17, 0, 0, 0, 0], b"avcC"]),
        VideoTag::Header(VideoCodec::Avc, record.clone())
    );
    assert_eq!(
        video_of(&[&[0x1c, 0, 0, 0, 0], b"avcC"]),
        VideoTag::Header(VideoCodec::Hevc, record)
    );
    assert_eq!(video_of(&[&[0x17, 1, 0, 0, 80], b"data"]), frame(VideoCodec::Avc, true, 80, 0));
    assert_eq!(
        video_of(&[&[0x27, 1, 0xff, 0xff, 0xd8], b"data"]),
        frame(VideoCodec::Avc, false, -40, 0)
    );
    assert_eq!(video_of(&[&[0x27, 2, 0, 0, 0]]), VideoTag::End);
    assert_eq!(video_of(&[&[0x12], b"data"]), frame(VideoCodec::Legacy(2), true, 0, 0));
    for ignored in [&[0x57, 0][..], &[0x17, 1, 0, 0, 0]] {
        assert_eq!(video(ignored), Ok(Parsed::nothing()), "{ignored:?}");
    }
}

#[test]
fn enhanced_video_tags_are_read() {
    let config = Bytes::from_static(b"conf");
    for (four_cc, codec) in [
        (b"avc1", VideoCodec::Avc),
        (b"hvc1", VideoCodec::Hevc),
        (b"av01", VideoCodec::Av1),
        (b"vp09", VideoCodec::Vp9),
        (b"vvc1", VideoCodec::FourCc(*b"vvc1")),
    ] {
        let header = VideoTag::Header(codec, config.clone());
        assert_eq!(video_of(&[&[0x90], four_cc, b"conf"]), header);
        assert_eq!(video_of(&[&[0xa3], four_cc, b"data"]), frame(codec, false, 0, 0));
        assert_eq!(video_of(&[&[0x92], four_cc]), VideoTag::End);
        assert_eq!(video(&[&[0x94][..], four_cc, b"amf"].concat()), Ok(Parsed::nothing()));
    }
    let composed = video_of(&[&[0x91], b"hvc1", &[0, 0, 33], b"data"]);
    assert_eq!(composed, frame(VideoCodec::Hevc, true, 33, 0));
    assert_eq!(video_of(&[&[0x91], b"av01", b"data"]), frame(VideoCodec::Av1, true, 0, 0));
    assert_eq!(video_of(&[&[0x95], b"av01", b"descriptor"]), VideoTag::TsHeader(VideoCodec::Av1));
    assert_eq!(video(&[0xd0, 0]), Ok(Parsed::nothing()), "a seek command");
}

#[test]
fn enhanced_audio_tags_are_read() {
    let config = Bytes::from_static(b"conf");
    let data = Bytes::from_static(b"data");
    for (four_cc, codec) in [
        (b"Opus", AudioCodec::Opus),
        (b"mp4a", AudioCodec::Aac),
        (b"fLaC", AudioCodec::FourCc(*b"fLaC")),
    ] {
        assert_eq!(audio_of(&[&[0x90], four_cc, b"conf"]), AudioTag::Header(codec, config.clone()));
        assert_eq!(
            audio_of(&[&[0x91], four_cc, b"data"]),
            AudioTag::Frame { codec, nanos: 0, data: data.clone() }
        );
        assert_eq!(audio_of(&[&[0x92], four_cc]), AudioTag::End);
        let channels = audio(&[&[0x94][..], four_cc, &[1, 2]].concat());
        assert_eq!(channels, Ok(Parsed::nothing()));
    }
    assert_eq!(audio_of(&[&[0xaf, 0], b"conf"]), AudioTag::Header(AudioCodec::Aac, config));
    assert_eq!(
        audio_of(&[&[0x2f], b"data"]),
        AudioTag::Frame { codec: AudioCodec::Legacy(2), nanos: 0, data }
    );
}

#[test]
fn a_nanosecond_offset_refines_the_time_stamp() {
    let offset = [0x97, 2, 0x07, 0xa1, 0x20, 0x01];
    assert_eq!(video_of(&[&offset, b"av01", b"data"]), frame(VideoCodec::Av1, true, 0, 500_000));
    let AudioTag::Frame { nanos, .. } = audio_of(&[&offset, b"Opus", b"data"]) else {
        panic!("no frame")
    };
    assert_eq!(nanos, 500_000);
    // A modifier of an unknown kind with a long body is passed over.
    let mut long = vec![0x97, 255, 1, 0];
    long.extend([0; 257]);
    long.push(0x13);
    assert_eq!(video_of(&[&long, b"vp09", b"data"]), frame(VideoCodec::Vp9, true, 0, 0));
    let absurd = [0x97, 2, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(video_of(&[&absurd, b"av01", b"data"]), frame(VideoCodec::Av1, true, 0, 999_999));
}

#[test]
fn of_several_tracks_the_first_is_taken() {
    let one = video(b"\x96\x01hvc1\x00\x00\x00\x05data").unwrap();
    assert_eq!(one.tag, Some(frame(VideoCodec::Hevc, true, 5, 0)));
    assert!(!one.other_tracks);
    let other = video(b"\x96\x03hvc1\x01data").unwrap();
    assert_eq!((other.tag, other.other_tracks), (None, true));
    let many = video(b"\x96\x13av01\x01\0\0\x03abc\x00\0\0\x04data").unwrap();
    assert_eq!(many.tag, Some(frame(VideoCodec::Av1, true, 0, 0)));
    assert!(many.other_tracks);
    let codecs = audio(b"\x95\x21Opus\x00\0\0\x04datamp4a\x01\0\0\x01x").unwrap();
    let data = Bytes::from_static(b"data");
    assert_eq!(codecs.tag, Some(AudioTag::Frame { codec: AudioCodec::Opus, nanos: 0, data }));
    assert!(codecs.other_tracks);
}

#[test]
fn bad_tags_end_in_clear_errors() {
    let modifiers = [&[0x97][..], &[0, 0, 0x07].repeat(MODIFIERS_MAX + 1)].concat();
    for (case, body, expected) in [
        ("nothing", &b""[..], FlvError::Truncated),
        ("no packet type", b"\x17", FlvError::Truncated),
        ("no composition time", b"\x17\x01\0\0", FlvError::Truncated),
        ("unknown AVC packet", b"\x17\x09\0\0\0", FlvError::PacketType(9)),
        ("no FourCC", b"\x90hv", FlvError::Truncated),
        ("no enhanced composition time", b"\x91hvc1\0\0", FlvError::Truncated),
        ("unknown enhanced packet", b"\x9ahvc1", FlvError::PacketType(10)),
        ("a modifier longer than the tag", b"\x97\xff\xff\xff\0", FlvError::Truncated),
        ("modifiers without end", &modifiers, FlvError::TooManyModifiers),
        ("tracks in tracks", b"\x96\x16hvc1\0", FlvError::Multitrack(6)),
        ("an unknown multitrack", b"\x96\x31hvc1\0", FlvError::Multitrack(3)),
        ("a track longer than the tag", b"\x96\x11hvc1\x00\xff\xff\xffx", FlvError::Truncated),
    ] {
        assert_eq!(video(body), Err(expected), "{case}");
    }
    for (case, body, expected) in [
        ("nothing", &b""[..], FlvError::Truncated),
        ("no packet type", b"\xaf", FlvError::Truncated),
        ("unknown AAC packet", b"\xaf\x02", FlvError::PacketType(2)),
        ("no FourCC", b"\x91Op", FlvError::Truncated),
        ("unknown enhanced packet", b"\x93Opus", FlvError::PacketType(3)),
    ] {
        assert_eq!(audio(body), Err(expected), "{case}");
    }
}
