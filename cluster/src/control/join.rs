//! A new node's first request, from both ends.
//!
//! The joiner believes only a node whose certificate the CA of its token signed; then it shows the
//! token's secret and a request for a certificate. The node it asks redeems the token through the
//! log (one use, by one key, in time), gets the joiner's number from there, and signs.
//!
//! A driver file: awaits.
//!
//! Not here: how the joiner becomes a voter (`membership`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::messages::{JOIN_VERSION, JoinRequest, JoinResponse};
use crate::cluster::{Inner, ProposeError};
use crate::command::{Answer, Command, Role};
use crate::endpoint::{ConnectError, Inbound, call_to_join, failure, refuse};
use crate::identity::{
    Given, IdentityError, JoinToken, Peer, PendingKey, Refusal, Request, Subject, VALIDITY, sha256,
};
use crate::transport::hello::program;
use crate::transport::wire::{self, JOIN_MAX, WireError};

/// A joiner says its word within this time, or goes.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// A token made a moment ago on another node is known here within this time.
const TOKEN_KNOWN_WITHIN: Duration = Duration::from_secs(1);
/// How long a joiner waits for its answer: a proposal's time and an election's.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Nobody there, or not a node of the token's cluster.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The cluster refuses the token, or the node.
    #[error("the cluster refuses: {0}")]
    Refused(String),
    /// It cannot decide now; the token is still good.
    #[error("the cluster cannot take a node now, try again: {0}")]
    Later(String),
    /// Another version.
    #[error(
        "the cluster runs {program}, whose join protocol is version {version}, not {JOIN_VERSION}"
    )]
    Version {
        /// What it runs.
        program: String,
        /// Its version.
        version: u16,
    },
    /// The answer cannot be read.
    #[error("the cluster's answer cannot be read: {0}")]
    Answer(String),
    /// The identity could not be stored.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Asks a node at `address` for an identity.
pub(crate) async fn ask(
    address: &str,
    token: &JoinToken,
    role: Role,
    pending: &PendingKey,
) -> Result<Given, JoinError> {
    let (quic, connection) = call_to_join(address, token).await?;
    let request = JoinRequest {
        version: JOIN_VERSION,
        program: program(),
        cluster: token.cluster,
        secret: *token.secret(),
        role,
        request: pending.request().to_vec(),
    };
    let talk = async {
        let (mut send, mut receive) = connection.open_bi().await.map_err(|_| WireError::Cut)?;
        wire::write(&mut send, &request, JOIN_MAX).await?;
        let _ = send.finish();
        wire::read::<JoinResponse>(&mut receive, JOIN_MAX).await
    };
    let response = tokio::time::timeout(ANSWER_WITHIN, talk).await;
    let reason = connection.close_reason();
    quic.close(0_u32.into(), b"done");
    let response = match (response, reason) {
        (Err(_), _) => return Err(ConnectError::Silent(address.to_owned()).into()),
        (Ok(Ok(response)), _) => response,
        (Ok(Err(_)), Some(reason)) => return Err(failure(&reason, address).into()),
        (Ok(Err(error)), None) => return Err(JoinError::Answer(error.to_string())),
    };
    match response {
        JoinResponse::Welcome { certificate, authority, authority_key, mut peers } => {
            if sha256(&authority) != token.authority {
                return Err(JoinError::Answer("another CA than the token's".into()));
            }
            if peers.is_empty() {
                return Err(JoinError::Answer("names no node of the cluster".into()));
            }
            peers.truncate(PEERS_MAX);
            Ok(Given { certificate, authority, authority_key, peers })
        }
        JoinResponse::Refused(why) => Err(JoinError::Refused(why)),
        JoinResponse::Later(why) => Err(JoinError::Later(why)),
        JoinResponse::Version { program, version } => Err(JoinError::Version { program, version }),
    }
}

/// Nodes that a joiner is told of.
const PEERS_MAX: usize = 16;

/// Answers joiners until the endpoint is closed.
pub(crate) async fn serve(cluster: Arc<Inner>, mut queue: mpsc::Receiver<Inbound>) {
    while let Some(inbound) = queue.recv().await {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let answered = tokio::time::timeout(ANSWER_WITHIN, answer(&cluster, &inbound)).await;
            if let (Ok(Err((refusal, detail))), Some(registry)) = (answered, cluster.registry()) {
                let address = inbound.connection.remote_address();
                registry.refused().note(refusal, address, None, &detail);
                refuse(&inbound.connection, refusal, refusal.name());
                return;
            }
            // The joiner closes when it has read the answer.
            let _ = tokio::time::timeout(REQUEST_WITHIN, inbound.connection.closed()).await;
        });
    }
}

async fn answer(cluster: &Inner, inbound: &Inbound) -> Result<(), (Refusal, String)> {
    let hear = async {
        let (send, mut receive) =
            inbound.connection.accept_bi().await.map_err(|_| WireError::Cut)?;
        let request: JoinRequest = wire::read_beginning(&mut receive, JOIN_MAX).await?;
        Ok::<_, WireError>((send, request))
    };
    let (mut send, request) = match tokio::time::timeout(REQUEST_WITHIN, hear).await {
        Ok(Ok(heard)) => heard,
        Ok(Err(error)) if error.is_malformed() => {
            return Err((Refusal::Malformed, error.to_string()));
        }
        Ok(Err(_)) => return Ok(()),
        Err(_) => return Err((Refusal::Handshake, "a joiner that says nothing".into())),
    };
    let response = decide(cluster, &request).await;
    if let JoinResponse::Refused(why) = &response
        && let Some(registry) = cluster.registry()
    {
        let address = inbound.connection.remote_address();
        registry.refused().note(Refusal::JoinToken, address, None, why);
    }
    if wire::write(&mut send, &response, JOIN_MAX).await.is_ok() {
        let _ = send.finish();
    }
    Ok(())
}

/// Redeems the token and signs the certificate.
async fn decide(cluster: &Inner, joiner: &JoinRequest) -> JoinResponse {
    if joiner.version != JOIN_VERSION {
        return JoinResponse::Version { program: program(), version: JOIN_VERSION };
    }
    let us = cluster.identity().subject();
    if us.role == Role::Relay {
        return JoinResponse::Refused("this node is a relay: join at one of the origins".into());
    }
    if joiner.cluster != us.cluster {
        return JoinResponse::Refused("the token is another cluster's".into());
    }
    let request = match Request::read(&joiner.request) {
        Ok(request) => request,
        Err(error) => return JoinResponse::Refused(error.to_string()),
    };
    let token = sha256(&joiner.secret);
    // A stranger's guesses must not fill the log.
    if !cluster.knows_join_token(&token, TOKEN_KNOWN_WITHIN).await {
        return JoinResponse::Refused("no such join token; it may have ended long ago".into());
    }
    let redeem =
        Command::RedeemJoinToken { token, joiner: request.key_hash(), now: cluster.wall_time() };
    let node = match cluster.propose(redeem).await {
        Ok(Answer::Redeemed { node }) => node,
        Ok(Answer::Refused(refusal)) => return JoinResponse::Refused(refusal.to_string()),
        Ok(_) => return JoinResponse::Later("an odd answer from the log".into()),
        Err(error @ ProposeError::NoQuorum) => return JoinResponse::Later(error.to_string()),
        Err(error) => return JoinResponse::Later(error.to_string()),
    };
    let subject = Subject { cluster: us.cluster, node, role: joiner.role };
    let authority = match cluster.identity().authority() {
        Ok(authority) => authority,
        Err(error) => return JoinResponse::Refused(error.to_string()),
    };
    match authority.sign(&request, &subject, cluster.wall_clock(), VALIDITY) {
        Err(error) => JoinResponse::Refused(error.to_string()),
        Ok(certificate) => {
            tracing::info!(node = node.0, role = ?joiner.role, "a node joins");
            JoinResponse::Welcome {
                certificate: certificate.to_vec(),
                authority: authority.certificate().to_vec(),
                authority_key: (joiner.role == Role::Origin).then(|| authority.key_pem()),
                peers: peers(cluster),
            }
        }
    }
}

/// Origins that the joiner may ask, this one first.
fn peers(cluster: &Inner) -> Vec<Peer> {
    let us = Peer { node: cluster.identity().node(), address: cluster.address().to_owned() };
    let view = cluster.view();
    let others = view.nodes().filter(|node| node.info.role == Role::Origin);
    let others = others
        .filter(|node| node.info.id != us.node && !node.info.address.is_empty())
        .map(|node| Peer { node: node.info.id, address: node.info.address.clone() });
    std::iter::once(us.clone()).chain(others).take(PEERS_MAX).collect()
}
