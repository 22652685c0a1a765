//! `application/trickle-ice-sdpfrag` (RFC 8840), as WHIP and WHEP PATCH it (RFC 9725 §4.4).
//!
//! Not here: what a restart does to the session (`peer`).

use super::offer::check_credentials;
use crate::error::SfuError;

/// Most candidates in one fragment.
const CANDIDATES_MAX: usize = 256;

/// What a client sends. Its candidates are only counted: an ICE-lite agent learns addresses from
/// the checks that come from them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) ufrag: String,
    pub(crate) password: String,
    pub(crate) candidates: usize,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// [`SfuError::MalformedFragment`] says what is wrong.
    pub(crate) fn parse(text: &str, bytes_max: usize) -> Result<Self, SfuError> {
        let malformed = |why: &str| SfuError::MalformedFragment(why.to_owned());
        if text.len() > bytes_max {
            return Err(malformed("it is too long"));
        }
        let (mut ufrag, mut password, mut candidates) = (None, None, 0);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| malformed("a line is not of the form x=value"))?;
            if key != "a" {
                continue;
            }
            if let Some(value) = value.strip_prefix("ice-ufrag:") {
                ufrag.get_or_insert_with(|| value.trim().to_owned());
            } else if let Some(value) = value.strip_prefix("ice-pwd:") {
                password.get_or_insert_with(|| value.trim().to_owned());
            } else if value.starts_with("candidate:") {
                candidates += 1;
            }
        }
        if candidates > CANDIDATES_MAX {
            return Err(malformed("it has too many candidates"));
        }
        let (ufrag, password) =
            ufrag.zip(password).ok_or_else(|| malformed("it has no a=ice-ufrag and a=ice-pwd"))?;
        check_credentials(&ufrag, &password).map_err(malformed)?;
        Ok(Self { ufrag, password, candidates })
    }
}

/// The fragment that answers an ICE restart: the server's new credentials and candidates, taken
/// from a full answer.
pub(crate) fn answer_fragment(answer: &str) -> String {
    let mut fragment = String::from("a=ice-lite\r\na=ice-options:trickle ice2\r\n");
    let mut keep = |line: &str| {
        fragment.push_str(line);
        fragment.push_str("\r\n");
    };
    if let Some(ufrag) = super::attribute(answer, "ice-ufrag") {
        keep(&format!("a=ice-ufrag:{ufrag}"));
    }
    if let Some(password) = super::attribute(answer, "ice-pwd") {
        keep(&format!("a=ice-pwd:{password}"));
    }
    let mut lines = answer.lines().skip_while(|line| !line.starts_with("m="));
    let first = lines.next();
    let section: Vec<&str> =
        first.into_iter().chain(lines.take_while(|line| !line.starts_with("m="))).collect();
    // Candidates belong to the mid before them (RFC 8840 §4.4), whatever the answer's order.
    for wanted in ["m=", "a=mid:", "a=candidate:"] {
        section.iter().filter(|line| line.starts_with(wanted)).for_each(|line| keep(line));
    }
    keep("a=end-of-candidates");
    fragment
}
