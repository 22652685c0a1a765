//! VP8 headers (RFC 6386).
//!
//! Not here: the RTP payload descriptor.

use super::{CodecError, Resolution};

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

    /// Reads a frame's header (RFC 6386 §9.1): the configuration of a keyframe, none for others.
    ///
    /// # Errors
    /// A keyframe's header that is cut short, without its start code, or of no size.
    pub fn from_keyframe(frame: &[u8]) -> Result<Option<Self>, CodecError> {
        const CUT: CodecError = CodecError::Truncated("VP8 frame header");
        let tag = *frame.first().ok_or(CUT)?;
        if tag & 1 == 1 {
            return Ok(None);
        }
        let head = frame.first_chunk::<10>().ok_or(CUT)?;
        let [_, _, _, a, b, c, w0, w1, h0, h1] = *head;
        if [a, b, c] != [0x9d, 0x01, 0x2a] {
            let value = u64::from(u32::from_be_bytes([0, a, b, c]));
            return Err(CodecError::Invalid { what: "VP8 start code", value });
        }
        let width = u32::from(u16::from_le_bytes([w0, w1]) & 0x3fff);
        let height = u32::from(u16::from_le_bytes([h0, h1]) & 0x3fff);
        if width == 0 || height == 0 {
            return Err(CodecError::Invalid { what: "VP8 frame size", value: 0 });
        }
        Ok(Some(Self { resolution: Resolution { width, height } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::torture;

    /// The first bytes of a keyframe by libvpx, 320x180.
    const KEYFRAME: [u8; 10] = [0xf0, 0x62, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00];

    #[test]
    fn a_keyframe_tells_its_size_and_an_inter_frame_nothing() {
        let config = Vp8Config::from_keyframe(&KEYFRAME).unwrap().unwrap();
        assert_eq!(config.resolution, Resolution { width: 320, height: 180 });
        assert_eq!(Vp8Config::from_keyframe(&[0x31, 0x05, 0x00]), Ok(None));
    }

    #[test]
    fn broken_headers_are_errors() {
        for cut in [0, 3, 9] {
            assert!(Vp8Config::from_keyframe(&KEYFRAME[..cut]).is_err(), "{cut} bytes");
        }
        let mut broken = KEYFRAME;
        broken[4] = 0;
        assert!(Vp8Config::from_keyframe(&broken).is_err(), "start code");
        let mut broken = KEYFRAME;
        broken[6..8].fill(0);
        assert!(Vp8Config::from_keyframe(&broken).is_err(), "no width");
        torture(&KEYFRAME, |data| drop(Vp8Config::from_keyframe(data)));
    }
}
