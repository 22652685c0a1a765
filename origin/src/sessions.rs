//! The registry of the node's sessions: what `/api/v1/sessions` lists and `kick` ends.
//!
//! Not here: what a session does (its protocol's module), who may open one (`auth`).

use std::collections::{HashMap, hash_map};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_media::{SessionId, StreamName, WallTime};
use parking_lot::Mutex;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// Which way the media goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It sends.
    Publisher,
    /// It receives.
    Viewer,
}

impl Role {
    /// `publisher` or `viewer`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
        }
    }
}

/// What is known of a session when it opens.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Which way the media goes.
    pub role: Role,
    /// `whip`, `whep`, `srt`, `rtmp`, `demo`.
    pub protocol: &'static str,
    /// On which stream.
    pub stream: StreamName,
    /// From where.
    pub peer: SocketAddr,
}

/// What a session has done so far; its driver counts, the API reads.
#[derive(Debug, Default)]
pub struct SessionCounters {
    /// Bytes received from the peer.
    pub bytes_in: AtomicU64,
    /// Bytes sent to the peer.
    pub bytes_out: AtomicU64,
    /// Frames received.
    pub frames_in: AtomicU64,
    /// Frames sent.
    pub frames_out: AtomicU64,
    /// Frames dropped, in either direction.
    pub frames_dropped: AtomicU64,
}

/// A session as the API shows it.
#[derive(Clone, Debug)]
pub struct SessionSnapshot {
    /// Its id.
    pub id: SessionId,
    /// What was known when it opened.
    pub info: SessionInfo,
    /// When it opened.
    pub since: WallTime,
    /// Whether it has connected: a WebRTC viewer's session opens before that.
    pub connected: bool,
    /// Bytes received from the peer.
    pub bytes_in: u64,
    /// Bytes sent to the peer.
    pub bytes_out: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Frames dropped.
    pub frames_dropped: u64,
}

/// `[limits] sessions` is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The node has as many sessions as it may.
    #[error(
        "the node has {0} sessions, its limit (`[limits] sessions`): try another node, or later"
    )]
    Full(usize),
    /// The system gave no randomness for an id.
    #[error("no randomness for a session id")]
    NoRandomness,
}

/// All sessions of the node. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    sessions: HashMap<SessionId, Entry>,
    /// Connected viewers of each stream that has any: asked for once a second by each who watches
    /// it.
    viewers: HashMap<StreamName, usize>,
}

impl Open {
    fn connect(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        if !std::mem::replace(&mut entry.connected, true) && entry.info.role == Role::Viewer {
            *self.viewers.entry(entry.info.stream.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.remove(&id) else { return };
        if entry.connected
            && entry.info.role == Role::Viewer
            && let hash_map::Entry::Occupied(mut count) = self.viewers.entry(entry.info.stream)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

struct Entry {
    info: SessionInfo,
    since: WallTime,
    connected: bool,
    counters: Arc<SessionCounters>,
    kicked: CancellationToken,
}

impl Sessions {
    /// A registry of at most `limit` sessions.
    #[must_use]
    pub fn new(clock: Clock, limit: usize) -> Self {
        Self { shared: Arc::new(Shared { clock, limit, open: Mutex::default() }) }
    }

    /// Lists a session, which is connected, until the handle is dropped.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn open(&self, info: SessionInfo) -> Result<SessionHandle, OpenError> {
        self.open_half(info).inspect(SessionHandle::connected)
    }

    /// The same for a session that has yet to connect: a viewer counts as one from then on.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn open_half(&self, info: SessionInfo) -> Result<SessionHandle, OpenError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| OpenError::NoRandomness)?;
        let id = SessionId::from_random(random);
        let counters = Arc::new(SessionCounters::default());
        let kicked = CancellationToken::new();
        let since = self.shared.clock.now();
        let entry = Entry {
            info: info.clone(),
            since,
            connected: false,
            counters: Arc::clone(&counters),
            kicked: kicked.clone(),
        };
        let mut open = self.shared.open.lock();
        if open.sessions.len() >= self.shared.limit {
            metrics::counter!("headwater_sessions_refused_total", "reason" => "limit").increment(1);
            return Err(OpenError::Full(open.sessions.len()));
        }
        open.sessions.insert(id, entry);
        drop(open);
        gauge(&info).increment(1.0);
        Ok(SessionHandle { registry: self.clone(), id, info, counters, kicked })
    }

    /// Every session, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SessionSnapshot> {
        let open = self.shared.open.lock();
        let mut all: Vec<_> = open.sessions.iter().map(|(id, entry)| entry.snapshot(*id)).collect();
        drop(open);
        all.sort_by_key(|session| (session.since, session.id));
        all
    }

    /// Asks a session to end. False when there is none of that id.
    #[must_use]
    pub fn kick(&self, id: SessionId) -> bool {
        let open = self.shared.open.lock();
        open.sessions.get(&id).inspect(|entry| entry.kicked.cancel()).is_some()
    }

    /// How many connected viewers a stream has now.
    #[must_use]
    pub fn viewers(&self, stream: &StreamName) -> usize {
        self.shared.open.lock().viewers.get(stream).copied().unwrap_or(0)
    }
}

impl Entry {
    fn snapshot(&self, id: SessionId) -> SessionSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionSnapshot {
            id,
            info: self.info.clone(),
            since: self.since,
            connected: self.connected,
            bytes_in: read(&self.counters.bytes_in),
            bytes_out: read(&self.counters.bytes_out),
            frames_in: read(&self.counters.frames_in),
            frames_out: read(&self.counters.frames_out),
            frames_dropped: read(&self.counters.frames_dropped),
        }
    }
}

fn gauge(info: &SessionInfo) -> metrics::Gauge {
    metrics::gauge!("headwater_sessions", "role" => info.role.as_str(), "protocol" => info.protocol)
}

/// An open session; dropping it takes the session off the list.
pub struct SessionHandle {
    registry: Sessions,
    id: SessionId,
    info: SessionInfo,
    counters: Arc<SessionCounters>,
    kicked: CancellationToken,
}

impl SessionHandle {
    /// The session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What was known when it opened.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// It has connected: a viewer counts from now on.
    pub fn connected(&self) {
        self.registry.shared.open.lock().connect(self.id);
    }

    /// Cancelled when an operator kicks the session.
    #[must_use]
    pub fn kicked(&self) -> CancellationToken {
        self.kicked.clone()
    }

    /// Where the session's driver counts.
    #[must_use]
    pub fn counters(&self) -> &Arc<SessionCounters> {
        &self.counters
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.registry.shared.open.lock().remove(self.id);
        gauge(&self.info).decrement(1.0);
    }
}

impl std::fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(role: Role) -> SessionInfo {
        SessionInfo {
            role,
            protocol: "srt",
            stream: StreamName::parse("a").unwrap(),
            peer: "127.0.0.1:1".parse().unwrap(),
        }
    }

    #[test]
    fn sessions_are_listed_while_their_handle_lives_and_never_above_the_limit() {
        let sessions = Sessions::new(Clock::start(), 2);
        let publisher = sessions.open(info(Role::Publisher)).unwrap();
        let viewer = sessions.open(info(Role::Viewer)).unwrap();
        assert_eq!(sessions.open(info(Role::Viewer)).unwrap_err(), OpenError::Full(2));
        assert_eq!(sessions.list().len(), 2);
        assert_eq!(sessions.viewers(&StreamName::parse("a").unwrap()), 1);
        drop(publisher);
        let other = sessions.open(info(Role::Viewer)).unwrap();
        assert_eq!(sessions.viewers(&StreamName::parse("a").unwrap()), 2);
        drop(other);
        assert_eq!(sessions.viewers(&StreamName::parse("a").unwrap()), 1);
        assert_eq!(sessions.list().iter().map(|s| s.id).collect::<Vec<_>>(), [viewer.id()]);
        assert!(sessions.open(info(Role::Viewer)).is_ok());
    }

    #[test]
    fn a_viewer_counts_once_from_its_connection_on() {
        let sessions = Sessions::new(Clock::start(), 2);
        let stream = StreamName::parse("a").unwrap();
        let (half, other) = (info(Role::Viewer), info(Role::Viewer));
        let (half, other) = (sessions.open_half(half).unwrap(), sessions.open_half(other).unwrap());
        assert_eq!(sessions.viewers(&stream), 0);
        half.connected();
        half.connected();
        assert_eq!(sessions.viewers(&stream), 1);
        assert_eq!(sessions.list().iter().filter(|session| session.connected).count(), 1);
        drop(other);
        assert_eq!(sessions.viewers(&stream), 1);
        drop(half);
        assert_eq!(sessions.viewers(&stream), 0);
    }

    #[test]
    fn a_kick_reaches_the_session_it_names_and_no_other() {
        let sessions = Sessions::new(Clock::start(), 10);
        let (a, b) = (
            sessions.open(info(Role::Viewer)).unwrap(),
            sessions.open(info(Role::Viewer)).unwrap(),
        );
        assert!(sessions.kick(a.id()));
        assert!(a.kicked().is_cancelled() && !b.kicked().is_cancelled());
        assert!(!sessions.kick(SessionId::from_random([0; 16])));
    }
}
