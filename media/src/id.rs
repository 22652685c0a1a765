//! Names and numbers that identify things across the cluster, each its own type.
//!
//! Not here: times (`time`), who allots a number (the directory does).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Most segments a stream name may have.
pub const STREAM_NAME_SEGMENTS_MAX: usize = 8;
/// Most bytes one segment of a stream name may have.
pub const STREAM_NAME_SEGMENT_BYTES_MAX: usize = 64;

/// The name of a broadcast: 1 to 8 segments of `[A-Za-z0-9._~-]{1,64}` joined by `/`, none of
/// them `.`, `..` or `-`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// Why a text is not a stream name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamNameError {
    /// No characters at all.
    #[error("a stream name may not be empty")]
    Empty,
    /// More than [`STREAM_NAME_SEGMENTS_MAX`] segments.
    #[error("a stream name has at most {STREAM_NAME_SEGMENTS_MAX} segments, this one has {0}")]
    TooManySegments(usize),
    /// A segment that is empty, too long, reserved or has a forbidden character.
    #[error(
        "segment {0:?} of the stream name is not allowed: use 1 to {STREAM_NAME_SEGMENT_BYTES_MAX} \
         characters of A-Z a-z 0-9 . _ ~ -, and not \".\", \"..\" or \"-\" alone"
    )]
    Segment(String),
}

impl StreamName {
    /// Checks `text` against the rules above.
    ///
    /// # Errors
    /// Says which segment is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, StreamNameError> {
        if text.is_empty() {
            return Err(StreamNameError::Empty);
        }
        let segments = text.split('/').count();
        if segments > STREAM_NAME_SEGMENTS_MAX {
            return Err(StreamNameError::TooManySegments(segments));
        }
        for segment in text.split('/') {
            let allowed =
                |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'~' | b'-');
            if segment.is_empty()
                || segment.len() > STREAM_NAME_SEGMENT_BYTES_MAX
                || matches!(segment, "." | ".." | "-")
                || !segment.bytes().all(allowed)
            {
                let shown: String = segment.chars().take(80).collect();
                return Err(StreamNameError::Segment(shown));
            }
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamName {
    type Err = StreamNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The name of a track, which is also its rendition's name: `video`, `audio`, `video-720p`,
/// `audio-aac`. One segment under the rules of [`StreamName`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackName(Arc<str>);

impl TrackName {
    /// Checks `text`.
    ///
    /// # Errors
    /// As for one segment of a [`StreamName`].
    pub fn parse(text: &str) -> Result<Self, StreamNameError> {
        if text.contains('/') {
            return Err(StreamNameError::Segment(text.chars().take(80).collect()));
        }
        StreamName::parse(text).map(|name| Self(name.0))
    }

    /// The source's own video: `video`.
    #[must_use]
    pub fn video() -> Self {
        Self("video".into())
    }

    /// The source's own audio: `audio`.
    #[must_use]
    pub fn audio() -> Self {
        Self("audio".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Number of a group, and of the segment made of it; counts up for the life of the stream's
    /// name, across publishers and owners. The tracks of a broadcast share the numbering.
    GroupSeq(u64)
}
number! {
    /// Fencing number of an ownership of a stream. It only rises.
    Epoch(u64)
}
number! {
    /// `EXT-X-DISCONTINUITY-SEQUENCE` of a group: rises by one with every change of publisher or
    /// break of the timeline.
    DiscontinuitySeq(u64)
}
number! {
    /// The `n` of `init-{n}.mp4`: rises with every change of a track's configuration, for the
    /// life of the stream's name.
    ConfigVersion(u32)
}

/// One publisher's or viewer's connection: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u128);

impl SessionId {
    /// Makes an id of 16 random bytes (the caller has the randomness).
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a session id is 32 hexadecimal digits")]
pub struct SessionIdError;

impl FromStr for SessionId {
    type Err = SessionIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(SessionIdError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| SessionIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_follow_the_contract() {
        for good in ["a", "auction/lot-7", "a/b/c/d/e/f/g/h", "~x._-", &"a".repeat(64)] {
            assert!(StreamName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a/-/b",
            "-",
            ".",
            "a/..",
            "a b",
            "ä",
            "a/b/c/d/e/f/g/h/i",
        ] {
            assert!(StreamName::parse(bad).is_err(), "{bad}");
        }
        assert!(StreamName::parse(&"a".repeat(65)).is_err());
    }

    #[test]
    fn a_session_id_reads_back_what_it_writes() {
        let id = SessionId::from_random([7; 16]);
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        for bad in
            ["", "07", "+7070707070707070707070707070707", "zz070707070707070707070707070707"]
        {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
