//! This node's identity: its certificate and key, the cluster's CA, its incarnation.
//!
//! Not here: when a new certificate is fetched and from whom (`cluster`), the files' form
//! (`folder`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::authority::{self, failed};
use super::folder::Mode;
use super::verify::provider;
use super::{
    Authority, CertificateInfo, ClusterId, Folder, IdentityError, NodeId, Request, Role, Subject,
};
use crate::id::Incarnation;

/// How long a node's certificate holds. A node that was off for longer joins anew.
pub const VALIDITY: Duration = Duration::from_secs(90 * 86_400);

/// A certificate that ends sooner than this is renewed: a third of its life is left for whatever
/// hinders the renewal.
pub const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

const _: () = assert!(RENEW_BEFORE.as_secs() * 2 < VALIDITY.as_secs(), "renewed at once, for ever");

/// The first node of a cluster. Ids are given in the order of joining and never again.
const FIRST: u64 = 1;

/// The certificate and key that this node shows, exchanged at each renewal.
pub(crate) struct Presented(RwLock<Arc<CertifiedKey>>);

impl Presented {
    pub(super) fn get(&self) -> Arc<CertifiedKey> {
        self.0.read().clone()
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented")
    }
}

/// `node.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    cluster: ClusterId,
    node: u64,
    role: Role,
    /// Nodes that were members when this one joined.
    peers: Vec<Peer>,
}

/// A node that a joiner may ask, until it has the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its number.
    pub node: NodeId,
    /// `host:port` of its cluster endpoint.
    pub address: String,
}

/// A key that waits for its certificate: a joiner's, or that of a renewal.
pub struct PendingKey {
    key: KeyPair,
    request: Vec<u8>,
}

impl PendingKey {
    /// A new key (P-256) and the request for its certificate.
    pub fn create() -> Result<PendingKey, IdentityError> {
        let key = KeyPair::generate().map_err(failed)?;
        let request = authority::request(&key)?;
        Ok(PendingKey { key, request })
    }

    /// The request, in DER.
    pub fn request(&self) -> &[u8] {
        &self.request
    }
}

/// What a joiner is given.
pub struct Given {
    /// Its certificate (DER).
    pub certificate: Vec<u8>,
    /// The CA's (DER), as the token's fingerprint promised.
    pub authority: Vec<u8>,
    /// The CA's key (PEM), for an origin.
    pub authority_key: Option<String>,
    /// Nodes of the cluster.
    pub peers: Vec<Peer>,
}

/// This node's identity.
pub struct Identity {
    folder: Folder,
    subject: Subject,
    incarnation: Incarnation,
    peers: Vec<Peer>,
    authority_certificate: CertificateDer<'static>,
    authority: Option<Authority>,
    presented: Arc<Presented>,
    info: RwLock<CertificateInfo>,
}

impl Identity {
    /// Makes the first node of a new cluster in `data`.
    pub fn init(data: &Path, now: SystemTime) -> Result<Identity, IdentityError> {
        let cluster = ClusterId::random()?;
        let authority = Authority::create(cluster, now)?;
        let subject = Subject { cluster, node: NodeId(FIRST), role: Role::Origin };
        let pending = PendingKey::create()?;
        let request = Request::read(pending.request())?;
        let given = Given {
            certificate: authority.sign(&request, &subject, now, VALIDITY)?.to_vec(),
            authority: authority.certificate().to_vec(),
            authority_key: Some(authority.key_pem()),
            peers: Vec::new(),
        };
        Identity::create(data, &pending, given)
    }

    /// Makes the identity that a cluster gave to this joiner, in `data`.
    pub fn create(
        data: &Path,
        pending: &PendingKey,
        given: Given,
    ) -> Result<Identity, IdentityError> {
        std::fs::create_dir_all(data)
            .map_err(|source| IdentityError::File { path: data.to_owned(), source })?;
        let subject = CertificateInfo::read(&given.certificate.as_slice().into())?.subject;
        let file = NodeFile {
            cluster: subject.cluster,
            node: subject.node.0,
            role: subject.role,
            peers: given.peers,
        };
        let json = serde_json::to_string_pretty(&file)
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let mut files = vec![
            ("node.json", Mode::Public, json + "\n"),
            ("incarnation", Mode::Public, "0\n".to_owned()),
            ("ca.pem", Mode::Public, pem("CERTIFICATE", &given.authority)),
            ("node.pem", Mode::Secret, node_pem(&pending.key, &given.certificate)),
        ];
        if let Some(key) = given.authority_key.filter(|_| subject.role == Role::Origin) {
            files.push(("ca-key.pem", Mode::Secret, key));
        }
        Folder::create(data, &files)?;
        Identity::open(data)
    }

    /// Reads the identity in `data`, locks the folder, and counts its incarnation up, durably.
    pub fn open(data: &Path) -> Result<Identity, IdentityError> {
        let folder = Folder::open(data)?;
        let file: NodeFile = serde_json::from_str(&folder.read("node.json")?)
            .map_err(|error| folder.malformed("node.json", error.to_string()))?;
        let subject = Subject { cluster: file.cluster, node: NodeId(file.node), role: file.role };
        let ca = folder.read("ca.pem")?;
        let authority_certificate = CertificateDer::from_pem_slice(ca.as_bytes())
            .map_err(|error| folder.malformed("ca.pem", error.to_string()))?;
        let authority = match folder.has("ca-key.pem") {
            true => Some(Authority::from_pem(&ca, &folder.read("ca-key.pem")?)?),
            false => None,
        };
        let (key, info) = load(&folder.read("node.pem")?, &authority_certificate)
            .map_err(|error| folder.malformed("node.pem", error.to_string()))?;
        if info.subject != subject {
            return Err(folder.malformed("node.pem", "names another node than node.json"));
        }
        let incarnation = next_incarnation(&folder)?;
        Ok(Identity {
            folder,
            subject,
            incarnation,
            peers: file.peers,
            authority_certificate,
            authority,
            presented: Arc::new(Presented(RwLock::new(Arc::new(key)))),
            info: RwLock::new(info),
        })
    }

    /// Who this is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.subject.node
    }

    /// How often a process has started on this folder: higher than that of any earlier one.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Nodes that were members when this one joined; none on a cluster's first.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The CA's certificate.
    pub fn authority_certificate(&self) -> &CertificateDer<'static> {
        &self.authority_certificate
    }

    /// The CA, on an origin.
    pub fn authority(&self) -> Result<&Authority, IdentityError> {
        self.authority.as_ref().ok_or(IdentityError::NoAuthority)
    }

    /// What this node's present certificate says.
    pub fn certificate(&self) -> CertificateInfo {
        self.info.read().clone()
    }

    /// Whether it is time for a new certificate.
    pub fn is_renewal_due(&self, now: SystemTime) -> bool {
        self.info.read().remaining(now) < RENEW_BEFORE
    }

    /// Takes a new certificate into use, durably. It must be this node's, of this cluster's CA.
    pub fn renew(&self, pending: &PendingKey, certificate: &[u8]) -> Result<(), IdentityError> {
        let text = node_pem(&pending.key, certificate);
        let (key, info) = load(&text, &self.authority_certificate)?;
        if info.subject != self.subject {
            return Err(IdentityError::Certificate("names another node".into()));
        }
        self.folder.replace("node.pem", Mode::Secret, &text)?;
        *self.presented.0.write() = Arc::new(key);
        *self.info.write() = info;
        Ok(())
    }

    /// What is shown in handshakes.
    pub(crate) fn presented(&self) -> Arc<Presented> {
        self.presented.clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, incarnation {})", self.subject.uri(), self.incarnation.0)
    }
}

fn next_incarnation(folder: &Folder) -> Result<Incarnation, IdentityError> {
    let text = folder.read("incarnation")?;
    let last: u64 =
        text.trim().parse().map_err(|_| folder.malformed("incarnation", "not a number"))?;
    let next = last
        .checked_add(1)
        .ok_or_else(|| folder.malformed("incarnation", "no number comes after it"))?;
    folder.replace("incarnation", Mode::Public, &format!("{next}\n"))?;
    Ok(Incarnation(next))
}

/// Reads key and certificate, and puts the CA's certificate behind them: a joiner knows it by its
/// fingerprint only.
fn load(
    text: &str,
    authority: &CertificateDer<'static>,
) -> Result<(CertifiedKey, CertificateInfo), IdentityError> {
    let bad = |error: rustls::pki_types::pem::Error| IdentityError::Certificate(error.to_string());
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(bad)?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(bad)?;
    let info = CertificateInfo::read(&certificate)?;
    let chain = vec![certificate, authority.clone()];
    let key = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| IdentityError::Certificate(error.to_string()))?;
    Ok((key, info))
}

fn node_pem(key: &KeyPair, certificate: &[u8]) -> String {
    key.serialize_pem() + &pem("CERTIFICATE", certificate)
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let coded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in coded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text + "-----END " + label + "-----\n"
}
