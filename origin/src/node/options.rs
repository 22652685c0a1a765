//! From configuration keys to the options of each part.
//!
//! Not here: what a key means (`config`), what an option does (its part).

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use headwater_cluster::cluster::{ClusterOptions, Join, Timings};
use headwater_cluster::command::Role;
use headwater_cluster::control::holder::Holder;
use headwater_cluster::endpoint::EndpointOptions;
use headwater_cluster::id::{NAME_BYTES_MAX, NodeName};
use headwater_cluster::identity::{Folder, JoinToken};
use headwater_media::StreamName;
use headwater_media::limits::BusLimits;

use headwater_relay::hop::HopOptions;
use headwater_relay::plan::Options as TreeOptions;
use headwater_relay::pulls::PullOptions;
use headwater_sfu::SfuConfig;

use crate::config::{Config, HlsAudio, NodeRole, RawConfig, SecondPublisher};
use crate::http::SDP_BYTES_MAX;
use crate::http::hls::HlsOptions;
use crate::http::server::HttpOptions;
use crate::ingest::IngestOptions;
use crate::ingest::rtmp::RtmpOptions;
use crate::ingest::srt::SrtOptions;
use crate::packager::{AudioChoice, PackagerOptions, WindowOptions};
use crate::streams::{Policy, StreamsOptions};
use crate::transcode::audio::AudioOptions;

/// The longest message that RTMP can carry, in bytes.
const RTMP_MESSAGE_BYTES_MAX: usize = (1 << 24) - 1;

/// A limit as a length.
pub(super) fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

pub(super) fn http(values: &RawConfig) -> HttpOptions {
    HttpOptions {
        listen: values.http.listen,
        connections: count(values.limits.http_connections),
        header_timeout: values.limits.http_header_timeout,
        write_timeout: values.limits.http_write_timeout,
        idle_timeout: values.limits.http_idle_timeout,
    }
}

pub(super) fn sfu(config: &Config) -> SfuConfig {
    let values = config.values();
    SfuConfig {
        listen: values.webrtc.listen,
        workers: config.webrtc_workers(),
        public_addresses: values.webrtc.public_addresses.clone(),
        sessions_max: count(values.limits.sessions),
        half_open_max: count(values.limits.webrtc_half_open),
        handshake_timeout: values.limits.webrtc_connect_timeout,
        keyframe_interval: values.ingest.keyframe_interval,
        publisher_bitrate_max: values.limits.publisher_bitrate.0,
        sdp_bytes_max: SDP_BYTES_MAX,
        ..SfuConfig::default()
    }
}

pub(super) fn audio(values: &RawConfig) -> AudioOptions {
    AudioOptions {
        part_target: values.hls.part_target,
        bridges_max: count(values.limits.audio_bridges),
        ..AudioOptions::default()
    }
}

pub(super) fn rtmp(values: &RawConfig) -> RtmpOptions {
    let defaults = RtmpOptions::default();
    // A message is a frame with a few bytes before it; others wait beside it.
    let message_bytes = values.limits.frame_bytes.bytes().min(RTMP_MESSAGE_BYTES_MAX);
    RtmpOptions {
        listen: values.rtmp.listen,
        connections: count(values.limits.rtmp_connections),
        message_bytes,
        buffered_bytes: message_bytes + defaults.buffered_bytes / 4,
        ..defaults
    }
}

pub(super) fn srt(values: &RawConfig) -> SrtOptions {
    SrtOptions {
        listen: values.srt.listen,
        latency: values.srt.latency,
        passphrase: values.srt.passphrase.get().map(str::to_owned),
        connections_max: count(values.limits.srt_connections),
        ..SrtOptions::default()
    }
}

pub(super) fn streams(values: &RawConfig) -> StreamsOptions {
    StreamsOptions {
        policy: match values.ingest.policy {
            SecondPublisher::Reject => Policy::Reject,
            SecondPublisher::Replace => Policy::Replace,
        },
        reconnect_window: values.ingest.reconnect_window,
        streams_max: count(values.limits.streams),
        ingest: IngestOptions {
            part_target: values.hls.part_target,
            keyframe_interval: values.ingest.keyframe_interval,
            max_group: values.media.max_group,
            publisher_bitrate_bps: values.limits.publisher_bitrate.0,
        },
        bus: BusLimits {
            window: values.media.window,
            track_bytes: values.limits.track_bytes.bytes(),
            group_frames: values.limits.group_frames,
            frame_bytes: values.limits.frame_bytes.bytes(),
            tracks: count(values.limits.tracks),
        },
        ..StreamsOptions::default()
    }
}

/// What is taken from other nodes.
pub(super) fn pulls(values: &RawConfig) -> PullOptions {
    PullOptions {
        linger: values.relay.linger,
        orphaned_after: values.media.window,
        limits: streams(values).bus,
        streams_max: count(values.limits.streams),
        ..PullOptions::default()
    }
}

/// The trees by which streams come to all nodes.
pub(super) fn tree(values: &RawConfig) -> TreeOptions {
    TreeOptions { gateways: values.relay.gateways, max_children: values.relay.max_children }
}

/// Which streams are taken before anybody watches them.
pub(super) fn hot(values: &RawConfig) -> Box<dyn Fn(&StreamName) -> bool + Send + Sync> {
    let patterns = values.relay.hot.clone();
    Box::new(move |name| patterns.iter().any(|pattern| pattern.matches(name)))
}

/// The hops to other nodes, of a node of that name.
pub(super) fn hop(values: &RawConfig, name: &str) -> HopOptions {
    HopOptions {
        limits: streams(values).bus,
        ping_interval: values.cluster.keep_alive,
        silent_after: values.cluster.suspect_after,
        ..HopOptions::new(name)
    }
}

pub(super) fn packager(values: &RawConfig) -> PackagerOptions {
    PackagerOptions {
        window: WindowOptions {
            segments: count(values.hls.segments),
            track_bytes: values.limits.hls_track_bytes.0,
        },
        ended_linger: values.hls.ended_linger,
    }
}

pub(super) fn hls(values: &RawConfig) -> HlsOptions {
    HlsOptions {
        audio: match values.hls.audio {
            HlsAudio::Opus => AudioChoice::Opus,
            HlsAudio::Aac => AudioChoice::Aac,
            HlsAudio::Both => AudioChoice::Both,
        },
        waiting: count(values.limits.hls_waiting),
        ..HlsOptions::default()
    }
}

/// What a node can send, in Mbit/s, as the cluster is told: all nodes count alike.
const CAPACITY_MBPS: u32 = 1_000;

/// # Errors
/// The node is to join and has no token.
pub(super) fn cluster(config: &Config, holder: Arc<dyn Holder>) -> anyhow::Result<ClusterOptions> {
    let values = config.values();
    let own = &values.cluster;
    let endpoint = EndpointOptions {
        keep_alive: own.keep_alive,
        connections_max: count(values.limits.cluster_connections),
        strangers_max: count(values.limits.cluster_strangers),
        ..EndpointOptions::new(own.listen)
    };
    Ok(ClusterOptions {
        data: values.general.data.clone(),
        name: own.name.clone().unwrap_or_else(|| node_name(&host_name())),
        region: own.region.clone(),
        role: match own.role {
            NodeRole::Origin => Role::Origin,
            NodeRole::Relay => Role::Relay,
        },
        http: base_urls(values),
        capacity_mbps: CAPACITY_MBPS,
        endpoint: own.enabled.then_some(endpoint),
        advertise: own.advertise.as_ref().map(|address| address.as_str().to_owned()),
        join: join(values)?,
        timings: Timings {
            heartbeat: own.heartbeat,
            election: (own.election_min, own.election_max),
            propose_within: own.propose_within,
            suspect_after: own.suspect_after,
        },
        proposals_max: count(values.limits.cluster_proposals),
        holder,
    })
}

/// How the node joins; none where its folder knows already, or where nothing is to be joined.
fn join(values: &RawConfig) -> anyhow::Result<Option<Join>> {
    let own = &values.cluster;
    let Some(address) = &own.join else { return Ok(None) };
    if Folder::exists(&values.general.data) {
        return Ok(None);
    }
    let token: JoinToken = match (&own.join_token, &own.join_token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => {
            let shown = path.display();
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the join token in {shown}"))?;
            text.parse().with_context(|| format!("{shown}"))?
        }
        (None, None) => anyhow::bail!(
            "to join {} this node needs a token: run `headwater cluster join-token` on a node of \
             that cluster, and give what it prints by --join-token, --join-token-file or \
             HEADWATER_JOIN_TOKEN",
            address.as_str()
        ),
    };
    Ok(Some(Join { address: address.as_str().to_owned(), token }))
}

/// Where viewers reach the node. A port that the system is to choose cannot be told ahead.
fn base_urls(values: &RawConfig) -> Vec<String> {
    let own = &values.cluster;
    let listen = values.http.listen;
    if !own.http.is_empty() {
        return own.http.iter().map(|url| url.as_str().to_owned()).collect();
    }
    if !values.http.enabled || listen.port() == 0 {
        return Vec::new();
    }
    let here = match (&own.advertise, listen.ip().is_unspecified()) {
        (_, false) => listen.to_string(),
        (Some(advertise), true) => format!("{}:{}", advertise.host(), listen.port()),
        (None, true) => SocketAddr::new(own.listen.ip(), listen.port()).to_string(),
    };
    vec![format!("http://{here}")]
}

/// The machine's name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of a machine as the name of a node.
fn node_name(host: &str) -> NodeName {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = host.chars().filter(|c| allowed(*c)).take(NAME_BYTES_MAX).collect();
    NodeName::parse(&name).unwrap_or_else(|_| unnamed())
}

fn unnamed() -> NodeName {
    #[allow(clippy::expect_used, reason = "a constant")]
    NodeName::parse("node").expect("a name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_cluster::control::holder::HoldsNothing;

    fn read(text: &str) -> anyhow::Result<ClusterOptions> {
        cluster(&Config::read(Some(("f", text)), &[], [])?, Arc::new(HoldsNothing))
    }

    #[test]
    fn defaults_of_the_configuration_and_of_the_cluster_agree() {
        let ours = read("[cluster]\nname = \"a\"").unwrap();
        let theirs = ClusterOptions::alone(
            "./headwater-data",
            NodeName::parse("a").unwrap(),
            ours.region.clone(),
        );
        assert_eq!(format!("{:?}", ours.timings), format!("{:?}", theirs.timings));
        assert_eq!(ours.proposals_max, theirs.proposals_max);
        let endpoint = EndpointOptions::new("127.0.0.1:4443".parse().unwrap());
        assert_eq!(format!("{:?}", ours.endpoint), format!("{:?}", Some(endpoint)));
        assert!(ours.join.is_none());
    }

    #[test]
    fn viewers_are_told_where_http_listens_unless_the_file_says_otherwise() {
        for (text, urls) in [
            ("", &["http://127.0.0.1:8080"][..]),
            ("bind = \"127.0.0.2\"", &["http://127.0.0.2:8080"]),
            ("[cluster]\nlisten = \"10.0.0.1:1\"", &["http://10.0.0.1:8080"]),
            ("[cluster]\nadvertise = \"[::1]:1\"", &["http://[::1]:8080"]),
            ("[http]\nlisten = \"127.0.0.1:0\"", &[]),
            ("[cluster]\nhttp = [\"https://a/\"]", &["https://a"]),
        ] {
            assert_eq!(read(text).unwrap().http, urls, "{text}");
        }
        assert!(read("[cluster]\nenabled = false").unwrap().endpoint.is_none());
    }

    #[test]
    fn who_is_to_join_and_has_no_token_is_told_where_to_get_one() {
        let text = "data = \"/nowhere\"\n[cluster]\njoin = \"127.0.0.1:1\"";
        let error = read(text).err().unwrap().to_string();
        assert!(error.contains("headwater cluster join-token"), "{error}");
        let text = format!("{text}\njoin_token_file = \"/nowhere/token\"");
        let error = format!("{:#}", read(&text).err().unwrap());
        assert!(error.contains("cannot read the join token in /nowhere/token"), "{error}");
    }

    #[test]
    fn a_machines_name_becomes_a_nodes_name() {
        for (host, name) in [("box-1.example", "box-1.example"), ("b\u{f6}x", "bx"), ("", "node")] {
            assert_eq!(node_name(host).as_str(), name);
        }
        assert_eq!(node_name(&"a".repeat(100)).as_str().len(), NAME_BYTES_MAX);
    }

    #[test]
    fn defaults_of_the_configuration_and_of_the_parts_agree() {
        let raw = RawConfig::default();
        let (ours, theirs) = (streams(&raw), StreamsOptions::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert_eq!(packager(&raw), PackagerOptions::default());
        assert_eq!(hls(&raw), HlsOptions::default());
    }
}
