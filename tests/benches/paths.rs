//! Times the hot paths beside the floor that each stands on: `cargo bench -p headwater-tests`.
//!
//! Not here: the paths (`headwater_tests::paths`, `headwater_sfu::bench`).
#![allow(missing_docs, reason = "divan makes items of its own")]
#![allow(clippy::expect_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]

use std::time::Instant;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use headwater_sfu::bench::{Fanout, Sealing, packetize_h264};
use headwater_tests::paths::{Bus, FRAME_BYTES, PAYLOAD_BYTES, Parts, PlaylistRequests};

const PACKETS: usize = FRAME_BYTES.div_ceil(PAYLOAD_BYTES);

fn main() {
    divan::main();
}

/// The floor of everything that copies: one packet's payload.
#[divan::bench]
fn floor_copy_of_a_payload(bencher: Bencher) {
    let payload = vec![1_u8; PAYLOAD_BYTES];
    let mut room = vec![0_u8; PAYLOAD_BYTES];
    bencher.counter(BytesCount::new(PAYLOAD_BYTES)).bench_local(|| {
        black_box(&mut room).copy_from_slice(black_box(&payload));
    });
}

/// The floor of the packet path: encryption of one packet, with its copy.
#[divan::bench]
fn floor_sealing_of_a_packet(bencher: Bencher) {
    let mut sealing = Sealing::new(PAYLOAD_BYTES);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| sealing.packet());
}

/// A frame to viewers: the items are packets.
#[divan::bench(args = [1, 10, 100])]
fn packets_of_a_frame_to_viewers(bencher: Bencher, viewers: usize) {
    let mut fanout = Fanout::new(viewers, PACKETS, PAYLOAD_BYTES, Instant::now());
    bencher.counter(ItemsCount::new(viewers * PACKETS)).bench_local(|| fanout.frame());
}

/// A frame into payloads, once for all viewers.
#[divan::bench]
fn packetizing_of_a_frame(bencher: Bencher) {
    let mut unit = vec![0x41_u8; FRAME_BYTES];
    let length = u32::try_from(FRAME_BYTES - 4).expect("a frame's length").to_be_bytes();
    unit[..4].copy_from_slice(&length);
    bencher
        .counter(BytesCount::new(FRAME_BYTES))
        .bench_local(|| packetize_h264(black_box(&unit), PAYLOAD_BYTES));
}

/// A frame onto the bus, and off it again by every reader: the items are reads.
#[divan::bench(args = [1, 10, 1_000])]
fn frame_over_the_bus_to_readers(bencher: Bencher, readers: usize) {
    let mut bus = Bus::new(readers).expect("a bus");
    bencher.counter(ItemsCount::new(readers)).bench_local(|| bus.frame().expect("a frame"));
}

/// A part of six frames and its playlist.
#[divan::bench]
fn part_and_playlist(bencher: Bencher) {
    let mut parts = Parts::new().expect("a packager");
    bencher.bench_local(|| parts.part().expect("a part"));
}

/// A playlist that is there, asked for.
#[divan::bench]
fn playlist_request(bencher: Bencher) {
    let requests = PlaylistRequests::new().expect("a service");
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| requests.one());
}
