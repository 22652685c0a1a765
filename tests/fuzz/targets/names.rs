//! Stream names, SRT stream ids, heads of HTTP requests, HLS paths and queries, the configuration.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use headwater::config::Config;
use headwater::ingest::srt::StreamId;
use headwater_media::StreamName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(StreamId::parse(data));
    headwater::fuzz::http_head(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = StreamName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
    headwater::fuzz::hls_request(text);
    drop(Config::read(Some(("fuzz.toml", text)), &[], []));
});
