//! RTP payloads of a frame, made once for a track and shared by all viewers of all workers.
//!
//! The payloads live in the frame's slot on the bus ([`FrameSlot::derived`]). All payloads of a
//! frame but the last are equally long where the format allows, so that they leave in one batch.
//! Not here: RTP headers and their numbers (`viewer`), encryption, sending.
//!
//! [`FrameSlot::derived`]: headwater_media::frame::FrameSlot::derived

mod av1;
mod h264;
mod vpx;

use std::sync::Arc;

use headwater_media::bus::FrameRef;
use headwater_media::codec::Codec;
use headwater_media::{Frame, Track};

/// The payloads of one frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packets {
    pub(crate) payloads: Vec<Arc<[u8]>>,
    /// The picture id of VP8 and VP9, 15 bits.
    picture: u16,
}

/// A worker's own hold of a frame's payloads. Its viewers count their references here, so that
/// workers do not contend for one counter with every packet's frame.
#[derive(Debug)]
pub(crate) struct Held(Arc<Packets>);

impl Held {
    pub(crate) fn new(packets: Arc<Packets>) -> Arc<Self> {
        Arc::new(Self(packets))
    }
}

impl std::ops::Deref for Held {
    type Target = Packets;
    fn deref(&self) -> &Packets {
        &self.0
    }
}

impl Packets {
    /// Packets with the given payloads, for tests and benchmarks.
    pub(crate) fn of(payloads: Vec<Arc<[u8]>>) -> Self {
        Self { payloads, picture: 0 }
    }
}

/// Picture ids have 15 bits.
const PICTURE_MASK: u16 = 0x7fff;

/// The distance between the picture ids of two groups when nothing is known about the frames
/// between them: more than the frames of a usual group, and small against half the range, which
/// receivers take for a step back.
const PICTURES_PER_GROUP: u64 = 1_024;

/// The payloads of a frame; made if nobody has yet. None for a codec that WebRTC cannot carry.
///
/// Receivers of VP8 and VP9 tell from picture ids which frames depend on each other, so ids count
/// up from frame to frame. They are one more than the id of the frame before, which is kept with
/// its payloads; where nobody has sent that one, nobody notices a step.
pub(crate) fn packets(
    track: &Track,
    frame: &FrameRef,
    payload_bytes: usize,
) -> Option<Arc<Packets>> {
    let slot = frame.slot()?;
    let codec = &frame.group.header().config.codec;
    let picture = match codec {
        Codec::Vp8(_) | Codec::Vp9(_) => {
            let before = before(track, frame).and_then(|before| {
                let default = default_picture(&before);
                let codec = &before.group.header().config.codec;
                before.slot()?.derived(|frame| make(codec, frame, default, payload_bytes))
            });
            before.map_or(default_picture(frame), |b| b.picture.wrapping_add(1) & PICTURE_MASK)
        }
        _ => 0,
    };
    let packets = slot.derived(|frame| make(codec, frame, picture, payload_bytes))?;
    (!packets.payloads.is_empty()).then_some(packets)
}

fn before(track: &Track, frame: &FrameRef) -> Option<FrameRef> {
    if let Some(index) = frame.index.checked_sub(1) {
        return Some(FrameRef { group: Arc::clone(&frame.group), index });
    }
    let window = track.window();
    let at = window.partition_point(|group| group.seq() < frame.group.seq());
    let group = Arc::clone(window.get(at.checked_sub(1)?)?);
    let index = group.len().checked_sub(1)?;
    Some(FrameRef { group, index })
}

fn default_picture(frame: &FrameRef) -> u16 {
    let groups = frame.group.seq().0.wrapping_mul(PICTURES_PER_GROUP);
    (groups.wrapping_add(u64::from(frame.index)) & u64::from(PICTURE_MASK)) as u16
}

fn make(codec: &Codec, frame: &Frame, picture: u16, payload_bytes: usize) -> Packets {
    let data: &[u8] = &frame.payload;
    let payloads = match codec {
        Codec::H264(config) => {
            let sets: Vec<&[u8]> = config.sps.iter().chain(&config.pps).map(|s| &s[..]).collect();
            h264::packetize(data, frame.keyframe, &sets, payload_bytes)
        }
        Codec::Vp8(_) => vpx::packetize_vp8(data, picture, payload_bytes),
        Codec::Vp9(_) => vpx::packetize_vp9(data, frame.keyframe, picture, payload_bytes),
        Codec::Av1(config) => {
            av1::packetize(data, frame.keyframe, &config.sequence_header, payload_bytes)
        }
        Codec::Opus(_) if !data.is_empty() => vec![data.into()],
        Codec::Opus(_) | Codec::H265(_) | Codec::Aac(_) => Vec::new(),
    };
    Packets { payloads, picture }
}

/// The payloads of an H.264 frame that needs no parameter sets.
pub(crate) fn h264_payloads(data: &[u8], payload_bytes: usize) -> Vec<Arc<[u8]>> {
    h264::packetize(data, false, &[], payload_bytes)
}

/// One frame as H.264, VP8, VP9 and AV1, a keyframe and not.
pub(crate) fn packetize_any(data: &[u8], payload_bytes: usize) -> Vec<Arc<[u8]>> {
    let mut payloads = Vec::new();
    for keyframe in [true, false] {
        payloads.extend(h264::packetize(data, keyframe, &[], payload_bytes));
        payloads.extend(vpx::packetize_vp8(data, 1, payload_bytes));
        payloads.extend(vpx::packetize_vp9(data, keyframe, 1, payload_bytes));
        payloads.extend(av1::packetize(data, keyframe, &[], payload_bytes));
    }
    payloads
}

#[cfg(test)]
mod tests;
