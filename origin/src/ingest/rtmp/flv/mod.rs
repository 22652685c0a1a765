//! FLV tags as RTMP carries them: legacy ones and Enhanced RTMP's (v1 and v2).
//!
//! Not here: what a codec's header says (`headwater_media::codec`), final times (`tracks`).

pub mod audio;
pub mod video;

use bytes::{Buf, Bytes};
use thiserror::Error;

pub use audio::{AudioCodec, AudioTag, parse_audio};
pub use video::{VideoCodec, VideoTag, parse_video};

/// Why bytes are not an FLV tag. The publisher's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FlvError {
    /// The tag ends inside its header.
    #[error("a tag is cut short")]
    Truncated,
    /// A packet type that the specification does not know.
    #[error("packet type {0} is not known")]
    PacketType(u8),
    /// A multitrack packet inside another, or of an unknown kind.
    #[error("multitrack type {0} is not known")]
    Multitrack(u8),
    /// More modifiers on one packet than [`MODIFIERS_MAX`].
    #[error("more than {MODIFIERS_MAX} modifiers on one packet")]
    TooManyModifiers,
}

/// Most `ModEx` modifiers on a packet: the specification knows one kind.
pub const MODIFIERS_MAX: usize = 8;

/// A tag, and whether it held tracks beside the first, which are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The first track's tag; none where the packet says nothing about it.
    pub tag: Option<T>,
    /// Whether there were other tracks.
    pub other_tracks: bool,
}

impl<T> Parsed<T> {
    fn one(tag: T) -> Self {
        Self { tag: Some(tag), other_tracks: false }
    }

    fn nothing() -> Self {
        Self { tag: None, other_tracks: false }
    }
}

/// The header of a tag in an aggregate message or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagHeader {
    /// 8 audio, 9 video, 18 script data.
    pub kind: u8,
    /// Bytes of the body.
    pub length: usize,
    /// Milliseconds, wrapping at 2^32.
    pub timestamp: u32,
}

/// Bytes of a tag's header.
const TAG_HEADER_BYTES: usize = 11;
/// Bytes of the length that follows a tag.
const BACK_POINTER_BYTES: usize = 4;

/// Reads a tag's header, which stays in `bytes`.
#[must_use]
pub fn tag_header(bytes: &[u8]) -> Option<TagHeader> {
    let [kind, a, b, c, low @ ..] = *bytes.first_chunk::<TAG_HEADER_BYTES>()?;
    let [d, e, f, high, ..] = low;
    Some(TagHeader {
        kind: kind & 0x1f,
        length: usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?,
        timestamp: u32::from_be_bytes([high, d, e, f]),
    })
}

/// Takes a tag and the length after it (which may be missing at the end) off `bytes`; none when
/// it is cut short.
#[must_use]
pub fn split_tag(bytes: &mut Bytes) -> Option<(TagHeader, Bytes)> {
    let header = tag_header(bytes)?;
    bytes.advance(TAG_HEADER_BYTES);
    let body = take(bytes, header.length).ok()?;
    bytes.advance(BACK_POINTER_BYTES.min(bytes.len()));
    Some((header, body))
}

fn take(bytes: &mut Bytes, count: usize) -> Result<Bytes, FlvError> {
    if bytes.len() < count { Err(FlvError::Truncated) } else { Ok(bytes.split_to(count)) }
}

fn u8(bytes: &mut Bytes) -> Result<u8, FlvError> {
    bytes.try_get_u8().map_err(|_| FlvError::Truncated)
}

fn u24(bytes: &mut Bytes) -> Result<u32, FlvError> {
    let [a, b, c] = array(bytes)?;
    Ok(u32::from_be_bytes([0, a, b, c]))
}

/// SI24: two's complement.
fn i24(bytes: &mut Bytes) -> Result<i32, FlvError> {
    let [a, b, c] = array(bytes)?;
    Ok(i32::from_be_bytes([a, b, c, 0]) >> 8)
}

fn array<const N: usize>(bytes: &mut Bytes) -> Result<[u8; N], FlvError> {
    let found = *bytes.first_chunk::<N>().ok_or(FlvError::Truncated)?;
    bytes.advance(N);
    Ok(found)
}

/// Enhanced RTMP v2's packet modifiers, the same for audio and video.
struct Modifiers {
    /// The packet type after them.
    packet_type: u8,
    /// To add to the time stamp, in nanoseconds below 1,000,000.
    nanos: u32,
}

/// Packet type of a modifier.
const MOD_EX: u8 = 7;
/// Modifier: a time stamp's offset in nanoseconds.
const MOD_EX_NANOS: u8 = 0;
/// Most that a nanosecond offset may say: it refines a millisecond.
const NANOS_MAX: u32 = 999_999;

/// Reads the modifiers of a packet that starts as `packet_type`.
fn modifiers(packet_type: u8, body: &mut Bytes) -> Result<Modifiers, FlvError> {
    let mut found = Modifiers { packet_type, nanos: 0 };
    let mut count = 0;
    while found.packet_type == MOD_EX {
        count += 1;
        if count > MODIFIERS_MAX {
            return Err(FlvError::TooManyModifiers);
        }
        let mut size = usize::from(u8(body)?) + 1;
        if size == 256 {
            size = usize::from(u16::from_be_bytes(array(body)?)) + 1;
        }
        let mut data = take(body, size)?;
        let types = u8(body)?;
        if types >> 4 == MOD_EX_NANOS && size >= 3 {
            found.nanos = u24(&mut data)?.min(NANOS_MAX);
        }
        found.packet_type = types & 0x0f;
    }
    Ok(found)
}

/// One track of a multitrack packet.
struct TrackBody {
    four_cc: [u8; 4],
    body: Bytes,
}

/// What a multitrack packet holds, as far as it is used.
struct Multitrack {
    packet_type: u8,
    /// Track 0, the default one.
    track: Option<TrackBody>,
    other_tracks: bool,
}

const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

/// Takes a multitrack packet apart and keeps track 0.
fn multitrack(nested: u8, body: &mut Bytes) -> Result<Multitrack, FlvError> {
    let types = u8(body)?;
    let (kind, packet_type) = (types >> 4, types & 0x0f);
    if packet_type == nested || kind > MANY_TRACKS_MANY_CODECS {
        return Err(FlvError::Multitrack(if packet_type == nested { packet_type } else { kind }));
    }
    let mut four_cc = [0; 4];
    if matches!(kind, ONE_TRACK | MANY_TRACKS) {
        four_cc = array(body)?;
    }
    let mut found = Multitrack { packet_type, track: None, other_tracks: false };
    loop {
        if kind == MANY_TRACKS_MANY_CODECS {
            four_cc = array(body)?;
        }
        let id = u8(body)?;
        let track = if kind == ONE_TRACK {
            std::mem::take(body)
        } else {
            let size = usize::try_from(u24(body)?).map_err(|_| FlvError::Truncated)?;
            take(body, size)?
        };
        if id == 0 && found.track.is_none() {
            found.track = Some(TrackBody { four_cc, body: track });
        } else {
            found.other_tracks = true;
        }
        if body.is_empty() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests;
