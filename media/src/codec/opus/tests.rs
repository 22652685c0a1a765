use super::*;
use crate::codec::testing::{hex, torture};

// libopus by ffmpeg.
const HEAD: &str = "4f70757348656164 01 02 3801 80bb0000 0000 00";

#[test]
fn the_identification_header_is_read_and_written_back() {
    let config = OpusConfig::from_opus_head(&hex(HEAD)).unwrap();
    assert_eq!(config, OpusConfig { channels: 2, pre_skip: 312, input_sample_rate: 48_000 });
    assert_eq!(config.to_opus_head(), hex(HEAD));
    assert_eq!(config.to_dops(), hex("00 02 0138 0000bb80 0000 00"));
}

#[test]
fn malformed_identification_headers_are_errors() {
    for (head, error) in [
        ("", CodecError::Truncated("OpusHead")),
        ("4f70757348656164 0102", CodecError::Truncated("OpusHead")),
        ("4f70757348656165 01", CodecError::Unsupported("an Opus header without its magic")),
        (
            "4f70757348656164 10 02 3801 80bb0000 0000 00",
            CodecError::Invalid { what: "OpusHead version", value: 16 },
        ),
        (
            "4f70757348656164 01 00 3801 80bb0000 0000 00",
            CodecError::Invalid { what: "channels of Opus", value: 0 },
        ),
        (
            "4f70757348656164 01 06 3801 80bb0000 0000 01",
            CodecError::Unsupported("an Opus mapping family other than 0"),
        ),
    ] {
        assert_eq!(OpusConfig::from_opus_head(&hex(head)), Err(error), "{head}");
    }
}

#[test]
fn packets_tell_their_duration() {
    for (packet, samples) in [
        (&[0xfc, 0xff][..], Ok(960)), // CELT, 20 ms
        (&[0x80], Ok(120)),           // CELT, 2.5 ms
        (&[0x18], Ok(2_880)),         // SILK, 60 ms
        (&[0x61], Ok(960)),           // hybrid, twice 10 ms
        (&[0xff, 6], Ok(5_760)),      // six of 20 ms
        (&[0xff, 0x83], Ok(2_880)),   // flags above the count
        (&[], Err(CodecError::Truncated("Opus packet"))),
        (&[0xff], Err(CodecError::Truncated("Opus packet"))),
        (&[0xff, 0], Err(CodecError::Invalid { what: "duration of an Opus packet", value: 0 })),
        (&[0xff, 7], Err(CodecError::Invalid { what: "duration of an Opus packet", value: 6_720 })),
    ] {
        assert_eq!(packet_duration_samples(packet), samples, "{packet:?}");
    }
}

#[test]
fn hostile_bytes_never_panic() {
    torture(&hex(HEAD), |data| drop(OpusConfig::from_opus_head(data)));
    torture(&[0xff, 6, 1, 2], |data| drop(packet_duration_samples(data)));
}
