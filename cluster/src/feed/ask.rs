//! What a relay asks of the cluster: its own entry in the directory, a read that is current, a new
//! certificate. It asks the origin that feeds it, which asks the leader.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: what origins ask of each other (`cluster::propose`).

#![allow(clippy::disallowed_methods, reason = "driver: questions have a deadline")]

use std::time::{Duration, Instant};

use super::follow::Following;
use crate::cluster::{Inner, ProposeError};
use crate::command::{Answer, Command, NodeState};
use crate::control::messages::{Request, Response};
use crate::id::NodeId;
use crate::transport::link::ask_on;
use crate::transport::wire::CONTROL_MAX;

/// Between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// Control requests go before media.
const PRIORITY: i32 = 5;
/// How long a read waits for an origin to feed this relay: what finding another one takes.
const FEEDER_WITHIN: Duration = Duration::from_millis(500);
/// How long the last word of a relay that stops may take.
const GOODBYE_MAX: Duration = Duration::from_millis(300);

/// Whether a relay may have this put into the log: what it says of itself.
pub(crate) fn is_of_relay(command: &Command, relay: NodeId) -> bool {
    match command {
        Command::PutNode(info) => info.id == relay,
        Command::SetNodeState { id, state, .. } => *id == relay && *state == NodeState::Draining,
        _ => false,
    }
}

impl Following {
    /// Asks the origin that feeds this relay; `None`: there is none, or it does not answer.
    pub(crate) async fn ask(&self, request: &Request, within: Duration) -> Option<Response> {
        let started = Instant::now();
        let live = match self.feeder() {
            Some(live) => live,
            None => self.wait(within).await?,
        };
        let left = within.saturating_sub(started.elapsed());
        ask_on(&live.connection, request, PRIORITY, CONTROL_MAX, left).await.ok()
    }
}

impl Inner {
    /// As a relay: has a command put into the log.
    pub(crate) async fn propose_as_relay(
        &self,
        following: &Following,
        command: Command,
    ) -> Result<Answer, ProposeError> {
        if !is_of_relay(&command, self.identity().node()) {
            return Err(ProposeError::Relay);
        }
        let deadline = Instant::now() + self.propose_within();
        let request = Request::Propose(command);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ProposeError::NoQuorum);
            }
            match following.ask(&request, left).await {
                Some(Response::Answer(answer)) => return Ok(answer),
                Some(Response::TooBusy) => return Err(ProposeError::TooBusy),
                Some(Response::Failed(why)) => return Err(ProposeError::Stopped(why)),
                _ => tokio::time::sleep(RETRY_EVERY.min(left)).await,
            }
        }
    }

    /// As a relay: waits until the view has all that was committed anywhere when this was called.
    pub(crate) async fn linearizable_as_relay(
        &self,
        following: &Following,
    ) -> Result<(), ProposeError> {
        let deadline = Instant::now() + self.propose_within();
        let left = || deadline.saturating_duration_since(Instant::now());
        // Who is cut off need not wait to know it.
        if following.wait(FEEDER_WITHIN.min(left())).await.is_none() {
            return Err(ProposeError::NoQuorum);
        }
        let Some(Response::Index(index)) = following.ask(&Request::ReadIndex, left()).await else {
            return Err(ProposeError::NoQuorum);
        };
        let mut view = self.watch_view();
        let applied = view.wait_for(|view| view.index() >= index);
        match tokio::time::timeout(left(), applied).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ProposeError::Stopped("the relay follows no feed any more".into())),
            Err(_) => Err(ProposeError::NoQuorum),
        }
    }

    /// As a relay that stops: tells the others to take nothing new from it. Its next start ends that.
    pub(crate) async fn say_goodbye(&self, following: &Following) {
        let id = self.identity().node();
        let incarnation = self.identity().incarnation();
        let command = Command::SetNodeState { id, incarnation, state: NodeState::Draining };
        if following.feeder().is_some() {
            let told = self.propose_as_relay(following, command);
            if tokio::time::timeout(GOODBYE_MAX, told).await.is_err() {
                tracing::debug!("no origin has noted that this relay stops");
            }
        }
    }
}
