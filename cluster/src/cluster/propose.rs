//! Brings a command to the leader, wherever that is, and its answer back; and reads that must be
//! current.
//!
//! Commands are idempotent, so whatever ends without an answer is proposed again until there is
//! one, or the time is over.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: which commands (`claim`, `detect`), what they do (`state`).

#![allow(clippy::disallowed_methods, reason = "driver: proposals have a deadline")]

use std::time::{Duration, Instant};

use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};

use super::{Fault, Inner};
use crate::command::{Answer, Command};
use crate::control::messages::{Request, Response};
use crate::endpoint::Alpn;
use crate::id::NodeId;
use crate::identity::Peer;
use crate::transport::wire::CONTROL_MAX;

/// Between two attempts: an election takes a few of them.
const RETRY_EVERY: Duration = Duration::from_millis(10);
/// How long another node may take before it is asked again, or another one: a leader that died
/// must not use up a proposal's time.
const ASK_WITHIN: Duration = Duration::from_millis(500);
/// Control requests go before media, after heartbeats.
const PRIORITY: i32 = 5;

/// Why a command was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// No majority of the voters could be reached in time. The command may still be committed
    /// later, if it had reached a leader.
    #[error("the cluster has no quorum now")]
    NoQuorum,
    /// Too many proposals wait.
    #[error("too many proposals are waiting")]
    TooBusy,
    /// This node is a relay, which changes nothing in the cluster.
    #[error("this node is a relay, which changes nothing in the cluster: ask an origin")]
    Relay,
    /// This node is shutting down, or its store has failed.
    #[error("this node has left the cluster: {0}")]
    Stopped(String),
}

impl Inner {
    /// Proposes, here or at the leader.
    pub(crate) async fn propose(&self, command: Command) -> Result<Answer, ProposeError> {
        if let Some(following) = self.following() {
            return self.propose_as_relay(following, command).await;
        }
        let Ok(_permit) = self.proposals.try_acquire() else {
            metrics::counter!("headwater_cluster_proposals_refused_total").increment(1);
            return Err(ProposeError::TooBusy);
        };
        let started = Instant::now();
        let request = Request::Propose(command);
        let response =
            self.at_leader(&request, started + self.options.timings.propose_within).await;
        metrics::histogram!("headwater_cluster_propose_seconds")
            .record(started.elapsed().as_secs_f64());
        match response? {
            Response::Answer(answer) => Ok(answer),
            Response::TooBusy => Err(ProposeError::TooBusy),
            Response::Failed(why) => Err(ProposeError::Stopped(why)),
            _ => Err(ProposeError::NoQuorum),
        }
    }

    /// Waits until this replica has applied all that was committed anywhere when it was called.
    pub(crate) async fn linearizable(&self) -> Result<(), ProposeError> {
        if let Some(following) = self.following() {
            return self.linearizable_as_relay(following).await;
        }
        let deadline = Instant::now() + self.options.timings.propose_within;
        let Response::Index(index) = self.at_leader(&Request::ReadIndex, deadline).await? else {
            return Err(ProposeError::NoQuorum);
        };
        let mut view = self.view.clone();
        let left = deadline.saturating_duration_since(Instant::now());
        let applied = view.wait_for(|view| view.index() >= index);
        match tokio::time::timeout(left, applied).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ProposeError::Stopped("the state machine has stopped".into())),
            Err(_) => Err(ProposeError::NoQuorum),
        }
    }

    /// Asks the leader until it answers.
    async fn at_leader(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, ProposeError> {
        let mut hint: Option<Peer> = None;
        let mut turn = 0_usize;
        loop {
            if self.stop.is_cancelled() {
                return Err(ProposeError::Stopped("it is shutting down".into()));
            }
            if let Some(fault) = &*self.fault.borrow()
                && *fault != Fault::Duplicate
            {
                return Err(ProposeError::Stopped(fault.to_string()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ProposeError::NoQuorum);
            }
            let response = if self.leader() == Some(self.identity.node()) {
                let here = self.here(request.clone());
                tokio::time::timeout(left, here).await.unwrap_or(Response::NoQuorum)
            } else {
                match self.candidate(hint.take(), turn) {
                    Some(node) => self.ask_while_leading(node, request, left.min(ASK_WITHIN)).await,
                    None => Response::NotLeader { leader: None },
                }
            };
            match response {
                Response::NotLeader { leader } => {
                    hint = leader.filter(|leader| leader.node != self.identity.node());
                    let pause =
                        if hint.is_some() && turn < 2 { Duration::ZERO } else { RETRY_EVERY };
                    turn = turn.saturating_add(1);
                    tokio::time::sleep(pause.min(left)).await;
                }
                Response::NoQuorum => tokio::time::sleep(RETRY_EVERY.min(left)).await,
                response => return Ok(response),
            }
        }
    }

    /// Whom to ask: the leader, or who may be it, or anybody in turn.
    fn candidate(&self, hint: Option<Peer>, turn: usize) -> Option<NodeId> {
        // A node that is in the directory knows the others from there; a hint is for one that is not.
        let view = self.view();
        let is_new = view.node(self.identity.node()).is_none();
        if let Some(peer) = hint.filter(|peer| is_new || view.node(peer.node).is_some()) {
            self.links.to(Alpn::Control, peer.node, &peer.address);
            return Some(peer.node);
        }
        if let Some(leader) = self.leader() {
            return Some(leader);
        }
        let mut live = self.links.all(Alpn::Control);
        live.retain(|(_, link)| link.live().is_some());
        live.sort_by_key(|(node, _)| *node);
        let turn = turn.checked_rem(live.len())?;
        live.get(turn).map(|(node, _)| *node)
    }

    /// Asks one node, and gives up as soon as it is known that it leads no more: a leader that died
    /// keeps its connections for a while.
    async fn ask_while_leading(
        &self,
        node: NodeId,
        request: &Request,
        within: Duration,
    ) -> Response {
        let asked = self.ask(node, request, within);
        if self.leader() != Some(node) {
            return asked.await;
        }
        let Some(raft) = self.raft() else { return asked.await };
        let wait = raft.wait(Some(within));
        tokio::select! {
            response = asked => response,
            _ = wait.metrics(|metrics| metrics.current_leader != Some(node), "another leads") => {
                Response::NotLeader { leader: None }
            }
        }
    }

    /// Asks one node.
    pub(crate) async fn ask(&self, node: NodeId, request: &Request, within: Duration) -> Response {
        let address = self.address_of(node);
        let link = self.links.to(Alpn::Control, node, &address);
        if link.live().is_none() && link.wait(within).await.is_none() {
            return Response::NotLeader { leader: None };
        }
        if link.live().is_some_and(|live| live.hello.protocol.1 < request.since()) {
            return Response::Failed(format!("node {} does not know what it is asked yet", node.0));
        }
        match link.ask(request, PRIORITY, CONTROL_MAX, within).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(node = node.0, %error, "a control request had no answer");
                Response::NotLeader { leader: None }
            }
        }
    }

    async fn here(&self, request: Request) -> Response {
        match request {
            Request::Propose(command) => self.write(command).await,
            _ => self.read_index_here().await,
        }
    }

    /// For another node: puts the command into the log, if this node leads.
    pub(crate) async fn propose_here(&self, command: Command) -> Response {
        let Ok(_permit) = self.proposals.try_acquire() else { return Response::TooBusy };
        let within = self.options.timings.propose_within;
        tokio::time::timeout(within, self.write(command)).await.unwrap_or(Response::NoQuorum)
    }

    async fn write(&self, command: Command) -> Response {
        let Some(raft) = self.raft() else { return Response::NotLeader { leader: None } };
        match raft.client_write(command).await {
            Ok(written) => Response::Answer(written.data),
            Err(RaftError::Fatal(fatal)) => Response::Failed(fatal.to_string()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                self.not_leader(to.leader_id)
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(to))) => {
                self.not_leader(to.leader_id)
            }
            Err(RaftError::APIError(error)) => Response::Failed(error.to_string()),
        }
    }

    /// For another node: how far it must have applied the log to read what is current.
    pub(crate) async fn read_index_here(&self) -> Response {
        let Some(raft) = self.raft() else { return Response::NotLeader { leader: None } };
        match raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Response::Index(self.view.borrow().index()),
            Err(RaftError::Fatal(fatal)) => Response::Failed(fatal.to_string()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                self.not_leader(to.leader_id)
            }
            Err(RaftError::APIError(_)) => Response::NoQuorum,
        }
    }

    /// A leader whose lease has just ended, or has not begun, names itself or nobody: try again.
    fn not_leader(&self, leader: Option<NodeId>) -> Response {
        let leader = leader.filter(|leader| *leader != self.identity.node());
        let leader = leader.map(|node| Peer { node, address: self.address_of(node) });
        Response::NotLeader { leader }
    }
}
