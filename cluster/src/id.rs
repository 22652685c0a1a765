//! Names and numbers of nodes, each its own type; and how the media crate's names and numbers are
//! written on disk and wire.
//!
//! Not here: streams, sessions, groups and epochs themselves (`headwater_media::id`); who allots a
//! node's number (`state`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most bytes of a node's or a region's name.
pub const NAME_BYTES_MAX: usize = 64;

/// A node's number. The cluster allots it once, when the node joins, and never again to another.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for NodeId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl FromStr for NodeId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Which start of a node's process: kept in its data folder, it rises by one at each start. What
/// an earlier start owned or said is known by its lower number.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970 by the clock of whoever proposed a command. Replicas never read a clock
/// of their own while they apply one.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
pub struct WallTime(pub u64);

impl WallTime {
    /// This time and `ms` milliseconds more.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// A text that is no name of a node or a region.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not allowed: use 1 to {NAME_BYTES_MAX} characters of A-Z a-z 0-9 . _ -")]
pub struct NameError(String);

fn check_name(text: &str) -> Result<(), NameError> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) {
        return Err(NameError(text.chars().take(80).collect()));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// Says what is allowed.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check_name(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// What people call a node: `origin-1`. For reading; nothing is decided by it.
    NodeName
}
name! {
    /// Where a node stands: `eu-west`. Nodes of a region share a near network.
    Region
}

/// Serde for the media crate's names and numbers, which know no serde of their own. Used as
/// `#[serde(with = "crate::id::stream_name")]`.
macro_rules! as_text {
    ($module:ident, $type:ty) => {
        pub(crate) mod $module {
            use serde::de::Error as _;
            use serde::{Deserialize as _, Deserializer, Serializer};

            pub(crate) fn serialize<S: Serializer>(
                value: &impl std::borrow::Borrow<$type>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_str(value.borrow())
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                let text = String::deserialize(deserializer)?;
                <$type>::parse(&text).map_err(D::Error::custom)
            }
        }
    };
}

macro_rules! as_number {
    ($module:ident, $type:ident) => {
        pub(crate) mod $module {
            use headwater_media::id::$type;
            use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

            pub(crate) fn serialize<S: Serializer>(
                value: &$type,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                value.0.serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                u64::deserialize(deserializer).map($type)
            }
        }
    };
}

as_text!(stream_name, headwater_media::id::StreamName);
as_text!(track_name, headwater_media::id::TrackName);
as_number!(group_seq, GroupSeq);
as_number!(epoch, Epoch);
as_number!(discontinuity_seq, DiscontinuitySeq);

pub(crate) mod session_id {
    use headwater_media::id::SessionId;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &SessionId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SessionId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_also_when_they_come_from_the_wire() {
        for good in ["a", "origin-1", "eu.west_2", &"a".repeat(64)] {
            assert!(NodeName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", "a\n", &"a".repeat(65)] {
            assert!(Region::parse(bad).is_err(), "{bad}");
            let wire = postcard::to_stdvec(bad).unwrap();
            assert!(postcard::from_bytes::<Region>(&wire).is_err(), "{bad}");
        }
        let name = NodeName::parse("origin-1").unwrap();
        let wire = postcard::to_stdvec(&name).unwrap();
        assert_eq!(postcard::from_bytes::<NodeName>(&wire).unwrap(), name);
    }
}
