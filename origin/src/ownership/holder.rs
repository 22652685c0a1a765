//! Tells other nodes how far this one has a stream, and stops it for good when it is another's turn.
//!
//! Not here: what is made of the answers (`headwater-cluster`), the streams (`streams`).

use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::claim::Progress;
use headwater_cluster::control::holder::Holder;
use headwater_media::{Epoch, StreamName};
use parking_lot::RwLock;

use crate::streams::Streams;

/// The node's streams, as the cluster asks about them. It is made before them, since the cluster
/// is there first. They hold the cluster in turn, so the node lets them go at its end: a data folder
/// stays locked as long as its cluster lives.
#[derive(Clone, Default)]
pub struct StreamsHolder {
    streams: Arc<RwLock<Option<Streams>>>,
}

impl StreamsHolder {
    /// The streams are there.
    pub fn set(&self, streams: Streams) {
        *self.streams.write() = Some(streams);
    }

    /// The streams are gone.
    pub fn clear(&self) {
        *self.streams.write() = None;
    }

    fn get(&self) -> Option<Streams> {
        self.streams.read().clone()
    }
}

impl Holder for StreamsHolder {
    fn progress(&self, stream: &StreamName) -> Option<Progress> {
        self.get()?.progress(stream)
    }

    fn fence(&self, stream: &StreamName, epoch: Epoch) -> Option<Progress> {
        self.get()?.fence(stream, epoch)
    }

    fn silence(&self, stream: &StreamName) -> Option<Duration> {
        self.get()?.silence(stream)
    }
}
