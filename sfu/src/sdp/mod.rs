//! Offer and answer policy: what clients may offer, and what they are answered.
//!
//! Offers are read leniently, line by line, and written again in the one strict shape that the
//! engine below takes: one bundle over all m-lines, one direction each, no candidates (an
//! ICE-lite agent learns the peer's addresses from its checks).
//! Not here: building the answer (str0m does, in `peer`), HTTP.

mod fragment;
mod offer;

pub(crate) use fragment::{Fragment, answer_fragment};
pub(crate) use offer::{Direction, Line, Offer};

use headwater_media::codec::Codec;
use headwater_media::{MediaKind, Track};

use crate::error::SfuError;

/// What each m-line of a viewer's offer is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ViewerPlan {
    /// The m-line that carries video.
    pub(crate) video: Option<usize>,
    /// The m-line that carries audio.
    pub(crate) audio: Option<usize>,
    /// What the viewer goes without, and what would help.
    pub(crate) warnings: Vec<String>,
}

/// Which m-lines an answer has accepted: those with a port.
pub(crate) fn accepted(answer: &str) -> Vec<bool> {
    let lines = answer.lines().filter_map(|line| line.strip_prefix("m="));
    lines.map(|line| line.split_ascii_whitespace().nth(1).is_some_and(|port| port != "0")).collect()
}

/// An answer as it is given: without a bundle, where the offer had none (RFC 9143 §7.3).
pub(crate) fn unbundled(answer: &str) -> String {
    let kept = answer.split_inclusive('\n').filter(|line| !line.starts_with("a=group:BUNDLE"));
    kept.collect()
}

/// Turns a publisher's offer into one that is answered with receiving m-lines.
///
/// # Errors
/// [`SfuError::NotAcceptable`] when no m-line would send a codec we take.
pub(crate) fn plan_publisher(offer: &mut Offer) -> Result<(), SfuError> {
    let mut usable = false;
    for line in &mut offer.lines {
        let takes = line.is_media() && !line.rejected && line.direction.sends();
        if takes && line.codecs.any() {
            line.direction = Direction::SendOnly;
            usable = true;
        } else {
            line.direction = Direction::Inactive;
        }
    }
    if usable {
        return Ok(());
    }
    Err(SfuError::NotAcceptable(String::from(
        "no m-line sends H.264, VP8, VP9, AV1 or Opus; offer sendonly audio or video in one of \
         these",
    )))
}

/// Decides which m-lines of a viewer's offer carry which track: the first fitting one of each
/// kind; all others are answered inactive.
///
/// # Errors
/// [`SfuError::NotAcceptable`] when nothing can be sent at all.
pub(crate) fn plan_viewer(
    offer: &mut Offer,
    video: Option<&Track>,
    audio: Option<&Track>,
) -> Result<ViewerPlan, SfuError> {
    let mut plan = ViewerPlan::default();
    for (kind, track, place) in
        [(MediaKind::Video, video, &mut plan.video), (MediaKind::Audio, audio, &mut plan.audio)]
    {
        let wanted = |line: &Line| line.is(kind) && !line.rejected && line.direction.receives();
        let asked = offer.lines.iter().any(wanted);
        let Some(track) = track else {
            if asked {
                plan.warnings.push(format!("the stream has no {} to send", word(kind)));
            }
            continue;
        };
        let config = track.config();
        let codec = config.as_ref().map(|config| &config.codec);
        if let Some(warning) = codec.and_then(|codec| cannot_carry(track, codec)) {
            plan.warnings.push(warning);
            continue;
        }
        *place = offer.lines.iter().position(|line| wanted(line) && line.codecs.fits(codec, kind));
        if asked && place.is_none() {
            let name = codec.map_or("its codec", |codec| codec.name());
            plan.warnings.push(format!(
                "track {} is {name}, which the player does not offer to receive; play it by \
                 LL-HLS or publish another codec",
                track.name()
            ));
        }
    }
    for (index, line) in offer.lines.iter_mut().enumerate() {
        let used = plan.video == Some(index) || plan.audio == Some(index);
        line.direction = if used { Direction::RecvOnly } else { Direction::Inactive };
    }
    if plan.video.is_none() && plan.audio.is_none() {
        let why = if plan.warnings.is_empty() {
            String::from("no m-line receives audio or video")
        } else {
            plan.warnings.join("; ")
        };
        return Err(SfuError::NotAcceptable(why));
    }
    Ok(plan)
}

/// Why WebRTC cannot carry this track, with the remedy.
pub(crate) fn cannot_carry(track: &Track, codec: &Codec) -> Option<String> {
    let name = track.name();
    match codec {
        Codec::H264(config) if config.reorder_frames > 0 => Some(format!(
            "track {name} has B-frames, which WebRTC cannot carry; set the encoder to no \
             B-frames (zerolatency, bframes=0) or play it by LL-HLS"
        )),
        Codec::H265(_) => Some(format!(
            "track {name} is H.265, which browsers do not take over WebRTC; publish H.264 or \
             play it by LL-HLS"
        )),
        Codec::Aac(_) => Some(format!(
            "track {name} is AAC, which WebRTC cannot carry; publish Opus or play the Opus track"
        )),
        Codec::H264(_) | Codec::Av1(_) | Codec::Vp8(_) | Codec::Vp9(_) | Codec::Opus(_) => None,
    }
}

fn word(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Video => "video",
        MediaKind::Audio => "audio",
    }
}

/// The value of the first line `a={name}:…` of an SDP text.
pub(crate) fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines().find_map(|line| {
        line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':').map(str::trim)
    })
}

#[cfg(test)]
mod tests;
