//! A node as its users run it: the program `headwater serve`, on free loopback ports, with a data
//! folder of its own.
//!
//! Not here: nodes inside the test's process (the tests that look inside).
#![allow(clippy::disallowed_methods, reason = "driver: waits")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::conformance::client::Client;
use crate::program::Program;

/// How long a node may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// WebRTC takes a port a worker, from its first one up.
const WEBRTC_PORTS: u16 = 8;

/// A running node; dropping it kills it.
pub struct Node {
    program: Program,
    /// Its HTTP interface.
    pub http: SocketAddr,
    /// Its RTMP listener.
    pub rtmp: SocketAddr,
    /// Its SRT listener.
    pub srt: SocketAddr,
    data: PathBuf,
}

impl Node {
    /// Starts a node with these settings (`("HEADWATER_HLS__PART_TARGET", "100ms")`, say) and waits
    /// until it is ready.
    ///
    /// # Errors
    /// It cannot be started or ends at once.
    pub async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (http, rtmp, srt) = (at(free(1)?), at(free(1)?), at(free(1)?));
        let webrtc = at(free(WEBRTC_PORTS)?);
        let data = std::env::temp_dir().join(format!("headwater-test-{}", http.port()));
        let mut arguments: Vec<String> = Vec::new();
        let mut set = |key: &str, value: &str| arguments.push(format!("HEADWATER_{key}={value}"));
        set("HTTP__LISTEN", &http.to_string());
        set("RTMP__LISTEN", &rtmp.to_string());
        set("SRT__LISTEN", &srt.to_string());
        set("WEBRTC__LISTEN", &webrtc.to_string());
        for (key, value) in settings {
            set(key, value);
        }
        arguments.push(binary()?.to_string_lossy().into_owned());
        arguments.extend(["serve".to_owned(), "--data".to_owned()]);
        arguments.push(data.to_string_lossy().into_owned());
        // `env` becomes the node: the process id is the node's own.
        let program = Program::start_loud("env", arguments)?;
        let mut node = Self { program, http, rtmp, srt, data };
        tokio::time::timeout(PATIENCE, node.ready()).await.context("never ready")??;
        Ok(node)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let client = self.client();
        while !client.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
            if !self.program.runs() {
                bail!("the node ended at once");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// A client of its HTTP interface.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.http))
    }

    /// Where ffmpeg publishes a stream by SRT.
    #[must_use]
    pub fn srt_url(&self, stream: &str) -> String {
        format!("srt://{}?mode=caller&pkt_size=1316&streamid=publish:{stream}", self.srt)
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.program.pid()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.program.runs()
    }

    /// Waits until a stream is live.
    ///
    /// # Errors
    /// It does not appear.
    pub async fn live(&self, stream: &str) -> anyhow::Result<()> {
        let (client, route) = (self.client(), format!("/api/v1/streams/{stream}"));
        let appears = async {
            while !client.get(&route).await.is_ok_and(|answer| answer.status == 200) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, appears)
            .await
            .with_context(|| format!("{stream} never goes live"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// The node's program: what `E2E_HEADWATER` names, else the one built beside this test.
///
/// # Errors
/// It is not built.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("E2E_HEADWATER") {
        return Ok(named.into());
    }
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("a test lies in target/PROFILE/deps")?;
    let binary = folder.join("headwater");
    if !binary.exists() {
        bail!("{} is not built: cargo build --package headwater", binary.display());
    }
    Ok(binary)
}

/// The first of `count` neighbouring ports that are free for TCP and UDP. Tests run in processes of
/// their own side by side, so each begins at a place of its own.
///
/// # Errors
/// None is free.
pub fn free(count: u16) -> anyhow::Result<u16> {
    free_at(Ipv4Addr::LOCALHOST, count)
}

/// The same at another loopback address.
///
/// # Errors
/// None is free.
pub fn free_at(ip: Ipv4Addr, count: u16) -> anyhow::Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 22_000 + u16::try_from(std::process::id() % 500)? * 20;
    for _ in 0..1_000 {
        let first = begin + NEXT.fetch_add(count, Ordering::Relaxed);
        let free = |port| {
            let at = SocketAddr::from((ip, port));
            TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
        };
        if (first..first + count).all(free) {
            return Ok(first);
        }
    }
    bail!("no free port")
}
