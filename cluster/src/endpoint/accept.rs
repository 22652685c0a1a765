//! Takes connections that come in: bounds, handshake, who it is, whether it is let in.
//!
//! A driver file: awaits.
//!
//! Not here: what is said on a connection once it is handed out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use quinn::VarInt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    Admit, Alpn, Endpoint, HANDSHAKE_MAX, INBOUND_MAX, Inbound, InboundQueues, MEMBER_WINDOW,
    Refused, peer_of, refusal_of, refuse,
};
use crate::id::NodeId;
use crate::identity::Refusal;

/// Connections of each node, for the bound on them.
type PerNode = Arc<Mutex<HashMap<NodeId, usize>>>;

/// Counts a connection for as long as somebody holds it.
#[derive(Debug)]
pub(super) enum Counted {
    Member { node: NodeId, counts: PerNode },
    Stranger { _permit: OwnedSemaphorePermit },
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Counted::Member { node, counts } = self {
            let mut counts = counts.lock();
            if let Some(count) = counts.get_mut(node) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(node);
                }
            }
        }
    }
}

struct Door {
    endpoint: Endpoint,
    admit: Arc<dyn Admit>,
    strangers: Arc<Semaphore>,
    per_node: PerNode,
    raft: mpsc::Sender<Inbound>,
    control: mpsc::Sender<Inbound>,
    relay: mpsc::Sender<Inbound>,
    join: mpsc::Sender<Inbound>,
}

/// Begins to take connections; ends when the endpoint is closed.
pub(super) fn start(endpoint: &Endpoint, admit: Arc<dyn Admit>) -> InboundQueues {
    let (raft, raft_queue) = mpsc::channel(INBOUND_MAX);
    let (control, control_queue) = mpsc::channel(INBOUND_MAX);
    let (relay, relay_queue) = mpsc::channel(INBOUND_MAX);
    let (join, join_queue) = mpsc::channel(INBOUND_MAX);
    let door = Arc::new(Door {
        endpoint: endpoint.clone(),
        admit,
        strangers: Arc::new(Semaphore::new(endpoint.inner.options.strangers_max)),
        per_node: PerNode::default(),
        raft,
        control,
        relay,
        join,
    });
    tokio::spawn(async move {
        while let Some(incoming) = door.endpoint.inner.quic.accept().await {
            door.clone().take(incoming);
        }
    });
    InboundQueues { raft: raft_queue, control: control_queue, relay: relay_queue, join: join_queue }
}

impl Door {
    fn take(self: Arc<Self>, incoming: quinn::Incoming) {
        let inner = &self.endpoint.inner;
        let peer = incoming.remote_address();
        let full = inner.quic.open_connections() >= inner.options.connections_max;
        let permit = self.strangers.clone().try_acquire_owned();
        let (false, Ok(permit)) = (full, permit) else {
            let what = "as many connections as may be";
            inner.refused.note(Refusal::TooManyConnections, peer, None, &what);
            incoming.refuse();
            return;
        };
        // Half the places are kept for those who proved that they receive at their address.
        let crowded = self.strangers.available_permits() < inner.options.strangers_max / 2;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            let _ = incoming.retry();
            return;
        }
        tokio::spawn(async move { self.shake_hands(incoming, permit).await });
    }

    async fn shake_hands(&self, incoming: quinn::Incoming, permit: OwnedSemaphorePermit) {
        let refused = &self.endpoint.inner.refused;
        let peer = incoming.remote_address();
        let connecting = match incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => return note(refused, peer, &error),
        };
        match tokio::time::timeout(HANDSHAKE_MAX, connecting).await {
            Ok(Ok(connection)) => self.introduce(connection, permit),
            Ok(Err(error)) => note(refused, peer, &error),
            Err(_) => refused.note(Refusal::Handshake, peer, None, &"took too long"),
        }
    }

    /// The handshake is done: who is it, and what does it want?
    fn introduce(&self, connection: quinn::Connection, permit: OwnedSemaphorePermit) {
        let refused = &self.endpoint.inner.refused;
        let address = connection.remote_address();
        let alpn = connection
            .handshake_data()
            .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
            .and_then(|data| Alpn::read(&data.protocol?));
        let peer = peer_of(&connection);
        let node = peer.map(|peer| peer.node);
        let admitted = match (alpn, &peer) {
            (None, _) => Err(Refusal::Version),
            (Some(Alpn::Join), _) => Ok(Alpn::Join),
            (Some(_), None) => Err(Refusal::NoCertificate),
            (Some(alpn), Some(peer)) => self.admit.admit(peer, alpn).map(|()| alpn),
        };
        let counted = match (admitted, node) {
            (Ok(Alpn::Join), _) => Ok((Alpn::Join, Counted::Stranger { _permit: permit })),
            (Ok(alpn), Some(node)) => self.count(node).map(|counted| (alpn, counted)),
            (Ok(_), None) => Err(Refusal::NoCertificate),
            (Err(refusal), _) => Err(refusal),
        };
        let (alpn, counted) = match counted {
            Ok(known) => known,
            Err(refusal) => {
                refused.note(refusal, address, node, &"after the handshake");
                return refuse(&connection, refusal, refusal.name());
            }
        };
        if alpn != Alpn::Join {
            let streams = VarInt::from_u32(self.endpoint.inner.options.streams_max);
            connection.set_receive_window(VarInt::from_u32(MEMBER_WINDOW));
            connection.set_max_concurrent_bi_streams(streams);
            connection.set_max_concurrent_uni_streams(streams);
        }
        let queue = match alpn {
            Alpn::Raft => &self.raft,
            Alpn::Control => &self.control,
            Alpn::Relay => &self.relay,
            Alpn::Join => &self.join,
        };
        let inbound = Inbound { peer, connection: connection.clone(), _counted: counted };
        if queue.try_send(inbound).is_err() {
            refused.note(Refusal::TooManyConnections, address, node, &"nobody takes them");
            refuse(&connection, Refusal::TooManyConnections, "nobody takes them");
        }
    }

    fn count(&self, node: NodeId) -> Result<Counted, Refusal> {
        let mut counts = self.per_node.lock();
        let count = counts.entry(node).or_default();
        if *count >= self.endpoint.inner.options.connections_per_node_max {
            return Err(Refusal::TooManyConnections);
        }
        *count += 1;
        Ok(Counted::Member { node, counts: self.per_node.clone() })
    }
}

/// Counts a handshake that failed, by what was wrong.
fn note(refused: &Refused, peer: SocketAddr, error: &quinn::ConnectionError) {
    let (refusal, detail) = refusal_of(error).unwrap_or((Refusal::Handshake, error.to_string()));
    refused.note(refusal, peer, None, &detail);
}
