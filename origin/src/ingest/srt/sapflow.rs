//! [`Transport`] over the crate `sapflow-srt`: its listener does handshakes, receiving, delivery
//! in time and decryption; beside it stand a [`Sender`] for each connection that reads (the
//! listener only receives), the check of passphrases before a caller is announced, and counts.
//!
//! Not here: sockets and tasks (`server`), who may do what (`session`). Only this module and
//! `sender` name the crate.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sapflow_srt::crypto::{CryptoConfig, KeySize};
use sapflow_srt::listener::{Config, Event as ListenerEvent};
use sapflow_srt::packet::{Control, Extension, Handshake, HandshakeKind, Packet};
use sapflow_srt::{CloseReason as ListenerClose, Listener, RejectCode};

use super::SrtOptions;
use super::keys::{KeyError, SessionKey};
use super::sender::{SendLimits, Sender};
use super::transport::{CloseReason, ConnId, ConnStats, Event, PortStats, SendRefused, Transport};

/// Shortest age at which a packet for a reader is given up: beyond the latency, so that a
/// retransmission asked for at the last moment still has its packet.
const SEND_AGE_MIN: Duration = Duration::from_secs(1);
/// Control packets parsed by us start with these bytes (draft-sharabayko-srt-01 §3.2).
const CONTROL_BIT: u8 = 0x80;
const TYPE_HANDSHAKE: u8 = 0;
const TYPE_ACK: u8 = 2;
/// Reject codes on the wire start here; libsrt's numbers count from it.
const WIRE_REJECT_BASE: u32 = 1_000;
/// Handshake types from here on are requests and answers, not rejections.
const WIRE_REJECT_END: u32 = 0xffff_0000;

/// An SRT port by `sapflow-srt`.
pub(super) struct Sapflow {
    listener: Listener,
    crypto: Option<Secret>,
    options: SrtOptions,
    conns: HashMap<ConnId, Conn>,
    by_caller: HashMap<(SocketAddr, u32), ConnId>,
    events: VecDeque<Event>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
}

struct Secret {
    passphrase: Vec<u8>,
    short: CryptoConfig,
    long: CryptoConfig,
}

/// What the caller's conclusion said, as far as the sending half needs it.
struct Hello {
    caller_socket: u32,
    initial: u32,
    window: usize,
    receiver_delay: Duration,
    key_material: Option<Vec<u8>>,
}

struct Conn {
    peer: SocketAddr,
    hello: Hello,
    key: Option<SessionKey>,
    /// Set when the caller was let in.
    open: Option<Open>,
    rtt: Duration,
}

impl Conn {
    fn stats(&self, received: sapflow_srt::Stats) -> ConnStats {
        let sender = self.open.as_ref().map(|open| &open.sender);
        let sent = sender.map(Sender::counts).unwrap_or_default();
        let reader = sender.filter(|_| sent.sent > 0);
        let rtt = reader.and_then(|sender| u64::try_from(sender.rtt()).ok());
        ConnStats {
            packets_received: received.received,
            packets_lost: received.lost,
            packets_recovered: received.retransmitted,
            packets_dropped: received.dropped,
            packets_undecryptable: received.encrypted,
            packets_sent: sent.sent,
            packets_resent: sent.resent,
            packets_expired: sent.expired,
            rtt: rtt.map_or(self.rtt, Duration::from_micros),
        }
    }
}

struct Open {
    since: Instant,
    sender: Sender,
}

/// How long a caller is kept that waits for its answer. The cluster may take `[cluster]
/// propose_within` (2 s) to give or refuse it a stream, and callers themselves wait 3 s unless told
/// otherwise; one that is forgotten earlier asks again as another, and never hears the first answer.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

impl Sapflow {
    /// A port with these options; none when the passphrase is not 10 to 79 bytes.
    pub(super) fn new(options: &SrtOptions, now: Instant) -> Option<Self> {
        let crypto = match &options.passphrase {
            Some(passphrase) => {
                let make = |size| CryptoConfig::new(passphrase.as_bytes().to_vec(), size).ok();
                Some(Secret {
                    passphrase: passphrase.as_bytes().to_vec(),
                    short: make(KeySize::Aes128)?,
                    long: make(KeySize::Aes256)?,
                })
            }
            None => None,
        };
        let config = Config {
            latency: options.latency,
            max_connections: options.connections_max,
            handshakes_per_second: options.handshakes_per_second,
            buffer_packets: options.buffer_packets,
            peer_idle: options.peer_idle,
            accept_timeout: ACCEPT_TIMEOUT,
            crypto: None,
            require_encryption: crypto.is_some(),
            allow_plaintext: false,
        };
        Some(Self {
            listener: Listener::new(config, now),
            crypto,
            options: options.clone(),
            conns: HashMap::new(),
            by_caller: HashMap::new(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        })
    }

    /// Takes what the listener made, after each call into it.
    fn collect(&mut self, hello: Option<Hello>) {
        let mut hello = hello;
        while let Some(event) = self.listener.poll_event() {
            match event {
                ListenerEvent::Connect { id, peer, stream_id } => match hello.take() {
                    Some(hello) => self.greet(ConnId(id.0), peer, stream_id, hello),
                    // A connect event only ever follows the conclusion that made it.
                    None => self.refuse(ConnId(id.0), RejectCode::ROGUE),
                },
                ListenerEvent::Data { id, payload } => {
                    self.events.push_back(Event::Data { id: ConnId(id.0), payload });
                }
                ListenerEvent::Closed { id, reason, stats } => {
                    let id = ConnId(id.0);
                    if let Some(conn) = self.forget(id) {
                        let stats = conn.stats(stats);
                        let reason = match reason {
                            Some(ListenerClose::Shutdown) => CloseReason::Shutdown,
                            Some(ListenerClose::Timeout) | None => CloseReason::Timeout,
                        };
                        self.events.push_back(Event::Closed { id, reason, stats });
                    }
                }
            }
        }
        while let Some((to, datagram)) = self.listener.poll_transmit() {
            self.inspect(to, &datagram);
            self.transmits.push_back((to, datagram));
        }
    }

    /// Checks the caller's secret and announces it.
    fn greet(&mut self, id: ConnId, peer: SocketAddr, stream_id: Vec<u8>, hello: Hello) {
        let key = match (&self.crypto, &hello.key_material) {
            (None, None) => None,
            (Some(secret), Some(material)) => {
                match SessionKey::unwrap(&secret.passphrase, material) {
                    Ok(key) => Some(key),
                    Err(error) => {
                        tracing::info!(%peer, %error, "SRT caller refused");
                        let wrong = error == KeyError::WrongSecret;
                        let code = if wrong { RejectCode::BADSECRET } else { RejectCode::ROGUE };
                        return self.refuse(id, code);
                    }
                }
            }
            _ => return self.refuse(id, RejectCode::UNSECURE),
        };
        let key_length = key.as_ref().map_or(0, SessionKey::length);
        self.by_caller.insert((peer, hello.caller_socket), id);
        let conn = Conn { peer, hello, key, open: None, rtt: Duration::ZERO };
        self.conns.insert(id, conn);
        self.events.push_back(Event::Connect { id, peer, stream_id, key_length });
    }

    fn refuse(&mut self, id: ConnId, code: RejectCode) {
        self.forget(id);
        self.listener.reject(sapflow_srt::ConnId(id.0), code);
    }

    fn forget(&mut self, id: ConnId) -> Option<Conn> {
        let conn = self.conns.remove(&id)?;
        self.by_caller.remove(&(conn.peer, conn.hello.caller_socket));
        Some(conn)
    }

    /// Reads what the listener keeps to itself from the datagrams that it sends: the round trip
    /// in its ACKs, and callers that it refused.
    fn inspect(&mut self, to: SocketAddr, datagram: &[u8]) {
        let word = |at: usize| {
            let bytes = datagram.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_be_bytes(*bytes))
        };
        match datagram.first_chunk::<2>() {
            Some([CONTROL_BIT, TYPE_ACK]) => {
                if let (Some(socket), Some(rtt)) = (word(12), word(20))
                    && let Some(id) = self.by_caller.get(&(to, socket))
                    && let Some(conn) = self.conns.get_mut(id)
                {
                    conn.rtt = Duration::from_micros(u64::from(rtt));
                }
            }
            Some([CONTROL_BIT, TYPE_HANDSHAKE]) => {
                if let Some(kind) = word(36)
                    && (WIRE_REJECT_BASE..WIRE_REJECT_END).contains(&kind)
                {
                    let code = kind - WIRE_REJECT_BASE;
                    self.events.push_back(Event::Refused { peer: to, code });
                }
            }
            _ => {}
        }
    }

    /// Gives an ACK or NAK to the connection's sender; says what a conclusion asks for.
    fn overhear(&mut self, now: Instant, peer: SocketAddr, datagram: &[u8]) -> Option<Hello> {
        if datagram.first().is_none_or(|byte| byte & CONTROL_BIT == 0) {
            return None;
        }
        let Ok(Packet::Control(packet)) = Packet::parse(datagram) else { return None };
        if let Control::Handshake(handshake) = packet.body {
            return (handshake.kind == HandshakeKind::Conclusion).then(|| hello(handshake));
        }
        let conn = self.conns.get_mut(&ConnId(packet.dest)).filter(|conn| conn.peer == peer)?;
        if let Some(open) = &mut conn.open {
            let at = micros(now, open.since);
            open.sender.handle(at, &packet.body);
        }
        None
    }
}

fn hello(handshake: Handshake) -> Hello {
    let delay = handshake.srt_request().map_or(0, |request| request.receiver_delay);
    let key_material = handshake.extensions.into_iter().find_map(|extension| match extension {
        Extension::KmReq(bytes) => Some(bytes),
        _ => None,
    });
    Hello {
        caller_socket: handshake.socket_id,
        initial: handshake.initial_seq,
        window: usize::try_from(handshake.flow_window).unwrap_or(usize::MAX),
        receiver_delay: Duration::from_millis(u64::from(delay)),
        key_material,
    }
}

fn micros(now: Instant, since: Instant) -> i64 {
    i64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(i64::MAX)
}

impl Transport for Sapflow {
    fn handle_datagram(&mut self, now: Instant, peer: SocketAddr, datagram: &[u8]) {
        let hello = self.overhear(now, peer, datagram);
        self.listener.handle_datagram(now, peer, datagram);
        self.collect(hello);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.listener.handle_timeout(now);
        self.collect(None);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let sending = self.conns.values().filter_map(|conn| {
            let open = conn.open.as_ref()?;
            let at = u64::try_from(open.sender.next_timer()?.max(0)).ok()?;
            open.since.checked_add(Duration::from_micros(at))
        });
        sending.chain(self.listener.poll_timeout()).min()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        if self.transmits.is_empty() {
            for conn in self.conns.values_mut() {
                let Some(open) = &mut conn.open else { continue };
                while let Some(datagram) = open.sender.poll(micros(now, open.since)) {
                    self.transmits.push_back((conn.peer, datagram));
                }
            }
        }
        self.transmits.pop_front()
    }

    fn accept(&mut self, now: Instant, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let crypto = match (&self.crypto, &conn.key) {
            (Some(secret), Some(key)) if key.length() == 16 => Some(secret.short.clone()),
            (Some(secret), Some(_)) => Some(secret.long.clone()),
            _ => None,
        };
        let latency = self.options.latency.max(conn.hello.receiver_delay);
        let age = i64::try_from((latency * 2).max(SEND_AGE_MIN).as_micros()).unwrap_or(i64::MAX);
        let limits = SendLimits { packets: self.options.send_packets, age };
        let hello = &conn.hello;
        let sender =
            Sender::new(limits, hello.caller_socket, hello.initial, hello.window, conn.key.clone());
        conn.open = Some(Open { since: now, sender });
        let accepted = self.listener.accept_with_crypto(sapflow_srt::ConnId(id.0), now, crypto);
        if !accepted {
            self.forget(id);
        }
        self.collect(None);
        accepted
    }

    fn reject(&mut self, id: ConnId, status: u16) {
        self.refuse(id, RejectCode::http(status));
        self.collect(None);
    }

    fn send(&mut self, now: Instant, id: ConnId, payload: Bytes) -> Result<(), SendRefused> {
        let open = self.conns.get_mut(&id).and_then(|conn| conn.open.as_mut());
        let open = open.ok_or(SendRefused::Gone)?;
        open.sender.push(micros(now, open.since), payload)
    }

    fn close(&mut self, now: Instant, id: ConnId) {
        if self.forget(id).is_some() {
            self.listener.close(sapflow_srt::ConnId(id.0), now);
            self.collect(None);
        }
    }

    fn backlog(&self, id: ConnId) -> usize {
        let open = self.conns.get(&id).and_then(|conn| conn.open.as_ref());
        open.map_or(0, |open| open.sender.backlog())
    }

    fn stats(&self, id: ConnId) -> Option<ConnStats> {
        let received = self.listener.connection_stats(sapflow_srt::ConnId(id.0))?;
        Some(self.conns.get(&id)?.stats(received))
    }

    fn port_stats(&self) -> PortStats {
        let stats = self.listener.stats();
        PortStats {
            malformed: stats.malformed,
            stray: stats.stray,
            bad_cookie: stats.bad_cookie,
            rate_limited: stats.rate_limited,
        }
    }

    fn connections(&self) -> usize {
        self.listener.connections()
    }
}

#[cfg(test)]
#[path = "sapflow_tests.rs"]
mod tests;
