//! How a node comes to own a stream: what it asks other nodes, and the claim that it makes of
//! their answers. Pure: a driver asks, proposes and waits.
//!
//! Numbers are exact where the owner itself could say them (it paused, released, or was asked and
//! stopped for good). Else the claim begins above all that the owner may have used, and the group
//! that was in flight ends at the furthest frame that a node within reach holds.
//!
//! Not here: whether a publisher may have the stream (`headwater`), how a claim is judged
//! (`state`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use headwater_media::id::{DiscontinuitySeq, Epoch, GroupSeq, SessionId, StreamName, TrackName};
use serde::{Deserialize, Serialize};

use crate::command::{Answer, Claim, Cut, Grant, NodeState, Refusal, Role};
use crate::id::{Incarnation, NodeId, WallTime};
use crate::state::{CUT_TRACKS_MAX, Publisher};
use crate::view::View;

/// How long nodes have to say how far they are. Ten times a round trip within a continent's
/// cluster would be 300 ms; one that is slower is not waited for, as its viewers have less.
pub const ASK_MAX: Duration = Duration::from_millis(100);
/// How often a claim is made anew because the stream's epoch had moved on. Each time somebody
/// else won; more than a few in a row are a fight that a policy must end.
pub const ATTEMPTS_MAX: u32 = 8;

/// How far a node has a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The epoch that this is about: the highest of which the node has anything.
    #[serde(with = "crate::id::epoch")]
    pub epoch: Epoch,
    /// The node is the epoch's owner, and has stopped for good before it answered. Then all the
    /// rest is exact.
    pub fenced: bool,
    /// The number after the highest group of which the node has anything.
    #[serde(with = "crate::id::group_seq")]
    pub next_group: GroupSeq,
    /// The highest discontinuity number that it has seen.
    #[serde(with = "crate::id::discontinuity_seq")]
    pub discontinuity: DiscontinuitySeq,
    /// How far each track goes.
    pub tracks: Vec<TrackProgress>,
}

/// How far a node has a track: all before this frame, without a gap.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrackProgress {
    /// The track.
    #[serde(with = "crate::id::track_name")]
    pub track: TrackName,
    /// Its newest group.
    #[serde(with = "crate::id::group_seq")]
    pub group: GroupSeq,
    /// How many of its frames the node has.
    pub frames: u32,
}

/// A publisher's wish.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The stream.
    pub stream: StreamName,
    /// This node.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
    /// The publisher's session.
    pub session: SessionId,
    /// The policy lets it take the stream from another publisher.
    pub takeover: bool,
    /// The number to begin at, at least.
    pub first_group: GroupSeq,
}

/// What is to be done next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask these nodes how far they are; the `owner` among them is to stop for good first. Give
    /// each answer to [`Claiming::on_progress`], each failure to [`Claiming::on_silence`].
    Ask {
        /// Whom.
        nodes: Vec<NodeId>,
        /// Who must stop for good before it answers.
        owner: NodeId,
        /// The epoch in which it must.
        epoch: Epoch,
    },
    /// Nothing before this time, unless an answer comes.
    WaitUntil(Instant),
    /// Propose this, and give the answer to [`Claiming::on_answer`]. Where the outcome is unknown,
    /// the same claim may be proposed again.
    Propose(Box<Claim>),
    /// Wait until the node's view has the stream at this epoch, then go on with
    /// [`Claiming::on_view`].
    WaitForView(Epoch),
    /// The end.
    Done(Result<Grant, Refusal>),
}

/// A claim on its way.
#[derive(Debug)]
pub struct Claiming {
    wish: Wish,
    attempts: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Ask(Asking),
    Asked(Asking),
    Propose(Box<Claim>),
    Proposed,
    View(Epoch),
    Done(Result<Grant, Refusal>),
}

#[derive(Debug)]
struct Asking {
    owner: NodeId,
    epoch: Epoch,
    silent: BTreeSet<NodeId>,
    until: Instant,
    wall: WallTime,
    next_group: GroupSeq,
    discontinuity: Option<DiscontinuitySeq>,
    furthest: BTreeMap<TrackName, (GroupSeq, u32)>,
    /// The owner's own word.
    exact: Option<Progress>,
}

impl Claiming {
    /// Begins with what the node's replica knows. `wall` goes into the claim.
    #[must_use]
    pub fn new(wish: Wish, view: &View, now: Instant, wall: WallTime) -> Self {
        let phase = begin(&wish, view, now, wall);
        Self { wish, attempts: 1, phase }
    }

    /// What is to be done next. Asks and proposals are told once.
    pub fn poll(&mut self, now: Instant) -> Step {
        if let Phase::Asked(asking) = &self.phase
            && (asking.exact.is_some() || asking.silent.is_empty() || now >= asking.until)
        {
            self.phase = Phase::Propose(Box::new(asking.claim(&self.wish)));
        }
        match std::mem::replace(&mut self.phase, Phase::Proposed) {
            Phase::Ask(asking) => {
                let step = Step::Ask {
                    nodes: asking.silent.iter().copied().collect(),
                    owner: asking.owner,
                    epoch: asking.epoch,
                };
                self.phase = Phase::Asked(asking);
                step
            }
            Phase::Asked(asking) => {
                let until = asking.until;
                self.phase = Phase::Asked(asking);
                Step::WaitUntil(until)
            }
            Phase::Propose(claim) => Step::Propose(claim),
            Phase::Proposed => Step::WaitUntil(now + ASK_MAX),
            Phase::View(epoch) => {
                self.phase = Phase::View(epoch);
                Step::WaitForView(epoch)
            }
            Phase::Done(result) => {
                self.phase = Phase::Done(result.clone());
                Step::Done(result)
            }
        }
    }

    /// A node says how far it is.
    pub fn on_progress(&mut self, from: NodeId, progress: Progress) {
        if let Phase::Asked(asking) = &mut self.phase {
            asking.silent.remove(&from);
            asking.take(from, progress);
        }
    }

    /// A node has nothing of the stream, or does not answer.
    pub fn on_silence(&mut self, from: NodeId) {
        if let Phase::Asked(asking) = &mut self.phase {
            asking.silent.remove(&from);
        }
    }

    /// The proposal was answered.
    pub fn on_answer(&mut self, answer: Answer) {
        self.phase = match answer {
            Answer::Granted(grant) => Phase::Done(Ok(grant)),
            Answer::Refused(Refusal::Stale { current }) if self.attempts < ATTEMPTS_MAX => {
                Phase::View(current)
            }
            Answer::Refused(refusal) => Phase::Done(Err(refusal)),
            // No state machine of this version says so; the claimer can only give up.
            Answer::Nothing | Answer::Done | Answer::Extended { .. } | Answer::Redeemed { .. } => {
                Phase::Done(Err(Refusal::Stale { current: Epoch(0) }))
            }
        };
    }

    /// The node's replica has caught up: begins anew.
    pub fn on_view(&mut self, view: &View, now: Instant, wall: WallTime) {
        if matches!(self.phase, Phase::View(_)) {
            self.attempts += 1;
            self.phase = begin(&self.wish, view, now, wall);
        }
    }
}

fn begin(wish: &Wish, view: &View, now: Instant, wall: WallTime) -> Phase {
    let record = view.stream(&wish.stream);
    let granted_nothing = view.node(wish.node).is_some_and(|node| {
        node.state() != NodeState::Up || node.info.incarnation != wish.incarnation
    });
    let asking = record.filter(|record| {
        let alive = view.is_alive(record.claimant.node, record.claimant.incarnation);
        // One that would be refused asks nobody: the owner would stop for nothing. One whose own
        // answer was lost has nothing to ask either.
        record.publisher == Publisher::Live
            && (wish.takeover || !alive)
            && record.session != wish.session
            && !granted_nothing
    });
    let Some(record) = asking else {
        // Nobody publishes it: the numbers are exact as they are. Or somebody does: let the
        // leader say so.
        let claim = Claim {
            stream: wish.stream.clone(),
            node: wish.node,
            incarnation: wish.incarnation,
            session: wish.session,
            expects: view.epoch_of(&wish.stream),
            takeover: wish.takeover,
            owner_answered: false,
            first_group: wish.first_group,
            discontinuity: DiscontinuitySeq(0),
            cut: Vec::new(),
            now: wall,
        };
        return Phase::Propose(Box::new(claim));
    };
    let owner = record.claimant.node;
    // Relays are not asked. There may be hundreds, behind addresses that nobody can call; what they
    // alone have of the last group they mark as torn.
    let mut silent: BTreeSet<NodeId> = (view.nodes())
        .filter(|node| node.info.role == Role::Origin && node.state() != NodeState::Down)
        .map(|node| node.info.id)
        .collect();
    // It may be alive after all, and then its word is exact.
    silent.insert(owner);
    Phase::Ask(Asking {
        owner,
        epoch: record.epoch(),
        silent,
        until: now + ASK_MAX,
        wall,
        next_group: wish.first_group,
        discontinuity: None,
        furthest: BTreeMap::new(),
        exact: None,
    })
}

impl Asking {
    fn take(&mut self, from: NodeId, progress: Progress) {
        // What a node has of an older epoch says nothing; a newer epoch makes the claim stale.
        if progress.epoch != self.epoch {
            return;
        }
        self.next_group = self.next_group.max(progress.next_group);
        self.discontinuity = self.discontinuity.max(Some(progress.discontinuity));
        for TrackProgress { track, group, frames } in &progress.tracks {
            let full = self.furthest.len() >= CUT_TRACKS_MAX;
            if full && !self.furthest.contains_key(track) {
                continue;
            }
            let furthest = self.furthest.entry(track.clone()).or_insert((*group, *frames));
            *furthest = (*furthest).max((*group, *frames));
        }
        if from == self.owner && progress.fenced {
            self.exact = Some(progress);
        }
    }

    fn claim(&self, wish: &Wish) -> Claim {
        let next_group = self.exact.as_ref().map_or(self.next_group, |exact| exact.next_group);
        let cut = match &self.exact {
            Some(exact) => (exact.tracks.iter().take(CUT_TRACKS_MAX))
                .map(|t| Cut { track: t.track.clone(), group: t.group, frames: t.frames })
                .collect(),
            None => (self.furthest.iter())
                .map(|(track, (group, frames))| Cut {
                    track: track.clone(),
                    group: *group,
                    frames: *frames,
                })
                .collect(),
        };
        Claim {
            stream: wish.stream.clone(),
            node: wish.node,
            incarnation: wish.incarnation,
            session: wish.session,
            expects: self.epoch,
            takeover: wish.takeover,
            owner_answered: self.exact.is_some(),
            first_group: next_group.max(wish.first_group),
            discontinuity: self.discontinuity.map_or(DiscontinuitySeq(0), DiscontinuitySeq::next),
            cut,
            now: self.wall,
        }
    }
}

#[cfg(test)]
mod tests;
