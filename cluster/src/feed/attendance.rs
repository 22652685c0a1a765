//! Which relays are alive, as origins find out together. Pure.
//!
//! A relay has a connection to one origin, so a failure detector by which every node hears every
//! other one has no say about it. Instead each origin tells the leader whom it hears, several times
//! a second, and the leader holds a relay for dead that nobody has spoken of for as long as a relay
//! needs to find another origin.
//!
//! Not here: origins' own lives (`detect`), telling and proposing (`attend`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::command::NodeState;
use crate::id::{Incarnation, NodeId};

/// Timings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttendanceOptions {
    /// A relay that was not heard for this long is not told of any more.
    pub(crate) suspect_after: Duration,
    /// A relay that nobody has told of for this long is dead.
    pub(crate) gone_after: Duration,
}

impl AttendanceOptions {
    /// With the cluster's `suspect_after`. A relay whose origin falls silent notices it after that
    /// time, and needs a few attempts at a few round trips each to find another one; half a second
    /// for those is five times what continents need.
    pub(crate) fn new(suspect_after: Duration) -> AttendanceOptions {
        let gone_after = suspect_after.saturating_mul(2).saturating_add(Duration::from_millis(500));
        AttendanceOptions { suspect_after, gone_after }
    }
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    incarnation: Incarnation,
    at: Instant,
}

/// What an origin knows of the relays.
#[derive(Debug)]
pub(crate) struct Attendance {
    options: AttendanceOptions,
    /// The relays of the directory: since when this start of each is known.
    known: BTreeMap<NodeId, Heard>,
    /// Those that this origin hears itself.
    here: BTreeMap<NodeId, Heard>,
    /// Those that any origin, this one included, hears.
    anywhere: BTreeMap<NodeId, Heard>,
    leads_since: Option<Instant>,
}

/// Notes that `node` was heard; a newer start replaces an older one.
fn note(table: &mut BTreeMap<NodeId, Heard>, node: NodeId, incarnation: Incarnation, at: Instant) {
    let heard = table.entry(node).or_insert(Heard { incarnation, at });
    if incarnation >= heard.incarnation {
        *heard = Heard { incarnation, at };
    }
}

impl Attendance {
    pub(crate) fn new(options: AttendanceOptions) -> Attendance {
        Attendance {
            options,
            known: BTreeMap::new(),
            here: BTreeMap::new(),
            anywhere: BTreeMap::new(),
            leads_since: None,
        }
    }

    /// Sets which relays there are.
    pub(crate) fn watch(
        &mut self,
        relays: impl IntoIterator<Item = (NodeId, Incarnation)>,
        now: Instant,
    ) {
        let before = std::mem::take(&mut self.known);
        for (id, incarnation) in relays {
            let same = before.get(&id).filter(|known| known.incarnation == incarnation);
            let at = same.map_or(now, |known| known.at);
            self.known.insert(id, Heard { incarnation, at });
        }
        let known = &self.known;
        self.here.retain(|id, _| known.contains_key(id));
        self.anywhere.retain(|id, _| known.contains_key(id));
    }

    /// Whether this origin leads, and so judges. A new leader knows nothing of what the one before
    /// was told, and gives everybody time.
    pub(crate) fn lead(&mut self, leads: bool, now: Instant) {
        self.leads_since = leads.then(|| self.leads_since.unwrap_or(now));
    }

    /// This origin hears that start of the relay.
    pub(crate) fn heard(&mut self, relay: NodeId, incarnation: Incarnation, now: Instant) {
        if self.known.contains_key(&relay) {
            note(&mut self.here, relay, incarnation, now);
        }
    }

    /// Whom this origin hears.
    pub(crate) fn present(&self, now: Instant) -> Vec<(NodeId, Incarnation)> {
        let fresh =
            |heard: &Heard| now.saturating_duration_since(heard.at) <= self.options.suspect_after;
        let fresh = self.here.iter().filter(|(_, heard)| fresh(heard));
        fresh.map(|(id, heard)| (*id, heard.incarnation)).collect()
    }

    /// An origin tells whom it hears.
    pub(crate) fn told(&mut self, relays: &[(NodeId, Incarnation)], now: Instant) {
        for (relay, incarnation) in relays {
            if self.known.contains_key(relay) {
                note(&mut self.anywhere, *relay, *incarnation, now);
            }
        }
    }

    /// What the leader should put into the directory about a relay that is in this state there.
    pub(crate) fn verdict(
        &self,
        relay: NodeId,
        state: NodeState,
        now: Instant,
    ) -> Option<(Incarnation, NodeState)> {
        let (leads_since, known) = (self.leads_since?, self.known.get(&relay)?);
        let heard = self.anywhere.get(&relay);
        let heard = heard.filter(|heard| heard.incarnation == known.incarnation);
        let since = |at: Instant| now.saturating_duration_since(at);
        match (state, heard) {
            (NodeState::Down, Some(heard)) => {
                let fresh = since(heard.at) <= self.options.suspect_after;
                fresh.then_some((known.incarnation, NodeState::Up))
            }
            (NodeState::Down, None) => None,
            (NodeState::Up | NodeState::Draining, heard) => {
                let last = heard.map_or(known.at, |heard| heard.at.max(known.at)).max(leads_since);
                let gone = since(last) > self.options.gone_after;
                gone.then_some((known.incarnation, NodeState::Down))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "some instant to count from")]

    use super::*;

    const RELAY: NodeId = NodeId(7);
    const START: Incarnation = Incarnation(2);

    fn leader(begun: Instant) -> Attendance {
        let mut all = Attendance::new(AttendanceOptions::new(Duration::from_millis(300)));
        all.lead(true, begun);
        all.watch([(RELAY, START)], begun);
        all
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_relay_that_changes_its_origin_in_time_is_not_held_for_dead() {
        let begun = Instant::now();
        let mut all = leader(begun);
        all.told(&[(RELAY, START)], begun + ms(5_000));
        let silent = begun + ms(6_000);
        assert_eq!(all.verdict(RELAY, NodeState::Up, silent), None);
        all.told(&[(RELAY, START)], silent);
        assert_eq!(all.verdict(RELAY, NodeState::Up, silent + ms(1_100)), None);
        let down = Some((START, NodeState::Down));
        assert_eq!(all.verdict(RELAY, NodeState::Up, silent + ms(1_101)), down);
        assert_eq!(all.verdict(RELAY, NodeState::Draining, silent + ms(1_101)), down);
    }

    #[test]
    fn a_dead_relay_is_alive_when_it_is_heard_and_not_on_old_word() {
        let begun = Instant::now();
        let mut all = leader(begun);
        assert_eq!(all.verdict(RELAY, NodeState::Down, begun + ms(1)), None);
        all.told(&[(RELAY, START)], begun + ms(10));
        let up = Some((START, NodeState::Up));
        assert_eq!(all.verdict(RELAY, NodeState::Down, begun + ms(20)), up);
        assert_eq!(all.verdict(RELAY, NodeState::Down, begun + ms(400)), None);
    }

    #[test]
    fn a_new_leader_and_a_new_start_have_time_to_be_heard_of() {
        let begun = Instant::now();
        let mut all = leader(begun);
        all.lead(false, begun + ms(10));
        assert_eq!(all.verdict(RELAY, NodeState::Up, begun + ms(9_000)), None);
        all.lead(true, begun + ms(9_000));
        assert_eq!(all.verdict(RELAY, NodeState::Up, begun + ms(10_000)), None);
        assert!(all.verdict(RELAY, NodeState::Up, begun + ms(10_101)).is_some());
        let anew = Incarnation(3);
        all.watch([(RELAY, anew)], begun + ms(20_000));
        // What is told of the start before says nothing.
        all.told(&[(RELAY, START)], begun + ms(20_900));
        assert_eq!(all.verdict(RELAY, NodeState::Up, begun + ms(21_000)), None);
        let down = Some((anew, NodeState::Down));
        assert_eq!(all.verdict(RELAY, NodeState::Up, begun + ms(21_101)), down);
    }

    #[test]
    fn an_origin_tells_of_the_relays_that_it_hears_and_of_no_stranger() {
        let begun = Instant::now();
        let mut all = leader(begun);
        all.heard(RELAY, START, begun);
        all.heard(NodeId(99), START, begun);
        assert_eq!(all.present(begun + ms(300)), [(RELAY, START)]);
        assert!(all.present(begun + ms(301)).is_empty());
        all.told(&[(NodeId(99), START)], begun);
        all.watch([], begun);
        assert!(all.present(begun).is_empty() && all.anywhere.is_empty());
    }
}
