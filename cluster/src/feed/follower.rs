//! A relay's copy of the directory: the state machine, and how far it has come. Pure: takes what a
//! feed brings, and refuses what would take it back or leave a hole.
//!
//! Not here: feeds (`follow`), what a command does (`state`).

use bytes::Bytes;

use super::wire::{Position, decode_entry};
use crate::state::State;
use crate::view::View;

/// What an origin must not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FeedError {
    /// Entries are missing between what is here and what came.
    #[error("a hole in the feed: {after} follows {here}")]
    Hole { here: u64, after: u64 },
    /// The number of entries is not that of their indexes.
    #[error("{entries} entries between {after} and {to}")]
    Count { entries: usize, after: u64, to: u64 },
    /// An entry that cannot be read.
    #[error("entry {0} cannot be read")]
    Entry(u64),
    /// A snapshot whose bytes are another place's.
    #[error("a snapshot of {inside} that says to be of {at}")]
    Place { at: u64, inside: u64 },
    /// Something out of turn.
    #[error("{0}")]
    Turn(&'static str),
}

/// The copy.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    state: State,
    at: Option<Position>,
}

impl Follower {
    /// Begins with what an earlier process has kept.
    pub(crate) fn new(kept: Option<(Position, State)>) -> Follower {
        match kept {
            Some((at, state)) => Follower { state, at: Some(at) },
            None => Follower::default(),
        }
    }

    /// The last entry that it has; `None`: nothing yet.
    pub(crate) fn at(&self) -> Option<Position> {
        self.at
    }

    /// As readers see it.
    pub(crate) fn view(&self) -> View {
        self.state.directory().into()
    }

    /// The whole state came. One that is older than what is here changes nothing, unless the
    /// history begins `anew`. Says whether something changed.
    pub(crate) fn on_snapshot(
        &mut self,
        at: Position,
        state: State,
        anew: bool,
    ) -> Result<bool, FeedError> {
        let inside = state.applied();
        if inside != at.index {
            return Err(FeedError::Place { at: at.index, inside });
        }
        let older = self.at.is_some_and(|here| at.index <= here.index);
        if older && !anew {
            return Ok(false);
        }
        self.state = state;
        self.at = Some(at);
        Ok(true)
    }

    /// Entries came. Those that are here already are left out. Says whether something changed.
    pub(crate) fn on_entries(
        &mut self,
        after: u64,
        to: Position,
        entries: &[Bytes],
    ) -> Result<bool, FeedError> {
        let Some(here) = self.at else {
            return Err(FeedError::Turn("entries before a snapshot"));
        };
        let span = to.index.checked_sub(after).and_then(|span| usize::try_from(span).ok());
        if span != Some(entries.len()) {
            return Err(FeedError::Count { entries: entries.len(), after, to: to.index });
        }
        if after > here.index {
            return Err(FeedError::Hole { here: here.index, after });
        }
        if to.index <= here.index {
            return Ok(false);
        }
        if to.written_by() < here.written_by() {
            return Err(FeedError::Turn("entries of an earlier leader"));
        }
        let known = usize::try_from(here.index.saturating_sub(after)).unwrap_or(usize::MAX);
        // All of them are read before any is applied.
        let mut commands = Vec::with_capacity(entries.len().saturating_sub(known));
        let mut index = here.index;
        for entry in entries.iter().skip(known) {
            index = index.saturating_add(1);
            commands.push((index, decode_entry(entry).ok_or(FeedError::Entry(index))?));
        }
        for (index, command) in commands {
            match command {
                Some(command) => {
                    self.state.apply(index, &command);
                }
                None => self.state.skip(index),
            }
        }
        self.at = Some(to);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::{Command, NodeInfo, Role};
    use crate::feed::wire::encode_entry;
    use crate::id::{Incarnation, NodeId, NodeName, Region};

    fn put(id: u64) -> Command {
        Command::PutNode(NodeInfo {
            id: NodeId(id),
            name: NodeName::parse("n").unwrap(),
            role: Role::Relay,
            region: Region::parse("r").unwrap(),
            address: String::new(),
            http: vec![],
            capacity_mbps: 0,
            incarnation: Incarnation(1),
        })
    }

    fn at(index: u64) -> Position {
        Position { term: 1, leader: NodeId(1), index }
    }

    /// The log: entry `n` puts node `n`, but every fifth is empty.
    fn entry(index: u64) -> Option<Command> {
        (!index.is_multiple_of(5)).then(|| put(index))
    }

    fn entries(after: u64, to: u64) -> Vec<Bytes> {
        (after + 1..=to).map(|index| encode_entry(entry(index).as_ref()).unwrap()).collect()
    }

    fn state(to: u64) -> State {
        let mut state = State::default();
        for index in 1..=to {
            match entry(index) {
                Some(command) => drop(state.apply(index, &command)),
                None => state.skip(index),
            }
        }
        state
    }

    fn bytes(follower: &Follower) -> Vec<u8> {
        follower.view().directory().encode().unwrap()
    }

    #[test]
    fn entries_before_a_snapshot_and_after_a_hole_are_refused_and_change_nothing() {
        let mut follower = Follower::default();
        assert!(follower.on_entries(0, at(1), &entries(0, 1)).is_err());
        assert_eq!(follower.on_snapshot(at(10), state(10), false), Ok(true));
        let before = bytes(&follower);
        let hole = FeedError::Hole { here: 10, after: 11 };
        assert_eq!(follower.on_entries(11, at(12), &entries(11, 12)), Err(hole));
        assert!(follower.on_entries(10, at(13), &entries(10, 12)).is_err());
        assert!(follower.on_entries(13, at(12), &[]).is_err());
        let mut broken = entries(10, 14);
        broken[2] = Bytes::from_static(&[1, 250]);
        assert_eq!(follower.on_entries(10, at(14), &broken), Err(FeedError::Entry(13)));
        let early = Position { term: 0, ..at(12) };
        assert!(follower.on_entries(10, early, &entries(10, 12)).is_err());
        assert_eq!((bytes(&follower), follower.at()), (before, Some(at(10))));
    }

    #[test]
    fn an_older_snapshot_changes_nothing_unless_history_begins_anew() {
        let mut follower = Follower::default();
        assert_eq!(follower.on_snapshot(at(10), state(10), false), Ok(true));
        assert_eq!(follower.on_snapshot(at(8), state(8), false), Ok(false));
        assert_eq!(follower.at(), Some(at(10)));
        let later = Position { term: 9, ..at(8) };
        assert_eq!(follower.on_snapshot(later, state(8), true), Ok(true));
        assert_eq!((follower.at(), follower.view().index()), (Some(later), 8));
        assert!(follower.on_snapshot(at(20), state(21), false).is_err());
    }

    proptest! {
        /// Whatever overlapping pieces come, in whatever order two origins bring them, the copy is
        /// what the log says at its index, and its index never falls.
        #[test]
        fn a_copy_is_the_state_at_its_index_and_never_an_older_one(
            start in 0_u64..20,
            pieces in prop::collection::vec((0_u64..60, 0_u64..20, any::<bool>()), 1..30),
        ) {
            let mut follower = Follower::default();
            prop_assert_eq!(follower.on_snapshot(at(start), state(start), false), Ok(true));
            for (after, length, snapshot) in pieces {
                let (before, to) = (follower.at().unwrap().index, after + length);
                let done = match snapshot {
                    true => follower.on_snapshot(at(to), state(to), false),
                    false => follower.on_entries(after, at(to), &entries(after, to)),
                };
                let now = follower.at().unwrap().index;
                prop_assert!(now >= before);
                prop_assert_eq!(done == Ok(true), now > before, "{:?}", done);
                prop_assert_eq!(bytes(&follower), state(now).directory().encode().unwrap());
            }
        }
    }
}
