use std::f32::consts::TAU;

use bytes::Bytes;
use headwater_media::frame::GroupHeader;
use headwater_media::limits::BusLimits;
use headwater_media::{
    ClockRate, ConfigVersion, DiscontinuitySeq, Epoch, Frame, GroupSeq, MediaDuration, MediaTime,
    PartPlan, TrackConfig, TrackWriter, WallTime,
};

use super::codecs::{Decoder, Encoder, RATE};
use super::*;

/// A click: silence with a short tone burst in each second, by which delay can be measured.
fn click_track(samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|n| {
            let at = n % RATE as usize;
            if (12_000..12_480).contains(&at) { (n as f32 * TAU / 48.0).sin() * 0.8 } else { 0.0 }
        })
        .collect()
}

/// The sample at which the first burst begins.
fn onset(samples: &[f32]) -> Option<usize> {
    samples.iter().position(|sample| sample.abs() > 0.25)
}

struct Source {
    broadcast: Broadcast,
    writer: TrackWriter,
    config: Arc<TrackConfig>,
    packets: Vec<Vec<u8>>,
    size: usize,
    delay: i64,
}

fn source(codec: AudioTarget, seconds: usize) -> Source {
    let broadcast = Broadcast::new(StreamName::parse("a").unwrap(), BusLimits::default());
    let writer = broadcast.add_track(TrackName::audio(), MediaKind::Audio).unwrap();
    let mut encoder = Encoder::new(codec, 2, 128_000).unwrap();
    let size = encoder.frame_samples();
    let sound = click_track(seconds * RATE as usize);
    let packets = sound
        .chunks_exact(size)
        .filter_map(|block| encoder.encode(&[block.to_vec(), block.to_vec()]).unwrap())
        .collect();
    let config = Arc::new(TrackConfig {
        version: ConfigVersion(3),
        codec: encoder.codec().unwrap(),
        rate: ClockRate::OPUS,
        parts: PartPlan { target_ticks: 9_600, frame_ticks: size as u32 },
    });
    let delay = encoder.delay() as i64;
    Source { broadcast, writer, config, packets, size, delay }
}

/// A second of room before the first sample.
const BASE: i64 = 48_000;

impl Source {
    fn begin_group(&mut self, seq: u64, packet: usize) {
        let start = MediaTime::new(self.at(packet), ClockRate::OPUS);
        self.writer
            .begin_group(GroupHeader {
                seq: GroupSeq(seq),
                epoch: Epoch(1),
                discontinuity: DiscontinuitySeq(0),
                start,
                wall: WallTime(start.micros()),
                independent: true,
                expected_frames: None,
                target_duration_s: Some(2),
                config: Arc::clone(&self.config),
            })
            .unwrap();
    }

    fn at(&self, packet: usize) -> i64 {
        BASE + (packet * self.size) as i64 - self.delay
    }

    /// Writes all packets but those in `lost`, in groups of about two seconds.
    fn write(&mut self, lost: std::ops::Range<usize>) {
        let group = 2 * RATE as usize / self.size;
        for n in 0..self.packets.len() {
            if n % group == 0 {
                self.begin_group((n / group) as u64, n);
            }
            if lost.contains(&n) {
                continue;
            }
            let pts = MediaTime::new(self.at(n), ClockRate::OPUS);
            let frame = Frame {
                pts,
                dts: pts,
                duration: MediaDuration::new(self.size as i64, ClockRate::OPUS),
                keyframe: true,
                capture: WallTime(0),
                payload: Bytes::from(self.packets[n].clone()),
            };
            self.writer.append(frame).unwrap();
        }
    }
}

/// Decodes a whole track; gives the position of its first sample and the left plane.
fn decode(track: &Track) -> (i64, Vec<f32>) {
    let mut decoder = Decoder::new(&track.config().unwrap().codec).unwrap();
    let mut planes = vec![Vec::new(); decoder.channels];
    let mut first = None;
    for group in track.window().iter() {
        for n in 0..group.len() {
            let frame = group.frame(n).unwrap();
            first.get_or_insert(frame.pts.ticks());
            decoder.decode(&frame.payload, &mut planes).unwrap();
        }
    }
    (first.unwrap(), planes.swap_remove(0))
}

async fn bridged(source: &Source, target: AudioTarget) -> (Track, Option<Listening>) {
    let bridges = AudioBridges::new(Clock::start(), AudioOptions::default(), Arc::new(|_| true));
    let wait = Duration::from_secs(10);
    let (track, listening) = bridges.track(&source.broadcast, target, wait).await.unwrap();
    let last = source.broadcast.track(&TrackName::audio()).unwrap().newest().unwrap().end();
    tokio::time::timeout(wait, async {
        while track.newest().is_none_or(|group| last.since(group.end()).micros() > 100_000) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the bridge catches up");
    (track, listening)
}

#[tokio::test]
async fn the_sound_stays_within_five_milliseconds_of_where_it_was() {
    for (from, to) in [(AudioTarget::Aac, AudioTarget::Opus), (AudioTarget::Opus, AudioTarget::Aac)]
    {
        let mut source = source(from, 6);
        source.write(0..0);
        let (track, _listening) = bridged(&source, to).await;
        let (first, samples) = decode(&track);
        let heard = first + onset(&samples).unwrap() as i64;
        let wanted = BASE + 12_000;
        assert!(
            (heard - wanted).abs() <= 240,
            "{from:?} to {to:?}: {} samples off",
            heard - wanted
        );
    }
}

#[tokio::test]
async fn the_bridge_cuts_its_groups_where_the_source_did_under_the_same_numbers() {
    let mut source = source(AudioTarget::Opus, 7);
    source.write(0..0);
    let (track, _listening) = bridged(&source, AudioTarget::Aac).await;
    let from = source.broadcast.track(&TrackName::audio()).unwrap().window();
    let made = track.window();
    assert_eq!(made.len(), from.len());
    for (made, from) in made.iter().zip(from.iter()) {
        assert_eq!(made.seq(), from.seq());
        let apart = made.header().start.since(from.header().start).micros();
        assert!(apart.abs() <= 22_000, "{apart} µs apart");
        let wall = made.header().wall.micros_since(from.header().wall);
        assert!((wall - apart).abs() <= 1);
        assert_eq!(made.header().target_duration_s, Some(2));
        assert_eq!(made.header().config.version, ConfigVersion(3));
    }
}

#[tokio::test]
async fn lost_packets_become_silence_and_what_follows_stays_in_place() {
    let mut source = source(AudioTarget::Opus, 6);
    // The first burst and more: 600 ms.
    source.write(5..35);
    let (track, _listening) = bridged(&source, AudioTarget::Aac).await;
    let (first, samples) = decode(&track);
    let second = (BASE + 48_000 - first) as usize;
    let heard = second + onset(&samples[second..]).unwrap();
    let wanted = second + 12_000;
    assert!(heard.abs_diff(wanted) <= 240, "{heard} for {wanted}");
}

#[tokio::test]
async fn garbage_packets_do_not_stop_the_bridge() {
    let mut source = source(AudioTarget::Aac, 6);
    for n in (10..200).step_by(7) {
        source.packets[n] = vec![0xff; 50];
    }
    source.write(0..0);
    let (track, _listening) = bridged(&source, AudioTarget::Opus).await;
    let (_, samples) = decode(&track);
    assert!(onset(&samples).is_some());
}

#[tokio::test]
async fn no_bridge_is_made_where_none_is_needed() {
    let mut source = source(AudioTarget::Opus, 1);
    source.write(0..0);
    let bridges = AudioBridges::new(Clock::start(), AudioOptions::default(), Arc::new(|_| true));
    let wait = Duration::from_secs(1);
    let (track, listening) =
        bridges.track(&source.broadcast, AudioTarget::Opus, wait).await.unwrap();
    assert_eq!(track.name(), &TrackName::audio());
    assert!(listening.is_none());
    assert_eq!(source.broadcast.tracks().len(), 1);
}

#[tokio::test]
async fn a_bridge_ends_after_its_last_listener_and_can_begin_again() {
    let mut source = source(AudioTarget::Opus, 4);
    source.write(0..0);
    let options = AudioOptions { linger: Duration::ZERO, ..AudioOptions::default() };
    let bridges = AudioBridges::new(Clock::start(), options, Arc::new(|_| true));
    let wait = Duration::from_secs(10);
    for round in 0..2u64 {
        let wanted = bridges.track(&source.broadcast, AudioTarget::Aac, wait).await.unwrap();
        assert_eq!(source.broadcast.tracks().len(), 2);
        drop(wanted);
        let name = AudioTarget::Aac.track_name();
        let mut watch = source.broadcast.watch();
        // Idleness is looked at where a group begins.
        source.begin_group(1_000 + round, source.packets.len());
        tokio::time::timeout(wait, async {
            while source.broadcast.track(&name).is_some() {
                watch.changed().await;
            }
        })
        .await
        .expect("the bridge ends");
    }
}

#[tokio::test]
async fn what_another_node_publishes_is_not_transcoded_here_but_taken_from_there() {
    let mut opus = source(AudioTarget::Opus, 1);
    opus.write(0..0);
    let here = AudioBridges::new(Clock::start(), AudioOptions::default(), Arc::new(|_| false));
    let (broadcast, target) = (opus.broadcast.clone(), AudioTarget::Aac);
    assert!(here.listen(&broadcast, target).is_none());
    assert!(here.comes_from_elsewhere(&broadcast));
    assert!(broadcast.track(&target.track_name()).is_none(), "nothing was begun");
    // Another node's bridge stands for the hop that brings the track.
    let owner = AudioBridges::new(Clock::start(), AudioOptions::default(), Arc::new(|_| true));
    let waiting = here.track(&broadcast, target, Duration::from_secs(5));
    let (found, _made) = tokio::join!(waiting, async { owner.listen(&broadcast, target) });
    assert_eq!(*found.unwrap().0.name(), target.track_name());
}
