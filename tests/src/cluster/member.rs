//! Origins of one cluster: started, joined by tokens, killed, stopped and started again on their
//! data folders.
//!
//! Not here: a node by itself (`node`).
#![allow(clippy::disallowed_methods, reason = "driver: waits, reads the clock")]

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::time::Instant;

use crate::conformance::client::Client;
use crate::node::{binary, free_at};
use crate::program::{Program, Said};

/// Nothing that a healthy cluster does takes longer, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that is waited for.
pub const LOOK: Duration = Duration::from_millis(10);
/// WebRTC takes a port a worker, from its first one up.
const WEBRTC_PORTS: u16 = 8;

/// Waits until `condition` holds.
///
/// # Errors
/// It does not in time.
pub async fn until<F>(what: &str, mut condition: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = bool>,
{
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        anyhow::ensure!(Instant::now() < end, "waited too long until {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// One origin. Dropping it kills it.
pub struct Member {
    /// Its place: 0, 1, 2 …
    pub place: usize,
    /// Its HTTP interface.
    pub http: SocketAddr,
    /// Its RTMP listener.
    pub rtmp: SocketAddr,
    /// Its SRT listener.
    pub srt: SocketAddr,
    /// Its cluster port.
    pub cluster: SocketAddr,
    folder: PathBuf,
    /// The host that it runs on, as words before its program; empty: this one.
    host: Vec<String>,
    settings: Vec<String>,
    program: Option<Program>,
}

/// Where a member runs, and under which addresses others find it.
pub(super) struct Home {
    pub(super) host: Vec<String>,
    pub(super) http: SocketAddr,
    pub(super) rtmp: SocketAddr,
    pub(super) srt: SocketAddr,
    pub(super) cluster: SocketAddr,
    pub(super) name: String,
    /// Keys and values of its configuration.
    pub(super) settings: Vec<(&'static str, String)>,
}

impl Member {
    /// A node at the address of its place that was not started yet; its files go into `folder`.
    ///
    /// # Errors
    /// It has no place to listen or to write.
    pub fn new(place: usize, folder: PathBuf, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let ip = Ipv4Addr::new(127, 0, 0, u8::try_from(place)? + 1);
        let address = |count| anyhow::Ok(SocketAddr::from((ip, free_at(ip, count)?)));
        let (http, rtmp, srt) = (address(1)?, address(1)?, address(1)?);
        let (webrtc, cluster) = (address(WEBRTC_PORTS)?, address(1)?);
        let listen = [
            ("HTTP__LISTEN", http),
            ("RTMP__LISTEN", rtmp),
            ("SRT__LISTEN", srt),
            ("WEBRTC__LISTEN", webrtc),
            ("CLUSTER__LISTEN", cluster),
        ];
        let home = Home {
            host: Vec::new(),
            http,
            rtmp,
            srt,
            cluster,
            name: format!("node-{}", place + 1),
            settings: listen.map(|(key, address)| (key, address.to_string())).into(),
        };
        Self::at(place, home, folder, settings)
    }

    pub(super) fn at(
        place: usize,
        home: Home,
        folder: PathBuf,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut lines = Vec::new();
        let mut set = |key: &str, value: &str| lines.push(format!("HEADWATER_{key}={value}"));
        set("CLUSTER__NAME", &home.name);
        set("INGEST__POLICY", "replace");
        set("LOG__FORMAT", "json");
        for (key, value) in &home.settings {
            set(key, value);
        }
        for (key, value) in settings {
            set(key, value);
        }
        let Home { host, http, rtmp, srt, cluster, .. } = home;
        Ok(Self { place, http, rtmp, srt, cluster, folder, host, settings: lines, program: None })
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What it logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Its log lines with this message.
    #[must_use]
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let lines = self.log();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"].as_str() == Some(message)).collect()
    }

    /// A client of its HTTP interface.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.http))
    }

    /// Where ffmpeg publishes a stream by RTMP.
    #[must_use]
    pub fn rtmp_url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.rtmp)
    }

    /// Whether it runs (or is stopped by a signal).
    pub fn runs(&mut self) -> bool {
        self.program.as_mut().is_some_and(Program::runs)
    }

    /// Starts it on its data folder, without waiting for anything. `join` is an address to join at
    /// and a token.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&mut self, join: Option<(SocketAddr, &str)>) -> anyhow::Result<()> {
        let mut arguments = self.host.clone();
        arguments.push("env".to_owned());
        arguments.extend(self.settings.iter().cloned());
        arguments.push(binary()?.to_string_lossy().into_owned());
        arguments.extend(["serve".to_owned(), "--data".to_owned()]);
        arguments.push(self.data().to_string_lossy().into_owned());
        if let Some((address, token)) = join {
            arguments.extend(["--join".to_owned(), address.to_string()]);
            arguments.extend(["--join-token".to_owned(), token.to_owned()]);
        }
        let log = self.folder.join("log");
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        // Each of these programs becomes the next: the process id is the node's own.
        let first = arguments.remove(0);
        self.program = Some(Program::start_logging(&first, arguments, log)?);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let (client, end) = (self.client(), Instant::now() + PATIENCE);
        while !client.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
            if !self.runs() || Instant::now() > end {
                bail!("node {} is never ready:\n{}", self.place + 1, tail(&self.log()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.program.as_ref().and_then(Program::pid)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It does not.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let program = self.program.as_mut().context("it was never started")?;
        tokio::time::timeout(PATIENCE, program.ended()).await.context("it does not end")?
    }

    /// Starts it again and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::ready`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.launch(None)?;
        self.ready().await
    }

    /// SIGKILL; gone when this returns.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.take().context("it does not run")?.kill().await
    }

    /// Sends a signal, such as `STOP` or `CONT`.
    ///
    /// # Errors
    /// It does not run.
    pub async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let pid = self.pid().context("it does not run")?;
        let said = Program::start("kill", [format!("-{signal}"), pid.to_string()])?;
        let said = said.finish(PATIENCE).await?;
        anyhow::ensure!(said.status.success(), "{}", said.err);
        Ok(())
    }

    /// Runs `headwater ARGUMENTS --api URL` for this node.
    ///
    /// # Errors
    /// It cannot be started, or does not end.
    pub async fn command(&self, arguments: &str) -> anyhow::Result<Said> {
        let mut words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        words.extend(["--api".to_owned(), format!("http://{}", self.http)]);
        let program = binary()?.to_string_lossy().into_owned();
        Program::start(&program, words)?.finish(PATIENCE).await
    }

    /// A join token.
    ///
    /// # Errors
    /// None is given.
    pub async fn token(&self) -> anyhow::Result<String> {
        let said = self.command("cluster join-token").await?;
        anyhow::ensure!(said.status.success(), "{}", said.err);
        Ok(said.out.trim().to_owned())
    }

    /// `cluster status --json`, by the API; null if it does not answer.
    pub async fn status(&self) -> Value {
        let client = self.client();
        let asking = tokio::time::timeout(Duration::from_secs(1), client.get("/api/v1/cluster"));
        let answer = asking.await.ok().and_then(Result::ok);
        answer.and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default()
    }

    /// Whether it publishes the stream.
    pub async fn owns(&self, stream: &str) -> bool {
        let Ok(answer) = self.client().get(&format!("/api/v1/streams/{stream}")).await else {
            return false;
        };
        let view: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        view["publisher"].is_object()
    }
}

/// The last lines of a text.
#[must_use]
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Three origins.
pub struct Trio {
    /// They.
    pub members: Vec<Member>,
    folder: PathBuf,
}

impl Trio {
    /// Starts one node, lets two others join by tokens, and waits until all vote.
    ///
    /// # Errors
    /// A node does not start or join.
    pub async fn start(name: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("headwater-{name}-{}", std::process::id()));
        let member =
            |place| Member::new(place, folder.join(format!("node-{}", place + 1)), settings);
        let members = (0..3).map(member).collect::<anyhow::Result<Vec<_>>>()?;
        let mut trio = Self { members, folder };
        trio.members[0].restart().await?;
        for place in [1, 2] {
            trio.join(place, 0).await?;
        }
        trio.whole().await?;
        Ok(trio)
    }

    /// Lets the member at `place`, whose data folder is empty, join at the one at `by`.
    ///
    /// # Errors
    /// It does not join.
    pub async fn join(&mut self, place: usize, by: usize) -> anyhow::Result<()> {
        let (address, token) = (self.members[by].cluster, self.members[by].token().await?);
        self.members[place].launch(Some((address, &token)))?;
        self.members[place].ready().await
    }

    /// Waits until all that run see three nodes that vote and are up.
    ///
    /// # Errors
    /// They do not in time.
    pub async fn whole(&mut self) -> anyhow::Result<()> {
        for member in &self.members {
            until("all nodes vote and are up", || async {
                let status = member.status().await;
                let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
                let fit = |node: &Value| {
                    node["voter"] == true && node["state"] == "up" && node["connected"] == true
                };
                nodes.len() == 3 && nodes.iter().all(fit) && status["leader"].is_u64()
            })
            .await?;
        }
        Ok(())
    }

    /// The place of the member that leads, as the first one that answers says.
    ///
    /// # Errors
    /// None does in time.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let mut leader = None;
        let end = Instant::now() + PATIENCE;
        while leader.is_none() && Instant::now() < end {
            for member in &self.members {
                let status = member.status().await;
                if let Some(nodes) = status["nodes"].as_array() {
                    let leads = nodes.iter().find(|node| node["leader"] == true);
                    leader = leads.and_then(|node| self.place(node["address"].as_str()?));
                    break;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        leader.context("nobody leads")
    }

    fn place(&self, address: &str) -> Option<usize> {
        self.members.iter().position(|member| member.cluster.to_string() == address)
    }

    /// The place of the member that publishes the stream.
    ///
    /// # Errors
    /// None does in time.
    pub async fn owner(&self, stream: &str) -> anyhow::Result<usize> {
        let end = Instant::now() + PATIENCE;
        loop {
            for member in &self.members {
                let owns = tokio::time::timeout(Duration::from_secs(1), member.owns(stream)).await;
                if owns == Ok(true) {
                    return Ok(member.place);
                }
            }
            anyhow::ensure!(Instant::now() < end, "nobody publishes {stream}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where all files of it lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in &self.members {
                eprintln!("node {} said:\n{}", member.place + 1, tail(&member.log()));
            }
            if std::env::var_os("CLUSTER_KEEP").is_some() {
                eprintln!("all of it is in {}", self.folder.display());
                return;
            }
        }
        self.members.clear();
        // It may never have been made.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
