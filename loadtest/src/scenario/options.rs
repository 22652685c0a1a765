//! What to run, as the command line says it, and what follows from that.
//!
//! Not here: doing it (`run`).

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::publish::{Protocol, Stream};
use crate::report::{Limits, Run};
use crate::source::{Settings, StampPlace};
use crate::units;
use crate::view::Target;
use crate::view::hls::crowd::HlsOptions;

/// Streams and viewers at once: more needs more than one machine's ports.
const COUNT_MAX: usize = 60_000;
/// What stands for a stream's name in paths, and for its number in names.
const STREAM: &str = "{stream}";
const NUMBER: &str = "{n}";

/// What to run; every command that runs a load takes these.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The server's HTTP interface, for WHIP, WHEP and HLS
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub server: String,
    /// Its SRT listener [default: the server's host, port 8890]
    #[arg(long, value_name = "HOST:PORT")]
    pub srt: Option<String>,
    /// Its RTMP listener [default: the server's host, port 1935]
    #[arg(long, value_name = "HOST:PORT")]
    pub rtmp: Option<String>,
    /// Its process, on this machine: the report says what it used
    #[arg(long)]
    pub pid: Option<u32>,
    /// A token for publishing and playing
    #[arg(long, env = "HEADWATER_LOADTEST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Publishers, by protocol; may be repeated
    #[arg(long, value_name = "whip|srt|rtmp:N", help_heading = "Publishers")]
    pub publish: Vec<Count>,
    /// Names of the streams, `{n}` standing for their number
    #[arg(long, default_value = "load-{n}", help_heading = "Publishers")]
    pub stream: String,
    /// Bit rate of a stream's picture
    #[arg(long, default_value = "2.5Mbps", value_parser = units::bitrate, help_heading = "Publishers")]
    pub bitrate: u64,
    /// Frames a second
    #[arg(long, default_value = "30", value_parser = units::fps, help_heading = "Publishers")]
    pub fps: (u32, u32),
    /// Picture
    #[arg(long, default_value = "1280x720", value_parser = units::size, help_heading = "Publishers")]
    pub size: (u32, u32),
    /// From a keyframe to the next; publishers by WHIP make one when asked, as browsers do
    #[arg(long, default_value = "2s", value_parser = units::duration, help_heading = "Publishers")]
    pub gop: Duration,
    /// B-frames (not for WHIP)
    #[arg(long, help_heading = "Publishers")]
    pub b_frames: bool,
    /// No sound
    #[arg(long, help_heading = "Publishers")]
    pub no_audio: bool,
    /// Where the frames' stamps stand
    #[arg(long, value_enum, default_value_t, help_heading = "Publishers")]
    pub stamp: StampPlace,
    /// Latency that publishers by SRT ask for
    #[arg(long, default_value = "120ms", value_parser = units::duration, help_heading = "Publishers")]
    pub srt_latency: Duration,

    /// Viewers by WHEP
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Viewers")]
    pub whep: usize,
    /// Viewers by LL-HLS
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Viewers")]
    pub hls: usize,
    /// Requests for LL-HLS playlists that are held open, to see what each costs in memory
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Viewers")]
    pub waiting: usize,
    /// Streams that are live already, to be viewed when none is published here; `{n}` in the name
    /// needs this many
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Viewers")]
    pub streams: usize,
    /// Threads for the viewers of each kind
    #[arg(long, default_value_t = 1, help_heading = "Viewers")]
    pub threads: usize,
    /// RTP packets that every WHEP viewer drops
    #[arg(long, default_value = "0%", value_parser = units::percent, help_heading = "Viewers")]
    pub drop_percent: f64,
    /// WHEP viewers that go dead once connected: they read and say nothing
    #[arg(long, default_value = "0%", value_parser = units::percent, help_heading = "Viewers")]
    pub dead_percent: f64,
    /// WHEP viewers that lose a fifth of their packets
    #[arg(long, default_value = "0%", value_parser = units::percent, help_heading = "Viewers")]
    pub lossy_percent: f64,

    /// Time in which the viewers come
    #[arg(long, default_value = "5s", value_parser = units::duration, help_heading = "Course")]
    pub ramp: Duration,
    /// Time measured after that
    #[arg(long, default_value = "30s", value_parser = units::duration, help_heading = "Course")]
    pub hold: Duration,
    /// Viewers of each kind that leave and come anew, a second
    #[arg(long, default_value_t = 0.0, value_name = "RATE", help_heading = "Course")]
    pub churn: f64,
    /// Further WHEP viewers that come within a second, a third into the measured time
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Course")]
    pub flash: usize,

    /// Where WHIP publishers post their offers
    #[arg(long, default_value = "/whip/{stream}", help_heading = "Other servers")]
    pub whip_path: String,
    /// Where WHEP viewers post their offers
    #[arg(long, default_value = "/whep/{stream}", help_heading = "Other servers")]
    pub whep_path: String,
    /// The multivariant playlist
    #[arg(long, default_value = "/hls/{stream}/index.m3u8", help_heading = "Other servers")]
    pub hls_path: String,
    /// The SRT stream id of publishers
    #[arg(long, default_value = "publish:{stream}", help_heading = "Other servers")]
    pub srt_streamid: String,
    /// The RTMP application; the stream's name is the key, whatever it holds
    #[arg(long, default_value = "live", help_heading = "Other servers")]
    pub rtmp_app: String,

    /// How viewers by LL-HLS behave.
    #[command(flatten)]
    pub hls_options: HlsOptions,
    /// What must be kept.
    #[command(flatten)]
    pub limits: Limits,
}

/// So many publishers of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How they publish.
    pub protocol: Protocol,
    /// How many they are.
    pub count: usize,
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not like whip:3, srt:1 or rtmp:10");
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name);
        let count = count.parse().ok().filter(|count| *count <= COUNT_MAX).ok_or_else(wrong)?;
        Ok(Self { protocol: protocol.ok_or_else(wrong)?, count })
    }
}

impl Options {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// It does, with what to do.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let viewers = self.whep.max(self.hls).max(self.flash).max(self.waiting);
        let publishers: usize = self.publish.iter().map(|count| count.count).sum();
        if publishers + viewers == 0 {
            bail!("nothing to do: say --publish whip:1 and --whep 10, or --hls 10");
        }
        if publishers.max(viewers).max(self.streams) > COUNT_MAX {
            bail!("at most {COUNT_MAX} streams and viewers of a kind");
        }
        if publishers > 1 && !self.stream.contains(NUMBER) {
            bail!("--stream needs {NUMBER} where there are several publishers");
        }
        if self.dead_percent + self.lossy_percent > 1.0 {
            bail!("--dead-percent and --lossy-percent together exceed 100 %");
        }
        if !(0.0..=10_000.0).contains(&self.churn) {
            bail!("--churn is a rate of 0 to 10000 viewers a second");
        }
        let whip = self.publish.iter().any(|count| count.protocol == Protocol::Whip);
        if self.b_frames && whip {
            bail!("WebRTC cannot carry B-frames: publish by srt or rtmp with --b-frames");
        }
        Ok(())
    }

    /// What the streams are made of.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            width: self.size.0,
            height: self.size.1,
            fps: self.fps,
            bitrate: self.bitrate,
            gop_s: self.gop.as_secs_f64(),
            b_frames: self.b_frames,
            audio: !self.no_audio,
            stamp: self.stamp,
        }
    }

    /// The streams to publish.
    ///
    /// # Errors
    /// An address is missing its host.
    pub(super) fn to_publish(&self) -> anyhow::Result<Vec<Stream>> {
        let protocols = self.publish.iter().flat_map(|of| vec![of.protocol; of.count]);
        let streams = protocols.enumerate().map(|(number, protocol)| {
            let name = self.name(protocol, number);
            let (address, name) = match protocol {
                Protocol::Whip => (self.url(&self.whip_path, &name), name),
                Protocol::Srt => {
                    (self.address(&self.srt, 8_890)?, self.srt_streamid.replace(STREAM, &name))
                }
                Protocol::Rtmp => (self.address(&self.rtmp, 1_935)?, name),
            };
            anyhow::Ok(Stream {
                protocol,
                address,
                name,
                number: u32::try_from(number)?,
                settings: self.settings(),
                token: self.token.clone(),
                srt_latency: self.srt_latency,
            })
        });
        streams.collect()
    }

    /// A stream's name at the server. By RTMP it is the application and the key.
    fn name(&self, protocol: Protocol, number: usize) -> String {
        let name = self.stream.replace(NUMBER, &number.to_string());
        match protocol {
            Protocol::Rtmp => format!("{}/{name}", self.rtmp_app),
            Protocol::Whip | Protocol::Srt => name,
        }
    }

    /// Where viewers find every stream, by this path.
    pub(super) fn target(&self, path: &str) -> Target {
        let protocols = self.publish.iter().flat_map(|of| vec![of.protocol; of.count]);
        let mut names: Vec<_> =
            protocols.enumerate().map(|(number, protocol)| self.name(protocol, number)).collect();
        if names.is_empty() {
            names = (0..self.streams).map(|n| self.name(Protocol::Whip, n)).collect();
        }
        Target {
            urls: names.iter().map(|name| self.url(path, name)).collect(),
            token: self.token.clone(),
            frame_interval_us: self.settings().frame_interval_us(),
        }
    }

    fn url(&self, path: &str, name: &str) -> String {
        format!("{}{}", self.server.trim_end_matches('/'), path.replace(STREAM, name))
    }

    /// The address of a listener beside HTTP.
    fn address(&self, given: &Option<String>, port: u16) -> anyhow::Result<String> {
        if let Some(given) = given {
            return Ok(given.clone());
        }
        let uri: http::Uri = self.server.parse().context("--server is no URL")?;
        Ok(format!("{}:{port}", uri.host().context("--server names no host")?))
    }

    /// What the report says of the run.
    pub(super) fn describe(&self, began_us: u64) -> Run {
        Run {
            server: self.server.clone(),
            command: shown(std::env::args()),
            began_us,
            measured_s: 0.0,
            fps: f64::from(self.fps.0) / f64::from(self.fps.1.max(1)),
            bitrate: self.bitrate,
            size: self.size,
        }
    }
}

/// A command line without its secret.
fn shown(arguments: impl Iterator<Item = String>) -> String {
    let mut secret = false;
    let shown = arguments.map(|argument| {
        let hides = std::mem::replace(&mut secret, argument == "--token");
        if hides || argument.starts_with("--token=") { "(hidden)".to_owned() } else { argument }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &str) -> Options {
        let arguments = ["x"].into_iter().chain(arguments.split_whitespace());
        Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}")).options
    }

    #[test]
    fn each_stream_is_viewed_where_it_is_published() {
        let options =
            options("--server http://h:1 --publish whip:2 --publish srt:1 --publish rtmp --whep 5");
        options.check().unwrap();
        let published = options.to_publish().unwrap();
        let addresses: Vec<_> = published.iter().map(|s| (&*s.address, &*s.name)).collect();
        assert_eq!(
            addresses,
            [
                ("http://h:1/whip/load-0", "load-0"),
                ("http://h:1/whip/load-1", "load-1"),
                ("h:8890", "publish:load-2"),
                ("h:1935", "live/load-3"),
            ]
        );
        assert_eq!(
            options.target(&options.whep_path).urls,
            [
                "http://h:1/whep/load-0",
                "http://h:1/whep/load-1",
                "http://h:1/whep/load-2",
                "http://h:1/whep/live/load-3"
            ]
        );
    }

    #[test]
    fn streams_of_others_can_be_viewed_alone() {
        let options = options("--stream show --hls 3");
        options.check().unwrap();
        assert!(options.to_publish().unwrap().is_empty());
        let urls = options.target(&options.hls_path).urls;
        assert_eq!(urls, ["http://127.0.0.1:8080/hls/show/index.m3u8"]);
    }

    #[test]
    fn contradictions_are_refused() {
        for wrong in [
            "",
            "--publish whip:2 --stream one",
            "--publish whip:1 --b-frames",
            "--whep 1 --dead-percent 60 --lossy-percent 60",
            "--whep 1 --churn=-1",
            "--whep 100000",
        ] {
            assert!(options(wrong).check().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_not_shown_in_the_report() {
        for (line, expected) in [
            ("run --token s3cret --whep 1", "run --token (hidden) --whep 1"),
            ("run --token=s3cret --whep 1", "run (hidden) --whep 1"),
        ] {
            assert_eq!(shown(line.split(' ').map(str::to_owned)), expected);
        }
    }

    #[test]
    fn publishers_are_counted_by_protocol() {
        assert_eq!("srt:3".parse(), Ok(Count { protocol: Protocol::Srt, count: 3 }));
        assert_eq!("whip".parse(), Ok(Count { protocol: Protocol::Whip, count: 1 }));
        for wrong in ["", "rist:1", "whip:x", "whip:-1", "whip:1000000"] {
            assert!(wrong.parse::<Count>().is_err(), "{wrong}");
        }
    }
}
