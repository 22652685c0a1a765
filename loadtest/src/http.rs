//! The small part of HTTP that signalling needs: an SDP offer posted, a session deleted.
//!
//! Not here: playlists and media of LL-HLS (`view::hls`).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// No answer may take longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Connections kept open for the next request, a host.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// A client of HTTP/1.1 without TLS.
#[derive(Clone)]
pub(crate) struct Http {
    pool: Client<HttpConnector, Full<Bytes>>,
    token: Option<String>,
}

/// An accepted offer.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) answer: String,
    /// The session's resource, as a whole URL; none where the server names none.
    pub(crate) session: Option<String>,
}

/// An offer that was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The server said no: the status, and what it said.
    #[error("{0}: {1}")]
    Status(StatusCode, String),
    /// There was no answer.
    #[error("{0:#}")]
    NoAnswer(anyhow::Error),
}

impl Http {
    pub(crate) fn new(token: Option<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(ANSWER_TIMEOUT));
        let pool = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { pool, token }
    }

    /// Posts an SDP offer to a WHIP or WHEP endpoint.
    pub(crate) async fn offer(&self, url: &str, offer: String) -> Result<Accepted, Refused> {
        let answered = self.send(Method::POST, url, Some(offer)).await;
        let (status, location, body) = answered.map_err(Refused::NoAnswer)?;
        if status != StatusCode::CREATED {
            return Err(Refused::Status(status, problem(&body)));
        }
        let session = location.map(|location| absolute(url, &location));
        Ok(Accepted { answer: String::from_utf8_lossy(&body).into_owned(), session })
    }

    /// Ends a session. That it is gone already is no error.
    pub(crate) async fn end(&self, session: &str) {
        // The server notices by itself that a peer has gone, only later.
        let _ = self.send(Method::DELETE, session, None).await;
    }

    /// Whether anything at all answers there.
    ///
    /// # Errors
    /// Nothing does, with the reason.
    pub(crate) async fn probe(&self, url: &str) -> anyhow::Result<()> {
        self.send(Method::GET, url, None).await.map(|_| ())
    }

    /// The metrics of a server of ours.
    ///
    /// # Errors
    /// There are none, with the reason.
    pub(crate) async fn metrics(&self, server: &str) -> anyhow::Result<String> {
        let url = format!("{}/metrics", server.trim_end_matches('/'));
        let (status, _, body) = self.send(Method::GET, &url, None).await?;
        if status != StatusCode::OK {
            bail!("{url}: {status}");
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        sdp: Option<String>,
    ) -> anyhow::Result<(StatusCode, Option<String>, Bytes)> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("{url}: only http:// is spoken here");
        }
        let mut request = Request::builder().method(method).uri(uri);
        if sdp.is_some() {
            request = request.header(CONTENT_TYPE, "application/sdp");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(sdp.unwrap_or_default())))?;
        let exchange = async {
            let response = self.pool.request(request).await?;
            let (head, body) = response.into_parts();
            let location = head.headers.get(LOCATION);
            let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
            anyhow::Ok((head.status, location, body))
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .with_context(|| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))?
            .with_context(|| format!("cannot reach {url}"))
    }
}

/// What a refusal says: the detail of a problem document (RFC 9457), else its first line.
fn problem(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if let Ok(problem) = serde_json::from_str::<serde_json::Value>(&text) {
        let said = problem.get("detail").or(problem.get("title"));
        if let Some(said) = said.and_then(|said| said.as_str()) {
            return said.to_owned();
        }
    }
    text.lines().next().unwrap_or("no reason given").chars().take(200).collect()
}

/// A `Location`, which may be a path, as a whole URL.
fn absolute(base: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base.get(authority..).and_then(|rest| rest.find('/'));
    let origin = end.and_then(|end| base.get(..authority + end)).unwrap_or(base);
    match location.strip_prefix('/') {
        Some(path) => format!("{origin}/{path}"),
        None => {
            let folder = base.rfind('/').and_then(|at| base.get(..at)).unwrap_or(base);
            format!("{folder}/{location}")
        }
    }
}

/// The address of this machine from which a server is reached: what a candidate should name.
///
/// # Errors
/// The URL has no host, or there is no way to it.
pub(crate) async fn local_address(url: &str) -> anyhow::Result<SocketAddr> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let host = uri.host().with_context(|| format!("{url} names no host"))?;
    let port = uri.port_u16().unwrap_or(80);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = tokio::net::lookup_host((host, port))
        .await
        .with_context(|| format!("{host} has no address"))?;
    let remote = addresses.next().with_context(|| format!("{host} has no address"))?;
    let any: SocketAddr = if remote.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(remote).await.with_context(|| format!("there is no way to {remote}"))?;
    Ok(SocketAddr::new(socket.local_addr()?.ip(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_made_whole() {
        for (base, location, expected) in [
            ("http://h:1/whip/a", "/whip/a/-/s", "http://h:1/whip/a/-/s"),
            ("http://h:1/whip/a", "http://o/s", "http://o/s"),
            ("http://h:1/whip/a", "s", "http://h:1/whip/s"),
            ("http://h:1", "/s", "http://h:1/s"),
        ] {
            assert_eq!(absolute(base, location), expected);
        }
    }

    #[test]
    fn a_refusal_says_its_problems_detail() {
        let document = br#"{"type":"x","title":"T","status":404,"detail":"not live"}"#;
        assert_eq!(problem(document), "not live");
        assert_eq!(problem(b"no such page\nmore"), "no such page");
        assert_eq!(problem(b""), "no reason given");
    }
}
