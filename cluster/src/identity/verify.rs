//! TLS between nodes: version 1.3 alone, both sides with certificates of the cluster's own CA, and
//! each side checks whom the other's certificate names.
//!
//! Sessions are never resumed and no data is sent before the handshake ends (0-RTT): a resumed
//! session would not see that a certificate has expired, and early data can be replayed.
//!
//! Not here: whether the node so proven is a member, or was removed (`endpoint`'s `Admit`).

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
};

use super::{
    CertificateInfo, ClusterId, Identity, IdentityError, JoinToken, NodeId, Role, Subject,
};
use super::{node::Presented, sha256};

/// Codes of refusals begin here; below are codes that are none (0: closed in order).
const CODES: u32 = 0x100;

/// Why a connection of a node, or of somebody who would be one, was refused. The label in
/// `headwater_cluster_refused_total{reason}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Shows no certificate where one is needed.
    NoCertificate,
    /// Its certificate is of another CA.
    ForeignCertificate,
    /// Its certificate has expired, or does not hold yet (a clock that is wrong by much).
    ExpiredCertificate,
    /// Its certificate says what its CA did not sign, or it lacks the certificate's key.
    ForgedCertificate,
    /// Its certificate names another cluster, or no node.
    WrongSubject,
    /// Says to be another node than its certificate.
    ForgedNodeId,
    /// Not the node that was called.
    OtherNode,
    /// Was removed from the cluster.
    RemovedNode,
    /// Another process with this node's id is alive.
    DuplicateNode,
    /// A relay asks for what origins alone may.
    NotAnOrigin,
    /// Speaks another version of the protocol.
    Version,
    /// More connections than a limit allows.
    TooManyConnections,
    /// A handshake that did not come to its end.
    Handshake,
    /// Bytes that are no message, or too many of them.
    Malformed,
    /// A join token that is unknown, used, or has ended.
    JoinToken,
}

impl Refusal {
    /// Its stable name, in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::NoCertificate => "no-certificate",
            Refusal::ForeignCertificate => "foreign-certificate",
            Refusal::ExpiredCertificate => "expired-certificate",
            Refusal::ForgedCertificate => "forged-certificate",
            Refusal::WrongSubject => "wrong-subject",
            Refusal::ForgedNodeId => "forged-node-id",
            Refusal::OtherNode => "other-node",
            Refusal::RemovedNode => "removed-node",
            Refusal::DuplicateNode => "duplicate-node",
            Refusal::NotAnOrigin => "not-an-origin",
            Refusal::Version => "version",
            Refusal::TooManyConnections => "too-many-connections",
            Refusal::Handshake => "handshake",
            Refusal::Malformed => "malformed",
            Refusal::JoinToken => "join-token",
        }
    }

    /// All, in the order of their codes.
    pub const ALL: [Refusal; 15] = [
        Refusal::NoCertificate,
        Refusal::ForeignCertificate,
        Refusal::ExpiredCertificate,
        Refusal::ForgedCertificate,
        Refusal::WrongSubject,
        Refusal::ForgedNodeId,
        Refusal::OtherNode,
        Refusal::RemovedNode,
        Refusal::DuplicateNode,
        Refusal::NotAnOrigin,
        Refusal::Version,
        Refusal::TooManyConnections,
        Refusal::Handshake,
        Refusal::Malformed,
        Refusal::JoinToken,
    ];

    /// Its place in `ALL`.
    pub(crate) fn index(self) -> usize {
        Refusal::ALL.iter().position(|other| *other == self).unwrap_or(0)
    }

    /// The code with which a connection is closed for it (QUIC application error code).
    pub(crate) fn code(self) -> u32 {
        CODES.saturating_add(u32::try_from(self.index()).unwrap_or(0))
    }

    /// The refusal behind such a code.
    pub(crate) fn of_code(code: u64) -> Option<Refusal> {
        let index = code.checked_sub(u64::from(CODES))?;
        Refusal::ALL.get(usize::try_from(index).ok()?).copied()
    }

    /// The refusal behind a TLS alert (RFC 8446 section 6.2), whoever sent it.
    pub(crate) const fn of_alert(alert: u8) -> Refusal {
        match alert {
            48 => Refusal::ForeignCertificate,
            45 => Refusal::ExpiredCertificate,
            42 | 46 | 50 | 51 => Refusal::ForgedCertificate,
            49 => Refusal::WrongSubject,
            116 => Refusal::NoCertificate,
            120 => Refusal::Version,
            _ => Refusal::Handshake,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who stands at a connection's other end; `None` when it showed no certificate. What it showed
/// was verified in the handshake.
pub(crate) fn peer_of(connection: &quinn::Connection) -> Option<Subject> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Some(CertificateInfo::read(chain.first()?).ok()?.subject)
}

/// The TLS of a node that is called. Certificates are asked for, and verified when shown; that one
/// is shown is checked after the handshake, since a joiner has none yet (rustls chooses before the
/// ALPN is known).
pub(crate) fn server_config(
    identity: &Identity,
    alpns: &[&[u8]],
) -> Result<ServerConfig, IdentityError> {
    let provider = provider();
    let roots = Arc::new(roots(identity.authority_certificate())?);
    let inner = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| IdentityError::Certificate(error.to_string()))?;
    let verifier = ClientVerifier { inner, cluster: identity.subject().cluster };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity.presented());
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The TLS of a node that calls another; `node`, if it is known whom it calls.
pub(crate) fn client_config(
    identity: &Identity,
    alpn: &[u8],
    node: Option<NodeId>,
) -> Result<ClientConfig, IdentityError> {
    let verifier = ServerVerifier {
        trust: Trust::Roots(roots(identity.authority_certificate())?),
        cluster: identity.subject().cluster,
        node,
        algorithms: provider().signature_verification_algorithms,
    };
    let config = client_builder(verifier)?.with_client_cert_resolver(identity.presented());
    Ok(finish_client(config, alpn))
}

/// The TLS of a joiner: no certificate yet; believes only the CA that its token names.
pub(crate) fn join_client_config(
    token: &JoinToken,
    alpn: &[u8],
) -> Result<ClientConfig, IdentityError> {
    let verifier = ServerVerifier {
        trust: Trust::Fingerprint(token.authority),
        cluster: token.cluster,
        node: None,
        algorithms: provider().signature_verification_algorithms,
    };
    Ok(finish_client(client_builder(verifier)?.with_no_client_auth(), alpn))
}

type WantsClientCertificate = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(verifier: ServerVerifier) -> Result<WantsClientCertificate, IdentityError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn finish_client(mut config: ClientConfig, alpn: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(certificate: &CertificateDer<'_>) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).map_err(tls)?;
    Ok(roots)
}

fn tls(error: Error) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}

/// The certificate is well signed; it must name a node of this cluster, too.
fn subject(certificate: &CertificateDer<'_>, cluster: ClusterId) -> Result<Subject, Error> {
    let refused = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    match CertificateInfo::read(certificate) {
        Ok(info) if info.subject.cluster == cluster => Ok(info.subject),
        _ => Err(refused),
    }
}

/// Whom a caller believes.
#[derive(Debug)]
enum Trust {
    /// Certificates of this CA.
    Roots(RootCertStore),
    /// Certificates of the CA of this fingerprint, which comes along in the chain.
    Fingerprint([u8; 32]),
}

/// Verifies the node that was called.
#[derive(Debug)]
struct ServerVerifier {
    trust: Trust,
    cluster: ClusterId,
    node: Option<NodeId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found;
        let roots = match &self.trust {
            Trust::Roots(roots) => roots,
            Trust::Fingerprint(fingerprint) => {
                let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
                let authority = intermediates
                    .iter()
                    .find(|certificate| sha256(certificate) == *fingerprint)
                    .ok_or(unknown)?;
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone().into_owned())?;
                found = roots;
                &found
            }
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            roots,
            &[],
            now,
            self.algorithms.all,
        )?;
        let subject = subject(end_entity, self.cluster)?;
        let expected = match self.node {
            Some(node) => subject.node == node,
            // A joiner may only be given its certificate, and a key, by a node that holds the CA's.
            None => subject.role == Role::Origin,
        };
        if !expected {
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies a caller that shows a certificate.
#[derive(Debug)]
struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    cluster: ClusterId,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hint: a stranger need not learn the cluster's name, and a node shows what it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, &[], now)?;
        subject(end_entity, self.cluster)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl rustls::server::ResolvesServerCert for Presented {
    fn resolve(
        &self,
        _hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.get())
    }
}

impl rustls::client::ResolvesClientCert for Presented {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
