//! H.265 access units in both forms, and the configuration record.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use bytes::Bytes;
use headwater_media::codec::h265::{AccessUnits, H265Config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut units = AccessUnits::new();
    drop(units.annex_b(data));
    drop(units.length_prefixed(&Bytes::copy_from_slice(data), 4));
    if let Ok((config, _)) = H265Config::from_hvcc(data) {
        drop(config.codecs_string());
        assert_eq!(H265Config::from_hvcc(&config.to_hvcc()), Ok((config, 4)));
    }
});
