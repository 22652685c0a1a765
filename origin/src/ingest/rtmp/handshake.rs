//! The server's half of the RTMP handshake (RTMP 1.0 §5.2).
//!
//! Clients that begin the digest handshake are answered in the plain way: S1's version field is
//! 0, upon which they skip the digests' check.
//! Not here: RTMPE (encrypted), which is refused by its version byte.

use bytes::{Buf, BufMut, BytesMut};

use super::error::RtmpError;

/// C1, C2, S1 and S2.
const PACKET_BYTES: usize = 1_536;
const VERSION: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waiting for C0 and C1.
    Greeting,
    /// Waiting for C2.
    Echo,
    Done,
}

/// The handshake as a state machine.
#[derive(Debug)]
pub struct Handshake {
    stage: Stage,
    seed: u64,
}

impl Handshake {
    /// A handshake whose S1 is filled from `seed`. It need not be secret.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { stage: Stage::Greeting, seed }
    }

    /// Takes what it can from `input` and appends the answers to `out`; true once it is over.
    ///
    /// # Errors
    /// When the client does not speak RTMP version 3.
    pub fn handle(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<bool, RtmpError> {
        if self.stage == Stage::Greeting {
            match input.first() {
                Some(&VERSION) => {}
                Some(&other) => return Err(RtmpError::Version(other)),
                None => return Ok(false),
            }
            if input.len() < 1 + PACKET_BYTES {
                return Ok(false);
            }
            input.advance(1);
            let c1 = input.split_to(PACKET_BYTES);
            self.answer(&c1, out);
            self.stage = Stage::Echo;
        }
        if self.stage == Stage::Echo {
            // C2 should echo S1. Many clients get it wrong, and nothing hangs on it.
            if input.len() < PACKET_BYTES {
                return Ok(false);
            }
            input.advance(PACKET_BYTES);
            self.stage = Stage::Done;
        }
        Ok(true)
    }

    fn answer(&mut self, c1: &[u8], out: &mut BytesMut) {
        out.reserve(1 + 2 * PACKET_BYTES);
        out.put_u8(VERSION);
        out.put_u64(0); // time and version
        for _ in 0..(PACKET_BYTES - 8) / 8 {
            // SplitMix64
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            out.put_u64(mixed ^ (mixed >> 31));
        }
        out.put_slice(c1);
    }
}

const _: () = assert!(PACKET_BYTES.is_multiple_of(8), "S1 is filled eight bytes at a time");

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> BytesMut {
        let mut bytes = BytesMut::from(&[VERSION][..]);
        bytes.extend((0..PACKET_BYTES).map(|at| (at % 251) as u8));
        bytes
    }

    #[test]
    fn a_client_gets_its_c1_back_and_is_through_after_c2() {
        let (mut handshake, mut out) = (Handshake::new(1), BytesMut::new());
        let mut input = greeting();
        let c1 = input[1..].to_vec();
        assert_eq!(handshake.handle(&mut input, &mut out), Ok(false));
        assert_eq!(out.len(), 1 + 2 * PACKET_BYTES);
        assert_eq!(out[0], VERSION);
        assert_eq!(out[5..9], [0; 4], "a version of 0 turns the digest check off");
        assert_eq!(out[1 + PACKET_BYTES..], c1);
        let mut input = BytesMut::zeroed(PACKET_BYTES + 3);
        assert_eq!(handshake.handle(&mut input, &mut out), Ok(true));
        assert_eq!(input.len(), 3, "what follows C2 is left for the chunks");
    }

    #[test]
    fn a_handshake_may_come_byte_by_byte() {
        let (mut handshake, mut out) = (Handshake::new(1), BytesMut::new());
        let mut all = greeting();
        all.extend_from_slice(&[0; PACKET_BYTES]);
        let mut input = BytesMut::new();
        for (at, byte) in all.iter().enumerate() {
            input.put_u8(*byte);
            let over = handshake.handle(&mut input, &mut out).unwrap();
            assert_eq!(over, at + 1 == all.len());
        }
    }

    #[test]
    fn other_protocols_are_turned_away_at_their_first_byte() {
        for first in [b'G', 0x16, 6, 0] {
            let (mut handshake, mut out) = (Handshake::new(1), BytesMut::new());
            let mut input = BytesMut::from(&[first][..]);
            assert_eq!(handshake.handle(&mut input, &mut out), Err(RtmpError::Version(first)));
            assert!(out.is_empty());
        }
    }
}
