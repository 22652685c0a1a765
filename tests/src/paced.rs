//! A publisher inside the process that sends made-up frames at their pace, at any frame rate, with
//! sound beside them. What it costs is nothing, so that tests measure the node and not an encoder.
//!
//! Not here: pictures that can be decoded (the encoders of the other tests).
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use headwater::clock::Clock;
use headwater::ingest::{Publisher, RawFrame, TrackId};
use headwater::sessions::{Role, SessionHandle, SessionInfo, Sessions};
use headwater::streams::Streams;
use headwater_media::codec::Resolution;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::codec::vp9::Vp9Config;
use headwater_media::{ClockRate, Codec, MediaKind, MediaTime, StreamName};
use tokio::time::Instant;

/// What to publish.
#[derive(Clone, Debug)]
pub struct Program {
    /// The stream's name.
    pub stream: String,
    /// Length of a video frame in ticks of 90 kHz, as a ratio; none for sound alone.
    pub frame: Option<(u32, u32)>,
    /// Frames from one keyframe to the next.
    pub keyframe_every: u64,
}

/// Bytes of a video frame; keyframes have five times as many.
const VIDEO_BYTES: usize = 2_000;
/// Bytes of 20 ms of sound.
const AUDIO_BYTES: usize = 160;
/// Ticks of 48 kHz in a packet of sound.
const AUDIO_TICKS: i64 = 960;

/// The first byte of an Opus packet of one frame of 20 ms, stereo (RFC 6716, 3.1).
const OPUS_20_MS: u8 = 0xfc;

/// Where to publish.
#[derive(Clone)]
pub struct Stage {
    /// The node's streams.
    pub streams: Streams,
    /// The node's sessions.
    pub sessions: Sessions,
    /// The node's clock.
    pub clock: Clock,
}

/// Publishes until the task is dropped.
///
/// # Errors
/// The node refuses the stream or a frame.
pub async fn publish(stage: Stage, program: Program) -> anyhow::Result<()> {
    let name = StreamName::parse(&program.stream)?;
    let session = open(&stage, &name)?;
    let mut publisher = stage.streams.publish(&name, &session).await?;
    let video = program.frame.map(|_| publisher.add_track(MediaKind::Video)).transpose()?;
    let audio = publisher.add_track(MediaKind::Audio)?;
    if let Some(video) = video {
        publisher.configure(video, vp9())?;
    }
    let opus = OpusConfig { channels: 2, pre_skip: 312, input_sample_rate: 48_000 };
    publisher.configure(audio, Codec::Opus(opus))?;

    let began = Instant::now();
    let (mut pictures, mut packets) = (0u64, 0u64);
    loop {
        let (video_at, video_ticks) = program.frame.map_or((Duration::MAX, 0), |(num, den)| {
            let ticks = pictures * u64::from(num) / u64::from(den);
            (Duration::from_secs_f64(ticks as f64 / 90_000.0), i64::try_from(ticks).unwrap_or(0))
        });
        let audio_ticks = i64::try_from(packets)? * AUDIO_TICKS;
        let audio_at = Duration::from_millis(packets * 20);
        tokio::time::sleep_until(began + video_at.min(audio_at)).await;
        if let Some(video) = video.filter(|_| video_at <= audio_at) {
            let keyframe = pictures.is_multiple_of(program.keyframe_every);
            let size = if keyframe { 5 * VIDEO_BYTES } else { VIDEO_BYTES };
            let at = MediaTime::new(video_ticks, ClockRate::VIDEO);
            push(&mut publisher, video, at, keyframe, size, stage.clock)?;
            pictures += 1;
        } else {
            let at = MediaTime::new(audio_ticks, ClockRate::OPUS);
            push(&mut publisher, audio, at, true, AUDIO_BYTES, stage.clock)?;
            packets += 1;
        }
    }
}

fn open(stage: &Stage, name: &StreamName) -> anyhow::Result<SessionHandle> {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let info = SessionInfo { role: Role::Publisher, protocol: "demo", stream: name.clone(), peer };
    stage.sessions.open(info).context("the session is refused")
}

fn push(
    publisher: &mut Publisher,
    track: TrackId,
    at: MediaTime,
    keyframe: bool,
    size: usize,
    clock: Clock,
) -> anyhow::Result<()> {
    let mark = u8::try_from(at.ticks().rem_euclid(251)).unwrap_or(0);
    let mut payload = vec![mark; size];
    if let Some(first) = payload.first_mut() {
        *first = OPUS_20_MS;
    }
    let payload = Bytes::from(payload);
    let frame = RawFrame { pts: at, dts: at, keyframe, capture: None, payload };
    publisher.push(track, frame, clock.now())?;
    Ok(())
}

fn vp9() -> Codec {
    Codec::Vp9(Vp9Config {
        profile: 0,
        level: 31,
        bit_depth: 8,
        chroma_subsampling: 1,
        full_range: false,
        resolution: Resolution { width: 1280, height: 720 },
    })
}
