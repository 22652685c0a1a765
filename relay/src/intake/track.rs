//! One track of an intake: its writer and position on the bus, and the order of its streams.
//!
//! Not here: which subscription is followed (`intake`).

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_media::{
    Epoch, Frame, GroupHeader, GroupSeq, MediaKind, TrackConfig, TrackName, TrackWriter,
};

use super::{CutOutcome, RefuseReason};
use crate::wire::{Position, TrackEntry};

/// A track on this node's bus.
pub(super) struct Slot {
    pub(super) name: TrackName,
    /// None once it is finished.
    pub(super) writer: Option<TrackWriter>,
    /// The newest group, and the group below which none is taken.
    last: Option<(Epoch, GroupSeq)>,
    /// The highest group under the track's name before it began.
    floor: Option<GroupSeq>,
    /// A group was lost: go on with one at which decoding can start.
    wants_independent: bool,
    /// Where the open group ends by agreement.
    cut: Option<(GroupSeq, u32)>,
    config: Option<Arc<TrackConfig>>,
}

impl Slot {
    pub(super) fn new(name: TrackName, writer: TrackWriter, floor: Option<GroupSeq>) -> Self {
        let (last, cut, config) = (None, None, None);
        // What comes first is the start for every reader.
        let wants_independent = writer.track().kind() == MediaKind::Video;
        Self { name, writer: Some(writer), last, floor, wants_independent, cut, config }
    }

    /// Of a track that was published on this node so far.
    pub(super) fn attach(writer: TrackWriter) -> Self {
        let newest = writer.track().newest();
        let mut slot = Self::new(writer.track().name().clone(), writer, None);
        if let Some(newest) = newest {
            let header = newest.header();
            slot.last = Some((header.epoch, header.seq));
            slot.config = Some(Arc::clone(&header.config));
        }
        slot
    }

    /// The newest group.
    pub(super) fn last(&self) -> Option<GroupSeq> {
        self.last.map(|(_, seq)| seq)
    }

    /// The group that ends by agreement and whose rest has not come yet.
    pub(super) fn awaits_rest(&self) -> Option<GroupSeq> {
        let (seq, _) = self.cut?;
        let open = self.writer.as_ref()?.current()?;
        (open.seq() == seq).then_some(seq)
    }

    /// The next frame wanted; none before the first group.
    pub(super) fn position(&self) -> Option<Position> {
        let (epoch, last) = self.last?;
        let writer = self.writer.as_ref()?;
        let (group, frame) = match writer.current() {
            Some(open) => (open.seq(), open.len()),
            None => (last.next(), 0),
        };
        Some(Position { track: self.name.clone(), epoch, group, frame })
    }

    pub(super) fn finish(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            if writer.current().is_some() {
                writer.tear_group();
            }
            writer.finish();
        }
    }

    /// Begins a group, or goes on with the open one, at the frame `first`.
    pub(super) fn begin(&mut self, header: &GroupHeader, first: u32) -> Result<(), RefuseReason> {
        let writer = self.writer.as_mut().ok_or(RefuseReason::Old)?;
        let open = writer.current().map(|group| (group.seq(), group.len(), group.header().epoch));
        if self.last.is_some_and(|(epoch, _)| header.epoch < epoch) {
            return Err(RefuseReason::Fenced);
        }
        if let Some((seq, len, epoch)) = open
            && seq == header.seq
        {
            if epoch != header.epoch {
                // Two owners made one number: no bytes of the second may come under it.
                self.tear(seq);
                return Err(RefuseReason::Fenced);
            }
            if first > len {
                self.tear(seq);
                return Err(RefuseReason::Gap);
            }
            return Ok(());
        }
        let newest = self.last.map(|(_, seq)| seq).max(self.floor);
        if newest.is_some_and(|newest| header.seq <= newest) {
            return Err(RefuseReason::Old);
        }
        if let Some((seq, ..)) = open {
            self.tear(seq);
        }
        if first > 0 {
            self.wants_independent = true;
            return Err(RefuseReason::Gap);
        }
        if self.wants_independent && !header.independent {
            return Err(RefuseReason::NotIndependent);
        }
        let header = self.with_known_config(header.clone());
        let place = (header.epoch, header.seq);
        let writer = self.writer.as_mut().ok_or(RefuseReason::Old)?;
        writer.begin_group(header).map_err(|_| RefuseReason::Old)?;
        self.last = Some(place);
        self.wants_independent = false;
        metrics::counter!("headwater_relay_received_groups_total").increment(1);
        Ok(())
    }

    /// Groups of one configuration share one value.
    fn with_known_config(&mut self, mut header: GroupHeader) -> GroupHeader {
        match &self.config {
            Some(known) if *known == header.config => header.config = Arc::clone(known),
            _ => self.config = Some(Arc::clone(&header.config)),
        }
        header
    }

    pub(super) fn frame(
        &mut self,
        seq: GroupSeq,
        index: u32,
        frame: Frame,
    ) -> Result<(), RefuseReason> {
        let writer = self.writer.as_mut().ok_or(RefuseReason::Old)?;
        let Some(open) = writer.current().filter(|open| open.seq() == seq) else {
            return Err(RefuseReason::Old);
        };
        let len = open.len();
        if index < len {
            metrics::counter!("headwater_relay_duplicate_frames_total").increment(1);
            return Ok(());
        }
        if index > len {
            return Err(RefuseReason::Gap);
        }
        if let Err(error) = writer.append(frame) {
            tracing::warn!(track = %self.name, group = %seq, %error, "the bus refused a frame");
            self.tear(seq);
            return Err(RefuseReason::Limit);
        }
        metrics::counter!("headwater_relay_received_frames_total").increment(1);
        if self.cut == Some((seq, len + 1)) {
            writer.end_group();
        }
        Ok(())
    }

    pub(super) fn end(&mut self, seq: GroupSeq, frames: u32) {
        let Some(writer) = &mut self.writer else { return };
        match writer.current().filter(|open| open.seq() == seq).map(|open| open.len()) {
            Some(len) if len == frames => writer.end_group(),
            Some(_) => self.tear(seq),
            None => {}
        }
    }

    /// Ends the open group, if it is `seq`, as one whose rest does not come.
    pub(super) fn tear(&mut self, seq: GroupSeq) {
        if let Some(writer) = &mut self.writer
            && writer.current().is_some_and(|open| open.seq() == seq)
        {
            self.wants_independent = writer.track().kind() == MediaKind::Video;
            writer.tear_group();
            metrics::counter!("headwater_relay_groups_torn_total").increment(1);
        }
    }

    pub(super) fn cut(&mut self, seq: GroupSeq, frames: u32) -> CutOutcome {
        let Some(writer) = &mut self.writer else { return CutOutcome::NotOpen };
        let Some(len) = writer.current().filter(|open| open.seq() == seq).map(|open| open.len())
        else {
            return CutOutcome::NotOpen;
        };
        if len == frames {
            writer.end_group();
            CutOutcome::Complete
        } else if len < frames {
            self.cut = Some((seq, frames));
            CutOutcome::Missing(len)
        } else {
            self.tear(seq);
            CutOutcome::Torn
        }
    }
}

/// A track as a subscription lists it, and how far its streams have come.
pub(super) struct SubTrack {
    pub(super) id: u64,
    pub(super) name: TrackName,
    /// The place of the stream that comes next.
    pub(super) next: u64,
    /// The stream that is read now.
    pub(super) reading: Option<u64>,
    /// Streams that are here before their turn.
    pub(super) waiting: BTreeSet<u64>,
    /// Streams that will not come.
    dropped: BTreeSet<u64>,
    /// How many streams there are in all, once the track has ended.
    pub(super) finished: Option<u64>,
}

impl SubTrack {
    pub(super) fn new(entry: &TrackEntry) -> Self {
        Self {
            id: entry.id,
            name: entry.name.clone(),
            next: 0,
            reading: None,
            waiting: BTreeSet::new(),
            dropped: BTreeSet::new(),
            finished: entry.finished,
        }
    }

    pub(super) fn drop_order(&mut self, order: u64, kept_max: usize) {
        if order < self.next {
            return;
        }
        if self.dropped.len() >= kept_max {
            self.dropped.pop_first();
        }
        self.dropped.insert(order);
        self.waiting.remove(&order);
    }

    pub(super) fn pass_dropped(&mut self) {
        while self.reading.is_none() && self.dropped.remove(&self.next) {
            self.next = self.next.saturating_add(1);
        }
    }

    /// Whether the track has ended and all its streams have been read.
    pub(super) fn is_complete(&self) -> bool {
        self.reading.is_none() && self.finished.is_some_and(|count| self.next >= count)
    }
}
