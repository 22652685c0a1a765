//! Where clients connect to, and what stands in every request.
//!
//! Not here: connections (`connection`), paths.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::client::ClientId;

/// A server, as every client sees it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// `host:port`, as in the URL.
    pub authority: String,
    /// What follows the path in an HTTP/1.1 request.
    pub tail: Arc<[u8]>,
    /// The bearer token, if one is needed.
    pub token: Option<String>,
    /// Playlists may be compressed with gzip.
    pub gzip: bool,
}

impl Server {
    /// The server that `url` names, and the path and query of `url`.
    ///
    /// # Errors
    /// It is not an `http` URL, or its host has no address.
    pub fn of(url: &str, token: Option<&str>, gzip: bool) -> anyhow::Result<(Self, Arc<str>)> {
        let uri: http::Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("{url:?} is not an http:// URL: put a TLS proxy before the server, or leave TLS");
        }
        let authority = uri.authority().context("a URL without a host")?.as_str().to_owned();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(80);
        let mut addresses =
            (host, port).to_socket_addrs().with_context(|| format!("cannot look up {host:?}"))?;
        let address = addresses.next().with_context(|| format!("{host:?} has no address"))?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut tail =
            format!(" HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n",);
        if gzip {
            tail.push_str("Accept-Encoding: gzip\r\n");
        }
        if let Some(token) = token {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                bail!("a token has only visible ASCII characters");
            }
            tail.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        tail.push_str("\r\n");
        let tail = Arc::from(tail.into_bytes());
        let server = Self { address, authority, tail, token: token.map(str::to_owned), gzip };
        Ok((server, Arc::from(path)))
    }

    /// The source address of a client: one of its own where the server is on a loopback address,
    /// so that no number of clients runs out of ports. None where the system should choose.
    #[must_use]
    pub fn source(&self, client: ClientId) -> Option<SocketAddr> {
        match self.address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() => {
                // 127.16.0.1 and on; no address ends in 0 or 255.
                let (high, low) = (client.0 / 254, client.0 % 254);
                let number = (127_u32 << 24) + (16 << 16) + (high << 8) + low + 1;
                let number = (number & 0x00ff_ffff) | (127 << 24);
                Some(SocketAddr::from((Ipv4Addr::from(number), 0)))
            }
            _ => None,
        }
    }
}

/// `User-Agent`.
pub const AGENT: &str = concat!("headwater-loadtest/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_the_server_the_path_and_the_requests_tail() {
        let (server, path) = Server::of("http://127.0.0.1:81/a?b=c", Some("t"), true).unwrap();
        assert_eq!((server.address.to_string(), &*path), ("127.0.0.1:81".into(), "/a?b=c"));
        let tail = std::str::from_utf8(&server.tail).unwrap();
        assert!(tail.starts_with(" HTTP/1.1\r\nHost: 127.0.0.1:81\r\n"), "{tail}");
        assert!(tail.ends_with("gzip\r\nAuthorization: Bearer t\r\n\r\n"), "{tail}");
        for wrong in ["https://127.0.0.1/", "127.0.0.1", "http://"] {
            assert!(Server::of(wrong, None, false).is_err(), "{wrong}");
        }
        assert!(Server::of("http://127.0.0.1/", Some("a\r\nb"), false).is_err());
    }

    #[test]
    fn clients_on_loopback_have_addresses_of_their_own() {
        let (server, _) = Server::of("http://127.0.0.1/", None, false).unwrap();
        let source = |number| server.source(ClientId(number)).unwrap().to_string();
        assert_eq!(source(0), "127.16.0.1:0");
        assert_eq!(source(253), "127.16.0.254:0");
        assert_eq!(source(254), "127.16.1.1:0");
        let other = Server { address: SocketAddr::from(([10, 0, 0, 1], 80)), ..server };
        assert_eq!(other.source(ClientId(0)), None);
    }
}
