//! Publishers in: every protocol's sessions end in one [`Publisher`], which gives frames their
//! final times and cuts them into groups.
//!
//! Not here: who owns a stream's name (`streams`), packaging (`packager`).

mod cadence;
mod core;
mod policy;
mod publisher;
pub mod rtmp;
mod source_clock;
pub mod srt;
mod timeline;
pub mod ts;
pub mod whip;

pub use policy::{EndReason, IngestOptions, PushError, RawFrame, TrackId};
pub use publisher::Publisher;

pub(crate) use core::{Heritage, StreamCore, floor_of_unknown};
pub(crate) use publisher::PublisherControl;
