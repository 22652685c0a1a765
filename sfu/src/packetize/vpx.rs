//! VP8 (RFC 7741) and VP9 (RFC 9628) payloads.
//!
//! Not here: where picture ids come from (`super`).

use std::sync::Arc;

/// VP8: extended control bits present.
const VP8_X: u8 = 0x80;
/// VP8: start of the partition.
const VP8_S: u8 = 0x10;
/// VP8, in the extension byte: a picture id follows.
const VP8_I: u8 = 0x80;

const VP9_PICTURE_ID: u8 = 0x80;
const VP9_INTER: u8 = 0x40;
const VP9_FLEXIBLE: u8 = 0x10;
const VP9_BEGIN: u8 = 0x08;
const VP9_END: u8 = 0x04;

/// A picture id of 15 bits, marked as such.
fn picture_bytes(picture: u16) -> [u8; 2] {
    (0x8000 | picture).to_be_bytes()
}

pub(super) fn packetize_vp8(frame: &[u8], picture: u16, payload_bytes: usize) -> Vec<Arc<[u8]>> {
    let [high, low] = picture_bytes(picture);
    split(frame, 4, payload_bytes, |first, _| {
        let start = if first { VP8_S } else { 0 };
        vec![VP8_X | start, VP8_I, high, low]
    })
}

/// Flexible mode: a frame that is not a keyframe names the one before it as its reference, so
/// that receivers never decode past a hole.
pub(super) fn packetize_vp9(
    frame: &[u8],
    keyframe: bool,
    picture: u16,
    payload_bytes: usize,
) -> Vec<Arc<[u8]>> {
    let [high, low] = picture_bytes(picture);
    let header_bytes = if keyframe { 3 } else { 4 };
    split(frame, header_bytes, payload_bytes, |first, last| {
        let mut flags = VP9_PICTURE_ID | VP9_FLEXIBLE;
        for (on, flag) in [(!keyframe, VP9_INTER), (first, VP9_BEGIN), (last, VP9_END)] {
            flags |= if on { flag } else { 0 };
        }
        let mut header = vec![flags, high, low];
        if !keyframe {
            // P_DIFF 1, no further references.
            header.push(1 << 1);
        }
        header
    })
}

/// Cuts a frame into payloads that begin with what `header(first, last)` gives.
fn split(
    frame: &[u8],
    header_bytes: usize,
    payload_bytes: usize,
    header: impl Fn(bool, bool) -> Vec<u8>,
) -> Vec<Arc<[u8]>> {
    let chunk = payload_bytes.saturating_sub(header_bytes).max(1);
    let count = frame.len().div_ceil(chunk);
    let cut = |(index, part): (usize, &[u8])| {
        let mut payload = header(index == 0, index + 1 == count);
        payload.extend_from_slice(part);
        payload.into()
    };
    frame.chunks(chunk).enumerate().map(cut).collect()
}
