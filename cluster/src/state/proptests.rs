//! Random histories of commands, checked against the rules in `state`'s header.
//! Not here: the rules one by one (beside each command).

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_media::id::{DiscontinuitySeq, Epoch, GroupSeq, SessionId, StreamName, TrackName};
use proptest::prelude::*;

use super::*;
use crate::command::{
    Answer, Claim, Command, Cut, Digest, Extension, NodeInfo, NodeState, Role, Settings, Stop,
};
use crate::id::{Incarnation, NodeName, Region, WallTime};

/// Numbers small enough that commands meet each other's nodes, streams and epochs.
fn node_id() -> impl Strategy<Value = NodeId> {
    (1..=3_u64).prop_map(NodeId)
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    (1..=3_u64).prop_map(Incarnation)
}

fn stream() -> impl Strategy<Value = StreamName> {
    (0..5_u8).prop_map(|n| StreamName::parse(&format!("s/{n}")).unwrap())
}

fn now() -> impl Strategy<Value = WallTime> {
    (0..100_u64).prop_map(WallTime)
}

fn group() -> impl Strategy<Value = GroupSeq> {
    prop_oneof![20 => 0..200_u64, 1 => GROUP_MAX - 40..=u64::MAX].prop_map(GroupSeq)
}

fn discontinuity() -> impl Strategy<Value = DiscontinuitySeq> {
    prop_oneof![20 => 0..20_u64, 1 => Just(u64::MAX)].prop_map(DiscontinuitySeq)
}

fn node_info() -> impl Strategy<Value = NodeInfo> {
    (node_id(), incarnation(), prop::bool::weighted(0.9)).prop_map(|(id, incarnation, origin)| {
        NodeInfo {
            id,
            name: NodeName::parse("n").unwrap(),
            role: if origin { Role::Origin } else { Role::Relay },
            region: Region::parse("r").unwrap(),
            address: "127.0.0.1:1".into(),
            http: vec![],
            capacity_mbps: 1,
            incarnation,
        }
    })
}

prop_compose! {
    fn claim()(
        stream in stream(),
        node in node_id(),
        incarnation in incarnation(),
        session in 0..12_u8,
        // 0 stands for "what the state has", so that most claims pass the first check.
        expects in prop_oneof![4 => Just(0_u64), 1 => 1..9_u64],
        takeover: bool,
        owner_answered: bool,
        first_group in group(),
        discontinuity in discontinuity(),
        cut in prop::collection::vec((group(), 0..9_u32), 0..3),
        now in now(),
    ) -> Claim {
        let cut = (cut.into_iter())
            .map(|(group, frames)| Cut { track: TrackName::video(), group, frames })
            .collect();
        Claim {
            stream, node, incarnation, session: SessionId::from_random([session; 16]),
            expects: Epoch(expects), takeover, owner_answered, first_group, discontinuity, cut, now,
        }
    }
}

prop_compose! {
    fn stop()(
        stream in stream(),
        epoch in prop_oneof![4 => Just(0_u64), 1 => 1..9_u64],
        next_group in group(),
        discontinuity in discontinuity(),
        now in now(),
    ) -> Stop {
        Stop { stream, epoch: Epoch(epoch), next_group, discontinuity, now }
    }
}

prop_compose! {
    fn extension()(
        stream in stream(),
        epoch in prop_oneof![4 => Just(0_u64), 1 => 1..9_u64],
        reserved_to in group(),
        discontinuity in discontinuity(),
    ) -> Extension {
        Extension { stream, epoch: Epoch(epoch), reserved_to, discontinuity }
    }
}

fn command() -> impl Strategy<Value = Command> {
    let expects = || prop::option::weighted(0.5, 0..6_u64);
    let key = || "[a-c]";
    let value = || prop::collection::vec(any::<u8>(), 0..2).prop_map(Bytes::from);
    let state = prop_oneof![
        2 => Just(NodeState::Up), 2 => Just(NodeState::Down), 1 => Just(NodeState::Draining)
    ];
    let digest = || (0..3_u8).prop_map(|n| [n; 32]);
    prop_oneof![
        6 => node_info().prop_map(Command::PutNode),
        3 => (node_id(), incarnation(), state)
            .prop_map(|(id, incarnation, state)| Command::SetNodeState { id, incarnation, state }),
        1 => node_id().prop_map(|id| Command::RemoveNode { id }),
        20 => claim().prop_map(Command::Claim),
        6 => (node_id(), incarnation(), prop::collection::vec(extension(), 0..3)).prop_map(
            |(node, incarnation, streams)| Command::Extend { node, incarnation, streams }
        ),
        4 => stop().prop_map(Command::Pause),
        6 => stop().prop_map(Command::Release),
        1 => (key(), value(), expects())
            .prop_map(|(glob, policy, expects)| Command::PutPolicy { glob, policy, expects }),
        1 => (key(), expects()).prop_map(|(glob, expects)| Command::DeletePolicy { glob, expects }),
        1 => (key(), value(), expects())
            .prop_map(|(id, key, expects)| Command::PutTokenKey { id, key, expects }),
        1 => (key(), expects()).prop_map(|(id, expects)| Command::DeleteTokenKey { id, expects }),
        1 => (0..5_u32, 2..5_u32, expects()).prop_map(|(streams_max, names_max, expects)| {
            Command::PutSettings { settings: Settings { streams_max, names_max }, expects }
        }),
        1 => (digest(), now(), now())
            .prop_map(|(token, expires, now)| Command::PutJoinToken { token, expires, now }),
        1 => (digest(), digest(), now())
            .prop_map(|(token, joiner, now)| Command::RedeemJoinToken { token, joiner, now }),
    ]
}

/// Puts the epoch that stands in place of 0, and the node's incarnation in place of the first.
fn aim(state: &State, command: &mut Command) {
    let epoch_of = |name: &StreamName| {
        let known = state.directory.streams.get(name);
        known.map_or(state.directory.floor.epoch, |record| record.grant.epoch)
    };
    let incarnation_of = |id: NodeId, incarnation: &mut Incarnation| {
        if *incarnation == Incarnation(1)
            && let Some(node) = state.directory.nodes.get(&id)
        {
            *incarnation = node.info.incarnation;
        }
    };
    match command {
        Command::Claim(claim) => {
            incarnation_of(claim.node, &mut claim.incarnation);
            if claim.expects == Epoch(0) {
                claim.expects = epoch_of(&claim.stream);
            }
        }
        Command::Pause(stop) | Command::Release(stop) if stop.epoch == Epoch(0) => {
            stop.epoch = epoch_of(&stop.stream);
        }
        Command::Extend { node, incarnation, streams } => {
            incarnation_of(*node, incarnation);
            for wish in streams.iter_mut().filter(|wish| wish.epoch == Epoch(0)) {
                wish.epoch = epoch_of(&wish.stream);
            }
        }
        Command::SetNodeState { id, incarnation, .. } => incarnation_of(*id, incarnation),
        _ => {}
    }
}

fn same(a: &State, b: &State) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.directory.encode().unwrap(), b.directory.encode().unwrap());
    prop_assert_eq!(&a.ended, &b.ended);
    Ok(())
}

/// What the world remembers of the streams' numbers, apart from the state.
#[derive(Default)]
struct Seen {
    epochs: BTreeMap<StreamName, Epoch>,
    owners: BTreeMap<(StreamName, Epoch), Owner>,
    /// The first number that nobody can have used, unless the owner itself said a lower one.
    unused: BTreeMap<StreamName, GroupSeq>,
    firsts: BTreeMap<StreamName, GroupSeq>,
    discontinuities: BTreeMap<StreamName, DiscontinuitySeq>,
    joined: BTreeMap<NodeId, (Digest, Digest)>,
}

impl Seen {
    /// `before`: what the command's stream was before it.
    fn note(
        &mut self,
        command: &Command,
        answer: &Answer,
        before: Option<Publisher>,
    ) -> Result<(), TestCaseError> {
        match (command, answer) {
            (Command::Claim(claim), Answer::Granted(grant)) => {
                let name = &claim.stream;
                let owner = Owner { node: claim.node, incarnation: claim.incarnation };
                let other = self.owners.insert((name.clone(), grant.epoch), owner);
                prop_assert!(other.is_none_or(|other| other == owner), "two owners in one epoch");
                let last = self.epochs.get(name).copied().unwrap_or_default();
                prop_assert!(grant.epoch >= last, "the epoch of {} fell", name);
                if grant.epoch == last {
                    return Ok(());
                }
                self.epochs.insert(name.clone(), grant.epoch);
                let unused = self.unused.get(name).copied().unwrap_or_default();
                let owner_said = claim.owner_answered && before == Some(Publisher::Live);
                prop_assert!(
                    grant.first_group >= unused || owner_said,
                    "{} would use {} again, {} is free",
                    name,
                    grant.first_group,
                    unused
                );
                self.unused.insert(name.clone(), grant.reserved_to);
                self.firsts.insert(name.clone(), grant.first_group);
                let used = self.discontinuities.insert(name.clone(), grant.discontinuity);
                prop_assert!(used.is_none_or(|used| used < grant.discontinuity));
            }
            (Command::Extend { streams, .. }, Answer::Extended { stale }) => {
                for wish in streams {
                    if stale.iter().all(|stale| stale.stream != wish.stream) {
                        let unused = self.unused.entry(wish.stream.clone()).or_default();
                        *unused = wish.reserved_to.max(*unused);
                        let used = self.discontinuities.entry(wish.stream.clone()).or_default();
                        *used = wish.discontinuity.max(*used);
                    }
                }
            }
            (Command::Pause(stop) | Command::Release(stop), Answer::Done) => {
                // The owner's first word is exact; its release never counts for less.
                let release = matches!(command, Command::Release(_));
                let first = self.firsts.get(&stop.stream).copied().unwrap_or_default();
                let unused = self.unused.entry(stop.stream.clone()).or_default();
                match before {
                    Some(Publisher::Live) => *unused = stop.next_group.max(first),
                    Some(Publisher::Waiting) if release => *unused = stop.next_group.max(*unused),
                    _ => {}
                }
            }
            (Command::RedeemJoinToken { joiner, token, .. }, Answer::Redeemed { node }) => {
                let other = self.joined.insert(*node, (*token, *joiner));
                prop_assert!(other.is_none_or(|other| other == (*token, *joiner)));
            }
            _ => {}
        }
        Ok(())
    }
}

fn run(commands: Vec<Command>, settings: Option<Settings>) -> Result<(), TestCaseError> {
    let mut state = State::default();
    let mut replay = State::default();
    let mut from_snapshot = State::default();
    let mut seen = Seen::default();
    let mut granted: Vec<Command> = Vec::new();
    if let Some(settings) = settings {
        let command = Command::PutSettings { settings, expects: None };
        for state in [&mut state, &mut replay, &mut from_snapshot] {
            prop_assert_eq!(state.apply(1, &command), Answer::Done);
        }
    }
    for (index, mut command) in (2_u64..).zip(commands) {
        aim(&state, &mut command);
        let before = match &command {
            Command::Claim(Claim { stream, .. })
            | Command::Pause(Stop { stream, .. })
            | Command::Release(Stop { stream, .. }) => {
                state.directory.streams.get(stream).map(|record| record.publisher)
            }
            _ => None,
        };
        let answer = state.apply(index, &command);
        if let Err(broken) = state.check() {
            return Err(TestCaseError::fail(format!("{broken} after {command:?}")));
        }
        seen.note(&command, &answer, before)?;
        // The same history makes the same state, a snapshot in between or not.
        prop_assert_eq!(&replay.apply(index, &command), &answer);
        prop_assert_eq!(&from_snapshot.apply(index, &command), &answer);
        from_snapshot = State::decode(&from_snapshot.directory.encode().unwrap()).unwrap();
        // Repeated at once: the same answer, and nothing changes.
        let before = state.directory.encode().unwrap();
        prop_assert_eq!(&state.apply(index, &command), &answer, "{:?}", &command);
        prop_assert_eq!(before, state.directory.encode().unwrap(), "{:?} again", &command);
        // Repeated late: a claim that was granted never takes the stream a second time.
        if matches!(answer, Answer::Granted(_)) {
            granted.push(command);
        }
        let mut later = State::decode(&state.directory.encode().unwrap()).unwrap();
        for command in &granted {
            later.apply(index, command);
        }
        same(&state, &later)?;
    }
    same(&state, &replay)?;
    same(&state, &from_snapshot)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_history_keeps_the_rules(commands in prop::collection::vec(command(), 0..60)) {
        run(commands, None)?;
    }

    #[test]
    fn forgotten_names_keep_the_rules_too(commands in prop::collection::vec(command(), 0..80)) {
        run(commands, Some(Settings { streams_max: 2, names_max: 2 }))?;
    }

    #[test]
    fn damaged_snapshots_are_errors(
        commands in prop::collection::vec(command(), 0..20),
        at: prop::sample::Index,
        bit in 0..8_u8,
        cut: bool,
    ) {
        let mut state = State::default();
        for (index, mut command) in (1_u64..).zip(commands) {
            aim(&state, &mut command);
            state.apply(index, &command);
        }
        let mut bytes = state.directory.encode().unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(State::decode(&bytes).is_err());
        } else if let Some(byte) = bytes.get_mut(at) {
            // Not every flipped bit is found here (the file has a checksum); none may panic.
            *byte ^= 1 << bit;
            let _ = State::decode(&bytes);
        }
    }
}
