//! Opens the node's cluster. A driver file: awaits, opens sockets.
//!
//! **A port that is taken.** A node by itself needs no cluster port. So where `[cluster] listen` was
//! not given and its default port cannot be had (a second node on the machine, say), a node that
//! knows no other starts without the port, with a warning. Whoever gave the address, joins, or has
//! other nodes in its directory wants the port: there it is an error.
//!
//! Not here: what the keys become (`options`), the cluster itself (`headwater-cluster`).

use std::net::{SocketAddr, UdpSocket};

use anyhow::Context as _;
use headwater_cluster::cluster::{Cluster, ClusterOptions, OpenError};
use headwater_cluster::endpoint;

use super::cannot_listen;
use crate::config::Config;

/// Opens it, with the options that were made of `config`: reads the data folder, or joins, or begins
/// a cluster of one.
///
/// # Errors
/// Says what an operator should do.
pub(super) async fn open(config: &Config, mut options: ClusterOptions) -> anyhow::Result<Cluster> {
    let listen = config.values().cluster.listen;
    let may_do_without = options.join.is_none() && !config.is_given("cluster.listen");
    let taken = match &options.endpoint {
        Some(_) if may_do_without => taken(listen),
        _ => None,
    };
    let Some(error) = taken else {
        return Box::pin(Cluster::open(options)).await.map_err(|error| explain(error, listen));
    };
    options.endpoint = None;
    let cluster = match Box::pin(Cluster::open(options)).await {
        Err(OpenError::NeedsEndpoint) => {
            return Err(error).with_context(|| cannot_listen("cluster", listen));
        }
        other => other.context("cannot open the cluster")?,
    };
    let others = cluster.view().borrow().nodes().any(|node| node.info.id != cluster.node());
    if others {
        cluster.shutdown().await;
        return Err(error).with_context(|| cannot_listen("cluster", listen));
    }
    tracing::warn!(
        address = %listen, %error,
        "the cluster port is taken: this node starts by itself, and no other can join it; set \
         [cluster] listen to an address of its own, or [cluster] enabled = false"
    );
    Ok(cluster)
}

/// Why the port cannot be had, if it cannot. It is free again when this returns; whoever takes it
/// in between is told by the error of the opening.
fn taken(listen: SocketAddr) -> Option<std::io::Error> {
    UdpSocket::bind(listen).err()
}

fn explain(error: OpenError, listen: SocketAddr) -> anyhow::Error {
    match error {
        OpenError::Endpoint(endpoint::OpenError::Listen { source, .. }) => {
            anyhow::Error::new(source).context(cannot_listen("cluster", listen))
        }
        other => anyhow::Error::new(other).context("cannot open the cluster"),
    }
}
