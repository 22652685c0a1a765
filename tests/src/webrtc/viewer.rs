//! A WHEP viewer that counts what it gets and may hand it on to a decoder as plain RTP.
//!
//! Not here: the decoder.
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rtc::rtp::Packet;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::shared::marshal::Marshal as _;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::SrtpProtectionProfile;
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use super::{Codec, Peer};
use crate::conformance::client::Client;

/// Packets that are this far behind the newest one will not come any more.
const REORDER: u64 = 2_000;

/// What came on one kind of track.
#[derive(Debug, Default)]
pub struct Counts {
    /// RTP packets, repeated ones once.
    pub packets: AtomicU64,
    /// Frames, by the marker bit.
    pub frames: AtomicU64,
    /// Packets that never came.
    pub lost: AtomicU64,
    /// The longest time without a packet, in milliseconds, since it was last read and set to 0.
    pub silence_ms: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Counts {
    /// For how long nothing has come.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.last.lock().map_or(Duration::MAX, |last| last.elapsed())
    }
}

/// A viewer by WHEP.
pub struct Viewer {
    /// The connection.
    pub peer: Peer,
    /// What came of video.
    pub video: Arc<Counts>,
    /// What came of audio.
    pub audio: Arc<Counts>,
    _readers: JoinSet<()>,
}

impl Viewer {
    /// Plays `stream` in `codecs`, one of each kind at most. What comes of each is sent on to the
    /// address beside it.
    ///
    /// # Errors
    /// The server refused, or the peers did not connect.
    pub async fn play(
        client: &Client,
        stream: &str,
        codecs: &[(Codec, Option<SocketAddr>)],
    ) -> anyhow::Result<Self> {
        Self::play_sealed(client, stream, codecs, &[]).await
    }

    /// The same with the SRTP profiles that are offered; without any, those it prefers.
    ///
    /// # Errors
    /// The server refused, or the peers did not connect.
    pub async fn play_sealed(
        client: &Client,
        stream: &str,
        codecs: &[(Codec, Option<SocketAddr>)],
        srtp: &[SrtpProtectionProfile],
    ) -> anyhow::Result<Self> {
        let names: Vec<Codec> = codecs.iter().map(|(codec, _)| *codec).collect();
        let (mut peer, tracks) = Peer::new(client, &names, srtp).await?;
        for codec in &names {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                ..RTCRtpTransceiverInit::default()
            };
            peer.connection().add_transceiver_from_kind(codec.kind(), Some(init)).await?;
        }
        let (video, audio) = (Arc::<Counts>::default(), Arc::<Counts>::default());
        let mut readers = JoinSet::new();
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let outlet = |kind| {
            let of_kind = codecs.iter().find(|(codec, _)| codec.kind() == kind);
            of_kind.and_then(|(codec, to)| Some((*codec, (*to)?)))
        };
        let outlets = [outlet(RtpCodecKind::Video), outlet(RtpCodecKind::Audio)];
        let counts = [Arc::clone(&video), Arc::clone(&audio)];
        readers.spawn(read_all(tracks, counts, outlets, socket));
        peer.connect(&format!("/whep/{stream}")).await?;
        Ok(Self { peer, video, audio, _readers: readers })
    }
}

type Outlet = Option<(Codec, SocketAddr)>;

async fn read_all(
    mut tracks: mpsc::UnboundedReceiver<Arc<dyn TrackRemote>>,
    [video, audio]: [Arc<Counts>; 2],
    [video_outlet, audio_outlet]: [Outlet; 2],
    socket: Arc<UdpSocket>,
) {
    let mut readers = JoinSet::new();
    while let Some(track) = tracks.recv().await {
        let (counts, outlet) = match track.kind().await {
            RtpCodecKind::Audio => (&audio, audio_outlet),
            _ => (&video, video_outlet),
        };
        readers.spawn(read(track, Arc::clone(counts), outlet, Arc::clone(&socket)));
    }
    while readers.join_next().await.is_some() {}
}

async fn read(
    track: Arc<dyn TrackRemote>,
    counts: Arc<Counts>,
    outlet: Outlet,
    socket: Arc<UdpSocket>,
) {
    let mut order = Order::default();
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
        let now = Instant::now();
        if let Some(last) = counts.last.lock().replace(now) {
            let silence = u64::try_from((now - last).as_millis()).unwrap_or(u64::MAX);
            counts.silence_ms.fetch_max(silence, Ordering::Relaxed);
        }
        if !order.take(packet.header.sequence_number) {
            continue;
        }
        counts.packets.fetch_add(1, Ordering::Relaxed);
        counts.frames.fetch_add(u64::from(packet.header.marker), Ordering::Relaxed);
        counts.lost.store(order.lost, Ordering::Relaxed);
        if let Some((codec, to)) = outlet {
            hand_on(packet, codec, to, &socket).await;
        }
    }
}

async fn hand_on(mut packet: Packet, codec: Codec, to: SocketAddr, socket: &UdpSocket) {
    packet.header.payload_type = codec.payload_type();
    packet.payload = codec.plain(packet.payload);
    packet.header.extension = false;
    packet.header.extensions.clear();
    if let Ok(bytes) = packet.marshal() {
        // A decoder that has seen enough is gone.
        let _ = socket.send_to(&bytes, to).await;
    }
}

/// Which sequence numbers came.
#[derive(Default)]
struct Order {
    newest: Option<u64>,
    missing: BTreeSet<u64>,
    lost: u64,
}

impl Order {
    /// Notes a packet; false if it came before.
    fn take(&mut self, sequence: u16) -> bool {
        let Some(newest) = self.newest else {
            // Room below, for packets that were overtaken by the first one.
            self.newest = Some(0x1_0000 + u64::from(sequence));
            return true;
        };
        let step = sequence.wrapping_sub(newest as u16).cast_signed();
        let place = newest.saturating_add_signed(i64::from(step));
        if place <= newest {
            return self.missing.remove(&place);
        }
        self.missing.extend(newest + 1..place);
        self.newest = Some(place);
        while self.missing.first().is_some_and(|oldest| oldest + REORDER < place) {
            self.missing.pop_first();
            self.lost += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, REORDER};

    #[test]
    fn a_late_packet_is_not_lost_and_a_repeated_one_counts_once() {
        let mut order = Order::default();
        assert!(order.take(65_534) && order.take(65_535) && order.take(1));
        assert!(order.take(0), "late, across the wrap");
        assert!(!order.take(0) && !order.take(1), "repeated");
        assert_eq!(order.lost, 0);
    }

    #[test]
    fn a_packet_that_never_comes_is_lost() {
        let mut order = Order::default();
        order.take(10);
        for n in 0..=REORDER {
            order.take(12 + u16::try_from(n).unwrap());
        }
        assert_eq!(order.lost, 1);
    }
}
