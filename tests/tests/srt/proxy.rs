//! A bad link: a UDP relay on loopback that loses, delays and so reorders datagrams, both ways,
//! by a seed.
//!
//! Not here: what the link does to a stream (`loss`).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What the link does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) seed: u64,
    /// Datagrams lost of each hundred, each way.
    pub(crate) loss_percent: u64,
    /// Shortest way, each way.
    pub(crate) delay: Duration,
    /// Added to it, evenly from nothing to this.
    pub(crate) jitter: Duration,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) lost: Arc<AtomicU64>,
    pub(crate) passed: Arc<AtomicU64>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

impl Proxy {
    /// A relay to `server` for any number of clients, until the runtime ends.
    pub(crate) async fn start(server: SocketAddr, link: Link) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = front.local_addr().unwrap();
        let (lost, passed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let line = Line::start(link, Arc::clone(&lost), Arc::clone(&passed));
        tokio::spawn(async move {
            let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut buffer = [0; 2_048];
            loop {
                let (length, client) = front.recv_from(&mut buffer).await.unwrap();
                if let Entry::Vacant(entry) = backs.entry(client) {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    entry.insert(Arc::clone(&back));
                    tokio::spawn(answers(back, Arc::clone(&front), client, line.clone()));
                }
                let parcel = (Arc::clone(&backs[&client]), server, buffer[..length].to_vec());
                line.send(parcel).unwrap();
            }
        });
        Self { address, lost, passed }
    }
}

type Parcel = (Arc<UdpSocket>, SocketAddr, Vec<u8>);

/// Passes on what the server says to one client.
async fn answers(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: SocketAddr,
    line: mpsc::UnboundedSender<Parcel>,
) {
    let mut buffer = [0; 2_048];
    loop {
        let (length, _) = back.recv_from(&mut buffer).await.unwrap();
        line.send((Arc::clone(&front), client, buffer[..length].to_vec())).unwrap();
    }
}

struct Line;

impl Line {
    fn start(
        link: Link,
        lost: Arc<AtomicU64>,
        passed: Arc<AtomicU64>,
    ) -> mpsc::UnboundedSender<Parcel> {
        let (sender, mut parcels) = mpsc::unbounded_channel::<Parcel>();
        tokio::spawn(async move {
            let mut random = Random(link.seed);
            let mut underway: BTreeMap<(Instant, u64), Parcel> = BTreeMap::new();
            let mut number = 0;
            loop {
                let next = underway.keys().next().map(|(at, _)| *at);
                let sleep = tokio::time::sleep_until(
                    next.unwrap_or_else(|| Instant::now() + Duration::from_secs(60)),
                );
                tokio::select! {
                    parcel = parcels.recv() => {
                        let Some(parcel) = parcel else { return };
                        if random.below(100) < link.loss_percent {
                            lost.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        let jitter = link.jitter.as_micros() as u64;
                        let delay = link.delay + Duration::from_micros(random.below(jitter));
                        number += 1;
                        underway.insert((Instant::now() + delay, number), parcel);
                    }
                    () = sleep => {}
                }
                while let Some(entry) = underway.first_entry()
                    && entry.key().0 <= Instant::now()
                {
                    let (socket, to, bytes) = entry.remove();
                    // The other side may have closed its port already.
                    let _ = socket.send_to(&bytes, to).await;
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        sender
    }
}
