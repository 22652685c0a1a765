//! Opens a node's cluster: identity, store, endpoint, Raft, and the tasks that keep them going.
//!
//! A driver file: awaits, opens sockets and files.
//!
//! Not here: what the tasks do (`members`, `upkeep`, `watch`, `control`, `transport`).

#![allow(clippy::disallowed_methods, reason = "driver: begins the clocks of what it opens")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch as tokio_watch};
use tokio_util::sync::CancellationToken;

use super::options::{ClusterOptions, Timings};
use super::upkeep::Door;
use super::{Cluster, Inner, Mind, members, upkeep, watch};
use crate::command::{NodeInfo, Role};
use crate::control::join::JoinError;
use crate::control::{join, server};
use crate::detect::{Detector, DetectorOptions};
use crate::endpoint::{self, Endpoint, InboundQueues};
use crate::feed::attendance::AttendanceOptions;
use crate::feed::follow::{self, Following};
use crate::feed::follower::Follower;
use crate::feed::server::Feeds;
use crate::feed::{attend, keep};
use crate::identity::{Folder, Identity, IdentityError, PendingKey};
use crate::raft::{PeerAddress, TypeConfig};
use crate::store::{StateMachine, Store, StoreError};
use crate::transport::hello::Registry;
use crate::transport::link::Links;
use crate::transport::raft_client::RaftNetwork;
use crate::transport::raft_server;
use crate::view::View;

/// A cluster of one leads within this time after it was opened; a slow disk may take its part.
const LEADS_WITHIN: Duration = Duration::from_secs(5);

/// A store that this process has shut is closed within this time.
const CLOSES_WITHIN: Duration = Duration::from_secs(2);

/// Most entries in one request to a follower (the store bounds their bytes, too).
const ENTRIES_MAX: u64 = 512;

/// Keep-alive where there is no endpoint to say otherwise.
const KEEP_ALIVE: Duration = Duration::from_millis(100);

/// Why a cluster could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data folder's identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data folder's log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The endpoint.
    #[error(transparent)]
    Endpoint(#[from] endpoint::OpenError),
    /// Joining.
    #[error("joining the cluster: {0}")]
    Join(#[from] JoinError),
    /// A node that has others must have an endpoint.
    #[error("a node that joins others needs its cluster endpoint: set [cluster] listen")]
    NeedsEndpoint,
    /// A relay by itself has nothing to relay.
    #[error("a relay joins a cluster: give --join HOST:PORT of an origin, and a token")]
    RelayAlone,
    /// The folder is an origin's.
    #[error("the data folder is an origin's: a relay joins with an empty one")]
    OriginsFolder,
    /// The times contradict each other.
    #[error("[cluster]: {0}")]
    Timings(String),
    /// Raft did not start.
    #[error("raft: {0}")]
    Raft(String),
}

pub(super) async fn open(options: ClusterOptions) -> Result<Cluster, OpenError> {
    let config = Arc::new(raft_config(&options.timings)?);
    if options.endpoint.is_none() && options.join.is_some() {
        return Err(OpenError::NeedsEndpoint);
    }
    let identity = Arc::new(identity(&options).await?);
    if identity.subject().role == Role::Relay {
        return open_relay(options, identity).await;
    }
    if options.role == Role::Relay {
        return Err(OpenError::OriginsFolder);
    }
    if options.endpoint.is_none() && !identity.peers().is_empty() {
        return Err(OpenError::NeedsEndpoint);
    }
    let store = open_store(&identity).await?;
    let (view, feed) = (store.view.clone(), store.feed.clone());
    let (net, queues) = open_endpoint(&options, &identity, &view)?;
    let links = Arc::new(Links::new(net.clone()));
    let network = RaftNetwork(links.clone());
    let address = address(&options, net.as_ref().map(|(endpoint, _)| endpoint));
    let raft = Raft::new(identity.node(), config, network, store.log, store.machine);
    let raft = Box::pin(raft).await.map_err(|error| OpenError::Raft(error.to_string()))?;
    begin(&raft, &identity, &address).await?;
    let attendance = AttendanceOptions::new(options.timings.suspect_after);
    let mind = Mind::Votes { raft, feeds: Arc::new(Feeds::new(feed, attendance)) };
    let inner = Arc::new(make(options, identity, mind, view, net, links));
    start(&inner, queues).await;
    Ok(Cluster { inner })
}

/// A relay: no log and no vote, but the directory as an origin feeds it.
async fn open_relay(
    options: ClusterOptions,
    identity: Arc<Identity>,
) -> Result<Cluster, OpenError> {
    if options.endpoint.is_none() {
        return Err(OpenError::NeedsEndpoint);
    }
    let folder = identity.folder().path().to_owned();
    let follower = Follower::new(blocking(move || keep::load(&folder)).await?);
    let (sender, view) = tokio_watch::channel(Arc::new(follower.view()));
    let (net, queues) = open_endpoint(&options, &identity, &view)?;
    let links = Arc::new(Links::new(net.clone()));
    let following = Arc::new(Following::new());
    let mind = Mind::Follows(following.clone());
    let inner = Arc::new(make(options, identity, mind, view, net, links));
    let keep_alive = keep_alive(&inner.options);
    let follow = follow::run(inner.clone(), following, follower, sender, keep_alive);
    spawn(&inner, follow);
    start(&inner, queues).await;
    Ok(Cluster { inner })
}

fn make(
    options: ClusterOptions,
    identity: Arc<Identity>,
    mind: Mind,
    view: tokio_watch::Receiver<Arc<View>>,
    net: Net,
    links: Arc<Links>,
) -> Inner {
    let detector = DetectorOptions {
        keep_alive: keep_alive(&options),
        suspect_after: options.timings.suspect_after,
    };
    Inner {
        address: address(&options, net.as_ref().map(|(endpoint, _)| endpoint)),
        detector: Mutex::new(Detector::new(detector, Instant::now())),
        proposals: Semaphore::new(options.proposals_max),
        relay_queue: Mutex::new(None),
        fault: tokio_watch::Sender::new(None),
        stop: CancellationToken::new(),
        identity,
        options,
        mind,
        view,
        net,
        links,
    }
}

/// The identity in the data folder, or a new one: of the cluster that is joined, or of a new one.
async fn identity(options: &ClusterOptions) -> Result<Identity, OpenError> {
    let data = options.data.clone();
    if Folder::exists(&data) {
        return Ok(blocking(move || Identity::open(&data)).await??);
    }
    if options.join.is_none() && options.role == Role::Relay {
        return Err(OpenError::RelayAlone);
    }
    let Some(to) = &options.join else {
        return Ok(blocking(move || Identity::init(&data, SystemTime::now())).await??);
    };
    let pending = PendingKey::create()?;
    let given = Box::pin(join::ask(&to.address, &to.token, options.role, &pending)).await?;
    tracing::info!(address = to.address, cluster = %to.token.cluster, "joined");
    Ok(blocking(move || Identity::create(&data, &pending, given)).await??)
}

/// The folder's lock is ours, so a store that is in use is one that this process is just closing.
pub(super) async fn open_store(identity: &Identity) -> Result<Store, OpenError> {
    let until = Instant::now() + CLOSES_WITHIN;
    loop {
        let folder = identity.folder().path().to_owned();
        match blocking(move || Store::open(&folder)).await? {
            Err(StoreError::InUse { .. }) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OpenError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| OpenError::Raft(error.to_string()))
}

type Net = Option<(Endpoint, Arc<Registry>)>;

fn open_endpoint(
    options: &ClusterOptions,
    identity: &Arc<Identity>,
    view: &tokio_watch::Receiver<Arc<View>>,
) -> Result<(Net, Option<InboundQueues>), OpenError> {
    let Some(endpoint) = &options.endpoint else { return Ok((None, None)) };
    let door = Arc::new(Door { view: view.clone(), role: identity.subject().role });
    let (endpoint, queues) = Endpoint::open(identity.clone(), endpoint.clone(), door)?;
    let registry = Registry::new(
        identity.node(),
        identity.incarnation(),
        endpoint.refused().clone(),
        keep_alive(options),
    )?;
    Ok((Some((endpoint, Arc::new(registry))), Some(queues)))
}

fn keep_alive(options: &ClusterOptions) -> Duration {
    options.endpoint.as_ref().map_or(KEEP_ALIVE, |endpoint| endpoint.keep_alive)
}

fn address(options: &ClusterOptions, endpoint: Option<&Endpoint>) -> String {
    match (&options.advertise, endpoint) {
        (Some(address), Some(_)) => address.clone(),
        (None, Some(endpoint)) => {
            endpoint.local_address().map(|address| address.to_string()).unwrap_or_default()
        }
        (_, None) => String::new(),
    }
}

fn raft_config(timings: &Timings) -> Result<Config, OpenError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "headwater".into(),
        heartbeat_interval: ms(timings.heartbeat),
        election_timeout_min: ms(timings.election.0),
        election_timeout_max: ms(timings.election.1),
        max_payload_entries: ENTRIES_MAX,
        // A replica that was away for less than this catches up by entries, not by a snapshot.
        max_in_snapshot_log_to_keep: 1_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(5_000),
        ..crate::raft::safe_config()
    };
    config.validate().map_err(|error| OpenError::Timings(error.to_string()))
}

/// The first start of a cluster's first node makes a cluster of one; a node that is its cluster's
/// only voter need not wait for anybody.
async fn begin(
    raft: &Raft<TypeConfig, StateMachine>,
    identity: &Identity,
    address: &str,
) -> Result<(), OpenError> {
    let failed = |error: String| OpenError::Raft(error);
    let me = identity.node();
    let initialized = raft.is_initialized().await.map_err(|error| failed(error.to_string()))?;
    if !initialized {
        if !identity.peers().is_empty() {
            return Ok(());
        }
        let members = BTreeMap::from([(me, PeerAddress { address: address.to_owned() })]);
        raft.initialize(members).await.map_err(|error| failed(error.to_string()))?;
    } else if raft.voter_ids().any(|voter| voter != me) || raft.voter_ids().next().is_none() {
        return Ok(());
    } else {
        raft.trigger().elect(false).await.map_err(|error| failed(error.to_string()))?;
    }
    let leads = raft.wait(Some(LEADS_WITHIN)).current_leader(me, "a cluster of one leads").await;
    leads.map(|_| ()).map_err(|error| failed(error.to_string()))
}

/// Starts everything that runs by itself.
async fn start(inner: &Arc<Inner>, queues: Option<InboundQueues>) {
    if let (Some(queues), Some(registry)) = (queues, inner.registry()) {
        *inner.relay_queue.lock() = Some(queues.relay);
        spawn(inner, server::serve(inner.clone(), queues.control));
        spawn(inner, join::serve(inner.clone(), queues.join));
        if let Mind::Votes { raft, feeds } = &inner.mind {
            let keep_alive = keep_alive(&inner.options);
            spawn(inner, raft_server::serve(raft.clone(), registry.clone(), queues.raft));
            spawn(inner, watch::run(inner.clone(), keep_alive));
            spawn(inner, attend::run(inner.clone(), feeds.clone(), keep_alive));
        }
    }
    let info = NodeInfo {
        id: inner.identity.node(),
        name: inner.options.name.clone(),
        role: inner.identity.subject().role,
        region: inner.options.region.clone(),
        address: inner.address.clone(),
        http: inner.options.http.clone(),
        capacity_mbps: inner.options.capacity_mbps,
        incarnation: inner.identity.incarnation(),
    };
    if inner.leader() == Some(info.id) {
        // So that a cluster of one knows its node when it is open.
        upkeep::enter(inner, &info).await;
    }
    spawn(inner, upkeep::run(inner.clone(), info));
    spawn(inner, upkeep::look_out(inner.clone()));
    spawn(inner, upkeep::renew(inner.clone()));
    if inner.raft().is_some() {
        spawn(inner, members::run(inner.clone()));
    }
}

/// A task that ends when the node stops.
fn spawn(inner: &Inner, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(inner.stop.clone().run_until_cancelled_owned(task));
}
