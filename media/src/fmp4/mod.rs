//! CMAF tracks (ISO/IEC 23000-19 over ISO/IEC 14496-12): the initialisation section and the
//! fragments of one track. Both are pure functions, so that every node writes the same bytes.
//!
//! An init section is `ftyp`, `moov`; a fragment (a part, a CMAF chunk) is `moof`, `mdat`, and a
//! segment is the concatenation of its parts. Fragments carry no `styp`: RFC 8216bis asks for
//! none, and without it a segment is byte for byte the sum of its parts. Nothing in a fragment
//! counts from the file's start, so boxes such as `prft` or `emsg` may be put in front of one.
//!
//! Not here: where parts begin and end (`track::PartPlan`), playlists, encryption.

mod boxes;
mod entry;
mod fragment;
mod init;
#[cfg(any(test, feature = "test-reader"))]
pub mod read;
mod record;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::codec::CodecError;
use crate::time::ClockRate;

pub use fragment::{Fragment, fragment};
pub use init::init_section;

/// The `track_ID` of every track, since each has files of its own.
pub const TRACK_ID: u32 = 1;

/// What cannot be written as CMAF.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fmp4Error {
    /// The codec has no place in CMAF here.
    #[error("{0} is not carried in CMAF: publish or transcode to H.264, H.265, AV1 or VP9")]
    Codec(&'static str),
    /// The codec's headers cannot be written as a configuration record.
    #[error("codec configuration: {0}")]
    Config(#[from] CodecError),
    /// A fragment needs at least one frame.
    #[error("a fragment needs at least one frame")]
    Empty,
    /// A frame's times are not in ticks of the track.
    #[error("frame {index} counts {} ticks a second, its track {}", got.hz(), want.hz())]
    Rate {
        /// Which frame of the fragment.
        index: usize,
        /// The frame's rate.
        got: ClockRate,
        /// The track's rate.
        want: ClockRate,
    },
    /// `tfdt` is unsigned.
    #[error("the first frame's decoding time is negative: {0}")]
    NegativeTime(i64),
    /// A frame does not begin where the one before it ends.
    #[error("frame {index} is to be decoded at {got}, the frame before it ends at {want}")]
    Gap {
        /// Which frame of the fragment.
        index: usize,
        /// Its `dts`.
        got: i64,
        /// The `dts` plus `duration` of the frame before.
        want: i64,
    },
    /// A value that its field cannot hold.
    #[error("frame {index}: {field} {value} does not fit its field")]
    Range {
        /// Which frame of the fragment.
        index: usize,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// More than an `mdat` of 32 bits holds.
    #[error("the fragment is larger than 4 GiB")]
    TooLarge,
}
