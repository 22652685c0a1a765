//! The trait by which a node tells the others of the streams that it holds.
//!
//! Not here: what is made of the answers (`claim`).

use std::time::Duration;

use headwater_media::id::{Epoch, StreamName};

use crate::claim::Progress;

/// The part of a node that has the streams. Called from the cluster's tasks: must not block.
pub trait Holder: Send + Sync + 'static {
    /// How far the stream has come here; `None` if nothing of it is here.
    fn progress(&self, stream: &StreamName) -> Option<Progress>;

    /// Another node is about to take the stream from its owner of `epoch`. If that is this node, it
    /// ends its session and adds no further frame; only then it answers, `fenced`, how far it came.
    /// What it says is what the next epoch begins at, so it must be final. If it is not the owner
    /// of that epoch, it answers as `progress` does.
    fn fence(&self, stream: &StreamName, epoch: Epoch) -> Option<Progress>;

    /// For how long the stream's publisher here has sent nothing; `None` if there is none here.
    fn silence(&self, stream: &StreamName) -> Option<Duration> {
        let _ = stream;
        None
    }
}

/// Holds nothing: for nodes without streams, and for tests.
#[derive(Debug, Default, Clone, Copy)]
pub struct HoldsNothing;

impl Holder for HoldsNothing {
    fn progress(&self, _stream: &StreamName) -> Option<Progress> {
        None
    }

    fn fence(&self, _stream: &StreamName, _epoch: Epoch) -> Option<Progress> {
        None
    }
}
