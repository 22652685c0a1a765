//! AudioSpecificConfig, ADTS, OpusHead, Opus packets.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use headwater_media::codec::aac::AacConfig;
use headwater_media::codec::aac::adts::AdtsFrames;
use headwater_media::codec::opus::{OpusConfig, packet_duration_samples};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = AacConfig::from_asc(data) {
        drop(config.codecs_string());
    }
    let frames = AdtsFrames::new(data).filter(Result::is_ok).count();
    assert!(frames <= data.len());
    if let Ok(config) = OpusConfig::from_opus_head(data) {
        drop(config.to_opus_head());
    }
    if let Ok(samples) = packet_duration_samples(data) {
        assert!(samples <= 5_760, "at most 120 ms");
    }
});
