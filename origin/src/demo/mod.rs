//! The built-in test stream (driver): a moving picture with a burnt-in clock, and a tone,
//! published through the same interface as any publisher.
//!
//! Not here: serving it. `headwater demo` is `serve` with this beside it.

mod font;
mod picture;
mod sound;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use headwater_media::codec::h264;
use headwater_media::codec::opus::OpusConfig;
use headwater_media::{ClockRate, Codec, MediaKind, MediaTime, StreamName};
use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Encoder, EncoderConfig, FrameRate, IntraFramePeriod, Profile, RateControlMode,
};
use thiserror::Error;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::picture::Picture;
use self::sound::Tone;
use crate::clock::Clock;
use crate::ingest::{Publisher, PushError, RawFrame, TrackId};
use crate::sessions::{OpenError, Role, SessionCounters, SessionInfo, Sessions};
use crate::streams::{PublishError, Streams};

/// A little less than two seconds, so that the frame that reaches them is the keyframe.
const KEYFRAME_INTERVAL_MICROS: i64 = 1_990_000;

/// The test stream's settings.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Its name (`demo`).
    pub stream: StreamName,
    /// Columns, even (1280).
    pub width: usize,
    /// Rows, even (720).
    pub height: usize,
    /// Frames a second (30).
    pub fps: u32,
    /// Bits a second of the picture (2.5 Mb/s).
    pub bitrate_bps: u32,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            stream: StreamName::parse("demo").unwrap_or_else(|_| unreachable!("a valid name")),
            width: 1_280,
            height: 720,
            fps: 30,
            bitrate_bps: 2_500_000,
        }
    }
}

/// Why the test stream ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The node has all the sessions it may have.
    #[error(transparent)]
    Session(#[from] OpenError),
    /// The stream cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A frame was refused for good.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The picture's encoder failed.
    #[error("H.264 encoder: {0}")]
    Video(#[from] openh264::Error),
    /// The tone's encoder failed.
    #[error("Opus encoder: {0}")]
    Audio(#[from] opus::Error),
    /// What the encoder made cannot be read.
    #[error(transparent)]
    Codec(#[from] headwater_media::codec::CodecError),
    /// The thread that encodes is gone.
    #[error("the demo's encoder stopped")]
    Stopped,
}

/// Publishes the test stream until `shutdown`, or until its session is ended.
///
/// # Errors
/// The stream cannot be published, or an encoder fails.
pub async fn run(
    options: DemoOptions,
    streams: Streams,
    sessions: Sessions,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), DemoError> {
    let session = sessions.open(SessionInfo {
        role: Role::Publisher,
        protocol: "demo",
        stream: options.stream.clone(),
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    })?;
    let publisher = streams.publish(&options.stream, &session).await?;
    let ended = publisher.ended();
    let counters = Arc::clone(session.counters());
    let mut studio = Studio::new(&options, publisher, counters, clock)?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / options.fps.max(1));
    // A machine that cannot keep up drops frames, as a camera would.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = ended.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        // Encoding takes milliseconds: off the threads that serve.
        studio = tokio::task::spawn_blocking(move || studio.shoot())
            .await
            .map_err(|_| DemoError::Stopped)??;
    }
}

/// Camera, microphone and encoders.
struct Studio {
    clock: Clock,
    publisher: Publisher,
    counters: Arc<SessionCounters>,
    video: TrackId,
    audio: TrackId,
    picture: Picture,
    encoder: Encoder,
    units: h264::AccessUnits,
    tone: Tone,
    /// Where the timeline began, in microseconds of wall-clock time.
    begun: i64,
    frames: u64,
    /// When the next keyframe is due, likewise.
    next_keyframe: i64,
}

impl Studio {
    fn new(
        options: &DemoOptions,
        mut publisher: Publisher,
        counters: Arc<SessionCounters>,
        clock: Clock,
    ) -> Result<Self, DemoError> {
        let config = EncoderConfig::new()
            .max_frame_rate(FrameRate::from_hz(options.fps as f32))
            .bitrate(BitRate::from_bps(options.bitrate_bps))
            .rate_control_mode(RateControlMode::Bitrate)
            .profile(Profile::Baseline)
            // Keyframes come by the clock: a machine that drops frames must not stretch them apart.
            .intra_frame_period(IntraFramePeriod::from_num_frames(0))
            .scene_change_detect(false)
            .num_threads(1);
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)?;
        let video = publisher.add_track(MediaKind::Video)?;
        let audio = publisher.add_track(MediaKind::Audio)?;
        let opus = OpusConfig { channels: 1, pre_skip: 0, input_sample_rate: 48_000 };
        publisher.configure(audio, Codec::Opus(opus))?;
        Ok(Self {
            clock,
            publisher,
            counters,
            video,
            audio,
            picture: Picture::new(options.width, options.height),
            encoder,
            units: h264::AccessUnits::default(),
            tone: Tone::new()?,
            begun: clock.now().micros(),
            frames: 0,
            next_keyframe: 0,
        })
    }

    /// Draws, encodes and publishes one frame, and the sound up to it.
    fn shoot(mut self) -> Result<Self, DemoError> {
        let now = self.clock.now();
        self.picture.draw(now.micros().div_euclid(1_000), self.frames);
        self.frames += 1;
        if now.micros() >= self.next_keyframe {
            self.encoder.force_intra_frame();
            self.next_keyframe = now.micros() + KEYFRAME_INTERVAL_MICROS;
        }
        let bits = self.encoder.encode(&self.picture)?.to_vec();
        let unit = self.units.annex_b(&bits)?;
        if let Some(config) = unit.config_changed {
            self.publisher.configure(self.video, Codec::H264(config))?;
        }
        let at = MediaTime::new(now.micros() - self.begun, ClockRate::MICROS);
        let at = at.to_rate(ClockRate::VIDEO);
        let frame = RawFrame {
            pts: at,
            dts: at,
            keyframe: unit.keyframe,
            capture: Some(now),
            payload: unit.payload,
        };
        // Empty where the encoder's rate control left the frame out.
        if !frame.payload.is_empty() {
            self.push(self.video, frame)?;
        }
        while self.tone.position_micros() < now.micros() - self.begun {
            let at = MediaTime::new(self.tone.position_samples(), ClockRate::OPUS);
            let frame = RawFrame {
                pts: at,
                dts: at,
                keyframe: true,
                capture: Some(now),
                payload: Bytes::from(self.tone.packet(self.begun)?),
            };
            self.push(self.audio, frame)?;
        }
        Ok(self)
    }

    fn push(&mut self, track: TrackId, frame: RawFrame) -> Result<(), PushError> {
        let bytes = u64::try_from(frame.payload.len()).unwrap_or(u64::MAX);
        self.counters.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        self.counters.frames_in.fetch_add(1, Ordering::Relaxed);
        self.publisher.push(track, frame, self.clock.now())
    }
}
