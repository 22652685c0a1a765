//! The world of one seed: its nodes, what befalls them, and how it must end.
//!
//! Not here: the rules (`check`), what publishers do (`publisher`).

mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater_media::id::{Epoch, GroupSeq, StreamName};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Chance;
use super::check::Ledger;
use super::net::{Net, Process, Silence, Weather};
use super::node::{Owned, SimNode};
use super::publisher::Session;
use crate::claim::Progress;
use crate::command::{Answer, Command, NodeState};
use crate::id::{Incarnation, NodeId, WallTime};
use crate::raft::PeerAddress;
use crate::view::View;

/// Virtual time between two looks at the world.
const STEP: Duration = Duration::from_millis(25);
/// Steps with faults: six seconds, some twenty election timeouts.
const STEPS: u64 = 240;
/// Streams that sessions fight for.
const STREAMS: u64 = 4;
/// How long all may take to settle when the faults are off.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);

/// What kind of day it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// A planted bug: votes are given before they are durable.
    pub(super) vote_unsynced: bool,
    /// Another: a leader that comes back leads on in the same term.
    pub(super) leader_restore: bool,
    /// Only faults that make elections: one node alone, others crash.
    pub(super) elections: bool,
}

impl Options {
    /// Elections come often, and meet.
    pub(super) fn hasty(self) -> bool {
        self.elections && self.vote_unsynced
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    crashes: u64,
    partitions: u64,
    sessions: u64,
    claims: u64,
    groups: u64,
    states: u64,
    calls: u64,
    snapshots: u64,
    hand_overs: u64,
    memberships: u64,
}

impl Report {
    pub(super) fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.partitions += other.partitions;
        self.sessions += other.sessions;
        self.claims += other.claims;
        self.groups += other.groups;
        self.states += other.states;
        self.calls += other.calls;
        self.snapshots += other.snapshots;
        self.hand_overs += other.hand_overs;
        self.memberships += other.memberships;
    }
}

pub(super) struct World {
    pub(super) ledger: Mutex<Ledger>,
    net: Net,
    nodes: Mutex<BTreeMap<NodeId, SimNode>>,
    began: Instant,
}

/// What is under way against the world.
struct Chaos {
    world: Arc<World>,
    options: Options,
    chance: Chance,
    /// When crashed nodes start again.
    down: BTreeMap<NodeId, Instant>,
    heal_at: Option<Instant>,
    report: Report,
}

fn stream(n: u64) -> StreamName {
    StreamName::parse(&format!("sim/{n}")).unwrap()
}

impl World {
    pub(super) async fn run(seed: u64, mut options: Options) -> Result<Report, String> {
        let mut chance = Chance::new(seed);
        options.elections |= chance.permille(250);
        let count = if chance.permille(200) { 5 } else { 3 };
        let net = Net::new(chance.fork());
        let nodes = (1..=count)
            .map(NodeId)
            .map(|id| (id, SimNode::new(id, chance.fork(), options)))
            .collect();
        let world = Arc::new(Self {
            ledger: Mutex::default(),
            net,
            nodes: Mutex::new(nodes),
            began: Instant::now(),
        });
        let mut chaos = Chaos {
            world: world.clone(),
            options,
            chance,
            down: BTreeMap::new(),
            heal_at: None,
            report: Report::default(),
        };
        let result = chaos.day().await;
        let running: Vec<_> = {
            let mut nodes = world.nodes.lock();
            nodes.values_mut().filter_map(|node| node.running.take()).collect()
        };
        for running in running {
            let _ = running.raft.shutdown().await;
        }
        // The first broken rule says more than what it led to.
        world.ledger.lock().result()?;
        result?;
        let mut ledger = world.ledger.lock();
        ledger.finish()?;
        let mut report = chaos.report;
        (report.claims, report.groups, report.states) = ledger.counts();
        report.calls = ledger.calls.values().map(|calls| calls.len() as u64).sum();
        report.snapshots = world.net.snapshots();
        Ok(report)
    }

    /// Microseconds since the beginning.
    pub(super) fn ticks(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }

    pub(super) fn wall(&self, process: Process) -> WallTime {
        self.nodes.lock()[&process.0].wall(self.ticks() / 1000)
    }

    /// Does something with a node, if the process still runs.
    fn with<T>(&self, process: Process, act: impl FnOnce(&mut SimNode) -> T) -> Option<T> {
        let mut nodes = self.nodes.lock();
        let node = nodes.get_mut(&process.0)?;
        (node.incarnation.0 == process.1 && node.running.is_some()).then(|| act(node))
    }

    pub(super) fn view(&self, process: Process) -> Option<Arc<View>> {
        self.with(process, |node| node.running.as_ref().map(|r| r.view.borrow().clone()))?
    }

    /// Asks a node how far it is with a stream; an owner stops for good before it answers.
    pub(super) async fn ask_progress(
        self: &Arc<Self>,
        from: Process,
        node: NodeId,
        stream: StreamName,
        epoch: Epoch,
    ) -> Option<Progress> {
        let world = self.clone();
        let ask = move |_| {
            let (world, stream) = (world.clone(), stream.clone());
            async move { world.nodes.lock().get_mut(&node).and_then(|n| n.progress(&stream, epoch)) }
        };
        self.net.call(from, node, false, ask).await.ok().flatten()
    }

    /// Proposes once, forwarding to the leader; `None` if the outcome is unknown.
    pub(super) async fn propose(
        &self,
        from: Process,
        command: &Command,
        chance: &mut Chance,
    ) -> Option<(u64, Answer)> {
        let mut target = self.with(from, |node| {
            let raft = &node.running.as_ref()?.raft;
            raft.metrics().borrow_watched().current_leader
        })?;
        for _ in 0..6 {
            let to = target.take().unwrap_or_else(|| {
                let count = self.nodes.lock().len() as u64;
                NodeId(chance.range(1, count + 1))
            });
            let ask = |raft: super::node::Raft| {
                let command = command.clone();
                async move { raft.client_write(command).await }
            };
            let call = self.net.call(from, to, false, ask);
            match tokio::time::timeout(Duration::from_millis(400), call).await {
                Ok(Ok(Ok(response))) => return Some((response.log_id.index, response.data)),
                Ok(Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))))) => {
                    target = forward.leader_id.filter(|leader| *leader != to);
                }
                Ok(Err(Silence::Refused)) => {}
                Ok(Ok(Err(_)) | Err(Silence::Lost)) | Err(_) => return None,
            }
            tokio::time::sleep(Duration::from_millis(chance.range(5, 60))).await;
        }
        None
    }

    /// The process begins to own a stream; false if it is gone.
    pub(super) fn own(&self, process: Process, stream: &StreamName, owned: Owned) -> bool {
        self.with(process, |node| {
            if let Some(running) = &mut node.running {
                running.owned.insert(stream.clone(), owned);
            }
        })
        .is_some()
    }

    /// The owner's next group, if it still is the owner as far as it knows.
    pub(super) fn publish_group(
        &self,
        process: Process,
        stream: &StreamName,
        epoch: Epoch,
    ) -> Option<Owned> {
        let (group, owned) = self.with(process, |node| {
            let running = node.running.as_mut()?;
            let replaced = running.view.borrow().epoch_of(stream) > epoch;
            let owned = running.owned.get_mut(stream)?;
            if replaced || owned.fenced || owned.epoch != epoch {
                return None;
            }
            let group = (owned.next_group < owned.reserved_to).then_some(owned.next_group);
            if let Some(group) = group {
                owned.next_group = group.next();
            }
            Some((group, owned.clone()))
        })??;
        if let Some(group) = group {
            self.ledger.lock().publish(stream, group, epoch);
        }
        Some(owned)
    }

    pub(super) fn reserve(
        &self,
        process: Process,
        stream: &StreamName,
        epoch: Epoch,
        reserved_to: GroupSeq,
    ) {
        self.with(process, |node| {
            let owned = node.running.as_mut().and_then(|r| r.owned.get_mut(stream));
            if let Some(owned) = owned.filter(|owned| owned.epoch == epoch) {
                owned.reserved_to = owned.reserved_to.max(reserved_to);
            }
        });
    }

    /// The owner stops of itself; `None` if it was stopped before.
    pub(super) fn disown(
        &self,
        process: Process,
        stream: &StreamName,
        epoch: Epoch,
    ) -> Option<Owned> {
        self.with(process, |node| {
            let owned = &mut node.running.as_mut()?.owned;
            let mine = owned.get(stream).is_some_and(|o| o.epoch == epoch && !o.fenced);
            if mine { owned.remove(stream) } else { None }
        })?
    }

    fn running(&self) -> Vec<Process> {
        (self.nodes.lock().values())
            .filter(|node| node.running.is_some())
            .map(|node| (node.id, node.incarnation.0))
            .collect()
    }

    /// Holds every replica to the rules.
    fn check(&self) {
        let mut nodes = self.nodes.lock();
        let mut ledger = self.ledger.lock();
        for node in nodes.values_mut() {
            let Some(running) = &mut node.running else { continue };
            if let Err(fatal) = &running.raft.metrics().borrow_watched().running_state {
                ledger.fail(format!("node {} stopped by itself: {fatal}", node.id));
            }
            let view = running.view.borrow().clone();
            if view.index() < running.checked {
                ledger.fail(format!("node {} went back in time", node.id));
            }
            if view.index() != running.checked {
                running.checked = view.index();
                let encoded = view.directory().encode().unwrap();
                ledger.check(&format!("node {}", node.id), &view, &encoded);
            }
        }
    }
}

impl Chaos {
    async fn day(&mut self) -> Result<(), String> {
        let ids: Vec<NodeId> = self.world.nodes.lock().keys().copied().collect();
        for id in &ids {
            self.start(*id).await?;
        }
        let first = self.world.nodes.lock()[&NodeId(1)].running.as_ref().map(|r| r.raft.clone());
        let members: BTreeMap<_, _> = ids.iter().map(|id| (*id, PeerAddress::default())).collect();
        if let Some(raft) = first {
            raft.initialize(members).await.map_err(|e| e.to_string())?;
        }
        for step in 0..STEPS {
            if step > 12 {
                self.faults(&ids).await?;
            }
            if self.chance.permille(140) {
                self.session();
            }
            tokio::time::sleep(STEP).await;
            self.world.check();
            self.world.ledger.lock().result()?;
        }
        self.settle(&ids).await
    }

    async fn start(&mut self, id: NodeId) -> Result<(), String> {
        let world = self.world.clone();
        let Some((disk, process, config)) =
            world.nodes.lock().get_mut(&id).map(SimNode::next_start)
        else {
            return Ok(());
        };
        let running = SimNode::start(&world.net, &disk, process, config).await?;
        if let Some(node) = world.nodes.lock().get_mut(&id) {
            node.running = Some(running);
        }
        // It says that it is there, until the cluster knows.
        let mut chance = self.chance.fork();
        tokio::spawn(async move {
            while let Some(info) = world.with(process, |node| node.info()) {
                let put = Command::PutNode(info);
                if let Some((_, Answer::Done)) = world.propose(process, &put, &mut chance).await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(())
    }

    fn crash(&mut self, id: NodeId, down_ms: (u64, u64)) {
        let world = self.world.clone();
        let mut nodes = world.nodes.lock();
        let Some(node) = nodes.get_mut(&id).filter(|node| node.running.is_some()) else { return };
        node.crash(&world.net);
        self.report.crashes += 1;
        let down = Duration::from_millis(self.chance.range(down_ms.0, down_ms.1));
        self.down.insert(id, Instant::now() + down);
    }

    fn any(&mut self, ids: &[NodeId]) -> NodeId {
        let at = self.chance.range(0, ids.len() as u64);
        ids[usize::try_from(at).unwrap()]
    }

    /// Somebody says of a node that it is dead, or alive; true or not.
    fn gossip(&mut self, ids: &[NodeId]) {
        let (id, running) = (self.any(ids), self.world.running());
        let Some(process) = running.first().copied() else { return };
        let incarnation = self.world.nodes.lock()[&id].incarnation;
        let state = if self.chance.permille(500) { NodeState::Down } else { NodeState::Up };
        self.tell(process, id, incarnation, state);
    }

    fn tell(&mut self, from: Process, id: NodeId, incarnation: Incarnation, state: NodeState) {
        let (world, mut chance) = (self.world.clone(), self.chance.fork());
        tokio::spawn(async move {
            let command = Command::SetNodeState { id, incarnation, state };
            world.propose(from, &command, &mut chance).await;
        });
    }

    fn session(&mut self) {
        let running = self.world.running();
        if running.is_empty() {
            return;
        }
        let at = self.chance.range(0, running.len() as u64);
        let process = running[usize::try_from(at).unwrap()];
        let session = Session {
            world: self.world.clone(),
            process,
            stream: stream(self.chance.range(0, STREAMS)),
            chance: self.chance.fork(),
        };
        self.report.sessions += 1;
        tokio::spawn(session.run());
    }

    /// Faults off: all nodes come to one state, and every stream can be claimed.
    async fn settle(&mut self, ids: &[NodeId]) -> Result<(), String> {
        self.world.net.heal();
        self.world.net.set_weather(Weather::FAIR);
        for id in std::mem::take(&mut self.down).into_keys() {
            self.start(id).await?;
        }
        for node in self.world.nodes.lock().values() {
            node.disk.set_slowest(Duration::from_millis(2));
        }
        let deadline = Instant::now() + SETTLE_WITHIN;
        for n in 0..STREAMS {
            let mut granted = false;
            while !granted {
                if Instant::now() > deadline {
                    return Err(format!("{} cannot be claimed again", stream(n)));
                }
                self.set_voters(ids.iter().copied().collect());
                for (at, process) in self.world.running().into_iter().enumerate() {
                    let incarnation = Incarnation(process.1);
                    self.tell(process, process.0, incarnation, NodeState::Up);
                    if at as u64 != n % ids.len() as u64 {
                        continue;
                    }
                    let mut session = Session {
                        world: self.world.clone(),
                        process,
                        stream: stream(n),
                        chance: self.chance.fork(),
                    };
                    granted = session.claim(true).await.is_some();
                }
                self.world.check();
                self.world.ledger.lock().result()?;
            }
        }
        loop {
            tokio::time::sleep(STEP).await;
            self.world.check();
            self.world.ledger.lock().result()?;
            let indexes: Vec<u64> = (self.world.nodes.lock().values())
                .filter_map(|node| node.running.as_ref())
                .map(|running| running.view.borrow().index())
                .collect();
            let same = indexes.windows(2).all(|pair| pair[0] == pair[1]);
            if same && indexes.len() == ids.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the nodes do not come to one state: {indexes:?}"));
            }
        }
    }
}
