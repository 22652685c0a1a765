//! Whether the node lives and is ready, and if not, why: `/healthz`, `/readyz`.
//!
//! Not here: what the parts are (the node registers them).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::Serialize;

/// A part's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Starting,
    Up,
    Failed(String),
}

#[derive(Default)]
struct State {
    parts: BTreeMap<&'static str, Condition>,
    draining: bool,
}

/// The node's health; clones are one.
#[derive(Clone, Default)]
pub struct Health(Arc<RwLock<State>>);

/// The answer of a health route.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct Report {
    /// `ok`, or what is the matter in a word.
    pub status: &'static str,
    /// Why it is not `ok`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl Report {
    /// The report with more reasons why the node should not be given work.
    #[must_use]
    pub fn and(self, more: Vec<String>) -> Self {
        report("not-ready", self.reasons.into_iter().chain(more).collect())
    }

    /// Whether the answer is 200.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Health {
    /// A part that must be up before the node is ready.
    pub fn expect(&self, part: &'static str) {
        self.0.write().parts.insert(part, Condition::Starting);
    }

    /// The part works.
    pub fn up(&self, part: &'static str) {
        self.0.write().parts.insert(part, Condition::Up);
    }

    /// The part has ended though it should not.
    pub fn failed(&self, part: &'static str, why: impl Into<String>) {
        self.0.write().parts.insert(part, Condition::Failed(why.into()));
    }

    /// The node takes no new sessions any more.
    pub fn draining(&self) {
        self.0.write().draining = true;
    }

    /// Whether [`Self::draining`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.read().draining
    }

    /// Whether every part that ever came up still works.
    #[must_use]
    pub fn alive(&self) -> Report {
        let state = self.0.read();
        let failed = |(part, condition): (&&'static str, &Condition)| match condition {
            Condition::Failed(why) => Some(format!("{part} has failed: {why}")),
            Condition::Starting | Condition::Up => None,
        };
        report("failed", state.parts.iter().filter_map(failed).collect())
    }

    /// Whether the node should be given work.
    #[must_use]
    pub fn ready(&self) -> Report {
        let state = self.0.read();
        let mut reasons = Vec::new();
        if state.draining {
            reasons.push("the node is draining".to_owned());
        }
        for (part, condition) in &state.parts {
            match condition {
                Condition::Up => {}
                Condition::Starting => reasons.push(format!("{part} has not started yet")),
                Condition::Failed(why) => reasons.push(format!("{part} has failed: {why}")),
            }
        }
        report("not-ready", reasons)
    }
}

fn report(otherwise: &'static str, reasons: Vec<String>) -> Report {
    Report { status: if reasons.is_empty() { "ok" } else { otherwise }, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_every_part_and_ends_with_drain_or_failure() {
        let health = Health::default();
        health.expect("http");
        health.expect("srt");
        assert_eq!(health.ready().reasons.len(), 2);
        health.up("http");
        health.up("srt");
        assert!(health.ready().is_ok());
        health.failed("srt", "socket closed");
        assert_eq!(health.alive().reasons, ["srt has failed: socket closed"]);
        health.up("srt");
        health.draining();
        assert!(health.alive().is_ok());
        assert_eq!(health.ready().reasons, ["the node is draining"]);
        let more = health.ready().and(vec!["cluster: removed".into()]);
        assert_eq!((more.status, more.reasons.len()), ("not-ready", 2));
        assert!(Health::default().ready().and(Vec::new()).is_ok());
    }
}
