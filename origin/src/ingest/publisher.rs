//! The one interface in which all ingest ends.
//!
//! Not here: the cutting and mending behind it (`core`).

use std::sync::Arc;

use headwater_media::{Broadcast, Codec, Epoch, MediaKind, SessionId, WallTime};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::core::StreamCore;
use super::policy::{EndReason, PushError, RawFrame, TrackId};
use crate::ownership::Pulse;

/// How often a publisher is asked again for a keyframe that is due.
const KEYFRAME_RETRY_MICROS: i64 = 300_000;
/// Viewers' wishes reach the publisher at most once a second.
const KEYFRAME_WISHES_MICROS: i64 = 1_000_000;

/// A publisher's right to a stream, and the way in for its frames. Dropping it is the publisher's
/// leaving: the broadcast waits for its return for `reconnect_window`.
///
/// All times of one publisher are on one timeline, whatever its zero: audio and video compare.
pub struct Publisher {
    core: Arc<Mutex<StreamCore>>,
    broadcast: Broadcast,
    session: SessionId,
    epoch: Epoch,
    pulse: Arc<Pulse>,
    ended: CancellationToken,
    reason: Arc<Mutex<Option<EndReason>>>,
    on_leave: Option<Box<dyn FnOnce() + Send + Sync>>,
    wishes: Vec<watch::Receiver<u64>>,
    asked: Option<WallTime>,
    asked_for_viewers: Option<WallTime>,
}

/// What the stream directory keeps of a publisher, to end it.
#[derive(Clone)]
pub(crate) struct PublisherControl {
    pub(crate) epoch: Epoch,
    pub(crate) ended: CancellationToken,
    pub(crate) reason: Arc<Mutex<Option<EndReason>>>,
}

impl PublisherControl {
    /// Ends the publisher's session, for the first reason given.
    pub(crate) fn end(&self, reason: EndReason) {
        self.reason.lock().get_or_insert(reason);
        self.ended.cancel();
    }
}

impl Publisher {
    pub(crate) fn new(
        core: Arc<Mutex<StreamCore>>,
        session: SessionId,
        epoch: Epoch,
        pulse: Arc<Pulse>,
        on_leave: Box<dyn FnOnce() + Send + Sync>,
    ) -> (Self, PublisherControl) {
        let control =
            PublisherControl { epoch, ended: CancellationToken::new(), reason: Arc::default() };
        let broadcast = core.lock().broadcast().clone();
        let publisher = Self {
            core,
            broadcast,
            session,
            epoch,
            pulse,
            ended: control.ended.clone(),
            reason: Arc::clone(&control.reason),
            on_leave: Some(on_leave),
            wishes: Vec::new(),
            asked: None,
            asked_for_viewers: None,
        };
        (publisher, control)
    }

    /// The session that publishes.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The broadcast it feeds.
    #[must_use]
    pub fn broadcast(&self) -> &Broadcast {
        &self.broadcast
    }

    fn alive(&self) -> Result<(), PushError> {
        match *self.reason.lock() {
            Some(reason) => Err(PushError::Ended(reason)),
            None => Ok(()),
        }
    }

    /// Announces a track, as soon as it is known to come: audio waits for announced video. The
    /// first of its kind is named `video` or `audio`, further ones `video-2` …
    ///
    /// # Errors
    /// The session is over or the broadcast has all the tracks it may have.
    pub fn add_track(&mut self, kind: MediaKind) -> Result<TrackId, PushError> {
        self.alive()?;
        let mut core = self.core.lock();
        let id = core.add_track(self.epoch, kind)?;
        if kind == MediaKind::Video
            && let Some(track) = core.broadcast().tracks().iter().find(|t| t.kind() == kind)
        {
            self.wishes.push(track.keyframe_wishes());
        }
        Ok(id)
    }

    /// Gives a track's codec headers, at first and whenever they change; they take effect with
    /// the next keyframe.
    ///
    /// # Errors
    /// The session is over, or there is no such track of the codec's kind.
    pub fn configure(&mut self, track: TrackId, codec: Codec) -> Result<(), PushError> {
        self.alive()?;
        self.core.lock().configure(self.epoch, track, codec)
    }

    /// Takes a frame that arrived at `now`; frames of a track come in decoding order.
    ///
    /// # Errors
    /// See [`PushError::is_fatal`] for those that must end the session.
    pub fn push(
        &mut self,
        track: TrackId,
        frame: RawFrame,
        now: WallTime,
    ) -> Result<(), PushError> {
        self.alive()?;
        if self.pulse.is_late(now) {
            metrics::counter!("headwater_ingest_dropped_total", "reason" => "paused").increment(1);
            return Ok(());
        }
        self.core.lock().push(self.epoch, track, frame, now)
    }

    /// Says that this publisher makes keyframes when asked, so that [`Self::wants_keyframe`]
    /// sets the length of its groups.
    pub fn set_keyframes_on_request(&mut self) {
        self.core.lock().set_keyframes_on_request(self.epoch);
    }

    /// Whether to ask the publisher for a keyframe now: at the start, at `keyframe_interval`, and
    /// when viewers wish for one, but for them once a second at most. Call it every 50 ms or so;
    /// a true answer counts as asked.
    pub fn wants_keyframe(&mut self, now: WallTime) -> bool {
        let waited = |since: Option<WallTime>, micros: i64| {
            since.is_none_or(|since| now.micros_since(since) >= micros)
        };
        let mut wished = false;
        if waited(self.asked_for_viewers, KEYFRAME_WISHES_MICROS) {
            for wish in &mut self.wishes {
                wished |= wish.has_changed().unwrap_or(false);
                wish.mark_unchanged();
            }
        }
        if wished {
            self.asked_for_viewers = Some(now);
        }
        let due = waited(self.asked, KEYFRAME_RETRY_MICROS)
            && self.core.lock().keyframe_due(self.epoch, now);
        if wished || due {
            self.asked = Some(now);
        }
        wished || due
    }

    /// Records something that the operator should know about this stream, under a key so that it
    /// is said once: `text` says what is wrong and what to do.
    pub fn warn(&self, key: &'static str, text: impl Into<String>) {
        self.core.lock().warn(key, text.into());
    }

    /// Cancelled when the session must end: then close it and say [`Self::reason`] to the peer.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Why the session must end.
    #[must_use]
    pub fn reason(&self) -> Option<EndReason> {
        *self.reason.lock()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Some(on_leave) = self.on_leave.take() {
            on_leave();
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("stream", self.broadcast.name())
            .field("session", &self.session)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
