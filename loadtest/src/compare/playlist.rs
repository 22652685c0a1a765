//! A node's live playlist against a static file of its size from nginx: CPU a request, latency.
//! The same clients ask both, as many and as often. Driver: waits, reads the clock.
//!
//! Not here: how the servers are started (`nginx`, `node`).
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "driver: waits; progress goes to stderr"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::figures::{Comparison, Limit};
use super::nginx::{self, Nginx};
use super::node::{self, Node};
use crate::live::{Side, get};
use crate::process::Usage;
use crate::publish::{Protocol, Publishers, Stream};
use crate::source::Settings;
use crate::units;
use crate::view::Crowd as _;
use crate::view::hls::askers::Pace;
use crate::view::hls::fleet::{Fleet, allow_connections};
use crate::view::hls::playlist::Playlist;
use crate::view::hls::probe;
use crate::view::hls::target::Server;

/// How long the publisher sends before anything is measured: lists of segments are full by then.
const FILL: Duration = Duration::from_secs(22);
/// How long clients ask before it counts.
const CALM: Duration = Duration::from_secs(2);
/// How long the node is measured without clients, a round.
const IDLE: Duration = Duration::from_secs(2);
/// How long all connections may take to be there.
const CONNECT: Duration = Duration::from_secs(20);
/// Connections that are begun at a time, and the pause between: both servers' queues hold more.
const CONNECT_STEP: usize = 250;
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(20);
/// The stream that is published to a node started here.
const STREAM: &str = "compare";

/// When clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Asking {
    /// The node by requests that wait for the next part, as players do; nginx by as many at the
    /// same moments
    Blocking,
    /// Both evenly, for the playlist as it is
    Spread,
}

/// See [`super::Command::Nginx`].
#[derive(Args, Clone, Debug)]
pub struct AgainstNginx {
    /// Connections to each server
    #[arg(long, default_value_t = 1_000)]
    pub connections: usize,
    /// When clients ask
    #[arg(long, value_enum, default_value = "blocking")]
    pub asking: Asking,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Measured time of each server, a round
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    pub hold: Duration,
    /// The program `headwater` [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub headwater: Option<PathBuf>,
    /// nginx [default: /usr/sbin/nginx]
    #[arg(long, value_name = "PATH")]
    pub nginx: Option<PathBuf>,
    /// A node that runs already, by the URL of a live stream's playlist; needs --pid
    #[arg(long, value_name = "URL", requires = "pid")]
    pub url: Option<String>,
    /// Its process
    #[arg(long)]
    pub pid: Option<u32>,
    /// First port to use for the servers that are started here
    #[arg(long, default_value_t = 22_400)]
    pub port: u16,
    /// Limit of a ratio of node to nginx, `FIGURE=RATIO`; may be repeated
    #[arg(long, value_name = "FIGURE=RATIO")]
    pub max_ratio: Vec<Limit>,
    /// Limit of the node's own median, `FIGURE=VALUE`; may be repeated
    #[arg(long, value_name = "FIGURE=VALUE")]
    pub max: Vec<Limit>,
}

/// One server, as clients see it.
struct Served {
    server: Server,
    path: Arc<str>,
    pid: u32,
    pace: Pace,
}

/// What one run of clients found.
struct Measured {
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    rate: f64,
}

pub(super) async fn run(options: &AgainstNginx) -> anyhow::Result<Comparison> {
    if options.connections == 0 || options.rounds == 0 || options.hold < Duration::from_secs(1) {
        bail!("--connections, --rounds and --hold must be at least 1 (second)");
    }
    allow_connections(options.connections as u64)?;
    let port = node::free_ports(options.port, node::PORTS + 1)?;
    let connections = options.connections;
    let (node, publishers) = match options.url {
        Some(_) => (None, None),
        None => {
            let program = node::program(options.headwater.clone())?;
            let node =
                tokio::task::spawn_blocking(move || Node::start(&program, port, connections));
            let node = node.await??;
            let publishers = publish(&node)?;
            eprintln!("the stream's playlist fills up");
            tokio::time::sleep(FILL).await;
            (Some(node), Some(publishers))
        }
    };
    let compared = rounds(options, node.as_ref(), port + node::PORTS).await;
    if let Some(publishers) = publishers {
        publishers.stop().await;
    }
    compared
}

fn publish(node: &Node) -> anyhow::Result<Publishers> {
    let stream = Stream {
        protocol: Protocol::Whip,
        address: format!("{}/whip/{STREAM}", node.url()),
        name: STREAM.to_owned(),
        number: 0,
        settings: Settings {
            width: 640,
            height: 360,
            fps: (30, 1),
            bitrate: 500_000,
            gop_s: 2.0,
            b_frames: false,
            audio: false,
            ..Settings::default()
        },
        token: None,
        srt_latency: Duration::ZERO,
    };
    Publishers::start(vec![stream], |protocol| Arc::new(Side::new(protocol.name())))
}

async fn rounds(
    options: &AgainstNginx,
    node: Option<&Node>,
    port: u16,
) -> anyhow::Result<Comparison> {
    let (url, pid) = match (node, &options.url) {
        (Some(node), _) => (format!("{}/hls/{STREAM}/index.m3u8", node.url()), node.pid()),
        (None, Some(url)) => (url.clone(), options.pid.context("--url needs --pid")?),
        (None, None) => bail!("no node"),
    };
    // Uncompressed, so that both servers send as many bytes.
    let (server, path) = Server::of(&url, None, false)?;
    let probing = server.clone();
    let (path, text) =
        tokio::task::spawn_blocking(move || probe::media_playlist(&probing, &path)).await??;
    let interval = part_interval(&text)?;
    let (nginx_program, connections) = (nginx::program(options.nginx.clone()), options.connections);
    let body = text.clone();
    let nginx = move || Nginx::start(&nginx_program, port, &body, connections);
    let nginx = tokio::task::spawn_blocking(nginx).await??;
    let (of_node, of_file) = match options.asking {
        Asking::Blocking => (Pace::Part, Pace::Burst(interval)),
        Asking::Spread => (Pace::Spread(interval), Pace::Spread(interval)),
    };
    let (file_server, file) =
        Server::of(&format!("http://{}/index.m3u8", nginx.address), None, false)?;
    let worker = nginx.worker().context("nginx has no worker")?;
    let a = Served { server: file_server, path: file, pid: worker, pace: of_file };
    let b = Served { server, path, pid, pace: of_node };
    let mut compared = Comparison {
        a: format!("nginx, a file of {} bytes", text.len()),
        b: format!("live playlist {} of process {pid}", b.path),
        what: format!(
            "{} connections, each asking every {:.0} ms, {:?}, {:.0} s a run",
            options.connections,
            interval.as_secs_f64() * 1e3,
            options.asking,
            options.hold.as_secs_f64(),
        ),
        ..Comparison::default()
    };
    for round in 1..=options.rounds {
        let file = measure(&a, options).await.context("nginx")?;
        eprintln!("round {round}: nginx {:.2} µs a request", file.cpu_us);
        let idle = idle_cores(pid).await?;
        let live = measure(&b, options).await.context("the node")?;
        eprintln!("round {round}: node {:.2} µs a request", live.cpu_us);
        let net = live.cpu_us - idle * 1e6 / live.rate.max(1.0);
        for (name, of_a, of_b) in [
            ("cpu_us_per_playlist_request", file.cpu_us, live.cpu_us),
            ("cpu_us_per_playlist_request_above_idle", file.cpu_us, net),
            ("answer_p50_ms", file.p50_ms, live.p50_ms),
            ("answer_p99_ms", file.p99_ms, live.p99_ms),
            ("requests_per_second", file.rate, live.rate),
        ] {
            compared.a(name, of_a);
            compared.b(name, of_b);
        }
    }
    compared.notes = vec![
        "answers: from asking to the first byte; of blocked requests, from the part's birth, which \
         is when the first of the clients had it"
            .to_owned(),
        "above idle: without what the node uses for its stream when nobody asks".to_owned(),
    ];
    compared.hold_ratios(&options.max_ratio);
    options.max.iter().for_each(|limit| compared.hold_b(limit));
    Ok(compared)
}

/// How often a player asks: the usual duration of a part.
fn part_interval(text: &[u8]) -> anyhow::Result<Duration> {
    let playlist = Playlist::parse(&String::from_utf8_lossy(text))?;
    let parts = playlist.segments.iter().flat_map(|segment| &segment.parts);
    let longest = parts.map(|part| part.duration).max();
    longest.context("the playlist lists no parts: it is not a low-latency one")
}

/// CPU seconds a second of a process, for a while.
async fn idle_cores(pid: u32) -> anyhow::Result<f64> {
    let (began, before) = (Instant::now(), usage(pid)?);
    tokio::time::sleep(IDLE).await;
    Ok(usage(pid)?.since(&before).cpu_s() / began.elapsed().as_secs_f64())
}

fn usage(pid: u32) -> anyhow::Result<Usage> {
    Usage::of(pid).with_context(|| format!("there is no process {pid}"))
}

async fn measure(served: &Served, options: &AgainstNginx) -> anyhow::Result<Measured> {
    let (server, path) = (served.server.clone(), Arc::clone(&served.path));
    let mut fleet = Fleet::start(server, path, served.pace, "compare")?;
    connect(&mut fleet, options.connections).await?;
    tokio::time::sleep(CALM).await;
    fleet.tell(Box::new(|askers, _, _| askers.begin_measuring()));
    let (began, before) = (Instant::now(), usage(served.pid)?);
    let answers = get(&fleet.side().playlist_requests);
    tokio::time::sleep(options.hold).await;
    let used = usage(served.pid)?.since(&before);
    let answers = get(&fleet.side().playlist_requests) - answers;
    let took = began.elapsed();
    let problems = fleet.side().problems();
    let ended = tokio::task::spawn_blocking(move || fleet.end()).await?;
    let askers = ended.context("the clients failed")?;
    if let Some((problem, count)) = problems.first_key_value() {
        bail!("{count} requests failed: {problem}");
    }
    if answers == 0 {
        bail!("no request was answered");
    }
    let latency = askers.latency().percentiles();
    Ok(Measured {
        cpu_us: used.cpu_s() * 1e6 / answers as f64,
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
        rate: answers as f64 / took.as_secs_f64(),
    })
}

/// Lets all clients join, some at a time, until each has had an answer.
async fn connect(fleet: &mut Fleet, connections: usize) -> anyhow::Result<()> {
    let mut left = connections;
    while left > 0 {
        let step = left.min(CONNECT_STEP);
        fleet.join(step);
        left -= step;
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
    let until = Instant::now() + CONNECT;
    while get(&fleet.side().playlist_requests) < connections as u64 {
        if Instant::now() > until {
            let problems = fleet.side().problems();
            bail!("not all clients have an answer: {problems:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
