//! Publishers: a task each, that makes frames when they are due and hands them to its protocol.
//!
//! Not here: what frames are made of (`source`).
#![allow(clippy::disallowed_methods, reason = "driver: reads clocks, waits")]

mod rtmp;
mod srt;
mod whip;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::now_us;
use crate::live::Side;
use crate::rtc::Engine;
use crate::source::{AudioCodec, Item, Program, Settings};

/// How streams are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// WebRTC by WHIP.
    Whip,
    /// MPEG-TS by SRT.
    Srt,
    /// FLV by RTMP.
    Rtmp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Whip, Self::Srt, Self::Rtmp];

    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Srt => "srt",
            Self::Rtmp => "rtmp",
        }
    }

    fn audio(self) -> AudioCodec {
        match self {
            Self::Whip => AudioCodec::Opus,
            Self::Srt | Self::Rtmp => AudioCodec::Aac,
        }
    }
}

/// One stream to publish.
#[derive(Debug, Clone)]
pub struct Stream {
    /// How.
    pub protocol: Protocol,
    /// Where: a URL for WHIP, host and port for SRT and RTMP.
    pub address: String,
    /// Under which name: the stream id of SRT, application and key of RTMP.
    pub name: String,
    /// Its number, which its stamps bear.
    pub number: u32,
    /// What it is made of.
    pub settings: Settings,
    /// A bearer token.
    pub token: Option<String>,
    /// Latency that SRT is asked for.
    pub srt_latency: Duration,
}

/// Publishers at work.
pub struct Publishers {
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Publishers {
    /// Starts all streams; the first frames of each are spread over a frame's interval, so that
    /// they do not all come at one moment. Each counts on the side that `side` gives.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn start(
        streams: Vec<Stream>,
        side: impl Fn(Protocol) -> Arc<Side>,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let engine = Engine::new()?;
        let count = streams.len().max(1);
        let mut tasks = Vec::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let interval = Duration::from_micros(stream.settings.frame_interval_us());
            let offset = interval * u32::try_from(index).unwrap_or(0)
                / u32::try_from(count).unwrap_or(u32::MAX);
            let side = side(stream.protocol);
            let (engine, mut stopped) = (engine.clone(), stopped.clone());
            tasks.push(tokio::spawn(async move {
                crate::live::add(&side.started, 1);
                let run = async {
                    match stream.protocol {
                        Protocol::Whip => {
                            let whip = whip::run(&stream, &engine, offset, &side, &mut stopped);
                            Box::pin(whip).await
                        }
                        Protocol::Srt => srt::run(&stream, offset, &side, &mut stopped).await,
                        Protocol::Rtmp => rtmp::run(&stream, offset, &side, &mut stopped).await,
                    }
                };
                if let Err(error) = run.await {
                    side.fail(format!("{}: {error:#}", stream.protocol.name()));
                }
            }));
        }
        Ok(Self { tasks, stop })
    }

    /// Ends all, and waits until they have.
    pub async fn stop(self) {
        // Those that failed have ended already.
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// When a program's items are due on the clock.
struct Pace {
    program: Program,
    began: Instant,
}

impl Pace {
    fn new(stream: &Stream, offset: Duration) -> Self {
        let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(stream.number) + 1);
        let audio = stream.protocol.audio();
        let mut program = Program::new(stream.settings, audio, stream.number, seed);
        if stream.protocol == Protocol::Whip {
            program.keyframes_on_request();
        }
        Self { program, began: Instant::now() + offset }
    }

    fn due(&self) -> Instant {
        self.began + Duration::from_micros(self.program.due_us())
    }

    /// The next item, if it is due.
    fn take(&mut self, now: Instant) -> Option<Item> {
        (self.due() <= now).then(|| self.program.next_item(now_us()))
    }
}
