//! Whether a publisher's video has B-frames, where its headers leave that open.
//!
//! Many hardware encoders (NVENC, phones) write no `max_num_reorder_frames`. H.264 then lets a
//! stream reorder as much as its level's buffer holds (§E.2.1), and most of these streams reorder
//! nothing: the times tell. Not here: what follows from B-frames (`sfu`, the warnings of `core`).

use headwater_media::Codec;

/// A picture shown later than this after its decoding waits for one that is decoded after it: more
/// than rounding, less than a frame at 120 a second. In ticks of 90 kHz, 5 ms.
const SHOWN_LATER_TICKS: i64 = 450;
/// Presentation times that go back within a group, together with the decoding times, show
/// reordering by a multiplexer that leaves decoding times out. One alone is a publisher's slip.
const BACKWARD_MIN: u32 = 2;

/// What the times of a track's frames have shown so far.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Reorder {
    last: Option<(i64, i64)>,
    backward: u32,
    seen: bool,
}

impl Reorder {
    /// Takes a frame's times in ticks of 90 kHz, in decoding order.
    pub(super) fn observe(&mut self, pts: i64, dts: i64, keyframe: bool) {
        if keyframe {
            self.backward = 0;
        }
        let goes_back = self.last.is_some_and(|(last, _)| pts < last);
        if goes_back {
            self.backward += 1;
        }
        let decoded_later = self.last.is_some_and(|(_, last)| dts > last);
        self.seen |= pts.saturating_sub(dts) > SHOWN_LATER_TICKS
            || (goes_back && decoded_later)
            || self.backward >= BACKWARD_MIN;
        self.last = Some((pts, dts));
    }

    /// The codec as its track has it: one whose headers leave reordering open reorders what was
    /// seen to be.
    pub(super) fn decide(&self, said: &Codec) -> Codec {
        let mut codec = said.clone();
        if let Codec::H264(config) = &mut codec
            && !self.seen
            && config.reorder_is_open()
        {
            config.reorder_frames = 0;
        }
        codec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(frames: &[(i64, i64)]) -> bool {
        let mut reorder = Reorder::default();
        for (n, (pts, dts)) in frames.iter().enumerate() {
            reorder.observe(*pts, *dts, n == 0);
        }
        reorder.seen
    }

    #[test]
    fn frames_shown_after_later_decoded_ones_are_seen_and_jitter_is_not() {
        assert!(!seen(&[(0, 0), (3_000, 3_000), (6_000, 6_000)]));
        assert!(!seen(&[(90, 0), (3_200, 3_000), (6_000, 6_000)]), "rounding");
        assert!(!seen(&[(0, 0), (3_000, 3_000), (2_000, 2_000), (6_000, 6_000)]), "one slip");
        assert!(seen(&[(6_000, 0), (15_000, 3_000)]), "I, P before their B-frames");
        assert!(seen(&[(0, 0), (3_000, 3_000), (9_000, 6_000), (6_000, 9_000)]));
        let without_dts = [0, 9_000, 3_000, 6_000, 18_000, 12_000].map(|t| (t, t));
        assert!(seen(&without_dts), "no decoding times");
    }
}
