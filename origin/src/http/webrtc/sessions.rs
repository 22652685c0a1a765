//! Which WebRTC sessions there are, and under which resource.
//!
//! Not here: the node's list of all sessions (`crate::sessions`), their media (the SFU).

use std::collections::HashMap;

use headwater_media::{SessionId, StreamName};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The sessions that have a resource. Bounded by `[limits] sessions`, since each holds a handle
/// of that registry.
#[derive(Default)]
pub struct WebRtcSessions {
    open: Mutex<HashMap<SessionId, Entry>>,
}

struct Entry {
    stream: StreamName,
    protocol: &'static str,
    /// Cancelled when the session ends, or asks for another feed of events.
    feed: CancellationToken,
}

impl WebRtcSessions {
    pub(super) fn insert(&self, id: SessionId, stream: StreamName, protocol: &'static str) {
        let entry = Entry { stream, protocol, feed: CancellationToken::new() };
        self.open.lock().insert(id, entry);
    }

    pub(super) fn remove(&self, id: SessionId) {
        if let Some(entry) = self.open.lock().remove(&id) {
            entry.feed.cancel();
        }
    }

    /// Whether the session is one of this stream and protocol.
    pub(super) fn is(&self, id: SessionId, stream: &StreamName, protocol: &'static str) -> bool {
        let open = self.open.lock();
        open.get(&id).is_some_and(|entry| entry.stream == *stream && entry.protocol == protocol)
    }

    /// Begins a feed of events for the session, in the place of the one that it had: what tells
    /// it to end.
    pub(super) fn feed(&self, id: SessionId) -> Option<CancellationToken> {
        let mut open = self.open.lock();
        let entry = open.get_mut(&id)?;
        let feed = CancellationToken::new();
        std::mem::replace(&mut entry.feed, feed.clone()).cancel();
        Some(feed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_feed_of_events_which_ends_with_it() {
        let sessions = WebRtcSessions::default();
        let id = SessionId::from_random([1; 16]);
        assert!(sessions.feed(id).is_none());
        sessions.insert(id, StreamName::parse("a").unwrap(), "whep");
        let first = sessions.feed(id).unwrap();
        assert!(!first.is_cancelled());
        let second = sessions.feed(id).unwrap();
        assert!(first.is_cancelled() && !second.is_cancelled());
        sessions.remove(id);
        assert!(second.is_cancelled());
    }
}
