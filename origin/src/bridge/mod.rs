//! Between the cluster, which knows who owns a stream, and the relay, which carries it from there.
//!
//! Driver: awaits. Not here: what is carried and how (`headwater-relay`), who owns what
//! (`headwater-cluster`), what is published and watched on this node (`streams`).

mod follow;
mod hops;
mod tidy;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_cluster::cluster::Cluster;
use headwater_cluster::id::NodeId;
use headwater_media::{Broadcast, Epoch, StreamName};
use headwater_relay::hop::{Found, Hop, HopOptions, Source};
use headwater_relay::parent::Refusal;
use headwater_relay::pulls::{Parents, Pulls};
use headwater_relay::wire::RefusalCode;
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};

use self::hops::Hops;
use crate::clock::Clock;
use crate::streams::Streams;
use crate::transcode::audio::{AudioBridges, AudioTarget};

/// How often it is looked whether a stream has sound that other nodes' viewers need made.
const SOUND_INTERVAL: Duration = Duration::from_millis(250);

/// What the ties connect.
pub struct BridgeParts {
    /// The node's clock.
    pub clock: Clock,
    /// The node's streams.
    pub streams: Streams,
    /// What it takes from others.
    pub pulls: Pulls,
    /// What makes further audio tracks.
    pub bridges: AudioBridges,
    /// How long a stream waits for its publisher (`[ingest] reconnect_window`).
    pub reconnect_window: Duration,
}

/// A node's media ties with the others.
pub struct Bridge {
    cluster: Cluster,
    clock: Clock,
    streams: Streams,
    pulls: Pulls,
    bridges: AudioBridges,
    reconnect_window: Duration,
    options: HopOptions,
    hops: Mutex<Hops>,
    /// Itself, for the tasks that hops need.
    me: Weak<Self>,
}

impl Bridge {
    /// The ties of a node. Nothing happens until [`Self::run`] is polled.
    #[must_use]
    pub fn new(cluster: Cluster, parts: BridgeParts, options: HopOptions) -> Arc<Self> {
        let BridgeParts { clock, streams, pulls, bridges, reconnect_window } = parts;
        let hops = Mutex::new(HashMap::new());
        Arc::new_cyclic(|me| Self {
            cluster,
            clock,
            streams,
            pulls,
            bridges,
            reconnect_window,
            options,
            hops,
            me: me.clone(),
        })
    }

    /// Carries streams in and out until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let parents: Arc<dyn Parents> = self.clone();
        tasks.spawn(self.pulls.clone().run(parents));
        tasks.spawn(Self::take_connections(self.clone()));
        tasks.spawn(Self::follow(self.clone()));
        tasks.spawn(Self::beat(self.clone()));
        tasks.spawn(Self::tidy(self.clone()));
        // They end with this future.
        while tasks.join_next().await.is_some() {}
    }

    /// Tells all children that this node goes away: they look for another parent.
    pub fn say_goodbye(&self) {
        for hop in self.ready_hops() {
            hop.goaway("the node is shutting down");
        }
    }

    /// The node that owns a stream, if that is another one.
    fn owner(&self, stream: &StreamName) -> Option<(NodeId, Epoch)> {
        let view = self.cluster.view();
        let view = view.borrow();
        let record = view.stream(stream)?;
        let owner = record.owner()?;
        (owner.node != self.cluster.node()).then(|| (owner.node, record.epoch()))
    }

    fn name_of(&self, node: NodeId) -> Option<String> {
        let view = self.cluster.view();
        let view = view.borrow();
        view.node(node).map(|known| known.info.name.to_string())
    }
}

/// Has the sound of a stream made in every codec that viewers may need, for as long as another node
/// takes it: the owner alone transcodes, so that all nodes serve the same bytes.
async fn keep_sound(bridges: AudioBridges, broadcast: Broadcast) {
    loop {
        let held = AudioTarget::ALL.map(|to| bridges.listen(&broadcast, to));
        tokio::time::sleep(SOUND_INTERVAL).await;
        drop(held);
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Parents for Bridge {
    fn parent(&self, stream: &StreamName, _last: Option<&Refusal>) -> Option<Hop> {
        let (owner, _) = self.owner(stream)?;
        self.hop_to(owner)
    }
}

impl Source for Bridge {
    fn find(&self, stream: &StreamName) -> Result<Found, Refusal> {
        if let Some((broadcast, epoch)) = self.streams.owned(stream) {
            let sound = tokio::spawn(keep_sound(self.bridges.clone(), broadcast.clone()));
            let hold = Some(Arc::new(AbortOnDrop(sound.abort_handle())) as _);
            return Ok(Found { broadcast, epoch, hold });
        }
        // For who wants the rest of a group that this node has taken.
        if let Some((broadcast, epoch)) = self.pulls.get(stream) {
            return Ok(Found { broadcast, epoch, hold: None });
        }
        let Some((owner, epoch)) = self.owner(stream) else {
            return Err(Refusal::new(RefusalCode::NotFound));
        };
        Err(Refusal { code: RefusalCode::NotOwner, epoch, hint: self.name_of(owner) })
    }
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}
