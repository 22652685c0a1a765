//! Join tokens: what a new node must show, and what tells it that it speaks with the right cluster.
//!
//! A token carries the cluster's id, the fingerprint of its CA and a secret. The joiner believes
//! only a node whose certificate that CA signed, on its very first connection; the cluster stores
//! the secret's hash alone, gives the secret one use and an end.
//!
//! Not here: whether it was used or has ended (`state`), where it is stored (`command`).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{ClusterId, IdentityError, random, sha256};

/// What every token begins with; the digit is the version of its layout.
const PREFIX: &str = "hwjoin1-";
const ID: usize = 16;
const HASH: usize = 32;
const SUM: usize = 4;
const LENGTH: usize = ID + HASH + HASH + SUM;

/// SHA-256 of a token's secret: all that a cluster keeps of it.
pub type TokenHash = [u8; 32];

/// A join token, in clear. `Display` gives the text that an operator copies; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster that it opens.
    pub cluster: ClusterId,
    /// SHA-256 of the CA's certificate (DER).
    pub authority: [u8; HASH],
    secret: [u8; HASH],
}

impl JoinToken {
    /// A new one, for the cluster whose CA's certificate this is.
    pub fn create(cluster: ClusterId, authority: &[u8]) -> Result<JoinToken, IdentityError> {
        Ok(JoinToken { cluster, authority: sha256(authority), secret: random()? })
    }

    /// What the cluster stores.
    pub fn hash(&self) -> TokenHash {
        sha256(&self.secret)
    }

    /// What the joiner shows, once it knows that it speaks with the cluster.
    pub(crate) fn secret(&self) -> &[u8; HASH] {
        &self.secret
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes.extend_from_slice(&self.authority);
        bytes.extend_from_slice(&self.secret);
        bytes
    }
}

/// The first bytes of the hash of all before them: finds slips in copying, nothing else.
fn sum(bytes: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    for (to, from) in sum.iter_mut().zip(sha256(bytes)) {
        *to = from;
    }
    sum
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.bytes();
        let sum = sum(&bytes);
        bytes.extend_from_slice(&sum);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, …)", self.cluster)
    }
}

impl FromStr for JoinToken {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<JoinToken, IdentityError> {
        let bad = IdentityError::BadToken;
        let coded =
            text.trim().strip_prefix(PREFIX).ok_or(bad("it does not begin with `hwjoin1-`"))?;
        if coded.len() > LENGTH * 2 {
            return Err(bad("it is too long"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(coded)
            .map_err(|_| bad("it has characters that no token has"))?;
        let short = || bad("it has another length; was it copied whole?");
        let (body, end) = bytes.split_at_checked(LENGTH - SUM).ok_or_else(short)?;
        if end.len() != SUM {
            return Err(short());
        }
        if sum(body) != *end {
            return Err(bad("its check digits do not fit: a character is wrong"));
        }
        let (cluster, rest) = body.split_first_chunk::<ID>().ok_or_else(short)?;
        let (authority, rest) = rest.split_first_chunk::<HASH>().ok_or_else(short)?;
        let (secret, _) = rest.split_first_chunk::<HASH>().ok_or_else(short)?;
        Ok(JoinToken {
            cluster: ClusterId::from_bytes(*cluster),
            authority: *authority,
            secret: *secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::create(ClusterId::from_bytes([3; 16]), b"certificate").unwrap()
    }

    #[test]
    fn a_token_is_read_back_from_its_text() {
        let token = token();
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse::<JoinToken>().unwrap(), token);
        assert_eq!(token.authority, sha256(b"certificate"));
    }

    #[test]
    fn a_slip_in_copying_is_told_from_a_wrong_token() {
        let text = token().to_string();
        for at in PREFIX.len()..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
        }
        for end in 0..text.len() {
            assert!(text[..end].parse::<JoinToken>().is_err());
        }
        assert!(format!("{text}AAAA").parse::<JoinToken>().is_err());
    }

    #[test]
    fn a_token_does_not_show_in_logs() {
        let token = token();
        let shown = format!("{token:?}");
        assert!(!shown.contains(&token.to_string()[80..]), "{shown}");
    }
}
