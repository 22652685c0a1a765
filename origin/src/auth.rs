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

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// From where.
    pub peer: IpAddr,
    /// The token that was shown.
    pub token: Option<&'a str>,
    /// What an address of loopback says about the caller.
    pub nearness: Nearness,
}

impl<'a> Caller<'a> {
    /// One who speaks to us without anybody between.
    #[must_use]
    pub fn direct(peer: IpAddr, token: Option<&'a str>) -> Self {
        Self { peer, token, nearness: Nearness::Direct }
    }
}

/// Whether a caller is where its address says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nearness {
    /// It is.
    Direct,
    /// A proxy speaks for somebody who may be anywhere.
    Proxied,
    /// A browser of this machine that a page from elsewhere has led here under its own name (DNS
    /// rebinding).
    ForeignHost,
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
    /// A proxy on this machine asks for somebody else, and the node is not open.
    #[error(
        "somebody behind a proxy may not {verb} here: without keys this node serves callers of \
         its own machine only; set `[auth] open = true` to let everybody in"
    )]
    Proxied {
        /// `publish`, `play` or `administer`.
        verb: &'static str,
    },
    /// The request names this node by a name that is not its machine's own, and the node is not
    /// open.
    #[error(
        "a request for another host's name may not {verb} here: without keys this node answers to \
         localhost and loopback addresses only; set `[auth] open = true` to let everybody in"
    )]
    ForeignHost {
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

    /// Whether `caller` may take `action` on `stream`.
    ///
    /// # Errors
    /// Says what to do about it.
    pub fn check(
        &self,
        caller: Caller<'_>,
        action: Action,
        _stream: Option<&StreamName>,
    ) -> Result<(), Denied> {
        if self.open {
            return Ok(());
        }
        let verb = match action {
            Action::Publish => "publish",
            Action::Play => "play",
            Action::Admin => "administer",
        };
        // An IPv4 peer of a dual-stack socket comes as ::ffff:127.0.0.1.
        if !caller.peer.to_canonical().is_loopback() {
            return Err(Denied::NotOpen { peer: caller.peer, verb });
        }
        match caller.nearness {
            Nearness::Proxied => Err(Denied::Proxied { verb }),
            Nearness::ForeignHost if action != Action::Play => Err(Denied::ForeignHost { verb }),
            Nearness::Direct | Nearness::ForeignHost => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_let_in_unless_the_node_is_open() {
        let allowed = |open: bool, peer: &str| {
            let peer = peer.parse().unwrap();
            Access::new(open).check(Caller::direct(peer, None), Action::Play, None).is_ok()
        };
        for loopback in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert!(allowed(false, loopback), "{loopback}");
        }
        for elsewhere in ["10.0.0.1", "192.0.2.1", "::", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(!allowed(false, elsewhere), "{elsewhere}");
            assert!(allowed(true, elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn loopback_says_nothing_of_callers_behind_a_proxy_or_under_a_foreign_name() {
        for nearness in [Nearness::Proxied, Nearness::ForeignHost] {
            let caller = Caller { peer: "::1".parse().unwrap(), token: None, nearness };
            let check = |open| Access::new(open).check(caller, Action::Admin, None);
            assert!(check(false).unwrap_err().to_string().contains("[auth] open"));
            assert_eq!(check(true), Ok(()));
        }
    }
}
