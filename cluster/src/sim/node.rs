//! A node of the simulation: its disk, and the process that runs on it, if one does.
//!
//! Not here: what its publishers do (`publisher`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use headwater_media::id::{DiscontinuitySeq, Epoch, GroupSeq, StreamName};
use openraft::{Config, SnapshotPolicy};
use tokio::sync::watch;

use super::Chance;
use super::disk::SimDisk;
use super::net::{Factory, Net};
use super::world::Options;
use crate::claim::Progress;
use crate::command::{NodeInfo, Role};
use crate::id::{Incarnation, NodeId, NodeName, Region, WallTime};
use crate::raft::{TypeConfig, safe_config};
use crate::store::{StateMachine, Store};
use crate::view::View;

pub(super) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// What a process knows of a stream that it owns; gone when it crashes.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub(super) epoch: Epoch,
    pub(super) next_group: GroupSeq,
    pub(super) reserved_to: GroupSeq,
    pub(super) discontinuity: DiscontinuitySeq,
    pub(super) fenced: bool,
}

/// A running process.
pub(super) struct Running {
    pub(super) raft: Raft,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) owned: BTreeMap<StreamName, Owned>,
    /// The index that was checked last.
    pub(super) checked: u64,
}

/// A node.
pub(super) struct SimNode {
    pub(super) id: NodeId,
    pub(super) disk: SimDisk,
    /// Kept in the data folder: rises at each start.
    pub(super) incarnation: Incarnation,
    pub(super) running: Option<Running>,
    /// How fast its clock runs, in thousandths.
    rate: u64,
    /// How far its wall clock is ahead, in milliseconds.
    wall_ahead: u64,
    chance: Chance,
    options: Options,
}

impl SimNode {
    pub(super) fn new(id: NodeId, mut chance: Chance, options: Options) -> Self {
        Self {
            id,
            disk: SimDisk::new(id, chance.fork(), options.vote_unsynced),
            incarnation: Incarnation(0),
            running: None,
            rate: chance.range(800, 1_250),
            wall_ahead: chance.range(0, 7_200_000),
            chance,
            options,
        }
    }

    pub(super) fn wall(&self, elapsed_ms: u64) -> WallTime {
        WallTime(1_700_000_000_000 + self.wall_ahead + elapsed_ms)
    }

    pub(super) fn info(&self) -> NodeInfo {
        NodeInfo {
            id: self.id,
            name: NodeName::parse(&format!("sim-{}", self.id)).unwrap(),
            role: Role::Origin,
            region: Region::parse("sim").unwrap(),
            address: String::new(),
            http: vec![],
            capacity_mbps: 1_000,
            incarnation: self.incarnation,
        }
    }

    fn config(&mut self) -> Config {
        let timeout = if self.options.hasty() { (200, 230) } else { (200, 400) };
        // One value, not a range: chosen here, it comes from the seed.
        let election = self.chance.range(timeout.0, timeout.1) * self.rate / 1000;
        Config {
            heartbeat_interval: 50 * self.rate / 1000,
            election_timeout_min: election,
            election_timeout_max: election + 1,
            enable_pre_vote: Some(!self.options.hasty()),
            enable_leader_restore: Some(self.options.leader_restore),
            // Small, so that snapshots are made, sent and installed all the time.
            snapshot_policy: SnapshotPolicy::LogsSinceLast(12),
            max_in_snapshot_log_to_keep: 3,
            replication_lag_threshold: 15,
            install_snapshot_timeout: 500,
            ..safe_config()
        }
    }

    /// Starts a process on what the disk has.
    pub(super) async fn start(
        net: &Net,
        disk: &SimDisk,
        process: (NodeId, u64),
        config: Config,
    ) -> Result<Running, String> {
        let (journal, recovered) = disk.open();
        let store = Store::recover(journal, recovered, Path::new("simulated"))
            .map_err(|error| format!("node {} does not start: {error}", process.0))?;
        let config = Arc::new(config.validate().map_err(|e| e.to_string())?);
        let factory = Factory { net: net.clone(), from: process };
        let raft = Raft::new(process.0, config, factory, store.log, store.machine)
            .await
            .map_err(|error| format!("node {} does not start: {error}", process.0))?;
        net.plug_in(process, raft.clone());
        Ok(Running { raft, view: store.view, owned: BTreeMap::new(), checked: 0 })
    }

    /// The next start of the node.
    pub(super) fn next_start(&mut self) -> (SimDisk, (NodeId, u64), Config) {
        self.incarnation.0 += 1;
        (self.disk.clone(), (self.id, self.incarnation.0), self.config())
    }

    /// The process is gone, and all that it had not synced.
    pub(super) fn crash(&mut self, net: &Net) {
        if let Some(running) = self.running.take() {
            net.unplug(self.id);
            self.disk.crash();
            // It writes nothing and reaches nobody any more; its tasks are ended in the
            // background.
            tokio::spawn(async move {
                let _ = running.raft.shutdown().await;
            });
        }
    }

    /// What the process says when it is asked how far it is with a stream.
    pub(super) fn progress(&mut self, stream: &StreamName, epoch: Epoch) -> Option<Progress> {
        let owned = self.running.as_mut()?.owned.get_mut(stream)?;
        if owned.epoch != epoch {
            return None;
        }
        owned.fenced = true;
        Some(Progress {
            epoch,
            fenced: true,
            next_group: owned.next_group,
            discontinuity: owned.discontinuity,
            tracks: vec![],
        })
    }
}
