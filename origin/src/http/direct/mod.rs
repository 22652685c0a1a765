//! The direct path: plain HTTP/1.1 requests for playlists and media, which thousands of clients
//! keep waiting at a time, are read and answered here, a few hundred bytes of state a connection
//! and one system call a message.
//!
//! Not here: everything else. A connection whose bytes are not a plain request (`head::read`) goes
//! to the library behind `server` with these bytes unread, and stays there: HTTP/2, other routes,
//! bodies, upgrades, and all that is malformed.

mod alarm;
mod connection;
mod head;
mod outgoing;
mod seat;
#[cfg(test)]
mod tests;

pub(super) use connection::{Closing, Ended, Terms, Why, serve, whole};
pub use seat::Seat;

/// Bytes as a stranger sends them, for fuzzing.
pub(crate) fn fuzz_target(bytes: &[u8]) {
    let text = bytes::Bytes::copy_from_slice(bytes);
    match head::read(text, |path| path.starts_with("/hls/")) {
        head::Read::Plain { rest, .. } => assert!(rest.len() < bytes.len()),
        head::Read::More(again) | head::Read::Other(again) => assert_eq!(again, bytes),
    }
}
