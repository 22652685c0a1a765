//! Who owns a stream: claims, reservations, pauses, releases; and the numbers, which outlive them.
//!
//! Not here: nodes (`nodes`); what is asked of other nodes before a claim (`crate::claim`).

use headwater_media::id::{DiscontinuitySeq, Epoch, GroupSeq, SessionId, StreamName};
use serde::{Deserialize, Serialize};

use super::{
    Applied, CUT_TRACKS_MAX, DISCONTINUITY_MAX, EXTENSIONS_MAX, GROUP_MAX, RESERVE_GROUPS,
    STARTS_KEPT, State,
};
use crate::command::{
    Answer, Claim, Cut, Extension, Field, Grant, NodeState, Refusal, Role, StaleStream, Stop,
};
use crate::id::{Incarnation, NodeId, WallTime};

/// A start of a node's process, as the holder of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
}

/// Whether a stream has a publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Publisher {
    /// It publishes at the owner.
    Live,
    /// It left; the owner keeps the broadcast for a while, and any node may claim it.
    Waiting,
    /// The stream is ended; only its numbers are kept.
    None,
}

/// Where an epoch begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The epoch.
    #[serde(with = "crate::id::epoch")]
    pub epoch: Epoch,
    /// Its first group.
    #[serde(with = "crate::id::group_seq")]
    pub first_group: GroupSeq,
    /// The discontinuity number of that group.
    #[serde(with = "crate::id::discontinuity_seq")]
    pub discontinuity: DiscontinuitySeq,
    /// Where the tracks of the epoch before end.
    pub cut: Vec<Cut>,
}

/// What is known of a stream's name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Who was granted the epoch. Holds the stream unless `publisher` is `None`.
    pub claimant: Owner,
    /// Whether it has a publisher.
    pub publisher: Publisher,
    /// The publisher's session.
    #[serde(with = "crate::id::session_id")]
    pub session: SessionId,
    /// What the newest claim was granted.
    pub grant: Grant,
    /// The number at which the next claim begins, at least: all lower ones may have been used.
    #[serde(with = "crate::id::group_seq")]
    pub reserved_to: GroupSeq,
    /// The highest discontinuity number that is known to be used.
    #[serde(with = "crate::id::discontinuity_seq")]
    pub discontinuity: DiscontinuitySeq,
    /// The newest epochs' beginnings, newest last, [`STARTS_KEPT`] at most.
    pub starts: Vec<Start>,
    /// When the epoch began, by the claimer's clock.
    pub since: WallTime,
    /// The log index of the record's last change.
    pub changed: u64,
    /// The log index at which it ended.
    pub(crate) ended: Option<u64>,
}

impl StreamRecord {
    /// Who holds the stream now.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        (self.publisher != Publisher::None).then_some(self.claimant)
    }

    /// The stream's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.grant.epoch
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.grant.epoch == Epoch(0) {
            return Err("the epoch is 0");
        }
        if self.reserved_to < self.grant.first_group {
            return Err("the next claim would begin below this one");
        }
        if self.reserved_to.0 > GROUP_MAX {
            return Err("the numbers are used up");
        }
        if self.discontinuity < self.grant.discontinuity {
            return Err("the discontinuity number fell");
        }
        if self.ended.is_some() != (self.publisher == Publisher::None) {
            return Err("ended and not ended");
        }
        if self.starts.len() > STARTS_KEPT || !self.starts.is_sorted_by_key(|start| start.epoch) {
            return Err("the starts are not in order");
        }
        if self.starts.last().map(|start| start.epoch) != Some(self.grant.epoch) {
            return Err("the newest start is not the epoch's");
        }
        Ok(())
    }

    /// Takes over the exact numbers of an owner that stopped.
    fn stop(&mut self, stop: &Stop) {
        let next = stop.next_group.max(self.grant.first_group);
        self.reserved_to = match self.publisher {
            Publisher::Live => next,
            // The numbers are exact already; they never fall.
            Publisher::Waiting | Publisher::None => next.max(self.reserved_to),
        };
        self.discontinuity = self.discontinuity.max(stop.discontinuity);
    }
}

/// Where the numbers of unknown names begin: above those of every name that was forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Floor {
    /// The epoch that an unknown name counts as having.
    #[serde(with = "crate::id::epoch")]
    pub epoch: Epoch,
    /// The first group of an unknown name, at least.
    #[serde(with = "crate::id::group_seq")]
    pub group: GroupSeq,
    /// The first discontinuity number of an unknown name, at least.
    #[serde(with = "crate::id::discontinuity_seq")]
    pub discontinuity: DiscontinuitySeq,
}

impl Default for Floor {
    fn default() -> Self {
        Self { epoch: Epoch(0), group: GroupSeq(0), discontinuity: DiscontinuitySeq(0) }
    }
}

impl Floor {
    fn raise_over(&mut self, record: &StreamRecord) {
        // Above the epoch itself: what was claimed while it stood may arrive late, and finds another.
        self.epoch = self.epoch.max(record.grant.epoch.next());
        self.group = self.group.max(record.reserved_to);
        self.discontinuity = self.discontinuity.max(record.discontinuity.next());
    }
}

fn check_group(group: GroupSeq) -> Result<(), Refusal> {
    // Room for what a claim reserves.
    if group.0 > GROUP_MAX - RESERVE_GROUPS {
        return Err(Refusal::OverLimit { what: Field::Group });
    }
    Ok(())
}

fn check_discontinuity(number: DiscontinuitySeq) -> Result<(), Refusal> {
    if number.0 > DISCONTINUITY_MAX {
        return Err(Refusal::OverLimit { what: Field::Discontinuity });
    }
    Ok(())
}

impl State {
    pub(super) fn claim(&mut self, index: u64, claim: &Claim) -> Applied {
        check_claim(claim)?;
        let claimant = Owner { node: claim.node, incarnation: claim.incarnation };
        let record = self.directory.streams.get(&claim.stream).cloned();
        if let Some(record) = &record
            && record.session == claim.session
            && record.claimant == claimant
            && claim.expects <= record.grant.epoch
        {
            return Ok(Answer::Granted(record.grant));
        }
        self.check_claimant(claimant)?;
        if let Some(record) = &record
            && record.publisher == Publisher::Live
            && !claim.takeover
            && self.is_alive(record.claimant)
        {
            return Err(Refusal::Busy { owner: record.claimant.node });
        }
        let floor = self.directory.floor;
        let current = record.as_ref().map_or(floor.epoch, |record| record.grant.epoch);
        if claim.expects != current {
            return Err(Refusal::Stale { current });
        }
        let (base, discontinuity) = match &record {
            None => (floor.group, floor.discontinuity),
            Some(record) => {
                // Once it is paused or ended its numbers are exact, and nobody knows better.
                let exact = claim.owner_answered && record.publisher == Publisher::Live;
                let base = if exact { record.grant.first_group } else { record.reserved_to };
                (base, record.discontinuity.next())
            }
        };
        let first_group = base.max(claim.first_group);
        let discontinuity = discontinuity.max(claim.discontinuity);
        check_group(first_group)?;
        check_discontinuity(discontinuity)?;
        self.make_room(record.is_some(), record.as_ref().is_some_and(|r| r.ended.is_none()))?;
        let grant = Grant {
            epoch: current.next(),
            first_group,
            discontinuity,
            reserved_to: GroupSeq(first_group.0 + RESERVE_GROUPS),
        };
        let mut starts = record.map_or_else(Vec::new, |record| record.starts.clone());
        if starts.len() >= STARTS_KEPT {
            starts.remove(0);
        }
        starts.push(Start {
            epoch: grant.epoch,
            first_group,
            discontinuity,
            cut: claim.cut.clone(),
        });
        self.set_record(
            &claim.stream,
            StreamRecord {
                claimant,
                publisher: Publisher::Live,
                session: claim.session,
                grant,
                reserved_to: grant.reserved_to,
                discontinuity,
                starts,
                since: claim.now,
                changed: index,
                ended: None,
            },
        );
        Ok(Answer::Granted(grant))
    }

    pub(super) fn extend(
        &mut self,
        index: u64,
        node: NodeId,
        incarnation: Incarnation,
        streams: &[Extension],
    ) -> Applied {
        if streams.len() > EXTENSIONS_MAX {
            return Err(Refusal::OverLimit { what: Field::List });
        }
        for wish in streams {
            check_group(wish.reserved_to)?;
            check_discontinuity(wish.discontinuity)?;
        }
        let owner = Owner { node, incarnation };
        let floor = self.directory.floor.epoch;
        let mut stale = Vec::new();
        for wish in streams {
            let current = self.directory.streams.get(&wish.stream);
            let owned = current.is_some_and(|record| {
                record.grant.epoch == wish.epoch
                    && record.claimant == owner
                    && record.publisher == Publisher::Live
            });
            if !owned {
                let current = current.map_or(floor, |record| record.grant.epoch);
                stale.push(StaleStream { stream: wish.stream.clone(), current });
                continue;
            }
            self.directory.streams.change(&wish.stream, |record| {
                if wish.reserved_to > record.reserved_to
                    || wish.discontinuity > record.discontinuity
                {
                    record.reserved_to = record.reserved_to.max(wish.reserved_to);
                    record.discontinuity = record.discontinuity.max(wish.discontinuity);
                    record.changed = index;
                }
            });
        }
        Ok(Answer::Extended { stale })
    }

    pub(super) fn pause(&mut self, index: u64, stop: &Stop) -> Applied {
        let mut record = self.stopping(stop)?;
        if record.publisher == Publisher::Live {
            record.stop(stop);
            record.publisher = Publisher::Waiting;
            record.changed = index;
            self.set_record(&stop.stream, record);
        }
        Ok(Answer::Done)
    }

    pub(super) fn release(&mut self, index: u64, stop: &Stop) -> Applied {
        let mut record = self.stopping(stop)?;
        if record.publisher != Publisher::None {
            record.stop(stop);
            record.publisher = Publisher::None;
            record.changed = index;
            record.ended = Some(index);
            self.set_record(&stop.stream, record);
        }
        Ok(Answer::Done)
    }

    /// Ends the streams of starts of `node` before `incarnation` (of all starts, if `None`): no
    /// such process is left that could publish them.
    pub(super) fn end_streams_of(&mut self, index: u64, node: NodeId, before: Option<Incarnation>) {
        let gone = |record: &StreamRecord| {
            record.publisher != Publisher::None
                && record.claimant.node == node
                && before.is_none_or(|before| record.claimant.incarnation < before)
        };
        let names: Vec<StreamName> = (self.directory.streams.iter())
            .filter(|(_, record)| gone(record))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(record) = self.directory.streams.get(&name) else { continue };
            let mut record = StreamRecord::clone(record);
            record.publisher = Publisher::None;
            record.changed = index;
            record.ended = Some(index);
            self.set_record(&name, record);
        }
    }

    fn stopping(&self, stop: &Stop) -> Result<StreamRecord, Refusal> {
        check_group(stop.next_group)?;
        check_discontinuity(stop.discontinuity)?;
        match self.directory.streams.get(&stop.stream) {
            Some(record) if record.grant.epoch == stop.epoch => Ok(StreamRecord::clone(record)),
            Some(record) => Err(Refusal::Stale { current: record.grant.epoch }),
            None => Err(Refusal::Stale { current: self.directory.floor.epoch }),
        }
    }

    fn check_claimant(&self, claimant: Owner) -> Result<(), Refusal> {
        let Some(node) = self.directory.nodes.get(&claimant.node) else {
            return Err(Refusal::UnknownNode);
        };
        if node.info.incarnation != claimant.incarnation {
            return Err(Refusal::OtherIncarnation { current: node.info.incarnation });
        }
        if node.info.role != Role::Origin {
            return Err(Refusal::NotAnOrigin);
        }
        match node.state() {
            NodeState::Up => Ok(()),
            NodeState::Down => Err(Refusal::NodeDown),
            NodeState::Draining => Err(Refusal::NodeDraining),
        }
    }

    fn is_alive(&self, owner: Owner) -> bool {
        self.directory.nodes.get(&owner.node).is_some_and(|node| {
            node.info.incarnation == owner.incarnation && node.state() != NodeState::Down
        })
    }

    /// Sees to it that one more stream may be owned, and one more name be known.
    fn make_room(&mut self, known: bool, owned: bool) -> Result<(), Refusal> {
        let settings = self.directory.config.settings;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        if !owned && count(self.directory.owned) >= settings.streams_max {
            return Err(Refusal::TooManyStreams { max: settings.streams_max });
        }
        while !known && count(self.directory.streams.len()) >= settings.names_max {
            let Some((_, oldest)) = self.ended.pop_first() else {
                return Err(Refusal::TooManyStreams { max: settings.names_max });
            };
            if let Some(record) = self.directory.streams.remove(&oldest) {
                self.directory.floor.raise_over(&record);
            }
        }
        Ok(())
    }

    /// Sets a record, and what is counted of it.
    pub(super) fn set_record(&mut self, name: &StreamName, record: StreamRecord) {
        if let Some(old) = self.directory.streams.get(name) {
            match old.ended {
                Some(index) => {
                    self.ended.remove(&(index, name.clone()));
                }
                None => self.directory.owned -= 1,
            }
        }
        match record.ended {
            Some(index) => {
                self.ended.insert((index, name.clone()));
            }
            None => self.directory.owned += 1,
        }
        debug_assert_eq!(record.check(), Ok(()), "{name}: {record:?}");
        self.directory.streams.insert(name.clone(), record);
    }
}

fn check_claim(claim: &Claim) -> Result<(), Refusal> {
    check_group(claim.first_group)?;
    check_discontinuity(claim.discontinuity)?;
    if claim.cut.len() > CUT_TRACKS_MAX {
        return Err(Refusal::OverLimit { what: Field::List });
    }
    claim.cut.iter().try_for_each(|cut| check_group(cut.group))
}
