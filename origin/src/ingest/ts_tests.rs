//! Transport streams made by our multiplexer, whole and damaged, into a publisher.
//!
//! Not here: tables and packets of every kind (`media::ts`), real encoders (`tests/`).

use std::time::Duration;

use futures_util::FutureExt;
use headwater_media::codec::aac::adts::write_adts_header;
use headwater_media::codec::h264::H264Config;
use headwater_media::track::PartPlan;
use headwater_media::ts::{Muxer, PACKET_BYTES};
use headwater_media::{
    Broadcast, ConfigVersion, Frame, Item, Start, StreamName, Track, TrackConfig, TrackName,
};

use super::*;
use crate::clock::Clock;
use crate::ownership::alone::{Alone, pulls};
use crate::sessions::{Role, SessionHandle, SessionInfo, Sessions};
use crate::streams::{Streams, StreamsOptions};

/// High profile, level 3, 640x360.
const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
    0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
];
const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
const VIDEO_PID: u16 = 0x100;

struct World {
    streams: Streams,
    name: StreamName,
    _session: SessionHandle,
    ingest: TsIngest,
    muxer: Muxer,
    configs: [TrackConfig; 2],
    now: WallTime,
}

fn track_config(codec: Codec, rate: ClockRate, frame: u32) -> TrackConfig {
    let parts = PartPlan::for_cadence(frame, 1, rate, Duration::from_millis(200));
    TrackConfig { version: ConfigVersion(0), codec, rate, parts }
}

fn h264() -> H264Config {
    H264Config::from_parameter_sets(vec![SPS.into()], vec![PPS.into()]).unwrap()
}

fn aac() -> AacConfig {
    AacConfig::lc(48_000, 2).unwrap()
}

impl World {
    fn new() -> Self {
        let clock = Clock::start();
        let streams = Streams::new(clock, StreamsOptions::default(), Alone::new(), pulls());
        let name = StreamName::parse("cam").unwrap();
        let peer = "127.0.0.1:1".parse().unwrap();
        let info =
            SessionInfo { role: Role::Publisher, protocol: "srt", stream: name.clone(), peer };
        let session = Sessions::new(clock, 10).open(info).unwrap();
        let ingest =
            TsIngest::new(streams.publish(&name, &session).now_or_never().unwrap().unwrap());
        let rate = ClockRate::new(48_000).unwrap();
        let configs = [
            track_config(Codec::H264(h264()), ClockRate::VIDEO, 3_000),
            track_config(Codec::Aac(aac()), rate, 1_024),
        ];
        let muxer = Muxer::new(&configs).unwrap();
        let now = clock.now();
        Self { streams, name, _session: session, ingest, muxer, configs, now }
    }

    fn broadcast(&self) -> Broadcast {
        self.streams.get(&self.name).unwrap()
    }

    fn frame(time: MediaTime, keyframe: bool, payload: Vec<u8>) -> Frame {
        let duration = MediaDuration::new(1, time.rate());
        let payload = Bytes::from(payload);
        Frame { pts: time, dts: time, duration, keyframe, capture: WallTime(0), payload }
    }

    /// The packets of `seconds` of video at 30 frames a second with sound, a keyframe each second.
    fn packets(&mut self, seconds: i64) -> Vec<Vec<u8>> {
        let mut out = BytesMut::new();
        let rate = self.configs[1].rate;
        let mut sound = 0;
        for number in 0..seconds * 30 {
            let keyframe = number % 30 == 0;
            let mut unit =
                vec![if keyframe { 0x65 } else { 0x41 }, if keyframe { 0x88 } else { 0x9a }];
            unit.resize(700, 0x80 | number as u8);
            let mut payload = (unit.len() as u32).to_be_bytes().to_vec();
            payload.extend_from_slice(&unit);
            let time = MediaTime::new(number * 3_000, ClockRate::VIDEO);
            let frame = Self::frame(time, keyframe, payload);
            self.muxer.push(0, &frame, &self.configs[0], &mut out).unwrap();
            while sound * 1_024 < number * 1_600 {
                let time = MediaTime::new(sound * 1_024, rate);
                let frame = Self::frame(time, true, vec![0x21; 200]);
                self.muxer.push(1, &frame, &self.configs[1], &mut out).unwrap();
                sound += 1;
            }
        }
        out.chunks(PACKET_BYTES).map(<[u8]>::to_vec).collect()
    }

    fn push(&mut self, packets: &[Vec<u8>]) {
        for packet in packets {
            self.now = self.now.plus_micros(1_000);
            self.ingest.push(packet, self.now).unwrap();
        }
        self.ingest.finish(self.now).unwrap();
    }

    fn frames(&self, name: &str) -> Vec<Frame> {
        let track: Track = self.broadcast().track(&TrackName::parse(name).unwrap()).unwrap();
        let mut cursor = track.read(Start::Oldest);
        let next = || cursor.try_next().filter(|item| !matches!(item, Item::End));
        std::iter::from_fn(next)
            .filter_map(|item| match item {
                Item::Frame(place) => place.frame().cloned(),
                _ => None,
            })
            .collect()
    }

    fn warnings(&self) -> String {
        self.streams.snapshot(&self.name).unwrap().warnings.join("; ")
    }
}

#[tokio::test]
async fn video_and_sound_reach_the_bus_with_their_configuration_and_times() {
    let mut world = World::new();
    let packets = world.packets(3);
    world.push(&packets);
    let (pictures, sound) = (world.frames("video"), world.frames("audio"));
    assert!(pictures.len() >= 88 && pictures.len() <= 90, "{} pictures", pictures.len());
    assert!(sound.len() >= 130, "{} sounds", sound.len());
    for (frames, step) in [(&pictures, 3_000), (&sound, 1_024)] {
        for pair in frames.windows(2) {
            assert_eq!(pair[1].dts.since(pair[0].dts).ticks(), step);
        }
    }
    assert_eq!(pictures.iter().filter(|frame| frame.keyframe).count(), 3);
    let config = world.broadcast().track(&TrackName::video()).unwrap().config().unwrap();
    assert_eq!(config.codec, Codec::H264(h264()));
    assert_eq!(world.ingest.counts().dropped, 0);
    assert!(world.warnings().contains("B-frames"), "{}", world.warnings());
}

#[tokio::test]
async fn a_lost_packet_costs_the_frame_it_was_of_and_no_other() {
    let mut world = World::new();
    let mut packets = world.packets(3);
    // The middle packet of a video frame of four, in the second group.
    let of_video =
        |packet: &Vec<u8>| u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]) == VIDEO_PID;
    let starts: Vec<_> = (0..packets.len())
        .filter(|&at| of_video(&packets[at]) && packets[at][1] & 0x40 != 0)
        .collect();
    assert!(of_video(&packets[starts[45] + 1]) && packets[starts[45] + 1][1] & 0x40 == 0);
    packets.remove(starts[45] + 1);
    world.push(&packets);
    let counts = world.ingest.counts();
    assert_eq!(counts.dropped, 1);
    assert_eq!(counts.frames as usize, starts.len() - 1 + world.frames("audio").len());
}

#[tokio::test]
async fn garbage_makes_no_stream_and_no_error() {
    let mut world = World::new();
    let mut state = 1u64;
    let garbage: Vec<Vec<u8>> = (0..500)
        .map(|round| {
            let mut bytes = vec![0u8; 1_316];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            if round % 2 == 0 {
                bytes.iter_mut().step_by(PACKET_BYTES).for_each(|byte| *byte = 0x47);
            }
            bytes
        })
        .collect();
    world.push(&garbage);
    assert!(world.broadcast().tracks().is_empty());
    assert_eq!(world.ingest.counts(), TsCounts::default());
}

fn adts(frames: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..frames {
        bytes.extend_from_slice(&write_adts_header(&aac(), 100).unwrap());
        bytes.extend_from_slice(&[number; 100]);
    }
    bytes
}

fn pes(pts: Option<i64>, data: &[u8]) -> Pes {
    Pes { pid: 1, pts, dts: pts, data: Bytes::copy_from_slice(data), random_access: true }
}

fn found(found: &AudioFound) -> Vec<(i64, u8)> {
    found.frames.iter().map(|(time, payload)| (time.ticks(), payload[0])).collect()
}

#[test]
fn several_frames_in_a_pes_get_times_of_their_own() {
    let mut stream = AdtsStream::default();
    let first = stream.push(&pes(Some(9_000), &adts(3)));
    assert_eq!(found(&first), [(9_000, 0), (10_920, 1), (12_840, 2)]);
    assert_eq!(first.codec, Some(Codec::Aac(aac())));
    let second = stream.push(&pes(Some(14_760), &adts(1)));
    assert_eq!((found(&second), second.codec), (vec![(14_760, 0)], None));
}

#[test]
fn a_frame_cut_by_the_end_of_a_pes_keeps_its_place() {
    let bytes = adts(3);
    let mut stream = AdtsStream::default();
    let first = stream.push(&pes(Some(9_000), &bytes[..150]));
    assert_eq!(found(&first), [(9_000, 0)]);
    // The time of a PES is that of the first frame that begins in it.
    let second = stream.push(&pes(Some(50_000), &bytes[150..]));
    assert_eq!(found(&second), [(10_920, 1), (50_000, 2)]);
    assert!(second.damage.is_none() && stream.carry.is_empty());
}

#[test]
fn after_a_loss_frames_wait_for_a_time_stamp_and_garbage_is_passed_over() {
    let mut stream = AdtsStream::default();
    assert_eq!(stream.push(&pes(None, &adts(2))).untimed, 2);
    stream.push(&pes(Some(0), &adts(2)));
    stream.reset();
    let mut bytes = vec![0x55; 40];
    bytes.extend_from_slice(&adts(2));
    let after = stream.push(&pes(Some(90_000), &bytes));
    assert_eq!(found(&after), [(90_000, 0), (91_920, 1)]);
    assert!(after.damage.is_some());
}
