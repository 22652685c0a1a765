//! A publisher's session on a node: claims a stream, publishes groups, reserves numbers, stops.
//!
//! Not here: the claim protocol itself (`crate::claim`).

use std::sync::Arc;
use std::time::Duration;

use headwater_media::id::{GroupSeq, SessionId, StreamName};

use super::Chance;
use super::linear::{Call, Op, Outcome};
use super::net::Process;
use super::node::Owned;
use super::world::World;
use crate::claim::{Claiming, Step, Wish};
use crate::command::{Answer, Claim, Command, Extension, Grant, Refusal, Stop};
use crate::id::Incarnation;
use crate::state::{Owner, RESERVE_GROUPS};

/// How long a session tries to get its stream.
const CLAIM_WITHIN: Duration = Duration::from_secs(3);

/// A session.
pub(super) struct Session {
    pub(super) world: Arc<World>,
    pub(super) process: Process,
    pub(super) stream: StreamName,
    pub(super) chance: Chance,
}

impl Session {
    pub(super) async fn run(mut self) {
        let takeover = self.chance.permille(500);
        let Some(grant) = self.claim(takeover).await else { return };
        self.publish(grant).await;
    }

    /// Claims the stream; `None` if it was refused, or the node died.
    pub(super) async fn claim(&mut self, takeover: bool) -> Option<Grant> {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.chance.next().to_be_bytes());
        let session = SessionId::from_random(random);
        let world = self.world.clone();
        let deadline = tokio::time::Instant::now() + CLAIM_WITHIN;
        let wish = Wish {
            stream: self.stream.clone(),
            node: self.process.0,
            incarnation: Incarnation(self.process.1),
            session,
            takeover,
            first_group: GroupSeq(0),
        };
        let now = || tokio::time::Instant::now().into_std();
        let view = world.view(self.process)?;
        let mut claiming = Claiming::new(wish, &view, now(), world.wall(self.process));
        loop {
            if tokio::time::Instant::now() >= deadline {
                return None;
            }
            match claiming.poll(now()) {
                Step::Ask { nodes, epoch, .. } => {
                    let mut asked = tokio::task::JoinSet::new();
                    for node in nodes {
                        let (world, stream) = (world.clone(), self.stream.clone());
                        let from = self.process;
                        asked.spawn(async move {
                            (node, world.ask_progress(from, node, stream, epoch).await)
                        });
                    }
                    let within = tokio::time::Instant::now() + crate::claim::ASK_MAX;
                    while let Ok(Some(Ok((node, progress)))) =
                        tokio::time::timeout_at(within, asked.join_next()).await
                    {
                        match progress {
                            Some(progress) => claiming.on_progress(node, progress),
                            None => claiming.on_silence(node),
                        }
                    }
                }
                Step::WaitUntil(until) => tokio::time::sleep_until(until.into()).await,
                Step::Propose(claim) => {
                    let (index, answer) = self.propose_claim(&claim).await?;
                    if let Answer::Granted(grant) = answer {
                        let owner = Owner { node: claim.node, incarnation: claim.incarnation };
                        let mut ledger = world.ledger.lock();
                        ledger.acknowledge(index, &self.stream, owner, session, grant);
                    }
                    claiming.on_answer(answer);
                }
                Step::WaitForView(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    let view = world.view(self.process)?;
                    claiming.on_view(&view, now(), world.wall(self.process));
                }
                Step::Done(result) => return result.ok(),
            }
        }
    }

    /// Proposes until there is an answer; each try is a call of its own in the history, for one
    /// that was given up may still happen.
    async fn propose_claim(&mut self, claim: &Claim) -> Option<(u64, Answer)> {
        let op =
            Op::Claim { session: claim.session, expects: claim.expects, takeover: claim.takeover };
        let command = Command::Claim(claim.clone());
        for _ in 0..4 {
            if let Some(answered) = self.call(op, &command).await {
                return Some(answered);
            }
        }
        None
    }

    async fn call(&mut self, op: Op, command: &Command) -> Option<(u64, Answer)> {
        let began = self.world.ticks();
        let answered = self.world.propose(self.process, command, &mut self.chance).await;
        let outcome = match &answered {
            None => Outcome::Unknown,
            Some((_, Answer::Granted(grant))) => Outcome::Granted(grant.epoch),
            Some((_, Answer::Refused(Refusal::Stale { current }))) => Outcome::Stale(*current),
            Some((_, Answer::Refused(Refusal::Busy { .. }))) => Outcome::Busy,
            Some((_, Answer::Done)) => Outcome::Done,
            Some(_) => Outcome::Refused,
        };
        let call = Call { op, outcome, began, ended: self.world.ticks() };
        self.world.ledger.lock().calls.entry(self.stream.clone()).or_default().push(call);
        answered
    }

    async fn publish(&mut self, grant: Grant) {
        let owned = Owned {
            epoch: grant.epoch,
            next_group: grant.first_group,
            reserved_to: grant.reserved_to,
            discontinuity: grant.discontinuity,
            fenced: false,
        };
        if !self.world.own(self.process, &self.stream, owned) {
            return;
        }
        for _ in 0..self.chance.range(3, 60) {
            tokio::time::sleep(Duration::from_millis(self.chance.range(5, 60))).await;
            // Gone, fenced, or replaced by somebody else.
            let Some(owned) = self.world.publish_group(self.process, &self.stream, grant.epoch)
            else {
                return;
            };
            let left = owned.reserved_to.0 - owned.next_group.0;
            if left <= RESERVE_GROUPS / 2 && !self.extend(&owned).await {
                return;
            }
        }
        if self.chance.permille(200) {
            // The publisher vanishes, and the node never says so.
            return;
        }
        let Some(owned) = self.world.disown(self.process, &self.stream, grant.epoch) else {
            return;
        };
        let stop = Stop {
            stream: self.stream.clone(),
            epoch: grant.epoch,
            next_group: owned.next_group,
            discontinuity: owned.discontinuity,
            now: self.world.wall(self.process),
        };
        let command =
            if self.chance.permille(500) { Command::Pause(stop) } else { Command::Release(stop) };
        for _ in 0..3 {
            if self.call(Op::Stop { epoch: grant.epoch }, &command).await.is_some() {
                return;
            }
        }
    }

    /// Reserves more numbers; false if the stream is no longer this node's.
    async fn extend(&mut self, owned: &Owned) -> bool {
        let reserved_to = GroupSeq(owned.next_group.0 + RESERVE_GROUPS);
        let command = Command::Extend {
            node: self.process.0,
            incarnation: Incarnation(self.process.1),
            streams: vec![Extension {
                stream: self.stream.clone(),
                epoch: owned.epoch,
                reserved_to,
                discontinuity: owned.discontinuity,
            }],
        };
        match self.world.propose(self.process, &command, &mut self.chance).await {
            Some((_, Answer::Extended { stale })) if stale.is_empty() => {
                self.world.reserve(self.process, &self.stream, owned.epoch, reserved_to);
                true
            }
            Some((_, Answer::Extended { .. })) => false,
            // Unknown: it goes on with what it has.
            _ => true,
        }
    }
}
