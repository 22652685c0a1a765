//! The codecs that a peer offers, one of each kind, and how ffmpeg is told of them.
//!
//! Not here: negotiation (`peer`).

use bytes::Bytes;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_AV1, MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_VP8, MIME_TYPE_VP9, MediaEngine,
};
use rtc::rtp::codec::vp9::Vp9Packet;
use rtc::rtp::packetizer::Depacketizer as _;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use webrtc::error::Result;

/// A codec of RTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// RFC 6184, packetization-mode 1, Constrained Baseline.
    H264,
    /// RFC 7741.
    Vp8,
    /// RFC 9628, profile 0.
    Vp9,
    /// The AV1 RTP specification, profile 0.
    Av1,
    /// RFC 7587, two channels.
    Opus,
}

impl Codec {
    /// The payload type that the peer offers, and the answer keeps.
    #[must_use]
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Vp8 => 96,
            Self::Vp9 => 98,
            Self::H264 => 102,
            Self::Av1 => 104,
            Self::Opus => 111,
        }
    }

    /// Whether it is audio or video.
    #[must_use]
    pub fn kind(self) -> RtpCodecKind {
        match self {
            Self::Opus => RtpCodecKind::Audio,
            _ => RtpCodecKind::Video,
        }
    }

    /// The codec as the crate names it.
    #[must_use]
    pub fn parameters(self) -> RTCRtpCodec {
        let (mime, format) = match self {
            Self::H264 => (
                MIME_TYPE_H264,
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            ),
            Self::Vp8 => (MIME_TYPE_VP8, ""),
            Self::Vp9 => (MIME_TYPE_VP9, "profile-id=0"),
            Self::Av1 => (MIME_TYPE_AV1, "profile=0;level-idx=5;tier=0"),
            Self::Opus => (MIME_TYPE_OPUS, "minptime=10;useinbandfec=1"),
        };
        let (clock_rate, channels) = match self {
            Self::Opus => (48_000, 2),
            _ => (90_000, 0),
        };
        RTCRtpCodec {
            mime_type: mime.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: format.to_owned(),
            rtcp_feedback: Vec::new(),
        }
    }

    /// The lines of a session description (RFC 8866) by which a decoder receives it on `port`.
    #[must_use]
    pub fn description(self, port: u16) -> String {
        let pt = self.payload_type();
        let (media, map) = match self {
            Self::H264 => ("video", "H264/90000"),
            Self::Vp8 => ("video", "VP8/90000"),
            Self::Vp9 => ("video", "VP9/90000"),
            Self::Av1 => ("video", "AV1/90000"),
            Self::Opus => ("audio", "opus/48000/2"),
        };
        let format = match self {
            Self::H264 => format!("a=fmtp:{pt} packetization-mode=1\r\n"),
            _ => String::new(),
        };
        format!(
            "m={media} {port} RTP/AVP {pt}\r\nc=IN IP4 127.0.0.1\r\na=rtpmap:{pt} {map}\r\n{format}"
        )
    }

    /// A payload as ffmpeg reads it: its VP9 reader takes references (RFC 9628 §4.2, `P_DIFF`) by an
    /// older draft, so that they are left out.
    pub(super) fn plain(self, payload: Bytes) -> Bytes {
        const BEGIN: u8 = 0x08;
        const END: u8 = 0x04;
        let mut reader = Vp9Packet::default();
        match (self, reader.depacketize(&payload)) {
            (Self::Vp9, Ok(media)) => {
                let flags = (u8::from(reader.b) * BEGIN) | (u8::from(reader.e) * END);
                [&[flags], &media[..]].concat().into()
            }
            _ => payload,
        }
    }

    pub(super) fn register(self, engine: &mut MediaEngine) -> Result<()> {
        let parameters = RTCRtpCodecParameters {
            rtp_codec: self.parameters(),
            payload_type: self.payload_type(),
        };
        engine.register_codec(parameters, self.kind())
    }
}
