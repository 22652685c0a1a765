//! The RTCP that viewers are sent: sender reports, names, goodbyes (RFC 3550 §6).
//!
//! Not here: when they leave (`viewer`), sealing (`seal`), what viewers send (the engine reads it).

use headwater_media::WallTime;

const VERSION: u8 = 2 << 6;
const SENDER_REPORT: u8 = 200;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const CNAME: u8 = 1;
/// Sources that one goodbye can name.
const SOURCES_MAX: usize = 31;
/// Seconds from 1900 to 1970.
const NTP_EPOCH_S: u64 = 2_208_988_800;

/// A wall-clock time in the 64 bits of NTP (RFC 5905 §6).
pub(crate) fn ntp(wall: WallTime) -> u64 {
    let micros = u64::try_from(wall.0).unwrap_or_default();
    let seconds = (micros / 1_000_000).wrapping_add(NTP_EPOCH_S);
    let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
    (seconds << 32) | fraction
}

/// The middle 32 bits of an NTP time, in 65,536ths of a second, as receiver reports echo them.
pub(crate) fn ntp_middle(wall: WallTime) -> u32 {
    (ntp(wall) >> 16) as u32
}

/// What a sender report says.
pub(crate) struct SenderInfo {
    pub(crate) ssrc: u32,
    /// The moment of the report.
    pub(crate) wall: WallTime,
    /// The same moment in ticks of the payload's clock.
    pub(crate) time: u32,
    pub(crate) packets: u32,
    /// Payload bytes.
    pub(crate) bytes: u32,
}

/// A sender report with the sender's name: a whole compound packet.
pub(crate) fn report(info: &SenderInfo, cname: &str) -> Vec<u8> {
    let mut out = vec![VERSION, SENDER_REPORT, 0, 6];
    out.extend_from_slice(&info.ssrc.to_be_bytes());
    out.extend_from_slice(&ntp(info.wall).to_be_bytes());
    for word in [info.time, info.packets, info.bytes] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    // A name has at most 255 bytes; a longer one is cut, being no more than a label.
    let name = cname.as_bytes();
    let name = name.get(..usize::from(u8::MAX)).unwrap_or(name);
    // The chunk ends with one to four zeros (RFC 3550 §6.5).
    let chunk = (4 + 2 + name.len() + 1).next_multiple_of(4);
    let start = out.len();
    out.extend_from_slice(&[VERSION | 1, SOURCE_DESCRIPTION]);
    out.extend_from_slice(&((chunk / 4) as u16).to_be_bytes());
    out.extend_from_slice(&info.ssrc.to_be_bytes());
    out.extend_from_slice(&[CNAME, name.len() as u8]);
    out.extend_from_slice(name);
    out.resize(start + 4 + chunk, 0);
    out
}

/// A goodbye for some sources, after the empty receiver report that a compound begins with.
pub(crate) fn goodbye(sources: &[u32]) -> Vec<u8> {
    const RECEIVER_REPORT: u8 = 201;
    let sources = sources.get(..SOURCES_MAX).unwrap_or(sources);
    let first = sources.first().copied().unwrap_or_default();
    let mut out = vec![VERSION, RECEIVER_REPORT, 0, 1];
    out.extend_from_slice(&first.to_be_bytes());
    out.extend_from_slice(&[VERSION | sources.len() as u8, GOODBYE, 0, sources.len() as u8]);
    for source in sources {
        out.extend_from_slice(&source.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_become_ntp_times() {
        assert_eq!(ntp(WallTime(0)), NTP_EPOCH_S << 32);
        assert_eq!(ntp(WallTime(1_500_000)), (NTP_EPOCH_S + 1) << 32 | 1 << 31);
        assert_eq!(ntp_middle(WallTime(1_500_000)), (((NTP_EPOCH_S + 1) as u32) << 16) | 1 << 15);
    }

    #[test]
    fn reports_are_whole_words_whatever_the_names_length() {
        for length in 0..300 {
            let info = SenderInfo { ssrc: 7, wall: WallTime(5), time: 6, packets: 1, bytes: 2 };
            let packet = report(&info, &"n".repeat(length));
            let (sender, names) = packet.split_at(28);
            assert_eq!(sender[..8], [0x80, 200, 0, 6, 0, 0, 0, 7]);
            let words = usize::from(u16::from_be_bytes([names[2], names[3]]));
            assert_eq!(names.len(), 4 * (words + 1), "{length}");
            assert_eq!(usize::from(names[9]), length.min(255));
            assert_eq!(names.last(), Some(&0));
        }
    }

    #[test]
    fn a_goodbye_names_every_source() {
        let expected = [0x80, 201, 0, 1, 0, 0, 0, 9, 0x82, 203, 0, 2, 0, 0, 0, 9, 0, 0, 0, 8];
        assert_eq!(goodbye(&[9, 8]), expected);
    }
}
