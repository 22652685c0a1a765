//! VP9 headers (VP9 Bitstream & Decoding Process Specification; VP9 in ISOBMFF).
//!
//! Not here: the RTP payload descriptor.

use super::Resolution;

/// What a VP9 keyframe's uncompressed header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vp9Config {
    /// 0 to 3.
    pub profile: u8,
    /// Ten times the level, by resolution: 10, 20, 30, 31 …
    pub level: u8,
    /// 8, 10 or 12.
    pub bit_depth: u8,
    /// As in `vpcC`: 0 or 1 is 4:2:0, 2 is 4:2:2, 3 is 4:4:4.
    pub chroma_subsampling: u8,
    /// `color_range`: full swing.
    pub full_range: bool,
    /// Frame size.
    pub resolution: Resolution,
}

impl Vp9Config {
    /// `vp09.PP.LL.DD`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        format!("vp09.{:02}.{:02}.{:02}", self.profile, self.level, self.bit_depth)
    }
}
