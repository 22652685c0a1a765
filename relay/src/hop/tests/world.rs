//! Nodes with endpoints on loopback, and a link between them that can be slow or cut.
//!
//! Not here: tests.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headwater_media::{Broadcast, Epoch, StreamName};
use parking_lot::Mutex;
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use tokio::net::UdpSocket;

use crate::hop::{Found, Hop, HopOptions, NoSource, Source};
use crate::parent::Refusal;
use crate::pulls::{Candidate, Parents, Pull, PullOptions, Pulls, Wanted, Way};
use crate::wire::{ALPN, RefusalCode, StartAt};

pub(super) const SOON: Duration = Duration::from_secs(10);

/// Waits until `check` holds.
pub(super) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < SOON, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A node that has streams for others.
pub(super) struct Origin {
    endpoint: Endpoint,
    certificate: rustls::pki_types::CertificateDer<'static>,
    pub(super) streams: Arc<Streams>,
    /// Its number, where rings are to be noticed.
    id: Option<u64>,
    hops: Mutex<Vec<(Hop, tokio::task::JoinHandle<()>)>>,
}

#[derive(Default)]
pub(super) struct Streams {
    pub(super) table: Mutex<HashMap<StreamName, (Broadcast, Epoch)>>,
    pub(super) hint: Mutex<Option<String>>,
}

impl Source for Streams {
    fn find(&self, stream: &StreamName) -> Result<Found, Refusal> {
        let table = self.table.lock();
        let hint = self.hint.lock().clone();
        let code = if hint.is_some() { RefusalCode::NotOwner } else { RefusalCode::NotFound };
        let (broadcast, epoch) =
            table.get(stream).cloned().ok_or(Refusal { hint, ..Refusal::new(code) })?;
        Ok(Found::owned(broadcast, epoch))
    }
}

/// Streams that are taken are served on.
impl Source for Pulls {
    fn find(&self, stream: &StreamName) -> Result<Found, Refusal> {
        let (broadcast, epoch) =
            self.get(stream).ok_or_else(|| Refusal::new(RefusalCode::NotFound))?;
        Ok(Found::owned(broadcast, epoch))
    }

    fn take(&self, stream: &StreamName, from: (Epoch, &StartAt)) -> Result<Found, Refusal> {
        let limit = |_| Refusal::new(RefusalCode::Limit);
        let pull = self.pull_from(stream, from).map_err(limit)?;
        let (broadcast, standing) = (pull.broadcast(), pull.standing());
        Ok(Found { broadcast, standing, hold: Some(Arc::new(pull)) })
    }
}

impl Origin {
    pub(super) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.unwrap())
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (streams, hops) = (Arc::default(), Mutex::default());
        Self { endpoint, certificate, streams, id: None, hops }
    }

    pub(super) fn numbered(id: u64) -> Self {
        Self { id: Some(id), ..Self::new() }
    }

    pub(super) fn add(&self, broadcast: &Broadcast, epoch: u64) {
        let entry = (broadcast.clone(), Epoch(epoch));
        self.streams.table.lock().insert(broadcast.name().clone(), entry);
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// A connection to this node at `address` (its own, or a link's): both ends.
    pub(super) async fn connect(&self, address: SocketAddr) -> (Connection, Connection) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let client = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let config = ClientConfig::new(Arc::new(tls));
        let connecting = client.connect_with(config, address, "localhost").unwrap();
        let accepted = async { self.endpoint.accept().await.unwrap().await.unwrap() };
        let (child, parent) = tokio::join!(connecting, accepted);
        (parent, child.unwrap())
    }

    /// A hop to this node; the far end's handle.
    pub(super) async fn hop(&self, address: SocketAddr) -> Hop {
        self.hop_with(address, self.streams.clone(), HopOptions::new("child")).await
    }

    pub(super) async fn hop_with(
        &self,
        address: SocketAddr,
        source: Arc<dyn Source>,
        options: HopOptions,
    ) -> Hop {
        let (parent, child) = self.connect(address).await;
        let own = HopOptions { id: self.id, ..HopOptions::new("origin") };
        let (hop, driver) = Hop::new(parent, own, source);
        let task = tokio::spawn(async move {
            driver.await;
        });
        self.hops.lock().push((hop, task));
        let (hop, driver) = Hop::new(child, options, Arc::new(NoSource));
        tokio::spawn(driver);
        hop
    }

    /// It is dead: connections vanish without a word.
    pub(super) fn kill(&self) {
        for (_, task) in self.hops.lock().drain(..) {
            task.abort();
        }
        self.endpoint.close(0u32.into(), b"");
    }

    /// This node's ends of its hops.
    pub(super) fn ends(&self) -> Vec<Hop> {
        self.hops.lock().iter().map(|(hop, _)| hop.clone()).collect()
    }
}

/// Offers its hops for every stream, the first before the others.
#[derive(Clone, Default)]
pub(super) struct Choice {
    pub(super) hops: Arc<Mutex<Vec<Hop>>>,
    pub(super) refusals: Arc<Mutex<Vec<Refusal>>>,
}

impl Parents for Choice {
    fn parents(&self, wanted: Wanted<'_>) -> Vec<Candidate> {
        self.refusals.lock().extend(wanted.refusal.cloned());
        let of = |hop: &Hop| Candidate {
            node: hop.connection().stable_id() as u64,
            way: Way::Hop(hop.clone()),
            last_resort: false,
        };
        self.hops.lock().iter().map(of).collect()
    }
}

/// A node that takes streams from others.
pub(super) struct Edge {
    pub(super) pulls: Pulls,
    pub(super) choice: Choice,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Edge {
    pub(super) fn new(hops: &[Hop]) -> Self {
        Self::with(hops, PullOptions::default())
    }

    pub(super) fn with(hops: &[Hop], options: PullOptions) -> Self {
        let choice = Choice::default();
        choice.hops.lock().extend_from_slice(hops);
        let pulls = Pulls::new(options);
        let task = tokio::spawn(pulls.clone().run(Arc::new(choice.clone())));
        Self { pulls, choice, task }
    }

    pub(super) fn pull(&self, stream: &str) -> Pull {
        self.pulls.pull(&crate::testing::name(stream)).unwrap()
    }
}

/// A node that takes streams and serves them on.
pub(super) struct Relay {
    pub(super) node: Origin,
    pub(super) edge: Edge,
}

impl Relay {
    pub(super) fn new(id: u64, options: PullOptions) -> Self {
        Self { node: Origin::numbered(id), edge: Edge::with(&[], options) }
    }

    pub(super) fn numbered(id: u64) -> Self {
        Self::new(id, PullOptions::default())
    }

    /// Takes from these, the best first, from now on.
    pub(super) fn take_from(&self, hops: &[Hop]) {
        *self.edge.choice.hops.lock() = hops.to_vec();
        self.edge.pulls.reconsider(None);
    }

    /// A hop of the relay `child` to this one.
    pub(super) async fn hop_of(&self, child: &Self) -> Hop {
        self.hop_at(self.node.address(), child).await
    }

    pub(super) async fn hop_at(&self, address: SocketAddr, child: &Self) -> Hop {
        let source = Arc::new(self.edge.pulls.clone());
        self.node.hop_with(address, source, child.options()).await
    }

    pub(super) fn options(&self) -> HopOptions {
        HopOptions { id: self.node.id, ..HopOptions::new("relay") }
    }
}

/// A UDP link in front of a node: its way back has a bandwidth, and both can be cut.
pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) cut: Arc<AtomicBool>,
    /// Bytes a second from the node; 0 is unlimited.
    pub(super) bytes_per_s: Arc<AtomicU64>,
    /// Datagrams of a hundred that are lost on the way back.
    pub(super) loss_percent: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Link {
    pub(super) async fn to(node: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        far.connect(node).await.unwrap();
        let address = near.local_addr().unwrap();
        let (cut, bytes_per_s) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let loss_percent = Arc::new(AtomicU64::new(0));
        let client = Arc::new(Mutex::new(None));
        let there = {
            let (near, far, cut, client) = (near.clone(), far.clone(), cut.clone(), client.clone());
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok((size, from)) = near.recv_from(&mut buffer).await {
                    *client.lock() = Some(from);
                    if !cut.load(Ordering::Relaxed) {
                        let _ = far.send(&buffer[..size]).await;
                    }
                }
            })
        };
        let back = {
            let (cut, rate, loss) = (cut.clone(), bytes_per_s.clone(), loss_percent.clone());
            let mut chance = 7u64;
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                let mut free_at = tokio::time::Instant::now();
                while let Ok(size) = far.recv(&mut buffer).await {
                    chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if (chance >> 33) % 100 < loss.load(Ordering::Relaxed) {
                        continue;
                    }
                    let rate = rate.load(Ordering::Relaxed);
                    if rate > 0 {
                        let now = tokio::time::Instant::now();
                        // The socket's buffer is the queue; what does not fit is lost.
                        let takes = Duration::from_secs_f64(size as f64 / rate as f64);
                        free_at = free_at.max(now) + takes;
                        tokio::time::sleep_until(free_at).await;
                    }
                    let to = *client.lock();
                    if let Some(to) = to.filter(|_| !cut.load(Ordering::Relaxed)) {
                        let _ = near.send_to(&buffer[..size], to).await;
                    }
                }
            })
        };
        Self { address, cut, bytes_per_s, loss_percent, tasks: vec![there, back] }
    }
}

/// Keeps the process's counters, for one test to read: each is a process of its own under nextest.
#[derive(Clone, Default)]
pub(super) struct Counters {
    table: Arc<Mutex<HashMap<String, Arc<AtomicU64>>>>,
}

impl Counters {
    pub(super) fn install() -> Self {
        let counters = Self::default();
        metrics::set_global_recorder(counters.clone()).unwrap();
        counters
    }

    pub(super) fn of(&self, name: &str) -> u64 {
        self.table.lock().get(name).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

impl metrics::Recorder for Counters {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let mut table = self.table.lock();
        let counter = table.entry(key.name().to_owned()).or_default();
        metrics::Counter::from_arc(Arc::clone(counter))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(
        &self,
        _: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}
