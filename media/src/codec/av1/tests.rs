use super::*;
use crate::codec::testing::torture;

/// By libaom in real-time mode, 320x180, main profile.
const SEQUENCE_HEADER: [u8; 13] =
    [0x0a, 0x0b, 0x00, 0x00, 0x00, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0x00, 0x40];
const DELIMITER: [u8; 2] = [0x12, 0x00];
/// A shown key frame of four bytes, and an inter frame.
const KEY_FRAME: [u8; 6] = [0x32, 0x04, 0x10, 0x00, 0x80, 0x40];
const INTER_FRAME: [u8; 5] = [0x32, 0x03, 0x30, 0x01, 0x02];

fn unit(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn a_sequence_header_tells_profile_level_and_size() {
    let config = Av1Config::from_sequence_header(&SEQUENCE_HEADER).unwrap();
    assert_eq!(config.resolution, Resolution { width: 320, height: 180 });
    assert_eq!((config.profile, config.bit_depth, config.monochrome), (0, 8, false));
    assert_eq!((config.subsampling_x, config.subsampling_y), (true, true));
    assert_eq!(config.codecs_string(), "av01.0.00M.08");
}

#[test]
fn a_configuration_record_reads_back() {
    let config = Av1Config::from_sequence_header(&SEQUENCE_HEADER).unwrap();
    let record = config.to_av1c();
    assert_eq!(record[..4], [0x81, 0x00, 0x0c, 0x00]);
    assert_eq!(Av1Config::from_av1c(&record), Ok(config));
    assert!(Av1Config::from_av1c(&record[..4]).is_err(), "no sequence header");
    assert!(Av1Config::from_av1c(&[0x01, 0, 0, 0]).is_err(), "version");
}

#[test]
fn delimiters_go_and_missing_size_fields_come() {
    let mut units = TemporalUnits::new();
    let open_ended = [&[0x30], &KEY_FRAME[2..]].concat();
    let taken = units.take(&unit(&[&DELIMITER, &SEQUENCE_HEADER, &open_ended])).unwrap();
    assert!(taken.keyframe);
    assert_eq!(taken.payload, unit(&[&SEQUENCE_HEADER, &KEY_FRAME]));
    assert!(taken.config_changed.is_some());
    assert_eq!(is_keyframe(&taken.payload), Ok(true));
}

#[test]
fn the_configuration_is_reported_once_and_stands_in_front_of_every_keyframe() {
    let mut units = TemporalUnits::new();
    assert!(!units.take(&KEY_FRAME).unwrap().keyframe, "no sequence header is known");
    units.take(&unit(&[&SEQUENCE_HEADER, &KEY_FRAME])).unwrap();
    let inter = units.take(&INTER_FRAME).unwrap();
    assert!(!inter.keyframe && inter.config_changed.is_none());
    assert_eq!(inter.payload, INTER_FRAME.as_slice());
    let bare = units.take(&unit(&[&DELIMITER, &KEY_FRAME])).unwrap();
    assert!(bare.keyframe && bare.config_changed.is_none());
    assert_eq!(bare.payload, unit(&[&SEQUENCE_HEADER, &KEY_FRAME]));
}

#[test]
fn a_unit_without_a_picture_has_no_payload() {
    let mut units = TemporalUnits::new();
    let taken = units.take(&unit(&[&DELIMITER, &SEQUENCE_HEADER])).unwrap();
    assert!(taken.payload.is_empty() && !taken.keyframe);
}

#[test]
fn broken_units_are_errors() {
    for (what, bytes) in [
        ("forbidden bit", vec![0x92, 0x00]),
        ("size beyond the end", vec![0x32, 0x7f, 0x10]),
        ("size without end", [vec![0x32], vec![0xff; 9]].concat()),
        ("size beyond 32 bits", vec![0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("extension cut off", vec![0x36]),
        ("too many", [0x12, 0x00].repeat(2_000)),
        ("reserved profile", vec![0x0a, 0x01, 0xe0]),
    ] {
        assert!(TemporalUnits::new().take(&bytes).is_err(), "{what}");
    }
    assert!(Av1Config::from_sequence_header(&KEY_FRAME).is_err(), "another type");
    let long = [vec![0x0a, 0x80, 0x10], vec![0; 2_048]].concat();
    assert!(Av1Config::from_sequence_header(&long).is_err(), "a header of two kilobytes");
    let whole = unit(&[&DELIMITER, &SEQUENCE_HEADER, &KEY_FRAME]);
    torture(&whole, |data| drop(TemporalUnits::new().take(data)));
    let record = Av1Config::from_sequence_header(&SEQUENCE_HEADER).unwrap().to_av1c();
    torture(&record, |data| drop(Av1Config::from_av1c(data)));
}
