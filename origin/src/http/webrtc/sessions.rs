//! Which WebRTC sessions there are, and under which resource.
//!
//! Not here: the node's list of all sessions (`crate::sessions`), their media (the SFU).

use std::collections::HashMap;

use headwater_media::{SessionId, StreamName};
use parking_lot::Mutex;

/// The sessions that have a resource. Bounded by `[limits] sessions`, since each holds a handle
/// of that registry.
#[derive(Default)]
pub struct WebRtcSessions {
    open: Mutex<HashMap<SessionId, (StreamName, &'static str)>>,
}

impl WebRtcSessions {
    pub(super) fn insert(&self, id: SessionId, stream: StreamName, protocol: &'static str) {
        self.open.lock().insert(id, (stream, protocol));
    }

    pub(super) fn remove(&self, id: SessionId) {
        self.open.lock().remove(&id);
    }

    /// Whether the session is one of this stream and protocol.
    pub(super) fn is(&self, id: SessionId, stream: &StreamName, protocol: &'static str) -> bool {
        self.open.lock().get(&id).is_some_and(|(of, by)| of == stream && *by == protocol)
    }
}
