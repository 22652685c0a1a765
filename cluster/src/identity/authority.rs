//! The cluster's CA: made by its first node, held by every origin.
//!
//! Not here: to whom a certificate is given (`membership`), where the key lies (`folder`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use super::{ClusterId, IdentityError, Subject, random, sha256};

/// The CA's certificate outlives any hardware: exchanging it means a new cluster.
const CA_VALIDITY: Duration = Duration::from_secs(20 * 365 * 86_400);

/// Certificates hold from an hour before they are made, for nodes whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// The longest request for a certificate that is looked at, in bytes. One with a P-256 key takes
/// about 250.
pub(super) const REQUEST_MAX: usize = 2_048;

/// The CA's certificate and key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A node's request for a certificate, whose signature was checked: the asker holds the key.
pub struct Request {
    public_key: rcgen::PublicKey,
}

impl Request {
    /// Reads and checks one (PKCS #10, DER). Nothing but its key is used: the name in the
    /// certificate is the signer's choice.
    pub fn read(der: &[u8]) -> Result<Request, IdentityError> {
        if der.len() > REQUEST_MAX {
            return Err(IdentityError::Certificate("the request is too long".into()));
        }
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
                .map_err(failed)?;
        Ok(Request { public_key: request.public_key })
    }

    /// SHA-256 of the key: tells two askers apart.
    pub fn key_hash(&self) -> [u8; 32] {
        sha256(self.public_key.der_bytes())
    }
}

impl Authority {
    /// A new CA for a new cluster.
    pub fn create(cluster: ClusterId, now: SystemTime) -> Result<Authority, IdentityError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(format!("Headwater cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        lifetime(&mut params, now, CA_VALIDITY)?;
        let certificate = params.self_signed(&key).map_err(failed)?.der().clone();
        Ok(Authority { certificate, issuer: Issuer::new(params, key) })
    }

    /// The CA of these files.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Authority, IdentityError> {
        let key = KeyPair::from_pem(key).map_err(failed)?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(failed)?;
        Ok(Authority { certificate, issuer })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key, in PEM. Secret.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for `subject`, which holds the key in `request`.
    pub fn sign(
        &self,
        request: &Request,
        subject: &Subject,
        now: SystemTime,
        validity: Duration,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(format!("Headwater node {}", subject.node.0));
        let uri = subject.uri().try_into().map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        lifetime(&mut params, now, validity)?;
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(failed)?;
        Ok(signed.der().clone())
    }
}

/// A request (DER) for a certificate over `key`.
pub(super) fn request(key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Headwater node".into());
    Ok(params.serialize_request(key).map_err(failed)?.der().to_vec())
}

/// Sets the time for which it holds, and a random serial number.
fn lifetime(
    params: &mut CertificateParams,
    now: SystemTime,
    validity: Duration,
) -> Result<(), IdentityError> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now.saturating_add(validity);
    params.serial_number = Some(SerialNumber::from_slice(&random::<16>()?));
    Ok(())
}

fn name(common: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

pub(super) fn failed(error: rcgen::Error) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}
