//! The parent's end of a hop: what a child may ask, and what is answered.
//!
//! One [`Parent::handle`] or other call, then [`Parent::poll`] until it gives nothing. Not here:
//! the stream of groups (`feed` decides, `hop` writes), who owns what (the node's `Source`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use headwater_media::{Epoch, GroupSeq, StreamName, TrackName, WallTime};
use thiserror::Error;

use crate::wire::{Announced, Load, Message, RefusalCode, StartAt};

/// Fetches that a child may have under way at once.
const FETCHES_MAX: usize = 16;
/// Streams that are announced to a child at most: as many as a node may have, tenfold.
const ANNOUNCED_MAX: usize = 10_000;

/// A peer that does not keep the protocol; the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Something was said before `Hello`, or `Hello` twice.
    #[error("the first message, and only the first, must be a hello")]
    Hello,
    /// A message that only the other end may send.
    #[error("a message that this end does not take")]
    Unexpected,
    /// Subscriptions and fetches are numbered upwards.
    #[error("the number {0} does not come after the last one")]
    Number(u64),
}

/// Why something is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// The highest epoch known of the stream.
    pub epoch: Epoch,
    /// The node that may have it.
    pub hint: Option<String>,
}

impl Refusal {
    /// One without a hint.
    #[must_use]
    pub fn new(code: RefusalCode) -> Self {
        Self { code, epoch: Epoch(0), hint: None }
    }
}

/// What a child wants to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Its number on the connection.
    pub id: u64,
    /// Which stream.
    pub stream: StreamName,
    /// One track, or all.
    pub track: Option<TrackName>,
    /// The highest epoch that the child knows.
    pub epoch: Epoch,
    /// From where.
    pub start: StartAt,
    /// How it is sent.
    pub terms: Terms,
}

/// How a subscription is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Higher goes first.
    pub priority: u8,
    /// How far a group may lag behind the newest before it is given up.
    pub max_age: Duration,
}

impl Terms {
    fn of(priority: u8, max_age_ms: u32) -> Self {
        Self { priority, max_age: Duration::from_millis(max_age_ms.into()) }
    }
}

/// One group of the window that a child wants again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    /// Its number on the connection.
    pub id: u64,
    /// Which stream.
    pub stream: StreamName,
    /// Which track.
    pub track: TrackName,
    /// Which group.
    pub group: GroupSeq,
    /// From which frame on.
    pub frame: u32,
}

/// What the driver is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParentOutput {
    /// Say this.
    Send(Message),
    /// Look the stream up and send it, or [`Parent::refuse`].
    Start(Subscription),
    /// Send it otherwise from now on.
    Update(u64, Terms),
    /// Send it no more.
    Stop(u64),
    /// Pass the wish for a keyframe on to the subscription's track of this number.
    Wish(u64, u64),
    /// Send one group, then [`Parent::done`], or [`Parent::refuse`].
    Fetch(FetchRequest),
    /// The child has said who it is.
    Named(String),
    /// The child shuts down.
    Leaving(String),
}

/// Limits and names of a parent's end.
#[derive(Clone, Debug)]
pub struct ParentOptions {
    /// This node's id or name.
    pub node: String,
    /// This program's version.
    pub version: String,
    /// Subscriptions that one child may have at once.
    pub subscriptions_max: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Parent {
    options: ParentOptions,
    greeted: bool,
    wants_announcements: bool,
    last_id: Option<u64>,
    /// True for a fetch.
    open: HashMap<u64, bool>,
    announced: BTreeMap<StreamName, Announced>,
    out: VecDeque<ParentOutput>,
}

impl Parent {
    /// Before the child's first word.
    #[must_use]
    pub fn new(options: ParentOptions) -> Self {
        Self {
            options,
            greeted: false,
            wants_announcements: false,
            last_id: None,
            open: HashMap::new(),
            announced: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<ParentOutput> {
        self.out.pop_front()
    }

    /// Takes what the child says, at `now` by this node's wall clock.
    ///
    /// # Errors
    /// The child breaks the protocol.
    pub fn handle(
        &mut self,
        message: Message,
        now: WallTime,
        load: Load,
    ) -> Result<(), ProtocolError> {
        if self.greeted == matches!(message, Message::Hello { .. }) {
            return Err(ProtocolError::Hello);
        }
        match message {
            Message::Hello { node, announcements, .. } => {
                self.greeted = true;
                self.wants_announcements = announcements;
                let own = self.options.node.clone();
                let version = self.options.version.clone();
                self.send(Message::Hello { version, node: own, time: now, announcements: false });
                self.out.push_back(ParentOutput::Named(node));
            }
            Message::Subscribe { id, stream, track, epoch, start, priority, max_age_ms } => {
                self.take_id(id)?;
                let subscriptions = self.open.values().filter(|is_fetch| !**is_fetch).count();
                if subscriptions >= self.options.subscriptions_max {
                    self.refuse(id, &Refusal::new(RefusalCode::Limit));
                } else {
                    self.open.insert(id, false);
                    let terms = Terms::of(priority, max_age_ms);
                    let wanted = Subscription { id, stream, track, epoch, start, terms };
                    self.out.push_back(ParentOutput::Start(wanted));
                }
            }
            // What is over already crosses such messages on their way: no error.
            Message::SubscribeUpdate { id, priority, max_age_ms } => {
                if self.open.contains_key(&id) {
                    let terms = Terms::of(priority, max_age_ms);
                    self.out.push_back(ParentOutput::Update(id, terms));
                }
            }
            Message::Unsubscribe { id } => {
                if self.open.remove(&id).is_some() {
                    self.out.push_back(ParentOutput::Stop(id));
                }
            }
            Message::KeyframeWish { id, track } => {
                if self.open.contains_key(&id) {
                    self.out.push_back(ParentOutput::Wish(id, track));
                }
            }
            Message::Fetch { id, stream, track, group, frame } => {
                self.take_id(id)?;
                if self.open.values().filter(|is_fetch| **is_fetch).count() >= FETCHES_MAX {
                    self.refuse(id, &Refusal::new(RefusalCode::Limit));
                } else {
                    self.open.insert(id, true);
                    let request = FetchRequest { id, stream, track, group, frame };
                    self.out.push_back(ParentOutput::Fetch(request));
                }
            }
            Message::Ping { sent, .. } => self.send(Message::Pong { sent, received: now, load }),
            Message::Goaway { reason } => self.out.push_back(ParentOutput::Leaving(reason)),
            Message::Pong { .. } => {}
            Message::Announce(_)
            | Message::Unannounce(_)
            | Message::Tracks { .. }
            | Message::Refused { .. }
            | Message::Dropped { .. } => return Err(ProtocolError::Unexpected),
        }
        Ok(())
    }

    fn take_id(&mut self, id: u64) -> Result<(), ProtocolError> {
        if self.last_id.is_some_and(|last| id <= last) {
            return Err(ProtocolError::Number(id));
        }
        self.last_id = Some(id);
        Ok(())
    }

    fn send(&mut self, message: Message) {
        self.out.push_back(ParentOutput::Send(message));
    }

    /// Refuses a subscription or fetch, or ends it early.
    pub fn refuse(&mut self, id: u64, refusal: &Refusal) {
        self.open.remove(&id);
        let Refusal { code, epoch, hint } = refusal.clone();
        metrics::counter!("headwater_relay_refusals_total", "code" => code.as_str()).increment(1);
        self.send(Message::Refused { id, code, epoch, hint });
    }

    /// A subscription is over, its stream having ended, or a fetch is done.
    pub fn done(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// Subscriptions and fetches that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// This node shuts down: the child should go elsewhere.
    pub fn leave(&mut self, reason: &str) {
        self.send(Message::Goaway { reason: reason.to_owned() });
    }

    /// The streams that this node has now: says what changed, to a child that wants to know.
    pub fn announce(&mut self, streams: &[Announced]) {
        if !self.wants_announcements {
            return;
        }
        let kept = streams.iter().take(ANNOUNCED_MAX);
        let now: BTreeMap<_, _> = kept.map(|one| (one.stream.clone(), one.clone())).collect();
        for gone in self.announced.keys().filter(|stream| !now.contains_key(*stream)) {
            self.out.push_back(ParentOutput::Send(Message::Unannounce(gone.clone())));
        }
        for (stream, announced) in &now {
            if self.announced.get(stream) != Some(announced) {
                let message = Message::Announce(announced.clone());
                self.out.push_back(ParentOutput::Send(message));
            }
        }
        self.announced = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent() -> Parent {
        let (node, version) = ("p".to_owned(), "1".to_owned());
        Parent::new(ParentOptions { node, version, subscriptions_max: 2 })
    }

    fn hello(announcements: bool) -> Message {
        let (version, node) = (String::new(), "c".to_owned());
        Message::Hello { version, node, time: WallTime(0), announcements }
    }

    fn subscribe(id: u64) -> Message {
        Message::Subscribe {
            id,
            stream: StreamName::parse("a").unwrap(),
            track: None,
            epoch: Epoch(0),
            start: StartAt::Newest,
            priority: 128,
            max_age_ms: 2_000,
        }
    }

    fn say(parent: &mut Parent, message: Message) -> Result<Vec<ParentOutput>, ProtocolError> {
        parent.handle(message, WallTime(5), Load::default())?;
        Ok(std::iter::from_fn(|| parent.poll()).collect())
    }

    #[test]
    fn a_child_says_hello_first_and_once() {
        let mut fresh = parent();
        assert_eq!(say(&mut fresh, subscribe(1)), Err(ProtocolError::Hello));
        let answers = say(&mut fresh, hello(false)).unwrap();
        assert!(
            matches!(&answers[0], ParentOutput::Send(Message::Hello { node, .. }) if node == "p")
        );
        assert_eq!(say(&mut fresh, hello(false)), Err(ProtocolError::Hello));
    }

    #[test]
    fn subscriptions_are_numbered_upwards_and_limited() {
        let mut parent = parent();
        say(&mut parent, hello(false)).unwrap();
        for id in [1, 5] {
            let answers = say(&mut parent, subscribe(id)).unwrap();
            assert!(matches!(&answers[..], [ParentOutput::Start(sub)] if sub.id == id));
        }
        assert_eq!(say(&mut parent, subscribe(5)), Err(ProtocolError::Number(5)));
        let answers = say(&mut parent, subscribe(6)).unwrap();
        let limit =
            |m: &Message| matches!(m, Message::Refused { id: 6, code: RefusalCode::Limit, .. });
        assert!(matches!(&answers[..], [ParentOutput::Send(message)] if limit(message)));
        assert_eq!(
            say(&mut parent, Message::Unsubscribe { id: 1 }),
            Ok(vec![ParentOutput::Stop(1)])
        );
        assert_eq!(say(&mut parent, Message::Unsubscribe { id: 1 }), Ok(vec![]), "once");
        assert_eq!(say(&mut parent, subscribe(7)).unwrap().len(), 1);
    }

    #[test]
    fn a_ping_is_answered_with_the_time() {
        let mut parent = parent();
        say(&mut parent, hello(false)).unwrap();
        let ping = Message::Ping { sent: WallTime(1), load: Load::default() };
        let pong =
            Message::Pong { sent: WallTime(1), received: WallTime(5), load: Load::default() };
        assert_eq!(say(&mut parent, ping), Ok(vec![ParentOutput::Send(pong)]));
    }

    #[test]
    fn a_child_may_not_say_what_parents_say() {
        let mut parent = parent();
        say(&mut parent, hello(false)).unwrap();
        let dropped = Message::Dropped { id: 1, track: 0, order: 0 };
        assert_eq!(say(&mut parent, dropped), Err(ProtocolError::Unexpected));
    }

    #[test]
    fn announcements_tell_what_changed() {
        let state = headwater_media::BroadcastState::Live;
        let one = |name: &str, epoch: u64| Announced {
            stream: StreamName::parse(name).unwrap(),
            epoch: Epoch(epoch),
            state,
        };
        let mut parent = parent();
        say(&mut parent, hello(true)).unwrap();
        let mut told = |streams: &[Announced]| {
            parent.announce(streams);
            std::iter::from_fn(|| parent.poll()).count()
        };
        assert_eq!(told(&[one("a", 1), one("b", 1)]), 2);
        assert_eq!(told(&[one("a", 1), one("b", 1)]), 0);
        assert_eq!(told(&[one("b", 2)]), 2, "a is gone, b is of a new epoch");
    }
}
