//! Which origin a relay asks next. Pure.
//!
//! Origins that are up come first, those of the relay's own region before others; among equals each
//! relay has an order of its own, so that a hundred relays spread over the origins and not all of
//! them fall on the same one when theirs dies. One that has just failed comes last.
//!
//! Not here: asking (`find`), when another one is wanted (`follow`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::command::{NodeState, Role};
use crate::id::{NodeId, Region};
use crate::identity::Peer;
use crate::view::View;

/// How long an origin that failed is asked after all others. Longer than a restart's first moments,
/// short enough that nobody stays away from his own region for long.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// Origins that failed of late.
#[derive(Debug, Default)]
pub(crate) struct Failures(BTreeMap<NodeId, Instant>);

impl Failures {
    pub(crate) fn note(&mut self, origin: NodeId, now: Instant) {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < FAILED_FOR);
        self.0.insert(origin, now);
    }

    fn has(&self, origin: NodeId, now: Instant) -> bool {
        let at = self.0.get(&origin);
        at.is_some_and(|at| now.saturating_duration_since(*at) < FAILED_FOR)
    }
}

/// Who asks, and what it knows.
pub(crate) struct Asker<'a> {
    pub(crate) me: NodeId,
    pub(crate) region: &'a Region,
    pub(crate) view: &'a View,
    /// Origins that it was told of when it joined.
    pub(crate) peers: &'a [Peer],
    pub(crate) failures: &'a Failures,
    /// The one that it has, which need not be asked.
    pub(crate) current: Option<NodeId>,
}

/// The origins in the order in which they should be asked.
pub(crate) fn candidates(asker: &Asker<'_>, now: Instant) -> Vec<Peer> {
    let known = asker.view.nodes().filter(|node| node.info.role == Role::Origin);
    let known = known.map(|node| {
        let standing = match node.state() {
            NodeState::Up => 0,
            NodeState::Draining => 1,
            // It may have come back, and nobody could tell this relay.
            NodeState::Down => 2,
        };
        let elsewhere = node.info.region != *asker.region;
        let peer = Peer { node: node.info.id, address: node.info.address.clone() };
        (standing, elsewhere, peer)
    });
    let told = asker
        .peers
        .iter()
        .filter(|peer| asker.view.node(peer.node).is_none() && !asker.view.is_removed(peer.node));
    let told = told.map(|peer| (2, true, peer.clone()));
    let mut all: Vec<_> = known.chain(told).collect();
    all.retain(|(_, _, peer)| !peer.address.is_empty() && Some(peer.node) != asker.current);
    all.sort_by_key(|(standing, elsewhere, peer)| {
        let failed = asker.failures.has(peer.node, now);
        (failed, *standing, *elsewhere, spread(asker.me, peer.node), peer.node)
    });
    all.into_iter().map(|(_, _, peer)| peer).collect()
}

/// SplitMix64 of both numbers: an order of each relay's own.
fn spread(relay: NodeId, origin: NodeId) -> u64 {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(relay.0) ^ origin.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "some instant to count from")]

    use super::*;
    use crate::command::{Command, NodeInfo};
    use crate::id::{Incarnation, NodeName};
    use crate::state::State;

    fn info(id: u64, role: Role, region: &str) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: NodeName::parse("n").unwrap(),
            role,
            region: Region::parse(region).unwrap(),
            address: format!("10.0.0.{id}:4443"),
            http: vec![],
            capacity_mbps: 0,
            incarnation: Incarnation(1),
        }
    }

    fn view(nodes: &[(u64, Role, &str, NodeState)]) -> View {
        let mut state = State::default();
        for (id, role, region, now) in nodes {
            state.apply(1, &Command::PutNode(info(*id, *role, region)));
            let (id, incarnation) = (NodeId(*id), Incarnation(1));
            state.apply(1, &Command::SetNodeState { id, incarnation, state: *now });
        }
        state.directory().into()
    }

    fn order(me: u64, view: &View, failures: &Failures, current: Option<u64>) -> Vec<u64> {
        let asker = Asker {
            me: NodeId(me),
            region: &Region::parse("eu").unwrap(),
            view,
            peers: &[],
            failures,
            current: current.map(NodeId),
        };
        candidates(&asker, Instant::now()).iter().map(|peer| peer.node.0).collect()
    }

    #[test]
    fn who_is_up_and_near_is_asked_first_and_who_has_just_failed_last() {
        use NodeState::{Down, Draining, Up};
        let origin = Role::Origin;
        let view = view(&[
            (1, origin, "us", Up),
            (2, origin, "eu", Up),
            (3, origin, "eu", Down),
            (4, origin, "eu", Draining),
            (9, Role::Relay, "eu", Up),
        ]);
        let mut failures = Failures::default();
        assert_eq!(order(9, &view, &failures, None), [2, 1, 4, 3]);
        assert_eq!(order(9, &view, &failures, Some(2)), [1, 4, 3]);
        failures.note(NodeId(2), Instant::now());
        assert_eq!(order(9, &view, &failures, None), [1, 4, 3, 2]);
    }

    #[test]
    fn whom_the_directory_does_not_know_is_asked_where_it_was_when_this_relay_joined() {
        let peers =
            [7, 8].map(|id| Peer { node: NodeId(id), address: format!("10.0.0.{id}:4443") });
        let mut state = State::default();
        state.apply(1, &Command::PutNode(info(8, Role::Origin, "us")));
        state.apply(2, &Command::RemoveNode { id: NodeId(8) });
        let view = View::from(state.directory());
        let (failures, region) = (Failures::default(), Region::parse("eu").unwrap());
        let asker = Asker {
            me: NodeId(9),
            region: &region,
            view: &view,
            peers: &peers,
            failures: &failures,
            current: None,
        };
        assert_eq!(candidates(&asker, Instant::now()), [peers[0].clone()]);
    }

    #[test]
    fn relays_spread_over_the_origins() {
        let origins: Vec<_> = (1..=3).map(|id| (id, Role::Origin, "us", NodeState::Up)).collect();
        let view = view(&origins);
        let mut first = BTreeMap::new();
        for relay in 100..400 {
            let order = order(relay, &view, &Failures::default(), None);
            *first.entry(order[0]).or_insert(0) += 1;
        }
        assert!(first.values().all(|count| (60..140).contains(count)), "{first:?}");
    }
}
