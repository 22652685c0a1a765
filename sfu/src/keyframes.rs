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

/// When keyframes were asked for and came.
#[derive(Debug)]
pub(crate) struct Keyframes {
    interval: Duration,
    spacing: Duration,
    last_request: Option<Instant>,
    /// A request has not been followed by a keyframe yet.
    pending: bool,
    /// The last keyframe that came without a request.
    last_own: Option<Instant>,
    wished: bool,
    lost: bool,
}

impl Keyframes {
    pub(crate) fn new(interval: Duration, spacing: Duration) -> Self {
        Self {
            interval,
            spacing,
            last_request: None,
            pending: false,
            last_own: None,
            wished: false,
            lost: false,
        }
    }

    /// A viewer wishes for a keyframe.
    pub(crate) fn wish(&mut self) {
        self.wished = true;
    }

    /// Packets are lost for good.
    pub(crate) fn loss(&mut self) {
        self.lost = true;
    }

    /// A keyframe came.
    pub(crate) fn arrived(&mut self, now: Instant) {
        if !self.pending {
            self.last_own = Some(now);
        }
        // An encoder begins with a keyframe: as good as one that was asked for.
        self.last_request.get_or_insert(now);
        self.pending = false;
        self.wished = false;
        self.lost = false;
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
        if self.pending || self.wished {
            due = due.min(last + self.spacing);
        }
        if self.lost {
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
        self.pending = true;
        self.wished = false;
        self.lost = false;
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
                k.arrived(now);
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
        k.arrived(start);
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
                k.arrived(start + ms * MS);
            }
        }
        assert_eq!(asked, [0, 1_000]);
    }

    #[test]
    fn a_loss_is_answered_sooner_than_a_wish() {
        let (mut k, start) = keyframes();
        assert!(k.poll(start));
        k.arrived(start + 50 * MS);
        k.loss();
        assert!(!k.poll(start + 249 * MS));
        assert!(k.poll(start + 250 * MS));
    }

    #[test]
    fn an_encoder_that_makes_keyframes_more_often_is_left_alone() {
        let (mut k, start) = keyframes();
        let mut asked = Vec::new();
        for ms in 0..20_000 {
            let now = start + ms * MS;
            if ms % 1_500 == 100 {
                k.arrived(now);
            }
            if k.poll(now) {
                asked.push(ms);
            }
        }
        assert_eq!(asked, [0]);
    }
}
