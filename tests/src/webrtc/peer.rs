//! A peer connection that is set up by one HTTP exchange, as WHIP and WHEP do.
//!
//! Not here: what flows (`whip`, `viewer`).
#![allow(clippy::disallowed_methods, reason = "driver: waits")]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Request;
use tokio::sync::{mpsc, watch};
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
    SettingEngineBuilder, SrtpProtectionProfile, register_default_interceptors,
};
use webrtc::runtime::default_runtime;

use super::Codec;
use crate::conformance::client::{Answer, Client};

/// No step of setting up may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A peer connection and its session at the server.
pub struct Peer {
    connection: Arc<dyn PeerConnection>,
    client: Client,
    state: watch::Receiver<RTCPeerConnectionState>,
    gathered: watch::Receiver<bool>,
    /// The session's URL, once there is one.
    session: Option<String>,
}

struct Events {
    state: watch::Sender<RTCPeerConnectionState>,
    gathered: watch::Sender<bool>,
    tracks: mpsc::UnboundedSender<Arc<dyn TrackRemote>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Events {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered.send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        // Nobody takes them from a publisher.
        let _ = self.tracks.send(track);
    }
}

impl Peer {
    /// A connection on loopback that knows `codecs`, and the tracks it will receive. It offers the
    /// SRTP profiles of `srtp`, or those it prefers where there are none.
    pub(super) async fn new(
        client: &Client,
        codecs: &[Codec],
        srtp: &[SrtpProtectionProfile],
    ) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<Arc<dyn TrackRemote>>)> {
        let mut engine = MediaEngine::default();
        for codec in codecs {
            codec.register(&mut engine)?;
        }
        let registry = register_default_interceptors(Registry::new(), &mut engine)?;
        let settings =
            SettingEngineBuilder::new().with_srtp_protection_profiles(srtp.to_vec()).build();
        let (state, state_seen) = watch::channel(RTCPeerConnectionState::New);
        let (gathered, gathered_seen) = watch::channel(false);
        let (tracks, received) = mpsc::unbounded_channel();
        let connecting = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Events { state, gathered, tracks }))
            .with_runtime(default_runtime().context("the tokio runtime is compiled in")?)
            .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
            .build();
        let connection = Box::pin(connecting).await?;
        let peer = Self {
            connection: Arc::new(connection),
            client: client.clone(),
            state: state_seen,
            gathered: gathered_seen,
            session: None,
        };
        Ok((peer, received))
    }

    pub(super) fn connection(&self) -> &Arc<dyn PeerConnection> {
        &self.connection
    }

    /// Offers at `path` with all candidates gathered, takes the answer, and waits until media may
    /// flow.
    ///
    /// # Errors
    /// The server refused, or the peers did not connect.
    pub(super) async fn connect(&mut self, path: &str) -> anyhow::Result<()> {
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer).await?;
        tokio::time::timeout(PATIENCE, self.gathered.wait_for(|done| *done)).await??;
        let offer = self.connection.local_description().await.context("an offer was made")?;
        let answer = self.post(path, &offer.sdp).await?;
        if answer.status != 201 {
            bail!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        let location = answer.headers.get("location").context("201 without Location")?;
        self.session = Some(location.to_str()?.to_owned());
        let sdp = String::from_utf8(answer.body.to_vec())?;
        self.connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await?;
        self.connected().await
    }

    async fn post(&self, path: &str, offer: &str) -> anyhow::Result<Answer> {
        let request = Request::post(path).header("content-type", "application/sdp");
        let body = Bytes::copy_from_slice(offer.as_bytes());
        self.client.send(request, body).await.map_err(anyhow::Error::msg)
    }

    async fn connected(&mut self) -> anyhow::Result<()> {
        let over = |state: &RTCPeerConnectionState| {
            matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
        };
        let up = |state: &RTCPeerConnectionState| *state == RTCPeerConnectionState::Connected;
        let seen = self.state.wait_for(|state| up(state) || over(state));
        let state = *tokio::time::timeout(PATIENCE, seen).await.context("never connected")??;
        if over(&state) {
            bail!("the connection is {state}");
        }
        Ok(())
    }

    /// Whether the connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.state.borrow() == RTCPeerConnectionState::Connected
    }

    /// Ends the session by DELETE (RFC 9725 §4.2), and the connection.
    ///
    /// # Errors
    /// The server did not know the session, or the connection was gone.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some(session) = &self.session {
            let answer = self.client.send(Request::delete(session), Bytes::new()).await;
            let answer = answer.map_err(anyhow::Error::msg)?;
            if answer.status != 200 {
                bail!("DELETE {session}: {}", answer.status);
            }
        }
        self.connection.close().await?;
        Ok(())
    }

    /// Ends the connection alone: its server is gone.
    pub async fn abandon(self) {
        // What it says of a peer that is gone tells nothing.
        let _ = self.connection.close().await;
    }
}
