//! VP8 headers (RFC 6386).
//!
//! Not here: the RTP payload descriptor.

use super::Resolution;

/// What a VP8 keyframe's header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vp8Config {
    /// Without scaling.
    pub resolution: Resolution,
}

impl Vp8Config {
    /// `vp8` (which no HLS player takes).
    #[must_use]
    pub fn codecs_string(&self) -> String {
        String::from("vp8")
    }
}
