//! Claims against a state machine, with answers of nodes in between.

use super::*;
use crate::command::{Command, NodeInfo, Role, Stop};
use crate::id::{NodeName, Region};
use crate::state::{RESERVE_GROUPS, State};

fn stream() -> StreamName {
    StreamName::parse("auction/lot-7").unwrap()
}

fn three_nodes() -> State {
    let mut state = State::default();
    for id in 1..=3 {
        let info = NodeInfo {
            id: NodeId(id),
            name: NodeName::parse("n").unwrap(),
            role: Role::Origin,
            region: Region::parse("r").unwrap(),
            address: String::new(),
            http: vec![],
            capacity_mbps: 1,
            incarnation: Incarnation(1),
        };
        assert_eq!(state.apply(id, &Command::PutNode(info)), Answer::Done);
    }
    state
}

fn wish(node: u64, session: u8, takeover: bool) -> Wish {
    Wish {
        stream: stream(),
        node: NodeId(node),
        incarnation: Incarnation(1),
        session: SessionId::from_random([session; 16]),
        takeover,
        first_group: GroupSeq(0),
    }
}

fn view(state: &State) -> View {
    View::from(state.directory())
}

/// Polls once, expecting a proposal; applies it.
fn propose(state: &mut State, index: u64, claiming: &mut Claiming, now: Instant) -> Claim {
    let Step::Propose(claim) = claiming.poll(now) else { panic!("no proposal") };
    claiming.on_answer(state.apply(index, &Command::Claim((*claim).clone())));
    *claim
}

fn progress(epoch: u64, fenced: bool, group: u64, frames: u32) -> Progress {
    Progress {
        epoch: Epoch(epoch),
        fenced,
        next_group: GroupSeq(group + 1),
        discontinuity: DiscontinuitySeq(0),
        tracks: vec![TrackProgress { track: TrackName::video(), group: GroupSeq(group), frames }],
    }
}

#[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
fn start() -> Instant {
    Instant::now()
}

/// Node 1 publishes, in epoch 1.
fn published() -> (State, Instant) {
    let (mut state, now) = (three_nodes(), start());
    let mut claiming = Claiming::new(wish(1, 1, false), &view(&state), now, WallTime(5));
    propose(&mut state, 10, &mut claiming, now);
    let Step::Done(Ok(grant)) = claiming.poll(now) else { panic!("not granted") };
    assert_eq!((grant.epoch, grant.first_group), (Epoch(1), GroupSeq(0)));
    (state, now)
}

#[test]
fn a_stream_that_nobody_publishes_is_claimed_without_asking() {
    let (mut state, now) = published();
    let stop = Stop {
        stream: stream(),
        epoch: Epoch(1),
        next_group: GroupSeq(5),
        discontinuity: DiscontinuitySeq(0),
        now: WallTime(0),
    };
    state.apply(11, &Command::Pause(stop));
    let mut claiming = Claiming::new(wish(2, 2, false), &view(&state), now, WallTime(6));
    propose(&mut state, 12, &mut claiming, now);
    let Step::Done(Ok(grant)) = claiming.poll(now) else { panic!("not granted") };
    assert_eq!((grant.epoch, grant.first_group), (Epoch(2), GroupSeq(5)));
    assert_eq!(grant.discontinuity, DiscontinuitySeq(1));
}

#[test]
fn a_publisher_that_may_not_take_over_is_refused_and_the_owner_is_not_asked_to_stop() {
    let (mut state, now) = published();
    let mut claiming = Claiming::new(wish(2, 2, false), &view(&state), now, WallTime(6));
    propose(&mut state, 12, &mut claiming, now);
    let refused = Step::Done(Err(Refusal::Busy { owner: NodeId(1) }));
    assert_eq!(claiming.poll(now), refused);
}

#[test]
fn an_owner_that_stops_and_answers_lets_the_numbers_go_on_without_a_gap() {
    let (mut state, now) = published();
    let mut claiming = Claiming::new(wish(2, 2, true), &view(&state), now, WallTime(6));
    let ask = Step::Ask {
        nodes: vec![NodeId(1), NodeId(2), NodeId(3)],
        owner: NodeId(1),
        epoch: Epoch(1),
    };
    assert_eq!(claiming.poll(now), ask);
    assert!(matches!(claiming.poll(now), Step::WaitUntil(_)));
    claiming.on_progress(NodeId(3), progress(1, false, 4, 9));
    claiming.on_progress(NodeId(1), progress(1, true, 5, 3));
    let claim = propose(&mut state, 12, &mut claiming, now);
    assert!(claim.owner_answered);
    let cut = Cut { track: TrackName::video(), group: GroupSeq(5), frames: 3 };
    assert_eq!(claim.cut, [cut]);
    let Step::Done(Ok(grant)) = claiming.poll(now) else { panic!("not granted") };
    assert_eq!(grant.first_group, GroupSeq(6));
}

#[test]
fn without_the_owner_the_claim_begins_above_all_that_it_may_have_used() {
    let (mut state, now) = published();
    let mut claiming = Claiming::new(wish(2, 2, true), &view(&state), now, WallTime(6));
    claiming.poll(now);
    claiming.on_progress(NodeId(2), progress(1, false, 4, 9));
    claiming.on_progress(NodeId(3), progress(1, false, 5, 2));
    // One who claims to have stopped, but is not the owner, is not believed.
    claiming.on_progress(NodeId(3), progress(1, true, 5, 2));
    assert!(matches!(claiming.poll(now), Step::WaitUntil(_)), "the owner may still answer");
    let later = now + ASK_MAX;
    let claim = propose(&mut state, 12, &mut claiming, later);
    assert!(!claim.owner_answered);
    let cut = Cut { track: TrackName::video(), group: GroupSeq(5), frames: 2 };
    assert_eq!(claim.cut, [cut]);
    let Step::Done(Ok(grant)) = claiming.poll(later) else { panic!("not granted") };
    assert_eq!(grant.first_group, GroupSeq(RESERVE_GROUPS));
}

#[test]
fn who_loses_the_race_looks_again_and_sees_the_winner() {
    let (mut state, now) = published();
    let mut loser = Claiming::new(wish(2, 2, true), &view(&state), now, WallTime(6));
    loser.poll(now);
    let mut winner = Claiming::new(wish(3, 3, true), &view(&state), now, WallTime(6));
    winner.poll(now);
    let later = now + ASK_MAX;
    propose(&mut state, 12, &mut winner, later);
    propose(&mut state, 13, &mut loser, later);
    assert_eq!(loser.poll(later), Step::WaitForView(Epoch(2)));
    loser.on_view(&view(&state), later, WallTime(7));
    let Step::Ask { owner, epoch, .. } = loser.poll(later) else { panic!("asks nobody") };
    assert_eq!((owner, epoch), (NodeId(3), Epoch(2)));
    // What others have of the epoch before counts for nothing.
    loser.on_progress(NodeId(1), progress(1, true, 900, 2));
    let claim = propose(&mut state, 14, &mut loser, later + ASK_MAX);
    assert_eq!(claim.first_group, GroupSeq(0));
    let Step::Done(Ok(grant)) = loser.poll(later) else { panic!("not granted") };
    assert_eq!(grant.epoch, Epoch(3));
}

#[test]
fn a_claim_whose_answer_was_lost_is_answered_the_same_again() {
    let (mut state, now) = published();
    let mut again = Claiming::new(wish(1, 1, true), &view(&state), now, WallTime(9));
    propose(&mut state, 20, &mut again, now);
    let Step::Done(Ok(grant)) = again.poll(now) else { panic!("not granted") };
    assert_eq!(grant.epoch, Epoch(1));
}

#[test]
fn a_node_that_may_not_publish_stops_nobody() {
    let (mut state, now) = published();
    let drained = Command::SetNodeState {
        id: NodeId(2),
        incarnation: Incarnation(1),
        state: NodeState::Draining,
    };
    assert_eq!(state.apply(11, &drained), Answer::Done);
    let mut claiming = Claiming::new(wish(2, 2, true), &view(&state), now, WallTime(6));
    propose(&mut state, 12, &mut claiming, now);
    assert_eq!(claiming.poll(now), Step::Done(Err(Refusal::NodeDraining)));
    // Nor does a process that has been replaced.
    let mut before = wish(3, 3, true);
    before.incarnation = Incarnation(0);
    let mut claiming = Claiming::new(before, &view(&state), now, WallTime(6));
    assert!(matches!(claiming.poll(now), Step::Propose(_)));
}
