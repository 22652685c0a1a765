//! Datagrams at the WebRTC port, and access units on their way out of it.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    headwater_sfu::fuzz::datagram(data);
    headwater_sfu::fuzz::access_unit(data);
});
