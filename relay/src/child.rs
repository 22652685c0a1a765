//! The child's end of a hop: what it asks of its parent, and what it makes of the answers.
//!
//! One call, then [`Child::poll`] until it gives nothing; [`Child::wake_at`] says when
//! [`Child::tick`] is due. Not here: frames (`intake`), which parent serves which stream (`pulls`).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use headwater_media::{BroadcastState, Epoch, GroupSeq, StreamName, TrackName, WallTime};

use crate::clock::ClockOffset;
use crate::parent::{ProtocolError, Refusal, Terms};
use crate::route::Route;
use crate::wire::{Announced, Load, Message, StartAt, TrackEntry};

/// Wishes for keyframes of a track are passed on this often at most: viewers who lose packets ask
/// ten times a second, all at once, and one keyframe serves them all.
const WISH_INTERVAL: Duration = Duration::from_millis(200);

/// Tracks whose last wish is remembered; a connection carries far fewer.
const WISHES_KEPT_MAX: usize = 16_384;

/// Names and timings of a child's end.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// This node's id or name.
    pub node: String,
    /// This program's version.
    pub version: String,
    /// Whether the parent is to announce its streams.
    pub announcements: bool,
    /// How often the parent is asked for the time, which also shows that it lives.
    pub ping_interval: Duration,
    /// A parent that has said nothing for so long counts as silent.
    pub silent_after: Duration,
}

/// What a parent made known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChildEvent {
    /// The parent has said who it is.
    Named(String),
    /// A subscription's tracks, epoch and state.
    Tracks {
        /// The subscription.
        id: u64,
        /// The highest epoch that the parent knows.
        epoch: Epoch,
        /// The broadcast's state.
        state: BroadcastState,
        /// Its tracks.
        tracks: Vec<TrackEntry>,
        /// How it comes here; the parent is last.
        route: Route,
    },
    /// A subscription or fetch is refused or has ended early.
    Refused(u64, Refusal),
    /// A stream of a group was given up: subscription, track, order.
    Dropped(u64, u64, u64),
    /// The parent has a stream.
    Announced(Announced),
    /// The parent has a stream no more.
    Unannounced(StreamName),
    /// The parent shuts down: go elsewhere.
    Goaway(String),
    /// The parent has been silent for too long, or (false) is heard again.
    Silent(bool),
    /// The parent's clock and load were measured anew.
    Measured(Load),
}

/// What the driver is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChildOutput {
    /// Say this.
    Send(Message),
    /// This happened.
    Event(ChildEvent),
}

/// See the module.
#[derive(Debug)]
pub struct Child {
    options: ChildOptions,
    next_id: u64,
    /// True for a fetch.
    open: HashMap<u64, bool>,
    greeted: bool,
    heard: Instant,
    silent: bool,
    next_ping: Instant,
    clock: ClockOffset,
    wishes: HashMap<(u64, u64), Instant>,
    out: VecDeque<ChildOutput>,
}

impl Child {
    /// Says hello.
    #[must_use]
    pub fn new(options: ChildOptions, now: Instant, wall: WallTime) -> Self {
        let hello = Message::Hello {
            version: options.version.clone(),
            node: options.node.clone(),
            time: wall,
            announcements: options.announcements,
        };
        Self {
            options,
            next_id: 1,
            open: HashMap::new(),
            greeted: false,
            heard: now,
            silent: false,
            next_ping: now,
            clock: ClockOffset::default(),
            wishes: HashMap::new(),
            out: VecDeque::from([ChildOutput::Send(hello)]),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<ChildOutput> {
        self.out.pop_front()
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn wake_at(&self) -> Instant {
        let silent_at = self.heard + self.options.silent_after;
        if self.silent { self.next_ping } else { self.next_ping.min(silent_at) }
    }

    /// The parent's clock against ours.
    #[must_use]
    pub fn clock(&self) -> &ClockOffset {
        &self.clock
    }

    /// Asks for a stream; the subscription's number.
    pub fn subscribe(
        &mut self,
        stream: StreamName,
        track: Option<TrackName>,
        (epoch, start): (Epoch, StartAt),
        terms: Terms,
    ) -> u64 {
        let id = self.take_id(false);
        let (priority, max_age_ms) = (terms.priority, millis(terms.max_age));
        let subscribe =
            Message::Subscribe { id, stream, track, epoch, start, priority, max_age_ms };
        self.send(subscribe);
        id
    }

    /// Changes how a subscription is sent.
    pub fn update(&mut self, id: u64, terms: Terms) {
        if self.open.contains_key(&id) {
            let (priority, max_age_ms) = (terms.priority, millis(terms.max_age));
            self.send(Message::SubscribeUpdate { id, priority, max_age_ms });
        }
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: u64) {
        if self.forget(id) {
            self.send(Message::Unsubscribe { id });
        }
    }

    /// Asks for one group of the parent's window from a frame on; the fetch's number.
    pub fn fetch(
        &mut self,
        stream: StreamName,
        track: TrackName,
        group: GroupSeq,
        frame: u32,
    ) -> u64 {
        let id = self.take_id(true);
        self.send(Message::Fetch { id, stream, track, group, frame });
        id
    }

    /// The fetch has been answered.
    pub fn fetched(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// A viewer wants a keyframe of a subscription's track.
    pub fn wish(&mut self, id: u64, track: u64, now: Instant) {
        let recent = |last: &Instant| now.saturating_duration_since(*last) < WISH_INTERVAL;
        if self.open.contains_key(&id) && !self.wishes.get(&(id, track)).is_some_and(recent) {
            if self.wishes.len() >= WISHES_KEPT_MAX {
                self.wishes.clear();
            }
            self.wishes.insert((id, track), now);
            metrics::counter!("headwater_relay_keyframe_wishes_total").increment(1);
            self.send(Message::KeyframeWish { id, track });
        }
    }

    /// This node shuts down.
    pub fn leave(&mut self, reason: &str) {
        self.send(Message::Goaway { reason: reason.to_owned() });
    }

    /// Something came from the parent at `at`, a group's bytes for example.
    pub fn heard(&mut self, at: Instant) {
        if at <= self.heard {
            return;
        }
        self.heard = at;
        if self.silent {
            self.silent = false;
            self.event(ChildEvent::Silent(false));
        }
    }

    /// Takes what the parent says.
    ///
    /// # Errors
    /// The parent breaks the protocol.
    pub fn handle(
        &mut self,
        message: Message,
        now: Instant,
        wall: WallTime,
    ) -> Result<(), ProtocolError> {
        if self.greeted == matches!(message, Message::Hello { .. }) {
            return Err(ProtocolError::Hello);
        }
        self.heard(now);
        match message {
            Message::Hello { node, .. } => {
                self.greeted = true;
                self.event(ChildEvent::Named(node));
            }
            Message::Tracks { id, epoch, state, tracks, route } => {
                if self.open.contains_key(&id) {
                    self.event(ChildEvent::Tracks { id, epoch, state, tracks, route });
                }
            }
            Message::Refused { id, code, epoch, hint } => {
                if self.forget(id) {
                    self.event(ChildEvent::Refused(id, Refusal { code, epoch, hint }));
                }
            }
            Message::Dropped { id, track, order } => {
                self.event(ChildEvent::Dropped(id, track, order));
            }
            Message::Announce(announced) => self.event(ChildEvent::Announced(announced)),
            Message::Unannounce(stream) => self.event(ChildEvent::Unannounced(stream)),
            Message::Goaway { reason } => self.event(ChildEvent::Goaway(reason)),
            Message::Ping { sent, .. } => {
                let load = Load::default();
                self.send(Message::Pong { sent, received: wall, load });
            }
            Message::Pong { sent, received, load } => {
                self.clock.take(sent, received, wall);
                self.event(ChildEvent::Measured(load));
            }
            Message::Subscribe { .. }
            | Message::SubscribeUpdate { .. }
            | Message::Unsubscribe { .. }
            | Message::KeyframeWish { .. }
            | Message::Fetch { .. } => return Err(ProtocolError::Unexpected),
        }
        Ok(())
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Instant, wall: WallTime, load: Load) {
        if now >= self.next_ping {
            self.next_ping = now + self.options.ping_interval;
            self.send(Message::Ping { sent: wall, load });
        }
        let silent = now.saturating_duration_since(self.heard) >= self.options.silent_after;
        if silent && !self.silent {
            self.silent = true;
            metrics::counter!("headwater_relay_parent_silences_total").increment(1);
            self.event(ChildEvent::Silent(true));
        }
    }

    fn take_id(&mut self, is_fetch: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, is_fetch);
        id
    }

    fn forget(&mut self, id: u64) -> bool {
        self.wishes.retain(|(of, _), _| *of != id);
        self.open.remove(&id).is_some()
    }

    fn send(&mut self, message: Message) {
        self.out.push_back(ChildOutput::Send(message));
    }

    fn event(&mut self, event: ChildEvent) {
        self.out.push_back(ChildOutput::Event(event));
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests begin at some time")]
mod tests {
    use super::*;
    use crate::wire::RefusalCode;

    fn child(now: Instant) -> Child {
        let options = ChildOptions {
            node: "c".into(),
            version: "1".into(),
            announcements: false,
            ping_interval: Duration::from_millis(100),
            silent_after: Duration::from_millis(300),
        };
        let mut child = Child::new(options, now, WallTime(0));
        let hello = Message::Hello {
            version: "1".into(),
            node: "p".into(),
            time: WallTime(0),
            announcements: false,
        };
        child.handle(hello, now, WallTime(0)).unwrap();
        drain(&mut child);
        child
    }

    fn drain(child: &mut Child) -> Vec<ChildOutput> {
        std::iter::from_fn(|| child.poll()).collect()
    }

    #[test]
    fn a_silent_parent_is_noticed_once_and_so_is_its_return() {
        let start = Instant::now();
        let mut child = child(start);
        let mut silent_at = None;
        for ms in (0..1_000).step_by(10) {
            let now = start + Duration::from_millis(ms);
            child.tick(now, WallTime(0), Load::default());
            if drain(&mut child).contains(&ChildOutput::Event(ChildEvent::Silent(true))) {
                assert_eq!(silent_at.replace(ms), None);
            }
        }
        assert_eq!(silent_at, Some(300));
        child.heard(start + Duration::from_secs(1));
        assert_eq!(drain(&mut child), [ChildOutput::Event(ChildEvent::Silent(false))]);
    }

    #[test]
    fn wishes_for_keyframes_are_merged() {
        let start = Instant::now();
        let mut child = child(start);
        let stream = StreamName::parse("a").unwrap();
        let terms = Terms { priority: 128, max_age: Duration::from_secs(2) };
        let id = child.subscribe(stream, None, (Epoch(0), StartAt::Newest), terms);
        drain(&mut child);
        for ms in 0..1_000 {
            child.wish(id, 0, start + Duration::from_millis(ms));
        }
        assert_eq!(drain(&mut child).len(), 5);
        child.unsubscribe(id);
        assert_eq!(drain(&mut child), [ChildOutput::Send(Message::Unsubscribe { id })]);
        child.wish(id, 0, start + Duration::from_secs(9));
        assert_eq!(drain(&mut child), []);
    }

    #[test]
    fn a_refused_subscription_is_told_once_and_forgotten() {
        let now = Instant::now();
        let mut child = child(now);
        let stream = StreamName::parse("a").unwrap();
        let terms = Terms { priority: 128, max_age: Duration::from_secs(2) };
        let id = child.subscribe(stream, None, (Epoch(0), StartAt::Newest), terms);
        drain(&mut child);
        let code = RefusalCode::NotOwner;
        let refused = Message::Refused { id, code, epoch: Epoch(3), hint: Some("other".into()) };
        child.handle(refused.clone(), now, WallTime(0)).unwrap();
        let refusal = Refusal { code, epoch: Epoch(3), hint: Some("other".into()) };
        assert_eq!(drain(&mut child), [ChildOutput::Event(ChildEvent::Refused(id, refusal))]);
        child.handle(refused, now, WallTime(0)).unwrap();
        assert_eq!(drain(&mut child), []);
    }

    #[test]
    fn an_answer_to_a_ping_measures_the_clock() {
        let now = Instant::now();
        let mut child = child(now);
        let pong =
            Message::Pong { sent: WallTime(0), received: WallTime(501_000), load: Load::default() };
        child.handle(pong, now, WallTime(2_000)).unwrap();
        assert_eq!(child.clock().micros(), Some(500_000));
    }
}
