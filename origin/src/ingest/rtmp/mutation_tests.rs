//! A recorded good session, damaged at random with a seed: nothing may panic, overrun a limit or
//! loop.
//!
//! Not here: damage made by hand, with the error expected of it (beside each parser).

use bytes::BytesMut;

use super::error::RtmpError;
use super::session::{Event, Session, SessionLimits};
use super::testing::{RECORDED, RECORDED_AV1, RECORDED_H265};
use super::tracks::{TrackEvent, Tracks};

const LIMITS: SessionLimits =
    SessionLimits { message_bytes: 64 * 1024, buffered_bytes: 96 * 1024, chunk_streams: 16 };
/// The handshake, which has no structure worth damaging.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1_536;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// What a run came to.
#[derive(Default)]
struct Outcome {
    frames: usize,
    dropped_tags: usize,
    error: Option<RtmpError>,
}

fn run(bytes: &[u8], random: &mut Random) -> Outcome {
    let (mut session, mut tracks) = (Session::new(LIMITS, 1), Tracks::default());
    let (mut input, mut rest, mut outcome) = (BytesMut::new(), bytes, Outcome::default());
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(1 + random.below(5_000)));
        rest = later;
        session.received(piece.len());
        input.extend_from_slice(piece);
        loop {
            let event = match session.handle(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            };
            let parsed = match event {
                Event::Publish(_) => {
                    session.accept();
                    Ok(())
                }
                Event::Metadata(metadata) => {
                    tracks.metadata(&metadata);
                    Ok(())
                }
                Event::Video(time, body) => tracks.video(time, body),
                Event::Audio(time, body) => tracks.audio(time, body),
                Event::Unpublished => Ok(()),
                Event::Close(_) => return outcome,
            };
            outcome.dropped_tags += usize::from(parsed.is_err());
            while let Some(event) = tracks.poll() {
                outcome.frames += usize::from(matches!(event, TrackEvent::Frame(_)));
            }
        }
        assert!(input.len() <= HANDSHAKE_BYTES, "input is left lying: {}", input.len());
        assert!(session.take_output().len() < 64 * 1024, "answers grow without bound");
    }
    outcome
}

fn damaged(recording: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = recording.to_vec();
    for _ in 0..=random.below(6) {
        let at = HANDSHAKE_BYTES + random.below(bytes.len().saturating_sub(HANDSHAKE_BYTES));
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(6) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            1 => bytes.iter_mut().skip(at).take(1 + random.below(4)).for_each(|byte| *byte = 0xff),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let noise: Vec<_> =
                    (0..random.below(64)).map(|_| random.below(256) as u8).collect();
                bytes.splice(at..at, noise);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

#[test]
fn the_recordings_themselves_are_read_whole() {
    for (recording, frames) in
        [(RECORDED, 30 + 88), (RECORDED_H265, 15 + 76), (RECORDED_AV1, 10 + 51)]
    {
        let outcome = run(recording, &mut Random(1));
        assert_eq!(outcome.error, None);
        assert_eq!((outcome.frames, outcome.dropped_tags), (frames, 0));
    }
}

#[test]
fn damage_to_a_recorded_session_ends_in_errors_never_worse() {
    let (mut errors, mut survived, mut frames) = (0, 0, 0);
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let recording = [RECORDED, RECORDED_H265, RECORDED_AV1][random.below(3)];
        let outcome = run(&damaged(recording, &mut random), &mut random);
        errors += usize::from(outcome.error.is_some());
        survived += usize::from(outcome.error.is_none());
        frames += outcome.frames;
    }
    assert!(errors > 500 && survived > 500 && frames > 10_000, "{errors} {survived} {frames}");
}

#[test]
fn noise_after_the_handshake_ends_in_errors_never_worse() {
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let mut bytes = RECORDED[..HANDSHAKE_BYTES].to_vec();
        bytes.extend((0..random.below(20_000)).map(|_| random.below(256) as u8));
        let outcome = run(&bytes, &mut random);
        assert_eq!(outcome.frames, 0);
    }
}
