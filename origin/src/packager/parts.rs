//! Cuts a track's groups into parts. A pure function of the frames: where parts end follows from
//! the frames' durations and the track's [`PartPlan`](headwater_media::PartPlan) alone, never from
//! when they came, so every node makes the same parts of the same bytes.
//!
//! Not here: what a playlist lists (`window`).

use headwater_media::fmp4::{Fmp4Error, fragment};
use headwater_media::{Frame, GroupHeader, GroupSeq, Item, MediaDuration};

use super::rope::Rope;

/// `mfhd` sequence numbers leave this many bits for a part's index in its group. A group with
/// more parts shares its last number, which no reader minds: parts are told apart by name.
const SEQUENCE_PART_BITS: u32 = 10;

/// A part: a CMAF chunk of one or more whole frames.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its place in the group, from 0.
    pub index: u32,
    /// Its length on the decoding timeline.
    pub duration: MediaDuration,
    /// How many frames it holds.
    pub frames: u32,
    /// Whether it begins with a keyframe: `INDEPENDENT=YES`.
    pub independent: bool,
    /// `moof` and `mdat`.
    pub data: Rope,
}

/// What the cutter found, in order.
#[derive(Debug)]
pub enum Cut {
    /// A segment begins.
    Begin(GroupHeader),
    /// The next part of it is complete.
    Part(Part),
    /// It is complete and this long, from its first frame's `dts` to its last frame's end.
    End(MediaDuration),
    /// It breaks off here, although it has more frames elsewhere.
    Torn,
    /// The frames of what should be the next part cannot be written; they are left out.
    Broken(Fmp4Error),
    /// The track has ended.
    TrackEnd,
}

/// The `mfhd` sequence number of a part: a function of its name, rising within a group and from
/// group to group (modulo 2^32).
#[must_use]
pub fn sequence_number(group: GroupSeq, part: u32) -> u32 {
    let part = part.min((1 << SEQUENCE_PART_BITS) - 1);
    let low = u32::try_from(group.0 & u64::from(u32::MAX >> SEQUENCE_PART_BITS)).unwrap_or(0);
    (low << SEQUENCE_PART_BITS) | part
}

/// Cuts one track.
#[derive(Debug, Default)]
pub struct Cutter {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    header: GroupHeader,
    next_part: u32,
    pending: Vec<Frame>,
    pending_ticks: u64,
}

impl Cutter {
    /// Takes what a cursor met and tells what follows from it.
    pub fn push(&mut self, item: &Item, mut emit: impl FnMut(Cut)) {
        match item {
            Item::Group { group, .. } => {
                let header = group.header().clone();
                emit(Cut::Begin(header.clone()));
                self.open =
                    Some(Open { header, next_part: 0, pending: Vec::new(), pending_ticks: 0 });
            }
            Item::Frame(at) => {
                if let (Some(open), Some(frame)) = (&mut self.open, at.frame()) {
                    open.append(frame, &mut emit);
                }
            }
            Item::GroupEnd(group) => {
                if let Some(mut open) = self.open.take() {
                    if group.is_torn() {
                        // What is pending may be a part's beginning only.
                        return emit(Cut::Torn);
                    }
                    open.cut(&mut emit);
                    emit(Cut::End(group.end().since(group.header().start)));
                }
            }
            Item::End => emit(Cut::TrackEnd),
        }
    }
}

impl Open {
    fn append(&mut self, frame: &Frame, emit: &mut impl FnMut(Cut)) {
        // A jump of the timeline begins a part. The publisher keeps to that; a fragment could
        // not be written otherwise.
        let jumps = |last: &Frame| last.dts.plus(last.duration) != frame.dts;
        if self.pending.last().is_some_and(jumps) {
            self.cut(emit);
        }
        self.pending_ticks =
            self.pending_ticks.saturating_add(u64::try_from(frame.duration.ticks()).unwrap_or(0));
        self.pending.push(frame.clone());
        if self.header.config.parts.is_full(self.pending_ticks) {
            self.cut(emit);
        }
    }

    fn cut(&mut self, emit: &mut impl FnMut(Cut)) {
        let Some(first) = self.pending.first() else { return };
        let config = &self.header.config;
        let sequence = sequence_number(self.header.seq, self.next_part);
        let made = fragment(sequence, &self.pending, config);
        let ticks = i64::try_from(self.pending_ticks).unwrap_or(i64::MAX);
        match made {
            Ok(made) => {
                emit(Cut::Part(Part {
                    index: self.next_part,
                    duration: MediaDuration::new(ticks, config.rate),
                    frames: u32::try_from(self.pending.len()).unwrap_or(u32::MAX),
                    independent: first.keyframe,
                    data: Rope::new(made.chunks().cloned()),
                }));
                self.next_part += 1;
            }
            Err(error) => emit(Cut::Broken(error)),
        }
        self.pending.clear();
        self.pending_ticks = 0;
    }
}
