//! Runs one hot path a given number of times, for a tool that counts instructions:
//! `instructions PATH TIMES`.
//!
//! Not here: counting (`tests/guard/run`), what the paths are (`paths`).
#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, bail};
use headwater_sfu::bench::Fanout;
use headwater_tests::paths::{FRAME_BYTES, PAYLOAD_BYTES, Parts, PlaylistRequests};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("which path?")?;
    let times: usize = arguments.next().context("how many times?")?.parse()?;
    match path.as_str() {
        // A packet: sixteen viewers, frames of nine packets.
        "packet" => {
            let packets = FRAME_BYTES.div_ceil(PAYLOAD_BYTES);
            let mut fanout = Fanout::new(16, packets, PAYLOAD_BYTES, Instant::now());
            (0..times).for_each(|_| {
                black_box(fanout.frame());
            });
        }
        // A part of six frames, and the playlist that lists it.
        "part" => {
            let mut parts = Parts::new()?;
            for _ in 0..times {
                black_box(parts.part()?);
            }
        }
        // A request for a playlist that is there.
        "playlist" => {
            let requests = PlaylistRequests::new()?;
            for _ in 0..times {
                black_box(requests.one());
            }
        }
        other => bail!("there is no path '{other}'; there are packet, part and playlist"),
    }
    Ok(())
}
