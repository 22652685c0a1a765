//! Answers other members' requests.
//!
//! What a member may ask: origins all of it; relays nothing that changes the directory but their
//! own entry, and that they are to be drained. A command that names a node as its author must come from that node.
//!
//! A driver file: awaits.
//!
//! Not here: what is done for a request (`cluster`), joiners (`join`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::messages::{Request, Response};
use crate::cluster::{Inner, ProposeError};
use crate::command::{Command, Role};
use crate::endpoint::{Inbound, refuse};
use crate::feed;
use crate::feed::ask::is_of_relay;
use crate::id::NodeId;
use crate::identity::{Refusal, Request as CertificateRequest, Subject, VALIDITY};
use crate::transport::wire::{self, CONTROL_MAX, REQUESTS_MAX, WireError};

/// Answers until the endpoint is closed.
pub(crate) async fn serve(cluster: Arc<Inner>, mut queue: mpsc::Receiver<Inbound>) {
    while let Some(inbound) = queue.recv().await {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let (Some(registry), Some(peer)) = (cluster.registry(), inbound.peer) else { return };
            if registry.meet(&inbound).await.is_none() {
                return;
            }
            inbound.connection.set_max_concurrent_bi_streams(REQUESTS_MAX.into());
            inbound.connection.set_max_concurrent_uni_streams(0_u32.into());
            while let Ok((send, receive)) = inbound.connection.accept_bi().await {
                let cluster = cluster.clone();
                let connection = inbound.connection.clone();
                tokio::spawn(async move {
                    let answered = answer(&cluster, peer, send, receive).await;
                    if let (Err((refusal, detail)), Some(registry)) = (answered, cluster.registry())
                    {
                        let address = connection.remote_address();
                        registry.refused().note(refusal, address, Some(peer.node), &detail);
                        refuse(&connection, refusal, &detail);
                    }
                });
            }
        });
    }
}

/// One request. An error is what the peer did wrong; the connection is then closed.
async fn answer(
    cluster: &Inner,
    peer: Subject,
    mut send: quinn::SendStream,
    mut receive: quinn::RecvStream,
) -> Result<(), (Refusal, String)> {
    let request = match wire::read::<Request>(&mut receive, CONTROL_MAX).await {
        Ok(request) => request,
        Err(error) if error.is_malformed() => return Err((Refusal::Malformed, error.to_string())),
        Err(_) => return Ok(()),
    };
    check(&request, &peer)?;
    if let Request::Follow { from } = request {
        if let Some(feeds) = cluster.feeds() {
            feed::server::serve(cluster, feeds, peer.node, from, send).await;
        }
        return Ok(());
    }
    let response = handle(cluster, &peer, request).await;
    let written = match wire::write(&mut send, &response, CONTROL_MAX).await {
        Err(WireError::TooLong { length, .. }) => {
            let failed = Response::Failed(format!("the answer has {length} bytes"));
            wire::write(&mut send, &failed, CONTROL_MAX).await
        }
        written => written,
    };
    if written.is_ok() {
        let _ = send.finish();
    }
    Ok(())
}

/// Whether this peer may ask this.
fn check(request: &Request, peer: &Subject) -> Result<(), (Refusal, String)> {
    let Request::Propose(command) = request else {
        return match (request, peer.role) {
            (Request::Suspect(_) | Request::Fence { .. } | Request::Attending(_), Role::Relay) => {
                Err((Refusal::NotAnOrigin, "a relay asks for what origins alone may".into()))
            }
            _ => Ok(()),
        };
    };
    if let Some(author) = author(command)
        && author != peer.node
        && !may_pass_on(command, peer)
    {
        return Err((Refusal::ForgedNodeId, format!("a command in the name of node {author}")));
    }
    let own_entry = match command {
        Command::PutNode(info) => info.role == peer.role || may_pass_on(command, peer),
        _ => peer.role == Role::Relay && is_of_relay(command, peer.node),
    };
    match (peer.role, own_entry, command) {
        (Role::Relay, false, _) | (Role::Origin, false, Command::PutNode(_)) => {
            Err((Refusal::NotAnOrigin, format!("may not propose to {command}")))
        }
        _ => Ok(()),
    }
}

/// An origin asks the leader for the relays that it feeds.
fn may_pass_on(command: &Command, peer: &Subject) -> bool {
    let of_relay = matches!(command, Command::PutNode(info) if info.role == Role::Relay);
    of_relay && peer.role == Role::Origin
}

/// The node that a command says it comes from.
fn author(command: &Command) -> Option<NodeId> {
    match command {
        Command::PutNode(info) => Some(info.id),
        Command::Claim(claim) => Some(claim.node),
        Command::Extend { node, .. } => Some(*node),
        _ => None,
    }
}

async fn handle(cluster: &Inner, peer: &Subject, request: Request) -> Response {
    match request {
        // A relay knows one origin, which asks the leader for it.
        Request::Propose(command) if peer.role == Role::Relay => {
            match cluster.propose(command).await {
                Ok(answer) => Response::Answer(answer),
                Err(ProposeError::TooBusy) => Response::TooBusy,
                Err(_) => Response::NoQuorum,
            }
        }
        Request::ReadIndex if peer.role == Role::Relay => match cluster.linearizable().await {
            Ok(()) => Response::Index(cluster.view().index()),
            Err(_) => Response::NoQuorum,
        },
        Request::Propose(command) => cluster.propose_here(command).await,
        Request::ReadIndex => cluster.read_index_here().await,
        Request::Progress { stream } => Response::Progress(cluster.holder().progress(&stream)),
        Request::Fence { stream, epoch } => {
            Response::Progress(cluster.holder().fence(&stream, epoch))
        }
        Request::Silence { stream } => {
            let millis = |silence: Duration| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
            Response::Silence(cluster.holder().silence(&stream).map(millis))
        }
        Request::Suspect(suspects) => {
            cluster.suspicion_from(peer.node, &suspects);
            Response::Done
        }
        Request::Renew { request } => renew(cluster, peer, &request),
        Request::Attending(relays) => {
            cluster.attendance_told(&relays);
            Response::Done
        }
        Request::Follow { .. } => Response::Failed("a feed has no answer".into()),
    }
}

/// A new certificate for the same subject: neither id nor role are the asker's to choose.
fn renew(cluster: &Inner, peer: &Subject, request: &[u8]) -> Response {
    let signed = CertificateRequest::read(request).and_then(|request| {
        let authority = cluster.identity().authority()?;
        authority.sign(&request, peer, cluster.wall_clock(), VALIDITY)
    });
    match signed {
        Ok(certificate) => {
            tracing::info!(node = peer.node.0, "renewed a node's certificate");
            Response::Certificate(certificate.to_vec())
        }
        Err(error) => Response::Failed(error.to_string()),
    }
}
