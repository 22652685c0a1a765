//! From configuration keys to the options of each part.
//!
//! Not here: what a key means (`config`), what an option does (its part).

use headwater_media::limits::BusLimits;

use headwater_sfu::SfuConfig;

use crate::config::{Config, HlsAudio, RawConfig, SecondPublisher};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_configuration_and_of_the_parts_agree() {
        let raw = RawConfig::default();
        let (ours, theirs) = (streams(&raw), StreamsOptions::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert_eq!(packager(&raw), PackagerOptions::default());
        assert_eq!(hls(&raw), HlsOptions::default());
    }
}
