//! What LL-HLS viewers found: how soon answers followed the birth of a part, stalls, errors.
//!
//! Not here: latencies of frames (`crate::meter`), what is wrong with playlists (`check`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::check::Faults;
use crate::histogram::{Histogram, Percentiles};

/// What viewers found; each thread has its own, and they are added up.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// From a part's birth to the first byte of the playlist that a viewer waited for.
    pub answers: Histogram,
    /// Such answers that came later than the limit.
    pub late_answers: u64,
    /// Playlists that were there before they were asked for.
    pub at_once: u64,
    /// From a part's birth to its last byte.
    pub parts: Histogram,
    /// Parts that were whole later than the limit.
    pub late_parts: u64,
    /// From asking for a part or segment to its last byte.
    pub transfers: Histogram,
    /// From sending a part's last frame to its birth, by the sampled viewers.
    pub births: Histogram,
    /// From joining to playing.
    pub startup: Histogram,
    /// Stalls, and how long they were.
    pub stalls: Histogram,
    /// Viewers that stalled at least once.
    pub stalled_viewers: u64,
    /// Viewers that never played.
    pub never_played: u64,
    /// Viewers that gave up, as hls.js does after its retries.
    pub gave_up: u64,
    /// Playlists that were older than what the same viewer had before.
    pub went_back: u64,
    /// Jumps to the live edge: what was to be fetched next is no longer known.
    pub jumps: u64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a response, by reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// Answers that were not what was asked for, and playlists that broke a rule.
    pub faults: Faults,
    /// How long the driver took over what the system had ready at a time.
    pub own_delay: Histogram,
}

impl Findings {
    /// Counts an answer that a viewer waited for.
    pub fn answer(&mut self, after_birth: Duration, limit: Duration) {
        self.answers.record(micros(after_birth));
        self.late_answers += u64::from(after_birth > limit);
    }

    /// Counts a part that came as soon as a viewer could ask for it.
    pub fn part(&mut self, after_birth: Duration, limit: Duration) {
        self.parts.record(micros(after_birth));
        self.late_parts += u64::from(after_birth > limit);
    }

    /// Adds what others found.
    pub fn merge(&mut self, other: &Self) {
        self.answers.merge(&other.answers);
        self.late_answers += other.late_answers;
        self.at_once += other.at_once;
        self.parts.merge(&other.parts);
        self.late_parts += other.late_parts;
        self.transfers.merge(&other.transfers);
        self.births.merge(&other.births);
        self.startup.merge(&other.startup);
        self.stalls.merge(&other.stalls);
        self.stalled_viewers += other.stalled_viewers;
        self.never_played += other.never_played;
        self.gave_up += other.gave_up;
        self.went_back += other.went_back;
        self.jumps += other.jumps;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (reason, count) in &other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
        self.faults.merge(&other.faults);
        self.own_delay.merge(&other.own_delay);
    }

    /// For the report.
    #[must_use]
    pub fn summary(&self, limit: Duration) -> Summary {
        Summary {
            late_after_ms: limit.as_secs_f64() * 1_000.0,
            answers: self.answers.percentiles(),
            late_answers: self.late_answers,
            at_once: self.at_once,
            parts: self.parts.percentiles(),
            late_parts: self.late_parts,
            transfers: self.transfers.percentiles(),
            births: self.births.percentiles(),
            startup: self.startup.percentiles(),
            stalls: self.stalls.percentiles(),
            stalled_viewers: self.stalled_viewers,
            never_played: self.never_played,
            gave_up: self.gave_up,
            went_back: self.went_back,
            jumps: self.jumps,
            statuses: self.statuses.clone(),
            failures: self.failures.clone(),
            faults: self.faults.clone(),
            own_delay: self.own_delay.percentiles(),
        }
    }
}

/// [`Findings`] as a report shows them. A part's birth is the moment at which the first viewer had
/// the playlist that lists it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// What counts as late, in milliseconds after a part's birth.
    pub late_after_ms: f64,
    /// From a part's birth to the first byte of the playlist that a viewer waited for.
    pub answers: Percentiles,
    /// Such answers that were late.
    pub late_answers: u64,
    /// Playlists that were there before they were asked for.
    pub at_once: u64,
    /// From a part's birth to its last byte.
    pub parts: Percentiles,
    /// Parts that were late.
    pub late_parts: u64,
    /// From asking for a part or segment to its last byte.
    pub transfers: Percentiles,
    /// From sending a part's last frame to its birth.
    pub births: Percentiles,
    /// From joining to playing.
    pub startup: Percentiles,
    /// Stalls, and how long they were.
    pub stalls: Percentiles,
    /// Viewers that stalled at least once.
    pub stalled_viewers: u64,
    /// Viewers that never played.
    pub never_played: u64,
    /// Viewers that gave up after their retries.
    pub gave_up: u64,
    /// Playlists older than what the same viewer had before.
    pub went_back: u64,
    /// Jumps to the live edge.
    pub jumps: u64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a response, by reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// What was wrong with playlists, and other answers that were not what was asked for.
    pub faults: Faults,
    /// How long this program took over what the system had ready at a time: what comes later than
    /// a few milliseconds after its birth may have waited here. None measured with HTTP/2.
    pub own_delay: Percentiles,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let row = |f: &mut std::fmt::Formatter<'_>, what: &str, p: &Percentiles| {
            writeln!(
                f,
                "  {what:<34} p50 {:8.1}  p95 {:8.1}  p99 {:8.1}  max {:8.1} ms  ({})",
                p.p50_ms, p.p95_ms, p.p99_ms, p.max_ms, p.count
            )
        };
        row(f, "part's birth to playlist's first byte", &self.answers)?;
        row(f, "part's birth to its last byte", &self.parts)?;
        row(f, "request to last byte of a part", &self.transfers)?;
        row(f, "last frame sent to part's birth", &self.births)?;
        row(f, "join to playing", &self.startup)?;
        row(f, "stalls", &self.stalls)?;
        row(f, "this program's own delay", &self.own_delay)?;
        writeln!(
            f,
            "  later than {} ms: {} playlists, {} parts; {} viewers stalled, {} never played, \
             {} gave up; {} playlists at once, {} went back, {} jumps",
            self.late_after_ms,
            self.late_answers,
            self.late_parts,
            self.stalled_viewers,
            self.never_played,
            self.gave_up,
            self.at_once,
            self.went_back,
            self.jumps
        )?;
        let counts = |map: Vec<String>| map.join(", ");
        let statuses = self.statuses.iter().map(|(status, count)| format!("{status}: {count}"));
        let failures = self.failures.iter().map(|(reason, count)| format!("{reason}: {count}"));
        writeln!(f, "  responses {}", counts(statuses.chain(failures).collect()))?;
        for (kind, fault) in &self.faults.0 {
            writeln!(f, "  fault: {kind} ({}), first {}", fault.count, fault.example)?;
        }
        Ok(())
    }
}

/// Whole microseconds.
#[must_use]
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_threads_add_up() {
        let limit = Duration::from_millis(20);
        let mut one = Findings::default();
        one.answer(Duration::from_millis(21), limit);
        one.statuses.insert(200, 2);
        one.faults.note("a", || "first".to_owned());
        let mut two = Findings::default();
        two.answer(Duration::from_millis(20), limit);
        two.part(Duration::from_millis(30), limit);
        two.statuses.insert(200, 3);
        two.faults.note("a", || "second".to_owned());
        one.merge(&two);
        let summary = one.summary(limit);
        assert_eq!((summary.late_answers, summary.late_parts, summary.answers.count), (1, 1, 2));
        assert_eq!(summary.statuses.get(&200), Some(&5));
        let fault = summary.faults.0.get("a").unwrap();
        assert_eq!((fault.count, &*fault.example), (2, "first"));
        assert!(summary.to_string().contains("later than 20 ms: 1 playlists, 1 parts"));
    }
}
