//! The conformance reader follows a running node at every frame rate and for sound alone, all at
//! once: fed by made-up frames, and by encoders over SRT.
//!
//! `CONFORMANCE_SECONDS` makes it follow for longer than the usual ten seconds.
//! Not here: the rules (`headwater_tests::conformance`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test: it fails with what it says"
)]

use std::sync::Arc;
use std::time::Duration;

use headwater::config::{Config, RawConfig};
use headwater::http::App;
use headwater::node::Node;
use headwater_media::{StreamName, TrackName};
use headwater_tests::conformance::births::Births;
use headwater_tests::conformance::client::Client;
use headwater_tests::conformance::follow::{Outcome, Target, follow};
use headwater_tests::paced::{Program, Stage, publish};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A blocking answer is complete so soon after its part's birth, for 99 of 100 in a long run. In a
/// short one, on a machine that does other work beside it, half of them are held to it: what a
/// server does wrong delays every answer, what a busy machine does delays some.
const ANSWERED_WITHIN: Duration = Duration::from_millis(5);
/// What counts as a long run.
const LONG_RUN: Duration = Duration::from_secs(60);
/// How long a stream may take to begin.
const BEGINNING: Duration = Duration::from_secs(15);

fn follow_for() -> Duration {
    let seconds = std::env::var("CONFORMANCE_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(10))
}

async fn node(name: &str) -> anyhow::Result<Node> {
    let free = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let mut raw = RawConfig::default();
    raw.http.listen = free;
    raw.webrtc.listen = free;
    raw.webrtc.workers = 1;
    raw.srt.listen = free;
    raw.rtmp.listen = free;
    raw.general.data = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    Node::bind(Config::from_raw(raw).map_err(|errors| anyhow::anyhow!("{errors:?}"))?).await
}

/// Waits for a track of a stream and its first group.
async fn births(app: &App, stream: &str, rendition: &str) -> Births {
    let name = StreamName::parse(stream).unwrap();
    let broadcast = app.streams.wait(&name, BEGINNING).await.expect("the stream begins");
    let wanted = TrackName::parse(rendition).unwrap();
    let mut changes = broadcast.watch();
    loop {
        if let Some(track) = broadcast.track(&wanted) {
            return Births::watch(&track);
        }
        changes.changed().await;
    }
}

fn judge(target: &Target, outcome: &Outcome) -> Vec<String> {
    let (name, rendition) = (&target.stream, &target.rendition);
    let p99 = outcome.answered_after_percentile(99);
    let p50 = outcome.answered_after_percentile(50);
    println!(
        "{name}/{rendition}: {} parts, {} segments, {} deltas, {} reports, {} again, hints missed \
         {:?}, answered after p50 {p50:?} p99 {p99:?} of {}",
        outcome.parts,
        outcome.segments,
        outcome.deltas,
        outcome.reports,
        outcome.refetched,
        outcome.hints_missed,
        outcome.answered_after.len(),
    );
    let mut wrong = outcome.complaints.clone();
    let enough = usize::try_from(target.time.as_secs()).unwrap() * 3;
    if outcome.answered_after.len() < enough || outcome.parts < enough {
        wrong.push("too few parts came to judge".into());
    }
    if outcome.segments < 2 || outcome.deltas == 0 || outcome.refetched == 0 {
        wrong.push("too little was compared to judge".into());
    }
    wrong.iter().map(|what| format!("{name}/{rendition}: {what}")).collect()
}

/// A node, and readers of its streams.
struct Scene {
    app: Arc<App>,
    client: Client,
    srt: Option<std::net::SocketAddr>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
    readers: JoinSet<(Vec<String>, Vec<Duration>)>,
}

impl Scene {
    async fn begin(name: &str) -> Self {
        let node = node(name).await.unwrap();
        let app = Arc::clone(node.app());
        let client = Client::new(format!("http://{}", node.addresses().http.expect("HTTP is on")));
        let srt = node.addresses().srt;
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(node.run(shutdown.clone()));
        Self { app, client, srt, shutdown, running, readers: JoinSet::new() }
    }

    fn read(&mut self, name: &'static str, rendition: &'static str) {
        let (app, client) = (Arc::clone(&self.app), self.client.clone());
        let time = follow_for();
        let target = Target { stream: name.into(), rendition: rendition.into(), time };
        self.readers.spawn(async move {
            let births = births(&app, name, rendition).await;
            let outcome = follow(&client, &target, Some(&births)).await;
            match outcome {
                Ok(outcome) => (judge(&target, &outcome), outcome.answered_after),
                Err(why) => (vec![format!("{name}: the reader had to stop: {why}")], Vec::new()),
            }
        });
    }

    /// What the readers found wrong, once all are done; stops the node.
    async fn end(mut self) -> Vec<String> {
        let (mut wrong, mut all) = (Vec::new(), Outcome::default());
        while let Some(read) = self.readers.join_next().await {
            let (found, answered_after) = read.unwrap();
            wrong.extend(found);
            all.answered_after.extend(answered_after);
        }
        // Over all streams, since one of them has too few answers in ten seconds for a percentile.
        let long = follow_for() >= LONG_RUN;
        let percent = if long { 99 } else { 50 };
        let delay = all.answered_after_percentile(percent);
        let p99 = all.answered_after_percentile(99);
        println!(
            "answered after p{percent} {delay:?}, p99 {p99:?}, of {}",
            all.answered_after.len()
        );
        if delay > ANSWERED_WITHIN {
            wrong.push(format!("blocking answers take {delay:?} after birth at p{percent}"));
        }
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
        wrong
    }
}

/// Both tests measure delays: one at a time.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_of_the_low_latency_profile_holds_at_every_frame_rate_and_for_sound_alone() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut scene = Scene::begin("low-latency").await;
    let app = &scene.app;
    let stage =
        Stage { streams: app.streams.clone(), sessions: app.sessions.clone(), clock: app.clock };
    let mut publishers = JoinSet::new();
    for (name, frame, keyframe_every, rendition) in [
        ("fps24", Some((3_750, 1)), 48, "video"),
        ("fps25", Some((3_600, 1)), 50, "video"),
        ("fps29.97", Some((3_003, 1)), 60, "video"),
        ("fps30", Some((3_000, 1)), 60, "video"),
        ("fps50", Some((1_800, 1)), 100, "video"),
        ("fps59.94", Some((3_003, 2)), 120, "video"),
        ("fps60", Some((1_500, 1)), 117, "video"),
        ("sound", None, 1, "audio"),
    ] {
        let program = Program { stream: name.into(), frame, keyframe_every };
        publishers.spawn(publish(stage.clone(), program));
        scene.read(name, rendition);
    }
    let wrong = scene.end().await;
    publishers.abort_all();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// An encoder that publishes `stream` by SRT until it is dropped; `rate` of none is sound alone.
fn encoder(srt: std::net::SocketAddr, stream: &str, rate: Option<&str>, keyframes: u32) -> Child {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin"]);
    if let Some(rate) = rate {
        let picture = format!("testsrc2=size=320x180:rate={rate}");
        command.args(["-re", "-f", "lavfi", "-i", &picture]);
    }
    command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    if rate.is_some() {
        let keyframes = keyframes.to_string();
        command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"]);
        command.args(["-pix_fmt", "yuv420p", "-sc_threshold", "0", "-threads", "1"]);
        command.args(["-g", &keyframes, "-keyint_min", &keyframes]);
    }
    command.args(["-c:a", "aac", "-b:a", "96k", "-f", "mpegts"]);
    command.arg(format!("srt://{srt}?mode=caller&streamid=publish:{stream}"));
    command.kill_on_drop(true).spawn().expect("ffmpeg is installed (tests/run does it)")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoders_over_srt_break_no_rule_either() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut scene = Scene::begin("low-latency-srt").await;
    let srt = scene.srt.expect("SRT is on");
    let mut encoders = Vec::new();
    for (name, rate, keyframes, rendition) in [
        ("srt24", Some("24"), 48, "video"),
        ("srt25", Some("25"), 50, "audio"),
        ("srt29.97", Some("30000/1001"), 60, "video"),
        ("srt30", Some("30"), 60, "video"),
        ("srt50", Some("50"), 100, "video"),
        ("srt59.94", Some("60000/1001"), 120, "video"),
        ("srt60", Some("60"), 120, "video"),
        ("srtsound", None, 1, "audio"),
    ] {
        encoders.push(encoder(srt, name, rate, keyframes));
        scene.read(name, rendition);
    }
    let wrong = scene.end().await;
    drop(encoders);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
