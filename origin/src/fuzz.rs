//! Entry points for fuzzing: what of this crate parses strangers' bytes behind private doors.
//!
//! Not here: parsers that are public anyway. Not part of the interface.

use bytes::BytesMut;

use crate::http::hls::fuzz_target;
use crate::ingest::rtmp::session::{Event, Session, SessionLimits};
use crate::ingest::rtmp::tracks::Tracks;

const LIMITS: SessionLimits =
    SessionLimits { message_bytes: 64 << 10, buffered_bytes: 96 << 10, chunk_streams: 16 };
/// C0, C1 and C2, which have no structure worth guessing.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1_536;

/// A path below `/hls/` and its query.
pub fn hls_request(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    fuzz_target(path, query);
}

/// What an HTTP client sends.
pub fn http_head(bytes: &[u8]) {
    crate::http::fuzz_target(bytes);
}

/// What an RTMP client sends after its handshake, with the tags it publishes.
pub fn rtmp_session(bytes: &[u8]) {
    let (mut session, mut tracks) = (Session::new(LIMITS, 1), Tracks::default());
    let mut input = BytesMut::zeroed(HANDSHAKE_BYTES);
    if let Some(version) = input.first_mut() {
        *version = 3;
    }
    input.extend_from_slice(bytes);
    session.received(input.len());
    while let Ok(Some(event)) = session.handle(&mut input) {
        let parsed = match event {
            Event::Publish(_) => {
                session.accept();
                Ok(())
            }
            Event::Metadata(metadata) => {
                tracks.metadata(&metadata);
                Ok(())
            }
            Event::Video(time, body) => tracks.video(time, body),
            Event::Audio(time, body) => tracks.audio(time, body),
            Event::Unpublished => Ok(()),
            Event::Close(_) => return,
        };
        // A tag that cannot be read is left out; the session goes on.
        drop(parsed);
        while tracks.poll().is_some() {}
        assert!(session.take_output().len() < 64 << 10, "answers grow without bound");
    }
}
