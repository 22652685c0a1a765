//! The node: binds every listener, runs them, and drains. A driver file.
//!
//! Not here: what the listeners do, command lines and signals (`cli`).

#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

mod cluster;
mod options;
mod record;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use headwater_cluster::cluster::Cluster;
use headwater_cluster::command::{NodeState, Role};
use headwater_media::Broadcast;
use headwater_relay::pulls::Pulls;
use headwater_sfu::{Sfu, SfuError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Access;
use crate::bridge::{Bridge, BridgeParts};
use crate::clock::Clock;
use crate::config::{Config, RawConfig};
use crate::http::hls::HlsService;
use crate::http::server::HttpServer;
use crate::http::{Addresses, App, Health, Routes, WebRtcSessions};
use crate::ingest::rtmp::{RtmpDeps, RtmpServer};
use crate::ingest::srt::{SrtDeps, SrtServer};
use crate::ownership::{Clustered, NewsQueue, Ownership, StreamsHolder};
use crate::packager::Packager;
use crate::sessions::Sessions;
use crate::streams::Streams;
use crate::transcode::audio::{AudioBridges, HlsAudio};

pub(crate) use record::api_url;
pub use record::{Record, read_record};

/// How often streams whose publisher stays away are looked for, and metrics folded.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);

/// How long playlists that have ended are still served in a drain: a player of parts of 200 ms asks
/// several times within it.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

/// How long the nodes that take streams from this one may take to find another parent.
const CHILDREN_LEFT: Duration = Duration::from_secs(2);

/// How long the cluster may take to note the ends of this node's streams.
const NEWS_TIMEOUT: Duration = Duration::from_secs(1);

/// How long WebRTC workers may take to say goodbye to their sessions.
const SFU_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A node whose listeners are bound.
pub struct Node {
    app: Arc<App>,
    holder: StreamsHolder,
    bridge: Arc<Bridge>,
    /// What the streams have to tell the cluster.
    news: NewsQueue,
    http: Option<HttpServer>,
    rtmp: Option<RtmpServer>,
    srt: Option<SrtServer>,
    addresses: Addresses,
}

impl Node {
    /// Binds every listener that is on. Needs a tokio runtime.
    ///
    /// # Errors
    /// An address cannot be had; the text names the key that gives it.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        crate::metrics::install();
        let values = config.values().clone();
        let clock = Clock::start();
        let holder = StreamsHolder::default();
        let opening = options::cluster(&config, Arc::new(holder.clone()))?;
        let hop = options::hop(&values, opening.name.as_str());
        let cluster = cluster::open(&config, opening).await?;
        let (ownership, news) = Clustered::new(cluster.clone());
        let pulls = Pulls::new(options::pulls(&values));
        let ownership = Arc::new(ownership);
        let owning: Arc<dyn Ownership> = Arc::clone(&ownership) as _;
        let streams = Streams::new(clock, options::streams(&values), owning, pulls.clone());
        holder.set(streams.clone());
        let here = streams.clone();
        let made_here = Arc::new(move |broadcast: &Broadcast| here.owns(broadcast));
        let bridges = AudioBridges::new(clock, options::audio(&values), made_here);
        let media = BridgeParts {
            clock,
            streams: streams.clone(),
            pulls,
            bridges: bridges.clone(),
            reconnect_window: values.ingest.reconnect_window,
            tree: options::tree(&values),
            hot: options::hot(&values),
        };
        let bridge = Bridge::new(cluster.clone(), media, hop);
        ownership.set_bridge(&bridge);
        let app = Arc::new(App {
            cluster,
            access: Access::new(values.auth.open),
            clock,
            sessions: Sessions::new(clock, options::count(values.limits.sessions)),
            streams,
            packager: Packager::new(options::packager(&values)),
            bridges,
            sfu: ArcSwapOption::empty(),
            webrtc: WebRtcSessions::default(),
            health: Health::default(),
            addresses: OnceLock::new(),
            started: clock.now(),
            config: Arc::new(config),
        });
        let http = bind_http(&values)?;
        let mut addresses = Addresses::default();
        if let Some(http) = &http {
            addresses.http = Some(http.address()?);
            app.health.expect("http");
        }
        if values.webrtc.enabled {
            let address = values.webrtc.listen;
            let sfu = Sfu::start(options::sfu(&app.config)).map_err(|error| match error {
                // A worker's port, which may be another than the configured one.
                SfuError::Bind { address, source } => {
                    anyhow::Error::new(source).context(cannot_listen("webrtc", address))
                }
                other => anyhow::Error::new(other).context(cannot_listen("webrtc", address)),
            })?;
            addresses.webrtc = sfu.addresses();
            app.health.up("webrtc");
            app.sfu.store(Some(Arc::new(sfu)));
        }
        let rtmp = bind_rtmp(&app).await?;
        if let Some(rtmp) = &rtmp {
            addresses.rtmp = Some(rtmp.local_addr()?);
            app.health.expect("rtmp");
        }
        let srt = bind_srt(&app)?;
        if let Some(srt) = &srt {
            addresses.srt = Some(srt.local_addr());
            app.health.expect("srt");
        }
        addresses.cluster = app.cluster.local_address();
        // Set once, here.
        let _ = app.addresses.set(addresses.clone());
        Ok(Self { app, holder, bridge, news, http, rtmp, srt, addresses })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What the routes use, for publishers and viewers inside the process.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Serves until `shutdown`, then drains within `drain_timeout`.
    ///
    /// # Errors
    /// The data folder cannot be written.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { app, holder, bridge, news, http, rtmp, srt, addresses } = self;
        let values = app.config.values();
        announce(&app.config, &addresses);
        let record = match addresses.http {
            Some(address) => Some(record::write(&values.general.data, address)?),
            None => None,
        };
        let (drain, force) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        // Ends with this function.
        let mut background = JoinSet::new();
        let mut players = None;
        background.spawn(sweep(Arc::clone(&app)));
        background.spawn(Clustered::run(app.cluster.clone(), app.streams.clone(), news));
        background.spawn(Arc::clone(&bridge).run());
        if let Some(http) = http {
            let packager = app.packager.clone();
            let following = packager.clone();
            let (streams, until) = (app.streams.clone(), force.clone());
            background.spawn(async move { following.follow(streams, until).await });
            let demand = Arc::new(HlsAudio::new(app.streams.clone(), app.bridges.clone()));
            let hls = HlsService::new(packager, app.access.clone(), demand, options::hls(values));
            players = Some(hls.clone());
            let routes = Arc::new(Routes::new(&app, hls));
            let serving = http.run(routes, drain.clone(), force.clone());
            watch(&tasks, &app.health, &drain, "http", serving);
        }
        if let Some(rtmp) = rtmp {
            watch(&tasks, &app.health, &drain, "rtmp", rtmp.run(drain.clone()));
        }
        if let Some(srt) = srt {
            let until = drain.clone();
            watch(&tasks, &app.health, &drain, "srt", async move {
                if let Err(error) = srt.run(until).await {
                    tracing::error!(%error, "SRT ended");
                }
            });
        }
        shutdown.cancelled().await;

        let limit = values.general.drain_timeout;
        tracing::info!(limit_seconds = limit.as_secs_f32(), "draining");
        app.health.draining();
        app.streams.drain();
        bridge.say_goodbye();
        bridge.children_left(CHILDREN_LEFT.min(limit / 2)).await;
        let watched = !app.streams.list().is_empty();
        let go_on = others_take_over(&app.cluster);
        if !go_on {
            app.streams.end_all();
        }
        if watched && !go_on {
            // Players that are between two requests come back for the playlist's end.
            tokio::time::sleep(LAST_WORDS.min(limit / 2)).await;
        }
        drain.cancel();
        if let Some(players) = players {
            players.close();
        }
        let sfu = app.sfu.swap(None);
        tasks.close();
        if tokio::time::timeout(limit, tasks.wait()).await.is_err() {
            tracing::warn!("closing what did not end within drain_timeout");
            force.cancel();
            tasks.wait().await;
        }
        if let Some(sfu) = sfu.and_then(Arc::into_inner)
            && !sfu.shutdown(SFU_STOP_TIMEOUT).await
        {
            tracing::warn!("a WebRTC worker did not end in time");
        }
        if let Some(record) = record {
            record.remove();
        }
        // What the streams told last is in the log before it closes.
        if tokio::time::timeout(NEWS_TIMEOUT, app.streams.told()).await.is_err() {
            tracing::warn!("the cluster was not told of every stream's end");
        }
        app.cluster.shutdown().await;
        holder.clear();
        tracing::info!("ended");
        Ok(())
    }
}

/// Whether another origin is there at which this node's publishers can go on: then their streams
/// wait for them, and viewers elsewhere are not told that they have ended.
fn others_take_over(cluster: &Cluster) -> bool {
    let view = cluster.view();
    let view = view.borrow();
    view.nodes().any(|node| {
        let up = node.state() == NodeState::Up && node.info.role == Role::Origin;
        up && node.info.id != cluster.node()
    })
}

/// Runs a part; one that ends before the drain has failed.
fn watch(
    tasks: &TaskTracker,
    health: &Health,
    drain: &CancellationToken,
    part: &'static str,
    serving: impl Future<Output = ()> + Send + 'static,
) {
    health.up(part);
    let (health, drain) = (health.clone(), drain.clone());
    let task = tokio::spawn(serving);
    tasks.spawn(async move {
        let ended = task.await;
        if !drain.is_cancelled() {
            let why = ended.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
            tracing::error!(part, why, "a listener has failed");
            health.failed(part, why);
        }
    });
}

async fn sweep(app: Arc<App>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.streams.sweep();
        let now = Instant::now();
        app.streams.sweep_taken(|name| {
            app.sessions.viewers(name) > 0
                || app.packager.get(name).is_some_and(|stream| stream.viewers(now) > 0)
        });
        crate::metrics::upkeep();
    }
}

fn bind_http(values: &RawConfig) -> anyhow::Result<Option<HttpServer>> {
    if !values.http.enabled {
        return Ok(None);
    }
    let options = options::http(values);
    HttpServer::bind(options).map(Some).with_context(|| cannot_listen("http", options.listen))
}

async fn bind_rtmp(app: &Arc<App>) -> anyhow::Result<Option<RtmpServer>> {
    let values = app.config.values();
    if !values.rtmp.enabled {
        return Ok(None);
    }
    let options = options::rtmp(values);
    let listen = options.listen;
    let deps = RtmpDeps {
        access: Arc::new(app.access.clone()),
        sessions: app.sessions.clone(),
        streams: app.streams.clone(),
        clock: app.clock,
    };
    let bound = RtmpServer::bind(options, deps).await;
    bound.map(Some).with_context(|| cannot_listen("rtmp", listen))
}

fn bind_srt(app: &Arc<App>) -> anyhow::Result<Option<SrtServer>> {
    let values = app.config.values();
    if !values.srt.enabled {
        return Ok(None);
    }
    let options = options::srt(values);
    let listen = options.listen;
    let deps = SrtDeps {
        clock: app.clock,
        access: app.access.clone(),
        sessions: app.sessions.clone(),
        streams: app.streams.clone(),
    };
    SrtServer::bind(options, deps).map(Some).with_context(|| cannot_listen("srt", listen))
}

fn cannot_listen(section: &str, address: SocketAddr) -> String {
    format!("cannot listen on {address} ([{section}] listen)")
}

/// Says where the node is, and loudly what is odd about it.
fn announce(config: &Config, addresses: &Addresses) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    if config.values().auth.open {
        tracing::warn!(
            "OPEN TO EVERYBODY: [auth] open = true lets every address publish, play and administer"
        );
    } else {
        tracing::warn!(
            "OPEN ON LOOPBACK ONLY: publishing, playing and the API are refused from other \
             machines; [auth] open = true lets everybody in"
        );
    }
    if let Some(http) = addresses.http {
        tracing::info!(address = %http, page = %api_url(http), "http");
    }
    for address in &addresses.webrtc {
        tracing::info!(%address, "webrtc");
    }
    if let Some(address) = addresses.srt {
        tracing::info!(%address, "srt");
    }
    if let Some(address) = addresses.rtmp {
        tracing::info!(%address, "rtmp");
    }
}
