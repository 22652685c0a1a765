//! Workloads of the packet path, for benchmarks and for the guard that counts instructions.
//!
//! Not here: measuring. Not part of the interface.

use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::crypto::dtls::SrtpProfile;

use crate::egress::keys::{SrtpKeys, provider};
use crate::egress::stream::{Egress, FrameOut, Identity, PayloadTypes, Stream};
use crate::egress::{ExtensionIds, Path, Resends, Runs, Sealer};
use crate::packetize::{Held, Packets};

/// AES-256-GCM: what browsers and we agree on.
const MATERIAL_BYTES: usize = 88;

fn sealer() -> Sealer {
    let material = (0..MATERIAL_BYTES).map(|byte| byte as u8).collect();
    let keys = SrtpKeys { profile: SrtpProfile::AEAD_AES_256_GCM, material, active: false };
    match Sealer::new(&provider(), &keys) {
        Ok(sealer) => sealer,
        Err(_) => unreachable!("the material has the profile's length"),
    }
}

fn payloads(count: usize, bytes: usize) -> Vec<Arc<[u8]>> {
    (0..count).map(|n| Arc::from(vec![n as u8; bytes])).collect()
}

/// One frame after the other to many viewers: headers, sealing, runs; all but the system call.
pub struct Fanout {
    viewers: Vec<(Stream, Sealer, Path)>,
    packets: Arc<Held>,
    runs: Runs,
    now: Instant,
    frame: u32,
}

impl Fanout {
    /// So many viewers of frames of so many packets with payloads of so many bytes.
    #[must_use]
    pub fn new(viewers: usize, packets: usize, payload_bytes: usize, now: Instant) -> Self {
        let viewer = |n: usize| {
            let identity = Identity {
                ssrc: n as u32,
                resent_ssrc: Some(!(n as u32)),
                mid: String::from("0"),
                extensions: ExtensionIds { mid: Some(4), playout_delay: Some(12) },
                cname: String::from("bench"),
                rate_hz: 90_000,
            };
            let resends = Resends::new(512, Duration::from_secs(1), 0.15);
            let destination = ([127, 0, 0, 1], n as u16).into();
            let path = Path { tcp: false, destination, from: None };
            (Stream::new(identity, 1, resends), sealer(), path)
        };
        let mut runs = Runs::default();
        runs.set_segments_max(usize::MAX);
        Self {
            viewers: (0..viewers).map(viewer).collect(),
            packets: Held::new(Arc::new(Packets::of(payloads(packets, payload_bytes)))),
            runs,
            now,
            frame: 0,
        }
    }

    /// Writes one more frame to everybody; gives the bytes that would leave.
    pub fn frame(&mut self) -> usize {
        self.frame += 1;
        self.now += Duration::from_millis(33);
        let mut bytes = 0;
        for (stream, sealer, path) in &mut self.viewers {
            let mut out = Egress { sealer, runs: &mut self.runs, path: *path };
            let frame = FrameOut {
                packets: &self.packets,
                from: 0,
                time: self.frame.wrapping_mul(3_000),
                marked: true,
                keyframe: false,
            };
            let types = PayloadTypes { first: 96, resent: Some(97) };
            let mut budget = i64::MAX;
            stream.send(&mut out, &frame, types, self.now, self.now, &mut budget);
            while let Some(run) = self.runs.pop_udp() {
                bytes += run.bytes().len();
                self.runs.recycle(run);
            }
        }
        bytes
    }
}

/// The floor of [`Fanout`]: encryption alone, packet by packet, by the same cipher.
pub struct Sealing {
    sealer: Sealer,
    payload: Arc<[u8]>,
    packet: Vec<u8>,
    index: u64,
}

impl Sealing {
    /// Packets with payloads of so many bytes.
    #[must_use]
    pub fn new(payload_bytes: usize) -> Self {
        const HEADER_BYTES: usize = 12;
        let sealer = sealer();
        let packet = vec![0; HEADER_BYTES + payload_bytes + sealer.tag_bytes()];
        Self { sealer, payload: Arc::from(vec![1; payload_bytes]), packet, index: 0 }
    }

    /// Seals one packet.
    pub fn packet(&mut self) {
        self.index += 1;
        let header = self.packet.len() - self.payload.len() - self.sealer.tag_bytes();
        self.sealer.rtp(&mut self.packet, header, &self.payload, 1, self.index);
    }
}

/// Packetizes an H.264 access unit of length-prefixed NAL units; gives the number of packets.
#[must_use]
pub fn packetize_h264(access_unit: &[u8], payload_bytes: usize) -> usize {
    crate::packetize::h264_payloads(access_unit, payload_bytes).len()
}
