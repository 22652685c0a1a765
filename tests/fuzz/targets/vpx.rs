//! VP8 and VP9 frame headers.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use headwater_media::codec::vp8::Vp8Config;
use headwater_media::codec::vp9::Vp9Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(Vp8Config::from_keyframe(data));
    if let Ok(Some(config)) = Vp9Config::from_keyframe(data) {
        assert_eq!(config.to_vpcc().len(), 8);
    }
});
