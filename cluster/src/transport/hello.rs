//! The first message on each connection between members, both ways: which version, which node,
//! which start of its process. And the check that no two processes go by one node's id.
//!
//! A node's certificate proves its id. What it cannot prove is that nobody copied the data folder.
//! So each process draws a random number when it starts; while connections of one process of a
//! node are alive, another's are refused.
//!
//! A driver file: awaits, reads the clock.
//!
//! Not here: certificates (`identity`), streams' messages (`wire`).

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::wire::{self, HELLO_MAX, WireError};
use crate::command::COMMAND_VERSION;
use crate::endpoint::{ConnectError, Inbound, Refused, failure, refuse};
use crate::id::{Incarnation, NodeId};
use crate::identity::{IdentityError, Refusal, peer_of, random};

/// The versions of the messages between nodes that this program speaks. A rolling upgrade needs
/// each version to speak the one before, too.
pub(crate) const PROTOCOL: (u16, u16) = (1, 2);

/// So that bytes of something else are told from an old version.
const MAGIC: [u8; 4] = *b"HWCL";

/// The first message must be there within this time.
const HELLO_WITHIN: Duration = Duration::from_secs(2);

/// Longest text that says which program a peer is.
const PROGRAM_MAX: usize = 64;

/// What nodes tell each other first. Its beginning, up to `program`, never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    magic: [u8; 4],
    /// The oldest and the newest version that it speaks.
    pub(crate) protocol: (u16, u16),
    /// `headwater 0.1.0`
    pub(crate) program: String,
    /// The commands that it understands.
    pub(crate) commands: u16,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Random, one a process.
    pub(crate) instance: [u8; 16],
}

#[cfg(test)]
impl Hello {
    pub(crate) fn for_test(node: NodeId, protocol: (u16, u16)) -> Hello {
        Hello {
            magic: MAGIC,
            protocol,
            program: "headwater 9.0.0".into(),
            commands: 9,
            node,
            incarnation: Incarnation(1),
            instance: [9; 16],
        }
    }
}

/// Says what is wrong with a hello. (What a later version adds to it was not read, so that such a
/// one is refused for its version, and not as garbage.)
fn check(hello: &Hello) -> Result<(), (Refusal, String)> {
    if hello.magic != MAGIC || hello.program.len() > PROGRAM_MAX {
        return Err((Refusal::Malformed, "not a hello of headwater".into()));
    }
    if hello.protocol.0 > PROTOCOL.1 || hello.protocol.1 < PROTOCOL.0 {
        let text = format!(
            "this node ({}) speaks versions {} to {} of the cluster protocol, the other ({}) {} to \
             {}: upgrade one version at a time",
            program(),
            PROTOCOL.0,
            PROTOCOL.1,
            hello.program.escape_default(),
            hello.protocol.0,
            hello.protocol.1,
        );
        return Err((Refusal::Version, text));
    }
    Ok(())
}

pub(crate) fn program() -> String {
    format!("headwater {}", env!("CARGO_PKG_VERSION"))
}

/// A process that goes by a node's id.
struct Known {
    hello: Hello,
    connections: Vec<quinn::Connection>,
}

/// This process, and those it has met.
pub(crate) struct Registry {
    me: Hello,
    known: Mutex<HashMap<NodeId, Known>>,
    refused: Refused,
    /// A process that is alive is heard within this time.
    patience: Duration,
}

impl Registry {
    pub(crate) fn new(
        node: NodeId,
        incarnation: Incarnation,
        refused: Refused,
        keep_alive: Duration,
    ) -> Result<Registry, IdentityError> {
        let me = Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            program: program(),
            commands: COMMAND_VERSION,
            node,
            incarnation,
            instance: random()?,
        };
        // Three keep-alives and the way there and back.
        let patience = keep_alive.saturating_mul(3).saturating_add(Duration::from_millis(100));
        Ok(Registry { me, known: Mutex::default(), refused, patience })
    }

    pub(crate) fn refused(&self) -> &Refused {
        &self.refused
    }

    /// The nodes that called.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.known.lock().keys().copied().collect()
    }

    /// The connections on which nodes called, with what they said of themselves.
    pub(crate) fn met(&self) -> Vec<(NodeId, Incarnation, quinn::Connection)> {
        let known = self.known.lock();
        let each = known.iter().flat_map(|(node, known)| {
            let incarnation = known.hello.incarnation;
            known.connections.iter().map(move |connection| (*node, incarnation, connection.clone()))
        });
        each.filter(|(_, _, connection)| connection.close_reason().is_none()).collect()
    }

    /// Forgets a node that was removed, and ends its connections.
    pub(crate) fn part_with(&self, node: NodeId) {
        if let Some(known) = self.known.lock().remove(&node) {
            for connection in known.connections {
                refuse(&connection, Refusal::RemovedNode, "this node was removed from the cluster");
            }
        }
    }

    /// Says who we are on a connection that we opened, and hears who the other is.
    pub(crate) async fn greet(
        &self,
        connection: &quinn::Connection,
        address: &str,
    ) -> Result<Hello, ConnectError> {
        let talk = async {
            let (mut send, mut receive) = connection.open_bi().await.map_err(|_| WireError::Cut)?;
            wire::write(&mut send, &self.me, HELLO_MAX).await?;
            let _ = send.finish();
            wire::read_beginning::<Hello>(&mut receive, HELLO_MAX).await
        };
        let refuse_for = |refusal: Refusal, detail: String| {
            refuse(connection, refusal, &detail);
            let peer = connection.remote_address();
            self.refused.note(refusal, peer, None, &detail);
            ConnectError::Refused { by_us: true, refusal, detail }
        };
        match tokio::time::timeout(HELLO_WITHIN, talk).await {
            Err(_) => Err(ConnectError::Silent(address.to_owned())),
            Ok(Err(error)) if error.is_malformed() => {
                Err(refuse_for(Refusal::Malformed, error.to_string()))
            }
            Ok(Err(error)) => match connection.close_reason() {
                Some(reason) => Err(failure(&reason, address)),
                None => Err(ConnectError::Broken(error.to_string())),
            },
            Ok(Ok(hello)) => match check(&hello) {
                Err((refusal, detail)) => Err(refuse_for(refusal, detail)),
                Ok(()) if hello.node == self.me.node => {
                    Err(refuse_for(Refusal::DuplicateNode, "this node called itself".into()))
                }
                Ok(()) if peer_of(connection).map(|peer| peer.node) != Some(hello.node) => {
                    let text = format!("says to be node {}", hello.node);
                    Err(refuse_for(Refusal::ForgedNodeId, text))
                }
                Ok(()) => Ok(hello),
            },
        }
    }

    /// Hears who opened this connection, checks it, and answers. `None`: it was refused, counted,
    /// and is closed.
    pub(crate) async fn meet(&self, inbound: &Inbound) -> Option<Hello> {
        let connection = &inbound.connection;
        let node = inbound.peer.map(|peer| peer.node);
        let refused = match tokio::time::timeout(HELLO_WITHIN, self.hear(inbound)).await {
            Ok(Ok(hello)) => return Some(hello),
            Ok(Err(refused)) => refused,
            Err(_) => (Refusal::Handshake, "no hello in time".into()),
        };
        self.refused.note(refused.0, connection.remote_address(), node, &refused.1);
        refuse(connection, refused.0, &refused.1);
        None
    }

    async fn hear(&self, inbound: &Inbound) -> Result<Hello, (Refusal, String)> {
        let cut = |error: WireError| match error.is_malformed() {
            true => (Refusal::Malformed, error.to_string()),
            false => (Refusal::Handshake, error.to_string()),
        };
        let connection = &inbound.connection;
        let (mut send, mut receive) = connection
            .accept_bi()
            .await
            .map_err(|error| (Refusal::Handshake, error.to_string()))?;
        let hello: Hello = wire::read_beginning(&mut receive, HELLO_MAX).await.map_err(cut)?;
        check(&hello)?;
        let proven = inbound.peer.map(|peer| peer.node);
        if proven != Some(hello.node) {
            let text = format!("says to be node {}, which its certificate denies", hello.node);
            return Err((Refusal::ForgedNodeId, text));
        }
        self.claim_name(&hello, connection).await?;
        wire::write(&mut send, &self.me, HELLO_MAX).await.map_err(cut)?;
        let _ = send.finish();
        Ok(hello)
    }

    /// Lets one living process go by one node's id.
    async fn claim_name(
        &self,
        hello: &Hello,
        connection: &quinn::Connection,
    ) -> Result<(), (Refusal, String)> {
        let duplicate = || {
            let text = format!(
                "another process that is node {} is alive: its data folder was copied. Stop one \
                 of the two, and let it join anew with an empty folder",
                hello.node
            );
            Err((Refusal::DuplicateNode, text))
        };
        if hello.node == self.me.node {
            return duplicate();
        }
        let others = match self.note(hello, connection) {
            None => return Ok(()),
            Some(others) => others,
        };
        if is_one_alive(&others, self.patience).await {
            return duplicate();
        }
        let mut known = self.known.lock();
        for old in others {
            old.close(0_u32.into(), b"the node has started anew");
        }
        if known.get(&hello.node).is_some_and(|known| known.hello.incarnation > hello.incarnation) {
            let text = format!("node {} has started anew since", hello.node);
            return Err((Refusal::DuplicateNode, text));
        }
        let connections = vec![connection.clone()];
        known.insert(hello.node, Known { hello: hello.clone(), connections });
        Ok(())
    }

    /// Notes a connection of the process that is known; gives the connections of another one that
    /// may still be alive.
    fn note(
        &self,
        hello: &Hello,
        connection: &quinn::Connection,
    ) -> Option<Vec<quinn::Connection>> {
        let mut known = self.known.lock();
        if let Some(entry) = known.get_mut(&hello.node) {
            entry.connections.retain(|connection| connection.close_reason().is_none());
            if entry.hello.instance == hello.instance {
                entry.hello = hello.clone();
                entry.connections.push(connection.clone());
                return None;
            }
            let newer = entry.hello.incarnation > hello.incarnation;
            if !entry.connections.is_empty() || newer {
                return Some(entry.connections.clone());
            }
        }
        let connections = vec![connection.clone()];
        known.insert(hello.node, Known { hello: hello.clone(), connections });
        None
    }
}

/// Whether anything is heard on one of the connections in this time. Keep-alives are.
async fn is_one_alive(connections: &[quinn::Connection], within: Duration) -> bool {
    let before: Vec<u64> = connections.iter().map(frames).collect();
    tokio::time::sleep(within).await;
    connections.iter().zip(before).any(|(connection, before)| {
        connection.close_reason().is_none() && frames(connection) > before
    })
}

/// How many frames that only a living, authenticated peer sends have come in.
pub(crate) fn frames(connection: &quinn::Connection) -> u64 {
    let frames = connection.stats().frame_rx;
    frames.acks.wrapping_add(frames.ping).wrapping_add(frames.stream)
}
