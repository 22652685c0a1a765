//! Answers Raft's requests of other nodes.
//!
//! What is checked here, because openraft believes what it is given: the connection's node is an
//! origin (`Admit`), and a vote or an append speaks for that node and no other.
//!
//! A driver file: awaits.
//!
//! Not here: sending requests (`raft_client`), connections and hellos (`endpoint`, `hello`).

use std::sync::Arc;

use bytes::Bytes;
use openraft::Raft;
use openraft::storage::RaftStateMachine;
use tokio::sync::{Semaphore, mpsc};

use super::hello::Registry;
use super::raft_client::{RaftRequest, RaftResponse};
use super::wire::{self, RAFT_MAX, REQUESTS_MAX, SNAPSHOT_MAX, WireError};
use crate::endpoint::{Inbound, refuse};
use crate::id::NodeId;
use crate::identity::Refusal;
use crate::raft::{Snapshot, SnapshotData, TypeConfig, Vote};

/// Snapshots that are received at once: each is held in memory until it is installed.
const SNAPSHOTS_MAX: usize = 1;

/// Answers until the endpoint is closed.
pub(crate) async fn serve<SM>(
    raft: Raft<TypeConfig, SM>,
    registry: Arc<Registry>,
    mut queue: mpsc::Receiver<Inbound>,
) where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    let snapshots = Arc::new(Semaphore::new(SNAPSHOTS_MAX));
    while let Some(inbound) = queue.recv().await {
        let (raft, registry, snapshots) = (raft.clone(), registry.clone(), snapshots.clone());
        tokio::spawn(async move {
            let Some(hello) = registry.meet(&inbound).await else { return };
            inbound.connection.set_max_concurrent_bi_streams(REQUESTS_MAX.into());
            inbound.connection.set_max_concurrent_uni_streams(0_u32.into());
            while let Ok((send, receive)) = inbound.connection.accept_bi().await {
                let exchange = Exchange {
                    raft: raft.clone(),
                    peer: hello.node,
                    snapshots: snapshots.clone(),
                    send,
                    receive,
                };
                let (connection, registry) = (inbound.connection.clone(), registry.clone());
                tokio::spawn(async move {
                    let peer = exchange.peer;
                    if let Err((refusal, detail)) = exchange.run().await {
                        let address = connection.remote_address();
                        registry.refused().note(refusal, address, Some(peer), &detail);
                        refuse(&connection, refusal, &detail);
                    }
                });
            }
        });
    }
}

/// One request and its answer.
struct Exchange<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    raft: Raft<TypeConfig, SM>,
    peer: NodeId,
    snapshots: Arc<Semaphore>,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
}

impl<SM> Exchange<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    /// An error is what the peer did wrong. A stream that breaks off is nobody's fault.
    async fn run(mut self) -> Result<(), (Refusal, String)> {
        let request = match wire::read::<RaftRequest>(&mut self.receive, RAFT_MAX).await {
            Ok(request) => request,
            Err(error) => return malformed(&error),
        };
        self.check(&request)?;
        let response = match request {
            RaftRequest::Append(request) => {
                self.raft.append_entries(request).await.map(RaftResponse::Append)
            }
            RaftRequest::Vote(request) => self.raft.vote(request).await.map(RaftResponse::Vote),
            RaftRequest::PreVote(request) => {
                self.raft.pre_vote(request).await.map(RaftResponse::Vote)
            }
            RaftRequest::TransferLeader(request) => {
                let done = self.raft.handle_transfer_leader(request).await;
                done.map(RaftResponse::TransferLeader).map_err(Into::into)
            }
            RaftRequest::Snapshot { vote, meta, length } => {
                let Ok(_permit) = self.snapshots.acquire().await else { return Ok(()) };
                let bytes = match read_snapshot(&mut self.receive, length).await {
                    Ok(bytes) => bytes,
                    Err(error) => return malformed(&error),
                };
                let snapshot = Snapshot { meta, snapshot: bytes };
                let installed = self.raft.install_full_snapshot(vote, snapshot).await;
                installed.map(RaftResponse::Snapshot).map_err(Into::into)
            }
        };
        let response = response.unwrap_or_else(|error| RaftResponse::Failed(error.to_string()));
        if wire::write(&mut self.send, &response, RAFT_MAX).await.is_ok() {
            let _ = self.send.finish();
        }
        Ok(())
    }

    /// A vote speaks for its sender: nobody may campaign, or lead, in another's name.
    fn check(&self, request: &RaftRequest) -> Result<(), (Refusal, String)> {
        let vote: &Vote = match request {
            RaftRequest::Append(request) => &request.vote,
            RaftRequest::Vote(request) | RaftRequest::PreVote(request) => &request.vote,
            RaftRequest::Snapshot { vote, .. } => vote,
            RaftRequest::TransferLeader(request) => request.from_leader(),
        };
        let speaks_for = vote.leader_id.node_id;
        if speaks_for != self.peer {
            let text = format!("speaks for node {speaks_for}");
            return Err((Refusal::ForgedNodeId, text));
        }
        Ok(())
    }
}

async fn read_snapshot(stream: &mut quinn::RecvStream, length: u64) -> Result<Bytes, WireError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > SNAPSHOT_MAX {
        return Err(WireError::TooLong { length, max: SNAPSHOT_MAX });
    }
    Ok(wire::read_bytes(stream, length).await?.into())
}

fn malformed(error: &WireError) -> Result<(), (Refusal, String)> {
    match error.is_malformed() {
        true => Err((Refusal::Malformed, error.to_string())),
        false => Ok(()),
    }
}
