//! H.264 access units in both forms, and the configuration record.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use bytes::Bytes;
use headwater_media::codec::h264::{AccessUnits, H264Config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut units = AccessUnits::new();
    drop(units.annex_b(data));
    drop(units.length_prefixed(&Bytes::copy_from_slice(data), 4));
    if let Ok((config, _)) = H264Config::from_avcc(data) {
        assert_eq!(H264Config::from_avcc(&config.to_avcc()), Ok((config, 4)));
    }
});
