//! The transport against the library's own caller, in virtual time.
//!
//! Not here: real programs and sockets (`tests/`).

use sapflow_srt::caller::{Caller, CallerCloseReason, CallerConfig, CallerEvent};
use sapflow_srt::packet::ControlPacket;

use super::*;

const PEER: &str = "192.0.2.1:5000";
const SERVER: &str = "192.0.2.2:8890";
const SECRET: &str = "correct horse battery";

fn peer() -> SocketAddr {
    PEER.parse().unwrap()
}

#[allow(clippy::disallowed_methods, reason = "tests begin somewhere")]
fn start() -> Instant {
    Instant::now()
}

fn options(passphrase: Option<&str>) -> SrtOptions {
    SrtOptions { passphrase: passphrase.map(str::to_owned), ..SrtOptions::default() }
}

fn caller_config(stream_id: &str, secret: Option<(&str, KeySize)>) -> CallerConfig {
    let crypto =
        secret.map(|(text, size)| CryptoConfig::new(text.as_bytes().to_vec(), size).unwrap());
    CallerConfig { stream_id: stream_id.to_owned(), crypto, ..CallerConfig::default() }
}

/// One server and one caller on a perfect link; `answer` decides what happens to the caller.
struct World {
    server: Sapflow,
    caller: Caller,
    now: Instant,
    events: Vec<Event>,
    caller_events: Vec<CallerEvent>,
    answer: Option<u16>,
}

impl World {
    fn new(options: &SrtOptions, config: CallerConfig) -> Self {
        let now = start();
        let server = Sapflow::new(options, now).unwrap();
        let caller = Caller::with_ids(
            config,
            SERVER.parse().unwrap(),
            77,
            sapflow_srt::seq::Seq::new(5),
            now,
        )
        .unwrap();
        Self { server, caller, now, events: vec![], caller_events: vec![], answer: None }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += Duration::from_millis(1);
            self.caller.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            while let Some((_, datagram)) = self.caller.poll_transmit(self.now) {
                self.server.handle_datagram(self.now, peer(), &datagram);
            }
            while let Some(event) = self.server.poll_event() {
                if let Event::Connect { id, .. } = event {
                    match self.answer {
                        None => assert!(self.server.accept(self.now, id)),
                        Some(status) => self.server.reject(id, status),
                    }
                }
                self.events.push(event);
            }
            while let Some((to, datagram)) = self.server.poll_transmit(self.now) {
                assert_eq!(to, peer());
                self.caller.handle_datagram(self.now, SERVER.parse().unwrap(), &datagram);
            }
            while let Some(event) = self.caller.poll_event() {
                self.caller_events.push(event);
            }
        }
    }

    fn refused(&self) -> Option<u32> {
        self.events.iter().find_map(|event| match event {
            Event::Refused { code, .. } => Some(*code),
            _ => None,
        })
    }
}

#[test]
fn a_caller_publishes_plain_or_with_either_key_length() {
    for (secret, key_length) in
        [(None, 0), (Some((SECRET, KeySize::Aes128)), 16), (Some((SECRET, KeySize::Aes256)), 32)]
    {
        let options = options(secret.map(|(text, _)| text));
        let mut world = World::new(&options, caller_config("publish:cam", secret));
        world.run(100);
        assert!(world.caller.is_connected(), "{:?}", world.caller_events);
        for number in 0..50u8 {
            world.caller.enqueue(world.now, vec![number; 1316]).unwrap();
            world.run(2);
        }
        world.run(200);
        let Some(Event::Connect { id, stream_id, key_length: found, .. }) = world.events.first()
        else {
            panic!("{:?}", world.events)
        };
        assert_eq!((&stream_id[..], *found), (&b"publish:cam"[..], key_length));
        let stats = world.server.stats(*id).unwrap();
        assert_eq!((stats.packets_received, stats.packets_lost), (50, 0));
        let payloads: Vec<_> = world
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Data { payload, .. } => Some(payload.clone()),
                _ => None,
            })
            .collect();
        let expected: Vec<_> = (0..50u8).map(|number| vec![number; 1316]).collect();
        assert_eq!(payloads, expected);
    }
}

#[test]
fn secrets_that_do_not_match_are_refused_with_the_protocols_own_codes() {
    const BADSECRET: u32 = 10;
    const UNSECURE: u32 = 11;
    let with = |text| Some((text, KeySize::Aes256));
    for (ours, theirs, code) in [
        (Some(SECRET), with("another passphrase"), BADSECRET),
        (Some(SECRET), None, UNSECURE),
        (None, with(SECRET), UNSECURE),
    ] {
        let mut world = World::new(&options(ours), caller_config("publish:cam", theirs));
        world.run(100);
        let expected = CallerCloseReason::Rejected(1_000 + code);
        assert_eq!(world.caller_events, [CallerEvent::Closed { reason: expected }]);
        assert_eq!(world.refused(), Some(code));
        assert!(!world.events.iter().any(|event| matches!(event, Event::Connect { .. })));
        assert_eq!(world.server.connections(), 0);
        assert!(world.server.conns.is_empty() && world.server.by_caller.is_empty());
    }
}

#[test]
fn our_refusals_carry_the_http_status() {
    let mut world = World::new(&options(None), caller_config("publish:cam", None));
    world.answer = Some(409);
    world.run(100);
    let reason = CallerCloseReason::Rejected(2_409);
    assert_eq!(world.caller_events, [CallerEvent::Closed { reason }]);
    assert_eq!(world.refused(), Some(1_409));
    assert_eq!(world.server.connections(), 0);
}

#[test]
fn goodbyes_reach_the_other_side_both_ways() {
    let mut world = World::new(&options(None), caller_config("publish:cam", None));
    world.run(100);
    let Some(Event::Connect { id, .. }) = world.events.first() else { panic!() };
    let id = *id;
    world.server.close(world.now, id);
    world.run(5);
    assert_eq!(
        world.caller_events.last(),
        Some(&CallerEvent::Closed { reason: CallerCloseReason::PeerClosed })
    );
    assert!(world.server.stats(id).is_none());

    let mut world = World::new(&options(None), caller_config("publish:cam", None));
    world.run(100);
    world.caller.enqueue(world.now, vec![1; 188]).unwrap();
    world.run(5);
    world.caller.stop(world.now);
    world.run(5);
    let Some(Event::Closed { reason, stats, .. }) = world.events.last() else { panic!() };
    assert_eq!((*reason, stats.packets_received), (CloseReason::Shutdown, 1));
}

#[test]
fn a_silent_peer_is_dropped_after_the_idle_time() {
    let mut world = World::new(&options(None), caller_config("publish:cam", None));
    world.run(100);
    for _ in 0..6_000 {
        world.now += Duration::from_millis(1);
        world.server.handle_timeout(world.now);
    }
    let closed = std::iter::from_fn(|| world.server.poll_event()).last();
    let reason = CloseReason::Timeout;
    assert!(matches!(closed, Some(Event::Closed { reason: r, .. }) if r == reason), "{closed:?}");
    assert_eq!(world.server.connections(), 0);
}

#[test]
fn garbage_and_oversized_datagrams_are_counted_and_make_no_connection() {
    let now = start();
    let mut server = Sapflow::new(&options(None), now).unwrap();
    let mut state = 1u64;
    for round in 0..20_000usize {
        let mut datagram = vec![0u8; round % 1_600];
        for byte in &mut datagram {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        // Half of it looks like control packets of each type.
        if round % 2 == 0
            && let [first, second, ..] = &mut datagram[..]
        {
            (*first, *second) = (0x80, (round / 2 % 10) as u8);
        }
        server.handle_datagram(now, peer(), &datagram);
        while server.poll_event().is_some() {}
        while server.poll_transmit(now).is_some() {}
    }
    let stats = server.port_stats();
    assert!(stats.malformed > 1_000 && stats.stray > 1_000, "{stats:?}");
    assert_eq!(server.connections(), 0);
    assert!(server.conns.is_empty());
}

#[test]
fn a_flood_of_half_open_callers_is_bounded_and_leaves_nothing_behind() {
    let now = start();
    let mut server = Sapflow::new(&options(None), now).unwrap();
    let induction = |socket_id| {
        let body = Control::Handshake(Handshake {
            version: 4,
            encryption: 0,
            extension: 2,
            initial_seq: 1,
            mtu: 1_500,
            flow_window: 8_192,
            kind: HandshakeKind::Induction,
            socket_id,
            cookie: 0,
            peer_ip: [0; 16],
            extensions: Vec::new(),
        });
        let mut datagram = Vec::new();
        ControlPacket::new(0, 0, body).encode(&mut datagram);
        datagram
    };
    let mut answers = 0;
    for number in 0..10_000u32 {
        let from = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 1_024));
        server.handle_datagram(now, from, &induction(number + 1));
        while server.poll_transmit(now).is_some() {
            answers += 1;
        }
    }
    assert_eq!(answers, 2 * SrtOptions::default().handshakes_per_second);
    assert_eq!(server.port_stats().rate_limited, 10_000 - u64::from(answers));
    assert_eq!(server.connections(), 0);
    assert!(server.poll_timeout().is_none());
}

#[test]
fn callers_over_the_limit_of_connections_are_told_so() {
    const BACKLOG: u32 = 5;
    let options = SrtOptions { connections_max: 0, ..options(None) };
    let mut world = World::new(&options, caller_config("publish:cam", None));
    world.run(100);
    assert_eq!(world.refused(), Some(BACKLOG));
}

#[test]
fn passphrases_of_wrong_length_make_no_server() {
    for length in [0, 9, 80] {
        let options = options(Some(&"x".repeat(length)));
        assert!(Sapflow::new(&options, start()).is_none(), "{length}");
    }
}
