//! ICE servers that clients are told of.
//!
//! Not here: how they are told (`http::webrtc`); this node itself needs none.

use std::fmt;

use super::value::{Input, Value, quoted};

/// A STUN or TURN server: a URI, and for TURN a user name and a credential after it, separated by
/// spaces: `turn:turn.example.org:3478?transport=udp alice secret`.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    uri: String,
    login: Option<(String, String)>,
}

impl IceServer {
    fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | ',');
        let mut words = text.split_ascii_whitespace();
        let uri = words.next()?.to_owned();
        let (scheme, rest) = uri.split_once(':')?;
        let turn = matches!(scheme, "turn" | "turns");
        if !(turn || matches!(scheme, "stun" | "stuns")) || rest.is_empty() {
            return None;
        }
        let login = match (words.next(), words.next(), words.next()) {
            (None, None, None) if !turn => None,
            (Some(user), Some(credential), None) if turn => {
                Some((user.to_owned(), credential.to_owned()))
            }
            _ => return None,
        };
        text.chars().all(|c| plain(c) || c == ' ').then_some(Self { uri, login })
    }

    /// The value of the `Link` header (RFC 9725 §4.5).
    #[must_use]
    pub fn link(&self) -> String {
        let link = format!("<{}>; rel=\"ice-server\"", self.uri);
        match &self.login {
            None => link,
            Some((user, credential)) => format!(
                "{link}; username=\"{user}\"; credential=\"{credential}\"; \
                 credential-type=\"password\""
            ),
        }
    }
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl Value for Vec<IceServer> {
    const SECRET: bool = true;
    fn allowed() -> String {
        "a list such as [\"stun:stun.example.org:3478\", \"turn:turn.example.org user secret\"]"
            .into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        input.items()?.into_iter().map(IceServer::parse).collect()
    }
    fn render(&self) -> String {
        let items: Vec<_> = self
            .iter()
            .map(|server| match &server.login {
                None => quoted(&server.uri),
                Some((user, credential)) => quoted(&format!("{} {user} {credential}", server.uri)),
            })
            .collect();
        format!("[{}]", items.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_become_links_and_a_turn_server_needs_a_login() {
        let text = "stun:a.example:1, turn:b.example?transport=udp me pass";
        let servers = Vec::<IceServer>::read(Input::Text(text)).unwrap();
        let links: Vec<_> = servers.iter().map(IceServer::link).collect();
        let turn = "<turn:b.example?transport=udp>; rel=\"ice-server\"; username=\"me\"; \
                    credential=\"pass\"; credential-type=\"password\"";
        assert_eq!(links, ["<stun:a.example:1>; rel=\"ice-server\"", turn]);
        assert!(!format!("{servers:?}").contains("pass"));
        for bad in
            ["turn:a", "http://a", "stun:", "stun:a b", "stun:a\"", "turn:a b c d", "stun:\u{e9}"]
        {
            assert!(Vec::<IceServer>::read(Input::Text(bad)).is_none(), "{bad}");
        }
    }
}
