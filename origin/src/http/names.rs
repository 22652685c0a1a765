//! What requests name: streams and sessions in paths, tokens and numbers in headers and queries.
//!
//! Not here: whether they exist.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use headwater_media::{SessionId, StreamName};
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode, Uri, Version};

use super::Problem;
use crate::auth::Nearness;

/// The variable part of a path, as the router gives it.
pub(super) type PathOf = Result<Path<String>, PathRejection>;

/// The variable part of a path.
pub(super) fn path(path: PathOf) -> Result<String, Problem> {
    path.map(|Path(text)| text).map_err(|_| invalid_name("the path is not UTF-8".to_owned()))
}

fn invalid_name(detail: String) -> Problem {
    let title = "Invalid stream name";
    Problem::new(StatusCode::BAD_REQUEST, "invalid-stream-name", title, detail)
}

/// Whether a request comes from where its connection does.
pub(super) fn nearness(headers: &HeaderMap, uri: &Uri) -> Nearness {
    if FORWARDED.iter().any(|name| headers.contains_key(*name)) {
        return Nearness::Proxied;
    }
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let authority = uri.authority().map(Authority::as_str).or(host);
    match authority.map(str::parse::<Authority>) {
        Some(Ok(authority)) if !of_this_machine(authority.host()) => Nearness::ForeignHost,
        _ => Nearness::Direct,
    }
}

/// Checks that a request names one host: just one in HTTP/1.1, at most one elsewhere (RFC 9112
/// §3.2). What another server on the way makes of such a request is not what this one would.
pub(super) fn host<B>(request: &Request<B>) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let detail = match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => "HTTP/1.1 needs a header Host",
        (Some(_), Some(_)) => "send one header Host, not several",
        (Some(value), None) if !value.to_str().is_ok_and(is_host) => {
            "the header Host must be a name or an address, with or without a port"
        }
        _ => return Ok(()),
    };
    let problem = Problem::new(StatusCode::BAD_REQUEST, "invalid-host", "Invalid host", detail);
    Err(match request.version() {
        Version::HTTP_2 => problem,
        _ => problem.with_header(CONNECTION, HeaderValue::from_static("close")),
    })
}

/// Whether a text has the form `uri-host [":" port]` (RFC 9110 §7.2), which may be empty.
pub(super) fn is_host(text: &str) -> bool {
    let (known, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((literal, port))) => (literal.parse::<Ipv6Addr>().is_ok(), port),
        Some(None) => return false,
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let of_name = |byte: u8| byte.is_ascii_alphanumeric() || NAME_MARKS.contains(&byte);
            (name.bytes().all(of_name), port)
        }
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    known && (port.is_empty() || port.strip_prefix(':').is_some_and(digits))
}

/// What names of hosts have besides letters and digits (RFC 3986 §3.2.2).
const NAME_MARKS: &[u8] = b"-._~%!$&'()*+,;=";

/// Headers by which proxies say for whom they speak.
const FORWARDED: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// Whether only this machine can be meant by `host`. Names without a dot are not to be had in
/// public DNS.
fn of_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => !host.trim_end_matches('.').contains('.') || host.ends_with(".localhost"),
    }
}

/// Reads a stream's name.
pub(super) fn stream(text: &str) -> Result<StreamName, Problem> {
    StreamName::parse(text).map_err(|error| invalid_name(error.to_string()))
}

/// Reads `{stream}` or `{stream}/-/{session}`; the session's text is not yet an id.
pub(super) fn stream_and_session(path: &str) -> Result<(StreamName, Option<&str>), Problem> {
    match path.split_once("/-/") {
        Some((name, session)) => Ok((stream(name)?, Some(session))),
        None => Ok((stream(path)?, None)),
    }
}

/// Reads a session's id; what is not one names no session.
pub(super) fn session(text: &str) -> Result<SessionId, Problem> {
    text.parse().map_err(|_| no_such_session())
}

/// 404 for a session.
pub(super) fn no_such_session() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "session-not-found",
        "Session not found",
        "there is no such session, or it has ended",
    )
}

/// 404 for a stream that is not live.
pub(super) fn no_such_stream(name: &StreamName) -> Problem {
    let detail = format!("nobody publishes {name} now; try again when it is live");
    Problem::new(StatusCode::NOT_FOUND, "stream-not-found", "Stream not found", detail)
        .retry_after(2)
}

/// The token of a request: `Authorization: Bearer`, else `?token=`.
pub(super) fn token(parts: &Parts) -> Option<String> {
    bearer(&parts.headers).map(str::to_owned).or_else(|| query(parts, "token"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The first value of `key` in the query, percent-decoded.
pub(super) fn query(parts: &Parts, key: &str) -> Option<String> {
    parts.uri.query()?.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == key).then(|| percent_decoded(&value.replace('+', " ")).into_owned())
    })
}

/// Decodes `%XX`; what is not UTF-8 afterwards is replaced.
pub(super) fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let escaped = match (byte, tail) {
            (b'%', [high, low, after @ ..]) => digit(high).zip(digit(low)).map(|d| (d, after)),
            _ => None,
        };
        let (byte, after) = match escaped {
            Some(((high, low), after)) => (high << 4 | low, after),
            None => (*byte, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, authorization: Option<&str>) -> Parts {
        let mut request = Request::builder().uri(uri);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_token_comes_from_the_header_else_from_the_query() {
        for (uri, header, expected) in [
            ("/a", None, None),
            ("/a?token=x", None, Some("x")),
            ("/a?b=1&token=x%2By%20z", None, Some("x+y z")),
            ("/a?token=x", Some("Bearer y"), Some("y")),
            ("/a?token=x", Some("bearer  y "), Some("y")),
            ("/a?token=x", Some("Basic y"), Some("x")),
            ("/a?token=%", None, Some("%")),
            ("/a?token=%zz%+1", None, Some("%zz% 1")),
            ("/a?tokens=x", None, None),
        ] {
            assert_eq!(token(&parts(uri, header)).as_deref(), expected, "{uri} {header:?}");
        }
    }

    #[test]
    fn a_request_by_a_proxy_or_for_another_host_is_not_near() {
        let of = |uri: &str, name: &'static str, value: &'static str| {
            let mut parts = parts(uri, None);
            parts.headers.insert(name, http::HeaderValue::from_static(value));
            nearness(&parts.headers, &parts.uri)
        };
        for host in ["127.0.0.1:8080", "[::1]:8080", "localhost", "a.localhost:1", "box", "%"] {
            assert_eq!(of("/", "host", host), Nearness::Direct, "{host}");
        }
        for host in ["example.org", "evil.example.:80", "10.0.0.1", "[2001:db8::1]:80"] {
            assert_eq!(of("/", "host", host), Nearness::ForeignHost, "{host}");
        }
        assert_eq!(of("http://example.org/", "host", "localhost"), Nearness::ForeignHost);
        assert_eq!(of("/", "x-forwarded-for", "10.0.0.1"), Nearness::Proxied);
        assert_eq!(of("/", "forwarded", "for=10.0.0.1"), Nearness::Proxied);
        assert_eq!(of("/", "via", "1.1 example.org"), Nearness::Proxied);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in ["", "a", "a.example:80", "127.0.0.1", "[::1]", "[::1]:80", "a_b-c:", "%41"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["a b", "a/b", "u@a", "a:b", "a:1:2", "[::1", "[::1]80", "[x]", "::1", "\u{e4}"]
        {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn http_1_1_has_one_host_and_other_versions_one_at_most() {
        let of = |version, hosts: &[&'static str]| {
            let mut request = Request::builder().version(version);
            for value in hosts {
                request = request.header(HOST, *value);
            }
            host(&request.body(()).unwrap()).is_ok()
        };
        let (one, two) = (&["a"][..], &["a", "a"][..]);
        for (version, none_will_do) in
            [(Version::HTTP_10, true), (Version::HTTP_11, false), (Version::HTTP_2, true)]
        {
            assert_eq!(of(version, &[]), none_will_do, "{version:?}");
            assert!(of(version, one) && !of(version, two), "{version:?}");
            assert!(!of(version, &["a b"]), "{version:?}");
        }
    }

    #[test]
    fn a_lone_dash_ends_the_streams_name() {
        let (name, session) = stream_and_session("a/b/-/1234").unwrap();
        assert_eq!((name.as_str(), session), ("a/b", Some("1234")));
        assert_eq!(stream_and_session("a-b").unwrap().1, None);
        for bad in ["", "a/-", "-/x", "a//b", "a b", "/-/x"] {
            assert_eq!(stream_and_session(bad).unwrap_err().status(), 400, "{bad}");
        }
    }
}
