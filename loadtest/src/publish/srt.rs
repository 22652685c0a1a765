//! One publisher by SRT: MPEG-TS by `media::ts`, sent by the caller of `sapflow-srt`, which
//! numbers, keeps, resends and gives up packets as SRT says.
//!
//! Not here: encryption, reading.
#![allow(clippy::disallowed_methods, reason = "driver: reads clocks, waits")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use headwater_media::codec::aac::AacConfig;
use headwater_media::ts::Muxer;
use headwater_media::{
    ClockRate, Codec, ConfigVersion, Frame, MediaDuration, MediaTime, PartPlan, TrackConfig,
    WallTime,
};
use sapflow_srt::caller::{Caller, CallerCloseReason, CallerConfig, CallerEvent};
use sapflow_srt::sender::SendConfig;
use tokio::sync::watch;

use super::{Pace, Stream};
use crate::live::{Side, add, sub};
use crate::rtc::link::{Link, Outbox};
use crate::source::{Item, Program};

/// Bytes of a message: seven packets of MPEG-TS, as encoders send.
const MESSAGE_BYTES: usize = 7 * 188;
/// The sender's pace in bytes a second: its highest, so that a keyframe leaves at once and what
/// is measured is the server.
const PACE_BYTES: u64 = 1_000_000_000;
/// Packets that wait for their acknowledgement: half a minute at 2.5 Mb/s.
const WINDOW_PACKETS: usize = 8_192;
const WINDOW_BYTES: usize = 32 << 20;
/// Datagrams sent before the socket is read again.
const SENDS_MAX: usize = 4_096;
const VIDEO: usize = 0;
const AUDIO: usize = 1;
/// SRT's reject codes from here on are HTTP's status (SRT access control).
const REJECT_HTTP: u32 = 1_000;

/// Publishes until told to stop.
///
/// # Errors
/// The server refuses, or the connection is lost.
pub(super) async fn run(
    stream: &Stream,
    offset: Duration,
    side: &Arc<Side>,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut hosts = tokio::net::lookup_host(&stream.address)
        .await
        .with_context(|| format!("{} has no address", stream.address))?;
    let peer = hosts.next().with_context(|| format!("{} has no address", stream.address))?;
    let any: SocketAddr = if peer.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let send = SendConfig {
        max_packets: WINDOW_PACKETS,
        max_bytes: WINDOW_BYTES,
        max_payload: MESSAGE_BYTES,
        bandwidth: PACE_BYTES,
        ..SendConfig::default()
    };
    let mut stream_id = stream.name.clone();
    if let Some(token) = &stream.token {
        stream_id = format!("{stream_id}:{token}");
    }
    let config =
        CallerConfig { stream_id, latency: stream.srt_latency, send, ..CallerConfig::default() };
    let caller = Caller::new(config, peer, Instant::now())?;
    let link = Link::bind(any)?;
    let mut publisher = Publisher { caller, link, outbox: Outbox::default(), closed: None };
    let result = publisher.publish(stream, offset, side, stop).await;
    publisher.caller.stop(Instant::now());
    publisher.send();
    result
}

struct Publisher {
    caller: Caller,
    link: Link,
    outbox: Outbox,
    closed: Option<CallerCloseReason>,
}

impl Publisher {
    async fn publish(
        &mut self,
        stream: &Stream,
        offset: Duration,
        side: &Side,
        stop: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        while !self.caller.is_connected() {
            self.step(None, stop).await;
            if *stop.borrow() {
                return Ok(());
            }
            self.check(&stream.address)?;
        }
        add(&side.active, 1);
        let result = self.send_frames(stream, offset, side, stop).await;
        sub(&side.active, 1);
        result
    }

    async fn send_frames(
        &mut self,
        stream: &Stream,
        offset: Duration,
        side: &Side,
        stop: &mut watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut pace = Pace::new(stream, offset);
        let mut mux = Mux::new(&pace.program, stream)?;
        while !*stop.borrow() {
            while let Some(item) = pace.take(Instant::now()) {
                let video = matches!(item, Item::Video(_));
                let bytes = mux.push(item)?;
                if video {
                    add(&side.frames, 1);
                }
                add(&side.bytes, bytes as u64);
                // A packet that is not full waits for the next frame, if that comes at once:
                // here it does not, so it leaves short.
                while mux.out.has_remaining() {
                    let size = mux.out.len().min(MESSAGE_BYTES);
                    let message = mux.out.split_to(size).to_vec();
                    self.caller.enqueue(Instant::now(), message).map_err(|error| {
                        anyhow::anyhow!("the server acknowledges too little: {error}")
                    })?;
                }
            }
            self.step(Some(pace.due()), stop).await;
            self.check(&stream.address)?;
        }
        Ok(())
    }

    fn check(&mut self, address: &str) -> anyhow::Result<()> {
        match self.closed {
            None => Ok(()),
            Some(CallerCloseReason::Rejected(code)) if code >= REJECT_HTTP => {
                bail!("the server refuses with {code} (HTTP {})", code - REJECT_HTTP)
            }
            Some(CallerCloseReason::ConnectTimeout | CallerCloseReason::HandshakeLimit) => {
                bail!("no SRT listener answers at {address}")
            }
            Some(reason) => bail!("the connection ended: {reason:?}"),
        }
    }

    /// Sends, then reads and keeps time until `until` at most.
    async fn step(&mut self, until: Option<Instant>, stop: &mut watch::Receiver<bool>) {
        self.send();
        let now = Instant::now();
        let timeout = self.caller.poll_timeout().unwrap_or(now + Duration::from_secs(1));
        let deadline = until.map_or(timeout, |until| until.min(timeout));
        tokio::select! {
            biased;
            () = self.link.readable() => self.read(),
            () = tokio::time::sleep_until(deadline.into()) => {
                self.caller.handle_timeout(Instant::now());
            }
            _ = stop.wait_for(|stop| *stop) => {}
        }
        while let Some(event) = self.caller.poll_event() {
            if let CallerEvent::Closed { reason } = event {
                self.closed = Some(reason);
            }
        }
    }

    fn read(&mut self) {
        let Self { caller, link, .. } = self;
        while link.read(|source, bytes| caller.handle_datagram(Instant::now(), source, bytes)) {}
    }

    fn send(&mut self) {
        for _ in 0..SENDS_MAX {
            // One datagram at most for each microsecond: the pace is a gigabyte a second.
            let Some((to, datagram)) = self.caller.poll_transmit(Instant::now()) else { break };
            self.outbox.queue(to, &datagram);
        }
        self.outbox.flush(&self.link);
    }
}

/// MPEG-TS of a program.
struct Mux {
    muxer: Muxer,
    configs: Vec<TrackConfig>,
    interval: i64,
    out: BytesMut,
}

impl Mux {
    fn new(program: &Program, stream: &Stream) -> anyhow::Result<Self> {
        let config = |codec, rate| TrackConfig {
            version: ConfigVersion(0),
            codec,
            rate,
            parts: PartPlan { target_ticks: 1, frame_ticks: 1 },
        };
        let video = Codec::H264(program.video().config()?);
        let mut configs = vec![config(video, ClockRate::VIDEO)];
        if stream.settings.audio {
            configs.push(config(Codec::Aac(AacConfig::lc(48_000, 2)?), ClockRate::OPUS));
        }
        let interval = stream.settings.frame_interval_us() * 9 / 100;
        Ok(Self {
            muxer: Muxer::new(&configs)?,
            configs,
            interval: i64::try_from(interval)?,
            out: BytesMut::new(),
        })
    }

    /// Appends an item; gives its bytes in the container.
    fn push(&mut self, item: Item) -> anyhow::Result<usize> {
        let before = self.out.len();
        let time = |ticks: u64, rate| MediaTime::new(i64::try_from(ticks).unwrap_or(0), rate);
        let (track, frame) = match item {
            Item::Video(unit) => (
                VIDEO,
                Frame {
                    pts: time(unit.pts, ClockRate::VIDEO),
                    dts: time(unit.dts, ClockRate::VIDEO),
                    duration: MediaDuration::new(self.interval, ClockRate::VIDEO),
                    keyframe: unit.keyframe,
                    capture: WallTime(0),
                    payload: unit.picture(),
                },
            ),
            Item::Audio { pts, packet } => (
                AUDIO,
                Frame {
                    pts: time(pts, ClockRate::OPUS),
                    dts: time(pts, ClockRate::OPUS),
                    duration: MediaDuration::new(1_024, ClockRate::OPUS),
                    keyframe: true,
                    capture: WallTime(0),
                    payload: packet.into(),
                },
            ),
        };
        let config = self.configs.get(track).context("there is no such track")?;
        self.muxer.push(track, &frame, config, &mut self.out)?;
        Ok(self.out.len() - before)
    }
}
