//! Raft's requests to the other voters, and to learners.
//!
//! A driver file: awaits.
//!
//! Not here: answering them (`raft_server`), the connections (`link`).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::link::{AskError, Link, Links};
use super::wire::{self, RAFT_MAX, SNAPSHOT_MAX, WireError};
use crate::endpoint::Alpn;
use crate::id::NodeId;
use crate::raft::{PeerAddress, Snapshot, SnapshotData, SnapshotMeta, TypeConfig, Vote};

/// A request of Raft's.
#[derive(Serialize, Deserialize)]
pub(crate) enum RaftRequest {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    /// So many bytes of a snapshot follow on the stream.
    Snapshot {
        vote: Vote,
        meta: SnapshotMeta,
        length: u64,
    },
}

/// What it is answered. `Failed`: the node's Raft has stopped, with the reason.
#[derive(Serialize, Deserialize)]
pub(crate) enum RaftResponse {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    Snapshot(SnapshotResponse<TypeConfig>),
    Failed(String),
}

/// What goes first on the wire.
const HEARTBEAT_PRIORITY: i32 = 20;
const LOG_PRIORITY: i32 = 10;
const SNAPSHOT_PRIORITY: i32 = -10;

/// openraft allows an append the heartbeat's interval, 50 ms. A follower's disk may take longer
/// now and then, and sending the same entries again would not make it faster: this is how long a
/// disk may hang before the leader gives the request up. (Heartbeats have a client of their own.)
const APPEND_WITHIN: Duration = Duration::from_secs(2);

/// How long a snapshot may take on its way.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(120);

/// Pauses between attempts at a peer that cannot be reached.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Makes clients for peers.
pub(crate) struct RaftNetwork(pub(crate) Arc<Links>);

/// What a client is used for; each has streams of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Log,
    Heartbeat,
    Snapshot,
}

/// A client for one peer.
pub(crate) struct RaftPeer {
    link: Arc<Link>,
    used_for: Use,
}

impl RaftNetwork {
    fn client(&self, target: NodeId, node: &PeerAddress, used_for: Use) -> RaftPeer {
        RaftPeer { link: self.0.to(Alpn::Raft, target, &node.address), used_for }
    }
}

impl RaftNetworkFactory<TypeConfig> for RaftNetwork {
    type Network = RaftPeer;

    async fn new_client(&mut self, target: NodeId, node: &PeerAddress) -> RaftPeer {
        self.client(target, node, Use::Log)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &PeerAddress) -> RaftPeer {
        self.client(target, node, Use::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &PeerAddress) -> RaftPeer {
        self.client(target, node, Use::Snapshot)
    }
}

impl RaftPeer {
    async fn ask(
        &self,
        request: &RaftRequest,
        priority: i32,
        within: Duration,
    ) -> Result<RaftResponse, RPCError<TypeConfig>> {
        match self.link.ask(request, priority, RAFT_MAX, within).await {
            Ok(RaftResponse::Failed(reason)) => {
                Err(RPCError::Unreachable(Unreachable::from_string(reason)))
            }
            Ok(response) => Ok(response),
            Err(error @ AskError::NotConnected(_)) => {
                Err(RPCError::Unreachable(Unreachable::new(&error)))
            }
            Err(error) => Err(RPCError::Network(NetworkError::new(&error))),
        }
    }
}

fn unexpected() -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string("an answer to something else"))
}

impl RaftNetworkV2<TypeConfig> for RaftPeer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (priority, within) = match self.used_for {
            Use::Heartbeat => (HEARTBEAT_PRIORITY, option.hard_ttl()),
            _ => (LOG_PRIORITY, option.hard_ttl().max(APPEND_WITHIN)),
        };
        match self.ask(&RaftRequest::Append(rpc), priority, within).await? {
            RaftResponse::Append(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = RaftRequest::Vote(rpc);
        match self.ask(&request, HEARTBEAT_PRIORITY, option.hard_ttl()).await? {
            RaftResponse::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = RaftRequest::PreVote(rpc);
        match self.ask(&request, HEARTBEAT_PRIORITY, option.hard_ttl()).await? {
            RaftResponse::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |error: &AskError| match error {
            AskError::NotConnected(_) => StreamingError::Unreachable(Unreachable::new(error)),
            _ => StreamingError::Network(NetworkError::new(error)),
        };
        let sent = send_snapshot(&self.link, vote, snapshot.meta, snapshot.snapshot);
        let response = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            sent = tokio::time::timeout(SNAPSHOT_WITHIN, sent) => match sent {
                Ok(sent) => sent.map_err(|error| failed(&error))?,
                Err(_) => return Err(failed(&AskError::Timeout)),
            },
        };
        match response {
            RaftResponse::Snapshot(response) => Ok(response),
            RaftResponse::Failed(reason) => {
                Err(StreamingError::Unreachable(Unreachable::from_string(reason)))
            }
            _ => Err(StreamingError::Network(NetworkError::from_string("an odd answer"))),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = RaftRequest::TransferLeader(req);
        match self.ask(&request, HEARTBEAT_PRIORITY, option.hard_ttl()).await? {
            RaftResponse::TransferLeader(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_EVERY)))
    }
}

async fn send_snapshot(
    link: &Link,
    vote: Vote,
    meta: SnapshotMeta,
    bytes: Bytes,
) -> Result<RaftResponse, AskError> {
    let Some(live) = link.live() else {
        return Err(AskError::NotConnected(link.error()));
    };
    let length = bytes.len();
    if length > SNAPSHOT_MAX {
        return Err(WireError::TooLong { length, max: SNAPSHOT_MAX }.into());
    }
    let cut = |_| WireError::Cut;
    let (mut send, mut receive) = live.connection.open_bi().await.map_err(cut)?;
    let _ = send.set_priority(SNAPSHOT_PRIORITY);
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    wire::write(&mut send, &RaftRequest::Snapshot { vote, meta, length }, RAFT_MAX).await?;
    send.write_chunk(bytes).await.map_err(|_| WireError::Cut)?;
    let _ = send.finish();
    Ok(wire::read(&mut receive, RAFT_MAX).await?)
}
