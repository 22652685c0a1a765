//! The subscription that an intake follows, and what the node's children are told of the stream.
//!
//! Not here: frames and groups (`intake`).

use headwater_media::{BroadcastState, Epoch};
use tokio::sync::watch;

use super::track::SubTrack;
use super::{Intake, SourceId};
use crate::route::{Route, Standing};
use crate::wire::{Position, StartAt};

/// What is taken from one parent.
pub(super) struct Subscription {
    pub(super) source: SourceId,
    /// The highest epoch that this parent has shown to know.
    pub(super) epoch: Epoch,
    pub(super) state: BroadcastState,
    pub(super) tracks: Vec<SubTrack>,
    /// As the parent told it, once it has.
    pub(super) route: Option<Route>,
    /// The parent does not answer now.
    pub(super) is_silent: bool,
    /// Something was passed over because the parent was of an older epoch than the one followed.
    pub(super) passed_over: bool,
}

impl Subscription {
    pub(super) fn new(source: SourceId, state: BroadcastState) -> Self {
        Self {
            source,
            epoch: Epoch(0),
            state,
            tracks: Vec::new(),
            route: None,
            is_silent: false,
            passed_over: false,
        }
    }

    /// Whether the parent has the stream, of the epoch that is followed.
    pub(super) fn brings(&self, fence: Epoch) -> bool {
        let flows = self.route.as_ref().is_some_and(|route| route.flowing);
        flows && !self.is_silent && self.epoch >= fence
    }
}

impl Intake {
    /// Begins with the groups of these positions, if it has not begun: a child of this node had
    /// them from elsewhere up to there, and would miss what comes before the newest group.
    pub fn begin_at(&mut self, from: &StartAt) {
        if let StartAt::Positions(positions) = from
            && self.slots.is_empty()
            && self.subscription.is_none()
        {
            let whole = |at: &Position| Position { frame: 0, ..at.clone() };
            self.from = positions.iter().take(self.limits.tracks).map(whole).collect();
        }
    }

    /// What is known of the stream here, for this node's children; changes are watched.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Follows `epoch` from now on, if it is above the one that is followed: what a parent sends
    /// that knows a lower one only is dropped.
    pub fn fence(&mut self, epoch: Epoch) {
        self.fence = self.fence.max(epoch);
        self.stand();
    }

    /// Brings into line what children are told.
    pub(super) fn stand(&self) {
        let brings = |sub: &&Subscription| sub.brings(self.fence);
        let told = self.subscription.as_ref().and_then(|sub| sub.route.clone());
        let mut route = told.unwrap_or_default();
        route.flowing = self.subscription.as_ref().filter(brings).is_some();
        let now = Standing { epoch: self.fence, route };
        self.standing.send_if_modified(|standing| {
            let changed = *standing != now;
            *standing = now;
            changed
        });
    }

    /// How the stream comes by `source`, as its parent says. Children are told with the list of
    /// tracks that comes next.
    pub fn route(&mut self, source: SourceId, route: Route) {
        if let Some(sub) = self.of(source) {
            sub.route = Some(route);
        }
    }

    /// The owner's clock is known better.
    pub fn clock(&mut self, source: SourceId, route: &Route) {
        if let Some(known) = self.of(source).and_then(|sub| sub.route.as_mut()) {
            known.clock_micros = route.clock_micros;
            self.stand();
        }
    }

    /// The parent of `source` does not answer, or does again.
    pub fn silent(&mut self, source: SourceId, is_silent: bool) {
        if let Some(sub) = self.of(source).filter(|sub| sub.is_silent != is_silent) {
            sub.is_silent = is_silent;
            self.stand();
        }
    }

    /// Whether the parent of `source` has the stream itself.
    #[must_use]
    pub fn brings(&self, source: SourceId) -> bool {
        let sub = self.subscription.as_ref().filter(|sub| sub.source == source);
        sub.is_some_and(|sub| sub.brings(self.fence))
    }

    /// Whether the subscription is to begin anew, with the same parent: frames were passed over
    /// while it was of an old epoch, which it is no more.
    #[must_use]
    pub fn wants_resume(&self, source: SourceId) -> bool {
        let sub = self.subscription.as_ref().filter(|sub| sub.source == source);
        sub.is_some_and(|sub| sub.passed_over && sub.epoch >= self.fence)
    }

    /// Whether the stream has tracks here, or had.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.highest.is_some()
    }

    /// The owner's wall clock less this node's, in microseconds.
    #[must_use]
    pub fn clock_micros(&self) -> Option<i64> {
        self.subscription.as_ref()?.route.as_ref()?.clock_micros
    }

    fn of(&mut self, source: SourceId) -> Option<&mut Subscription> {
        self.subscription.as_mut().filter(|sub| sub.source == source)
    }
}
