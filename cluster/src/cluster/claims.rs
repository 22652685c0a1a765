//! Drives a claim: asks the nodes, proposes, waits for the replica.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: what is asked and claimed (`claim`).

#![allow(clippy::disallowed_methods, reason = "driver: claims are driven by the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::id::{Epoch, StreamName};
use tokio::sync::mpsc;

use super::{Inner, ProposeError};
use crate::claim::{ASK_MAX, Claiming, Progress, Step, Wish};
use crate::command::{Command, Grant, Refusal};
use crate::control::messages::{Request, Response};
use crate::detect::Health;
use crate::id::NodeId;
use crate::state::Publisher;

/// Why a publisher does not get its stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The cluster says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Relays take no publishers.
    #[error("this node is a relay, and relays take no publishers")]
    Relay,
    /// The cluster cannot say anything.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// How long a node that is not heard any more has to say how far it is. It is asked all the same,
/// since its word would be exact; but most likely it is dead, and viewers wait.
const ASK_SILENT_MAX: Duration = Duration::from_millis(25);

/// Who answered, and what.
type Told = (NodeId, Option<Progress>);

impl Inner {
    pub(crate) async fn claim(self: &Arc<Self>, wish: Wish) -> Result<Grant, ClaimError> {
        if self.following().is_some() {
            return Err(ClaimError::Relay);
        }
        let stream = wish.stream.clone();
        if self.would_stop_somebody(&wish) {
            // Without a quorum nothing can be granted, so nobody may be stopped for it.
            self.linearizable().await?;
        }
        let view = self.view();
        let mut claiming = Claiming::new(wish, &view, Instant::now(), self.wall_time());
        drop(view);
        let (tell, mut told) = mpsc::channel::<Told>(16);
        loop {
            match claiming.poll(Instant::now()) {
                Step::Ask { nodes, owner, epoch } => {
                    for node in nodes {
                        self.ask_progress(node, &stream, (node == owner).then_some(epoch), &tell);
                    }
                }
                Step::WaitUntil(until) => {
                    let until = tokio::time::Instant::from_std(until);
                    match tokio::time::timeout_at(until, told.recv()).await {
                        Ok(Some((node, Some(progress)))) => claiming.on_progress(node, progress),
                        Ok(Some((node, None))) => claiming.on_silence(node),
                        Ok(None) | Err(_) => {}
                    }
                }
                Step::Propose(claim) => {
                    let answer = self.propose(Command::Claim(*claim)).await?;
                    claiming.on_answer(answer);
                }
                Step::WaitForView(epoch) => {
                    let mut view = self.view.clone();
                    let within = self.options.timings.propose_within;
                    let known = view.wait_for(|view| view.epoch_of(&stream) >= epoch);
                    if !matches!(tokio::time::timeout(within, known).await, Ok(Ok(_))) {
                        return Err(ProposeError::NoQuorum.into());
                    }
                    claiming.on_view(&self.view(), Instant::now(), self.wall_time());
                }
                Step::Done(done) => return done.map_err(ClaimError::Refused),
            }
        }
    }

    /// Whether the claim would end a publisher's session that goes on at a node within reach.
    fn would_stop_somebody(&self, wish: &Wish) -> bool {
        let view = self.view();
        let Some(record) = view.stream(&wish.stream) else { return false };
        let health = self.detector.lock().health(record.claimant.node, Instant::now());
        let silent = matches!(health, Some(Health::Suspect | Health::Confirmed));
        wish.takeover && record.publisher == Publisher::Live && !silent
    }

    /// Asks a node for how long its publisher of a stream has sent nothing.
    pub(crate) async fn silence_at(&self, node: NodeId, stream: &StreamName) -> Option<Duration> {
        let request = Request::Silence { stream: stream.clone() };
        match self.ask(node, &request, ASK_MAX).await {
            Response::Silence(millis) => millis.map(Duration::from_millis),
            _ => None,
        }
    }

    /// Asks one node, in a task of its own; `fence`: it is the owner of that epoch and must stop.
    fn ask_progress(
        self: &Arc<Self>,
        node: NodeId,
        stream: &StreamName,
        fence: Option<Epoch>,
        tell: &mpsc::Sender<Told>,
    ) {
        let (cluster, stream, tell) = (self.clone(), stream.clone(), tell.clone());
        tokio::spawn(async move {
            let progress = if node == cluster.identity.node() {
                match fence {
                    Some(epoch) => cluster.options.holder.fence(&stream, epoch),
                    None => cluster.options.holder.progress(&stream),
                }
            } else {
                let request = match fence {
                    Some(epoch) => Request::Fence { stream, epoch },
                    None => Request::Progress { stream },
                };
                let silent = cluster.detector.lock().health(node, Instant::now());
                let within = match silent {
                    Some(Health::Suspect | Health::Confirmed) => ASK_SILENT_MAX,
                    _ => ASK_MAX,
                };
                match cluster.ask(node, &request, within).await {
                    Response::Progress(progress) => progress,
                    _ => None,
                }
            };
            let _ = tell.send((node, progress)).await;
        });
    }
}
