//! Viewers by the thousand: one module a protocol, each a [`Crowd`] that the scenario grows and
//! shrinks.
//!
//! Not here: what they see (`meter`), when they come and go (`scenario`).

pub mod hls;
pub mod whep;

use std::sync::Arc;

use crate::live::Side;

/// What a crowd views.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where each stream is played, in order: viewers spread over them evenly. For WHEP the
    /// endpoint, for HLS the multivariant playlist.
    pub urls: Vec<String>,
    /// A bearer token for all of them.
    pub token: Option<String>,
    /// Time between two video frames, in microseconds.
    pub frame_interval_us: u64,
}

/// Viewers of one kind. Dropping it ends them without their meters.
pub trait Crowd: Send {
    /// What they count.
    fn side(&self) -> &Arc<Side>;
    /// So many more come, at once; each connects by itself, and counts what fails.
    fn join(&mut self, count: usize);
    /// So many leave, those that came first first.
    fn leave(&mut self, count: usize);
    /// What counts begins now: the ramp is over.
    fn begin(&mut self) {}
    /// What viewers of its kind found beside frames; complete once it has stopped.
    fn hls(&self) -> Option<hls::findings::Summary> {
        None
    }
    /// All leave; when this returns, every meter is in [`Side::totals`]. May block for a second
    /// or two.
    fn stop(&mut self);
}
