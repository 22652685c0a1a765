//! What a hop costs: delay and bytes. Run by hand, for it needs a quiet machine:
//! `cargo nextest run -p headwater-relay --run-ignored only --no-capture`.
//!
//! Not here: whether it works (`plain`, `faults`).

use std::time::{Duration, Instant, SystemTime};

use headwater_media::{Item, Start, Track, TrackName, WallTime};

use super::world::{Edge, Origin, until};
use crate::testing::{Feeder, broadcast};

const STREAMS: usize = 10;
const SECONDS: u64 = 20;

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    WallTime(i64::try_from(since.as_micros()).unwrap())
}

/// Delays from each frame's writing to its reading, in microseconds.
async fn read(track: Track) -> Vec<i64> {
    let mut cursor = track.read(Start::Next);
    let mut delays = Vec::new();
    loop {
        match cursor.next().await {
            Item::Frame(at) => delays.push(wall().micros_since(at.frame().unwrap().capture)),
            Item::End => return delays,
            _ => {}
        }
    }
}

fn cpu() -> Duration {
    // User and system time of the process, in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A second of a stream: 30 pictures of 10.4 kB on average (2.5 Mb/s), 50 packets of 160 B.
async fn publish(mut pictures: Feeder, mut sound: Feeder, start: Instant, phase: Duration) -> u64 {
    pictures.capture = Some(wall);
    sound.capture = Some(wall);
    pictures.frame_bytes = 9_530;
    sound.frame_bytes = 160;
    let mut bytes = 0;
    for tick in 0..SECONDS * 150 {
        let at = start + phase + Duration::from_micros(tick * 1_000_000 / 150);
        tokio::time::sleep_until(at.into()).await;
        if tick % 300 == 0 {
            pictures.group(tick / 300 + 1, true);
            sound.group(tick / 300 + 1, true);
        }
        if tick % 5 == 0 {
            let frame = pictures.make(tick % 300 == 0);
            bytes += frame.payload.len() as u64;
            pictures.writer.append(frame).unwrap();
        }
        if tick % 3 == 0 {
            let frame = sound.make(false);
            bytes += frame.payload.len() as u64;
            sound.writer.append(frame).unwrap();
        }
    }
    pictures.writer.finish();
    sound.writer.finish();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn delay_and_overhead_of_a_hop() {
    let origin = Origin::new();
    let mut feeders = Vec::new();
    for number in 0..STREAMS {
        let here = broadcast(&format!("s{number}"));
        origin.add(&here, 1);
        feeders.push((Feeder::video(&here), Feeder::audio(&here)));
    }
    let hop = origin.hop(origin.address()).await;
    let edge = Edge::new(std::slice::from_ref(&hop));
    let pulls: Vec<_> = (0..STREAMS).map(|number| edge.pull(&format!("s{number}"))).collect();
    until("the lists", || pulls.iter().all(|pull| pull.broadcast().tracks().len() == 2)).await;
    let tracks = |name: &TrackName| -> Vec<Track> {
        pulls.iter().map(|pull| pull.broadcast().track(name).unwrap()).collect()
    };
    let local: Vec<_> =
        feeders.iter().map(|(pictures, _)| tokio::spawn(read(pictures.track()))).collect();
    let seen: Vec<_> =
        tracks(&TrackName::video()).into_iter().map(|t| tokio::spawn(read(t))).collect();
    let heard: Vec<_> =
        tracks(&TrackName::audio()).into_iter().map(|t| tokio::spawn(read(t))).collect();
    let (start, before) = (Instant::now() + Duration::from_millis(50), cpu());
    let publishers: Vec<_> = feeders
        .into_iter()
        .enumerate()
        .map(|(number, (pictures, sound))| {
            let phase = Duration::from_micros(3_100 * number as u64);
            tokio::spawn(publish(pictures, sound, start, phase))
        })
        .collect();
    let mut payload = 0;
    for publisher in publishers {
        payload += publisher.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let used = cpu() - before;
    let stats = origin.ends()[0].connection().stats();
    let mut frames = 0;
    for (what, readers) in
        [("bus alone, video", local), ("hop, video", seen), ("hop, audio", heard)]
    {
        let mut delays = Vec::new();
        for reader in readers {
            delays.extend(
                tokio::time::timeout(Duration::from_secs(1), reader).await.unwrap().unwrap(),
            );
        }
        delays.sort_unstable();
        let at = |part: usize| delays[(delays.len() - 1) * part / 1_000];
        println!(
            "{what}: {} frames, p50 {} µs, p95 {} µs, p99 {} µs, most {} µs",
            delays.len(),
            at(500),
            at(950),
            at(990),
            at(1_000)
        );
        frames += delays.len();
    }
    let sent = stats.udp_tx.bytes;
    let on_ip = sent + 28 * stats.udp_tx.datagrams;
    let over = |bytes: u64| (bytes as f64 / payload as f64 - 1.0) * 100.0;
    println!(
        "payload {payload} B; UDP payloads {sent} B, {:.2} % more; with UDP and IPv4 headers \
        {on_ip} B, {:.2} % more; {} datagrams, MTU {}",
        over(sent),
        over(on_ip),
        stats.udp_tx.datagrams,
        stats.path.current_mtu
    );
    println!("the way back: {} B in {} datagrams", stats.udp_rx.bytes, stats.udp_rx.datagrams);
    println!(
        "CPU of both ends and this test: {used:?}, {:.1} µs a frame that crossed the hop",
        used.as_micros() as f64 / (frames as f64 * 80.0 / 110.0)
    );
}
