//! A node on free ports of loopback, and a client for it.
//!
//! Not here: anything that is asserted.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use headwater::config::{Config, RawConfig};
use headwater::node::Node;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A node that runs until it is stopped or dropped.
pub(crate) struct Running {
    pub(crate) http: SocketAddr,
    pub(crate) app: std::sync::Arc<headwater::http::App>,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) version: http::Version,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A configuration on free ports of loopback with the test's changes.
pub(crate) fn config(name: &str, change: impl FnOnce(&mut RawConfig)) -> Config {
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut raw = RawConfig::default();
    raw.http.listen = free;
    raw.webrtc.listen = free;
    raw.webrtc.workers = 1;
    raw.srt.listen = free;
    raw.rtmp.listen = free;
    raw.cluster.listen = free;
    raw.general.data = folder(name);
    change(&mut raw);
    Config::from_raw(raw).unwrap()
}

/// A folder of the test's own.
pub(crate) fn folder(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

impl Running {
    /// A node on an empty data folder.
    pub(crate) async fn start(name: &str, change: impl FnOnce(&mut RawConfig)) -> Self {
        // An earlier run's, where there is one.
        let _ = std::fs::remove_dir_all(folder(name));
        Self::again(name, change).await
    }

    /// A node on the data folder that another has left.
    pub(crate) async fn again(name: &str, change: impl FnOnce(&mut RawConfig)) -> Self {
        let config = config(name, change);
        let began = std::time::Instant::now();
        let node = loop {
            // The last task of the one before may still hold the folder.
            match Node::bind(config.clone()).await {
                Err(error)
                    if format!("{error:#}").contains("in use by another process")
                        && began.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                bound => break bound.unwrap(),
            }
        };
        let http = node.addresses().http.unwrap();
        let app = std::sync::Arc::clone(node.app());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(node.run(shutdown.clone()));
        let running = Self { http, app, shutdown, task };
        let ready = async {
            // Not over HTTP, whose connections some tests count.
            while !running.app.health.ready().is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.unwrap();
        running
    }

    /// Drains; the node's own result.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }

    pub(crate) fn begin_drain(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, &[], "")).await
    }

    pub(crate) async fn send(&self, request: http::Request<Full<Bytes>>) -> Answer {
        send(self.http, request, false).await
    }
}

pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

pub(crate) async fn send(
    address: SocketAddr,
    mut request: http::Request<Full<Bytes>>,
    h2: bool,
) -> Answer {
    let uri = format!("http://{address}{}", request.uri());
    *request.uri_mut() = uri.parse().unwrap();
    let client = Client::builder(TokioExecutor::new()).http2_only(h2).build_http();
    let answer = tokio::time::timeout(PATIENCE, client.request(request)).await.unwrap().unwrap();
    let (parts, body) = answer.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, version: parts.version }
}
