//! The one seam through which every publish, play and admin entry passes.
//!
//! It allows all from loopback addresses, and from elsewhere only with `[auth] open = true`.
//! Not here: sessions and their limits (`sessions`), how a protocol carries a token.

use std::net::IpAddr;

use headwater_media::StreamName;
use thiserror::Error;

/// What somebody wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send media under a stream's name.
    Publish,
    /// Receive a stream's media or playlists.
    Play,
    /// See or change the node by its API.
    Admin,
}

/// Why it is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Denied {
    /// The address is not loopback and the node is not open.
    #[error(
        "{peer} may not {verb} here: without keys this node serves loopback addresses only; \
         set `[auth] open = true` to let everybody in"
    )]
    NotOpen {
        /// Whose request it was.
        peer: IpAddr,
        /// `publish`, `play` or `administer`.
        verb: &'static str,
    },
}

/// Decides who may do what.
#[derive(Clone, Debug)]
pub struct Access {
    open: bool,
}

impl Access {
    /// `open`: `[auth] open`, whether addresses other than loopback are let in.
    #[must_use]
    pub fn new(open: bool) -> Self {
        Self { open }
    }

    /// Whether everybody is let in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether `peer` may take `action` on `stream` with the `token` it showed.
    ///
    /// # Errors
    /// Says what to do about it.
    pub fn check(
        &self,
        peer: IpAddr,
        action: Action,
        _stream: Option<&StreamName>,
        _token: Option<&str>,
    ) -> Result<(), Denied> {
        // An IPv4 peer of a dual-stack socket comes as ::ffff:127.0.0.1.
        if self.open || peer.to_canonical().is_loopback() {
            return Ok(());
        }
        let verb = match action {
            Action::Publish => "publish",
            Action::Play => "play",
            Action::Admin => "administer",
        };
        Err(Denied::NotOpen { peer, verb })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_let_in_unless_the_node_is_open() {
        let allowed = |open: bool, peer: &str| {
            let peer = peer.parse().unwrap();
            Access::new(open).check(peer, Action::Play, None, None).is_ok()
        };
        for loopback in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert!(allowed(false, loopback), "{loopback}");
        }
        for elsewhere in ["10.0.0.1", "192.0.2.1", "::", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(!allowed(false, elsewhere), "{elsewhere}");
            assert!(allowed(true, elsewhere), "{elsewhere}");
        }
    }
}
