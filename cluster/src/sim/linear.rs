//! Whether a recorded history of claims could have happened one at a time: a small checker after
//! Wing and Gong, with Lowe's memory of what was tried.
//!
//! Streams do not touch each other, so each is checked alone. An operation whose outcome is unknown
//! may have happened at any time after it began, or never.
//!
//! Not here: what is recorded (`world`).

use std::collections::HashSet;

use headwater_media::id::{Epoch, SessionId};

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Claim { session: SessionId, expects: Epoch, takeover: bool },
    Stop { epoch: Epoch },
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Granted(Epoch),
    Stale(Epoch),
    Busy,
    Done,
    /// Refused for reasons that lie outside one stream; nothing changed.
    Refused,
    Unknown,
}

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Call {
    pub(super) op: Op,
    pub(super) outcome: Outcome,
    /// When it began and ended, in ticks of any clock that all share.
    pub(super) began: u64,
    pub(super) ended: u64,
}

/// A stream as the rules for claims see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Model {
    epoch: Epoch,
    session: Option<SessionId>,
    live: bool,
}

impl Model {
    /// The state after the operation, if it could have had this outcome; `None` if not. Whether
    /// an owner was alive is not recorded, so that a live stream may be refused or granted.
    fn after(self, op: Op, outcome: Outcome) -> Option<Self> {
        match (op, outcome) {
            (Op::Claim { session, expects, .. }, Outcome::Granted(epoch)) => {
                if self.session == Some(session) {
                    return (epoch == self.epoch).then_some(self);
                }
                (expects == self.epoch && epoch == self.epoch.next()).then_some(Self {
                    epoch,
                    session: Some(session),
                    live: true,
                })
            }
            (Op::Claim { expects, session, .. }, Outcome::Stale(current)) => {
                let stale = expects != self.epoch && self.session != Some(session);
                (stale && current == self.epoch).then_some(self)
            }
            (Op::Claim { takeover, session, .. }, Outcome::Busy) => {
                (self.live && !takeover && self.session != Some(session)).then_some(self)
            }
            (Op::Stop { epoch }, Outcome::Done) => {
                (epoch == self.epoch).then_some(Self { live: false, ..self })
            }
            (Op::Stop { epoch }, Outcome::Stale(current)) => {
                (epoch != self.epoch && current == self.epoch).then_some(self)
            }
            (_, Outcome::Refused) => Some(self),
            _ => None,
        }
    }

    /// The state after the operation, if it changed something, whatever was answered.
    fn after_unknown(self, op: Op) -> Option<Self> {
        let outcome = match op {
            Op::Claim { .. } => Outcome::Granted(self.epoch.next()),
            Op::Stop { .. } => Outcome::Done,
        };
        self.after(op, outcome)
    }
}

/// Which calls are placed already.
type Placed = Vec<u64>;

fn is_placed(placed: &Placed, call: usize) -> bool {
    placed.get(call / 64).is_some_and(|word| word >> (call % 64) & 1 == 1)
}

/// Checks the calls of one stream.
///
/// # Errors
/// Says how far an order was found, and what did not fit.
pub(super) fn check(calls: &[Call]) -> Result<(), String> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| (call.began, call.ended));
    let mut seen: HashSet<(Placed, Model)> = HashSet::new();
    let mut stack = vec![(vec![0_u64; calls.len().div_ceil(64)], Model::default())];
    let mut furthest = (0, Model::default(), Placed::new());
    while let Some((placed, model)) = stack.pop() {
        let open = |call: &usize| !is_placed(&placed, *call);
        let certain = |call: &usize| calls[*call].outcome != Outcome::Unknown;
        // Nothing may be placed after something that had ended before it began.
        let first_end =
            (0..calls.len()).filter(open).filter(certain).map(|call| calls[call].ended).min();
        let Some(first_end) = first_end else { return Ok(()) };
        let count = (0..calls.len()).filter(|call| !open(call)).count();
        if count >= furthest.0 {
            furthest = (count, model, placed.clone());
        }
        for call in (0..calls.len()).filter(open) {
            let Call { op, outcome, began, .. } = calls[call];
            if began > first_end {
                break;
            }
            let next = match outcome {
                Outcome::Unknown => model.after_unknown(op),
                outcome => model.after(op, outcome),
            };
            let Some(next) = next else { continue };
            let mut placed = placed.clone();
            placed[call / 64] |= 1 << (call % 64);
            if seen.insert((placed.clone(), next)) {
                stack.push((placed, next));
            }
        }
    }
    let (count, model, placed) = furthest;
    let left: Vec<&Call> =
        (0..calls.len()).filter(|call| !is_placed(&placed, *call)).map(|c| &calls[c]).collect();
    Err(format!("{count} of {} calls fit, then {model:?}; left: {left:?}", calls.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u8) -> SessionId {
        SessionId::from_random([n; 16])
    }

    fn claim(n: u8, expects: u64, outcome: Outcome, began: u64, ended: u64) -> Call {
        let op = Op::Claim { session: session(n), expects: Epoch(expects), takeover: true };
        Call { op, outcome, began, ended }
    }

    fn stop(epoch: u64, outcome: Outcome, began: u64, ended: u64) -> Call {
        Call { op: Op::Stop { epoch: Epoch(epoch) }, outcome, began, ended }
    }

    fn granted(epoch: u64) -> Outcome {
        Outcome::Granted(Epoch(epoch))
    }

    fn stale(epoch: u64) -> Outcome {
        Outcome::Stale(Epoch(epoch))
    }

    #[test]
    fn claims_one_after_the_other_are_fine_and_in_the_wrong_order_they_are_not() {
        let (a, b) = (claim(1, 0, granted(1), 0, 10), claim(2, 1, granted(2), 20, 30));
        assert_eq!(check(&[a, b]), Ok(()));
        let early = Call { began: 0, ended: 10, ..b };
        let late = Call { began: 20, ended: 30, ..a };
        assert!(check(&[early, late]).is_err());
    }

    #[test]
    fn claims_at_the_same_time_may_have_happened_either_way() {
        let calls = [
            claim(1, 0, stale(1), 0, 30),
            claim(2, 0, granted(1), 5, 25),
            claim(3, 1, granted(2), 10, 40),
        ];
        assert_eq!(check(&calls), Ok(()));
    }

    #[test]
    fn an_epoch_that_is_granted_twice_is_found() {
        let calls = [claim(1, 0, granted(1), 0, 30), claim(2, 0, granted(1), 5, 25)];
        assert!(check(&calls).is_err());
    }

    #[test]
    fn a_claim_that_was_acknowledged_and_forgotten_is_found() {
        let calls = [claim(1, 0, granted(1), 0, 10), claim(2, 0, stale(0), 20, 30)];
        assert!(check(&calls).is_err());
        let calls = [claim(1, 0, granted(1), 0, 10), claim(2, 0, granted(1), 20, 30)];
        assert!(check(&calls).is_err());
    }

    #[test]
    fn an_answer_from_the_past_is_found() {
        let calls = [
            claim(1, 0, granted(1), 0, 10),
            claim(2, 1, granted(2), 20, 30),
            claim(3, 0, stale(1), 40, 50),
        ];
        assert!(check(&calls).is_err());
    }

    #[test]
    fn what_is_unknown_may_have_happened_late_or_never() {
        let lost = claim(1, 0, Outcome::Unknown, 0, 10);
        assert_eq!(check(&[lost]), Ok(()));
        // Never:
        assert_eq!(check(&[lost, claim(2, 0, granted(1), 20, 30)]), Ok(()));
        // Long after it was given up:
        let calls = [
            lost,
            claim(2, 9, stale(0), 20, 30),
            claim(3, 9, stale(1), 40, 50),
            claim(4, 1, granted(2), 60, 70),
        ];
        assert_eq!(check(&calls), Ok(()));
        // But not before it began:
        let calls = [claim(2, 9, stale(1), 0, 10), claim(1, 0, Outcome::Unknown, 20, 30)];
        assert!(check(&calls).is_err());
    }

    #[test]
    fn the_same_session_is_answered_the_same_and_not_otherwise() {
        let calls = [claim(1, 0, granted(1), 0, 10), claim(1, 0, granted(1), 20, 30)];
        assert_eq!(check(&calls), Ok(()));
        let calls = [claim(1, 0, granted(1), 0, 10), claim(1, 1, granted(2), 20, 30)];
        assert!(check(&calls).is_err());
    }

    #[test]
    fn a_stopped_stream_is_free_and_a_stop_of_the_past_changes_nothing() {
        let busy = Call {
            op: Op::Claim { session: session(2), expects: Epoch(1), takeover: false },
            outcome: Outcome::Busy,
            began: 20,
            ended: 30,
        };
        let first = claim(1, 0, granted(1), 0, 10);
        assert_eq!(check(&[first, busy]), Ok(()));
        let stopped = stop(1, Outcome::Done, 12, 15);
        assert!(check(&[first, stopped, busy]).is_err());
        assert_eq!(check(&[first, stop(1, Outcome::Done, 12, 25), busy]), Ok(()));
        let calls = [first, claim(2, 1, granted(2), 20, 30), stop(1, Outcome::Done, 40, 50)];
        assert!(check(&calls).is_err());
        let calls = [first, claim(2, 1, granted(2), 20, 30), stop(1, stale(2), 40, 50)];
        assert_eq!(check(&calls), Ok(()));
    }

    #[test]
    fn sixty_calls_that_all_overlap_are_checked_soon() {
        let mut calls = vec![];
        for n in 0..60_u8 {
            calls.push(claim(n, u64::from(n), granted(u64::from(n) + 1), 0, 1000));
        }
        assert_eq!(check(&calls), Ok(()));
    }
}
