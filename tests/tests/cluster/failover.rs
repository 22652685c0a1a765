//! The owner is killed, again and again; so is a leader that owns nothing.
//!
//! Not here: all nodes at once (`blackout`), nodes that come back from a freeze (`freeze`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use headwater_tests::cluster::{Clip, Publisher, Recorder, Trio, claims};
use headwater_tests::webrtc::{Codec, Viewer};

use crate::{allowed, asked, judge, report};

const STREAM: &str = "live/cam";
/// What a viewer on another node may have to wait for a new part when the owner dies, the
/// publisher's return included.
const FREEZE_MAX: Duration = Duration::from_secs(1);
/// Until claims work again after a leader's death.
const CLAIMS_AGAIN: Duration = Duration::from_secs(1);
/// What is seen of viewers that nothing happens to: a part's length and a busy machine.
const UNNOTICED: Duration = Duration::from_millis(500);
/// A silence of this length in a stream that flows is noted to the end.
const AFTER: Duration = Duration::from_millis(500);

/// A viewer by WHEP on every node.
struct Viewers {
    viewers: Vec<Option<Viewer>>,
}

impl Viewers {
    async fn join(trio: &Trio) -> Self {
        let mut viewers = Self { viewers: Vec::new() };
        for place in 0..trio.members.len() {
            viewers.viewers.push(None);
            viewers.play(trio, place).await;
        }
        viewers
    }

    async fn play(&mut self, trio: &Trio, place: usize) {
        let client = trio.members[place].client();
        let playing = Box::pin(Viewer::play(&client, STREAM, &[(Codec::H264, None)]));
        self.viewers[place] = Some(playing.await.expect("a WHEP viewer"));
    }

    /// Its node is dead.
    async fn abandon(&mut self, place: usize) {
        if let Some(viewer) = self.viewers[place].take() {
            viewer.peer.abandon().await;
        }
    }

    /// The longest silence of each that plays, since this was last asked.
    async fn silences(&self) -> Vec<Duration> {
        let mut silences = Vec::new();
        for viewer in self.viewers.iter().flatten() {
            // A silence counts when it is over.
            let end = Instant::now() + Duration::from_secs(20);
            while viewer.video.silent_for() > UNNOTICED {
                assert!(Instant::now() < end, "a WHEP viewer gets no more pictures");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let silence = viewer.video.silence_ms.swap(0, Ordering::Relaxed);
            silences.push(Duration::from_millis(silence));
        }
        silences
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_show_goes_on_when_its_owner_is_killed_and_nobody_notices_a_leaders_death() {
    let mut trio = Trio::start("failover", &[]).await.expect("three origins");
    let clip = Arc::new(Clip::make().await.expect("a clip"));
    let urls = trio.members.iter().map(|member| member.rtmp_url(STREAM)).collect();
    let publisher = Publisher::start(&clip, urls, 0);
    trio.owner(STREAM).await.expect("it is published");
    let recorder = Recorder::start(&trio.members, STREAM);
    for node in 0..3 {
        recorder.advance(node, 5).await.expect("every node serves it");
    }
    let mut viewers = Viewers::join(&trio).await;
    owners(&mut trio, &recorder, &mut viewers).await;
    leaders(&mut trio, &recorder, &publisher, &mut viewers).await;
    judge(&recorder).await;
    publisher.stop().await;
}

async fn owners(trio: &mut Trio, recorder: &Recorder, viewers: &mut Viewers) {
    let (mut freezes, mut whep) = (Vec::new(), Vec::new());
    for kill in 1..=asked("CLUSTER_KILLS", 2) {
        let owner = trio.owner(STREAM).await.expect("an owner");
        let leads = trio.leader().await.expect("a leader") == owner;
        let rest: Vec<usize> = (0..3).filter(|place| *place != owner).collect();
        viewers.silences().await;
        let killed = Instant::now();
        trio.members[owner].kill().await.expect("it ran");
        viewers.abandon(owner).await;
        for node in &rest {
            recorder.advance(*node, 5).await.expect("the stream goes on");
        }
        tokio::time::sleep(AFTER).await;
        let now = Instant::now();
        let longest: Vec<Duration> =
            rest.iter().map(|node| recorder.silence(*node, killed, now)).collect();
        let silences = viewers.silences().await;
        println!(
            "kill {kill}: owner {} (leads: {leads}), no new part for {longest:?}, WHEP {silences:?}",
            owner + 1
        );
        freezes.extend(longest);
        whep.extend(silences);
        trio.members[owner].restart().await.expect("it comes back on its data folder");
        trio.whole().await.expect("it votes again");
        recorder.advance(owner, 3).await.expect("it serves again");
        viewers.play(trio, owner).await;
    }
    report("owner killed, no new part on another node", &freezes);
    report("owner killed, no packet by WHEP from another node", &whep);
    for freeze in freezes.iter().chain(&whep) {
        assert!(*freeze <= allowed(FREEZE_MAX), "viewers saw a freeze of {freeze:?}");
    }
}

async fn leaders(
    trio: &mut Trio,
    recorder: &Recorder,
    publisher: &Publisher,
    viewers: &mut Viewers,
) {
    let (mut freezes, mut again) = (Vec::new(), Vec::new());
    for kill in 1..=asked("CLUSTER_LEADER_KILLS", 1) {
        let leader = trio.leader().await.expect("a leader");
        let rest: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
        if trio.owner(STREAM).await.expect("an owner") == leader {
            publisher.move_to(rest[0]).await.expect("it publishes");
            while trio.owner(STREAM).await.expect("an owner") == leader {}
            recorder.advance(leader, 5).await.expect("the stream goes on");
        }
        viewers.silences().await;
        let killed = Instant::now();
        trio.members[leader].kill().await.expect("it ran");
        let client = trio.members[rest[1]].client();
        let claimed =
            claims::until_granted(&client, &format!("new/{kill}"), allowed(CLAIMS_AGAIN)).await;
        println!("leader {} killed: claims again after {claimed:?}", leader + 1);
        again.push(claimed.expect("claims work again"));
        viewers.abandon(leader).await;
        for node in &rest {
            recorder.advance(*node, 5).await.expect("the stream goes on");
        }
        let now = Instant::now();
        freezes.extend(rest.iter().map(|node| recorder.silence(*node, killed, now)));
        freezes.extend(viewers.silences().await);
        trio.members[leader].restart().await.expect("it comes back");
        trio.whole().await.expect("it votes again");
        recorder.advance(leader, 3).await.expect("it serves again");
        viewers.play(trio, leader).await;
    }
    report("leader killed, no new part or packet on another node", &freezes);
    report("leader killed, claims work again", &again);
    for freeze in freezes {
        assert!(freeze <= allowed(UNNOTICED), "viewers noticed: {freeze:?}");
    }
}
