use super::*;
use crate::codec::nal;
use crate::codec::testing::{hex, torture};

// x264, High, 640x360 at 30/1, B-frames.
const HIGH_SPS: &str = "6764001eacd940a02ff970110000030001000003003c0f162d96";
const HIGH_PPS: &str = "68ebe3cb22c0";
// x264, Constrained Baseline, 640x360 at 30/1.
const BASE_SPS: &str = "6742c01ed900a02ff970110000030001000003003c8f162e48";
const BASE_PPS: &str = "68cb83cb20";
// x264, High, 1920x1080 (cropped from 1088) at 30000/1001, scaling matrices.
const FULL_HD_SPS: &str = "67640028acd940780227e5c04400000fa40003a9803c60c658";
const HIGH_AVCC: &str = "0164001effe1001a6764001eacd940a02ff970110000030001000003003c0f162d96\
                         01000668ebe3cb22c0fdf8f800";
const IDR: &str = "658884009fd9674d6278";
const P: &str = "419a236c49ffbaf6b35a";
const RECOVERY_SEI: &str = "060601c480";
const OPEN_GOP_I: &str = "4188cbc12831";

fn annex_b(units: &[&str]) -> Vec<u8> {
    units.iter().flat_map(|unit| [vec![0, 0, 0, 1], hex(unit)].concat()).collect()
}

fn payload(units: &[&str]) -> Bytes {
    nal::annex_b_to_length_prefixed(&annex_b(units)).unwrap()
}

#[test]
fn parameter_sets_of_real_encoders_are_read() {
    let high = Sps::parse(&hex(HIGH_SPS)).unwrap();
    assert_eq!((high.profile, high.constraints, high.level, high.id), (100, 0, 30, 0));
    assert_eq!(high.resolution, Resolution { width: 640, height: 360 });
    assert_eq!(high.frame_rate, Some(FrameRate { num: 30, den: 1 }));
    assert_eq!(high.reorder_frames, 2);
    let base = Sps::parse(&hex(BASE_SPS)).unwrap();
    assert_eq!((base.profile, base.constraints, base.reorder_frames), (66, 0xc0, 0));
    let full_hd = Sps::parse(&hex(FULL_HD_SPS)).unwrap();
    assert_eq!(full_hd.resolution, Resolution { width: 1920, height: 1080 });
    assert_eq!(full_hd.frame_rate, Some(FrameRate { num: 30_000, den: 1_001 }));
}

#[test]
fn an_avcc_is_read_and_written_back_byte_for_byte() {
    let (config, length_size) = H264Config::from_avcc(&hex(HIGH_AVCC)).unwrap();
    assert_eq!(length_size, 4);
    assert_eq!(config.to_avcc(), hex(HIGH_AVCC));
    assert_eq!(config.codecs_string(), "avc1.64001e");
    let sets = (vec![hex(HIGH_SPS).into()], vec![hex(HIGH_PPS).into()]);
    assert_eq!(H264Config::from_parameter_sets(sets.0, sets.1).unwrap(), config);
}

#[test]
fn without_reorder_information_the_level_bounds_it() {
    // Main profile, level 3.0, 16x16, no VUI.
    let sps = |order_type: &str| {
        let bits = format!("0100110100000000000111101{}{}{}", "1", order_type, "1011010");
        let bits = format!("01100111{bits}010000");
        let mut out = Vec::new();
        for chunk in bits.as_bytes().chunks(8) {
            let text = format!("{:0<8}", std::str::from_utf8(chunk).unwrap());
            out.push(u8::from_str_radix(&text, 2).unwrap());
        }
        out
    };
    // Type 0 (with its field) lets frames be reordered; type 2 forbids it.
    assert_eq!(Sps::parse(&sps("11")).map(|sps| sps.reorder_frames), Ok(16));
    assert_eq!(Sps::parse(&sps("011")).map(|sps| sps.reorder_frames), Ok(0));
}

#[test]
fn in_band_sets_become_the_configuration_and_leave_the_payload() {
    let mut track = AccessUnits::new();
    let unit = track.annex_b(&annex_b(&["0910", HIGH_SPS, HIGH_PPS, IDR, "0cff80"])).unwrap();
    assert!(unit.keyframe);
    assert_eq!(unit.payload, payload(&[IDR]));
    assert_eq!(unit.config_changed.unwrap().to_avcc(), hex(HIGH_AVCC));
    let unit = track.annex_b(&annex_b(&[P])).unwrap();
    assert_eq!((unit.keyframe, unit.config_changed), (false, None));
    assert_eq!(unit.payload, payload(&[P]));
    let again = track.annex_b(&annex_b(&[HIGH_SPS, HIGH_PPS, IDR])).unwrap();
    assert_eq!((again.keyframe, again.config_changed), (true, None));
}

#[test]
fn changed_sets_wait_in_the_payload_for_the_next_keyframe() {
    let mut track = AccessUnits::new();
    track.annex_b(&annex_b(&[HIGH_SPS, HIGH_PPS, IDR])).unwrap();
    let unit = track.annex_b(&annex_b(&[BASE_PPS, P])).unwrap();
    assert_eq!(unit.config_changed, None);
    assert_eq!(unit.payload, payload(&[BASE_PPS, P]));
    let unit = track.annex_b(&annex_b(&[BASE_SPS, IDR])).unwrap();
    assert_eq!(unit.config_changed.unwrap().profile, 66);
    assert_eq!(unit.payload, payload(&[IDR]));
}

#[test]
fn an_idr_picture_without_its_sets_is_no_keyframe() {
    let mut track = AccessUnits::new();
    assert!(!track.annex_b(&annex_b(&[IDR])).unwrap().keyframe);
    assert!(!track.annex_b(&annex_b(&[HIGH_PPS, IDR])).unwrap().keyframe);
    assert!(track.annex_b(&annex_b(&[HIGH_SPS, IDR])).unwrap().keyframe);
}

#[test]
fn an_out_of_band_configuration_is_shared_and_not_reported_again() {
    let mut track = AccessUnits::new();
    track.set_config(H264Config::from_avcc(&hex(HIGH_AVCC)).unwrap().0).unwrap();
    let data = payload(&["0910", RECOVERY_SEI, IDR]);
    let unit = track.length_prefixed(&data, 4).unwrap();
    assert_eq!((unit.keyframe, unit.config_changed), (true, None));
    assert_eq!(unit.payload, payload(&[RECOVERY_SEI, IDR]));
    assert_eq!(unit.payload.as_ptr(), data[6..].as_ptr());
    let short = Bytes::from([vec![0, 10], hex(IDR)].concat());
    assert_eq!(track.length_prefixed(&short, 2).unwrap().payload, payload(&[IDR]));
}

#[test]
fn an_open_gop_is_entered_at_its_recovery_point_only() {
    let mut track = AccessUnits::new();
    let sets = annex_b(&[FULL_HD_SPS, "68ce0fc40c"]);
    let unit = [sets, annex_b(&[RECOVERY_SEI, OPEN_GOP_I])].concat();
    assert!(track.annex_b(&unit).unwrap().keyframe);
    assert!(!track.annex_b(&annex_b(&[OPEN_GOP_I])).unwrap().keyframe);
    assert!(!track.annex_b(&annex_b(&[RECOVERY_SEI, P])).unwrap().keyframe);
    // recovery_frame_cnt 1: intra refresh.
    assert!(!track.annex_b(&annex_b(&["0606015080", OPEN_GOP_I])).unwrap().keyframe);
    assert_eq!(is_keyframe(&payload(&[RECOVERY_SEI, OPEN_GOP_I])), Ok(true));
}

#[test]
fn an_access_unit_without_a_picture_has_no_payload() {
    let mut track = AccessUnits::new();
    for data in [annex_b(&[HIGH_SPS, HIGH_PPS]), annex_b(&["0910"]), vec![1, 2], vec![]] {
        assert!(track.annex_b(&data).unwrap().payload.is_empty());
    }
    // The sets are remembered all the same.
    assert!(track.annex_b(&annex_b(&[IDR])).unwrap().keyframe);
}

#[test]
fn absurd_parameter_sets_are_errors() {
    let huge_code = [vec![0x67, 66, 0, 30, 0x80], vec![0; 64]].concat();
    for (name, set) in [
        ("empty", vec![]),
        ("another unit", hex(HIGH_PPS)),
        ("too long", [hex(HIGH_SPS), vec![1; nal::PARAMETER_SET_BYTES_MAX]].concat()),
        ("huge code", huge_code),
        ("SPS id 32", hex("6742001e042100")),
    ] {
        assert!(Sps::parse(&set).is_err(), "{name}");
    }
    let none = H264Config::from_parameter_sets(vec![hex(HIGH_SPS).into()], vec![]);
    assert_eq!(none, Err(CodecError::Truncated("set of H.264 parameter sets")));
    for (name, record) in [
        ("version 2", "0264001effe0"),
        ("length size 3", "0164001efee000"),
        ("no sets", "0164001effe000"),
        ("PPS among the SPS", "0164001effe1000668ebe3cb22c000"),
    ] {
        assert!(H264Config::from_avcc(&hex(record)).is_err(), "{name}");
    }
}

#[test]
fn hostile_bytes_never_panic() {
    for sps in [HIGH_SPS, BASE_SPS, FULL_HD_SPS] {
        torture(&hex(sps), |data| drop(Sps::parse(data)));
    }
    torture(&hex(HIGH_AVCC), |data| {
        if let Ok((config, _)) = H264Config::from_avcc(data) {
            let written = H264Config::from_avcc(&config.to_avcc()).unwrap().0;
            assert_eq!(written, config);
        }
    });
    let unit = annex_b(&[HIGH_SPS, HIGH_PPS, RECOVERY_SEI, OPEN_GOP_I]);
    let mut track = AccessUnits::new();
    torture(&unit, |data| drop(track.annex_b(data)));
    let prefixed = payload(&[HIGH_SPS, HIGH_PPS, RECOVERY_SEI, IDR]);
    let mut track = AccessUnits::new();
    torture(&prefixed, |data| drop(track.length_prefixed(&Bytes::copy_from_slice(data), 4)));
}
