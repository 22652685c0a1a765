//! Publishers by three protocols, viewers by two, for a while: publishers are killed and come back,
//! viewers stay, the server drops nothing, and its memory and descriptors stay flat.
//!
//! `SOAK_SECONDS=600 cargo nextest run --release -E 'binary(soak)' --no-capture` is the
//! long form, with 30 WHEP and 60 LL-HLS viewers; without the variable it is short and small.
//! Not here: what viewers must find in a playlist (`low_latency`), load near the limit.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]
#![allow(clippy::print_stdout, reason = "a silent run looks hung")]

mod encoders;
mod process;
mod viewers;

use std::time::{Duration, Instant};

use encoders::{Clips, Encoder, Protocol};
use headwater_tests::node::Node;
use process::Usage;
use viewers::{HlsViewers, WhepViewers};

const STREAMS: [(&str, Protocol); 3] =
    [("soak/srt", Protocol::Srt), ("soak/rtmp", Protocol::Rtmp), ("soak/whip", Protocol::Whip)];
/// How often the server's memory and descriptors are looked at.
const SAMPLE: Duration = Duration::from_secs(2);

struct Size {
    time: Duration,
    whep_each: usize,
    hls_each: usize,
    long: bool,
}

impl Size {
    fn asked() -> Self {
        match std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()) {
            Some(seconds) => {
                Self { time: Duration::from_secs(seconds), whep_each: 10, hls_each: 20, long: true }
            }
            None => Self { time: Duration::from_secs(24), whep_each: 2, hls_each: 2, long: false },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_stay_while_every_publisher_is_killed_once_and_the_server_stays_flat() {
    let size = Size::asked();
    let clips = Clips::make().await.expect("clips to publish");
    let node = Node::start(&[("LOG__FILTER", "warn")]).await.expect("a node");
    let client = node.client();
    let mut encoders = Vec::new();
    for (stream, protocol) in STREAMS {
        encoders.push(Encoder::start(&node, &clips, stream, protocol));
    }
    for (stream, _) in STREAMS {
        node.live(stream).await.expect("live");
    }
    let pid = node.pid().expect("it runs");
    let before = Usage::of(pid).expect("the node's usage");

    let (mut whep, mut hls) = (Vec::new(), Vec::new());
    for (stream, _) in STREAMS {
        let viewers = WhepViewers::join(&client, stream, size.whep_each);
        whep.push((stream, viewers.await.expect("WHEP viewers join")));
        hls.push((stream, HlsViewers::join(&client, stream, size.hls_each)));
    }
    println!(
        "{} WHEP and {} LL-HLS viewers a stream, {before:?} before them",
        size.whep_each, size.hls_each
    );

    let began = Instant::now();
    let mut usage = Vec::new();
    let mut killed = 0;
    while began.elapsed() < size.time {
        tokio::time::sleep(SAMPLE).await;
        let now = Usage::of(pid).expect("the node runs");
        usage.push((began.elapsed(), now));
        if usage.len() % 15 == 0 {
            println!("{:>4} s  {now:?}", began.elapsed().as_secs());
        }
        // Each is killed in its turn, spread over the run's middle.
        let turn = size.time.mul_f64(0.25 + 0.2 * killed as f64);
        if killed < encoders.len() && began.elapsed() >= turn {
            println!("{:>4} s  SIGKILL for {}", began.elapsed().as_secs(), STREAMS[killed].0);
            encoders[killed].kill();
            killed += 1;
        }
    }
    assert_eq!(killed, encoders.len(), "every publisher was killed once");
    let metrics = client.get("/metrics").await.expect("metrics");
    let metrics = metrics.text().expect("text");

    let mut complaints = Vec::new();
    for (stream, viewers) in whep {
        complaints.extend(viewers.leave(stream, size.time).await);
    }
    for (stream, viewers) in hls {
        complaints.extend(viewers.leave(stream, size.time).await);
    }
    for (line, value) in
        nonzero(metrics, &["drops_total", "dropped_total", "unsent", "skips", "nacks", "plis"])
    {
        // Packets of the dead publisher's last moments have nowhere to go.
        println!("{line} {value}");
        if line.contains("slow_viewer") || line.contains("hls_segments_dropped") {
            complaints.push(format!("the server dropped: {line} {value}"));
        }
    }
    for encoder in encoders {
        encoder.stop().await;
    }
    let after = process::settled(pid, before).await;
    println!("{after:?} after all have left");
    if after.descriptors > before.descriptors {
        complaints
            .push(format!("descriptors leak: {} to {}", before.descriptors, after.descriptors));
    }
    if size.long {
        complaints.extend(process::growth(&usage));
    }
    assert_eq!(complaints, Vec::<String>::new());
}

/// Metrics whose name has one of these parts and that are not 0.
fn nonzero<'a>(
    metrics: &'a str,
    parts: &'a [&str],
) -> impl Iterator<Item = (&'a str, f64)> + use<'a> {
    metrics
        .lines()
        .filter(|line| !line.starts_with('#') && parts.iter().any(|part| line.contains(part)))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .filter(|(_, value)| *value > 0.0)
}
