//! The SRTP keys that a DTLS handshake yields, for an egress of our own.
//!
//! The engine keeps its keys to itself, but takes the crypto it works with as a value: ours is
//! the engine's own, whose DTLS connections also put their keys where the peer that was just
//! driven finds them. A handshake runs on its worker's thread alone, so that is a place of the
//! thread's.
//! Not here: what is done with keys (`seal`).

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Instant;

use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
    SrtpProfile,
};
use str0m::crypto::{CryptoProvider, from_feature_flags};

/// What a handshake agreed on (RFC 5764 §4.2): client key, server key, client salt, server salt.
pub(crate) struct SrtpKeys {
    pub(crate) profile: SrtpProfile,
    pub(crate) material: Vec<u8>,
    /// We are the DTLS client.
    pub(crate) active: bool,
}

thread_local! {
    static HEARD: RefCell<Option<SrtpKeys>> = const { RefCell::new(None) };
}

/// The keys of the handshake that has come to its end on this thread since the last call.
pub(crate) fn take() -> Option<SrtpKeys> {
    HEARD.take()
}

/// The engine's crypto, whose handshakes leave their keys for [`take`].
pub(crate) fn provider() -> CryptoProvider {
    static LISTENING: OnceLock<Listening> = OnceLock::new();
    let own = from_feature_flags();
    let dtls_provider = LISTENING.get_or_init(|| Listening(own.dtls_provider));
    CryptoProvider { dtls_provider, ..own }
}

#[derive(Debug)]
struct Listening(&'static dyn DtlsProvider);

impl DtlsProvider for Listening {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        self.0.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, str0m::crypto::CryptoError> {
        Ok(Box::new(Connection(self.0.new_dtls(certificate, now, version, mtu)?)))
    }

    fn is_test(&self) -> bool {
        self.0.is_test()
    }
}

#[derive(Debug)]
struct Connection(Box<dyn DtlsInstance>);

impl DtlsInstance for Connection {
    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.0.poll_output(buffer);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            let material = material.as_ref().to_vec();
            let keys = SrtpKeys { profile: *profile, material, active: self.0.is_active() };
            HEARD.set(Some(keys));
        }
        output
    }

    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}
