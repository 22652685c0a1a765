//! What goes wrong in a bad day, drawn from the seed.
//!
//! Not here: what must hold all the same (`check`), the day itself (`world`).

use super::*;

impl Chaos {
    pub(super) async fn faults(&mut self, ids: &[NodeId]) -> Result<(), String> {
        let now = Instant::now();
        let back: Vec<NodeId> =
            self.down.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in back {
            self.down.remove(&id);
            self.start(id).await?;
        }
        if self.heal_at.is_some_and(|at| at <= now) {
            self.world.net.heal();
            self.heal_at = None;
        }
        if self.options.elections {
            self.election_faults(ids);
        } else {
            self.all_faults(ids);
        }
        Ok(())
    }

    /// One node is left alone, another one then, and who stood between them forgets what it can.
    fn election_faults(&mut self, ids: &[NodeId]) {
        if !self.chance.permille(45) {
            return;
        }
        self.report.partitions += 1;
        let alone = self.any(ids);
        self.isolate(alone, ids);
        let other = self.any(ids);
        if other != alone && self.chance.permille(700) {
            self.crash(other, (2, 30));
        }
    }

    fn isolate(&mut self, alone: NodeId, ids: &[NodeId]) {
        super::super::trace(|| format!("{alone} is alone"));
        self.world.net.heal();
        for id in ids.iter().filter(|id| **id != alone) {
            self.world.net.cut(*id, alone);
            self.world.net.cut(alone, *id);
        }
    }

    fn all_faults(&mut self, ids: &[NodeId]) {
        if self.chance.permille(15) {
            let id = self.any(ids);
            self.crash(id, (5, 1_500));
        }
        if self.chance.permille(3) {
            for id in ids {
                self.crash(*id, (5, 500));
            }
        }
        if self.chance.permille(12) {
            self.report.partitions += 1;
            let (a, b) = (self.any(ids), self.any(ids));
            match self.chance.range(0, 3) {
                0 => self.isolate(a, ids),
                // One way only, or a node that some do not hear.
                1 => self.world.net.cut(a, b),
                _ => {
                    self.world.net.cut(a, b);
                    self.world.net.cut(b, a);
                }
            }
            let lasts = Duration::from_millis(self.chance.range(100, 1_500));
            self.heal_at = Some(Instant::now() + lasts);
        }
        if self.chance.permille(10) {
            let bad = self.chance.permille(500);
            self.world.net.set_weather(Weather {
                loss: if bad { self.chance.range(0, 200) } else { 0 },
                doubled: if bad { self.chance.range(0, 200) } else { 0 },
                slowest: if bad { self.chance.range(500, 60_000) } else { 1_000 },
            });
        }
        if self.chance.permille(10) {
            let id = self.any(ids);
            let slowest = Duration::from_micros(self.chance.range(300, 60_000));
            if let Some(node) = self.world.nodes.lock().get(&id) {
                node.disk.set_slowest(slowest);
            }
        }
        if self.chance.permille(10) {
            self.gossip(ids);
        }
        if self.chance.permille(8) {
            self.hand_over(ids);
        }
        if self.chance.permille(8) {
            // Most of them, and two at least.
            let mut voters: BTreeSet<NodeId> = ids.iter().copied().collect();
            voters.remove(&self.any(ids));
            if ids.len() > 3 && self.chance.permille(500) {
                voters.remove(&self.any(ids));
            }
            if self.chance.permille(300) {
                voters = ids.iter().copied().collect();
            }
            self.set_voters(voters);
        }
    }

    /// The raft of a node that holds itself for the leader.
    fn leader(&self) -> Option<super::super::node::Raft> {
        let nodes = self.world.nodes.lock();
        let mut rafts = nodes.values().filter_map(|node| {
            let raft = &node.running.as_ref()?.raft;
            let leader = raft.metrics().borrow_watched().current_leader;
            (leader == Some(node.id)).then(|| raft.clone())
        });
        rafts.next()
    }

    /// The leader hands its office to somebody.
    fn hand_over(&mut self, ids: &[NodeId]) {
        let to = self.any(ids);
        if let Some(raft) = self.leader() {
            self.report.hand_overs += 1;
            tokio::spawn(async move {
                let _ = raft.trigger().transfer_leader(to).await;
            });
        }
    }

    /// The leader changes who votes; the others go on as learners.
    pub(super) fn set_voters(&mut self, voters: BTreeSet<NodeId>) {
        if let Some(raft) = self.leader() {
            self.report.memberships += 1;
            tokio::spawn(async move {
                let change = raft.change_membership(voters, true);
                let _ = tokio::time::timeout(Duration::from_secs(2), change).await;
            });
        }
    }
}
