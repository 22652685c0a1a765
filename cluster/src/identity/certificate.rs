//! Reads who a certificate names, and until when it holds.
//!
//! Not here: whether it may be believed (`verify`), making one (`authority`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::{ClusterId, IdentityError, NodeId, Role};

/// The scheme of the URI that names a node.
const SCHEME: &str = "headwater://";

/// Whom a certificate names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node in it.
    pub node: NodeId,
    /// Whether it may vote and hold the CA's key, or neither.
    pub role: Role,
}

impl Subject {
    /// The URI that stands in the certificate.
    pub fn uri(&self) -> String {
        let role = match self.role {
            Role::Origin => "origin",
            Role::Relay => "relay",
        };
        format!("{SCHEME}{}/{}/{role}", self.cluster, self.node.0)
    }

    /// Reads such a URI; it must be spelled as `uri` spells it.
    pub fn from_uri(uri: &str) -> Option<Subject> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let cluster = parts.next()?.parse().ok()?;
        let node = NodeId(parts.next()?.parse().ok()?);
        let role = match parts.next()? {
            "origin" => Role::Origin,
            "relay" => Role::Relay,
            _ => return None,
        };
        let subject = Subject { cluster, node, role };
        (parts.next().is_none() && subject.uri() == uri).then_some(subject)
    }
}

/// What a node's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Whom it names.
    pub subject: Subject,
    /// From when it holds.
    pub not_before: SystemTime,
    /// Until when it holds.
    pub not_after: SystemTime,
}

impl CertificateInfo {
    /// Reads it. It must name exactly one node.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<CertificateInfo, IdentityError> {
        let bad = |what: &str| IdentityError::Certificate(what.into());
        let (rest, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| bad("not an X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(bad("bytes after the certificate"));
        }
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| bad("alternative names cannot be read"))?
            .ok_or_else(|| bad("names no node"))?;
        let mut subject = None;
        for name in &names.value.general_names {
            let GeneralName::URI(uri) = name else { continue };
            let read = Subject::from_uri(uri).ok_or_else(|| bad("names something else"))?;
            if subject.replace(read).is_some() {
                return Err(bad("names more than one node"));
            }
        }
        let validity = parsed.validity();
        Ok(CertificateInfo {
            subject: subject.ok_or_else(|| bad("names no node"))?,
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        })
    }

    /// How long it still holds at `now`; zero when it no longer does.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

/// A certificate's time; what lies before 1970 counts as 1970.
fn time(seconds: i64) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(seconds).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_one_spelling_only() {
        let subject = Subject {
            cluster: ClusterId::from_bytes([0xab; 16]),
            node: NodeId(12),
            role: Role::Relay,
        };
        let uri = subject.uri();
        assert_eq!(Subject::from_uri(&uri), Some(subject));
        let id = subject.cluster;
        for bad in [
            format!("headwater://{id}/012/relay"),
            format!("headwater://{id}/+12/relay"),
            format!("headwater://{id}/12/relay/"),
            format!("headwater://{id}/12"),
            format!("headwater://{id}/12/boss"),
            format!("https://{id}/12/relay"),
            format!("headwater://{}/12/relay", id.to_string().to_uppercase()),
            String::new(),
        ] {
            assert_eq!(Subject::from_uri(&bad), None, "{bad}");
        }
    }
}
