//! Clients that ask for one playlist over and over, each on one connection: what holds a server's
//! memory (`--waiting`) and what a comparison with a file server asks.
//!
//! Not here: players (`viewers`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Answer, Asks, Body, ClientId, Clients};
use super::findings::micros;
use super::playlist::Reload;
use super::streams::reload_path;
use super::timeline::Timeline;
use super::units::At;
use crate::histogram::Histogram;
use crate::live::{Side, add, sub};

/// Pause after an answer that is none.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// When clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each once in every interval, spread evenly over it.
    Spread(Duration),
    /// All at once at the begin of every interval.
    Burst(Duration),
    /// For the next part, by a blocking reload, again when it has come.
    Part,
    /// For the segment after the open one, likewise: requests wait as long as they may.
    Segment,
}

impl Pace {
    fn is_blocking(self) -> bool {
        matches!(self, Self::Part | Self::Segment)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Askers {
    path: Arc<str>,
    pace: Pace,
    timeline: Timeline,
    /// What the blocking clients wait for; none before the first playlist.
    wanted: Option<(Reload, Arc<str>)>,
    /// Whether each client waits for an answer.
    busy: Vec<bool>,
    /// Clients that have come and wait for the first playlist.
    idle: Vec<ClientId>,
    /// When the next request is due, and whose it is.
    next: Option<(At, usize)>,
    retries: BTreeMap<(At, u32), ()>,
    /// Times that a client should have asked and still waited for an answer.
    skipped: u64,
    side: Arc<Side>,
    latency: Histogram,
}

impl Askers {
    /// Clients of the playlist at `path`; nobody yet. Those of `side` that are active wait for an
    /// answer; its playlist requests are those that were answered as they should be.
    #[must_use]
    pub fn new(path: Arc<str>, pace: Pace, side: Arc<Side>) -> Self {
        Self {
            timeline: Timeline::new(Arc::clone(&path)),
            path,
            pace,
            wanted: None,
            busy: Vec::new(),
            idle: Vec::new(),
            next: None,
            retries: BTreeMap::new(),
            skipped: 0,
            side,
            latency: Histogram::default(),
        }
    }

    /// Times that a client should have asked and still waited for an answer.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// From asking, or from the birth of what was waited for, to the answer's first byte.
    #[must_use]
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// Forgets the latencies so far: what is to be measured begins now.
    pub fn begin_measuring(&mut self) {
        self.latency = Histogram::default();
    }

    /// So many more come.
    pub fn join(&mut self, now: At, count: usize, asks: &mut Asks<()>) {
        for _ in 0..count {
            let Ok(number) = u32::try_from(self.busy.len()) else { return };
            let client = ClientId(number);
            self.busy.push(false);
            add(&self.side.started, 1);
            match &self.wanted {
                // The first fetches the playlist for all.
                None if self.pace.is_blocking() && number > 0 => self.idle.push(client),
                None if !self.pace.is_blocking() => {}
                _ => self.ask(client, asks),
            }
        }
        if !self.pace.is_blocking() {
            self.next.get_or_insert((now, 0));
        }
    }

    fn ask(&mut self, client: ClientId, asks: &mut Asks<()>) {
        let Some(busy) = self.busy.get_mut(client.index()) else { return };
        if std::mem::replace(busy, true) {
            self.skipped += 1;
            return;
        }
        add(&self.side.active, 1);
        let path = self.wanted.as_ref().map_or(&self.path, |(_, path)| path);
        // A body is kept where the next request depends on it.
        let body = if self.pace.is_blocking() { Body::Keep } else { Body::Discard };
        asks.get(client, (), Arc::clone(path), body);
    }

    /// A playlist came: what to wait for next. False where it is none.
    fn learn(&mut self, answer: &Answer<'_>, body: &[u8], gzip: bool) -> bool {
        let Ok(version) = self.timeline.take(answer.first_byte, body, gzip) else { return false };
        let Some(reload) = version.reload else { return false };
        let birth = self.timeline.unit(version.end.previous()).and_then(|unit| unit.birth);
        if let Some(birth) = birth.filter(|birth| answer.sent < *birth) {
            self.latency.record(micros(answer.first_byte.since(birth)));
        }
        let reload = match self.pace {
            Pace::Segment => Reload { msn: reload.msn.saturating_add(1), part: None },
            _ => reload,
        };
        if self.wanted.as_ref().is_none_or(|(wanted, _)| *wanted < reload) {
            self.wanted = Some((reload, reload_path(&self.path, reload, false)));
        }
        true
    }
}

impl Clients for Askers {
    type Tag = ();

    fn answered(&mut self, client: ClientId, (): (), answer: &Answer<'_>, asks: &mut Asks<()>) {
        if let Some(busy) = self.busy.get_mut(client.index()) {
            *busy = false;
        }
        sub(&self.side.active, 1);
        let response = answer.result.ok().filter(|response| response.status == 200);
        let fine = response.is_some_and(|response| {
            add(&self.side.bytes, response.bytes);
            if !self.pace.is_blocking() {
                self.latency.record(micros(answer.first_byte.since(answer.sent)));
                return true;
            }
            self.learn(answer, response.body, response.gzip)
        });
        if fine {
            add(&self.side.playlist_requests, 1);
        } else {
            self.side.fail(match answer.result {
                Ok(response) => format!("playlist: status {}", response.status),
                Err(failure) => format!("playlist: {}", failure.words()),
            });
        }
        if !self.pace.is_blocking() {
            return;
        }
        if fine {
            for idle in std::mem::take(&mut self.idle) {
                self.ask(idle, asks);
            }
            self.ask(client, asks);
        } else {
            self.retries.insert((answer.whole + RETRY_PAUSE, client.0), ());
        }
    }

    fn wake(&mut self, now: At, asks: &mut Asks<()>) {
        while let Some(entry) = self.retries.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, client), ()) = entry.remove_entry();
            self.ask(ClientId(client), asks);
        }
        let everybody = u32::try_from(self.busy.len()).unwrap_or(u32::MAX);
        while let Some((due, client)) = self.next.filter(|(due, _)| *due <= now) {
            match self.pace {
                Pace::Spread(interval) if everybody > 0 => {
                    let number = u32::try_from(client).unwrap_or(0) % everybody;
                    self.ask(ClientId(number), asks);
                    self.next = Some((due + interval / everybody, number as usize + 1));
                }
                Pace::Burst(interval) => {
                    for number in 0..everybody {
                        self.ask(ClientId(number), asks);
                    }
                    self.next = Some((due + interval, 0));
                }
                _ => self.next = None,
            }
        }
    }

    fn wake_at(&self) -> Option<At> {
        let retry = self.retries.first_key_value().map(|((at, _), ())| *at);
        let next = self.next.map(|(at, _)| at);
        retry.into_iter().chain(next).min()
    }

    fn finish(&mut self, _: At) {}
}

#[cfg(test)]
mod tests {
    use super::super::client::{Ask, Response};
    use super::super::playlist::tests::example;
    use super::*;
    use crate::live::get;

    fn at(ms: u64) -> At {
        At::after(Duration::from_millis(ms))
    }

    fn askers(pace: Pace) -> (Askers, Asks<()>) {
        let side = Arc::new(Side::new("askers"));
        (Askers::new(Arc::from("/p"), pace, side), Asks::default())
    }

    fn asked(asks: &mut Asks<()>) -> Vec<(u32, String)> {
        let get = |ask| match ask {
            Ask::Get { client, path, .. } => Some((client.0, path.to_string())),
            Ask::Leave(_) => None,
        };
        asks.drain().filter_map(get).collect()
    }

    fn answer(askers: &mut Askers, client: u32, text: &str, ms: u64, asks: &mut Asks<()>) {
        let body = text.as_bytes();
        let response = Response { status: 200, gzip: false, body, bytes: body.len() as u64 };
        let (sent, whole) = (at(ms - 100), at(ms));
        let answer = Answer { result: Ok(response), sent, first_byte: whole, whole };
        askers.answered(ClientId(client), (), &answer, asks);
    }

    #[test]
    fn blocking_clients_wait_for_the_first_playlist_and_then_for_the_next_part() {
        let (mut askers, mut asks) = askers(Pace::Part);
        askers.join(at(0), 3, &mut asks);
        assert_eq!(asked(&mut asks), [(0, "/p".to_owned())]);
        answer(&mut askers, 0, &example(1), 200, &mut asks);
        let all = asked(&mut asks);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|(_, path)| path == "/p?_HLS_msn=9&_HLS_part=1"), "{all:?}");
        answer(&mut askers, 2, &example(2), 400, &mut asks);
        assert_eq!(asked(&mut asks), [(2, "/p?_HLS_msn=9&_HLS_part=2".to_owned())]);
        assert_eq!(askers.latency().count(), 1, "it waited for the birth of part 1");
    }

    #[test]
    fn those_that_wait_long_ask_for_the_segment_after_the_open_one() {
        let (mut askers, mut asks) = askers(Pace::Segment);
        askers.join(at(0), 1, &mut asks);
        asked(&mut asks);
        answer(&mut askers, 0, &example(1), 200, &mut asks);
        assert_eq!(asked(&mut asks), [(0, "/p?_HLS_msn=10".to_owned())]);
        assert_eq!(get(&askers.side.active), 1);
    }

    #[test]
    fn paced_clients_ask_once_an_interval_each() {
        let pace = Pace::Spread(Duration::from_millis(100));
        let (mut askers, mut asks) = askers(pace);
        askers.join(at(0), 4, &mut asks);
        let mut order = Vec::new();
        for ms in 0..200 {
            askers.wake(at(ms), &mut asks);
            for (client, _) in asked(&mut asks) {
                order.push((ms, client));
                answer(&mut askers, client, "", ms + 100, &mut asks);
            }
        }
        let first: Vec<_> = order.iter().copied().take(5).collect();
        assert_eq!(first, [(0, 0), (25, 1), (50, 2), (75, 3), (100, 0)]);
        assert_eq!(order.len(), 8);
    }

    #[test]
    fn a_client_that_still_waits_is_not_made_to_ask_again() {
        let pace = Pace::Burst(Duration::from_millis(100));
        let (mut askers, mut asks) = askers(pace);
        askers.join(at(0), 2, &mut asks);
        askers.wake(at(0), &mut asks);
        askers.wake(at(100), &mut asks);
        assert_eq!(asked(&mut asks).len(), 2);
        assert_eq!(askers.skipped(), 2);
    }

    #[test]
    fn after_an_answer_that_is_none_a_client_waits_a_second() {
        let (mut askers, mut asks) = askers(Pace::Part);
        askers.join(at(0), 1, &mut asks);
        asked(&mut asks);
        answer(&mut askers, 0, "nothing", 200, &mut asks);
        assert!(asked(&mut asks).is_empty());
        assert_eq!(askers.wake_at(), Some(at(1_200)));
        askers.wake(at(1_200), &mut asks);
        assert_eq!(asked(&mut asks).len(), 1);
    }
}
