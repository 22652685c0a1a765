//! From the bus to a shard's viewers: one reader a track, whoever watches it.
//!
//! Not here: waiting for the bus (`worker`), what a viewer does with a frame (`viewer`).

use std::collections::HashMap;
use std::sync::Arc;

use headwater_media::bus::FrameRef;
use headwater_media::{Cursor, Group, Item, Start, Track};

use crate::packetize::{Held, packets};
use crate::peer::Now;
use crate::shard::{Key, Shard};

/// A track's number within a shard.
pub(crate) type FeedId = u64;

/// Where a viewer stands in its feed's list: its key and the place of its outlet.
pub(crate) type Target = (Key, usize);

/// A track that somebody in this shard watches.
struct Feed {
    track: Track,
    viewers: Vec<Target>,
    /// Where the reader is: the group, and the next frame's index.
    place: Option<(Arc<Group>, u32)>,
}

/// What the worker has to do for feeds.
pub(crate) enum FeedChange {
    /// Read this cursor and hand over what it gives.
    Begin(FeedId, Cursor),
    /// Stop.
    End(FeedId),
}

/// What is to be told to the targets.
pub(crate) enum News {
    Frame(FrameRef, Arc<Held>),
    Gap,
    End,
}

/// The feeds of a shard.
#[derive(Default)]
pub(crate) struct Feeds {
    next_id: FeedId,
    feeds: HashMap<FeedId, Feed>,
    pub(crate) changes: Vec<FeedChange>,
}

impl Feeds {
    /// Adds a viewer to a track's feed; begins one if there is none yet.
    pub(crate) fn subscribe(&mut self, track: &Track, target: Target) {
        if let Some(feed) = self.feeds.values_mut().find(|feed| feed.track.is(track)) {
            feed.viewers.push(target);
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let feed = Feed { track: track.clone(), viewers: vec![target], place: None };
        self.feeds.insert(id, feed);
        self.changes.push(FeedChange::Begin(id, track.read(Start::Newest)));
    }

    /// Takes a viewer out of all feeds; those that nobody watches end.
    pub(crate) fn unsubscribe(&mut self, key: Key) {
        self.feeds.retain(|id, feed| {
            feed.viewers.retain(|(viewer, _)| *viewer != key);
            if feed.viewers.is_empty() {
                self.changes.push(FeedChange::End(*id));
            }
            !feed.viewers.is_empty()
        });
    }

    /// Takes what a feed's cursor gave: what is to be told, and to whom. None: the feed is over.
    pub(crate) fn take(
        &mut self,
        id: FeedId,
        item: Item,
        payload_bytes: usize,
    ) -> Option<(Option<News>, Vec<Target>)> {
        let feed = self.feeds.get_mut(&id)?;
        let news = match item {
            Item::Group { group, skipped } => {
                let gap = skipped > 0 && !group.header().independent;
                feed.place = Some((group, 0));
                gap.then_some(News::Gap)
            }
            Item::Frame(frame) => {
                feed.place = Some((Arc::clone(&frame.group), frame.index + 1));
                let packets = packets(&feed.track, &frame, payload_bytes);
                packets.map(|packets| News::Frame(frame, Held::new(packets)))
            }
            Item::GroupEnd(_) => None,
            Item::End => Some(News::End),
        };
        let targets = if news.is_some() { feed.viewers.clone() } else { Vec::new() };
        Some((news, targets))
    }

    /// The frames from the newest independent group's start to where the feed of a viewer's
    /// outlet is. At most `frames_max`, else none: that would not be an instant start.
    fn backlog(
        &self,
        target: Target,
        frames_max: usize,
        payload_bytes: usize,
    ) -> Vec<(FrameRef, Arc<Held>)> {
        let Some(feed) = self.feeds.values().find(|feed| feed.viewers.contains(&target)) else {
            return Vec::new();
        };
        let Some((current, end)) = &feed.place else { return Vec::new() };
        let window = feed.track.window();
        let until = window.partition_point(|group| group.seq() < current.seq());
        let mut groups = vec![(Arc::clone(current), *end)];
        let mut earlier = window.get(..until).unwrap_or_default().iter().rev();
        while let Some((first, end)) = groups.last()
            && (!first.header().independent || *end == 0)
        {
            let Some(group) = earlier.next() else { return Vec::new() };
            groups.push((Arc::clone(group), group.len()));
        }
        let count: usize = groups.iter().map(|(_, end)| *end as usize).sum();
        if count > frames_max {
            return Vec::new();
        }
        let frames = groups.iter().rev().flat_map(|(group, end)| {
            (0..*end).map(|index| FrameRef { group: Arc::clone(group), index })
        });
        frames
            .filter_map(|frame| {
                let packets = packets(&feed.track, &frame, payload_bytes)?;
                Some((frame, Held::new(packets)))
            })
            .collect()
    }
}

impl Shard {
    /// Tells some viewers of a feed what is new.
    pub(crate) fn tell(&mut self, news: &News, targets: &[Target], now: Now) {
        for (key, outlet) in targets {
            self.with(*key, now, None, |peer, out| match news {
                News::Frame(frame, packets) => peer.offer(now, out, *outlet, frame, packets),
                News::Gap => peer.feed(now, out, |viewer| viewer.gap(*outlet)),
                News::End => peer.feed(now, out, |viewer| viewer.end(*outlet)),
            });
        }
    }

    /// Gives a viewer that has just connected its backlog: pictures only, sound starts with the
    /// present.
    pub(crate) fn start_viewer(&mut self, key: Key, outlet: usize, now: Now) {
        let (frames_max, payload_bytes) =
            (self.config.viewer_queue_frames / 2, self.config.payload_bytes);
        let backlog = self.feeds.backlog((key, outlet), frames_max, payload_bytes);
        self.with(key, now, None, |peer, out| {
            peer.feed(now, out, |viewer| viewer.start(outlet, backlog));
        });
    }
}
