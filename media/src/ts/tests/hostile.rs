//! The demultiplexer against what nobody should send: endless frames, damage, garbage.
//!
//! Not here: correct streams (the module beside this one).

use super::*;

/// The beginning of a PES without length on the video's PID, then `count` full packets.
fn endless(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..=count).map(|index| {
        let start = if index == 0 { 0x41 } else { 0x01 };
        let mut packet = vec![0x47, start, 0, 0x10 | (index % 16) as u8];
        if index == 0 {
            packet.extend([0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1]);
        }
        packet.resize(PACKET_BYTES, 0xaa);
        packet
    })
}

#[test]
fn a_pes_of_fifty_megabytes_is_refused_in_bounded_memory() {
    let mut demuxer = Demuxer::new(DemuxOptions::default());
    demuxer.push(&mux(&[h264()], &[(0, video(0, 0, true, 10))])[..2 * PACKET_BYTES]);
    drain(&mut demuxer);
    let (mut lost_events, mut most) = (Vec::new(), 0);
    for packet in endless(50_000_000 / 184) {
        demuxer.push(&packet);
        most = most.max(demuxer.buffered());
        lost_events.extend(lost(&drain(&mut demuxer)));
    }
    assert_eq!(lost_events, [(Some(VIDEO_PID), LostReason::TooLarge)]);
    assert!(most > 15 << 20 && most <= 16 << 20, "{most}");
    demuxer.finish();
    assert_eq!(demuxer.poll(), None);
}

#[test]
fn streams_under_way_share_one_limit() {
    let options = DemuxOptions { pes_bytes_max: 10_000, buffered_bytes_max: 12_000 };
    let mut demuxer = Demuxer::new(options);
    let tables = mux(&[h264(), h264()], &[(0, video(0, 0, true, 10))]);
    demuxer.push(&tables[..2 * PACKET_BYTES]);
    let mut most = 0;
    for packet in endless(48) {
        for pid in [0, 1] {
            let mut packet = packet.clone();
            packet[2] = pid;
            demuxer.push(&packet);
            most = most.max(demuxer.buffered());
        }
    }
    assert!(most > 11_000 && most <= 12_000, "{most}");
    assert!(lost(&drain(&mut demuxer)).contains(&(Some(0x101), LostReason::TooLarge)));
}

#[test]
fn a_hundred_thousand_tiny_pes_all_come() {
    let frames: Vec<_> =
        (0..100_000).map(|i| (0, frame(ClockRate::OPUS, i * 120, 0, true, vec![1; 3]))).collect();
    let events = demux(&mux(&[opus()], &frames), CHUNK_BYTES);
    assert_eq!(pes(&events, VIDEO_PID).len(), frames.len());
}

/// A small generator (xorshift), so that a seed makes a whole bad day.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[test]
fn damage_of_every_kind_makes_events_and_never_a_panic() {
    let frames = show(WRAP - 50_000);
    let clean = mux(&[h264(), aac()], &frames);
    for seed in 1..400u64 {
        let mut noise = Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = clean.to_vec();
        for _ in 0..noise.below(60) {
            let at = noise.below(bytes.len());
            match noise.below(4) {
                0 => bytes[at] = noise.next() as u8,
                1 => bytes.truncate((at + 1).max(bytes.len() / 2)),
                2 => drop(bytes.drain(at..(at + noise.below(400)).min(bytes.len() - 1))),
                // Headers are where it hurts.
                _ => {
                    let header = at / PACKET_BYTES * PACKET_BYTES + noise.below(20);
                    let value = noise.next() as u8;
                    bytes.get_mut(header).into_iter().for_each(|byte| *byte = value);
                }
            }
        }
        let mut demuxer = Demuxer::new(DemuxOptions::default());
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at((1 + noise.below(2_000)).min(rest.len()));
            demuxer.push(chunk);
            rest = after;
            assert!(demuxer.buffered() <= bytes.len());
        }
        demuxer.finish();
        let events = drain(&mut demuxer);
        assert!(pes(&events, VIDEO_PID).iter().all(|pes| pes.data.len() < 70_000), "seed {seed}");
    }
}

#[test]
fn garbage_gives_no_media() {
    let mut noise = Noise(7);
    let mut demuxer = Demuxer::new(DemuxOptions::default());
    for round in 0..2_000 {
        let mut bytes: Vec<u8> = (0..CHUNK_BYTES).map(|_| noise.next() as u8).collect();
        if round % 2 == 0 {
            bytes.chunks_mut(PACKET_BYTES).for_each(|packet| packet[0] = 0x47);
        }
        demuxer.push(&bytes);
        let events = drain(&mut demuxer);
        assert!(events.iter().all(|event| matches!(event, Event::Lost { .. })), "{events:?}");
    }
    assert_eq!(demuxer.buffered(), 0);
    assert!(demuxer.stats().lost > 0);
}

#[test]
fn tables_with_sound_crc_and_senseless_contents_are_survived() {
    let mut noise = Noise(11);
    let mut demuxer = Demuxer::new(DemuxOptions::default());
    let (mut tracks, mut most) = (0i64, 0);
    for round in 0..20_000 {
        // Half the time a PAT that names PIDs 0x20 to 0x2f, else a map on one of these.
        let length = noise.below(160);
        let mut body: Vec<u8> = (0..length).map(|_| noise.next() as u8).collect();
        let bytes = if round % 2 == 0 {
            for entry in body.chunks_mut(4).filter(|entry| entry.len() == 4) {
                entry.copy_from_slice(&[0, 1 + entry[1] % 2, 0xe0, 0x20 | entry[3] & 0x0f]);
            }
            table(0, 0, 1, &body)
        } else {
            // A sound list of streams, of which one byte in two maps is wrong.
            body = vec![0xe1, 0, 0xf0, 0];
            for _ in 0..noise.below(30) {
                let stream_type = [0x1b, 0x24, 0x0f, 0x06, 0x03][noise.below(5)];
                body.extend([stream_type, 0xe0, noise.below(256) as u8, 0xf0, 0]);
            }
            let (at, value) = (noise.below(2 * body.len()), noise.next() as u8);
            body.get_mut(at).into_iter().for_each(|byte| *byte = value);
            let program = 1 + noise.below(2) as u16;
            table(0x20 | noise.below(16) as u16, 2, program, &body)
        };
        demuxer.push(&bytes);
        for event in drain(&mut demuxer) {
            match event {
                Event::Track { .. } => tracks += 1,
                Event::TrackEnded { .. } => tracks -= 1,
                _ => {}
            }
        }
        assert!((0..=32).contains(&tracks), "{tracks} tracks in round {round}");
        most = most.max(tracks);
    }
    assert!(most > 10, "no map was believed: the test reaches nothing");
}
