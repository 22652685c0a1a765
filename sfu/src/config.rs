//! Options and limits of the SFU, and which ICE candidates follow from them.
//!
//! Not here: parsing of the node's config file (`origin`), binding (`api`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Options of the SFU. Every field has a default; the limits protect the node from peers.
#[derive(Clone, Debug)]
pub struct SfuConfig {
    /// Address of the first worker (`[webrtc] listen`, `0.0.0.0:8189`); worker *n* listens on
    /// `port + n`, UDP and TCP. Port 0 gives every worker a free port of its own.
    pub listen: SocketAddr,
    /// Worker threads (`[webrtc] workers`, the number of cores). Sessions are spread over them
    /// by load.
    pub workers: usize,
    /// Addresses advertised as ICE candidates (`[webrtc] public_addresses`). Empty: the listen
    /// address or, when that is a wildcard, the machine's own addresses.
    pub public_addresses: Vec<IpAddr>,
    /// Whether ICE-TCP is offered too (RFC 6544 passive candidates, RFC 4571 framing).
    pub tcp: bool,
    /// Publishers and viewers at once, all workers together.
    pub sessions_max: usize,
    /// Sessions that have an answer but no DTLS yet, all workers together. A client that only
    /// posts offers fills this, not the sessions.
    pub half_open_max: usize,
    /// How long a session may take from its answer to DTLS.
    pub handshake_timeout: Duration,
    /// A connected peer that sends nothing for this long is gone. Full ICE agents send a consent
    /// check about every 5 s (RFC 7675).
    pub idle_timeout: Duration,
    /// How often publishers are asked for a keyframe; the length of groups and of segments.
    pub keyframe_interval: Duration,
    /// Shortest time between keyframe requests made because viewers ask.
    pub keyframe_spacing: Duration,
    /// Bits a second that a publisher is told to stay under (REMB, where the publisher does no
    /// estimation of its own).
    pub publisher_bitrate_max: u64,
    /// Bytes of RTP payload in a packet. All packets of a frame but the last are this long, so
    /// that they leave in one GSO batch; with headers they must fit the path's MTU.
    pub payload_bytes: usize,
    /// Frames that wait for one viewer, over all its tracks. A viewer that has more waiting skips
    /// to a keyframe.
    pub viewer_queue_frames: usize,
    /// Packets kept for resending, a viewer's track.
    pub rtx_packets: usize,
    /// Age at which a packet is not resent any more.
    pub rtx_age: Duration,
    /// Part of the bytes sent that may be resent packets; above it resends are dropped.
    pub rtx_ratio: f32,
    /// TCP connections of a worker that have not proved to belong to a session.
    pub tcp_half_open_max: usize,
    /// Longest datagram, or RFC 4571 frame over TCP, that is taken from a peer, in bytes.
    pub tcp_frame_bytes_max: usize,
    /// Frames waiting to be written to one TCP peer; further ones are dropped.
    pub tcp_queue_frames: usize,
    /// `SO_RCVBUF` and `SO_SNDBUF` of the UDP sockets, in bytes.
    pub socket_buffer_bytes: usize,
    /// Bytes of an SDP offer or of an ICE fragment.
    pub sdp_bytes_max: usize,
    /// Remote addresses one session may use at once; packets from further ones are dropped.
    pub peer_addresses_max: usize,
}

impl Default for SfuConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8189),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            public_addresses: Vec::new(),
            tcp: true,
            sessions_max: 10_000,
            half_open_max: 512,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(15),
            keyframe_interval: Duration::from_secs(2),
            keyframe_spacing: Duration::from_secs(1),
            publisher_bitrate_max: 20_000_000,
            payload_bytes: 1_160,
            viewer_queue_frames: 1_024,
            rtx_packets: 512,
            rtx_age: Duration::from_secs(1),
            rtx_ratio: 0.15,
            tcp_half_open_max: 128,
            tcp_frame_bytes_max: 4_096,
            tcp_queue_frames: 1_024,
            socket_buffer_bytes: 4 << 20,
            sdp_bytes_max: 64 << 10,
            peer_addresses_max: 8,
        }
    }
}

/// The addresses that a worker bound to `bound` advertises: the configured ones, else the bound
/// one, else every address in `machine` of a fitting family. None twice, loopback last.
pub(crate) fn candidate_addresses(
    bound: SocketAddr,
    public: &[IpAddr],
    machine: &[IpAddr],
) -> Vec<SocketAddr> {
    let mut addresses: Vec<IpAddr> = if !public.is_empty() {
        public.to_vec()
    } else if !bound.ip().is_unspecified() {
        vec![bound.ip()]
    } else {
        let loopback: &[IpAddr] = if bound.is_ipv4() {
            &[IpAddr::V4(Ipv4Addr::LOCALHOST)]
        } else {
            &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        };
        let fits = |ip: &&IpAddr| {
            (ip.is_ipv4() || bound.is_ipv6()) && !ip.is_loopback() && !is_link_local(**ip)
        };
        machine.iter().filter(fits).chain(loopback).copied().collect()
    };
    let mut seen = Vec::new();
    addresses.retain(|ip| {
        let fresh = !seen.contains(ip);
        seen.push(*ip);
        fresh
    });
    addresses.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}

/// Link-local addresses need a zone to be of use, which ICE candidates cannot carry.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_the_public_the_bound_or_the_machines_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let machine = [ip("127.0.0.1"), ip("10.0.0.3"), ip("fe80::1"), ip("fd00::3")];
        for (bound, public, expected) in [
            ("0.0.0.0:7", vec![], vec!["10.0.0.3:7", "127.0.0.1:7"]),
            ("[::]:7", vec![], vec!["10.0.0.3:7", "[fd00::3]:7", "127.0.0.1:7", "[::1]:7"]),
            ("10.0.0.9:7", vec![], vec!["10.0.0.9:7"]),
            (
                "0.0.0.0:8",
                vec!["203.0.113.5", "203.0.113.5", "198.51.100.1"],
                vec!["203.0.113.5:8", "198.51.100.1:8"],
            ),
        ] {
            let public: Vec<_> = public.into_iter().map(ip).collect();
            let got = candidate_addresses(bound.parse().unwrap(), &public, &machine);
            let expected: Vec<SocketAddr> =
                expected.into_iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(got, expected, "{bound}");
        }
    }
}
