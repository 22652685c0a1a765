//! The writing end of a track.
//!
//! Keeps the window's bounds. Not here: times and group boundaries (the publisher decides them).

use std::sync::Arc;

use thiserror::Error;

use super::{Progress, TrackShared};
use crate::frame::{Frame, Group, GroupHeader};
use crate::id::GroupSeq;
use crate::time::{MediaDuration, WallTime};
use crate::track::Track;

/// What a writer did wrong; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Group numbers only rise.
    #[error("group {next} does not come after group {last}")]
    GroupNotAfter {
        /// The newest group.
        last: GroupSeq,
        /// The group that was to begin.
        next: GroupSeq,
    },
    /// A frame came while no group was open.
    #[error("no group is open")]
    NoGroup,
    /// The group holds `[limits] group_frames` frames: begin another.
    #[error("the group is full at {0} frames")]
    GroupFull(u32),
    /// The payload is over `[limits] frame_bytes`.
    #[error("a frame of {size} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// The one writer of a track. Dropping it leaves the track as it is; [`TrackWriter::finish`]
/// ends it.
pub struct TrackWriter {
    shared: Arc<TrackShared>,
    current: Option<Arc<Group>>,
}

impl TrackWriter {
    pub(crate) fn new(shared: Arc<TrackShared>) -> Self {
        Self { shared, current: None }
    }

    /// A reader's handle.
    #[must_use]
    pub fn track(&self) -> Track {
        Track { shared: Arc::clone(&self.shared) }
    }

    /// The open group.
    #[must_use]
    pub fn current(&self) -> Option<&Arc<Group>> {
        self.current.as_ref()
    }

    /// Ends the open group, if any, and begins another.
    ///
    /// # Errors
    /// [`WriteError::GroupNotAfter`] unless its number is above the last group's.
    pub fn begin_group(&mut self, header: GroupHeader) -> Result<(), WriteError> {
        let window = self.shared.window.load_full();
        if let Some(last) = window.last()
            && header.seq <= last.seq()
        {
            return Err(WriteError::GroupNotAfter { last: last.seq(), next: header.seq });
        }
        if let Some(open) = self.current.take() {
            open.close();
        }
        let group = Arc::new(Group::new(header));
        let mut kept: Vec<_> = self.within_limits(&window).to_vec();
        kept.push(Arc::clone(&group));
        self.shared.window.store(Arc::new(kept));
        self.current = Some(group);
        self.wake(false);
        Ok(())
    }

    /// The newest ended groups that `window` and `track_bytes` allow to keep.
    fn within_limits<'a>(&self, ended: &'a [Arc<Group>]) -> &'a [Arc<Group>] {
        let limits = &self.shared.limits;
        let (mut bytes, mut kept_micros, mut keep) = (0u64, 0i64, 0usize);
        let window = i64::try_from(limits.window.as_micros()).unwrap_or(i64::MAX);
        for group in ended.iter().rev() {
            bytes = bytes.saturating_add(group.bytes());
            if kept_micros >= window || bytes > limits.track_bytes as u64 {
                break;
            }
            let length: MediaDuration = group.end().since(group.header().start);
            kept_micros = kept_micros.saturating_add(length.micros().max(0));
            keep += 1;
        }
        ended.get(ended.len() - keep..).unwrap_or(ended)
    }

    /// Appends a frame to the open group.
    ///
    /// # Errors
    /// No open group, a full one, or a frame over the limit.
    pub fn append(&mut self, frame: Frame) -> Result<(), WriteError> {
        self.append_arrived(frame, None)
    }

    /// The same, with the moment at which the frame had come to this node: see
    /// [`FrameSlot::arrived`].
    ///
    /// # Errors
    /// See [`Self::append`].
    ///
    /// [`FrameSlot::arrived`]: crate::frame::FrameSlot::arrived
    pub fn append_arrived(
        &mut self,
        frame: Frame,
        arrived: Option<WallTime>,
    ) -> Result<(), WriteError> {
        let limits = &self.shared.limits;
        let size = frame.payload.len();
        if size > limits.frame_bytes {
            return Err(WriteError::FrameTooLarge { size, limit: limits.frame_bytes });
        }
        let group = self.current.as_ref().ok_or(WriteError::NoGroup)?;
        if group.len() >= limits.group_frames || !group.push(frame, arrived) {
            return Err(WriteError::GroupFull(group.len()));
        }
        self.wake(false);
        Ok(())
    }

    /// Ends the open group without beginning another (the publisher left, or the boundary is
    /// known before the next frame).
    pub fn end_group(&mut self) {
        if let Some(open) = self.current.take() {
            open.close();
            self.wake(false);
        }
    }

    /// Ends the open group although it has further frames elsewhere, which will not come: see
    /// [`Group::is_torn`].
    pub fn tear_group(&mut self) {
        if let Some(open) = self.current.take() {
            open.tear();
            self.wake(false);
        }
    }

    /// Ends the track for good.
    pub fn finish(mut self) {
        self.end_group();
        self.wake(true);
    }

    fn wake(&self, finished: bool) {
        self.shared.changes.send_modify(|progress| {
            *progress = Progress { version: progress.version + 1, finished };
        });
    }
}

impl std::fmt::Debug for TrackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackWriter").field("name", &self.shared.name).finish_non_exhaustive()
    }
}
