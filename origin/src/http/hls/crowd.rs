//! Requests that wait for the same rendition's next version, and are answered in one burst: an
//! answer is rendered once and sent to one connection after the other. Driver: awaits, reads the
//! clock.
//!
//! A task that woke for itself and rendered its own answer would take three times as long as the
//! send, and whoever has been answered asks again in the midst of it.
//! Not here: which requests (`park`), the send (`direct::seat`), other waits (`wait`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::audience;
use super::meter::Meter;
use super::path::Route;
use super::reply::{self, Reply};
use super::wait::Waiting;
use crate::http::direct::{Seat, whole};
use crate::packager::snapshot::{Find, Reload, Snapshot};
use crate::packager::{Encoding, Flavour, Rendition, StreamRenditions, Version};

/// How long a burst may hold its thread before others have their turn: what has been answered asks
/// again, and hearing that would make the last ones wait twice as long. Far below the delay that
/// SRT and RTMP publishers' frames can bear.
const HOLD: Duration = Duration::from_millis(20);
/// Answers between two looks at the clock.
const ANSWERS_A_LOOK: usize = 32;
/// How often a crowd whose rendition makes nothing new is looked at.
const STALE: Duration = Duration::from_secs(10);
/// Those who have left are looked for when the list has grown by so many.
const PRUNE: usize = 1_024;

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Want {
    /// A blocking playlist reload.
    Playlist { msn: u64, part: Option<u64>, skip: bool, encoding: Encoding },
    /// A part that has been hinted.
    Part { msn: u64, part: u64 },
}

struct Waiter {
    want: Want,
    seat: Weak<Seat>,
    ticket: u64,
}

impl Waiter {
    fn is_there(&self) -> bool {
        self.seat.upgrade().is_some_and(|seat| seat.waits(self.ticket))
    }
}

/// Those who wait for one rendition.
struct Crowd {
    stream: Arc<StreamRenditions>,
    rendition: Arc<Rendition>,
    waiters: Vec<Waiter>,
    /// How many there were when those who had left were last looked for.
    pruned: usize,
}

/// All crowds of a node. `[limits] hls_waiting` bounds them together.
pub(super) struct Crowds {
    /// By the rendition's address, which the crowd keeps from being given to another.
    crowds: Mutex<HashMap<usize, Crowd>>,
    waiting: Arc<Waiting>,
    meter: Arc<Meter>,
}

impl Crowds {
    pub(super) fn new(waiting: Arc<Waiting>, meter: Arc<Meter>) -> Arc<Self> {
        Arc::new(Self { crowds: Mutex::default(), waiting, meter })
    }

    /// Lets somebody wait, if there is something to wait for, and room.
    pub(super) fn join(
        self: &Arc<Self>,
        stream: &Arc<StreamRenditions>,
        rendition: &Arc<Rendition>,
        want: Want,
        seat: &Arc<Seat>,
    ) -> bool {
        let key = Arc::as_ptr(rendition).addr();
        // A version that comes after this look finds the waiter: the crowd takes its list under
        // the same lock.
        let mut crowds = self.crowds.lock();
        let changes = (!crowds.contains_key(&key)).then(|| rendition.changes());
        if self.waiting.is_closed() || !waits(rendition.version().snapshot(), want) {
            return false;
        }
        let Some(place) = self.waiting.enter() else { return false };
        if let Some(changes) = changes {
            tokio::spawn(Arc::clone(self).attend(key, changes));
        }
        let crowd = crowds.entry(key).or_insert_with(|| {
            let (stream, rendition) = (Arc::clone(stream), Arc::clone(rendition));
            Crowd { stream, rendition, waiters: Vec::new(), pruned: 0 }
        });
        let ticket = seat.take(Box::new(place));
        crowd.waiters.push(Waiter { want, seat: Arc::downgrade(seat), ticket });
        if crowd.waiters.len() > 2 * crowd.pruned + PRUNE {
            crowd.waiters.retain(Waiter::is_there);
            crowd.pruned = crowd.waiters.len();
        }
        true
    }

    /// Answers a crowd with every version, for as long as there is one.
    async fn attend(self: Arc<Self>, key: usize, mut changes: watch::Receiver<u64>) {
        loop {
            // The rendition is in the crowd, and the sender in the rendition: no end but ours.
            let _ = tokio::time::timeout(STALE, changes.changed()).await;
            let mut burst = {
                let mut crowds = self.crowds.lock();
                let Some(crowd) = crowds.get_mut(&key) else { return };
                crowd.waiters.retain(|waiter| waiter.seat.strong_count() > 0);
                if crowd.waiters.is_empty() {
                    crowds.remove(&key);
                    return;
                }
                crowd.pruned = crowd.waiters.len();
                let waiters = std::mem::take(&mut crowd.waiters);
                Burst::new(crowd, waiters)
            };
            burst.run(self.waiting.is_closed()).await;
            burst.count(&self.meter);
            if let Some(crowd) = self.crowds.lock().get_mut(&key) {
                crowd.waiters.append(&mut burst.left);
            }
        }
    }
}

/// Whether there is something to wait for.
fn waits(snapshot: &Snapshot, want: Want) -> bool {
    if !snapshot.is_ready() || snapshot.unsupported.is_some() {
        return false;
    }
    match want {
        Want::Playlist { msn, part, .. } => matches!(snapshot.reload(msn, part), Reload::Wait),
        Want::Part { msn, part } => matches!(snapshot.part(msn, part), Find::Wait),
    }
}

/// What all who want the same get.
enum Answer {
    /// Nothing yet.
    Wait,
    /// What the ordinary way has for them.
    Ordinary,
    /// This, with a body of so many bytes. So many have got it.
    Whole { text: Bytes, body: u64, given: u64 },
}

/// One version, on its way to all who wait for it.
struct Burst {
    stream: Arc<StreamRenditions>,
    rendition: Arc<Rendition>,
    version: Arc<Version>,
    waiters: Vec<Waiter>,
    answers: Vec<Answer>,
    by_want: HashMap<Want, usize>,
    /// Those who go on waiting.
    left: Vec<Waiter>,
}

impl Burst {
    fn new(crowd: &Crowd, waiters: Vec<Waiter>) -> Self {
        Self {
            stream: Arc::clone(&crowd.stream),
            rendition: Arc::clone(&crowd.rendition),
            version: crowd.rendition.version(),
            waiters,
            answers: Vec::new(),
            by_want: HashMap::new(),
            left: Vec::new(),
        }
    }

    /// Answers all who can be answered; where nobody waits any more (`closed`), they have the
    /// ordinary answer to that.
    async fn run(&mut self, closed: bool) {
        let mut begun = Instant::now();
        let (mut now, mut last) = (begun, None);
        for (count, waiter) in std::mem::take(&mut self.waiters).into_iter().enumerate() {
            if count % ANSWERS_A_LOOK == ANSWERS_A_LOOK - 1 {
                now = Instant::now();
                if now.saturating_duration_since(begun) > HOLD {
                    tokio::task::yield_now().await;
                    now = Instant::now();
                    begun = now;
                }
            }
            // Nearly all want the same.
            let at = match last {
                Some((want, at)) if want == waiter.want => at,
                _ => self.find(waiter.want),
            };
            last = Some((waiter.want, at));
            let Some(seat) = waiter.seat.upgrade() else { continue };
            match self.answers.get_mut(at) {
                Some(Answer::Whole { text, given, .. }) => {
                    *given += u64::from(seat.give(waiter.ticket, text, now));
                }
                Some(Answer::Wait) if !closed => self.left.push(waiter),
                Some(Answer::Wait | Answer::Ordinary) | None => seat.release(waiter.ticket),
            }
        }
    }

    /// The place of the answer to those who want this.
    fn find(&mut self, want: Want) -> usize {
        if let Some(at) = self.by_want.get(&want) {
            return *at;
        }
        let answer = self.answer(want);
        self.answers.push(answer);
        let at = self.answers.len() - 1;
        self.by_want.insert(want, at);
        at
    }

    fn answer(&self, want: Want) -> Answer {
        let snapshot = self.version.snapshot();
        if waits(snapshot, want) {
            return Answer::Wait;
        }
        let reply = match want {
            Want::Playlist { msn, part, skip, encoding } => match snapshot.reload(msn, part) {
                Reload::Now if snapshot.is_ready() => {
                    let flavour = if skip { Flavour::Delta } else { Flavour::Full };
                    self.playlist(flavour, encoding)
                }
                _ => None,
            },
            Want::Part { msn, part } => match snapshot.part(msn, part) {
                Find::Found(found) => {
                    let name = format!("{}.{}", found.seq, found.index);
                    Some(reply::media(
                        &found.data,
                        &name,
                        self.rendition.kind(),
                        &Default::default(),
                    ))
                }
                Find::Wait | Find::Gone => None,
            },
        };
        match reply {
            Some(reply) => {
                let (text, body) = (whole(&reply), reply.body().rope().len());
                Answer::Whole { text, body, given: 0 }
            }
            None => Answer::Ordinary,
        }
    }

    fn playlist(&self, flavour: Flavour, encoding: Encoding) -> Option<Reply> {
        let reports = || self.stream.reports_without(self.rendition.name());
        let (text, encoding) = self.version.playlist(flavour, encoding, reports)?;
        Some(reply::blocking(text, encoding, self.version.snapshot()))
    }

    fn count(&self, meter: &Meter) {
        for (want, at) in &self.by_want {
            let Some(Answer::Whole { body, given, .. }) = self.answers.get(*at) else { continue };
            let route = match want {
                Want::Playlist { msn, part, .. } => {
                    let (asked, snapshot) = ((Some(*msn), *part), self.version.snapshot());
                    audience::note(&self.stream, &self.rendition, asked, snapshot, *given);
                    Route::Playlist
                }
                Want::Part { .. } => Route::Part,
            };
            meter.count_many(route, StatusCode::OK, *body, *given);
        }
    }
}
