//! A worker's share of the sessions, as a state machine: who gets a datagram, who is due, who
//! comes and goes.
//!
//! Addresses are learned from what a peer *answers*: only a STUN request with the right password
//! is answered, so a flood of wrong ones makes no state.
//! Not here: sockets and clocks (`worker`), one peer's protocol (`peer`).

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::{MediaKind, SessionId};
use tokio::sync::oneshot;

use crate::config::SfuConfig;
use crate::demux::binding_ufrag;
use crate::egress::{Path, Runs};
use crate::engine::Engine;
use crate::error::{CloseReason, SfuError};
use crate::fanout::Feeds;
use crate::frames::{PlayTracks, PublisherSink};
use crate::metrics;
use crate::peer::{Made, Now, Out, Outgoing, Peer, Role};
use crate::publisher::Publisher;
use crate::sdp::{self, Fragment, Offer};
use crate::shared::{Listed, Shared};
use crate::stats::SessionCounters;
use crate::viewer::Viewer;

/// Addresses one session may be answered at in its whole life; a peer that keeps changing ports
/// beyond this must make a new session.
const ADDRESSES_LEARNED_MAX: usize = 256;

/// A peer that wants to run at once runs this much later, so that one that always does cannot
/// hold the shard.
const TIMER_STEP: Duration = Duration::from_micros(200);

/// A session that sent media or reports from an address this lately keeps it, whatever checks
/// for other sessions come from there: a source address is easily forged.
const ADDRESS_HELD: Duration = Duration::from_secs(5);

/// A peer's place in its shard.
pub(crate) type Key = u64;

/// Spreads keys, which we count up ourselves: nobody can choose them to collide.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u64(&mut self, key: u64) {
        // Fibonacci hashing: 2^64 over the golden ratio.
        self.0 = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// What a client gets for its offer.
pub(crate) struct Accepted {
    pub(crate) sdp: String,
    pub(crate) etag: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) closed: oneshot::Receiver<CloseReason>,
}

/// Where datagrams from an address go, and from which of our addresses they are answered.
#[derive(Clone, Copy)]
struct Route {
    key: Key,
    local: Option<IpAddr>,
    /// When media or reports that were that session's beyond doubt last came this way.
    heard: Option<Instant>,
}

struct Slot {
    peer: Peer,
    session: SessionId,
    ufrags: Vec<String>,
    addresses: Vec<(bool, SocketAddr)>,
    learned: usize,
    half_open: bool,
    /// The earliest entry of this peer in the timers.
    scheduled: Option<Instant>,
    closed: Option<oneshot::Sender<CloseReason>>,
    /// The outlet of a viewer that carries video.
    video: Option<usize>,
}

/// Datagrams that belong to nobody, counted until the worker reports them.
#[derive(Default)]
pub(crate) struct Strays {
    pub(crate) unknown_address: u64,
    pub(crate) unknown_session: u64,
    pub(crate) too_many_addresses: u64,
    pub(crate) too_long: u64,
}

/// A worker's sessions.
pub(crate) struct Shard {
    index: usize,
    pub(crate) config: Arc<SfuConfig>,
    engine: Arc<Engine>,
    pub(crate) shared: Arc<Shared>,
    candidates: Vec<SocketAddr>,
    next_key: Key,
    slots: HashMap<Key, Slot, BuildHasherDefault<KeyHasher>>,
    sessions: HashMap<SessionId, Key>,
    ufrags: HashMap<String, Key>,
    routes: HashMap<(bool, SocketAddr), Route>,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    /// Seeds first sequence numbers.
    hasher: RandomState,
    pub(crate) feeds: Feeds,
    /// What is to leave.
    pub(crate) runs: Runs,
    /// TCP peers whose session is over.
    pub(crate) hangups: Vec<SocketAddr>,
    pub(crate) strays: Strays,
}

impl Shard {
    pub(crate) fn new(
        index: usize,
        config: Arc<SfuConfig>,
        engine: Arc<Engine>,
        shared: Arc<Shared>,
        candidates: Vec<SocketAddr>,
    ) -> Self {
        Self {
            index,
            config,
            engine,
            shared,
            candidates,
            next_key: 0,
            slots: HashMap::default(),
            sessions: HashMap::new(),
            ufrags: HashMap::new(),
            routes: HashMap::new(),
            timers: BinaryHeap::new(),
            hasher: RandomState::new(),
            feeds: Feeds::default(),
            runs: Runs::default(),
            hangups: Vec::new(),
            strays: Strays::default(),
        }
    }

    /// Takes a publisher's offer.
    ///
    /// # Errors
    /// The offer cannot be used, or a limit is reached.
    pub(crate) fn publish(
        &mut self,
        offer: &str,
        session: SessionId,
        sink: Box<dyn PublisherSink>,
        now: Now,
    ) -> Result<Accepted, SfuError> {
        let mut offer = Offer::parse(offer, self.config.sdp_bytes_max)?;
        sdp::plan_publisher(&mut offer)?;
        let mids = offer.lines.iter().map(|line| line.mid.clone()).collect();
        let publisher = Publisher::new(&self.config, mids, sink);
        self.accept(offer, Role::Publisher(Box::new(publisher)), session, Arc::default(), now)
            .map(|(_, accepted)| accepted)
    }

    /// Takes a viewer's offer.
    ///
    /// # Errors
    /// The offer cannot be used, or a limit is reached.
    pub(crate) fn play(
        &mut self,
        offer: &str,
        session: SessionId,
        tracks: &PlayTracks,
        now: Now,
    ) -> Result<Accepted, SfuError> {
        let mut offer = Offer::parse(offer, self.config.sdp_bytes_max)?;
        let (video, audio) = (tracks.video.as_ref(), tracks.audio.as_ref());
        let plan = sdp::plan_viewer(&mut offer, video, audio)?;
        let chosen = [(plan.video, video), (plan.audio, audio)];
        let outlets: Vec<_> = chosen
            .into_iter()
            .filter_map(|(line, track)| Some((track?.clone(), offer.lines.get(line?)?.mid.clone())))
            .collect();
        let subscribed: Vec<_> = outlets.iter().map(|(track, _)| track.clone()).collect();
        let counters = Arc::<SessionCounters>::default();
        let seed = self.hasher.hash_one((session, self.next_key));
        let viewer =
            Viewer::new(Arc::clone(&self.config), outlets, seed, now, Arc::clone(&counters));
        let role = Role::Viewer(Box::new(viewer));
        let (key, mut accepted) = self.accept(offer, role, session, counters, now)?;
        accepted.warnings.extend(plan.warnings);
        let video = subscribed.iter().position(|track| track.kind() == MediaKind::Video);
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.video = video;
        }
        for (outlet, track) in subscribed.iter().enumerate() {
            self.feeds.subscribe(track, (key, outlet));
        }
        Ok(accepted)
    }

    /// Makes the session and lists it.
    fn accept(
        &mut self,
        offer: Offer,
        role: Role,
        session: SessionId,
        counters: Arc<SessionCounters>,
        now: Now,
    ) -> Result<(Key, Accepted), SfuError> {
        self.shared.reserve(self.index)?;
        let made = self.make(offer, role, session, &counters, now).inspect_err(|_| {
            self.shared.release(self.index, true);
        })?;
        let kind = made.peer.kind();
        metrics::session_opened(kind);
        let key = self.next_key;
        self.next_key += 1;
        let (sender, closed) = oneshot::channel();
        let etag = made.peer.etag().to_owned();
        self.ufrags.insert(etag.clone(), key);
        self.sessions.insert(session, key);
        let slot = Slot {
            peer: made.peer,
            session,
            ufrags: vec![etag.clone()],
            addresses: Vec::new(),
            learned: 0,
            half_open: true,
            scheduled: None,
            closed: Some(sender),
            video: None,
        };
        self.slots.insert(key, slot);
        self.with(key, now, None, |peer, out| peer.timeout(now, out));
        Ok((key, Accepted { sdp: made.sdp, etag, warnings: made.warnings, closed }))
    }

    /// Lets the engine accept the offer, and lists the session.
    fn make(
        &self,
        offer: Offer,
        role: Role,
        session: SessionId,
        counters: &Arc<SessionCounters>,
        now: Now,
    ) -> Result<Made, SfuError> {
        let accept = || {
            let counters = Arc::clone(counters);
            Peer::accept(&self.engine, &self.config, &self.candidates, offer, role, counters, now)
        };
        let made = catch_unwind(AssertUnwindSafe(accept)).unwrap_or_else(|_| {
            tracing::error!(%session, "the engine panicked over an offer");
            Err(SfuError::MalformedSdp(String::from("the engine cannot take it")))
        })?;
        let (kind, counters) = (made.peer.kind(), Arc::clone(counters));
        if self.shared.list_session(session, Listed { kind, worker: self.index, counters }) {
            Ok(made)
        } else {
            Err(SfuError::SessionExists)
        }
    }

    /// Runs `work` on a peer and takes care of what follows. A panic in the engine ends that
    /// session alone.
    pub(crate) fn with<R>(
        &mut self,
        key: Key,
        now: Now,
        local: Option<IpAddr>,
        work: impl FnOnce(&mut Peer, &mut Out<'_>) -> R,
    ) -> Option<R> {
        let slot = self.slots.get_mut(&key)?;
        let routes = &self.routes;
        let from = |tcp, peer| routes.get(&(tcp, peer)).and_then(|route| route.local);
        let mut out = Out { engine: Vec::new(), runs: &mut self.runs, from: &from };
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut slot.peer, &mut out)));
        let out = out.engine;
        let result = match result {
            Ok(result) => Some(result),
            Err(_) => {
                tracing::error!(session = %slot.session, "the engine panicked; session dropped");
                let reason = CloseReason::Protocol(String::from("the engine failed"));
                // The sink hears of the end, unless it is what panics.
                let finish = || slot.peer.finish(reason.clone());
                if catch_unwind(AssertUnwindSafe(finish)).is_err() {
                    tracing::error!(session = %slot.session, "the session's sink panicked");
                }
                self.remove(key, reason);
                return None;
            }
        };
        self.depart(key, local, out, now);
        self.after(key, now);
        result
    }

    /// Learns addresses from what leaves, and queues it.
    fn depart(&mut self, key: Key, local: Option<IpAddr>, out: Vec<Outgoing>, now: Now) {
        for outgoing in out {
            let way = (outgoing.tcp, outgoing.destination);
            let known = self.routes.get(&way).copied();
            let from = match known {
                Some(route) if route.key == key => local.or(route.local),
                _ => local,
            };
            let held = known.is_some_and(|route| route.key != key && self.holds(&route, now));
            if known.is_none_or(|route| route.key != key) && !held {
                self.learn(key, way);
            }
            if !held {
                let heard = known.filter(|route| route.key == key).and_then(|route| route.heard);
                self.routes.insert(way, Route { key, local: from, heard });
            }
            let (tcp, destination) = way;
            self.runs.push(Path { tcp, destination, from }, &outgoing.contents);
        }
    }

    /// Whether an address still belongs to the session that it leads to.
    fn holds(&self, route: &Route, now: Now) -> bool {
        let lately = route.heard.is_some_and(|heard| now.instant < heard + ADDRESS_HELD);
        lately && self.slots.contains_key(&route.key)
    }

    fn learn(&mut self, key: Key, path: (bool, SocketAddr)) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        // Two sessions of one client may take turns at an address.
        if slot.addresses.contains(&path) {
            return;
        }
        slot.learned += 1;
        slot.addresses.push(path);
        if slot.addresses.len() > self.config.peer_addresses_max {
            // The way that media takes stays.
            let used = |way: &(bool, SocketAddr)| slot.peer.path() == Some(*way);
            let spare = slot.addresses.iter().position(|way| !used(way)).unwrap_or_default();
            let oldest = slot.addresses.remove(spare);
            self.forget(key, oldest);
        }
    }

    /// Forgets the way to an address, unless another session has it by now.
    fn forget(&mut self, key: Key, path: (bool, SocketAddr)) {
        if self.routes.get(&path).is_some_and(|route| route.key == key) {
            self.routes.remove(&path);
            if path.0 {
                self.hangups.push(path.1);
            }
        }
    }

    /// After anything happened to a peer: is it open, over, or due at another time?
    fn after(&mut self, key: Key, now: Now) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if let Some(reason) = slot.peer.closed().cloned() {
            self.remove(key, reason);
            return;
        }
        if slot.half_open && !slot.peer.is_half_open() {
            slot.half_open = false;
            self.shared.opened();
        }
        // Sound alone starts with the present.
        if slot.peer.take_wants_start()
            && let Some(outlet) = slot.video
        {
            self.start_viewer(key, outlet, now);
            return;
        }
        let deadline = slot.peer.deadline().max(now.instant + TIMER_STEP);
        if slot.scheduled.is_none_or(|at| deadline < at) {
            slot.scheduled = Some(deadline);
            self.timers.push(Reverse((deadline, key)));
        }
    }

    fn remove(&mut self, key: Key, reason: CloseReason) {
        let Some(slot) = self.slots.remove(&key) else { return };
        tracing::info!(session = %slot.session, kind = ?slot.peer.kind(), %reason, "session closed");
        metrics::session_closed(slot.peer.kind(), &reason);
        self.sessions.remove(&slot.session);
        for ufrag in &slot.ufrags {
            self.ufrags.remove(ufrag);
        }
        for path in &slot.addresses {
            self.forget(key, *path);
        }
        self.feeds.unsubscribe(key);
        self.shared.unlist(slot.session);
        self.shared.release(self.index, slot.half_open);
        if let Some(closed) = slot.closed {
            // Nobody needs to wait for the end of a session.
            let _ = closed.send(reason);
        }
    }

    /// Takes a datagram or a TCP frame; false when it belongs to no session.
    pub(crate) fn datagram(
        &mut self,
        now: Now,
        tcp: bool,
        source: SocketAddr,
        local: IpAddr,
        data: &[u8],
    ) -> bool {
        let known = self.routes.get(&(tcp, source)).map(|route| route.key);
        let key = match binding_ufrag(data) {
            Some(ufrag) => self.ufrags.get(ufrag).copied(),
            None => known,
        };
        let Some(key) = key else {
            let stray = match known {
                None => &mut self.strays.unknown_address,
                Some(_) => &mut self.strays.unknown_session,
            };
            *stray += 1;
            return false;
        };
        let spent = self.slots.get(&key).is_none_or(|s| s.learned >= ADDRESSES_LEARNED_MAX);
        if known != Some(key) && spent {
            self.strays.too_many_addresses += 1;
            return false;
        }
        let candidate = self.candidate_for(local, source);
        let proved = self.with(key, now, Some(local), |peer, out| {
            peer.receive(now, tcp, source, candidate, data, out)
        });
        let route = self.routes.get_mut(&(tcp, source));
        let known = route.is_some();
        if proved == Some(true)
            && let Some(route) = route.filter(|route| route.key == key)
        {
            route.heard = Some(now.instant);
        }
        known
    }

    /// The candidate that stands for the local address a datagram came to: behind a one-to-one
    /// NAT that is not the address the client knows.
    fn candidate_for(&self, local: IpAddr, source: SocketAddr) -> SocketAddr {
        let exact = self.candidates.iter().find(|candidate| candidate.ip() == local);
        let family = || self.candidates.iter().find(|c| c.is_ipv4() == source.is_ipv4());
        exact.or_else(family).copied().unwrap_or(SocketAddr::new(local, 0))
    }

    /// Does what is due, for so many peers at most; says whether more are due.
    pub(crate) fn run_timers(&mut self, now: Now, peers_max: usize) -> bool {
        let mut peers = 0;
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now.instant {
                return false;
            }
            if peers == peers_max {
                return true;
            }
            peers += 1;
            self.timers.pop();
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            if slot.scheduled != Some(at) {
                continue;
            }
            slot.scheduled = None;
            if slot.peer.deadline() > now.instant {
                self.after(key, now);
            } else {
                self.with(key, now, None, |peer, out| peer.timeout(now, out));
            }
        }
        false
    }

    /// When [`Self::run_timers`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Trickle or restart.
    ///
    /// # Errors
    /// No such session, a wrong fragment, or a stale entity tag (None: any will do).
    pub(crate) fn patch(
        &mut self,
        session: SessionId,
        fragment: &str,
        etag: Option<&str>,
        now: Now,
    ) -> Result<Option<(String, String)>, SfuError> {
        let key = *self.sessions.get(&session).ok_or(SfuError::UnknownSession)?;
        let fragment = Fragment::parse(fragment, self.config.sdp_bytes_max)?;
        let slot = self.slots.get(&key).ok_or(SfuError::UnknownSession)?;
        if let Some(etag) = etag
            && etag != slot.peer.etag()
        {
            return Err(SfuError::StaleEtag { current: slot.peer.etag().to_owned() });
        }
        let answer = self
            .with(key, now, None, |peer, out| {
                let answer = peer.patch(&fragment, now, out);
                answer.map(|answer| answer.map(|answer| (answer, peer.etag().to_owned())))
            })
            .ok_or(SfuError::UnknownSession)??;
        if let Some((_, etag)) = &answer
            && let Some(slot) = self.slots.get_mut(&key)
        {
            // Checks of the old generation are on their way still: it is known once more.
            while slot.ufrags.len() > 1 {
                self.ufrags.remove(&slot.ufrags.remove(0));
            }
            slot.ufrags.push(etag.clone());
            self.ufrags.insert(etag.clone(), key);
        }
        Ok(answer)
    }

    /// Ends a session; false when there is none of that id.
    pub(crate) fn close(&mut self, session: SessionId, reason: CloseReason, now: Now) -> bool {
        let Some(key) = self.sessions.get(&session).copied() else { return false };
        self.with(key, now, None, |peer, out| peer.close(reason, now, out));
        true
    }

    /// A TCP peer's queue is full: its viewer skips to a keyframe.
    pub(crate) fn congested(&mut self, peer: SocketAddr, now: Now) {
        let Some(route) = self.routes.get(&(true, peer)).copied() else { return };
        self.with(route.key, now, None, |peer, out| peer.feed(now, out, Viewer::skip));
    }

    /// Ends all sessions.
    pub(crate) fn close_all(&mut self, reason: &CloseReason, now: Now) {
        let keys: Vec<Key> = self.slots.keys().copied().collect();
        for key in keys {
            self.with(key, now, None, |peer, out| peer.close(reason.clone(), now, out));
        }
    }
}
