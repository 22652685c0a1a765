//! A persistent connection to one peer, for one protocol: opened anew whenever it breaks.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: what is sent (`raft_client`, `control`).

#![allow(clippy::disallowed_methods, reason = "driver: paces its reconnections by the clock")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::hello::{Hello, Registry};
use super::wire::{self, WireError};
use crate::endpoint::{Alpn, ConnectError, Endpoint};
use crate::id::NodeId;
use crate::identity::Refusal;

/// First pause before a new attempt; doubled at each failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest pause: a node that comes back is found within a second.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that held this long begins with short pauses again.
const HELD: Duration = Duration::from_secs(5);

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("not connected: {0}")]
    NotConnected(String),
    #[error("no answer in time")]
    Timeout,
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A connection with what its other end said first.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) connection: quinn::Connection,
    pub(crate) hello: Hello,
}

/// A connection that is kept up.
pub(crate) struct Link {
    node: NodeId,
    alpn: Alpn,
    address: Mutex<String>,
    moved: Notify,
    live: watch::Sender<Option<Live>>,
    error: Mutex<String>,
    refusal: Mutex<Option<Refusal>>,
}

impl Link {
    /// The connection, if it is up.
    pub(crate) fn live(&self) -> Option<Live> {
        self.live.borrow().clone().filter(|live| live.connection.close_reason().is_none())
    }

    /// Why it is not.
    pub(crate) fn error(&self) -> String {
        self.error.lock().clone()
    }

    /// Whether the peer refuses us, and why.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        *self.refusal.lock()
    }

    /// The connection, as soon as it is up; waits no longer than `within`.
    pub(crate) async fn wait(&self, within: Duration) -> Option<Live> {
        let mut live = self.live.subscribe();
        let up = live.wait_for(|live| {
            live.as_ref().is_some_and(|live| live.connection.close_reason().is_none())
        });
        tokio::time::timeout(within, up).await.ok()?.ok()?.clone()
    }

    /// Sends a request on a stream of its own, and reads the answer.
    pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        question: &Q,
        priority: i32,
        max: usize,
        within: Duration,
    ) -> Result<A, AskError> {
        let Some(live) = self.live() else {
            return Err(AskError::NotConnected(self.error()));
        };
        ask_on(&live.connection, question, priority, max, within).await
    }

    fn readdress(&self, address: &str) {
        let mut known = self.address.lock();
        if !address.is_empty() && *known != address {
            address.clone_into(&mut known);
            self.moved.notify_one();
        }
    }

    async fn run(self: Arc<Self>, endpoint: Endpoint, registry: Arc<Registry>) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let address = self.address.lock().clone();
            let since = Instant::now();
            match self.open(&endpoint, &registry, &address).await {
                Ok(live) => {
                    tracing::debug!(
                        node = self.node.0,
                        address,
                        alpn = self.alpn.name(),
                        "connected"
                    );
                    *self.refusal.lock() = None;
                    self.live.send_replace(Some(live.clone()));
                    let reason = live.connection.closed().await;
                    self.live.send_replace(None);
                    *self.error.lock() = reason.to_string();
                    tracing::debug!(node = self.node.0, %reason, "connection ended");
                }
                Err(error) => self.failed(&error, &address),
            }
            if since.elapsed() > HELD {
                backoff = BACKOFF_FIRST;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = self.moved.notified() => backoff = BACKOFF_FIRST,
            }
            backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
        }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        registry: &Registry,
        address: &str,
    ) -> Result<Live, ConnectError> {
        let connection = endpoint.connect(address, self.alpn, Some(self.node)).await?;
        let hello = registry.greet(&connection, address).await?;
        Ok(Live { connection, hello })
    }

    fn failed(&self, error: &ConnectError, address: &str) {
        let refusal = match error {
            ConnectError::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        };
        let text = error.to_string();
        let mut last = self.error.lock();
        if *last != text {
            // Once a change, not once an attempt.
            let node = self.node.0;
            match refusal {
                Some(_) => tracing::warn!(node, address, error = text, "a node refuses us"),
                None => tracing::info!(node, address, error = text, "a node cannot be reached"),
            }
        }
        *last = text;
        *self.refusal.lock() = refusal;
    }
}

/// Sends a request on a stream of its own, and reads the answer.
pub(crate) async fn ask_on<Q: Serialize, A: DeserializeOwned>(
    connection: &quinn::Connection,
    question: &Q,
    priority: i32,
    max: usize,
    within: Duration,
) -> Result<A, AskError> {
    let talk = async {
        let (mut send, mut receive) = connection.open_bi().await.map_err(|_| WireError::Cut)?;
        let _ = send.set_priority(priority);
        wire::write(&mut send, question, max).await?;
        let _ = send.finish();
        wire::read::<A>(&mut receive, max).await
    };
    match tokio::time::timeout(within, talk).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AskError::Timeout),
    }
}

/// The links to all peers. Without an endpoint (a cluster of one) there are none.
pub(crate) struct Links {
    endpoint: Option<(Endpoint, Arc<Registry>)>,
    links: Mutex<HashMap<(Alpn, NodeId), Kept>>,
    /// What a call without an endpoint finds.
    nowhere: Arc<Link>,
}

struct Kept {
    link: Arc<Link>,
    _running: DropGuard,
}

impl Links {
    pub(crate) fn new(endpoint: Option<(Endpoint, Arc<Registry>)>) -> Links {
        let nowhere = Arc::new(Link::new(NodeId(0), Alpn::Raft, ""));
        *nowhere.error.lock() = ConnectError::Closed.to_string();
        Links { endpoint, links: Mutex::default(), nowhere }
    }

    /// The link to a node; begins it, or tells it a new address.
    pub(crate) fn to(&self, alpn: Alpn, node: NodeId, address: &str) -> Arc<Link> {
        let Some((endpoint, registry)) = &self.endpoint else { return self.nowhere.clone() };
        let mut links = self.links.lock();
        if let Some(kept) = links.get(&(alpn, node)) {
            kept.link.readdress(address);
            return kept.link.clone();
        }
        let link = Arc::new(Link::new(node, alpn, address));
        let stop = CancellationToken::new();
        let run = link.clone().run(endpoint.clone(), registry.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(run));
        links.insert((alpn, node), Kept { link: link.clone(), _running: stop.drop_guard() });
        link
    }

    /// Tells a link, if there is one, where its node is now.
    pub(crate) fn readdress(&self, alpn: Alpn, node: NodeId, address: &str) {
        if let Some(kept) = self.links.lock().get(&(alpn, node)) {
            kept.link.readdress(address);
        }
    }

    /// The link to a node, if there is one.
    pub(crate) fn get(&self, alpn: Alpn, node: NodeId) -> Option<Arc<Link>> {
        self.links.lock().get(&(alpn, node)).map(|kept| kept.link.clone())
    }

    /// All links of a protocol.
    pub(crate) fn all(&self, alpn: Alpn) -> Vec<(NodeId, Arc<Link>)> {
        let links = self.links.lock();
        let of = links.iter().filter(|((of, _), _)| *of == alpn);
        of.map(|((_, node), kept)| (*node, kept.link.clone())).collect()
    }

    /// The nodes to which there are links.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.links.lock().keys().map(|(_, node)| *node).collect()
    }

    /// Ends the links to a node.
    pub(crate) fn part_with(&self, node: NodeId) {
        self.links.lock().retain(|(_, of), kept| {
            let part = *of == node;
            if let (true, Some(live)) = (part, kept.link.live()) {
                live.connection.close(0_u32.into(), b"no longer a member");
            }
            !part
        });
    }

    /// Ends all.
    pub(crate) fn stop(&self) {
        self.links.lock().clear();
    }
}

impl Link {
    fn new(node: NodeId, alpn: Alpn, address: &str) -> Link {
        Link {
            node,
            alpn,
            address: Mutex::new(address.to_owned()),
            moved: Notify::new(),
            live: watch::Sender::new(None),
            error: Mutex::new("not tried yet".into()),
            refusal: Mutex::new(None),
        }
    }
}
