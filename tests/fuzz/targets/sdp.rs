//! SDP offers and trickle-ICE fragments.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    headwater_sfu::fuzz::offer(text);
    headwater_sfu::fuzz::fragment(text);
});
