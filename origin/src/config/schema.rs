//! The configuration's sections and keys. These structs are the manual: each key's doc comment
//! gives its unit and effect, and `headwater config default` prints it.
//!
//! Not here: reading files and variables (`read`), checks across keys (`check`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use headwater_cluster::id::{NodeName, Region};
use headwater_cluster::identity::JoinToken;
use headwater_media::StreamName;

use super::cluster::{BaseUrl, HostPort};
use super::glob::StreamGlob;
use super::ice::IceServer;
use super::value::{
    BitRate, ByteSize, HlsAudio, Input, LogFilter, LogFormat, NodeRole, Passphrase,
    SecondPublisher, Value,
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

fn default_region() -> Region {
    #[allow(clippy::expect_used, reason = "a constant")]
    Region::parse("default").expect("a name")
}

section! {
    /// The node itself.
    General [""] {
        /// Folder for the node's state. It records where the running node's API is, so that
        /// commands given the same folder find it.
        data: PathBuf = PathBuf::from("./headwater-data");
        /// IP address of every listener whose own `listen` is not given; ports stay as they are.
        /// Lets several nodes run on one machine (127.0.0.1, 127.0.0.2 ...). Empty: each
        /// listener's default.
        bind: Option<IpAddr> = None;
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
    /// The node among others: who it is, and the port over which nodes talk to each other (QUIC
    /// with mutual TLS, by certificates of the cluster's own). A node by itself needs none of it.
    Cluster ["cluster"] {
        /// Whether the port is open. Without it the node stays by itself.
        enabled: bool = true;
        /// UDP address and port. Set it to an address that the other nodes reach. Where it is not
        /// set, the default port is taken, and no other node is known, the node starts without.
        listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4443);
        /// "HOST:PORT" at which the other nodes reach this one, where it is not `listen` (NAT,
        /// containers, every interface). Empty: `listen`.
        advertise: Option<HostPort> = None;
        /// Base URLs at which viewers reach this node, such as "https://eu-1.example.org". Empty:
        /// `http.listen`, or its port at this node's cluster address where it is every interface.
        http: Vec<BaseUrl> = Vec::new();
        /// What people call the node. Empty: the machine's host name.
        name: Option<NodeName> = None;
        /// Where the node stands. Nodes of a region share a near network: a stream comes into a
        /// region by few of its nodes, and goes on to the others within.
        region: Region = default_region();
        /// What the node does: "origin" votes and takes publishers; "relay" carries streams to
        /// viewers near it, and joins a cluster of origins. Counts while the data folder is empty;
        /// afterwards the folder knows.
        role: NodeRole = NodeRole::Origin;
        /// "HOST:PORT" of the cluster port of any origin of the cluster to join. Counts while the
        /// data folder is empty; afterwards the folder knows. Empty: a new cluster begins.
        join: Option<HostPort> = None;
        /// The token to join with, as `headwater cluster join-token` prints it on a node of that
        /// cluster. Also HEADWATER_JOIN_TOKEN.
        join_token: Option<JoinToken> = None;
        /// A file that has the token, so that it stands in no command line. Read only when the
        /// node joins.
        join_token_file: Option<PathBuf> = None;
        /// How often the leader says that it is there. Shorter finds a dead leader sooner, with
        /// shorter `election_min` and `election_max`, and sends more.
        heartbeat: Duration = ms(50), in (ms(10), secs(5));
        /// A node that has heard no leader for a time drawn between this and `election_max` stands
        /// for election. Four heartbeats, so that lost packets bring no needless elections; nodes
        /// far apart need it well above their round trip.
        election_min: Duration = ms(200), in (ms(20), secs(30));
        /// The longest such time, and how long a leader may count on being the only one: within
        /// twice this a dead leader is replaced. Wider apart from `election_min` makes ties rarer.
        election_max: Duration = ms(400), in (ms(40), secs(60));
        /// How long a claim or another change may wait for a majority; then it is refused as
        /// without quorum. Longer than an election, so that publishers do not notice one.
        propose_within: Duration = secs(2), in (ms(100), secs(60));
        /// How often a silent connection between nodes says that it lives.
        keep_alive: Duration = ms(100), in (ms(10), secs(10));
        /// A node that is silent for so long is suspected; once a second node suspects it too, its
        /// streams may be taken over. Three keep-alives: one may be lost and one late. Shorter
        /// takes over sooner, and takes a busy machine for a dead one.
        suspect_after: Duration = ms(300), in (ms(50), secs(60));
    }
}

section! {
    /// Streams that this node fetches from others because its viewers ask for them.
    Relay ["relay"] {
        /// How long a stream is still fetched after its last viewer has left. Longer starts the
        /// next viewer at once and costs the stream's bit rate between the nodes meanwhile.
        linger: Duration = secs(30), in (ms(0), secs(3_600));
        /// Nodes of each region that take a stream from its owner's region; the region's others
        /// take it from them. Two, so that one may fail; more spread the load of a region and cost
        /// the bit rate between regions once more each. The same on all nodes.
        gateways: u32 = 2, in (1, 16);
        /// Most nodes that take one stream from one node. Further ones hang one level deeper. More
        /// makes trees flatter, and costs the parent the stream's bit rate for each. The same on
        /// all nodes.
        max_children: u32 = 32, in (2, 1_000);
        /// Patterns of streams that are fetched as soon as they are live, before anybody watches
        /// them here, such as "auction/*" (`*` stays between slashes, `**` goes across them). Their
        /// first viewers start at once; they cost their bit rate all the time.
        hot: Vec<StreamGlob> = Vec::new();
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
        /// Connections with other nodes; each pair of nodes has up to four.
        cluster_connections: u32 = 4_096, in (16, 100_000);
        /// Connections on the cluster port that have not shown yet who they are, and joining nodes.
        cluster_strangers: u32 = 64, in (1, 10_000);
        /// Claims and other changes that wait for the cluster's answer.
        cluster_proposals: u32 = 4_096, in (16, 1_000_000);
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
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[relay]`
    pub relay: Relay,
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
            &self.cluster,
            &self.relay,
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
        let all: [&mut dyn Section; 14] = [
            &mut self.general,
            &mut self.http,
            &mut self.webrtc,
            &mut self.srt,
            &mut self.rtmp,
            &mut self.cluster,
            &mut self.relay,
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
