//! Frames and groups: what a track is made of.
//!
//! A group is an append-only list that one writer extends while any number of readers walk it
//! without a lock. Not here: which groups a track keeps (`bus`), what a payload means (`codec`).

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::id::{DiscontinuitySeq, Epoch, GroupSeq};
use crate::time::{MediaDuration, MediaTime, WallTime};
use crate::track::TrackConfig;

/// One encoded access unit with its final times.
///
/// Payloads by codec: H.264 and H.265 are length-prefixed NAL units (4-byte lengths) without
/// parameter sets that equal the configuration's; AV1 is a temporal unit without temporal
/// delimiter OBUs, each OBU with a size field; VP8 and VP9 a frame (or superframe); AAC a raw
/// access unit without ADTS; Opus a packet.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When it is shown.
    pub pts: MediaTime,
    /// Its place in decoding order. The next frame's `dts` is this plus `duration`, but for
    /// jumps, which happen at a part's start only.
    pub dts: MediaTime,
    /// How long it stands on the decoding timeline; never changes once given.
    pub duration: MediaDuration,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// When it was captured, by the owner's clock; as near as the publisher lets us know.
    pub capture: WallTime,
    /// The access unit.
    pub payload: Bytes,
}

/// What is known of a group when it begins.
#[derive(Clone, Debug)]
pub struct GroupHeader {
    /// The group's number, and its segment's.
    pub seq: GroupSeq,
    /// Under which ownership it was made.
    pub epoch: Epoch,
    /// Groups with different numbers do not share a timeline.
    pub discontinuity: DiscontinuitySeq,
    /// `dts` of the first frame.
    pub start: MediaTime,
    /// Wall-clock time of the first frame's `pts`, set by the owner: `EXT-X-PROGRAM-DATE-TIME`.
    pub wall: WallTime,
    /// Whether the first frame is a keyframe; false marks a continuation cut at `max_group`.
    pub independent: bool,
    /// How many frames the owner expects the group to have, where the publisher's rhythm is
    /// regular. A hint for `EXT-X-PRELOAD-HINT` only; the group may turn out otherwise.
    pub expected_frames: Option<u32>,
    /// `EXT-X-TARGETDURATION` in whole seconds, once the owner has settled it; constant from then
    /// on for the life of the broadcast and the same in all its tracks. The owner cuts groups so
    /// that none rounds to more.
    pub target_duration_s: Option<u32>,
    /// The configuration of all its frames.
    pub config: Arc<TrackConfig>,
}

/// A frame in its place, with room for one value derived from it and shared by all readers (the
/// SFU keeps the frame's RTP payloads here, so that they are made once).
#[derive(Debug)]
pub struct FrameSlot {
    frame: Frame,
    arrived: Option<WallTime>,
    derived: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl FrameSlot {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// When the whole frame had come to this node, by its clock, where its writer said so: for
    /// measuring how long the node takes. Not a time of the media, and not passed on.
    #[must_use]
    pub fn arrived(&self) -> Option<WallTime> {
        self.arrived
    }

    /// The value derived from this frame, made by `make` if nobody has yet. There is one value a
    /// frame: readers that ask for different types get `None` but for the first type asked for.
    pub fn derived<T: Any + Send + Sync>(&self, make: impl FnOnce(&Frame) -> T) -> Option<Arc<T>> {
        let value = self.derived.get_or_init(|| Arc::new(make(&self.frame)));
        Arc::clone(value).downcast().ok()
    }
}

/// Buckets double in size from 16 slots: 16, 32, 64 … so 24 buckets hold any `u32`-counted group
/// that limits allow and an empty group costs one small array.
const BUCKETS: usize = 24;
const FIRST_BUCKET: u32 = 16;

/// A group: header, frames so far, and whether it has ended. Shared by reference.
pub struct Group {
    header: GroupHeader,
    buckets: [OnceLock<Box<[OnceLock<FrameSlot>]>>; BUCKETS],
    len: AtomicU32,
    /// 0 while open, else 1 + the final number of frames.
    ended: AtomicU32,
    torn: AtomicBool,
    bytes: AtomicU64,
}

fn place(index: u32) -> (usize, usize) {
    let shifted = u64::from(index) + u64::from(FIRST_BUCKET);
    let bucket = (63 - shifted.leading_zeros()) - FIRST_BUCKET.trailing_zeros();
    let offset = shifted - (u64::from(FIRST_BUCKET) << bucket);
    (bucket as usize, offset as usize)
}

impl Group {
    pub(crate) fn new(header: GroupHeader) -> Self {
        Self {
            header,
            buckets: [const { OnceLock::new() }; BUCKETS],
            len: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            torn: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
        }
    }

    /// What was known when it began.
    #[must_use]
    pub fn header(&self) -> &GroupHeader {
        &self.header
    }

    /// The group's number.
    #[must_use]
    pub fn seq(&self) -> GroupSeq {
        self.header.seq
    }

    /// Frames so far.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// Whether no frame has come yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The final number of frames, once it has ended.
    #[must_use]
    pub fn final_len(&self) -> Option<u32> {
        self.ended.load(Ordering::Acquire).checked_sub(1)
    }

    /// Whether it has ended here without the frames that it has elsewhere: what a hop could not
    /// bring in time. A segment made of it would have other bytes than on other nodes.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn.load(Ordering::Acquire)
    }

    /// Payload bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The frame at `index`, if it has come.
    #[must_use]
    pub fn slot(&self, index: u32) -> Option<&FrameSlot> {
        if index >= self.len() {
            return None;
        }
        let (bucket, offset) = place(index);
        self.buckets.get(bucket)?.get()?.get(offset)?.get()
    }

    /// The frame at `index`, if it has come.
    #[must_use]
    pub fn frame(&self, index: u32) -> Option<&Frame> {
        self.slot(index).map(FrameSlot::frame)
    }

    /// End of the last frame so far on the decoding timeline; the group's start while empty.
    #[must_use]
    pub fn end(&self) -> MediaTime {
        let last = self.len().checked_sub(1).and_then(|last| self.frame(last));
        last.map_or(self.header.start, |frame| frame.dts.plus(frame.duration))
    }

    /// Appends; the track's one writer alone calls this, and not after [`Self::close`].
    pub(crate) fn push(&self, frame: Frame, arrived: Option<WallTime>) -> bool {
        let index = self.len.load(Ordering::Relaxed);
        let (bucket, offset) = place(index);
        let Some(cell) = self.buckets.get(bucket) else { return false };
        let slots = cell.get_or_init(|| {
            (0..(FIRST_BUCKET as usize) << bucket).map(|_| OnceLock::new()).collect()
        });
        let size = frame.payload.len() as u64;
        let slot = FrameSlot { frame, arrived, derived: OnceLock::new() };
        if slots.get(offset).is_none_or(|place| place.set(slot).is_err()) {
            return false;
        }
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.len.store(index + 1, Ordering::Release);
        true
    }

    /// Closes it as torn; a reader that sees the end sees this too.
    pub(crate) fn tear(&self) {
        self.torn.store(true, Ordering::Release);
        self.close();
    }

    pub(crate) fn close(&self) {
        self.ended.store(self.len.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("seq", &self.header.seq)
            .field("len", &self.len())
            .field("final_len", &self.final_len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fill_buckets_without_gap_or_overlap() {
        let mut expected = (0usize, 0usize);
        for index in 0..100_000u32 {
            assert_eq!(place(index), expected, "index {index}");
            expected.1 += 1;
            if expected.1 == (FIRST_BUCKET as usize) << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(u32::MAX - FIRST_BUCKET).0 < 32);
    }
}
