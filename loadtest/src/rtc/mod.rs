//! What publishers by WHIP and viewers by WHEP share: a WebRTC peer by str0m over a socket of its
//! own.
//!
//! Keeps str0m's contract: one mutation, then its output drained to the next timeout; of a batch
//! of datagrams the packets come first, see [`Until`].
//! Not here: HTTP (`http`), what is done with media (`publish::whip`, `view::whep`).

pub(crate) mod link;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::{CryptoProvider, DtlsCert};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};

use self::link::{Link, Outbox};

/// How long a peer may take from its answer to DTLS.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What all peers share: making a certificate for each would cost more than a connection.
#[derive(Clone)]
pub(crate) struct Engine {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
}

impl Engine {
    /// # Errors
    /// No certificate can be made.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let certificate = crypto.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| anyhow::anyhow!("no DTLS certificate"))?;
        Ok(Self { crypto, certificate })
    }

    /// A configuration for H.264 and Opus.
    pub(crate) fn config(&self) -> RtcConfig {
        RtcConfig::new()
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_dtls_cert(self.certificate.clone())
            .clear_codecs()
            .enable_h264(true)
            .enable_opus(true, false)
    }
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Neither ICE nor DTLS is done.
    Connecting,
    /// Media flows.
    Connected,
    /// The other side ended it, or nothing came for too long.
    Lost,
}

/// What is done with what comes.
pub(crate) trait Handler {
    /// A datagram came, before the engine sees it; whether the engine may.
    fn admits(&mut self, datagram: &[u8]) -> bool {
        let _ = datagram;
        true
    }
    /// Something happened in the engine.
    fn event(&mut self, rtc: &mut Rtc, event: Event);
}

/// A peer and its socket.
pub(crate) struct Peer {
    pub(crate) rtc: Rtc,
    pub(crate) standing: Standing,
    /// When the engine wants to be called again.
    pub(crate) deadline: Instant,
    link: Link,
    outbox: Outbox,
}

impl Peer {
    /// A peer on a socket of this address.
    ///
    /// # Errors
    /// There is no socket left.
    pub(crate) fn new(config: RtcConfig, local: SocketAddr, now: Instant) -> anyhow::Result<Self> {
        let link = Link::bind(local)?;
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(link.local(), "udp")?);
        let (standing, outbox) = (Standing::Connecting, Outbox::default());
        Ok(Self { rtc, link, outbox, standing, deadline: now })
    }

    /// Resolves when there is something to read.
    pub(crate) async fn readable(&self) {
        self.link.readable().await;
    }

    /// Gives the engine what has come, a few batches at most; whether anything had.
    pub(crate) fn read(&mut self, now: Instant, handler: &mut impl Handler) -> bool {
        let Self { rtc, standing, deadline, link, outbox } = self;
        let local = link.local();
        let any = link.read(|source, datagram| {
            if !handler.admits(datagram) {
                return;
            }
            let Ok(receive) = Receive::new(Protocol::Udp, source, local, datagram) else { return };
            // A bad packet is not the end of a session; a dead engine shows in `drain`.
            let _ = rtc.handle_input(Input::Receive(now, receive));
            drain(rtc, standing, deadline, outbox, handler, Until::Packet);
        });
        if any {
            drain(rtc, standing, deadline, outbox, handler, Until::Empty);
        }
        any
    }

    /// Lets time pass in the engine: also after writing to it.
    pub(crate) fn tick(&mut self, now: Instant, handler: &mut impl Handler) {
        let Self { rtc, standing, deadline, outbox, .. } = self;
        let _ = rtc.handle_input(Input::Timeout(now));
        drain(rtc, standing, deadline, outbox, handler, Until::Empty);
    }

    /// Sends what the engine wants sent: before each wait.
    pub(crate) fn flush(&mut self) {
        self.outbox.flush(&self.link);
    }
}

/// How far the engine's output is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// All of it: before anything else is done to the engine than giving it the next datagram.
    Empty,
    /// Up to the RTP packet that a datagram held. The engine keeps one such packet, which the next
    /// datagram would replace; what else it has to say can wait until a batch has been read, and
    /// asking for it after each packet is a good part of a packet's cost.
    Packet,
}

/// Takes output of the engine.
fn drain(
    rtc: &mut Rtc,
    standing: &mut Standing,
    deadline: &mut Instant,
    outbox: &mut Outbox,
    handler: &mut impl Handler,
    until: Until,
) {
    loop {
        match rtc.poll_output() {
            Ok(Output::Timeout(at)) => {
                *deadline = at;
                break;
            }
            Ok(Output::Transmit(transmit)) => {
                outbox.queue(transmit.destination, &transmit.contents);
            }
            Ok(Output::Event(event)) => {
                match &event {
                    Event::Connected => *standing = Standing::Connected,
                    Event::Closed
                    | Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                        *standing = Standing::Lost;
                    }
                    _ => {}
                }
                let packet = matches!(event, Event::RtpPacket(_));
                handler.event(rtc, event);
                if packet && until == Until::Packet {
                    return;
                }
            }
            Err(_) => {
                *standing = Standing::Lost;
                break;
            }
        }
    }
    if !rtc.is_alive() {
        *standing = Standing::Lost;
    }
}
