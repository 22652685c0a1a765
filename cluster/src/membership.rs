//! Who should vote, decided from the directory: the leader brings Raft's membership into line with
//! it, one change at a time. Any leader can take over where the last one stopped.
//!
//! A pure file. An origin that announced itself is added as a learner, becomes a voter when its log
//! has caught up, and is taken out when the directory says that it was removed. Being down alone
//! takes nobody's vote: only an operator knows that a node will not come back.
//!
//! Not here: making the change (`cluster::members`), the directory (`state`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::command::{NodeState, Role};
use crate::id::NodeId;
use crate::view::View;

/// Most voters. Each commit waits for a majority; more than seven make it slower and hardly safer.
/// Further origins follow the log without a vote.
pub const VOTERS_MAX: usize = 7;

/// A learner whose log is this near to the leader's has caught up: the rest is on its way.
pub const CAUGHT_UP_ENTRIES: u64 = 100;

/// What the leader knows.
#[derive(Debug)]
pub struct Situation {
    /// The directory.
    pub view: Arc<View>,
    /// The voters of each configuration: two while a change is half done.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Addresses of voters and learners.
    pub addresses: BTreeMap<NodeId, String>,
    /// How far each node's log matches the leader's.
    pub matched: BTreeMap<NodeId, Option<u64>>,
    /// The end of the leader's log.
    pub last: u64,
}

impl Situation {
    /// What a relay knows: who votes, as it was told.
    pub(crate) fn of_relay(view: Arc<View>, voters: BTreeSet<NodeId>) -> Situation {
        let (addresses, matched) = (BTreeMap::new(), BTreeMap::new());
        Situation { view, voters: vec![voters], addresses, matched, last: 0 }
    }
}

/// A change of membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Finish what another leader left half done.
    Settle(BTreeSet<NodeId>),
    /// Take a removed node out.
    Remove(NodeId),
    /// Tell everybody where a node is now.
    Readdress(NodeId, String),
    /// Let a node follow the log.
    AddLearner(NodeId, String),
    /// Let it vote.
    Promote(NodeId),
}

/// The next change that is due.
pub fn next_change(situation: &Situation) -> Option<Change> {
    let Situation { view, voters, addresses, .. } = situation;
    let (Some(current), true) = (voters.last(), voters.len() <= 1) else {
        return voters.last().map(|target| Change::Settle(target.clone()));
    };
    if let Some(gone) = addresses.keys().find(|node| view.is_removed(**node)) {
        return Some(Change::Remove(*gone));
    }
    let origins = view.nodes().filter(|node| node.info.role == Role::Origin);
    let up = origins.filter(|node| node.state() != NodeState::Down);
    for node in up {
        let (id, address) = (node.info.id, &node.info.address);
        match addresses.get(&id) {
            None => return Some(Change::AddLearner(id, address.clone())),
            Some(known) if known != address => {
                return Some(Change::Readdress(id, address.clone()));
            }
            Some(_) if current.contains(&id) => {}
            Some(_) if current.len() >= VOTERS_MAX || node.state() != NodeState::Up => {}
            Some(_) => {
                let matched = situation.matched.get(&id).copied().flatten();
                let near = situation.last.saturating_sub(CAUGHT_UP_ENTRIES);
                if matched.is_some_and(|matched| matched >= near) {
                    return Some(Change::Promote(id));
                }
            }
        }
    }
    None
}

/// The voter that should lead when this one leaves: up, not leaving itself, the one whose log is
/// furthest.
pub fn successor(situation: &Situation, me: NodeId) -> Option<NodeId> {
    let voters = situation.voters.last()?;
    let fit = voters.iter().filter(|node| {
        let state = situation.view.node(**node).map(|node| node.state());
        **node != me && state == Some(NodeState::Up)
    });
    fit.max_by_key(|node| situation.matched.get(node).copied().flatten()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, NodeInfo};
    use crate::id::{Incarnation, NodeName, Region};
    use crate::state::State;

    fn info(id: u64, role: Role) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: NodeName::parse("n").unwrap(),
            role,
            region: Region::parse("r").unwrap(),
            address: format!("10.0.0.{id}:4443"),
            http: vec![],
            capacity_mbps: 0,
            incarnation: Incarnation(1),
        }
    }

    fn view(commands: &[Command]) -> Arc<View> {
        let mut state = State::default();
        for (index, command) in commands.iter().enumerate() {
            state.apply(index as u64 + 1, command);
        }
        Arc::new(state.directory().into())
    }

    fn situation(view: &Arc<View>, voters: &[u64], learners: &[u64]) -> Situation {
        let all = voters.iter().chain(learners);
        Situation {
            view: view.clone(),
            voters: vec![voters.iter().copied().map(NodeId).collect()],
            addresses: all.map(|id| (NodeId(*id), format!("10.0.0.{id}:4443"))).collect(),
            matched: BTreeMap::new(),
            last: 1_000,
        }
    }

    fn put(id: u64) -> Command {
        Command::PutNode(info(id, Role::Origin))
    }

    #[test]
    fn a_new_origin_learns_first_and_votes_when_it_has_caught_up() {
        let view = view(&[put(1), put(2), Command::PutNode(info(3, Role::Relay))]);
        let mut now = situation(&view, &[1], &[]);
        let learner = Change::AddLearner(NodeId(2), "10.0.0.2:4443".into());
        assert_eq!(next_change(&now), Some(learner));
        now = situation(&view, &[1], &[2]);
        for (matched, change) in
            [(None, None), (Some(899), None), (Some(900), Some(Change::Promote(NodeId(2))))]
        {
            now.matched.insert(NodeId(2), matched);
            assert_eq!(next_change(&now), change, "{matched:?}");
        }
        assert_eq!(next_change(&situation(&view, &[1, 2], &[])), None);
    }

    #[test]
    fn a_dead_voter_keeps_its_vote_until_it_is_removed() {
        let down = Command::SetNodeState {
            id: NodeId(2),
            incarnation: Incarnation(1),
            state: NodeState::Down,
        };
        let mut commands = vec![put(1), put(2), put(3), down];
        assert_eq!(next_change(&situation(&view(&commands), &[1, 2, 3], &[])), None);
        commands.push(Command::RemoveNode { id: NodeId(2) });
        let view = view(&commands);
        assert_eq!(
            next_change(&situation(&view, &[1, 2, 3], &[])),
            Some(Change::Remove(NodeId(2)))
        );
    }

    #[test]
    fn a_member_that_the_directory_does_not_know_yet_stays() {
        let view = view(&[]);
        assert_eq!(next_change(&situation(&view, &[1], &[])), None);
    }

    #[test]
    fn a_half_done_change_is_finished_before_another_is_begun() {
        let view = view(&[put(1), put(2), put(3)]);
        let mut now = situation(&view, &[1], &[2]);
        now.voters.push([NodeId(1), NodeId(2)].into());
        assert_eq!(next_change(&now), Some(Change::Settle([NodeId(1), NodeId(2)].into())));
    }

    #[test]
    fn a_node_that_moved_is_told_to_everybody() {
        let view = view(&[put(1)]);
        let mut now = situation(&view, &[1], &[]);
        now.addresses.insert(NodeId(1), String::new());
        let change = Change::Readdress(NodeId(1), "10.0.0.1:4443".into());
        assert_eq!(next_change(&now), Some(change));
    }

    #[test]
    fn the_furthest_voter_that_stays_succeeds_a_leader_that_leaves() {
        let draining = Command::SetNodeState {
            id: NodeId(4),
            incarnation: Incarnation(1),
            state: NodeState::Draining,
        };
        let view = view(&[put(1), put(2), put(3), put(4), draining]);
        let mut now = situation(&view, &[1, 2, 3, 4], &[]);
        now.matched = [(2, 10), (3, 12), (4, 99)].map(|(n, at)| (NodeId(n), Some(at))).into();
        assert_eq!(successor(&now, NodeId(1)), Some(NodeId(3)));
        assert_eq!(successor(&situation(&view, &[1], &[]), NodeId(1)), None);
    }

    #[test]
    fn there_are_seven_voters_at_most() {
        let commands: Vec<Command> = (1..=8).map(put).collect();
        let view = view(&commands);
        let mut now = situation(&view, &[1, 2, 3, 4, 5, 6, 7], &[8]);
        now.matched.insert(NodeId(8), Some(1_000));
        assert_eq!(next_change(&now), None);
    }
}
