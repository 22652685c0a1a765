//! The configuration's sections and keys. These structs are the manual: each key's doc comment
//! gives its unit and effect, and `headwater config default` prints it.
//!
//! Not here: reading files and variables (`read`), checks across keys (`check`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use headwater_media::StreamName;

use super::ice::IceServer;
use super::value::{
    BitRate, ByteSize, HlsAudio, Input, LogFilter, LogFormat, Passphrase, SecondPublisher, Value,
};

use crate::demo::DemoOptions;

/// A key as documentation shows it.
pub struct KeyDoc {
    /// Its name within the section.
    pub name: &'static str,
    /// Its doc comment, line by line.
    pub doc: &'static [&'static str],
    /// Its value now, as TOML.
    pub value: String,
}

/// Why a key was not set.
#[derive(Debug, PartialEq, Eq)]
pub enum SetError {
    /// The section has no such key.
    UnknownKey,
    /// The value is not allowed; the text says what is, and repeats the value unless it is secret.
    NotAllowed(String),
}

/// A section of keys, reachable by name.
pub trait Section {
    /// The section's name; empty for the keys that stand before any section.
    fn name(&self) -> &'static str;
    /// The section's doc comment, line by line.
    fn doc(&self) -> &'static [&'static str];
    /// Its keys in order.
    fn keys(&self) -> Vec<KeyDoc>;
    /// Sets one key.
    ///
    /// # Errors
    /// The key is unknown, or the value is not allowed.
    fn set(&mut self, key: &str, input: Input<'_>) -> Result<(), SetError>;
}

fn read<T: Value>(input: Input<'_>) -> Result<T, SetError> {
    T::read(input).ok_or_else(|| refusal::<T>(input, &T::allowed()))
}

fn refusal<T: Value>(input: Input<'_>, allowed: &str) -> SetError {
    let shown = if T::SECRET { "the value".into() } else { input.shown() };
    SetError::NotAllowed(format!("{shown} is not allowed, expected {allowed}"))
}

/// Checks a value that has bounds.
fn within<T: Value + PartialOrd>(
    value: T,
    (low, high): (T, T),
    input: Input<'_>,
) -> Result<T, SetError> {
    if (&low..=&high).contains(&&value) {
        return Ok(value);
    }
    let range = format!("between {} and {}", low.render(), high.render()).replace('"', "");
    Err(refusal::<T>(input, &range))
}

/// Declares a section: struct, defaults, documentation and setter from one list.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $name:ident [$path:literal] {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $ty:ty = $default:expr $(, in $bounds:expr)?;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub $key: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Section for $name {
            fn name(&self) -> &'static str {
                $path
            }

            fn doc(&self) -> &'static [&'static str] {
                &[$($section_doc),*]
            }

            fn keys(&self) -> Vec<KeyDoc> {
                vec![$(KeyDoc {
                    name: stringify!($key),
                    doc: &[$($doc),*],
                    value: self.$key.render(),
                },)*]
            }

            fn set(&mut self, key: &str, input: Input<'_>) -> Result<(), SetError> {
                match key {
                    $(stringify!($key) => {
                        let value = read::<$ty>(input)?;
                        $(let value = within(value, $bounds, input)?;)?
                        self.$key = value;
                    })*
                    _ => return Err(SetError::UnknownKey),
                }
                Ok(())
            }
        }
    };
}

const fn every_interface(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

section! {
    /// The node itself.
    General [""] {
        /// Folder for the node's state. It records where the running node's API is, so that
        /// commands given the same folder find it.
        data: PathBuf = PathBuf::from("./headwater-data");
        /// How long the node takes at most to end after SIGTERM or SIGINT. Longer lets more
        /// requests finish. A second signal ends it at once.
        drain_timeout: Duration = secs(10), in (ms(0), secs(3_600));
    }
}

section! {
    /// HTTP/1.1 and HTTP/2 (h2c): WHIP, WHEP, HLS, the API, the pages and metrics.
    Http ["http"] {
        /// Whether the listener is on.
        enabled: bool = true;
        /// TCP address and port.
        listen: SocketAddr = every_interface(8080);
    }
}

section! {
    /// WebRTC media for WHIP and WHEP.
    WebRtc ["webrtc"] {
        /// Whether WHIP and WHEP are served.
        enabled: bool = true;
        /// UDP and TCP address and port of the first worker; the further ones take the ports
        /// that follow.
        listen: SocketAddr = every_interface(8189);
        /// Addresses at which clients reach this node, where they differ from the interfaces' own
        /// (NAT, containers). Empty: the interfaces' addresses.
        public_addresses: Vec<IpAddr> = Vec::new();
        /// STUN and TURN servers that clients are told of: "stun:HOST:PORT" or
        /// "turn:HOST:PORT USER CREDENTIAL". This node needs none.
        ice_servers: Vec<IceServer> = Vec::new();
        /// Threads, each with a port of its own. More serve more viewers, up to the number of
        /// cores. 0: one a core.
        workers: u32 = 0, in (0, 256);
    }
}

section! {
    /// SRT with MPEG-TS, in and out.
    Srt ["srt"] {
        /// Whether the listener is on.
        enabled: bool = true;
        /// UDP address and port.
        listen: SocketAddr = every_interface(8890);
        /// How long a packet may take, retransmissions included; the caller's own value counts
        /// where it is higher. Longer survives more loss and delays the stream as much.
        latency: Duration = ms(120), in (ms(20), secs(8));
        /// Secret of 10 to 79 characters that every caller must encrypt with. Empty: encryption
        /// is not asked for.
        passphrase: Passphrase = Passphrase::default();
    }
}

section! {
    /// RTMP and enhanced RTMP, in.
    Rtmp ["rtmp"] {
        /// Whether the listener is on.
        enabled: bool = true;
        /// TCP address and port.
        listen: SocketAddr = every_interface(1935);
    }
}

section! {
    /// What the node keeps of each track.
    Media ["media"] {
        /// Media kept behind the newest group. Longer lets players reach further back and costs
        /// memory in proportion.
        window: Duration = secs(30), in (secs(2), secs(3_600));
        /// Longest group of a publisher whose keyframes are far apart: it is cut here and goes on
        /// as a continuation, which players cannot start at.
        max_group: Duration = secs(10), in (secs(1), secs(60));
    }
}

section! {
    /// Publishers.
    Ingest ["ingest"] {
        /// A second publisher on a live stream: "reject" refuses it, "replace" lets it take over.
        policy: SecondPublisher = SecondPublisher::Reject;
        /// How long a stream waits for its publisher to come back before it ends. Longer keeps
        /// viewers connected through longer breaks.
        reconnect_window: Duration = secs(10), in (ms(0), secs(600));
        /// How often a browser is asked for a keyframe. Shorter makes segments shorter and
        /// switching quicker, and costs bit rate.
        keyframe_interval: Duration = secs(2), in (ms(500), secs(10));
    }
}

section! {
    /// Low-latency HLS.
    Hls ["hls"] {
        /// Longest part. Shorter lowers the delay and makes more requests.
        part_target: Duration = ms(200), in (ms(50), secs(2));
        /// Audio renditions: "opus", "aac" or "both"; what the publisher does not send is made
        /// while someone listens.
        audio: HlsAudio = HlsAudio::Both;
        /// Segments in a playlist. More lets players start further back.
        segments: u32 = 10, in (3, 1_000);
        /// How long the playlists and media of a stream that has ended stay, so that its viewers
        /// see the end. Longer keeps memory in use.
        ended_linger: Duration = secs(60), in (ms(0), secs(3_600));
    }
}

section! {
    /// Who may publish, play and administer.
    Auth ["auth"] {
        /// true: everyone, from everywhere. false: only from this machine's loopback addresses.
        open: bool = false;
    }
}

section! {
    /// Log lines on standard error.
    Log ["log"] {
        /// "text" for people, "json" for machines.
        format: LogFormat = LogFormat::Text;
        /// What is logged, in the syntax of RUST_LOG; that variable, where set, goes before.
        filter: LogFilter = LogFilter("info".into());
    }
}

section! {
    /// The bounds of everything. Whoever meets one is refused with a clear answer; what is served
    /// already goes on.
    Limits ["limits"] {
        /// Publishers and viewers together.
        sessions: u32 = 20_000, in (1, 10_000_000);
        /// Streams that are live or wait for their publisher.
        streams: u32 = 1_000, in (1, 1_000_000);
        /// Tracks of a stream.
        tracks: u32 = 16, in (1, 256);
        /// Payload bytes that a track keeps; the oldest groups go first.
        track_bytes: ByteSize = ByteSize::mib(64), in (ByteSize::mib(1), ByteSize::mib(1 << 14));
        /// Bytes of one frame; a publisher that sends a larger one is cut off.
        frame_bytes: ByteSize = ByteSize::mib(16), in (ByteSize(64 << 10), ByteSize::mib(256));
        /// Frames of a group; a longer one is cut as at `media.max_group`.
        group_frames: u32 = 8_192, in (256, 1 << 20);
        /// What a publisher may send on average over a few seconds; beyond, it is cut off.
        publisher_bitrate: BitRate = BitRate::mbps(100), in (BitRate(100_000), BitRate::mbps(10_000));
        /// Open HTTP connections.
        http_connections: u32 = 20_000, in (1, 10_000_000);
        /// How long a client may take to send a request's header, from its connection or its last
        /// request on.
        http_header_timeout: Duration = secs(10), in (ms(100), secs(300));
        /// How long a client may take nothing of an answer; then its connection is closed.
        http_write_timeout: Duration = secs(30), in (secs(1), secs(3_600));
        /// How long an HTTP/2 connection may stay open without a request under way. Shorter gives
        /// its place back sooner; longer spares players a new connection. HTTP/1.1 connections
        /// wait for `http_header_timeout`.
        http_idle_timeout: Duration = secs(60), in (ms(100), secs(3_600));
        /// How long a client may take to send a request's body (SDP).
        http_body_timeout: Duration = secs(10), in (ms(100), secs(300));
        /// Conversions of a stream's audio (AAC to Opus or the other way) at a time; each takes
        /// about a hundredth of a core.
        audio_bridges: u32 = 256, in (0, 100_000);
        /// Bytes of media that an HLS rendition keeps; the oldest segments go first.
        hls_track_bytes: ByteSize = ByteSize::mib(128), in (ByteSize::mib(1), ByteSize::mib(1 << 14));
        /// HLS requests that wait for a part or a playlist not yet born.
        hls_waiting: u32 = 100_000, in (1, 10_000_000);
        /// WebRTC sessions that have not connected yet.
        webrtc_half_open: u32 = 1_000, in (1, 1_000_000);
        /// How long a WebRTC session may take to connect.
        webrtc_connect_timeout: Duration = secs(15), in (secs(1), secs(300));
        /// SRT connections.
        srt_connections: u32 = 1_000, in (1, 100_000);
        /// RTMP connections.
        rtmp_connections: u32 = 1_000, in (1, 100_000);
    }
}

section! {
    /// The test picture of `headwater demo`.
    Demo ["demo"] {
        /// The stream's name.
        stream: StreamName = DemoOptions::default().stream;
        /// Columns of its picture, even.
        width: u32 = 1_280, in (64, 3_840);
        /// Rows of its picture, even.
        height: u32 = 720, in (64, 2_160);
        /// Frames a second. More look smoother and take more of a core.
        frame_rate: u32 = 30, in (1, 60);
        /// Bits a second of the picture.
        bitrate: BitRate = BitRate(2_500_000), in (BitRate(100_000), BitRate::mbps(50));
    }
}

/// The whole configuration as the file says it, each value of its type but not yet checked
/// against the others.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RawConfig {
    /// Keys before any section.
    pub general: General,
    /// `[http]`
    pub http: Http,
    /// `[webrtc]`
    pub webrtc: WebRtc,
    /// `[srt]`
    pub srt: Srt,
    /// `[rtmp]`
    pub rtmp: Rtmp,
    /// `[media]`
    pub media: Media,
    /// `[ingest]`
    pub ingest: Ingest,
    /// `[hls]`
    pub hls: Hls,
    /// `[auth]`
    pub auth: Auth,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
    /// `[demo]`
    pub demo: Demo,
}

impl RawConfig {
    /// All sections in the order of the default file.
    #[must_use]
    pub fn sections(&self) -> Vec<&dyn Section> {
        vec![
            &self.general,
            &self.http,
            &self.webrtc,
            &self.srt,
            &self.rtmp,
            &self.media,
            &self.ingest,
            &self.hls,
            &self.auth,
            &self.limits,
            &self.log,
            &self.demo,
        ]
    }

    /// The section called `name`.
    pub fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
        let all: [&mut dyn Section; 12] = [
            &mut self.general,
            &mut self.http,
            &mut self.webrtc,
            &mut self.srt,
            &mut self.rtmp,
            &mut self.media,
            &mut self.ingest,
            &mut self.hls,
            &mut self.auth,
            &mut self.limits,
            &mut self.log,
            &mut self.demo,
        ];
        all.into_iter().find(|section| section.name() == name)
    }
}

/// The default configuration as an annotated file.
#[must_use]
pub fn default_file() -> String {
    let mut text = String::from(
        "# The configuration of Headwater with every key at its default. Keys may be left out.\n\
         # Environment variables go before this file: HEADWATER_HTTP__LISTEN sets http.listen;\n\
         # lists are separated by commas there.\n",
    );
    let config = RawConfig::default();
    for section in config.sections() {
        text.push('\n');
        for line in section.doc() {
            text.push_str(&format!("#{line}\n"));
        }
        if !section.name().is_empty() {
            text.push_str(&format!("[{}]\n", section.name()));
        }
        for key in section.keys() {
            for line in key.doc {
                text.push_str(&format!("#{line}\n"));
            }
            text.push_str(&format!("{} = {}\n", key.name, key.value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_section_is_documented() {
        let config = RawConfig::default();
        for section in config.sections() {
            assert!(!section.doc().is_empty(), "[{}]", section.name());
            for key in section.keys() {
                let doc = key.doc.concat();
                assert!(doc.trim().len() > 8, "{}.{}", section.name(), key.name);
            }
        }
    }

    #[test]
    fn every_section_is_found_by_its_name_and_takes_its_own_defaults() {
        let mut config = RawConfig::default();
        let names: Vec<_> = config.sections().iter().map(|section| section.name()).collect();
        for name in names {
            let keys = config.section_mut(name).unwrap().keys();
            for key in keys {
                let text = format!("k = {}", key.value);
                let table = toml::de::DeTable::parse(&text).unwrap();
                let value = table.get_ref().get("k").unwrap().get_ref();
                let set = config.section_mut(name).unwrap().set(key.name, Input::Toml(value));
                assert_eq!(set, Ok(()), "{name}.{}", key.name);
            }
        }
        assert_eq!(config, RawConfig::default());
    }
}
