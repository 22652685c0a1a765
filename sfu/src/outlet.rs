//! One of a viewer's tracks: its clock, its stream, and the payload type that fits its codec.
//!
//! Not here: the viewer's queue (`viewer`), the stream's packets (`egress`).

use std::sync::Arc;

use headwater_media::codec::Codec;
use headwater_media::{ClockRate, MediaKind, Track, TrackConfig};
use str0m::Rtc;
use str0m::format::{Codec as Wire, PayloadParams};
use str0m::media::Mid;
use str0m::rtp::Extension;

use crate::config::SfuConfig;
use crate::egress::stream::{Identity, PayloadTypes, Stream};
use crate::egress::{ExtensionIds, Resends};
use crate::outclock::OutClock;
use crate::sdp;

/// One of the viewer's tracks.
pub(crate) struct Outlet {
    pub(crate) track: Track,
    pub(crate) mid: Mid,
    pub(crate) clock: OutClock,
    rate: ClockRate,
    first_sequence: u16,
    /// There once the viewer is connected.
    pub(crate) stream: Option<Stream>,
    /// The configuration last seen, and the payload types it is sent with.
    config: Option<(Arc<TrackConfig>, Option<PayloadTypes>)>,
    /// Frames are no use until a keyframe comes.
    pub(crate) waits_for_keyframe: bool,
    pub(crate) ended: bool,
}

impl Outlet {
    /// A track on the m-line of the given name. Its packets are numbered from `first_sequence`,
    /// of which 15 bits are used: the viewer takes the roll-over counter to be 0 (RFC 3711
    /// §3.3.1), and must still do so when the first packets were lost.
    pub(crate) fn new(track: Track, mid: &str, first_sequence: u16) -> Self {
        let rate = match track.kind() {
            MediaKind::Video => ClockRate::VIDEO,
            MediaKind::Audio => ClockRate::OPUS,
        };
        Self {
            clock: OutClock::new(rate),
            rate,
            waits_for_keyframe: track.kind() == MediaKind::Video,
            track,
            mid: Mid::from(mid),
            first_sequence: first_sequence & 0x7fff,
            stream: None,
            config: None,
            ended: false,
        }
    }

    pub(crate) fn is_video(&self) -> bool {
        self.track.kind() == MediaKind::Video
    }

    /// Makes the stream that the answer described.
    pub(crate) fn open(&mut self, rtc: &mut Rtc, config: &SfuConfig) {
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(self.mid, None) else { return };
        let (ssrc, resent_ssrc) = (*stream.ssrc(), stream.rtx().map(|ssrc| *ssrc));
        let Some(media) = rtc.media(self.mid) else { return };
        let negotiated = media.remote_extmap();
        let identity = Identity {
            ssrc,
            resent_ssrc,
            mid: self.mid.to_string(),
            extensions: ExtensionIds {
                mid: negotiated.id_of(Extension::RtpMid),
                playout_delay: negotiated.id_of(Extension::PlayoutDelay),
            },
            cname: media.cname().to_owned(),
            rate_hz: self.rate.hz(),
        };
        let resends = Resends::new(config.rtx_packets, config.rtx_age, config.rtx_ratio);
        self.stream = Some(Stream::new(identity, self.first_sequence, resends));
    }

    /// The payload types for a configuration; looked up when the configuration changes.
    pub(crate) fn payload_types(
        &mut self,
        rtc: &Rtc,
        config: &Arc<TrackConfig>,
    ) -> Option<PayloadTypes> {
        if let Some((known, types)) = &self.config
            && Arc::ptr_eq(known, config)
        {
            return *types;
        }
        let refused = sdp::cannot_carry(&self.track, &config.codec);
        let types = if refused.is_none() { choose(rtc, self.mid, &config.codec) } else { None };
        if types.is_none() {
            let why = refused.unwrap_or_else(|| String::from("the codec was not negotiated"));
            tracing::warn!(track = %self.track.name(), %why, "a viewer's track stops");
        }
        self.config = Some((Arc::clone(config), types));
        types
    }

    /// The payload type that packets have now.
    pub(crate) fn current_payload_type(&self) -> Option<u8> {
        self.config.as_ref().and_then(|(_, types)| *types).map(|types| types.first)
    }

    /// Nothing (more) can be sent.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(&self.config, Some((_, None))) || self.ended
    }
}

/// The negotiated payload types that fit a codec best.
fn choose(rtc: &Rtc, mid: Mid, codec: &Codec) -> Option<PayloadTypes> {
    let media = rtc.media(mid)?;
    let wanted = match codec {
        Codec::H264(_) => Wire::H264,
        Codec::Vp8(_) => Wire::Vp8,
        Codec::Vp9(_) => Wire::Vp9,
        Codec::Av1(_) => Wire::Av1,
        Codec::Opus(_) => Wire::Opus,
        Codec::H265(_) | Codec::Aac(_) => return None,
    };
    let fits = |p: &&PayloadParams| {
        let mode = wanted != Wire::H264 || p.spec().format.packetization_mode == Some(1);
        p.spec().codec == wanted && mode && media.remote_pts().contains(&p.pt())
    };
    let rank = |p: &&PayloadParams| {
        let format = p.spec().format;
        match codec {
            // The nearest profile: browsers decode more than they list.
            Codec::H264(config) => {
                let profile = format.profile_level_id.unwrap_or_default() >> 16;
                profile.abs_diff(u32::from(config.profile))
            }
            Codec::Vp9(config) => {
                format.profile_id.unwrap_or_default().abs_diff(u32::from(config.profile))
            }
            _ => 0,
        }
    };
    let best = rtc.codec_config().params().iter().filter(fits).min_by_key(rank)?;
    Some(PayloadTypes { first: *best.pt(), resent: best.resend().map(|pt| *pt) })
}
