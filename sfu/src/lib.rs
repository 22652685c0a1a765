//! WebRTC for Headwater: WHIP publishers in, WHEP viewers out.
//!
//! Start an [`Sfu`] and hand it SDP offers: [`Sfu::publish`] gives a publisher's frames to a
//! [`PublisherSink`], [`Sfu::play`] sends tracks of the bus to a viewer. Workers are threads with
//! a UDP and a TCP port each; a session lives on one of them from its answer to its end.
//!
//! The crate is the only one that names str0m, which does ICE, DTLS, SDP and what comes in; what
//! viewers are sent is `egress`. Decisions (`sdp`, `keyframes`, `timeline`, `packetize`) are pure.
//! Not here: HTTP, authorisation, names of streams, final frame times (all `origin`).

mod api;
mod batch;
#[doc(hidden)]
pub mod bench;
mod config;
mod demux;
mod egress;
mod engine;
mod error;
mod fanout;
mod frames;
#[doc(hidden)]
pub mod fuzz;
mod keyframes;
mod metrics;
mod outclock;
mod outlet;
mod pace;
mod packetize;
mod peer;
mod publisher;
mod sdp;
mod shard;
mod shared;
mod stats;
mod tallies;
mod tcp;
mod timeline;
mod viewer;
mod worker;

pub use api::{Answer, PatchOutcome, Sfu};
pub use config::SfuConfig;
pub use error::{CloseReason, SfuError};
pub use frames::{IncomingCodec, IncomingFrame, PlayTracks, PublisherSink, SinkClosed, TrackSlot};
pub use stats::{DropReason, SessionKind, SessionStats};
