//! What becomes of streams that go from node to node. Not here: hops, whole clusters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use headwater_cluster::state::Publisher as PublisherState;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::{
    ClockRate, Codec, ConfigVersion, DiscontinuitySeq, GroupHeader, MediaKind, MediaTime, PartPlan,
    TrackConfig, TrackName,
};
use headwater_relay::pulls::PullOptions;
use tokio::sync::Semaphore;

use super::*;
use crate::clock::Clock;
use crate::ownership::alone::Alone;
use crate::ownership::{Ask, ClaimError, Granted, Ownership};
use crate::sessions::{Role, SessionHandle, SessionInfo, Sessions};
use crate::streams::{Policy, PublishError, Standing, StreamsOptions};

/// A directory that says of every stream what the test wants.
struct Said {
    grants: Arc<Alone>,
    elsewhere: AtomicBool,
    over: AtomicBool,
    /// Claims are answered while it has permits.
    answers: Semaphore,
}

#[async_trait]
impl Ownership for Said {
    async fn claim(&self, ask: Ask) -> Result<Granted, ClaimError> {
        self.answers.acquire().await.unwrap().forget();
        self.grants.claim(ask).await
    }

    fn is_elsewhere(&self, _: &StreamName) -> bool {
        self.elsewhere.load(Ordering::Relaxed)
    }

    fn is_published_elsewhere(&self, _: &StreamName) -> bool {
        self.elsewhere.load(Ordering::Relaxed)
    }

    fn is_over(&self, _: &StreamName, _: Epoch) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn told(&self) {}

    fn tell(&self, news: News) {
        self.grants.tell(news);
    }
}

fn header() -> GroupHeader {
    let opus = OpusConfig { channels: 2, pre_skip: 0, input_sample_rate: 48_000 };
    GroupHeader {
        seq: GroupSeq(0),
        epoch: Epoch(1),
        discontinuity: DiscontinuitySeq(0),
        start: MediaTime::new(0, ClockRate::OPUS),
        wall: WallTime(0),
        independent: true,
        expected_frames: None,
        target_duration_s: None,
        config: Arc::new(TrackConfig {
            version: ConfigVersion(0),
            codec: Codec::Opus(opus),
            rate: ClockRate::OPUS,
            parts: PartPlan { target_ticks: 9_600, frame_ticks: 960 },
        }),
    }
}

struct Bed {
    streams: Streams,
    pulls: Pulls,
    said: Arc<Said>,
    sessions: Sessions,
    name: StreamName,
}

impl Bed {
    fn new(pulls: PullOptions) -> Self {
        Self::with(pulls, StreamsOptions::default())
    }

    fn with(pulls: PullOptions, options: StreamsOptions) -> Self {
        let (clock, pulls) = (Clock::start(), Pulls::new(pulls));
        let (elsewhere, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let answers = Semaphore::new(100);
        let said = Arc::new(Said { grants: Alone::new(), elsewhere, over, answers });
        let owning: Arc<dyn Ownership> = Arc::clone(&said) as _;
        let streams = Streams::new(clock, options, owning, pulls.clone());
        let name = StreamName::parse("cam").unwrap();
        Self { streams, pulls, said, sessions: Sessions::new(clock, 10), name }
    }

    fn session(&self) -> SessionHandle {
        let peer = "127.0.0.1:9".parse().unwrap();
        let (role, stream) = (Role::Publisher, self.name.clone());
        self.sessions.open(SessionInfo { role, protocol: "srt", stream, peer }).unwrap()
    }

    /// Lets so much time go by without a look at the streams that are taken.
    fn unwatched(&self, micros: i64) {
        for taken in self.streams.shared.table.lock().taken.values_mut() {
            taken.watched = taken.watched.plus_micros(-micros);
        }
        self.streams.sweep_taken(|_| false);
    }

    fn viewers(&self) -> Option<usize> {
        self.pulls.list().first().map(|(_, viewers)| *viewers)
    }
}

#[tokio::test]
async fn a_viewer_who_comes_while_a_stream_lingers_keeps_it() {
    let bed = Bed::new(PullOptions::default());
    bed.said.elsewhere.store(true, Ordering::Relaxed);
    let broadcast = bed.streams.find(&bed.name).unwrap();
    assert_eq!(bed.viewers(), Some(1));
    bed.unwatched(UNWATCHED_MICROS);
    assert_eq!(bed.viewers(), Some(0), "it lingers");
    // Playlists are served of what is packaged already: nobody asks for the stream again.
    bed.streams.sweep_taken(|_| true);
    assert_eq!(bed.viewers(), Some(1), "it is held for its viewer");
    assert!(bed.streams.get(&bed.name).unwrap().is(&broadcast));
    bed.unwatched(UNWATCHED_MICROS);
    assert!(bed.streams.find(&bed.name).unwrap().is(&broadcast));
    broadcast.set_state(BroadcastState::Ended);
    bed.streams.sweep_taken(|_| false);
    assert!(bed.streams.get(&bed.name).is_none(), "let go");
}

#[tokio::test]
async fn a_publisher_goes_on_with_a_stream_that_lingers() {
    let bed = Bed::new(PullOptions::default());
    bed.said.elsewhere.store(true, Ordering::Relaxed);
    let broadcast = bed.streams.find(&bed.name).unwrap();
    bed.unwatched(UNWATCHED_MICROS);
    let session = bed.session();
    let _publisher = bed.streams.publish(&bed.name, &session).await.unwrap();
    assert!(bed.streams.get(&bed.name).unwrap().is(&broadcast), "who reads it reads on");
    assert_eq!(bed.viewers(), None, "nothing is taken from elsewhere any more");
}

#[tokio::test]
async fn a_grant_that_is_over_when_it_comes_begins_nothing() {
    let bed = Bed::new(PullOptions::default());
    let taken = bed.pulls.pull(&bed.name).unwrap();
    bed.pulls.fence(&bed.name, Epoch(7));
    let session = bed.session();
    let refused = bed.streams.publish(&bed.name, &session).await.unwrap_err();
    assert_eq!(refused, PublishError::Busy(bed.name.clone()), "a later owner is followed already");
    assert!(bed.streams.names().0.is_empty());
    assert_eq!((bed.viewers(), taken.epoch()), (Some(1), Epoch(7)), "and goes on to be");

    bed.said.over.store(true, Ordering::Relaxed);
    let (other, session) = (StreamName::parse("other").unwrap(), bed.session());
    assert!(bed.streams.publish(&other, &session).await.unwrap_err().is_busy());
    assert!(bed.streams.names().0.is_empty());
}

#[tokio::test]
async fn a_publisher_whose_stream_the_cluster_has_ended_must_begin_anew() {
    let bed = Bed::new(PullOptions::default());
    let session = bed.session();
    let mut publisher = bed.streams.publish(&bed.name, &session).await.unwrap();
    bed.streams.over(&bed.name, Epoch(0));
    assert_eq!(publisher.reason(), None, "an epoch before says nothing");
    bed.streams.over(&bed.name, Epoch(1));
    assert_eq!(publisher.reason(), Some(EndReason::Fenced));
    assert!(publisher.add_track(MediaKind::Video).is_err());
    assert_eq!(bed.streams.get(&bed.name).unwrap().state(), BroadcastState::Waiting);
}

#[tokio::test]
async fn a_stream_that_cannot_be_followed_to_its_new_owner_ends() {
    let bed = Bed::new(PullOptions { streams_max: 0, ..PullOptions::default() });
    let session = bed.session();
    let _publisher = bed.streams.publish(&bed.name, &session).await.unwrap();
    let broadcast = bed.streams.get(&bed.name).unwrap();
    assert!(bed.streams.turn_round(&bed.name, Epoch(2), &[]));
    assert_eq!(broadcast.state(), BroadcastState::Ended, "nobody waits for what cannot come");
}

#[tokio::test]
async fn sound_that_is_made_here_has_no_agreed_end() {
    let bed = Bed::new(PullOptions::default());
    let session = bed.session();
    let _publisher = bed.streams.publish(&bed.name, &session).await.unwrap();
    let broadcast = bed.streams.get(&bed.name).unwrap();
    for name in ["audio", "audio-aac"] {
        let name = TrackName::parse(name).unwrap();
        let mut writer = broadcast.add_track(name, MediaKind::Audio).unwrap();
        writer.begin_group(header()).unwrap();
    }
    let running = bed.streams.progress(&bed.name).unwrap();
    assert_eq!(running.tracks.len(), 2);
    let stopped = bed.streams.fence(&bed.name, Epoch(1)).unwrap();
    let names: Vec<_> = stopped.tracks.iter().map(|one| one.track.as_str()).collect();
    assert_eq!((stopped.fenced, names), (true, vec!["audio"]));
}

#[tokio::test]
async fn claims_that_are_answered_at_once_do_not_overfill_the_node() {
    let options = StreamsOptions { streams_max: 1, ..StreamsOptions::default() };
    let bed = Bed::with(PullOptions::default(), options);
    bed.said.answers.forget_permits(100);
    let names = ["a", "b"].map(|name| StreamName::parse(name).unwrap());
    let publishing = names.clone().map(|name| {
        let (streams, session) = (bed.streams.clone(), bed.session());
        tokio::spawn(async move { streams.publish(&name, &session).await })
    });
    tokio::task::yield_now().await;
    bed.said.answers.add_permits(2);
    let [a, b] = publishing;
    let (a, b) = (a.await.unwrap(), b.await.unwrap());
    assert!(a.is_ok());
    assert_eq!(b.unwrap_err(), PublishError::TooManyStreams(1));
    let view = bed.said.grants.view();
    assert_eq!(view.stream(&names[1]).unwrap().publisher, PublisherState::Waiting, "given back");
}

#[tokio::test]
async fn a_publisher_elsewhere_gives_way_where_the_policy_says_so() {
    for (policy, standing) in
        [(Policy::Reject, Standing::Free), (Policy::Replace, Standing::GivesWay)]
    {
        let options = StreamsOptions { policy, ..StreamsOptions::default() };
        let bed = Bed::with(PullOptions::default(), options);
        assert_eq!(bed.streams.may_publish(&bed.name), Ok(Standing::Free), "nobody publishes it");
        bed.said.elsewhere.store(true, Ordering::Relaxed);
        assert_eq!(bed.streams.may_publish(&bed.name), Ok(standing));
    }
}
