//! The handle that a node holds on its cluster.
//!
//! A cluster of one is a cluster like any other: the same log, the same state machine, only nobody
//! to wait for. It needs no socket, and leads a moment after it was opened.
//!
//! A driver file: awaits, reads the wall clock.
//!
//! Not here: what a node does with its streams (`headwater`), media (`headwater-relay`).

#![allow(clippy::disallowed_methods, reason = "driver: gives commands their wall-clock time")]

mod claims;
mod members;
mod open;
mod options;
mod propose;
mod recover;
mod status;
#[cfg(test)]
mod tests;
mod upkeep;
mod watch;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_media::id::StreamName;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch as tokio_watch};
use tokio_util::sync::CancellationToken;

pub use self::claims::ClaimError;
pub use self::open::OpenError;
pub use self::options::{ClusterOptions, Join, Timings};
pub use self::propose::ProposeError;
pub use self::recover::{RecoverError, Recovered, recover_force};
pub use self::status::{ClusterStatus, NodeStatus};
pub use self::upkeep::Fault;
use crate::claim::Wish;
use crate::command::{Answer, COMMAND_VERSION, Command, Grant, NodeState, Role};
use crate::control::holder::Holder;
use crate::detect::{Detector, Health};
use crate::endpoint::{Alpn, ConnectError, Endpoint, Inbound, Refused};
use crate::feed::follow::Following;
use crate::feed::server::Feeds;
use crate::id::{Incarnation, NodeId, Region, WallTime};
use crate::identity::{Identity, JoinToken, TokenHash};
use crate::raft::TypeConfig;
use crate::store::StateMachine;
use crate::transport::hello::Registry;
use crate::transport::link::Links;
use crate::view::View;

/// What all parts of the cluster's driver share.
pub(crate) struct Inner {
    identity: Arc<Identity>,
    options: ClusterOptions,
    /// `host:port` for the others; empty without an endpoint.
    address: String,
    mind: Mind,
    view: tokio_watch::Receiver<Arc<View>>,
    net: Option<(Endpoint, Arc<Registry>)>,
    links: Arc<Links>,
    detector: Mutex<Detector>,
    proposals: Semaphore,
    relay_queue: Mutex<Option<mpsc::Receiver<Inbound>>>,
    fault: tokio_watch::Sender<Option<Fault>>,
    stop: CancellationToken,
}

/// How a node knows what the cluster decided.
pub(crate) enum Mind {
    /// An origin takes part in deciding.
    Votes { raft: Raft<TypeConfig, StateMachine>, feeds: Arc<Feeds> },
    /// A relay is told.
    Follows(Arc<Following>),
}

/// A node's cluster. Clones are the same one. It runs until [`Cluster::shutdown`]; dropping it does
/// not end it.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.inner.identity).finish()
    }
}

impl Cluster {
    /// Opens the cluster: reads the data folder, or joins, or begins a cluster of one. Returns
    /// when the node takes part; whether there is a quorum is another matter.
    ///
    /// # Errors
    /// Each says what an operator should do.
    pub async fn open(options: ClusterOptions) -> Result<Cluster, OpenError> {
        Box::pin(open::open(options)).await
    }

    /// This node's number.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.identity.node()
    }

    /// What this node does.
    #[must_use]
    pub fn role(&self) -> Role {
        self.inner.identity.subject().role
    }

    /// Which start of this node's process this is.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.inner.identity.incarnation()
    }

    /// The state as this replica has it; changes as entries are applied.
    #[must_use]
    pub fn view(&self) -> tokio_watch::Receiver<Arc<View>> {
        self.inner.view.clone()
    }

    /// Puts a command into the log, and gives its answer. Safe to repeat.
    ///
    /// # Errors
    /// No quorum in time; too many waiting; this node has stopped.
    pub async fn propose(&self, command: Command) -> Result<Answer, ProposeError> {
        self.inner.propose(command).await
    }

    /// Claims a stream for a publisher's session on this node.
    ///
    /// # Errors
    /// Refused, or undecidable.
    pub async fn claim(&self, wish: Wish) -> Result<Grant, ClaimError> {
        Box::pin(self.inner.claim(wish)).await
    }

    /// For how long the publisher of a stream at another node has sent nothing; `None` if it has none
    /// there, or the node does not say.
    pub async fn silence_at(&self, node: NodeId, stream: &StreamName) -> Option<Duration> {
        self.inner.silence_at(node, stream).await
    }

    /// Whether this node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.inner.leader() == Some(self.node())
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.leader()
    }

    /// Waits until the view has all that was committed anywhere when this was called.
    ///
    /// # Errors
    /// No quorum in time; this node has stopped.
    pub async fn linearizable(&self) -> Result<(), ProposeError> {
        self.inner.linearizable().await
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.inner.status()
    }

    /// What is wrong with this node until an operator does something; `None`: nothing.
    #[must_use]
    pub fn fault(&self) -> tokio_watch::Receiver<Option<Fault>> {
        self.inner.fault.subscribe()
    }

    /// What was refused on the cluster port; `None` without an endpoint.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.inner.net.as_ref().map(|(endpoint, _)| endpoint.refused().clone())
    }

    /// Where the endpoint listens; `None` without one.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.inner.net.as_ref().and_then(|(endpoint, _)| endpoint.local_address().ok())
    }

    /// Makes a join token: single use, valid for so long.
    ///
    /// # Errors
    /// No quorum in time; too many tokens; a life that is too long.
    pub async fn join_token(&self, valid_for: Duration) -> Result<JoinToken, TokenError> {
        let identity = &self.inner.identity;
        let token =
            JoinToken::create(identity.subject().cluster, identity.authority_certificate())?;
        let now = self.inner.wall_time();
        let life = u64::try_from(valid_for.as_millis()).unwrap_or(u64::MAX);
        let command =
            Command::PutJoinToken { token: token.hash(), expires: now.plus_ms(life), now };
        match self.propose(command).await? {
            Answer::Refused(refusal) => Err(TokenError::Refused(refusal)),
            _ => Ok(token),
        }
    }

    /// Lets a node leave gently: it takes no new streams, and gives leadership away.
    ///
    /// # Errors
    /// No quorum in time, or no such node.
    pub async fn drain(&self, node: NodeId) -> Result<Answer, ProposeError> {
        let view = self.inner.view();
        let known = view.node(node).map(|node| node.info.incarnation);
        let incarnation = known.unwrap_or_default();
        drop(view);
        self.propose(Command::SetNodeState { id: node, incarnation, state: NodeState::Draining })
            .await
    }

    /// Removes a node for good: its streams may be claimed at once, its certificate is refused, and
    /// its vote is taken out as soon as a leader can.
    ///
    /// # Errors
    /// No quorum in time, or no such node.
    pub async fn remove(&self, node: NodeId) -> Result<Answer, ProposeError> {
        self.propose(Command::RemoveNode { id: node }).await
    }

    /// The newest version of commands that all nodes within reach understand, this one included:
    /// while a cluster is upgraded node by node, nothing newer may be proposed.
    #[must_use]
    pub fn commands_understood(&self) -> u16 {
        let links = self.inner.links.all(Alpn::Control);
        let theirs = links.iter().filter_map(|(_, link)| link.live());
        theirs.map(|live| live.hello.commands).fold(COMMAND_VERSION, u16::min)
    }

    /// A connection to another node for media. The caller keeps it as long as it needs it.
    ///
    /// # Errors
    /// The node is not known, not there, or not who it should be.
    pub async fn connect_relay(&self, node: NodeId) -> Result<quinn::Connection, ConnectError> {
        let Some((endpoint, _)) = &self.inner.net else { return Err(ConnectError::Closed) };
        let address = self.inner.address_of(node);
        endpoint.connect(&address, Alpn::Relay, Some(node)).await
    }

    /// Connections for media that other nodes open. Can be taken once.
    #[must_use]
    pub fn take_relay_connections(&self) -> Option<mpsc::Receiver<Inbound>> {
        self.inner.relay_queue.lock().take()
    }

    /// Gives leadership away if it has it, stops, and closes the endpoint and the store.
    pub async fn shutdown(&self) {
        self.inner.hand_over().await;
        if let Some(following) = self.inner.following() {
            self.inner.say_goodbye(following).await;
        }
        self.inner.stop.cancel();
        match &self.inner.mind {
            Mind::Votes { raft, .. } => {
                if let Err(error) = raft.shutdown().await {
                    tracing::warn!(%error, "raft did not stop in order");
                }
            }
            Mind::Follows(following) => self.inner.keep_newest(following).await,
        }
        self.inner.links.stop();
        if let Some((endpoint, _)) = &self.inner.net {
            endpoint.close().await;
        }
    }
}

/// Why there is no join token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The cluster cannot decide now.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// It refuses.
    #[error(transparent)]
    Refused(crate::command::Refusal),
    /// The token could not be made.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
}

impl Inner {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn holder(&self) -> &dyn Holder {
        &*self.options.holder
    }

    pub(crate) fn registry(&self) -> Option<&Arc<Registry>> {
        self.net.as_ref().map(|(_, registry)| registry)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Raft; `None` on a relay.
    pub(crate) fn raft(&self) -> Option<&Raft<TypeConfig, StateMachine>> {
        match &self.mind {
            Mind::Votes { raft, .. } => Some(raft),
            Mind::Follows(_) => None,
        }
    }

    /// What this origin has for relays; `None` on a relay.
    pub(crate) fn feeds(&self) -> Option<&Arc<Feeds>> {
        match &self.mind {
            Mind::Votes { feeds, .. } => Some(feeds),
            Mind::Follows(_) => None,
        }
    }

    /// The feed that this relay follows; `None` on an origin.
    pub(crate) fn following(&self) -> Option<&Arc<Following>> {
        match &self.mind {
            Mind::Votes { .. } => None,
            Mind::Follows(following) => Some(following),
        }
    }

    /// Another origin tells which relays it hears.
    pub(crate) fn attendance_told(&self, relays: &[(NodeId, Incarnation)]) {
        if let Some(feeds) = self.feeds() {
            feeds.attendance.lock().told(relays, Instant::now());
        }
    }

    pub(crate) fn net(&self) -> Option<(&Endpoint, &Arc<Registry>)> {
        self.net.as_ref().map(|(endpoint, registry)| (endpoint, registry))
    }

    pub(crate) fn region(&self) -> &Region {
        &self.options.region
    }

    pub(crate) fn suspect_after(&self) -> Duration {
        self.options.timings.suspect_after
    }

    pub(crate) fn propose_within(&self) -> Duration {
        self.options.timings.propose_within
    }

    /// How long a leader counts as one after a majority was last heard.
    pub(crate) fn lease(&self) -> Duration {
        self.options.timings.election.1
    }

    pub(crate) fn health_of(&self, node: NodeId, now: Instant) -> Option<Health> {
        self.detector.lock().health(node, now)
    }

    pub(crate) fn watch_view(&self) -> tokio_watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Writes down what a relay has, for its next start.
    async fn keep_newest(&self, following: &Following) {
        let Some((at, view)) = following.newest() else { return };
        let path = self.identity.folder().path().join(crate::feed::keep::FILE);
        let kept =
            tokio::task::spawn_blocking(move || crate::feed::keep::save(&path, at, &view)).await;
        if kept.is_err() {
            tracing::warn!("the directory was not kept for the next start");
        }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        match &self.mind {
            Mind::Votes { raft, .. } => raft.metrics().borrow_watched().current_leader,
            Mind::Follows(following) => following.standing().leader,
        }
    }

    fn term(&self) -> u64 {
        match &self.mind {
            Mind::Votes { raft, .. } => raft.metrics().borrow_watched().current_term,
            Mind::Follows(following) => following.standing().term,
        }
    }

    /// Why Raft has stopped, if it has.
    fn raft_failure(&self) -> Option<String> {
        let metrics = self.raft()?.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.as_ref().err().map(ToString::to_string)
    }

    fn set_fault(&self, fault: Option<Fault>) {
        self.fault.send_if_modified(|current| {
            let changed = *current != fault;
            if changed {
                match &fault {
                    Some(fault) => tracing::error!(%fault, "this node does not take part"),
                    None => tracing::info!("this node takes part again"),
                }
                *current = fault;
            }
            changed
        });
    }

    fn is_expired(&self) -> bool {
        self.identity.certificate().remaining(self.wall_clock()).is_zero()
    }

    pub(crate) fn wall_clock(&self) -> SystemTime {
        SystemTime::now()
    }

    pub(crate) fn wall_time(&self) -> WallTime {
        let since = self.wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Where a node is reached; empty if nobody knows.
    fn address_of(&self, node: NodeId) -> String {
        if let Some(known) = self.view.borrow().node(node) {
            return known.info.address.clone();
        }
        if let Some(raft) = self.raft() {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            if let Some(known) = metrics.membership_config.get_node(&node) {
                return known.address.clone();
            }
        }
        let peer = self.identity.peers().iter().find(|peer| peer.node == node);
        peer.map(|peer| peer.address.clone()).unwrap_or_default()
    }

    /// Whether the token is in the directory, or gets there within this time.
    pub(crate) async fn knows_join_token(&self, token: &TokenHash, within: Duration) -> bool {
        let mut view = self.view.clone();
        let known = view.wait_for(|view| view.join_token(token).is_some());
        matches!(tokio::time::timeout(within, known).await, Ok(Ok(_)))
    }
}
