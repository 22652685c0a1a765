//! How str0m is set up for publishers and for viewers.
//!
//! Not here: one peer (`peer`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::{CryptoProvider, DtlsCert};
use str0m::format::{Codec, FormatParams};
use str0m::media::Frequency;
use str0m::rtp::Extension;
use str0m::{Rtc, RtcConfig};

use crate::egress::keys;
use crate::error::SfuError;

/// How often the engine reports what it counted.
const STATS_INTERVAL: Duration = Duration::from_secs(2);

/// How often the sound's sender reports go out; until the first has come a player cannot line up
/// sound and picture.
const AUDIO_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Sound is not sent again, so a hole in it is only waited for as long as packets overtake each
/// other: three packets of 20 ms.
const AUDIO_REORDER_PACKETS: usize = 3;
const AUDIO_REORDER_TIMEOUT: Duration = Duration::from_millis(60);

/// What all peers of a worker share.
pub(crate) struct Engine {
    pub(crate) crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
}

impl Engine {
    /// An engine with a certificate of its own.
    ///
    /// # Errors
    /// [`SfuError::Start`] when no certificate can be made.
    pub(crate) fn new() -> Result<Self, SfuError> {
        let crypto = Arc::new(keys::provider());
        let certificate = crypto
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| SfuError::Start(String::from("no DTLS certificate can be made")))?;
        Ok(Self { crypto, certificate })
    }

    /// A peer that sends to us: whole frames come out of it.
    pub(crate) fn publisher(&self, now: Instant) -> Rtc {
        self.base().build(now)
    }

    /// A peer that takes from us. Packets are ours, and so are the answers to what it reports; it
    /// is asked for no feedback that nobody reads (transport-wide congestion control).
    pub(crate) fn viewer(&self, now: Instant) -> Rtc {
        self.base()
            .set_stats_interval(None)
            .set_rtp_mode(true)
            .enable_raw_packets(true)
            .clear_extension_map()
            .set_extension(4, Extension::RtpMid)
            .set_extension(12, Extension::PlayoutDelay)
            .build(now)
    }

    /// What publishers and viewers have in common.
    fn base(&self) -> RtcConfig {
        let mut config = RtcConfig::new()
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_dtls_cert(self.certificate.clone())
            .set_ice_lite(true)
            .set_stats_interval(Some(STATS_INTERVAL))
            .set_rtcp_report_interval_audio(AUDIO_REPORT_INTERVAL)
            .set_reordering_size_audio(AUDIO_REORDER_PACKETS)
            .set_reordering_timeout_audio(Some(AUDIO_REORDER_TIMEOUT))
            .clear_codecs()
            .enable_h264(true)
            .enable_vp8(true)
            .enable_vp9(true)
            .enable_av1(true)
            .set_extension(6, Extension::AbsoluteCaptureTime)
            .set_extension(12, Extension::PlayoutDelay);
        let stereo = FormatParams {
            min_p_time: Some(10),
            use_inband_fec: Some(true),
            stereo: Some(true),
            sprop_stereo: Some(true),
            ..FormatParams::default()
        };
        let rate = Frequency::FORTY_EIGHT_KHZ;
        config.codec_config().add_config(111.into(), None, Codec::Opus, rate, Some(2), stereo);
        config
    }
}
