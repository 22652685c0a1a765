//! Counts the answers under `/hls/`. Each counter is looked up in the recorder once, with the first
//! answer of its kind, and not for every request.
//!
//! Not here: the requests that wait (`wait`).

use std::sync::OnceLock;

use http::StatusCode;
use metrics::Counter;

use super::path::Route;

/// The statuses given here.
const STATUSES: [u16; 11] = [200, 204, 206, 304, 400, 401, 403, 404, 405, 416, 503];

/// The counters of all routes.
#[derive(Default)]
pub(super) struct Meter([OfRoute; Route::COUNT]);

#[derive(Default)]
struct OfRoute {
    /// In the order of [`STATUSES`].
    answers: [OnceLock<Counter>; STATUSES.len()],
    bytes: OnceLock<Counter>,
}

impl Meter {
    /// Counts an answer with a body of so many bytes.
    pub(super) fn count(&self, route: Route, status: StatusCode, bytes: u64) {
        self.count_many(route, status, bytes, 1);
    }

    /// Counts an answer that so many got.
    pub(super) fn count_many(&self, route: Route, status: StatusCode, bytes: u64, many: u64) {
        let Some(of) = self.0.get(route as usize) else { return };
        let known = STATUSES.iter().position(|known| *known == status.as_u16());
        match known.and_then(|at| of.answers.get(at)) {
            Some(counter) => counter.get_or_init(|| answers(route, status)).increment(many),
            None => answers(route, status).increment(many),
        }
        let sent = || metrics::counter!("headwater_hls_sent_bytes_total", "route" => route.name());
        of.bytes.get_or_init(sent).increment(bytes.saturating_mul(many));
    }
}

fn answers(route: Route, status: StatusCode) -> Counter {
    let status = status.as_u16().to_string();
    metrics::counter!("headwater_hls_requests_total", "route" => route.name(), "status" => status)
}
