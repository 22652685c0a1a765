//! A stream over a bad link loses no frame.
//!
//! Not here: more loss than the latency can mend (players decide what they bear).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::programs::{Program, Video};
use crate::proxy::{Link, Proxy};
use crate::world::{World, frames, track};

const FRAMES_A_SECOND: u32 = 30;

/// `LOSS_SECONDS` makes the test longer (the release check runs 60).
fn seconds() -> u32 {
    let wished = std::env::var("LOSS_SECONDS");
    wished.map_or(10, |text| text.parse().expect("a number of seconds"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_frame_is_lost_at_3_percent_loss_and_30_ms_of_jitter() {
    let world = World::start(None);
    let link = Link {
        seed: 7,
        loss_percent: 3,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(30),
    };
    let proxy = Proxy::start(world.address, link).await;
    let count = seconds() * FRAMES_A_SECOND;
    // libsrt does not wait for its last packets when a program ends: those are not looked at.
    let sent = count + 2 * FRAMES_A_SECOND;
    // 400 ms of latency: room for five requests over a round trip of 20 to 80 ms.
    let url = World::url(proxy.address, "publish:cam", "&latency=400000");
    let publisher = Program::publish(Video::H264, sent, &url);
    let broadcast = world.broadcast("cam").await;
    let pictures = track(&broadcast, "video").await;
    let shown = frames(&pictures, count as usize).await;
    for pair in shown.windows(2) {
        assert_eq!(pair[0].dts.plus(pair[0].duration), pair[1].dts);
        assert_eq!(pair[0].duration.ticks(), 3_000);
    }
    let session = world.sessions.list();
    assert!(session.iter().all(|session| session.frames_dropped == 0), "{session:?}");
    let output = publisher.output().await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (lost, passed) = (proxy.lost.load(Ordering::Relaxed), proxy.passed.load(Ordering::Relaxed));
    assert!(lost * 100 > passed * 2, "the link lost only {lost} of {}", lost + passed);
    world.stop().await;
}
