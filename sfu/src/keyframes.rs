//! Decides when a publisher is asked for a keyframe.
//!
//! Browsers send keyframes only when asked, and the distance between keyframes is the length of
//! groups and segments: so one is asked for every `interval`, on all simulcast layers at once so
//! that their groups line up. Viewers' wishes come on top, coalesced.
//! Not here: sending the request (`publisher`).

use std::time::{Duration, Instant};

/// An encoder with a keyframe interval of its own gets this much longer before it is asked, so
/// that a request does not arrive just as it makes one anyway.
const OWN_RHYTHM_SLACK: Duration = Duration::from_millis(250);

/// A loss is answered by a request no sooner than this after the last request: one that is on
/// its way already must have time to be answered.
const LOSS_SPACING: Duration = Duration::from_millis(250);

/// Tracks that can be told apart.
pub(crate) const TRACKS_MAX: usize = u32::BITS as usize;

/// Encoded streams (cameras, simulcast layers) of one publisher, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tracks(u32);

impl Tracks {
    fn with(self, track: usize) -> Self {
        Self(self.0 | Self::of(track).0)
    }

    fn without(self, track: usize) -> Self {
        Self(self.0 & !Self::of(track).0)
    }

    fn has(self, track: usize) -> bool {
        self.0 & Self::of(track).0 != 0
    }

    fn any(self) -> bool {
        self.0 != 0
    }

    /// Nothing beyond the bits there are: such a track is never missed.
    fn of(track: usize) -> Self {
        Self(u32::try_from(track).ok().and_then(|track| 1_u32.checked_shl(track)).unwrap_or(0))
    }
}

/// When keyframes were asked for and came, by the tracks' places.
#[derive(Debug)]
pub(crate) struct Keyframes {
    interval: Duration,
    spacing: Duration,
    last_request: Option<Instant>,
    /// Tracks that have sent something.
    seen: Tracks,
    /// Tracks that have sent something since the last request: a browser short of bandwidth stops
    /// its largest layer, which then answers nothing.
    active: Tracks,
    /// Tracks whose keyframe has not come since the last request.
    pending: Tracks,
    /// The last keyframe that came without a request.
    last_own: Option<Instant>,
    wished: bool,
    /// Tracks that have lost packets for good since their last keyframe.
    lost: Tracks,
}

impl Keyframes {
    pub(crate) fn new(interval: Duration, spacing: Duration) -> Self {
        Self {
            interval,
            spacing,
            last_request: None,
            seen: Tracks::default(),
            active: Tracks::default(),
            pending: Tracks::default(),
            last_own: None,
            wished: false,
            lost: Tracks::default(),
        }
    }

    /// A viewer wishes for a keyframe.
    pub(crate) fn wish(&mut self) {
        self.wished = true;
    }

    /// Packets of a track are lost for good.
    pub(crate) fn loss(&mut self, track: usize) {
        self.lost = self.lost.with(track);
    }

    /// A frame of a track came, of whatever kind.
    pub(crate) fn came(&mut self, track: usize) {
        self.active = self.active.with(track);
    }

    /// A track's keyframe came.
    pub(crate) fn arrived(&mut self, track: usize, now: Instant) {
        if self.seen.has(track) && !self.pending.has(track) {
            self.last_own = Some(now);
        }
        self.seen = self.seen.with(track);
        self.came(track);
        // An encoder begins with a keyframe: as good as one that was asked for.
        self.last_request.get_or_insert(now);
        self.pending = self.pending.without(track);
        self.lost = self.lost.without(track);
        // A wish is for some track: it is met when none is awaited any more.
        self.wished &= self.pending.any();
    }

    /// When a request will be due if nothing else happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        let last = self.last_request?;
        let mut due = last + self.interval;
        if let Some(own) = self.last_own
            && own > last
        {
            due = due.max(own + self.interval + OWN_RHYTHM_SLACK);
        }
        if self.pending.any() || self.wished {
            due = due.min(last + self.spacing);
        }
        if self.lost.any() {
            due = due.min(last + LOSS_SPACING);
        }
        Some(due)
    }

    /// Whether to ask now; if so, the request counts as sent.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        if self.due().is_some_and(|due| due > now) {
            return false;
        }
        self.last_request = Some(now);
        // One of them at least is asked, though nothing has come yet.
        let silent = !self.seen.any();
        self.pending = if silent { Tracks::of(0) } else { Tracks(self.seen.0 & self.active.0) };
        self.active = Tracks::default();
        self.wished = false;
        self.lost = Tracks::default();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn keyframes() -> (Keyframes, Instant) {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        (Keyframes::new(2_000 * MS, 1_000 * MS), start)
    }

    /// Requests in the given span, as milliseconds; every one is answered after `answer` ms.
    fn requests(k: &mut Keyframes, start: Instant, span: u32, answer: Option<u32>) -> Vec<u32> {
        let (mut asked, mut answers) = (Vec::new(), Vec::new());
        for ms in 0..span {
            let now = start + ms * MS;
            if answers.contains(&ms) {
                k.arrived(0, now);
            }
            if k.poll(now) {
                asked.push(ms);
                answers.extend(answer.map(|after| ms + after));
            }
        }
        asked
    }

    #[test]
    fn a_browser_is_asked_at_once_and_then_exactly_at_the_interval() {
        let (mut k, start) = keyframes();
        assert_eq!(requests(&mut k, start, 6_500, Some(60)), [0, 2_000, 4_000, 6_000]);
    }

    #[test]
    fn a_stream_that_begins_with_a_keyframe_is_not_asked_for_another_at_once() {
        let (mut k, start) = keyframes();
        k.arrived(0, start);
        assert!(!k.poll(start) && !k.poll(start + 1_999 * MS));
    }

    #[test]
    fn an_unanswered_request_is_repeated_once_a_second() {
        let (mut k, start) = keyframes();
        assert_eq!(requests(&mut k, start, 3_500, None), [0, 1_000, 2_000, 3_000]);
    }

    #[test]
    fn viewers_wishes_are_coalesced_to_one_a_second() {
        let (mut k, start) = keyframes();
        let mut asked = Vec::new();
        for ms in 0..1_900 {
            k.wish();
            if k.poll(start + ms * MS) {
                asked.push(ms);
                k.arrived(0, start + ms * MS);
            }
        }
        assert_eq!(asked, [0, 1_000]);
    }

    #[test]
    fn a_loss_is_answered_sooner_than_a_wish() {
        let (mut k, start) = keyframes();
        assert!(k.poll(start));
        k.arrived(0, start + 50 * MS);
        k.loss(0);
        assert!(!k.poll(start + 249 * MS));
        assert!(k.poll(start + 250 * MS));
    }

    #[test]
    fn layers_that_answer_one_after_the_other_keep_the_interval() {
        let (mut k, start) = keyframes();
        let (mut asked, mut answers) = (Vec::new(), Vec::new());
        for ms in 0..6_500 {
            let now = start + ms * MS;
            for layer in 0..3 {
                if answers.contains(&(ms, layer)) {
                    k.arrived(layer, now);
                }
            }
            if k.poll(now) {
                asked.push(ms);
                answers.extend((0..3).map(|layer| (ms + 40 + 30 * layer as u32, layer)));
            }
        }
        assert_eq!(asked, [0, 2_000, 4_000, 6_000]);
    }

    #[test]
    fn a_layer_that_has_stopped_is_not_waited_for() {
        let (mut k, start) = keyframes();
        (0..2).for_each(|layer| k.arrived(layer, start));
        let mut asked = Vec::new();
        for ms in 1..8_500 {
            let now = start + ms * MS;
            k.came(1);
            if k.poll(now) {
                asked.push(ms);
                k.arrived(1, now);
            }
        }
        // The second layer was still there when it was first asked.
        assert_eq!(asked, [2_000, 3_000, 5_000, 7_000]);
    }

    #[test]
    fn a_layers_keyframe_does_not_mend_another_layers_loss() {
        let (mut k, start) = keyframes();
        assert!(k.poll(start));
        (0..2).for_each(|layer| k.arrived(layer, start + 50 * MS));
        k.loss(0);
        k.arrived(1, start + 100 * MS);
        assert!(k.poll(start + 250 * MS));
    }

    #[test]
    fn an_encoder_that_makes_keyframes_more_often_is_left_alone() {
        let (mut k, start) = keyframes();
        let mut asked = Vec::new();
        for ms in 0..20_000 {
            let now = start + ms * MS;
            if ms % 1_500 == 100 {
                k.arrived(0, now);
            }
            if k.poll(now) {
                asked.push(ms);
            }
        }
        assert_eq!(asked, [0]);
    }
}
