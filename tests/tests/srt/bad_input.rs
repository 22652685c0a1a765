//! Hostile datagrams on the port while a stream goes on untouched.
//!
//! Not here: single malformed packets (unit tests of the transport).

use std::time::Duration;

use headwater_media::BroadcastState;
use tokio::net::UdpSocket;

use crate::programs::{Program, Video};
use crate::world::{World, frames, track};

/// A handshake's first packet (draft-sharabayko-srt-01 §4.3.1.1), as a half-open caller sends it.
fn induction(socket_id: u32) -> Vec<u8> {
    let mut packet = vec![0; 64];
    packet[0] = 0x80;
    packet[16..20].copy_from_slice(&4u32.to_be_bytes());
    packet[22..24].copy_from_slice(&2u16.to_be_bytes());
    packet[36..40].copy_from_slice(&1u32.to_be_bytes());
    packet[40..44].copy_from_slice(&socket_id.to_be_bytes());
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_half_open_callers_leave_a_stream_untouched() {
    let world = World::start(None);
    let publisher =
        Program::publish(Video::H264, 180, &World::url(world.address, "publish:cam", ""));
    let broadcast = world.broadcast("cam").await;
    let pictures = track(&broadcast, "video").await;
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut state = 1u64;
    // About five times the stream's own packets: enough to be in the way, and not so many that the
    // kernel drops the publisher's, which no server could help.
    for round in 0..10_000u32 {
        let datagram = if round % 2 == 0 {
            induction(round + 1)
        } else {
            let mut bytes = vec![0; (round % 3_000) as usize];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            bytes
        };
        // A full socket is no failure of the test.
        let _ = attacker.send_to(&datagram, world.address).await;
        if round % 4 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // All but what ffmpeg has not sent yet when it leaves, and what came before the first keyframe.
    let shown = frames(&pictures, 150).await;
    for pair in shown.windows(2) {
        assert_eq!(pair[0].dts.plus(pair[0].duration), pair[1].dts);
    }
    assert!(publisher.output().await.status.success());
    assert_ne!(broadcast.state(), BroadcastState::Ended);
    assert!(world.streams.list().len() == 1 && world.sessions.list().len() <= 1);
    world.stop().await;
}
