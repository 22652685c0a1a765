use super::*;
use crate::codec::nal;
use crate::codec::testing::{hex, torture};

// x265, Main, 642x362 (cropped) at 25/1.
const VPS: &str = "40010c01ffff01600000030090000003000003003f959409";
const SPS: &str = "42010101600000030090000003000003003fa005220171c449965654a4c2f0168080000003008000\
                   000c84";
const PPS: &str = "4401c073c189";
// x265, Main 10, 640x360.
const TEN_VPS: &str = "40010c01ffff02200000030090000003000003003f959409";
const TEN_SPS: &str = "42010102200000030090000003000003003fa005020171f2b6595952930bc05a020000030002\
                       000003003210";
const IDR: &str = "2801ac7460bac8c8dbfb";
// The same slice under the type of a CRA picture.
const CRA: &str = "2a01ac7460bac8c8dbfb";
const TRAIL: &str = "0201d02149883a3053c6";

fn annex_b(units: &[&str]) -> Vec<u8> {
    units.iter().flat_map(|unit| [vec![0, 0, 0, 1], hex(unit)].concat()).collect()
}

fn payload(units: &[&str]) -> Bytes {
    nal::annex_b_to_length_prefixed(&annex_b(units)).unwrap()
}

fn config(vps: &str, sps: &str) -> Result<H265Config, CodecError> {
    let set = |digits: &str| vec![Bytes::from(hex(digits))];
    H265Config::from_parameter_sets(set(vps), set(sps), set(PPS))
}

#[test]
fn parameter_sets_of_a_real_encoder_are_read() {
    let main = config(VPS, SPS).unwrap();
    assert_eq!(main.resolution, Resolution { width: 642, height: 362 });
    assert_eq!(main.frame_rate, Some(FrameRate { num: 25, den: 1 }));
    assert_eq!((main.chroma_format, main.bit_depth_luma), (1, 8));
    assert_eq!(main.codecs_string(), "hvc1.1.6.L63.90");
    let ten = config(TEN_VPS, TEN_SPS).unwrap();
    assert_eq!(ten.resolution, Resolution { width: 640, height: 360 });
    assert_eq!((ten.bit_depth_luma, ten.bit_depth_chroma), (10, 10));
    assert_eq!(ten.codecs_string(), "hvc1.2.4.L63.90");
}

#[test]
fn an_hvcc_is_written_and_read_back() {
    let config = config(VPS, SPS).unwrap();
    let record = config.to_hvcc();
    // As ffmpeg writes it, up to the parallelism (unknown here) and the number of arrays.
    assert_eq!(record[..21], hex("0101600000009000000000003ff000fcfdf8f80000"));
    assert_eq!(record[21..24], hex("0f03a0"));
    assert_eq!(H265Config::from_hvcc(&record), Ok((config, 4)));
}

#[test]
fn in_band_sets_become_the_configuration_and_leave_the_payload() {
    let mut track = AccessUnits::new();
    assert!(!track.annex_b(&annex_b(&[IDR])).unwrap().keyframe);
    let unit = track.annex_b(&annex_b(&["460150", VPS, SPS, PPS, IDR])).unwrap();
    assert!(unit.keyframe);
    assert_eq!(unit.payload, payload(&[IDR]));
    assert_eq!(unit.config_changed, config(VPS, SPS).ok());
    let unit = track.annex_b(&annex_b(&[TRAIL])).unwrap();
    assert_eq!((unit.keyframe, unit.config_changed), (false, None));
    let unit = track.annex_b(&annex_b(&[VPS, SPS, PPS, CRA])).unwrap();
    assert_eq!((unit.keyframe, unit.config_changed), (true, None));
    let unit = track.annex_b(&annex_b(&[TEN_VPS, TEN_SPS, PPS, TRAIL])).unwrap();
    assert_eq!(unit.payload, payload(&[TEN_VPS, TEN_SPS, TRAIL]));
    assert_eq!(unit.config_changed, None);
    let unit = track.annex_b(&annex_b(&[IDR])).unwrap();
    assert_eq!(unit.config_changed.unwrap().bit_depth_luma, 10);
}

#[test]
fn an_out_of_band_configuration_is_not_reported_again() {
    let mut track = AccessUnits::new();
    track.set_config(config(VPS, SPS).unwrap()).unwrap();
    let data = payload(&[IDR]);
    let unit = track.length_prefixed(&data, 4).unwrap();
    assert_eq!((unit.keyframe, unit.config_changed), (true, None));
    assert_eq!(unit.payload.as_ptr(), data.as_ptr());
    assert_eq!(is_keyframe(&data), Ok(true));
    assert_eq!(is_keyframe(&payload(&[TRAIL])), Ok(false));
}

#[test]
fn absurd_parameter_sets_are_errors() {
    let huge_code = [hex(SPS)[..17].to_vec(), vec![0; 64]].concat();
    for set in [vec![], hex(PPS), huge_code, vec![0x42; nal::PARAMETER_SET_BYTES_MAX + 1]] {
        assert!(Sps::parse(&set).is_err(), "{set:?}");
    }
    for (name, record) in [("empty", String::new()), ("version 2", "02".repeat(23))] {
        assert!(H265Config::from_hvcc(&hex(&record)).is_err(), "{name}");
    }
}

#[test]
fn hostile_bytes_never_panic() {
    for sps in [SPS, TEN_SPS] {
        torture(&hex(sps), |data| drop(Sps::parse(data)));
    }
    torture(&config(VPS, SPS).unwrap().to_hvcc(), |data| {
        if let Ok((config, _)) = H265Config::from_hvcc(data) {
            assert_eq!(H265Config::from_hvcc(&config.to_hvcc()), Ok((config, 4)));
        }
    });
    let mut track = AccessUnits::new();
    torture(&annex_b(&[VPS, SPS, PPS, IDR]), |data| drop(track.annex_b(data)));
}
