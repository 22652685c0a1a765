//! VP9 headers (VP9 Bitstream & Decoding Process Specification; VP9 in ISOBMFF).
//!
//! Not here: the RTP payload descriptor.

use super::{BitReader, CodecError, Resolution};

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

/// The levels' largest pictures and luma sample rates (specification, annex A); a stream's rate is
/// not known from its header, so 60 frames a second are assumed.
const LEVELS: [(u8, u64, u64); 14] = [
    (10, 36_864, 829_440),
    (11, 73_728, 2_764_800),
    (20, 122_880, 4_608_000),
    (21, 245_760, 9_216_000),
    (30, 552_960, 20_736_000),
    (31, 983_040, 36_864_000),
    (40, 2_228_224, 83_558_400),
    (41, 2_228_224, 160_432_128),
    (50, 8_912_896, 311_951_360),
    (51, 8_912_896, 588_251_136),
    (52, 8_912_896, 1_176_502_272),
    (60, 35_651_584, 1_176_502_272),
    (61, 35_651_584, 2_353_004_544),
    (62, 35_651_584, 4_706_009_088),
];
const FPS_ASSUMED: u64 = 60;

const SYNC_CODE: u32 = 0x49_83_42;
const COLOUR_SPACE_RGB: u32 = 7;

impl Vp9Config {
    /// `vp09.PP.LL.DD`.
    #[must_use]
    pub fn codecs_string(&self) -> String {
        format!("vp09.{:02}.{:02}.{:02}", self.profile, self.level, self.bit_depth)
    }

    /// Reads a frame's (or a superframe's first frame's) uncompressed header, §6.2: the
    /// configuration of a keyframe, none for others.
    ///
    /// # Errors
    /// A keyframe's header that is cut short or breaks the specification.
    pub fn from_keyframe(frame: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut bits = BitReader::new(frame, "VP9 frame header");
        let marker = bits.bits(2)?;
        if marker != 2 {
            return Err(CodecError::Invalid { what: "VP9 frame marker", value: marker.into() });
        }
        let (low, high) = (bits.byte(1)?, bits.byte(1)?);
        let profile = high << 1 | low;
        if profile == 3 && bits.flag()? {
            return Err(CodecError::Invalid { what: "VP9 reserved bit", value: 1 });
        }
        // show_existing_frame; then frame_type: 0 is a keyframe.
        if bits.flag()? || bits.flag()? {
            return Ok(None);
        }
        // show_frame and error_resilient_mode.
        bits.skip(2)?;
        let sync = bits.bits(24)?;
        if sync != SYNC_CODE {
            return Err(CodecError::Invalid { what: "VP9 sync code", value: sync.into() });
        }
        let bit_depth = match profile >= 2 {
            true if bits.flag()? => 12,
            true => 10,
            false => 8,
        };
        let (chroma_subsampling, full_range) = colour(&mut bits, profile)?;
        let (width, height) = (bits.bits(16)? + 1, bits.bits(16)? + 1);
        let resolution = Resolution { width, height };
        let level = level_of(resolution);
        Ok(Some(Self { profile, level, bit_depth, chroma_subsampling, full_range, resolution }))
    }

    /// The content of a `vpcC` box after its version and flags (VP9 in ISOBMFF §2.2).
    #[must_use]
    pub fn to_vpcc(&self) -> Vec<u8> {
        let packed = self.bit_depth << 4 | self.chroma_subsampling << 1 | u8::from(self.full_range);
        // Colour primaries, transfer and matrix: unspecified; no initialisation data.
        vec![self.profile, self.level, packed, 2, 2, 2, 0, 0]
    }
}

/// `color_config` (§6.2.2): the subsampling as in `vpcC` and the range.
fn colour(bits: &mut BitReader<'_>, profile: u8) -> Result<(u8, bool), CodecError> {
    let any_subsampling = profile == 1 || profile == 3;
    if bits.bits(3)? == COLOUR_SPACE_RGB {
        if !any_subsampling {
            return Err(CodecError::Invalid { what: "VP9 RGB in profile", value: profile.into() });
        }
        bits.skip(1)?;
        return Ok((3, true));
    }
    let full_range = bits.flag()?;
    if !any_subsampling {
        return Ok((1, full_range));
    }
    let subsampling = match (bits.flag()?, bits.flag()?) {
        (true, true) => {
            return Err(CodecError::Invalid {
                what: "VP9 4:2:0 in profile",
                value: profile.into(),
            });
        }
        (true, false) => 2,
        // 4:4:0 has no number of its own.
        (false, _) => 3,
    };
    bits.skip(1)?;
    Ok((subsampling, full_range))
}

fn level_of(resolution: Resolution) -> u8 {
    let picture = u64::from(resolution.width) * u64::from(resolution.height);
    let fits = |level: &&(u8, u64, u64)| picture <= level.1 && picture * FPS_ASSUMED <= level.2;
    LEVELS.iter().find(fits).map_or(62, |level| level.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::torture;

    /// The first bytes of a keyframe by libvpx, 640x360, profile 0.
    const KEYFRAME: [u8; 10] = [0x82, 0x49, 0x83, 0x42, 0x00, 0x27, 0xf0, 0x16, 0x76, 0x04];

    #[test]
    fn a_keyframe_tells_its_profile_depth_and_size() {
        let config = Vp9Config::from_keyframe(&KEYFRAME).unwrap().unwrap();
        assert_eq!(config.resolution, Resolution { width: 640, height: 360 });
        assert_eq!((config.profile, config.bit_depth, config.full_range), (0, 8, false));
        assert_eq!(config.codecs_string(), "vp09.00.30.08");
        assert_eq!(config.to_vpcc(), [0, 30, 0x82, 2, 2, 2, 0, 0]);
    }

    #[test]
    fn inter_frames_and_shown_existing_frames_tell_nothing() {
        assert_eq!(Vp9Config::from_keyframe(&[0x86, 0x00, 0x40]), Ok(None));
        assert_eq!(Vp9Config::from_keyframe(&[0x88]), Ok(None));
    }

    #[test]
    fn levels_grow_with_the_picture() {
        let level = |width, height| level_of(Resolution { width, height });
        assert_eq!(level(320, 180), 20);
        assert_eq!(level(1_280, 720), 40);
        assert_eq!(level(1_920, 1_080), 41);
        assert_eq!(level(3_840, 2_160), 51);
        assert_eq!(level(65_536, 65_536), 62);
    }

    #[test]
    fn broken_headers_are_errors() {
        assert!(Vp9Config::from_keyframe(&[]).is_err());
        assert!(Vp9Config::from_keyframe(&[0x02, 0x49]).is_err(), "frame marker");
        let mut broken = KEYFRAME;
        broken[2] = 0;
        assert!(Vp9Config::from_keyframe(&broken).is_err(), "sync code");
        for cut in 1..8 {
            assert!(Vp9Config::from_keyframe(&KEYFRAME[..cut]).is_err(), "{cut} bytes");
        }
        torture(&KEYFRAME, |data| drop(Vp9Config::from_keyframe(data)));
    }
}
