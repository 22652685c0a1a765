//! The wall clock, in microseconds since the Unix epoch: what stamps carry and meters compare.
//!
//! Not here: time that must never go back (`Instant`, in the drivers).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch, now.
#[must_use]
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
