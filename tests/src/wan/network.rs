//! The driver: hosts in namespaces, and threads that carry their packets as `link` says.
//!
//! One thread a host reads its device; one thread delivers all packets when their time has come. A
//! lock is taken twice a packet, which serves some ten thousand packets a second.
//!
//! Not here: what a link does (`link`).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock, owns threads")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::{Condvar, Mutex};
use tun_rs::{DeviceBuilder, InterruptEvent, Layer, SyncDevice};

use super::link::{Counts, Fault, Link, Links};
use super::namespace::{Namespace, batch};

/// The most that a device hands over at once.
const MTU: u16 = 1_500;
/// Packets under way; more are dropped. At 100 ms this is 3 Gb/s.
const UNDER_WAY: usize = 32_768;
/// How often the delivering thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(200);

/// Where a host stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its name, such as `b1`.
    pub name: String,
    /// Hosts of one region are near each other.
    pub region: String,
}

impl Place {
    /// A host in a region.
    #[must_use]
    pub fn new(name: &str, region: &str) -> Self {
        Self { name: name.to_owned(), region: region.to_owned() }
    }
}

/// A host of the network.
#[derive(Debug)]
pub struct Host {
    /// Where it stands.
    pub place: Place,
    /// Its address in the wide-area network.
    pub address: Ipv4Addr,
    /// The address by which the namespace of the test reaches it, without delay or loss.
    pub near: Ipv4Addr,
    namespace: Namespace,
}

impl Host {
    /// Its namespace: `ip netns exec NAME PROGRAM…` runs something on it.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace.name
    }
}

/// A packet that will arrive: when, the order in which it was sent, where, and its bytes.
type Travelling = Reverse<(Instant, u64, usize, Vec<u8>)>;

#[derive(Debug)]
struct UnderWay {
    links: Links,
    heap: BinaryHeap<Travelling>,
    sent: u64,
}

struct Shared {
    under_way: Mutex<UnderWay>,
    more: Condvar,
    ending: AtomicBool,
    /// Wakes the readers to their end.
    end: InterruptEvent,
}

/// Hosts, and what lies between them. Dropping it takes all of it away.
pub struct Network {
    hosts: Vec<Host>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    bridge: String,
}

impl Network {
    /// Makes a namespace a host, called `{prefix}{name}`, and ties hosts of one region by `inside`,
    /// others by `between`. `prefix` is 8 bytes at most, and no two networks share it.
    ///
    /// # Errors
    /// This process may not make namespaces and TUN devices (it has to be root), `ip` is missing,
    /// or a name is taken.
    pub fn make(
        prefix: &str,
        places: &[Place],
        (inside, between): (Link, Link),
        seed: u64,
    ) -> anyhow::Result<Self> {
        ensure!(prefix.len() <= 8 && places.len() < 250, "too long a prefix, or too many hosts");
        let mut links = Links::new(seed);
        for (one, from) in places.iter().enumerate() {
            for (other, to) in places.iter().enumerate().skip(one + 1) {
                let near = from.region == to.region;
                links.tie(one, other, if near { inside } else { between });
            }
        }
        let bridge = format!("{prefix}br");
        batch(
            None,
            &[
                format!("link add {bridge} type bridge"),
                format!("addr add 10.98.0.254/24 dev {bridge}"),
                format!("link set {bridge} up"),
            ],
        )?;
        let under_way = UnderWay { links, heap: BinaryHeap::new(), sent: 0 };
        let shared = Arc::new(Shared {
            under_way: Mutex::new(under_way),
            more: Condvar::new(),
            ending: AtomicBool::new(false),
            end: InterruptEvent::new()?,
        });
        let mut network = Self { hosts: Vec::new(), shared, threads: Vec::new(), bridge };
        let mut devices = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let (host, device) = network.host(prefix, number, place)?;
            network.hosts.push(host);
            devices.push(Arc::new(device));
        }
        network.run(&devices);
        Ok(network)
    }

    fn host(
        &self,
        prefix: &str,
        number: usize,
        place: &Place,
    ) -> anyhow::Result<(Host, SyncDevice)> {
        let last = u8::try_from(number + 1)?;
        let (address, near) = (Ipv4Addr::new(10, 99, 0, last), Ipv4Addr::new(10, 98, 0, last));
        let namespace = Namespace::make(format!("{prefix}{}", place.name))?;
        let name = &namespace.name;
        let (device, outer) = (format!("{prefix}t{number}"), format!("{prefix}v{number}"));
        let tun = DeviceBuilder::new()
            .name(&device)
            .layer(Layer::L3)
            .with(|builder| {
                builder.packet_information(false);
            })
            .build_sync()
            .context("a TUN device cannot be made: this needs root and /dev/net/tun")?;
        batch(
            None,
            &[
                format!("link set {device} netns {name}"),
                format!("link add {outer} type veth peer name near netns {name}"),
                format!("link set {outer} master {} up", self.bridge),
            ],
        )?;
        batch(
            Some(name),
            &[
                format!("link set {device} name wan mtu {MTU}"),
                format!("addr add {address}/32 dev wan"),
                "link set wan up".to_owned(),
                format!("route add 10.99.0.0/24 dev wan src {address}"),
                format!("addr add {near}/24 dev near"),
                "link set near up".to_owned(),
            ],
        )?;
        let host = Host { place: place.clone(), address, near, namespace };
        Ok((host, tun))
    }

    fn run(&mut self, devices: &[Arc<SyncDevice>]) {
        let by_address: HashMap<Ipv4Addr, usize> =
            self.hosts.iter().enumerate().map(|(number, host)| (host.address, number)).collect();
        let by_address = Arc::new(by_address);
        for (from, device) in devices.iter().enumerate() {
            let (shared, device) = (Arc::clone(&self.shared), Arc::clone(device));
            let by_address = Arc::clone(&by_address);
            let read = move || read(&shared, &device, from, &by_address);
            self.threads.push(std::thread::spawn(read));
        }
        let (shared, devices) = (Arc::clone(&self.shared), devices.to_vec());
        self.threads.push(std::thread::spawn(move || deliver(&shared, &devices)));
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// A host.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn host_named(&self, name: &str) -> anyhow::Result<&Host> {
        let found = self.hosts.iter().find(|host| host.place.name == name);
        found.with_context(|| format!("there is no host '{name}'"))
    }

    /// Breaks what lies between hosts of which one is chosen by `one` and the other by `other`: each a
    /// host's name, a region's, or `*`.
    ///
    /// # Errors
    /// Nothing bears such a name.
    pub fn fault(&self, one: &str, other: &str, fault: Fault) -> anyhow::Result<()> {
        self.pairs(one, other, |links, from, to| links.fault(from, to, fault))
    }

    /// Mends what lies between hosts that are chosen as for [`Self::fault`].
    ///
    /// # Errors
    /// Nothing bears such a name.
    pub fn mend(&self, one: &str, other: &str) -> anyhow::Result<()> {
        self.pairs(one, other, Links::mend)
    }

    /// Mends everything.
    pub fn mend_all(&self) {
        self.shared.under_way.lock().links.mend_all();
    }

    fn pairs(
        &self,
        one: &str,
        other: &str,
        mut change: impl FnMut(&mut Links, usize, usize),
    ) -> anyhow::Result<()> {
        let (ones, others) = (self.chosen(one)?, self.chosen(other)?);
        let mut under_way = self.shared.under_way.lock();
        for from in &ones {
            for to in others.iter().filter(|to| *to != from) {
                change(&mut under_way.links, *from, *to);
            }
        }
        Ok(())
    }

    fn chosen(&self, name: &str) -> anyhow::Result<Vec<usize>> {
        let fits =
            |host: &Host| name == "*" || host.place.name == name || host.place.region == name;
        let hosts = self.hosts.iter().enumerate().filter(|(_, host)| fits(host));
        let chosen: Vec<usize> = hosts.map(|(number, _)| number).collect();
        ensure!(!chosen.is_empty(), "there is no host and no region '{name}'");
        Ok(chosen)
    }

    /// What became of the packets until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.under_way.lock().links.counts()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.shared.more.notify_all();
        if let Err(error) = self.shared.end.trigger() {
            eprintln!("the network's readers stay: {error}");
            return;
        }
        if let Err(error) = batch(None, &[format!("link delete {}", self.bridge)]) {
            eprintln!("{error:#}");
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a thread of the network panicked");
            }
        }
        self.hosts.clear();
    }
}

/// The receiver of an IPv4 packet (RFC 791 §3.1).
fn receiver(packet: &[u8]) -> Option<Ipv4Addr> {
    let version = packet.first()? >> 4;
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (version == 4).then(|| Ipv4Addr::from(address))
}

fn read(shared: &Shared, device: &SyncDevice, from: usize, by_address: &HashMap<Ipv4Addr, usize>) {
    let mut buffer = vec![0; usize::from(MTU) + 4];
    while !shared.ending.load(Ordering::Relaxed) {
        let Ok(length) = device.recv_intr(&mut buffer, &shared.end) else { continue };
        let Some(packet) = buffer.get(..length) else { continue };
        let Some(to) = receiver(packet).and_then(|address| by_address.get(&address)) else {
            continue;
        };
        let mut under_way = shared.under_way.lock();
        let Some(at) = under_way.links.carry(Instant::now(), from, *to, length) else { continue };
        if under_way.heap.len() < UNDER_WAY {
            let number = under_way.sent;
            under_way.sent += 1;
            under_way.heap.push(Reverse((at, number, *to, packet.to_vec())));
            drop(under_way);
            shared.more.notify_one();
        }
    }
}

fn deliver(shared: &Shared, devices: &[Arc<SyncDevice>]) {
    let mut under_way = shared.under_way.lock();
    while !shared.ending.load(Ordering::Relaxed) {
        let now = Instant::now();
        match under_way.heap.peek() {
            Some(Reverse((at, ..))) if *at <= now => {
                let Some(Reverse((_, _, to, packet))) = under_way.heap.pop() else { continue };
                parking_lot::MutexGuard::unlocked(&mut under_way, || {
                    // A host whose queue is full loses it, as a real one would.
                    let _ = devices.get(to).map(|device| device.send(&packet));
                });
            }
            Some(Reverse((at, ..))) => {
                let until = *at;
                shared.more.wait_until(&mut under_way, until);
            }
            None => {
                shared.more.wait_for(&mut under_way, LOOK);
            }
        }
    }
}
