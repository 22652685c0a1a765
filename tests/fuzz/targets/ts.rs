//! An MPEG-TS stream, in pieces.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use headwater_media::ts::{DemuxOptions, Demuxer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut demuxer = Demuxer::new(DemuxOptions::default());
    for piece in data.chunks(1_316) {
        demuxer.push(piece);
        while demuxer.poll().is_some() {}
        assert!(demuxer.buffered() <= data.len() + 188);
    }
    demuxer.finish();
    while demuxer.poll().is_some() {}
});
