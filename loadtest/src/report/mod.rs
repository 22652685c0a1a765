//! What a run found: built from the counts at its end, shown as text, JSON and one HTML page.
//!
//! Not here: measuring (`meter`, `process`), which limits were broken (`limits`).

pub(crate) mod html;
mod limits;
pub(crate) mod plot;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::limits::Limits;

use crate::histogram::Percentiles;
use crate::meter::{Counts, Totals};
use crate::process::Usage;

/// A run, from its parameters to what it cost. Rates and costs are of the measured time, which
/// begins when the ramp is over; what viewers saw is of all the time that they were there.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// What was asked for.
    pub run: Run,
    /// Publishers, a section a protocol.
    pub publishers: Vec<Publishers>,
    /// Viewers, a section a protocol.
    pub viewers: Vec<Viewers>,
    /// What the server used; none without `--pid`.
    pub server: Option<Server>,
    /// What this program used itself.
    pub generator: Generator,
    /// One entry a second.
    pub series: Vec<Sample>,
    /// The limits that were missed, in words.
    pub broken: Vec<String>,
}

/// Parameters of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Run {
    /// The server, as given.
    pub server: String,
    /// The whole command line.
    pub command: String,
    /// When it began, in microseconds since the Unix epoch.
    pub began_us: u64,
    /// The time that the figures are of, in seconds.
    pub measured_s: f64,
    /// Video frames a second.
    pub fps: f64,
    /// Bit rate of a stream, in bits a second.
    pub bitrate: u64,
    /// Width and height of the picture.
    pub size: (u32, u32),
}

/// What the publishers of one protocol did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Publishers {
    /// `whip`, `srt`, `rtmp`.
    pub kind: String,
    /// How many were asked for.
    pub count: u64,
    /// How many failed.
    pub failed: u64,
    /// Video frames sent in the whole run.
    pub frames: u64,
    /// Media bytes sent in the whole run.
    pub bytes: u64,
    /// What failed, and how often.
    pub problems: BTreeMap<String, u64>,
}

/// What the viewers of one kind saw.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Viewers {
    /// `whep`, `hls`.
    pub kind: String,
    /// How many began to join, over the whole run.
    pub started: u64,
    /// How many could not join or were cut off.
    pub failed: u64,
    /// Of those that left or stayed to the end, how many never had a frame.
    pub without_frames: u64,
    /// How many froze at least once.
    pub frozen_viewers: u64,
    /// How many lost at least one frame.
    pub losing_viewers: u64,
    /// Their counts.
    pub counts: Counts,
    /// Lost frames as a share of those that should have come, 0 to 1.
    pub loss: f64,
    /// From sending a frame to having it.
    pub latency: Percentiles,
    /// From the first request to the first frame.
    pub startup: Percentiles,
    /// Mean latencies of the viewers.
    pub viewer_latency: Percentiles,
    /// Cumulative distribution of the latency: milliseconds, share.
    pub distribution: Vec<(f64, f64)>,
    /// RTP packets in the measured time.
    pub packets: u64,
    /// Media bytes in the measured time.
    pub bytes: u64,
    /// Requests for playlists in the measured time.
    pub playlist_requests: u64,
    /// Other requests in the measured time.
    pub requests: u64,
    /// Packets dropped on purpose.
    pub dropped: u64,
    /// What viewers by LL-HLS found beside frames; none of other kinds.
    pub hls: Option<crate::view::hls::findings::Summary>,
    /// What failed, and how often.
    pub problems: BTreeMap<String, u64>,
}

impl Report {
    /// The report as JSON.
    ///
    /// # Errors
    /// A figure is no number.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl Viewers {
    /// Takes over what the viewers saw.
    pub fn see(&mut self, totals: &Totals) {
        self.without_frames = totals.without_frames;
        self.frozen_viewers = totals.frozen_viewers;
        self.losing_viewers = totals.losing_viewers;
        self.counts = totals.counts;
        self.loss = totals.loss();
        self.latency = totals.latency();
        self.startup = totals.startup();
        self.viewer_latency = totals.viewer_latency.percentiles();
        self.distribution = totals.latency.distribution();
    }
}

/// What the server used in the measured time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Server {
    /// Its process.
    pub pid: u32,
    /// CPU time, and what it held at the end.
    pub usage: Usage,
    /// CPU time in seconds a second.
    pub cores: f64,
    /// CPU microseconds for each RTP packet that viewers got; none without such packets.
    pub cpu_us_per_packet: Option<f64>,
    /// CPU microseconds for each request for a playlist; none without.
    pub cpu_us_per_playlist_request: Option<f64>,
    /// CPU milliseconds a second for each publisher; none without.
    pub cpu_ms_per_publisher: Option<f64>,
    /// Resident memory before the first viewer, in bytes.
    pub rss_before_bytes: u64,
    /// The most resident memory seen, in bytes.
    pub rss_max_bytes: u64,
    /// What each viewer added to it, in bytes; none without viewers.
    pub rss_per_viewer_bytes: Option<f64>,
    /// How long frames were inside it on their way to viewers by WebRTC; none where it does not say.
    pub send_delay: Option<SendDelay>,
}

/// From a frame's arrival at the server to its packets' leaving, as the server counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SendDelay {
    /// How many were counted.
    pub samples: u64,
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// What 99 % keep, in milliseconds.
    pub p99_ms: f64,
}

/// What this program used in the measured time: nobody should measure the meter.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Generator {
    /// CPU time, and what it held at the end.
    pub usage: Usage,
    /// CPU time in seconds a second.
    pub cores: f64,
    /// CPU microseconds for each RTP packet received; none without such packets.
    pub cpu_us_per_packet: Option<f64>,
    /// How late its own timers were, at worst, in milliseconds: what exceeds a few makes the
    /// latencies wrong.
    pub late_ms_max: f64,
}

/// One second of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Server's CPU seconds a second.
    pub server_cores: f64,
    /// Server's resident memory, in bytes.
    pub server_rss_bytes: u64,
    /// This program's CPU seconds a second.
    pub generator_cores: f64,
    /// A viewer kind's state, in the order of the report's sections.
    pub viewers: Vec<ViewerSample>,
}

/// Viewers of one kind in one second.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ViewerSample {
    /// Connected at its end.
    pub active: u64,
    /// Video frames that came in it.
    pub frames: u64,
    /// RTP packets that came in it.
    pub packets: u64,
    /// Latency of those frames.
    pub latency: Percentiles,
}
