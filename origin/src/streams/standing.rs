//! Whether a publisher would get a stream here, before the cluster is asked, and what becomes of a
//! grant that came too late.
//!
//! Not here: the claim itself (`ownership`), publishing (`streams`).

use std::time::Duration;

use headwater_cluster::command::{Grant, Stop};
use headwater_media::{StreamName, WallTime};

use super::{Entry, Policy, PublishError, Streams, refused};
use crate::ownership::{News, cluster_time};

/// What a publisher who asks for a name would find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nobody publishes it.
    Free,
    /// Somebody does, and would be ended.
    GivesWay,
}

impl Streams {
    /// What was granted cannot be used: whoever comes next may have it, at any node.
    pub(super) fn give_back(&self, name: &StreamName, grant: Grant) {
        let Grant { epoch, first_group: next_group, discontinuity, .. } = grant;
        let now = cluster_time(self.shared.clock.now());
        let stop = Stop { stream: name.clone(), epoch, next_group, discontinuity, now };
        self.shared.ownership.tell(News::Paused(stop));
    }

    /// Whether [`Self::publish`] would be allowed now, and at whose cost: for protocols that prepare
    /// a session first.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn may_publish(&self, name: &StreamName) -> Result<Standing, PublishError> {
        if let Some(nobody) = self.shared.ownership.takes_nobody() {
            refused("relay");
            return Err(nobody.into());
        }
        let now = self.shared.clock.now();
        let table = self.shared.table.lock();
        let known = table.live.get(name);
        if table.draining {
            Err(PublishError::Draining)
        } else if known
            .is_some_and(|entry| entry.publisher.is_some() && !self.gives_way(entry, now))
        {
            refused("busy");
            Err(PublishError::Busy(name.clone()))
        } else if known.is_none() && table.live.len() >= self.shared.options.streams_max {
            refused("limit");
            Err(PublishError::TooManyStreams(table.live.len()))
        } else if known.is_some_and(|entry| entry.publisher.is_some()) || self.replaces(name) {
            Ok(Standing::GivesWay)
        } else {
            Ok(Standing::Free)
        }
    }

    /// Whether a publisher at another node would make room. Under the other policy the cluster is
    /// asked at once, so that who is refused knows it by the answer.
    fn replaces(&self, name: &StreamName) -> bool {
        let replace = self.shared.options.policy == Policy::Replace;
        replace && self.shared.ownership.is_published_elsewhere(name)
    }

    /// For how long the stream's publisher here has sent nothing; none where there is none.
    #[must_use]
    pub fn silence(&self, name: &StreamName) -> Option<Duration> {
        let now = self.shared.clock.now();
        let table = self.shared.table.lock();
        let entry = table.live.get(name).filter(|entry| entry.publisher.is_some())?;
        Some(entry.core.lock().silent_for(now))
    }

    /// Whether the entry's publisher is to make room for another one.
    fn gives_way(&self, entry: &Entry, now: WallTime) -> bool {
        self.shared.options.policy == Policy::Replace
            || entry.core.lock().silent_for(now) >= self.shared.options.takeover_after
    }
}
