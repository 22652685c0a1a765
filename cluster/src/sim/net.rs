//! A network that delays, reorders, loses, doubles and cuts.
//!
//! Not here: QUIC (`crate::transport`).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;

use super::Chance;
use super::node::Raft;
use crate::id::NodeId;
use crate::raft::{PeerAddress, Snapshot, SnapshotData, TypeConfig, Vote};

/// A process of a node: nodes come back under a new number.
pub(super) type Process = (NodeId, u64);

/// How the network behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Messages lost, of a thousand.
    pub(super) loss: u64,
    /// Requests delivered twice, of a thousand.
    pub(super) doubled: u64,
    /// Longest delay one way, in microseconds. Each message has its own, so they overtake.
    pub(super) slowest: u64,
}

impl Weather {
    pub(super) const FAIR: Self = Self { loss: 0, doubled: 0, slowest: 1_000 };
}

/// The network. All nodes hold the same.
#[derive(Clone)]
pub(super) struct Net(Arc<Mutex<Cables>>);

struct Cables {
    processes: BTreeMap<NodeId, (u64, Raft)>,
    /// Ways that are cut, each in one direction.
    cut: BTreeSet<(NodeId, NodeId)>,
    weather: Weather,
    chance: Chance,
    /// Snapshots that arrived whole.
    snapshots: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Silence {
    /// Nobody listens there.
    Refused,
    /// A message was lost; whoever waits does so until it gives up.
    Lost,
}

impl Net {
    pub(super) fn new(chance: Chance) -> Self {
        Self(Arc::new(Mutex::new(Cables {
            processes: BTreeMap::new(),
            cut: BTreeSet::new(),
            weather: Weather::FAIR,
            chance,
            snapshots: 0,
        })))
    }

    pub(super) fn plug_in(&self, (node, process): Process, raft: Raft) {
        self.0.lock().processes.insert(node, (process, raft));
    }

    pub(super) fn unplug(&self, node: NodeId) {
        self.0.lock().processes.remove(&node);
    }

    pub(super) fn cut(&self, from: NodeId, to: NodeId) {
        self.0.lock().cut.insert((from, to));
    }

    pub(super) fn heal(&self) {
        self.0.lock().cut.clear();
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    pub(super) fn snapshots(&self) -> u64 {
        self.0.lock().snapshots
    }

    fn is_running(&self, (node, process): Process) -> bool {
        self.0.lock().processes.get(&node).is_some_and(|(running, _)| *running == process)
    }

    /// A message goes from one node to another; false if it is lost.
    async fn travel(&self, from: NodeId, to: NodeId) -> bool {
        let (lost, delay) = {
            let mut net = self.0.lock();
            let Weather { loss, slowest, .. } = net.weather;
            let lost = net.chance.permille(loss) || net.cut.contains(&(from, to));
            (lost, Duration::from_micros(net.chance.range(100, slowest)))
        };
        if from == to {
            return true;
        }
        tokio::time::sleep(delay).await;
        !lost && !self.0.lock().cut.contains(&(from, to))
    }

    /// Asks a node something and waits for the answer. What may be doubled is Raft's own messages,
    /// which must bear it.
    pub(super) async fn call<T: Send + 'static, F>(
        &self,
        from: Process,
        to: NodeId,
        may_double: bool,
        ask: impl Fn(Raft) -> F + Send,
    ) -> Result<T, Silence>
    where
        F: Future<Output = T> + Send + 'static,
    {
        if !self.is_running(from) || !self.travel(from.0, to).await {
            return Err(Silence::Lost);
        }
        let (process, raft, again) = {
            let mut net = self.0.lock();
            let doubled = net.weather.doubled;
            let again = may_double && net.chance.permille(doubled);
            let Some((process, raft)) = net.processes.get(&to) else {
                return Err(Silence::Refused);
            };
            (*process, raft.clone(), again)
        };
        if again {
            let late = ask(raft.clone());
            let delay = Duration::from_micros(self.0.lock().chance.range(100, 30_000));
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                late.await;
            });
        }
        let answer = ask(raft).await;
        // What a process answers after its death is answered by nobody.
        let heard = self.is_running((to, process)) && self.travel(to, from.0).await;
        if heard && self.is_running(from) { Ok(answer) } else { Err(Silence::Lost) }
    }
}

/// Makes the ways to a process's peers.
#[derive(Clone)]
pub(super) struct Factory {
    pub(super) net: Net,
    pub(super) from: Process,
}

/// The way to one peer.
pub(super) struct Way {
    net: Net,
    from: Process,
    to: NodeId,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Way;

    async fn new_client(&mut self, target: NodeId, _: &PeerAddress) -> Way {
        Way { net: self.net.clone(), from: self.from, to: target }
    }
}

impl Way {
    /// A call within the time that openraft gives it.
    async fn ask<T, E, F>(
        &self,
        option: &RPCOption,
        ask: impl Fn(Raft) -> F + Send,
    ) -> Result<T, RPCError<TypeConfig>>
    where
        T: Send + 'static,
        E: std::error::Error + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let lost = || io::Error::new(io::ErrorKind::TimedOut, "lost");
        let call = self.net.call(self.from, self.to, true, ask);
        match tokio::time::timeout(option.hard_ttl(), call).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            // The peer's process is ending.
            Ok(Ok(Err(error))) => Err(RPCError::Unreachable(Unreachable::new(&error))),
            Ok(Err(Silence::Refused)) => {
                let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens");
                Err(RPCError::Unreachable(Unreachable::new(&refused)))
            }
            Ok(Err(Silence::Lost)) => {
                tokio::time::sleep(option.hard_ttl()).await;
                Err(RPCError::Network(NetworkError::new(&lost())))
            }
            Err(_) => Err(RPCError::Network(NetworkError::new(&lost()))),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Way {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (from, to, told) = (self.from, self.to, format!("{rpc}"));
        let answer = self
            .ask(&option, move |raft| {
                let rpc = rpc.clone();
                async move { raft.append_entries(rpc).await }
            })
            .await;
        super::trace(|| format!("{}.{} to {to}: {told}: {answer:?}", from.0, from.1));
        answer
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&option, move |raft| {
            let rpc = rpc.clone();
            async move { raft.vote(rpc).await }
        })
        .await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&option, move |raft| {
            let rpc = rpc.clone();
            async move { raft.pre_vote(rpc).await }
        })
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sent = self.ask(&option, move |raft| {
            let snapshot = snapshot.clone();
            async move { raft.install_full_snapshot(vote, snapshot).await }
        });
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sent => sent.inspect(|_| self.net.0.lock().snapshots += 1).map_err(|error| match error {
                RPCError::Unreachable(error) => StreamingError::Unreachable(error),
                other => StreamingError::Network(NetworkError::new(&other)),
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&option, move |raft| {
            let req = req.clone();
            async move { raft.handle_transfer_leader(req).await }
        })
        .await
    }
}
