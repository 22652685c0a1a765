//! What the codecs' trackers make of each access unit that an ingest hands them.
//!
//! Not here: times (the ingest's own business).

use bytes::Bytes;

/// One access unit in the form in which the bus carries it, and what it says of the track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessUnit<C> {
    /// The payload as [`crate::frame::Frame`] documents it. Empty when the access unit held no
    /// picture (only parameter sets, say): then there is no frame to write.
    pub payload: Bytes,
    /// Whether decoding can start here, with the tracker's configuration.
    pub keyframe: bool,
    /// The new configuration when it differs from the one before. Only on keyframes, so that a new
    /// init section always begins a group.
    pub config_changed: Option<C>,
}
