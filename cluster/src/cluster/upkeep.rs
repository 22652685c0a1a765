//! What a node does by itself, all the time: enters itself into the directory, keeps its links in
//! line with it, renews its certificate, notices that it was removed or copied.
//!
//! A driver file: awaits.
//!
//! Not here: membership of Raft (`members`), deaths (`watch`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Inner;
use crate::command::{Answer, Command, NodeInfo, Role};
use crate::control::messages::{Request, Response};
use crate::endpoint::{Admit, Alpn};
use crate::identity::{
    PendingKey, RENEW_BEFORE, Refusal, Request as CertificateRequest, Subject, VALIDITY,
};
use crate::view::View;

/// Between two looks at what is not told by a change of the directory.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two looks in any case.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Between two attempts at a renewal that failed: a month is left for it.
const RENEW_EVERY: Duration = Duration::from_secs(600);
/// How long another origin may take to sign.
const SIGN_WITHIN: Duration = Duration::from_secs(5);

/// What is wrong with this node, for good until an operator does something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Another process with this node's id is alive.
    Duplicate,
    /// It was removed from the cluster.
    Removed,
    /// Its certificate has ended while it was off.
    Expired,
    /// Raft has stopped: its store failed.
    Stopped(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Duplicate => f.write_str(
                "another process with this node's id is alive: the data folder was copied. Stop \
                 one of the two, and let it join anew with an empty data folder",
            ),
            Fault::Removed => f.write_str(
                "this node was removed from the cluster; to come back it joins anew, with an \
                 empty data folder and a new token",
            ),
            Fault::Expired => f.write_str(
                "this node's certificate has ended while it was off; it joins anew, with an empty \
                 data folder and a new token",
            ),
            Fault::Stopped(why) => write!(f, "this node has stopped taking part: {why}"),
        }
    }
}

/// Who may connect: whom the directory has not removed; to Raft, origins alone, and at origins alone.
pub(crate) struct Door {
    pub(crate) view: watch::Receiver<Arc<View>>,
    /// What this node is.
    pub(crate) role: Role,
}

impl Admit for Door {
    fn admit(&self, subject: &Subject, alpn: Alpn) -> Result<(), Refusal> {
        if self.view.borrow().is_removed(subject.node) {
            return Err(Refusal::RemovedNode);
        }
        match (alpn, subject.role, self.role) {
            (Alpn::Raft, Role::Relay, _) | (Alpn::Raft, _, Role::Relay) => {
                Err(Refusal::NotAnOrigin)
            }
            _ => Ok(()),
        }
    }
}

/// Keeps the node's entry and its links in line, until it stops.
pub(crate) async fn run(cluster: Arc<Inner>, info: NodeInfo) {
    let mut view = cluster.view.clone();
    loop {
        // A busy directory changes a thousand times a second; nodes do not.
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        let seen = view.borrow_and_update().clone();
        link_up(&cluster, &seen);
        let entered = seen.node(info.id).is_some_and(|node| node.info == info);
        if !entered {
            enter(&cluster, &info).await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// Enters this node into the directory.
pub(crate) async fn enter(cluster: &Inner, info: &NodeInfo) {
    match cluster.propose(Command::PutNode(info.clone())).await {
        Ok(Answer::Refused(refusal)) => {
            tracing::debug!(%refusal, "the directory refuses this node's entry");
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "this node is not in the directory yet"),
    }
}

/// One control link to each other node; none to those that were removed.
fn link_up(cluster: &Inner, view: &View) {
    if cluster.following().is_some() {
        // A relay has a connection to the origin that feeds it, and to no other node but for media.
        return part_up(cluster, view);
    }
    let me = cluster.identity.node();
    for peer in cluster.identity.peers() {
        let known = view.node(peer.node).is_some() || view.is_removed(peer.node);
        if !known && peer.node != me {
            cluster.links.to(Alpn::Control, peer.node, &peer.address);
        }
    }
    // After a restart the log knows the members before the directory does.
    for (node, address) in &cluster.situation(cluster.view()).addresses {
        let known = *node == me || view.node(*node).is_some() || view.is_removed(*node);
        if !known && !address.is_empty() {
            cluster.links.to(Alpn::Control, *node, address);
        }
    }
    for node in view.nodes().filter(|node| node.info.id != me) {
        // A relay may sit behind an address that nobody can call; it calls.
        if node.info.role == Role::Origin && !node.info.address.is_empty() {
            cluster.links.to(Alpn::Control, node.info.id, &node.info.address);
            // Raft's own client keeps the address that it began with.
            cluster.links.readdress(Alpn::Raft, node.info.id, &node.info.address);
        }
    }
    part_up(cluster, view);
}

/// Ends the connections of those that were removed.
fn part_up(cluster: &Inner, view: &View) {
    let linked = cluster.links.nodes();
    let met = cluster.registry().map(|registry| registry.nodes()).unwrap_or_default();
    for node in linked.into_iter().chain(met).filter(|node| view.is_removed(*node)) {
        cluster.links.part_with(node);
        if let Some(registry) = cluster.registry() {
            registry.part_with(node);
        }
    }
}

/// Looks for what is wrong with this node, until it stops. A loop of its own: a node that nobody
/// lets in waits long for its entry.
pub(crate) async fn look_out(cluster: Arc<Inner>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        look_for_faults(&cluster);
        tell_metrics(&cluster);
    }
}

fn tell_metrics(cluster: &Inner) {
    #[allow(clippy::cast_precision_loss, reason = "gauges are floats; all are far below 2^53")]
    let set = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
    let view = cluster.view();
    let links = cluster.links.all(Alpn::Control);
    let connected = match cluster.following() {
        Some(following) => usize::from(following.feeder().is_some()),
        None => links.iter().filter(|(_, link)| link.live().is_some()).count(),
    };
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    set("headwater_cluster_leader", u64::from(cluster.leader() == Some(cluster.identity.node())));
    set("headwater_cluster_has_leader", u64::from(cluster.leader().is_some()));
    set("headwater_cluster_term", cluster.term());
    set("headwater_cluster_applied_index", view.index());
    set("headwater_cluster_nodes", count(view.nodes().count()));
    set("headwater_cluster_connected_nodes", count(connected));
    set("headwater_cluster_owned_streams", count(view.owned_streams_count()));
}

/// The others know best what is wrong with this node.
fn look_for_faults(cluster: &Inner) {
    let told = match cluster.following() {
        Some(following) => following.refusal(),
        None => {
            let mut links = cluster.links.all(Alpn::Control).into_iter();
            links.find_map(|(_, link)| link.refusal())
        }
    };
    let view = cluster.view();
    let me = &cluster.identity;
    let superseded =
        view.node(me.node()).is_some_and(|node| node.info.incarnation > me.incarnation());
    let fault = match told {
        _ if superseded => Some(Fault::Duplicate),
        _ if view.is_removed(me.node()) => Some(Fault::Removed),
        Some(Refusal::DuplicateNode) => Some(Fault::Duplicate),
        Some(Refusal::RemovedNode) => Some(Fault::Removed),
        Some(Refusal::ExpiredCertificate) if cluster.is_expired() => Some(Fault::Expired),
        // A refusal ends when its cause does: when the other process was stopped, say.
        _ => cluster.raft_failure().map(Fault::Stopped),
    };
    cluster.set_fault(fault);
}

/// Renews the certificate when it is time, until the node stops.
pub(crate) async fn renew(cluster: Arc<Inner>) {
    loop {
        let now = cluster.wall_clock();
        let left = cluster.identity.certificate().remaining(now).saturating_sub(RENEW_BEFORE);
        metrics::gauge!("headwater_cluster_certificate_remaining_seconds")
            .set(cluster.identity.certificate().remaining(now).as_secs_f64());
        if left.is_zero() {
            match renew_now(&cluster).await {
                Ok(()) => tracing::info!("renewed this node's certificate"),
                Err(error) => {
                    tracing::warn!(error, "this node's certificate is due and not renewed");
                }
            }
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

/// An origin signs its own; a relay asks the origin that feeds it.
pub(crate) async fn renew_now(cluster: &Inner) -> Result<(), String> {
    let pending = PendingKey::create().map_err(|error| error.to_string())?;
    let identity = &cluster.identity;
    if let Ok(authority) = identity.authority() {
        let request =
            CertificateRequest::read(pending.request()).map_err(|error| error.to_string())?;
        let signed = authority.sign(&request, &identity.subject(), cluster.wall_clock(), VALIDITY);
        let certificate = signed.map_err(|error| error.to_string())?;
        return identity.renew(&pending, &certificate).map_err(|error| error.to_string());
    }
    let Some(following) = cluster.following() else {
        return Err("this origin has no authority".into());
    };
    let request = Request::Renew { request: pending.request().to_vec() };
    match following.ask(&request, SIGN_WITHIN).await {
        Some(Response::Certificate(certificate)) => {
            identity.renew(&pending, &certificate).map_err(|error| error.to_string())
        }
        Some(Response::Failed(why)) => Err(why),
        _ => Err("no origin answers".into()),
    }
}
