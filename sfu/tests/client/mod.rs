//! A WebRTC client for tests: a second str0m engine over a real loopback socket.
//! Not here: what is tested.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test binary uses a part; a driver"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use headwater_media::{SessionId, StreamName};
use headwater_sfu::{Sfu, SfuConfig};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn session(n: u8) -> SessionId {
    SessionId::from_random([n; 16])
}

/// The name under which the publishers of the tests come.
pub(crate) fn stream() -> StreamName {
    StreamName::parse("cam").unwrap()
}

/// An SFU on loopback with one worker.
pub(crate) fn sfu(change: impl FnOnce(&mut SfuConfig)) -> Sfu {
    let mut config =
        SfuConfig { listen: "127.0.0.1:0".parse().unwrap(), workers: 1, ..SfuConfig::default() };
    change(&mut config);
    Sfu::start(config).unwrap()
}

enum Link {
    Udp(UdpSocket),
    /// A connection, and what came of a frame that is not whole yet.
    Tcp(TcpStream, Vec<u8>),
}

impl Link {
    fn protocol(&self) -> Protocol {
        match self {
            Self::Udp(_) => Protocol::Udp,
            Self::Tcp(..) => Protocol::Tcp,
        }
    }

    async fn send(&mut self, data: &[u8], to: SocketAddr) {
        match self {
            Self::Udp(socket) => {
                socket.send_to(data, to).await.unwrap();
            }
            Self::Tcp(stream, _) => {
                let size = u16::try_from(data.len()).unwrap().to_be_bytes();
                stream.write_all(&[&size[..], data].concat()).await.unwrap();
            }
        }
    }

    /// The next datagram; loses nothing when it is dropped while waiting.
    async fn receive(&mut self) -> (Vec<u8>, SocketAddr) {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; 2_000];
                let (size, source) = socket.recv_from(&mut buffer).await.unwrap();
                buffer.truncate(size);
                (buffer, source)
            }
            Self::Tcp(stream, partial) => loop {
                if let Some((size, rest)) = partial.split_first_chunk::<2>() {
                    let size = usize::from(u16::from_be_bytes(*size));
                    if let Some((frame, rest)) = rest.split_at_checked(size) {
                        let frame = frame.to_vec();
                        *partial = rest.to_vec();
                        return (frame, stream.peer_addr().unwrap());
                    }
                }
                if stream.read_buf(partial).await.unwrap() == 0 {
                    std::future::pending::<()>().await;
                }
            },
        }
    }
}

pub(crate) struct Client {
    pub(crate) rtc: Rtc,
    link: Link,
    address: SocketAddr,
    pub(crate) events: VecDeque<Event>,
    pub(crate) connected: bool,
    /// Of every so many datagrams received, one is dropped; 0 drops none.
    pub(crate) drop_every: u32,
    received: u32,
    pub(crate) dropped: u32,
    /// Of every so many datagrams sent once connected, one is lost; 0 loses none.
    pub(crate) lose_every: u32,
    sent: u32,
    pub(crate) lost: u32,
}

impl Client {
    pub(crate) async fn new(config: RtcConfig) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let candidate = Candidate::host(address, "udp").unwrap();
        Self::over(config, Link::Udp(socket), address, candidate)
    }

    /// A client that can only do ICE-TCP.
    pub(crate) async fn tcp(config: RtcConfig, server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        let address = stream.local_addr().unwrap();
        let builder = Candidate::builder().tcp().host(address).tcptype(TcpType::Active);
        Self::over(config, Link::Tcp(stream, Vec::new()), address, builder.build().unwrap())
    }

    fn over(config: RtcConfig, link: Link, address: SocketAddr, candidate: Candidate) -> Self {
        let mut rtc = config.build(Instant::now());
        rtc.add_local_candidate(candidate);
        Self {
            rtc,
            link,
            address,
            events: VecDeque::new(),
            connected: false,
            drop_every: 0,
            received: 0,
            dropped: 0,
            lose_every: 0,
            sent: 0,
            lost: 0,
        }
    }

    /// Sends a datagram of somebody else's making from this client's address.
    pub(crate) async fn forge(&mut self, datagram: &[u8], to: SocketAddr) {
        self.link.send(datagram, to).await;
    }

    /// Goes on from another port, as behind a NAT that has forgotten the old one.
    pub(crate) async fn rebind(&mut self) {
        self.link = Link::Udp(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }

    /// An offer with the given m-lines.
    pub(crate) fn offer(
        &mut self,
        lines: &[(MediaKind, Direction)],
    ) -> (Vec<Mid>, SdpOffer, SdpPendingOffer) {
        let mut api = self.rtc.sdp_api();
        let mids = lines
            .iter()
            .map(|(kind, direction)| api.add_media(*kind, *direction, None, None, None))
            .collect();
        let (offer, pending) = api.apply().unwrap();
        (mids, offer, pending)
    }

    pub(crate) fn answer(&mut self, pending: SdpPendingOffer, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
    }

    async fn drain(&mut self) -> Instant {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => return at,
                Output::Transmit(t) => {
                    self.sent += 1;
                    if self.lose_every > 0 && self.sent.is_multiple_of(self.lose_every) {
                        self.lost += 1;
                        continue;
                    }
                    self.link.send(&t.contents, t.destination).await;
                }
                Output::Event(event) => {
                    self.connected |= matches!(event, Event::Connected);
                    self.events.push_back(event);
                }
            }
        }
    }

    /// Runs for at most `span`, or until something came from the network.
    pub(crate) async fn step(&mut self, span: Duration) {
        let at = self.drain().await.min(Instant::now() + span);
        let received = tokio::time::timeout_at(at.into(), self.link.receive()).await;
        let now = Instant::now();
        if let Ok((datagram, source)) = received {
            self.received += 1;
            if self.connected
                && self.drop_every > 0
                && self.received.is_multiple_of(self.drop_every)
            {
                self.dropped += 1;
                return;
            }
            let receive =
                Receive::new(self.link.protocol(), source, self.address, &datagram).unwrap();
            // An answer to what was forged in this client's name is none of its own.
            let _ = self.rtc.handle_input(Input::Receive(now, receive));
        } else {
            self.rtc.handle_input(Input::Timeout(now)).unwrap();
        }
        self.drain().await;
    }

    /// Runs until `done` says so.
    pub(crate) async fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "gave up waiting: {what}");
            self.step(Duration::from_millis(5)).await;
        }
    }
}
