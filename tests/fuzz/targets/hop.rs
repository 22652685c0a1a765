//! What another node sends on a hop: control messages, and streams of groups.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use bytes::Bytes;
use headwater_relay::wire::{GroupDecoder, decode_message};
use libfuzzer_sys::fuzz_target;

const FRAME_BYTES_MAX: usize = 64 << 10;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok((_, taken)) = decode_message(rest) {
        match rest.get(taken..) {
            Some(next) if taken > 0 => rest = next,
            _ => break,
        }
    }
    let mut decoder = GroupDecoder::new(FRAME_BYTES_MAX);
    for chunk in data.chunks(1_200) {
        decoder.feed(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.poll() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
