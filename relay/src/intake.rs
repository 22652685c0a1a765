//! One stream as it comes from elsewhere: puts what arrives on this node's bus, each frame once and
//! in its place, whichever parent brings it.
//!
//! Owns: the position on every track, the epoch below which nothing is taken, and the order of
//! groups that arrive out of order. It outlives connections: a new parent goes on at the exact
//! frame. Not here: bytes (`wire`), which parent is asked (`pulls`), sockets (`hop`).

mod standing;
mod track;

use std::time::{Duration, Instant};

use headwater_media::limits::BusLimits;
use headwater_media::{
    Broadcast, BroadcastState, Epoch, Frame, GroupHeader, GroupSeq, StreamName, TrackName,
    TrackWriter,
};
use tokio::sync::watch;

use self::standing::Subscription;
use self::track::{Slot, SubTrack};
use crate::route::Standing;
use crate::wire::{Position, StartAt, TrackEntry};

/// Streams of groups of one track that wait for their turn; with more, the oldest go first.
const STREAMS_WAITING_MAX: usize = 16;

/// For how long a new owner's first group waits for the rest of the one that was in flight when the
/// last owner died. Who has that rest answers within milliseconds; viewers of this node wait so long
/// where nobody has it, as they do where this node is the new owner.
const REST_PATIENCE: Duration = Duration::from_millis(300);

/// A subscription's number on this node, unlike any other's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourceId(pub u64);

/// Whether a group's stream may be read on.
#[derive(Debug)]
pub enum Admission {
    /// It may.
    Go(Ticket),
    /// Not yet: ask again when [`Intake::turns`] changes, and at this time at the latest.
    Wait(Instant),
    /// It is of no use.
    Refuse(RefuseReason),
}

/// Why a group or a frame is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefuseReason {
    /// It comes by a subscription that has been replaced.
    Replaced,
    /// Its epoch, or its parent's, is below the one that is followed.
    Fenced,
    /// This node has it already, or has gone on without it.
    Old,
    /// Frames before it are missing.
    Gap,
    /// Decoding cannot start with it, and what it goes on from is missing.
    NotIndependent,
    /// The parent's list has no such track, or this node could not add it.
    UnknownTrack,
    /// The bus did not take it: a limit of this node's.
    Limit,
}

impl RefuseReason {
    /// A short name for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Fenced => "fenced",
            Self::Old => "old",
            Self::Gap => "gap",
            Self::NotIndependent => "not-independent",
            Self::UnknownTrack => "unknown-track",
            Self::Limit => "limit",
        }
    }
}

/// The right to add a group's frames.
#[derive(Debug)]
pub struct Ticket {
    source: SourceId,
    track: u64,
    order: u64,
    seq: GroupSeq,
    /// The place of the frame that comes next on the stream.
    next: u32,
}

/// What comes of an agreed end of the group in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CutOutcome {
    /// The group is complete.
    Complete,
    /// Frames from this one on are missing; the group ends when they have come.
    Missing(u32),
    /// This node had taken frames past the end: its group is marked as torn.
    Torn,
    /// The track has no such open group.
    NotOpen,
}

/// How a group's stream broke off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    /// The parent gave the group up: its rest will not come.
    Reset,
    /// The connection or subscription is gone: the rest may come by another one.
    Interrupted,
}

/// A stream's intake; see the module.
pub struct Intake {
    name: StreamName,
    limits: BusLimits,
    patience: Duration,
    broadcast: watch::Sender<Broadcast>,
    fence: Epoch,
    subscription: Option<Subscription>,
    slots: Vec<Slot>,
    /// The highest group of any track.
    highest: Option<GroupSeq>,
    /// The highest group of any track of broadcasts that have ended: numbers go on above it.
    floor: Option<GroupSeq>,
    /// The highest group of tracks that were taken off the list: one that comes back under the
    /// name goes on above it. As many as a broadcast may have tracks.
    left: Vec<(TrackName, GroupSeq)>,
    ended_by: Option<SourceId>,
    turns: watch::Sender<u64>,
    /// What children are told.
    standing: watch::Sender<Standing>,
    /// Where to begin, for a child that goes on from there; the frame does not matter.
    from: Vec<Position>,
}

impl Intake {
    /// Of a stream of which nothing has come yet. A group that is overtaken is waited for during
    /// `patience`.
    #[must_use]
    pub fn new(name: StreamName, limits: BusLimits, patience: Duration) -> Self {
        let broadcast = watch::channel(Broadcast::new(name.clone(), limits)).0;
        Self {
            name,
            limits,
            patience,
            broadcast,
            fence: Epoch(0),
            subscription: None,
            slots: Vec::new(),
            highest: None,
            floor: None,
            left: Vec::new(),
            ended_by: None,
            turns: watch::channel(0).0,
            standing: watch::channel(Standing::default()).0,
            from: Vec::new(),
        }
    }

    /// The stream as this node has it; replaced when the stream begins anew after its end.
    #[must_use]
    pub fn broadcast(&self) -> watch::Receiver<Broadcast> {
        self.broadcast.subscribe()
    }

    /// Changes when a group that waits may have its turn.
    #[must_use]
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// The epoch that is followed.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.fence
    }

    /// Takes from `source` alone from now on; what to ask it for.
    pub fn begin(&mut self, source: SourceId) -> (Epoch, StartAt) {
        self.settle_end();
        let state = self.broadcast.borrow().state();
        self.subscription = Some(Subscription::new(source, state));
        self.stand();
        self.turn();
        let mut positions: Vec<_> = self.positions().collect();
        if self.slots.is_empty() {
            positions.clone_from(&self.from);
        }
        let start =
            if positions.is_empty() { StartAt::Newest } else { StartAt::Positions(positions) };
        (self.fence, start)
    }

    /// Takes nothing from `source` any more. Groups in flight stay open for another one.
    pub fn stop(&mut self, source: SourceId) {
        if self.subscription.as_ref().is_some_and(|sub| sub.source == source) {
            self.settle_end();
            self.subscription = None;
            self.stand();
            self.turn();
        }
    }

    /// A parent that said that the stream has ended is believed, even if its last frames did not
    /// come.
    fn settle_end(&mut self) {
        let ended = self.subscription.as_ref().map(|sub| sub.state) == Some(BroadcastState::Ended);
        if ended {
            self.end();
        }
    }

    /// The subscription by which the stream's end came, if it was the last.
    #[must_use]
    pub fn ended_by(&self) -> Option<SourceId> {
        self.ended_by
    }

    /// The next frame wanted of each track that has begun.
    fn positions(&self) -> impl Iterator<Item = Position> {
        self.slots.iter().filter_map(Slot::position)
    }

    /// The open group of a track and how many frames of it there are.
    #[must_use]
    pub fn in_flight(&self, track: &TrackName) -> Option<(GroupSeq, u32)> {
        let slot = self.slots.iter().find(|slot| slot.name == *track)?;
        let open = slot.writer.as_ref()?.current()?;
        Some((open.seq(), open.len()))
    }

    /// Ends the stream: all tracks are finished.
    pub fn end(&mut self) {
        for slot in &mut self.slots {
            slot.finish();
        }
        self.slots.clear();
        self.from.clear();
        self.ended_by = self.subscription.as_ref().map(|sub| sub.source);
        self.broadcast.borrow().set_state(BroadcastState::Ended);
        self.turn();
    }

    /// Of a stream that was published on this node so far: its broadcast goes on with what comes
    /// from its new owner. `writers` are those of its tracks.
    #[must_use]
    pub fn attach(broadcast: &Broadcast, writers: Vec<TrackWriter>, patience: Duration) -> Self {
        let mut intake = Self::new(broadcast.name().clone(), *broadcast.limits(), patience);
        intake.broadcast = watch::channel(broadcast.clone()).0;
        intake.slots = writers.into_iter().map(Slot::attach).collect();
        let newest = intake.slots.iter().filter_map(|slot| slot.writer.as_ref()?.track().newest());
        intake.highest = newest.map(|group| group.seq()).max();
        intake
    }

    /// Hands the broadcast over to a publisher of this node: it and the writers of its tracks.
    /// Nothing is taken from elsewhere any more.
    pub fn detach(&mut self) -> (Broadcast, Vec<TrackWriter>) {
        self.subscription = None;
        let writers = self.slots.drain(..).filter_map(|slot| slot.writer).collect();
        // Who watches keeps the broadcast that goes on.
        let fresh = watch::channel(Broadcast::new(self.name.clone(), self.limits)).0;
        let old = std::mem::replace(&mut self.broadcast, fresh);
        let broadcast = old.borrow().clone();
        self.turn();
        (broadcast, writers)
    }

    /// The parent's list of tracks, and the state and epoch that it knows.
    pub fn tracks(
        &mut self,
        source: SourceId,
        epoch: Epoch,
        state: BroadcastState,
        entries: &[TrackEntry],
    ) {
        let Some(sub) = self.subscription.as_mut().filter(|sub| sub.source == source) else {
            return;
        };
        sub.epoch = sub.epoch.max(epoch);
        sub.state = state;
        if sub.epoch < self.fence {
            // Its groups could be of the wrong owner.
            sub.passed_over = true;
            return;
        }
        self.fence = sub.epoch;
        let lacks = sub.route.as_ref().is_some_and(|route| !route.flowing);
        if lacks && state != BroadcastState::Ended {
            // It has not got the stream itself now: its list is of before, or none yet.
            self.stand();
            return;
        }
        let ended = self.broadcast.borrow().state() == BroadcastState::Ended;
        if ended && state != BroadcastState::Ended {
            self.slots.clear();
            self.left.clear();
            self.floor = self.highest;
            self.broadcast.send_replace(Broadcast::new(self.name.clone(), self.limits));
        }
        self.take_list(entries);
        if state != BroadcastState::Ended {
            self.broadcast.borrow().set_state(state);
        }
        self.finish_complete();
        // Last: a child that is told that the stream comes is to find all its tracks.
        self.stand();
        self.turn();
    }

    fn take_list(&mut self, entries: &[TrackEntry]) {
        let broadcast = self.broadcast.borrow().clone();
        let Some(sub) = &mut self.subscription else { return };
        // Gone: not in the list, or a new track under the old name.
        let gone = |track: &SubTrack| !entries.iter().any(|entry| entry.id == track.id);
        for track in sub.tracks.extract_if(.., |track| gone(track)) {
            if let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == track.name) {
                slot.finish();
            }
        }
        self.slots.retain_mut(|slot| {
            let entry = entries.iter().find(|entry| entry.name == slot.name);
            // A track that is finished on both ends stays in the list, as at the parent.
            let is_done = |entry: &TrackEntry| entry.finished.is_some();
            let stays = entry.is_some_and(|entry| slot.writer.is_some() || is_done(entry));
            if !stays {
                if let Some(last) = slot.last() {
                    self.left.retain(|(name, _)| *name != slot.name);
                    if self.left.len() >= self.limits.tracks {
                        self.left.remove(0);
                    }
                    self.left.push((slot.name.clone(), last));
                }
                slot.finish();
                broadcast.remove_track(&slot.name);
            }
            stays
        });
        for entry in entries {
            if !self.slots.iter().any(|slot| slot.name == entry.name) {
                match broadcast.add_track(entry.name.clone(), entry.kind) {
                    Ok(writer) => {
                        let left = self.left.iter().find(|(name, _)| *name == entry.name);
                        let floor = left.map(|(_, last)| *last).max(self.floor);
                        self.slots.push(Slot::new(entry.name.clone(), writer, floor));
                    }
                    // Its groups are refused one by one.
                    Err(error) if sub.tracks.iter().any(|track| track.id == entry.id) => {
                        tracing::debug!(track = %entry.name, %error, "still not added");
                    }
                    Err(error) => {
                        metrics::counter!("headwater_relay_tracks_refused_total").increment(1);
                        tracing::warn!(stream = %self.name, track = %entry.name, %error,
                            "a parent's track cannot be added");
                    }
                }
            }
            match sub.tracks.iter_mut().find(|track| track.id == entry.id) {
                Some(known) => known.finished = entry.finished.or(known.finished),
                None => sub.tracks.push(SubTrack::new(entry)),
            }
        }
    }

    /// Finishes the tracks of which everything has come, and the broadcast with the last.
    fn finish_complete(&mut self) {
        let Some(sub) = &mut self.subscription else { return };
        for track in &mut sub.tracks {
            track.pass_dropped();
            if track.is_complete()
                && let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == track.name)
            {
                slot.finish();
            }
        }
        let all = sub.tracks.iter().all(SubTrack::is_complete);
        if sub.state == BroadcastState::Ended && all {
            self.end();
        }
    }

    /// The parent gave up a group's stream, which may never show up here.
    pub fn dropped(&mut self, source: SourceId, track: u64, order: u64) {
        if let Some(sub) = self.subscription.as_mut().filter(|sub| sub.source == source)
            && let Some(track) = sub.tracks.iter_mut().find(|known| known.id == track)
        {
            track.drop_order(order, STREAMS_WAITING_MAX);
            self.finish_complete();
            self.turn();
        }
    }

    /// Whether the group that a stream of `source` announced at `since` is read now.
    pub fn admit(
        &mut self,
        source: SourceId,
        (id, order): (u64, u64),
        head: (&GroupHeader, u32),
        since: Instant,
        now: Instant,
    ) -> Admission {
        let Some(sub) = self.subscription.as_mut().filter(|sub| sub.source == source) else {
            return Admission::Refuse(RefuseReason::Replaced);
        };
        let deadline = since + self.patience;
        let Some(track) = sub.tracks.iter_mut().find(|track| track.id == id) else {
            // Its list may be under way.
            let late = now >= deadline;
            return if late {
                Admission::Refuse(RefuseReason::UnknownTrack)
            } else {
                Admission::Wait(deadline)
            };
        };
        if order < track.next {
            track.waiting.remove(&order);
            return Admission::Refuse(RefuseReason::Old);
        }
        track.pass_dropped();
        if track.reading.is_some() || order != track.next {
            track.waiting.insert(order);
            if now < deadline && track.waiting.len() <= STREAMS_WAITING_MAX {
                return Admission::Wait(deadline);
            }
            // What comes before the first that waits is given up.
            let first = track.waiting.first().copied().unwrap_or(order);
            track.reading = None;
            track.next = first;
            metrics::counter!("headwater_relay_groups_overtaken_total").increment(1);
            if first != order {
                self.turn();
                return Admission::Wait(now + self.patience);
            }
        }
        let slot = self.slots.iter().find(|slot| slot.name == track.name);
        let rest = slot.and_then(Slot::awaits_rest).filter(|seq| head.0.seq > *seq);
        let rest_until = since + REST_PATIENCE.min(self.patience);
        if rest.is_some() && now < rest_until {
            track.waiting.insert(order);
            return Admission::Wait(rest_until);
        }
        track.waiting.remove(&order);
        track.next = order.saturating_add(1);
        let known = sub.epoch.max(head.0.epoch);
        let rises = known > self.fence;
        sub.epoch = known;
        if sub.passed_over && known >= self.fence {
            // What was passed over is to come first: the subscription begins anew.
            self.fence = known;
            self.stand();
            return Admission::Refuse(RefuseReason::Replaced);
        }
        let name = track.name.clone();
        let taken = if known < self.fence {
            sub.passed_over = true;
            Err(RefuseReason::Fenced)
        } else {
            self.fence = known;
            let slot = self.slots.iter_mut().find(|slot| slot.name == name);
            slot.ok_or(RefuseReason::UnknownTrack).and_then(|slot| slot.begin(head.0, head.1))
        };
        if rises {
            self.stand();
        }
        match taken {
            Ok(()) => {
                self.reading(id, order);
                self.highest = self.highest.max(Some(head.0.seq));
                let (seq, next) = (head.0.seq, head.1);
                Admission::Go(Ticket { source, track: id, order, seq, next })
            }
            Err(reason) => {
                count_refused(reason);
                self.finish_complete();
                self.turn();
                Admission::Refuse(reason)
            }
        }
    }

    fn reading(&mut self, track: u64, order: u64) {
        let tracks = self.subscription.as_mut().map(|sub| &mut sub.tracks);
        if let Some(track) = tracks.and_then(|list| list.iter_mut().find(|one| one.id == track)) {
            track.reading = Some(order);
        }
    }

    /// Where the ticket's frames go.
    fn slot(&mut self, ticket: &Ticket) -> Result<&mut Slot, RefuseReason> {
        let sub = self.subscription.as_mut().filter(|sub| sub.source == ticket.source);
        let sub = sub.ok_or(RefuseReason::Replaced)?;
        if sub.epoch < self.fence {
            sub.passed_over = true;
            return Err(RefuseReason::Fenced);
        }
        let reads = |track: &&SubTrack| track.id == ticket.track;
        let track = sub.tracks.iter().find(reads).ok_or(RefuseReason::UnknownTrack)?;
        if track.reading != Some(ticket.order) {
            return Err(RefuseReason::Old);
        }
        let slot = self.slots.iter_mut().find(|slot| slot.name == track.name);
        slot.ok_or(RefuseReason::UnknownTrack)
    }

    /// Takes the next frame of the ticket's group; one that is here already is passed over.
    ///
    /// # Errors
    /// The stream is of no further use.
    pub fn frame(&mut self, ticket: &mut Ticket, frame: Frame) -> Result<(), RefuseReason> {
        let index = ticket.next;
        ticket.next = index.saturating_add(1);
        let taken = self.slot(ticket).and_then(|slot| slot.frame(ticket.seq, index, frame));
        if let Err(reason) = taken {
            count_refused(reason);
            self.release(ticket);
        }
        taken
    }

    /// The ticket's group has ended and has `frames` frames in all.
    pub fn group_end(&mut self, ticket: &Ticket, frames: u32) {
        if let Ok(slot) = self.slot(ticket) {
            slot.end(ticket.seq, frames);
        }
        self.release(ticket);
    }

    /// The ticket's stream broke off.
    pub fn broken(&mut self, ticket: &Ticket, how: Break) {
        if how == Break::Reset
            && let Ok(slot) = self.slot(ticket)
        {
            slot.tear(ticket.seq);
        }
        self.release(ticket);
    }

    fn release(&mut self, ticket: &Ticket) {
        if let Some(sub) = self.subscription.as_mut().filter(|sub| sub.source == ticket.source)
            && let Some(track) = sub.tracks.iter_mut().find(|track| track.id == ticket.track)
            && track.reading == Some(ticket.order)
        {
            track.reading = None;
            self.finish_complete();
        }
        self.turn();
    }

    /// The group in flight when its owner died ends after `frames` frames, as was agreed.
    pub fn cut(&mut self, track: &TrackName, seq: GroupSeq, frames: u32) -> CutOutcome {
        match self.slots.iter_mut().find(|slot| slot.name == *track) {
            Some(slot) => slot.cut(seq, frames),
            None => CutOutcome::NotOpen,
        }
    }

    /// Adds frames of the open group that were fetched by themselves, `first` being the place of
    /// the first; those that are here already are passed over.
    ///
    /// # Errors
    /// The group is not open, frames before these are missing, or the bus does not take them.
    pub fn fetched(
        &mut self,
        track: &TrackName,
        seq: GroupSeq,
        first: u32,
        frames: Vec<Frame>,
    ) -> Result<(), RefuseReason> {
        let slot = self.slots.iter_mut().find(|slot| slot.name == *track);
        let slot = slot.ok_or(RefuseReason::UnknownTrack)?;
        let taken =
            (first..).zip(frames).try_for_each(|(index, frame)| slot.frame(seq, index, frame));
        // The group that comes next may have waited for these.
        self.turn();
        taken
    }

    fn turn(&self) {
        self.turns.send_modify(|turn| *turn = turn.wrapping_add(1));
    }
}

fn count_refused(reason: RefuseReason) {
    metrics::counter!("headwater_relay_refused_total", "reason" => reason.as_str()).increment(1);
}

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod tests;
