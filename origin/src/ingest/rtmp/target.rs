//! What a client wants to publish: the stream's name and the token, out of `app`, `tcUrl` and the
//! stream key.
//!
//! Not here: whether it may (`auth`), whether the name is free (`streams`).

use headwater_media::StreamName;
use headwater_media::id::StreamNameError;

/// Longest `app`, `tcUrl` or key that is looked at, in bytes: a token of 4 KiB fits twice.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// The stream that `publish` names: `{app}/{key}`, either of which may be missing or have further
/// slashes.
///
/// # Errors
/// When that is no stream name.
pub fn stream_name(app: &str, key: &str) -> Result<StreamName, StreamNameError> {
    let (app, key) = (path(app), path(key));
    match (app.is_empty(), key.is_empty()) {
        (false, false) => StreamName::parse(&format!("{app}/{key}")),
        (true, _) => StreamName::parse(key),
        (false, true) => StreamName::parse(app),
    }
}

/// Whether an `app` can be the beginning of a stream name.
///
/// # Errors
/// When it cannot.
pub fn check_app(app: &str) -> Result<(), StreamNameError> {
    match path(app) {
        "" => Ok(()),
        app => StreamName::parse(app).map(drop),
    }
}

/// The first `token` in the queries of the key, the app and the URL, in this order.
#[must_use]
pub fn token(key: &str, app: &str, tc_url: &str) -> Option<String> {
    [key, app, tc_url].into_iter().find_map(token_of)
}

fn path(text: &str) -> &str {
    text.split_once('?').map_or(text, |(path, _)| path).trim_matches('/')
}

fn token_of(text: &str) -> Option<String> {
    let (_, query) = text.split_once('?')?;
    let value = query.split(['&', '?']).find_map(|pair| pair.strip_prefix("token="))?;
    // ffmpeg cuts the URL at a slash, wherever it stands; no token has one unescaped.
    let value = value.trim_end_matches('/');
    (!value.is_empty()).then(|| percent_decoded(value))
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        match escaped {
            Some((byte, after)) => {
                out.push(byte);
                rest = after;
            }
            None => out.push(*first),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_app_and_key_joined() {
        for (app, key, name) in [
            ("live", "cam", "live/cam"),
            ("live/", "/cam", "live/cam"),
            ("a/b", "c/d", "a/b/c/d"),
            ("", "cam", "cam"),
            ("live", "", "live"),
            ("live?token=x", "cam?token=y/z", "live/cam"),
        ] {
            assert_eq!(stream_name(app, key).unwrap().as_str(), name, "{app} {key}");
        }
    }

    #[test]
    fn names_outside_the_rules_are_refused() {
        for (app, key) in [("", ""), ("live", "a b"), ("..", "x"), ("live", "-"), ("a//b", "c")] {
            assert!(stream_name(app, key).is_err(), "{app} {key}");
        }
        assert!(stream_name("live", &"x".repeat(65)).is_err());
        assert!(check_app("").is_ok() && check_app("live/x?token=%").is_ok());
        assert!(check_app("li ve").is_err());
    }

    #[test]
    fn a_token_is_found_on_key_app_or_url_and_unescaped() {
        for (key, app, url, expected) in [
            ("k?token=a", "x?token=b", "rtmp://h/x?token=c", Some("a")),
            ("k", "x?user=1&token=b", "", Some("b")),
            ("k?other=1", "x", "rtmp://h/x?token=c%2B%zz/", Some("c+%zz")),
            ("k?token=", "x", "", None),
            ("k?tokens=1", "x", "", None),
            ("token=1", "", "", None),
        ] {
            assert_eq!(token(key, app, url).as_deref(), expected, "{key} {app} {url}");
        }
    }
}
