//! A WHIP client that sends on what an encoder sends it as plain RTP on loopback.
//!
//! Not here: the encoder.
#![allow(clippy::disallowed_methods, reason = "driver: waits")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp::Packet;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters};
use rtc::shared::marshal::Unmarshal as _;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use super::{Codec, Peer};
use crate::conformance::client::Client;

/// A publisher by WHIP.
pub struct WhipClient {
    peer: Peer,
    /// Where the encoder sends the RTP of each track.
    inputs: Vec<SocketAddr>,
    _forwarders: JoinSet<()>,
}

impl WhipClient {
    /// Publishes a track a codec under `stream`.
    ///
    /// # Errors
    /// The server refused, or the peers did not connect.
    pub async fn publish(client: &Client, stream: &str, codecs: &[Codec]) -> anyhow::Result<Self> {
        let (mut peer, _) = Peer::new(client, codecs, &[]).await?;
        let (mut inputs, mut forwarders) = (Vec::new(), JoinSet::new());
        let mut sources = Vec::new();
        for (n, codec) in codecs.iter().enumerate() {
            let ssrc = 0x1000_0000 + u32::try_from(n)?;
            let coding = RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(ssrc),
                    ..RTCRtpCodingParameters::default()
                },
                active: true,
                codec: codec.parameters(),
                ..RTCRtpEncodingParameters::default()
            };
            let track = MediaStreamTrack::new(
                "show".to_owned(),
                format!("track-{n}"),
                format!("{codec:?}"),
                codec.kind(),
                vec![coding.clone()],
            );
            let track: Arc<dyn TrackLocal> = Arc::new(TrackLocalStaticRTP::new(track));
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Sendonly,
                streams: vec!["show".to_owned()],
                send_encodings: vec![coding],
            };
            let connection = peer.connection();
            connection.add_transceiver_from_track(Arc::clone(&track), Some(init)).await?;
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            inputs.push(socket.local_addr()?);
            sources.push((socket, track, ssrc, codec.payload_type()));
        }
        peer.connect(&format!("/whip/{stream}")).await?;
        for (socket, track, ssrc, payload_type) in sources {
            forwarders.spawn(forward(socket, track, ssrc, payload_type));
        }
        Ok(Self { peer, inputs, _forwarders: forwarders })
    }

    /// Where an encoder is to send the RTP of each codec, in their order.
    #[must_use]
    pub fn inputs(&self) -> &[SocketAddr] {
        &self.inputs
    }

    /// Ends the session.
    ///
    /// # Errors
    /// As [`Peer::close`].
    pub async fn close(self) -> anyhow::Result<()> {
        self.peer.close().await
    }
}

async fn forward(socket: UdpSocket, track: Arc<dyn TrackLocal>, ssrc: u32, payload_type: u8) {
    let mut buffer = vec![0; 2048];
    while let Ok(size) = socket.recv(&mut buffer).await {
        let mut bytes = BytesMut::from(&buffer[..size]);
        let Ok(mut packet) = Packet::unmarshal(&mut bytes) else { continue };
        packet.header.ssrc = ssrc;
        packet.header.payload_type = payload_type;
        if track.write_rtp(packet).await.is_err() {
            break;
        }
    }
}
