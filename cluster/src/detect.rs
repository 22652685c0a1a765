//! Who is alive, as one node sees it and as its peers tell it. Pure: a driver feeds it, and the
//! leader's driver proposes what it finds.
//!
//! A peer that is not heard for `suspect_after` is suspected. It is confirmed dead once a second
//! node that is itself alive suspects it too; a lone fault between two nodes kills nobody. Where
//! no second node is left to ask, suspicion is enough.
//!
//! Not here: keep-alives (`endpoint`), what follows from a death (`state`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::id::{Incarnation, NodeId};

/// Timings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DetectorOptions {
    /// How often peers tell that they live: sets how finely silence can be told.
    pub keep_alive: Duration,
    /// How long a peer may be silent. Three keep-alives: survives one that is lost and one that
    /// is late.
    pub suspect_after: Duration,
}

impl Default for DetectorOptions {
    fn default() -> Self {
        Self { keep_alive: Duration::from_millis(100), suspect_after: Duration::from_millis(300) }
    }
}

impl DetectorOptions {
    /// How long what a peer suspects counts without being said again; peers say it at each
    /// keep-alive.
    fn suspicion_lasts(&self) -> Duration {
        self.suspect_after.max(self.keep_alive * 3)
    }
}

/// What a node is held for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It is heard.
    Alive,
    /// It is silent; tell the leader.
    Suspect,
    /// It is silent, and not for this node alone: the leader declares it dead.
    Confirmed,
}

/// A change that somebody should hear of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The peer.
    pub peer: NodeId,
    /// The start of it that is meant.
    pub incarnation: Incarnation,
    /// What it is now.
    pub health: Health,
}

#[derive(Debug)]
struct Peer {
    incarnation: Incarnation,
    heard: Instant,
    /// Who suspects it, and when it last said so.
    suspected_by: BTreeMap<NodeId, Instant>,
    told: Health,
}

/// The detector of one node.
#[derive(Debug)]
pub struct Detector {
    options: DetectorOptions,
    peers: BTreeMap<NodeId, Peer>,
    polled: Instant,
}

impl Detector {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(options: DetectorOptions, now: Instant) -> Self {
        Self { options, peers: BTreeMap::new(), polled: now }
    }

    /// Sets who is watched: all nodes of the cluster but this one. New ones, and new starts of
    /// known ones, count as heard now.
    pub fn watch(&mut self, peers: impl IntoIterator<Item = (NodeId, Incarnation)>, now: Instant) {
        let mut old = std::mem::take(&mut self.peers);
        for (id, incarnation) in peers {
            let known = old.remove(&id).filter(|peer| peer.incarnation >= incarnation);
            let peer = known.unwrap_or_else(|| Peer {
                incarnation,
                heard: now,
                suspected_by: BTreeMap::new(),
                told: Health::Alive,
            });
            self.peers.insert(id, peer);
        }
    }

    /// Something came from this start of the peer.
    pub fn heard(&mut self, peer: NodeId, incarnation: Incarnation, now: Instant) {
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        if incarnation < peer.incarnation {
            return;
        }
        if incarnation > peer.incarnation {
            peer.incarnation = incarnation;
            peer.suspected_by.clear();
        }
        peer.heard = peer.heard.max(now);
    }

    /// `observer` says that it does not hear this start of the peer.
    pub fn suspicion_from(
        &mut self,
        observer: NodeId,
        peer: NodeId,
        incarnation: Incarnation,
        now: Instant,
    ) {
        // Strangers have no say, and nobody testifies about itself.
        if observer == peer || !self.peers.contains_key(&observer) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&peer)
            && peer.incarnation == incarnation
        {
            peer.suspected_by.insert(observer, now);
        }
    }

    /// `observer` hears the peer again.
    pub fn suspicion_ends(&mut self, observer: NodeId, peer: NodeId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.suspected_by.remove(&observer);
        }
    }

    /// What the peer is held for; `None` if it is not watched.
    #[must_use]
    pub fn health(&self, peer: NodeId, now: Instant) -> Option<Health> {
        self.peers.get(&peer).map(|known| self.judge(peer, known, now))
    }

    fn is_silent(&self, peer: &Peer, now: Instant) -> bool {
        now.saturating_duration_since(peer.heard) >= self.options.suspect_after
    }

    fn judge(&self, id: NodeId, peer: &Peer, now: Instant) -> Health {
        if !self.is_silent(peer, now) {
            return Health::Alive;
        }
        let mut others = (self.peers.iter())
            .filter(|(other, state)| **other != id && !self.is_silent(state, now))
            .map(|(other, _)| other)
            .peekable();
        let alone = others.peek().is_none();
        let second = others.any(|other| {
            peer.suspected_by.get(other).is_some_and(|said| {
                now.saturating_duration_since(*said) < self.options.suspicion_lasts()
            })
        });
        if alone || second { Health::Confirmed } else { Health::Suspect }
    }

    /// What has changed since the last time. Call it at least every `keep_alive`.
    pub fn poll(&mut self, now: Instant) -> Vec<Change> {
        // Who was stopped itself (SIGSTOP, a suspended machine) heard nobody, and knows nothing
        // of anybody.
        let gap = now.saturating_duration_since(self.polled);
        if gap >= self.options.suspect_after {
            for peer in self.peers.values_mut() {
                peer.heard = now;
                peer.suspected_by.clear();
            }
        }
        self.polled = self.polled.max(now);
        let mut changes = Vec::new();
        for (id, peer) in &self.peers {
            let health = self.judge(*id, peer, now);
            if health != peer.told {
                changes.push(Change { peer: *id, incarnation: peer.incarnation, health });
            }
        }
        for change in &changes {
            if let Some(peer) = self.peers.get_mut(&change.peer) {
                peer.told = change.health;
            }
        }
        changes
    }

    /// The peers that this node does not hear, to be told to the leader at each keep-alive.
    pub fn suspected(&self, now: Instant) -> impl Iterator<Item = (NodeId, Incarnation)> {
        (self.peers.iter())
            .filter(move |(_, peer)| self.is_silent(peer, now))
            .map(|(id, peer)| (*id, peer.incarnation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Incarnation = Incarnation(1);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn watching(peers: &[u64]) -> (Detector, Instant) {
        let now = Instant::now();
        let mut detector = Detector::new(DetectorOptions::default(), now);
        detector.watch(peers.iter().map(|id| (NodeId(*id), ONE)), now);
        (detector, now)
    }

    /// Time passes in keep-alives, of which those of `alive` arrive.
    fn pass(detector: &mut Detector, from: Instant, to: Instant, alive: &[u64]) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut now = from;
        while now < to {
            now += ms(100);
            for id in alive {
                detector.heard(NodeId(*id), ONE, now);
            }
            changes.extend(detector.poll(now));
        }
        changes
    }

    fn change(peer: u64, health: Health) -> Change {
        Change { peer: NodeId(peer), incarnation: ONE, health }
    }

    #[test]
    fn a_silent_peer_is_confirmed_by_a_second_observer_and_not_before() {
        let (mut detector, t) = watching(&[2, 3]);
        let changes = pass(&mut detector, t, t + ms(300), &[3]);
        assert_eq!(changes, [change(2, Health::Suspect)]);
        assert_eq!(pass(&mut detector, t + ms(300), t + ms(2000), &[3]), []);
        let now = t + ms(2000);
        assert_eq!(detector.suspected(now).collect::<Vec<_>>(), [(NodeId(2), ONE)]);
        detector.suspicion_from(NodeId(3), NodeId(2), ONE, now);
        assert_eq!(detector.poll(now), [change(2, Health::Confirmed)]);
        detector.heard(NodeId(2), ONE, now);
        assert_eq!(detector.poll(now), [change(2, Health::Alive)]);
    }

    #[test]
    fn the_last_observer_decides_alone() {
        let (mut detector, t) = watching(&[2]);
        let changes = pass(&mut detector, t, t + ms(300), &[]);
        assert_eq!(changes, [change(2, Health::Confirmed)]);
        let (mut detector, t) = watching(&[2, 3]);
        let changes = pass(&mut detector, t, t + ms(300), &[]);
        assert_eq!(changes, [change(2, Health::Confirmed), change(3, Health::Confirmed)]);
    }

    #[test]
    fn suspicions_that_are_old_retracted_strange_or_about_another_start_do_not_count() {
        let (mut detector, t) = watching(&[2, 3]);
        detector.suspicion_from(NodeId(3), NodeId(2), ONE, t);
        let changes = pass(&mut detector, t, t + ms(400), &[3]);
        assert_eq!(changes, [change(2, Health::Suspect)], "said before it fell silent");
        let now = t + ms(400);
        detector.suspicion_from(NodeId(9), NodeId(2), ONE, now);
        detector.suspicion_from(NodeId(2), NodeId(2), ONE, now);
        detector.suspicion_from(NodeId(3), NodeId(2), Incarnation(7), now);
        assert_eq!(detector.poll(now), []);
        detector.suspicion_from(NodeId(3), NodeId(2), ONE, now);
        detector.suspicion_ends(NodeId(3), NodeId(2));
        assert_eq!(detector.poll(now), []);
    }

    #[test]
    fn a_node_that_was_stopped_itself_accuses_nobody() {
        let (mut detector, t) = watching(&[2, 3]);
        assert_eq!(pass(&mut detector, t, t + ms(200), &[2, 3]), []);
        let resumed = t + ms(10_000);
        assert_eq!(detector.poll(resumed), []);
        assert_eq!(pass(&mut detector, resumed, resumed + ms(1000), &[2, 3]), []);
    }

    #[test]
    fn a_new_start_of_a_peer_begins_with_a_clean_sheet() {
        let (mut detector, t) = watching(&[2, 3]);
        pass(&mut detector, t, t + ms(300), &[3]);
        let now = t + ms(300);
        detector.suspicion_from(NodeId(3), NodeId(2), ONE, now);
        detector.heard(NodeId(2), Incarnation(2), now);
        let changes = detector.poll(now);
        let two = Incarnation(2);
        let alive = Change { peer: NodeId(2), incarnation: two, health: Health::Alive };
        assert_eq!(changes, [alive]);
        detector.heard(NodeId(2), ONE, now + ms(250));
        detector.heard(NodeId(3), ONE, now + ms(250));
        assert_eq!(detector.health(NodeId(2), now + ms(300)), Some(Health::Suspect));
        assert_eq!(detector.health(NodeId(9), now), None);
    }
}
