//! One stream that is taken: keeps it on the parent that `choice` says.
//!
//! Driver: it talks to hops. Not here: which nodes may be the parent (`Parents`), viewers (`pulls`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::{Broadcast, BroadcastState, Epoch, TrackWriter};

use super::{Candidate, Parents, Wanted, Way};
use crate::choice::{Choice, ChoiceOptions, Fitness, Offer, Why};
use crate::hop::{Command, Hop, TakenStream};
use crate::intake::SourceId;
use crate::parent::Refusal;

/// A stream that is taken from elsewhere.
pub(super) struct Entry {
    pub(super) taken: Arc<TakenStream>,
    pub(super) viewers: usize,
    /// Since when there are none.
    pub(super) idle_since: Option<Instant>,
    current: Option<Current>,
    choice: Choice,
    /// When to ask who the parent is, at the latest.
    look_at: Instant,
    must_look: bool,
    failed: Option<Refusal>,
}

struct Current {
    hop: Hop,
    source: SourceId,
}

impl Current {
    fn leave(self) {
        // A hop that is over has left by itself.
        let _ = self.hop.command(Command::Unsubscribe { source: self.source });
    }
}

impl Entry {
    pub(super) fn new(taken: TakenStream, options: ChoiceOptions, now: Instant) -> Self {
        Self {
            taken: Arc::new(taken),
            viewers: 0,
            idle_since: None,
            current: None,
            choice: Choice::new(options, now),
            look_at: now,
            must_look: true,
            failed: None,
        }
    }

    /// The node that the stream is taken from now.
    pub(super) fn parent(&self) -> Option<u64> {
        self.choice.current()
    }

    /// Who may be the parent has changed.
    pub(super) fn reconsider(&mut self) {
        self.must_look = true;
    }

    /// The stream has an owner of this epoch.
    pub(super) fn fence(&mut self, epoch: Epoch) {
        self.taken.intake.lock().fence(epoch);
        self.choice.forgive();
        self.reconsider();
    }

    pub(super) fn let_go(&mut self) {
        if let Some(current) = self.current.take() {
            current.leave();
        }
        self.taken.intake.lock().end();
        metrics::gauge!("headwater_relay_pulled_streams").decrement(1.0);
        tracing::info!(stream = %self.taken.name, "the last viewer is gone: let go");
    }

    /// Hands the broadcast and the writers of its tracks over.
    pub(super) fn detach(self) -> (Broadcast, Vec<TrackWriter>) {
        let detached = self.taken.intake.lock().detach();
        if let Some(current) = self.current {
            current.leave();
        }
        detached
    }

    /// Does what is due; when the next step is.
    pub(super) fn step(
        &mut self,
        parents: &dyn Parents,
        last_source: &mut u64,
        orphaned_after: Duration,
        now: Instant,
    ) -> Instant {
        self.check(last_source, now);
        if self.must_look || self.look_at <= now {
            self.look(parents, last_source, now);
        }
        self.end_orphan(orphaned_after, now);
        self.look_at
    }

    /// Notices that the parent has refused, ended or fallen silent, or has not got the stream.
    fn check(&mut self, last_source: &mut u64, now: Instant) {
        let Some(current) = &self.current else { return };
        let source = current.source;
        let refused = self.taken.refused.lock().take();
        if let Some((_, refusal)) = refused.filter(|(of, _)| *of == source) {
            self.failed = Some(refusal);
            self.current = None;
            self.choice.blame(now);
            self.must_look = true;
            return;
        }
        let (closed, silent) = {
            let status = current.hop.status();
            let status = status.borrow();
            (status.closed, status.silent)
        };
        let mut intake = self.taken.intake.lock();
        if closed || intake.ended_by() == Some(source) {
            drop(intake);
            if let Some(current) = self.current.take() {
                current.leave();
            }
            if closed {
                self.choice.lost(now);
            } else {
                self.choice.blame(now);
            }
            self.must_look = true;
            return;
        }
        intake.silent(source, silent);
        let (brings, resumes) = (intake.brings(source), intake.wants_resume(source));
        drop(intake);
        self.choice.observe(brings, now);
        if !current.hop.is_usable() {
            // It may come back: it is left for another one only.
            self.must_look = true;
        }
        if resumes {
            let hop = current.hop.clone();
            tracing::debug!(stream = %self.taken.name, "going on with the parent's new epoch");
            self.subscribe(hop, last_source);
        }
    }

    fn look(&mut self, parents: &dyn Parents, last_source: &mut u64, now: Instant) {
        let candidates = parents.parents(Wanted {
            stream: &self.taken.name,
            refusal: self.failed.as_ref(),
            starves: self.choice.starves(now),
        });
        let offers: Vec<_> = candidates.iter().map(|one| offer(one, now)).collect();
        let decision = self.choice.choose(&offers, now);
        self.look_at = decision.again_at;
        self.must_look = false;
        let Some((node, why)) = decision.go else { return };
        let chosen = candidates.into_iter().find(|one| one.node == node);
        let Some(Candidate { way: Way::Hop(hop), .. }) = chosen else { return };
        if self.subscribe(hop, last_source) {
            self.choice.took(node, now);
            self.tell(node, why);
        }
    }

    fn tell(&self, node: u64, why: Why) {
        let reason = why.as_str();
        metrics::counter!("headwater_relay_switches_total", "reason" => reason).increment(1);
        tracing::info!(stream = %self.taken.name, node, reason, "the stream is taken from");
    }

    /// Takes the stream by `hop` from now on. False if the hop is too busy or over.
    fn subscribe(&mut self, hop: Hop, last_source: &mut u64) -> bool {
        *last_source += 1;
        let source = SourceId(*last_source);
        let taken = Arc::clone(&self.taken);
        if !hop.command(Command::Subscribe { taken, source, terms: None }) {
            return false;
        }
        metrics::counter!("headwater_relay_subscribes_total").increment(1);
        if let Some(old) = self.current.replace(Current { hop, source }) {
            old.leave();
        }
        true
    }

    /// Ends the stream here when nobody has brought it for as long as there was something to show.
    fn end_orphan(&mut self, orphaned_after: Duration, now: Instant) {
        let Some(since) = self.choice.starved_since() else { return };
        if now < since + orphaned_after {
            self.look_at = self.look_at.min(since + orphaned_after);
            return;
        }
        let mut intake = self.taken.intake.lock();
        let has_begun = intake.has_begun();
        if has_begun && intake.broadcast().borrow().state() != BroadcastState::Ended {
            intake.end();
            drop(intake);
            metrics::counter!("headwater_relay_orphans_total").increment(1);
            tracing::warn!(stream = %self.taken.name,
                "no node has brought the stream for a while: it ends here until one does");
        }
    }
}

fn offer(candidate: &Candidate, now: Instant) -> Offer {
    let fitness = match &candidate.way {
        Way::Opening => Fitness::Opening,
        Way::None => Fitness::Unfit,
        Way::Hop(hop) if !hop.is_usable() => Fitness::Unfit,
        Way::Hop(hop) => Fitness::Ready(hop.status().borrow().steady_since.unwrap_or(now)),
    };
    Offer { node: candidate.node, fitness, last_resort: candidate.last_resort }
}
