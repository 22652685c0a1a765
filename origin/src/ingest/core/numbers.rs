//! The numbers of a stream's name that outlive its publishers and its broadcasts.
//!
//! Not here: where they are kept while the stream is off (`streams`).

use std::collections::BTreeMap;

use headwater_media::{ConfigVersion, DiscontinuitySeq, Epoch, GroupSeq, TrackName};

/// Where a stream's numbering has come to. None of it ever goes back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) epoch: Epoch,
    /// The number of the next group to begin.
    pub(crate) next_group: GroupSeq,
    pub(crate) discontinuity: DiscontinuitySeq,
    /// The newest configuration of each track that there ever was.
    versions: BTreeMap<TrackName, ConfigVersion>,
}

impl Numbers {
    /// Another publisher: a new epoch, and a discontinuity after what there is.
    pub(crate) fn begin_session(&mut self) {
        self.epoch = self.epoch.next();
        if self.next_group > GroupSeq(0) {
            self.discontinuity = self.discontinuity.next();
        }
    }

    /// Allots a group's number.
    pub(crate) fn take_group(&mut self) -> GroupSeq {
        let seq = self.next_group;
        self.next_group = seq.next();
        seq
    }

    pub(crate) fn version(&self, track: &TrackName) -> Option<ConfigVersion> {
        self.versions.get(track).copied()
    }

    pub(crate) fn keep_version(&mut self, track: TrackName, version: Option<ConfigVersion>) {
        if let Some(version) = version {
            self.versions.insert(track, version);
        }
    }
}
