//! What is said on a hop, byte by byte: `docs/wire.md` in code.
//!
//! Owns: the messages of the control stream, the head of a group's stream and of a frame, the
//! limits that decoding keeps. Every decoder takes bytes of a stranger: it errs, and never panics.
//! Not here: what to say and when (`parent`, `child`), QUIC (`hop`).

mod config;
mod control;
mod group;
mod input;

pub use control::{
    Announced, Load, Message, Position, RefusalCode, StartAt, TrackEntry, decode_message,
    encode_message,
};
pub use group::{
    FrameCoder, GroupDecoder, GroupEvent, GroupHead, StreamKind, encode_group_end,
    encode_group_head,
};
pub use input::{Input, put_text, put_uint, zigzag};

use thiserror::Error;

/// The protocol's name and version in the TLS handshake (RFC 7301).
pub const ALPN: &[u8] = b"headwater-relay/1";

/// Bytes of one control message's body at most. The longest that is ever said, a list of tracks
/// or of positions, has less than 2 KiB.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes of the head of a group's stream at most: a codec configuration of [`CONFIG_BYTES_MAX`]
/// and the group's numbers.
pub const GROUP_HEAD_BYTES_MAX: usize = CONFIG_BYTES_MAX + 256;
/// Bytes of a track's encoded configuration at most; parameter sets of a usual stream have 100.
pub const CONFIG_BYTES_MAX: usize = 64 << 10;
/// Bytes of a frame's head at most: flags and five numbers of ten bytes.
pub const FRAME_HEAD_BYTES_MAX: usize = 51;
/// Bytes of a text that is for people: versions, node names, reasons.
pub const TEXT_BYTES_MAX: usize = 256;
/// Tracks in a list at most: four times the default of `[limits] tracks`.
pub const TRACKS_MAX: usize = 64;
/// Parameter sets of a kind at most, as in an `avcC` record.
pub const PARAMETER_SETS_MAX: usize = 255;

/// The codes with which streams of a group are reset or stopped (QUIC application error codes).
pub mod stream_code {
    /// The group lags by more than the subscription's greatest age: newer ones go first.
    pub const TOO_OLD: u32 = 1;
    /// The sender has not the whole group itself.
    pub const TORN: u32 = 2;
    /// The subscription is over.
    pub const UNSUBSCRIBED: u32 = 3;
    /// The receiver has this already, or follows a higher epoch.
    pub const NOT_WANTED: u32 = 4;
    /// What was sent breaks the protocol.
    pub const MALFORMED: u32 = 5;
}

/// The codes with which a connection is closed.
pub mod close_code {
    /// No further need.
    pub const DONE: u32 = 0;
    /// The peer broke the protocol.
    pub const PROTOCOL: u32 = 0x10;
    /// The node shuts down.
    pub const SHUTDOWN: u32 = 0x11;
}

/// Bytes that are not what the protocol says. The peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end too early; more may come.
    #[error("cut short")]
    Truncated,
    /// Something is longer than a limit allows.
    #[error("{what} of {size} is over the limit of {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it is said to be.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A value that is not allowed.
    #[error("{what}: {value} is not allowed")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A text that is not what it should be.
    #[error("{0} is malformed")]
    Text(&'static str),
}

#[cfg(test)]
mod tests;
