//! Workloads of the hot paths without sockets: what benchmarks time and the guard counts.
//!
//! Not here: measuring (`benches/paths.rs`, `tests/run instructions`), whole servers (`loadtest`).
#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use headwater::auth::Access;
use headwater::http::hls::{HlsOptions, HlsService, NoDemand};
use headwater::packager::parts::Cutter;
use headwater::packager::playlist;
use headwater::packager::window::Window;
use headwater::packager::{Packager, PackagerOptions, WindowOptions};
use headwater_media::codec::Resolution;
use headwater_media::codec::vp9::Vp9Config;
use headwater_media::limits::BusLimits;
use headwater_media::{
    Broadcast, BroadcastState, ClockRate, Codec, ConfigVersion, Cursor, DiscontinuitySeq, Epoch,
    Frame, GroupHeader, GroupSeq, MediaDuration, MediaKind, MediaTime, PartPlan, Start, StreamName,
    TrackConfig, TrackName, TrackWriter, WallTime,
};
use http::Request;

/// Bytes of a frame: 2.5 Mb/s at 30 frames a second.
pub const FRAME_BYTES: usize = 10_416;
/// RTP payload bytes of a packet, as the node's default.
pub const PAYLOAD_BYTES: usize = 1_160;
const FRAME_TICKS: i64 = 3_000;
const FRAMES_A_GROUP: u64 = 60;
/// Frames of a part of 200 ms.
pub const FRAMES_A_PART: usize = 6;

/// A video track that frames are appended to, 30 a second in groups of two seconds.
pub struct Source {
    broadcast: Broadcast,
    writer: TrackWriter,
    payload: Bytes,
    frames: u64,
}

impl Source {
    /// A track of a broadcast named `bench`.
    ///
    /// # Errors
    /// Never, but for a limit of the bus that a test has set.
    pub fn new() -> anyhow::Result<Self> {
        let name = StreamName::parse("bench")?;
        let broadcast = Broadcast::new(name, BusLimits::default());
        let track = TrackName::parse("video").context("a track's name")?;
        let writer = broadcast.add_track(track, MediaKind::Video).context("a track")?;
        broadcast.set_state(BroadcastState::Live);
        Ok(Self { broadcast, writer, payload: Bytes::from(vec![7; FRAME_BYTES]), frames: 0 })
    }

    /// A reader of the track from its next group on.
    #[must_use]
    pub fn reader(&self) -> Cursor {
        self.writer.track().read(Start::Newest)
    }

    /// Appends a frame, and begins a group where one is due.
    ///
    /// # Errors
    /// Never, but for a limit of the bus that a test has set.
    pub fn frame(&mut self) -> anyhow::Result<()> {
        let at = i64::try_from(self.frames)? * FRAME_TICKS;
        let dts = MediaTime::new(at, ClockRate::VIDEO);
        let keyframe = self.frames.is_multiple_of(FRAMES_A_GROUP);
        if keyframe {
            self.writer.begin_group(self.header(dts))?;
        }
        self.frames += 1;
        self.writer.append(Frame {
            pts: dts,
            dts,
            duration: MediaDuration::new(FRAME_TICKS, ClockRate::VIDEO),
            keyframe,
            capture: WallTime(0),
            payload: self.payload.clone(),
        })?;
        Ok(())
    }

    fn header(&self, start: MediaTime) -> GroupHeader {
        let parts = PartPlan::for_cadence(3_000, 1, ClockRate::VIDEO, Duration::from_millis(200));
        let codec = Codec::Vp9(Vp9Config {
            profile: 0,
            level: 31,
            bit_depth: 8,
            chroma_subsampling: 1,
            full_range: false,
            resolution: Resolution { width: 1280, height: 720 },
        });
        let config =
            TrackConfig { version: ConfigVersion(0), codec, rate: ClockRate::VIDEO, parts };
        GroupHeader {
            seq: GroupSeq(self.frames / FRAMES_A_GROUP),
            epoch: Epoch(1),
            discontinuity: DiscontinuitySeq(0),
            start,
            wall: WallTime(1_795_384_844_000_000).plus_micros(start.micros()),
            independent: true,
            expected_frames: Some(60),
            target_duration_s: Some(2),
            config: config.into(),
        }
    }
}

/// The bus with some readers.
pub struct Bus {
    source: Source,
    readers: Vec<Cursor>,
}

impl Bus {
    /// A bus with so many readers.
    ///
    /// # Errors
    /// As [`Source::new`].
    pub fn new(readers: usize) -> anyhow::Result<Self> {
        let source = Source::new()?;
        let readers = (0..readers).map(|_| source.reader()).collect();
        Ok(Self { source, readers })
    }

    /// Appends a frame and lets everybody read; gives how many items were read.
    ///
    /// # Errors
    /// As [`Source::frame`].
    pub fn frame(&mut self) -> anyhow::Result<usize> {
        self.source.frame()?;
        let read = |reader: &mut Cursor| std::iter::from_fn(|| reader.try_next()).count();
        Ok(self.readers.iter_mut().map(read).sum())
    }
}

/// The packager's core: frames in, a version of the playlist out.
pub struct Parts {
    source: Source,
    reader: Cursor,
    cutter: Cutter,
    window: Window,
}

impl Parts {
    /// A packager with a full window.
    ///
    /// # Errors
    /// As [`Source::frame`].
    pub fn new() -> anyhow::Result<Self> {
        let source = Source::new()?;
        let (reader, window) = (source.reader(), Window::new(WindowOptions::default()));
        let mut parts = Self { source, reader, cutter: Cutter::default(), window };
        for _ in 0..12 * FRAMES_A_GROUP as usize / FRAMES_A_PART {
            parts.part()?;
        }
        Ok(parts)
    }

    /// Makes one more part, and renders the playlist that lists it.
    ///
    /// # Errors
    /// As [`Source::frame`].
    pub fn part(&mut self) -> anyhow::Result<Option<String>> {
        for _ in 0..FRAMES_A_PART {
            self.source.frame()?;
        }
        while let Some(item) = self.reader.try_next() {
            self.cutter.push(&item, |cut| self.window.push(cut));
        }
        Ok(playlist::render(&self.window.snapshot(), None, &[]))
    }
}

/// Playlist requests to the service behind the HTTP server.
pub struct PlaylistRequests {
    runtime: tokio::runtime::Runtime,
    service: HlsService,
    request: Request<()>,
    _source: Source,
}

impl PlaylistRequests {
    /// A service with a stream of three segments.
    ///
    /// # Errors
    /// As [`Source::frame`].
    pub fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let mut source = Source::new()?;
        let packager = Packager::new(PackagerOptions::default());
        let _inside = runtime.enter();
        packager.attach(&source.broadcast);
        let options = HlsOptions::default();
        let demand = std::sync::Arc::new(NoDemand);
        let service = HlsService::new(packager, Access::new(false), demand, options);
        for _ in 0..3 * FRAMES_A_GROUP + 1 {
            source.frame()?;
            runtime.block_on(tokio::task::yield_now());
        }
        drop(_inside);
        let request = Request::get("/hls/bench/-/video/index.m3u8?_HLS_msn=2&_HLS_part=3")
            .header("host", "127.0.0.1:8080")
            .header("accept-encoding", "gzip, deflate, br")
            .header("user-agent", "bench")
            .body(())?;
        let requests = Self { runtime, service, request, _source: source };
        anyhow::ensure!(requests.one() == 200, "the playlist is not served");
        Ok(requests)
    }

    /// Answers one; gives its status.
    #[must_use]
    pub fn one(&self) -> u16 {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.runtime.block_on(self.service.reply(&self.request, peer)).status().as_u16()
    }
}
