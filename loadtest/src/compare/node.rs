//! A node of ours, started for a comparison on ports and with a data folder of its own. Driver:
//! processes, waiting.
//!
//! Not here: what is asked of it.
#![allow(clippy::disallowed_methods, reason = "driver: waits")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::scratch::Scratch;
use crate::view::hls::probe;
use crate::view::hls::target::Server;

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to drain.
const DRAIN: Duration = Duration::from_secs(15);
/// Ports of a node: HTTP, SRT, RTMP, and from this one on WebRTC, a port a worker.
const WEBRTC_PORT: u16 = 4;
/// The ports that a node may use.
pub const PORTS: u16 = 20;

/// A running node; dropping it ends it.
#[derive(Debug)]
pub struct Node {
    child: Child,
    port: u16,
    _data: Scratch,
}

impl Node {
    /// Starts `program` on the ports from `port` on, with room for so many connections by HTTP, and
    /// waits until it is ready. Blocks.
    ///
    /// # Errors
    /// It cannot be run, or is not ready in time.
    pub fn start(program: &Path, port: u16, connections: usize) -> anyhow::Result<Self> {
        let data = Scratch::new("node")?;
        let at = |offset| SocketAddr::from((Ipv4Addr::LOCALHOST, port + offset)).to_string();
        let child = Command::new(program)
            .args(["serve", "--data"])
            .arg(data.path())
            .env("HEADWATER_HTTP__LISTEN", at(0))
            .env("HEADWATER_SRT__LISTEN", at(1))
            .env("HEADWATER_RTMP__LISTEN", at(2))
            .env("HEADWATER_WEBRTC__LISTEN", at(WEBRTC_PORT))
            .env("HEADWATER_LIMITS__HTTP_CONNECTIONS", (connections + 1_000).to_string())
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut node = Self { child, port, _data: data };
        let (server, _) = Server::of(&node.url(), None, false)?;
        let until = Instant::now() + PATIENCE;
        while !probe::get(&server, "/readyz").is_ok_and(|answer| answer.status == 200) {
            if Instant::now() > until || node.child.try_wait()?.is_some() {
                bail!("{} is not ready on port {port}: is it taken?", program.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(node)
    }

    /// Its HTTP interface.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its SRT listener.
    #[must_use]
    pub fn srt(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
    }

    /// Its RTMP listener.
    #[must_use]
    pub fn rtmp(&self) -> String {
        format!("127.0.0.1:{}", self.port + 2)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + DRAIN;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program `headwater`: what was named, or the one beside this program.
///
/// # Errors
/// Neither is there.
pub fn program(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named);
    }
    let own = std::env::current_exe()?;
    let beside = own.parent().context("this program lies nowhere")?.join("headwater");
    if !beside.exists() {
        bail!("{} is not there: build it, or say --headwater PATH", beside.display());
    }
    Ok(beside)
}

/// The first of `count` ports from `from` on that are free, for TCP and UDP.
///
/// # Errors
/// None are.
pub fn free_ports(from: u16, count: u16) -> anyhow::Result<u16> {
    let free = |port: u16| {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
    };
    let starts = (from..u16::MAX - count).step_by(usize::from(count));
    let mut starts = starts.take(50);
    let found = starts.find(|start| (*start..start + count).all(free));
    found.with_context(|| format!("no {count} free ports from {from} on: say --port"))
}
