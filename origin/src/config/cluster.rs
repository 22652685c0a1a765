//! The kinds of values by which nodes are named, reached and let in.
//!
//! Not here: which keys there are (`schema`), what a node does with them (`headwater-cluster`).

use std::net::Ipv6Addr;

use headwater_cluster::id::{NodeName, Region};
use headwater_cluster::identity::JoinToken;
use headwater_cluster::state::{ADDRESS_BYTES_MAX, HTTP_URLS_MAX};

use super::value::{Input, Value, quoted};

/// `host:port`; the host is a name or an address, an IPv6 address in brackets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    text: String,
    host_len: usize,
}

impl HostPort {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port_is_good = port.parse::<u16>().is_ok_and(|port| port != 0);
        let host_is_good = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
            None => {
                let of_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
                !host.is_empty() && host.bytes().all(of_name)
            }
        };
        let good = port_is_good && host_is_good && text.len() <= ADDRESS_BYTES_MAX;
        good.then(|| Self { text: text.to_owned(), host_len: host.len() })
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host; an IPv6 address is in its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.text.get(..self.host_len).unwrap_or_default()
    }
}

impl Value for HostPort {
    fn allowed() -> String {
        "a host with a port such as \"origin-1.example.org:4443\" or \"10.0.0.1:4443\"".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        Self::parse(input.text()?)
    }
    fn render(&self) -> String {
        quoted(&self.text)
    }
}

/// The beginning of every URL of a node: scheme, host, port if need be, perhaps a path; no slash at
/// its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaseUrl(String);

impl BaseUrl {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('/');
        let uri: http::Uri = text.parse().ok()?;
        let scheme_is_good = matches!(uri.scheme_str(), Some("http" | "https"));
        let host_is_good = uri.host().is_some_and(|host| !host.is_empty());
        let plain = uri.query().is_none() && !text.contains(['#', '@']);
        let good = scheme_is_good && host_is_good && plain && text.len() <= ADDRESS_BYTES_MAX;
        good.then(|| Self(text.to_owned()))
    }

    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Vec<BaseUrl> {
    fn allowed() -> String {
        format!("a list of up to {HTTP_URLS_MAX} URLs such as [\"https://eu-1.example.org\"]")
    }
    fn read(input: Input<'_>) -> Option<Self> {
        let urls: Option<Self> = input.items()?.into_iter().map(BaseUrl::parse).collect();
        urls.filter(|urls| urls.len() <= HTTP_URLS_MAX)
    }
    fn render(&self) -> String {
        let items: Vec<_> = self.iter().map(|url| quoted(&url.0)).collect();
        format!("[{}]", items.join(", "))
    }
}

/// What names may be made of.
const NAME: &str = "1 to 64 characters of A-Z a-z 0-9 . _ - such as";

impl Value for NodeName {
    fn allowed() -> String {
        format!("{NAME} \"origin-1\"")
    }
    fn read(input: Input<'_>) -> Option<Self> {
        Self::parse(input.text()?).ok()
    }
    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

impl Value for Region {
    fn allowed() -> String {
        format!("{NAME} \"eu-west\"")
    }
    fn read(input: Input<'_>) -> Option<Self> {
        Self::parse(input.text()?).ok()
    }
    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

impl Value for JoinToken {
    const SECRET: bool = true;
    fn allowed() -> String {
        "a join token, as `headwater cluster join-token` prints it".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        input.text()?.parse().ok()
    }
    fn render(&self) -> String {
        quoted(&self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_cluster::identity::ClusterId;

    fn read<T: Value>(text: &str) -> Option<T> {
        T::read(Input::Text(text))
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, host) in [
            ("10.0.0.1:4443", "10.0.0.1"),
            ("origin-1.example.org:1", "origin-1.example.org"),
            ("[2001:db8::1]:65535", "[2001:db8::1]"),
        ] {
            let address: HostPort = read(text).unwrap();
            assert_eq!((address.as_str(), address.host()), (text, host));
        }
        let long = format!("{}:1", "a".repeat(ADDRESS_BYTES_MAX));
        for bad in
            ["", "a", ":1", "a:", "a:0", "a:65536", "a b:1", "::1:80", "[x]:1", "u@a:1", &long]
        {
            assert_eq!(read::<HostPort>(bad), None, "{bad}");
        }
    }

    #[test]
    fn base_urls_have_a_scheme_and_a_host_and_nothing_behind() {
        let urls: Vec<BaseUrl> = read("http://10.0.0.1:8080/, https://a.example/live").unwrap();
        let texts: Vec<_> = urls.iter().map(BaseUrl::as_str).collect();
        assert_eq!(texts, ["http://10.0.0.1:8080", "https://a.example/live"]);
        for bad in ["a.example", "ftp://a", "http://", "http://a?x=1", "http://u@a", "/live"] {
            assert_eq!(read::<Vec<BaseUrl>>(bad), None, "{bad}");
        }
        let many = ["http://a"; HTTP_URLS_MAX + 1].join(",");
        assert_eq!(read::<Vec<BaseUrl>>(&many), None);
    }

    #[test]
    fn every_value_reads_back_what_it_writes_and_none_is_empty() {
        fn round<T: Value + PartialEq + std::fmt::Debug>(value: T) {
            let text = format!("k = {}", value.render());
            let table = toml::de::DeTable::parse(&text).unwrap();
            let read = T::read(Input::Toml(table.get_ref().get("k").unwrap().get_ref()));
            assert_eq!(read, Some(value), "{text}");
        }
        round(read::<HostPort>("[::1]:80"));
        round(None::<HostPort>);
        round(read::<Vec<BaseUrl>>("http://a,https://b").unwrap());
        round(read::<NodeName>("origin-1"));
        round(read::<Region>("eu-west").unwrap());
        let token = JoinToken::create(ClusterId::from_bytes([7; 16]), b"ca").unwrap();
        round(Some(token));
        assert_eq!(read::<Option<HostPort>>(""), Some(None));
        assert_eq!(read::<Option<HostPort>>("nonsense"), None);
    }
}
