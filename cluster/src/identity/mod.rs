//! Who this node is, and how it proves it: the cluster's CA, node certificates, join tokens, and
//! the files of the data folder that hold them.
//!
//! Every node has a certificate of the cluster's own CA. The node's id, its role and the cluster's
//! id stand in a URI among the certificate's alternative names (`headwater://CLUSTER/NODE/ROLE`),
//! which the CA's holder writes; nothing that a node says of itself in a message counts.
//!
//! **Who holds the CA's key.** Every origin, in a file of its own (mode 0600), received once, in
//! the answer to its join, over the connection that its token authenticated. Any origin can
//! therefore sign a joiner's or a renewed certificate, whichever nodes are lost, and a cluster
//! never has to find "the CA node". A relay never gets it. The price: whoever reads an origin's
//! disk can make certificates. That one could already claim every stream, and read every key that
//! the directory holds; origins are one domain of trust, and relays are not in it. (A relay has the
//! directory, and so the keys that check viewers' tokens: where relays stand on others' machines, sign
//! tokens with EdDSA.) The key is not in the Raft log, so that neither snapshots nor backups of the log carry it.
//!
//! Not here: sockets (`endpoint`), who is a member (`membership`, `state`).

mod authority;
mod certificate;
mod folder;
mod join_token;
mod node;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use authority::{Authority, Request};
pub use certificate::{CertificateInfo, Subject};
pub use folder::{FORMAT, Folder};
pub use join_token::{JoinToken, TokenHash};
pub use node::{Given, Identity, Peer, PendingKey, RENEW_BEFORE, VALIDITY};
pub use verify::Refusal;
pub(crate) use verify::{client_config, join_client_config, peer_of, server_config};

use crate::command::Role;
use crate::id::NodeId;

/// A cluster's id: 16 random bytes, made with its CA. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId([u8; 16]);

impl ClusterId {
    /// A new one.
    pub fn random() -> Result<ClusterId, IdentityError> {
        Ok(ClusterId(random()?))
    }

    /// The one of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> ClusterId {
        ClusterId(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl FromStr for ClusterId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<ClusterId, IdentityError> {
        let bad = || IdentityError::BadClusterId(text.chars().take(40).collect());
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad());
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| bad())?;
        Ok(ClusterId(number.to_be_bytes()))
    }
}

impl TryFrom<String> for ClusterId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<ClusterId, IdentityError> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> String {
        id.to_string()
    }
}

/// What can be wrong with an identity, its files or a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not 32 lower-case hexadecimal digits.
    #[error("`{0}` is not a cluster id (32 hexadecimal digits)")]
    BadClusterId(String),
    /// The operating system gives no random bytes.
    #[error("the system's random numbers cannot be had")]
    Random,
    /// A key or a certificate could not be made or read.
    #[error("certificate: {0}")]
    Certificate(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there but not as this program writes it.
    #[error("{path}: {what}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The folder was written by a program with another layout.
    #[error(
        "{path} has the format {found}, and this version of headwater knows {FORMAT}: \
         run the version that wrote it, or give the node a new data folder and let it join anew"
    )]
    Format {
        /// Which folder.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Another process uses the folder.
    #[error("{0} is in use by another process: a data folder belongs to one node")]
    InUse(PathBuf),
    /// The folder has an identity, and was to be given another.
    #[error("{0} already belongs to a node of a cluster; to start anew, give another data folder")]
    NotEmpty(PathBuf),
    /// Not a join token, or one with a typing error.
    #[error("not a join token: {0}")]
    BadToken(&'static str),
    /// A certificate was asked for by a node that holds no CA key.
    #[error("this node holds no CA key: only origins sign certificates")]
    NoAuthority,
}

/// So many random bytes of the system's.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IdentityError::Random)?;
    Ok(bytes)
}

/// SHA-256.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
