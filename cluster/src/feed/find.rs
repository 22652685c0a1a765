//! Finds an origin that feeds: asks several, each a little after the one before, and takes the first
//! that answers. A dead origin costs no more than the pause before the next one is asked.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: in which order (`choose`), what is done with the feed (`follow`).

#![allow(clippy::disallowed_methods, reason = "driver: notes when an origin failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::RecvStream;
use tokio::task::JoinSet;

use super::follow::Following;
use super::wire::{How, Message, Position, Standing};
use super::{MESSAGE_MAX, SINCE_PROTOCOL, choose};
use crate::cluster::Inner;
use crate::control::messages::Request;
use crate::endpoint::{Alpn, ConnectError};
use crate::id::NodeId;
use crate::identity::{Peer, Refusal};
use crate::transport::link::Live;
use crate::transport::wire::{self, CONTROL_MAX, WireError};

/// The next origin is asked when the one before has not answered for this long: a handshake and two
/// questions within a continent take half of it.
const NEXT_AFTER: Duration = Duration::from_millis(150);
/// Longest time for one attempt. An origin that has less than the relay first asks its leader, which
/// may take a proposal's time.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// A feed that has begun.
pub(crate) struct Opened {
    pub(crate) node: NodeId,
    pub(crate) live: Live,
    pub(crate) standing: Standing,
    pub(crate) how: How,
    pub(crate) receive: RecvStream,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    /// How far the relay has the log.
    pub(crate) from: Option<Position>,
    /// The origin that it has, which need not be asked.
    pub(crate) current: Option<NodeId>,
    /// Take none that has no quorum.
    pub(crate) fresh: bool,
}

/// Why an origin does not feed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("does not answer in time")]
    Silent,
    #[error("has less of the log than this relay, and no quorum to ask")]
    Behind,
    #[error("has no quorum either")]
    Leaderless,
    #[error("runs {0}, which feeds no relays: upgrade the origins first")]
    Old(String),
    #[error("begins its feed with something else")]
    Odd,
}

impl FindError {
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            FindError::Connect(ConnectError::Refused { refusal, .. }) => Some(*refusal),
            _ => None,
        }
    }
}

/// The first origin that begins to feed; `None`: nobody does now.
pub(crate) async fn find(cluster: Arc<Inner>, search: Search) -> Option<Opened> {
    let following = cluster.following()?.clone();
    let mut rest = order(&cluster, &following, &search).into_iter();
    let mut attempts = JoinSet::new();
    loop {
        let more = match rest.next() {
            Some(peer) => {
                attempts.spawn(attempt(cluster.clone(), peer, search));
                true
            }
            None if attempts.is_empty() => return None,
            None => false,
        };
        tokio::select! {
            Some(done) = attempts.join_next() => match done {
                Ok(Ok(opened)) => return Some(opened),
                Ok(Err((peer, error))) => following.failed(&peer, &error, Instant::now()),
                Err(_) => {}
            },
            () = tokio::time::sleep(NEXT_AFTER), if more => {}
        }
    }
}

fn order(cluster: &Inner, following: &Following, search: &Search) -> Vec<Peer> {
    let view = cluster.view();
    let failures = following.failures();
    let asker = choose::Asker {
        me: cluster.identity().node(),
        region: cluster.region(),
        view: &view,
        peers: cluster.identity().peers(),
        failures: &failures,
        current: search.current,
    };
    choose::candidates(&asker, Instant::now())
}

async fn attempt(
    cluster: Arc<Inner>,
    peer: Peer,
    search: Search,
) -> Result<Opened, (Peer, FindError)> {
    let opened = tokio::time::timeout(ATTEMPT_MAX, open(&cluster, &peer, search)).await;
    opened.unwrap_or(Err(FindError::Silent)).map_err(|error| (peer, error))
}

async fn open(cluster: &Inner, peer: &Peer, search: Search) -> Result<Opened, FindError> {
    let Some((endpoint, registry)) = cluster.net() else { return Err(ConnectError::Closed.into()) };
    let connection = endpoint.connect(&peer.address, Alpn::Control, Some(peer.node)).await?;
    let hello = registry.greet(&connection, &peer.address).await?;
    if hello.protocol.1 < SINCE_PROTOCOL {
        return Err(FindError::Old(hello.program.escape_default().to_string()));
    }
    let (mut send, mut receive) = connection.open_bi().await.map_err(|_| WireError::Cut)?;
    wire::write(&mut send, &Request::Follow { from: search.from }, CONTROL_MAX).await?;
    let _ = send.finish();
    let first = wire::read::<Message>(&mut receive, MESSAGE_MAX).await?;
    let Message::Opening { standing, how } = first else { return Err(FindError::Odd) };
    match how {
        How::Behind => return Err(FindError::Behind),
        How::On if search.from.is_none() => return Err(FindError::Odd),
        _ if search.fresh && !standing.quorum => return Err(FindError::Leaderless),
        How::On | How::Snapshot | How::Anew => {}
    }
    Ok(Opened { node: peer.node, live: Live { connection, hello }, standing, how, receive })
}
