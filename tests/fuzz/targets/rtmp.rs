//! What an RTMP client sends after its handshake.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    headwater::fuzz::rtmp_session(data);
    drop(headwater::ingest::rtmp::amf0::decode_all(data));
});
