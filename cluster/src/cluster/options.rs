//! What a node is told when it opens its cluster.
//!
//! Not here: where the values come from (the node's configuration).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::command::Role;
use crate::control::holder::{Holder, HoldsNothing};
use crate::endpoint::EndpointOptions;
use crate::id::{NodeName, Region};
use crate::identity::JoinToken;

/// Times of the cluster. All have reasons; few have a reason to be changed.
#[derive(Debug, Clone)]
pub struct Timings {
    /// The leader says this often that it is there. Default 50 ms.
    pub heartbeat: Duration,
    /// A follower that has heard nothing for a time between these two campaigns. The leader's
    /// lease is the longer one, so a dead leader is replaced within twice that. Default 200 ms and
    /// 400 ms: four heartbeats may be lost, and claims work again within a second.
    pub election: (Duration, Duration),
    /// A proposal that is not committed within this time is given up as without quorum. Default
    /// 2 s: an election and its retries fit in.
    pub propose_within: Duration,
    /// A node that is not heard for this long is suspected. Default 300 ms: three keep-alives.
    pub suspect_after: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            heartbeat: Duration::from_millis(50),
            election: (Duration::from_millis(200), Duration::from_millis(400)),
            propose_within: Duration::from_secs(2),
            suspect_after: Duration::from_millis(300),
        }
    }
}

/// How a new node joins.
#[derive(Debug, Clone)]
pub struct Join {
    /// `host:port` of any origin of the cluster.
    pub address: String,
    /// The token.
    pub token: JoinToken,
}

/// What a node is told.
#[derive(Clone)]
pub struct ClusterOptions {
    /// The data folder; the cluster's files go into `cluster` below it.
    pub data: PathBuf,
    /// What people call the node.
    pub name: NodeName,
    /// Where it stands.
    pub region: Region,
    /// What it does. Counts at its first start; after that the data folder knows.
    pub role: Role,
    /// Base URLs under which viewers reach it.
    pub http: Vec<String>,
    /// How much it can send, in Mbit/s.
    pub capacity_mbps: u32,
    /// Its endpoint. `None`: no socket; then it stays a cluster of one.
    pub endpoint: Option<EndpointOptions>,
    /// `host:port` under which the others reach the endpoint, if it is not where it listens.
    pub advertise: Option<String>,
    /// How it joins, if its data folder is empty. `None`: it begins a cluster of one.
    pub join: Option<Join>,
    /// Times.
    pub timings: Timings,
    /// Most proposals that wait at once; more are answered `TooBusy`. Default 4096.
    pub proposals_max: usize,
    /// The part of the node that has the streams.
    pub holder: Arc<dyn Holder>,
}

impl ClusterOptions {
    /// A cluster of one without a socket, in `data`.
    pub fn alone(data: impl Into<PathBuf>, name: NodeName, region: Region) -> ClusterOptions {
        ClusterOptions {
            data: data.into(),
            name,
            region,
            role: Role::Origin,
            http: Vec::new(),
            capacity_mbps: 0,
            endpoint: None,
            advertise: None,
            join: None,
            timings: Timings::default(),
            proposals_max: 4_096,
            holder: Arc::new(HoldsNothing),
        }
    }
}
