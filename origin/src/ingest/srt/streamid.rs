//! What a caller asks for: the stream id of an SRT handshake.
//!
//! Two forms. The access-control form of the SRT documents, `#!::m=publish,r=auction/lot-7,token=…`,
//! has keys in any order; a missing `m` means `request`, as there. The short form is
//! `publish:auction/lot-7[:token]` or `read:auction/lot-7[:token]`. An id that begins with `%23`
//! was escaped for a URL and sent so (ffmpeg 5 does not undo it): it is unescaped here.
//! Not here: whether the caller may (`auth`), and what is done for it (`session`).

use headwater_media::StreamName;
use headwater_media::id::StreamNameError;
use thiserror::Error;

/// Most bytes of a stream id: what the handshake extension carries (draft-sharabayko-srt-01
/// §3.2.1.3).
pub const STREAM_ID_BYTES_MAX: usize = 512;

/// Which way the media goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The caller sends.
    Publish,
    /// The caller receives.
    Request,
}

/// A stream id that was understood.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamId {
    /// Which way the media goes.
    pub mode: Mode,
    /// The stream that is meant.
    pub stream: StreamName,
    /// The access token.
    pub token: Option<String>,
    /// What the caller says it is called (key `u`); for logs only.
    pub user: Option<String>,
}

impl std::fmt::Debug for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamId")
            .field("mode", &self.mode)
            .field("stream", &self.stream)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("user", &self.user)
            .finish()
    }
}

/// Why a stream id cannot be used. The caller's fault; the text says what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamIdError {
    /// No stream id was sent.
    #[error(
        "no stream id: send streamid=publish:NAME or streamid=read:NAME (or \
         #!::m=publish,r=NAME)"
    )]
    Missing,
    /// Longer than [`STREAM_ID_BYTES_MAX`].
    #[error("the stream id has {0} bytes, {STREAM_ID_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not printable UTF-8.
    #[error("the stream id is not printable UTF-8 text")]
    NotText,
    /// Neither of the two forms.
    #[error("unknown form of stream id {0:?}: use publish:NAME, read:NAME or #!::m=publish,r=NAME")]
    Form(String),
    /// `#!:{`, which nobody was seen to send.
    #[error("the nested form #!:{{…}} is not offered: use #!::key=value,key=value")]
    Nested,
    /// A pair without `=`, or without a key.
    #[error("{0:?} is not a key=value pair")]
    Pair(String),
    /// A known key came twice.
    #[error("the key {0:?} came twice")]
    Twice(&'static str),
    /// No `r`.
    #[error("the stream is missing: add r=NAME")]
    NoResource,
    /// The name breaks the rules.
    #[error(transparent)]
    Name(#[from] StreamNameError),
    /// `m` is something else, `bidirectional` for one.
    #[error("mode {0:?} is not offered: use m=publish or m=request")]
    Mode(String),
    /// `t` is not `stream`.
    #[error("type {0:?} is not offered: only t=stream (or none)")]
    Type(String),
    /// More than `publish:NAME:TOKEN`.
    #[error("too many parts: the short form is publish:NAME or publish:NAME:TOKEN")]
    Parts,
}

impl StreamIdError {
    /// The HTTP status that says the same; the reject code is 1000 above it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            // SRT's own list of codes: 1405 is "mode not supported", 1415 "type not supported".
            Self::Mode(_) => 405,
            Self::Type(_) => 415,
            _ => 400,
        }
    }
}

impl StreamId {
    /// Reads a stream id as it came in the handshake.
    ///
    /// # Errors
    /// Whatever keeps it from naming one stream and one direction.
    pub fn parse(bytes: &[u8]) -> Result<Self, StreamIdError> {
        if bytes.len() > STREAM_ID_BYTES_MAX {
            return Err(StreamIdError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| StreamIdError::NotText)?;
        // The extension is padded to whole words with zeros.
        let text = text.trim_end_matches('\0');
        if text.chars().any(char::is_control) {
            return Err(StreamIdError::NotText);
        }
        if text.is_empty() {
            return Err(StreamIdError::Missing);
        }
        let unescaped = text.starts_with("%23").then(|| unescape(text)).transpose()?;
        let text = unescaped.as_deref().unwrap_or(text);
        if let Some(pairs) = text.strip_prefix("#!::") {
            Self::from_pairs(pairs)
        } else if text.starts_with("#!:{") {
            Err(StreamIdError::Nested)
        } else {
            Self::from_short(text)
        }
    }

    fn from_pairs(pairs: &str) -> Result<Self, StreamIdError> {
        let (mut mode, mut resource, mut token) = (None, None, None);
        let (mut kind, mut user) = (None, None);
        for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
            let unusable = || StreamIdError::Pair(pair.chars().take(40).collect());
            let (key, value) = pair.split_once('=').ok_or_else(unusable)?;
            let (name, place) = match key {
                "" => return Err(unusable()),
                "m" => ("m", &mut mode),
                "r" => ("r", &mut resource),
                "t" => ("t", &mut kind),
                "u" => ("u", &mut user),
                "token" => ("token", &mut token),
                // `s`, `h` and keys of other services: allowed, and of no use here.
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(StreamIdError::Twice(name));
            }
        }
        let mode = match mode {
            Some("publish") => Mode::Publish,
            Some("request") | None => Mode::Request,
            Some(other) => return Err(StreamIdError::Mode(other.to_owned())),
        };
        if let Some(other) = kind.filter(|kind| *kind != "stream") {
            return Err(StreamIdError::Type(other.to_owned()));
        }
        let stream = StreamName::parse(resource.ok_or(StreamIdError::NoResource)?)?;
        let filled = |value: &&str| !value.is_empty();
        Ok(Self {
            mode,
            stream,
            token: token.filter(filled).map(str::to_owned),
            user: user.filter(filled).map(str::to_owned),
        })
    }

    fn from_short(text: &str) -> Result<Self, StreamIdError> {
        // The beginning only: there may be a token behind.
        let unknown = || StreamIdError::Form(text.chars().take(12).collect());
        let mut parts = text.splitn(4, ':');
        let mode = match parts.next() {
            Some("publish") => Mode::Publish,
            Some("read" | "request" | "play") => Mode::Request,
            _ => return Err(unknown()),
        };
        let stream = StreamName::parse(parts.next().ok_or_else(unknown)?)?;
        let token = parts.next().filter(|token| !token.is_empty()).map(str::to_owned);
        if parts.next().is_some() {
            return Err(StreamIdError::Parts);
        }
        Ok(Self { mode, stream, token, user: None })
    }
}

/// Undoes the escapes of a URL.
fn unescape(text: &str) -> Result<String, StreamIdError> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit =
            || char::from(bytes.next()?).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let value = digit().zip(digit()).map(|(high, low)| high << 4 | low);
        plain.push(value.ok_or(StreamIdError::NotText)?);
    }
    let plain = String::from_utf8(plain).map_err(|_| StreamIdError::NotText)?;
    if plain.chars().any(char::is_control) { Err(StreamIdError::NotText) } else { Ok(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(mode: Mode, stream: &str, token: Option<&str>) -> StreamId {
        let stream = StreamName::parse(stream).unwrap();
        StreamId { mode, stream, token: token.map(str::to_owned), user: None }
    }

    #[test]
    fn both_forms_name_a_stream_a_direction_and_a_token() {
        for (text, expected) in [
            ("publish:cam", id(Mode::Publish, "cam", None)),
            ("publish:auction/lot-7:a.b.c", id(Mode::Publish, "auction/lot-7", Some("a.b.c"))),
            ("read:cam", id(Mode::Request, "cam", None)),
            ("read:cam:", id(Mode::Request, "cam", None)),
            ("request:cam", id(Mode::Request, "cam", None)),
            ("#!::m=publish,r=cam", id(Mode::Publish, "cam", None)),
            ("#!::r=cam,m=publish,token=a.b.c", id(Mode::Publish, "cam", Some("a.b.c"))),
            ("#!::token=x=y,r=a/b,m=request", id(Mode::Request, "a/b", Some("x=y"))),
            ("#!::r=cam", id(Mode::Request, "cam", None)),
            ("#!::r=cam,t=stream,s=1,h=example.org,x=1", id(Mode::Request, "cam", None)),
            ("#!::,r=cam,,m=publish,", id(Mode::Publish, "cam", None)),
            ("%23!::r=a/b,m=publish", id(Mode::Publish, "a/b", None)),
            ("%23%21%3a%3Ar%3Da%2Fb%2Cm=publish", id(Mode::Publish, "a/b", None)),
            ("publish:cam\0\0", id(Mode::Publish, "cam", None)),
        ] {
            assert_eq!(StreamId::parse(text.as_bytes()), Ok(expected), "{text}");
        }
        let with_user = StreamId::parse(b"#!::u=ann,r=cam,m=publish").unwrap();
        assert_eq!(with_user.user.as_deref(), Some("ann"));
    }

    #[test]
    fn unusable_ids_say_why_and_carry_a_status() {
        let long = vec![b'a'; STREAM_ID_BYTES_MAX + 1];
        for (bytes, status, part) in [
            (&b""[..], 400, "no stream id"),
            (b"\0\0\0\0", 400, "no stream id"),
            (b"cam", 400, "unknown form"),
            (b"publish", 400, "unknown form"),
            (b"Publish:cam", 400, "unknown form"),
            (b"publish:", 400, "may not be empty"),
            (b"publish:/cam", 400, "segment"),
            (b"publish:a%2Fb", 400, "segment"),
            (b"publish:cam:token:more", 400, "too many parts"),
            (b"#!::m=publish", 400, "stream is missing"),
            (b"#!::", 400, "stream is missing"),
            (b"#!::r=,m=publish", 400, "may not be empty"),
            (b"#!::r=../etc", 400, "segment"),
            (b"#!::r=cam,publish", 400, "key=value"),
            (b"#!::=cam", 400, "key=value"),
            (b"#!::r=a,r=b", 400, "twice"),
            (b"#!::r=a,token=1,token=2", 400, "twice"),
            (b"#!::r=a,m=bidirectional", 405, "bidirectional"),
            (b"#!::r=a,m=", 405, "not offered"),
            (b"#!::r=a,t=file", 415, "t=stream"),
            (b"#!:{r=a}", 400, "nested"),
            (b"\xff\xfe", 400, "UTF-8"),
            (b"publish:a\nb", 400, "printable"),
            (b"%23!::r=a%0Ab", 400, "printable"),
            (b"%23!::r=a%0", 400, "printable"),
            (b"%23!::r=a%zz", 400, "printable"),
            (b"%23!::r=a%ff", 400, "printable"),
            (&long, 400, "513 bytes"),
        ] {
            let error = StreamId::parse(bytes).unwrap_err();
            assert_eq!(error.status(), status, "{:?}: {error}", String::from_utf8_lossy(bytes));
            assert!(error.to_string().contains(part), "{error} lacks {part:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown_in_logs() {
        let parsed = StreamId::parse(b"publish:cam:secret-token").unwrap();
        assert!(!format!("{parsed:?}").contains("secret"));
    }
}
