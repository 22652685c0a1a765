//! Reads a media playlist (RFC 8216bis), whole or a delta update.
//!
//! Not here: what it adds to what is known already (`timeline`), whether it is a good one
//! (`check`).

use std::time::Duration;

use super::attributes::{attribute, date_time, seconds, yes};

/// `HOLD-BACK` where it is not given, in target durations (RFC 8216bis §4.4.3.8).
const HOLD_BACK_TARGETS: u32 = 3;

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Playlist {
    /// `EXT-X-TARGETDURATION`.
    pub target_duration: Duration,
    /// `PART-TARGET`; none where there are no parts.
    pub part_target: Option<Duration>,
    /// `PART-HOLD-BACK`.
    pub part_hold_back: Option<Duration>,
    /// `HOLD-BACK`.
    pub hold_back: Option<Duration>,
    /// `CAN-BLOCK-RELOAD`.
    pub can_block: bool,
    /// `CAN-SKIP-UNTIL`: delta updates are offered.
    pub can_skip_until: Option<Duration>,
    /// `EXT-X-MEDIA-SEQUENCE`.
    pub media_sequence: u64,
    /// `SKIPPED-SEGMENTS` of a delta update; 0 in a whole playlist.
    pub skipped: u64,
    /// The segments that are listed; the last may still be open.
    pub segments: Vec<Segment>,
    /// URI of the part that `EXT-X-PRELOAD-HINT` announces.
    pub hint: Option<String>,
    /// `EXT-X-ENDLIST`.
    pub ended: bool,
}

/// A segment, or the parts of one that is still open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its media sequence number.
    pub msn: u64,
    /// Its URI; none while it is open.
    pub uri: Option<String>,
    /// `EXTINF`; none while it is open.
    pub duration: Option<Duration>,
    /// Its parts, where they are listed.
    pub parts: Vec<Part>,
    /// `EXT-X-PROGRAM-DATE-TIME`, in microseconds since 1970.
    pub date_time_micros: Option<i64>,
    /// `EXT-X-GAP`.
    pub gap: bool,
    /// URI of the init section that `EXT-X-MAP` names, here or before.
    pub map: Option<String>,
}

/// A partial segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its URI.
    pub uri: String,
    /// How long it plays.
    pub duration: Duration,
    /// It begins with a keyframe.
    pub independent: bool,
    /// `GAP=YES`.
    pub gap: bool,
}

/// Why a text is no playlist that can be played here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaylistError {
    /// It does not begin with `#EXTM3U`.
    #[error("it does not begin with #EXTM3U")]
    NotAPlaylist,
    /// A tag lacks something, or has something wrong in it.
    #[error("cannot read the line {0:?}")]
    Line(String),
    /// Parts or segments that are ranges of a file.
    #[error("byte ranges are not supported: {0:?}")]
    ByteRange(String),
    /// It lists nothing.
    #[error("it lists no segment")]
    Empty,
}

impl Playlist {
    /// Reads `text`.
    ///
    /// # Errors
    /// It is no media playlist, or has byte ranges.
    pub fn parse(text: &str) -> Result<Self, PlaylistError> {
        if !text.starts_with("#EXTM3U") {
            return Err(PlaylistError::NotAPlaylist);
        }
        let mut read = Reading::default();
        for line in text.lines().skip(1) {
            read.line(line.trim_end()).ok_or_else(|| {
                let line = line.to_owned();
                match line.contains("BYTERANGE") {
                    true => PlaylistError::ByteRange(line),
                    false => PlaylistError::Line(line),
                }
            })?;
        }
        let playlist = read.finish();
        if playlist.segments.is_empty() {
            return Err(PlaylistError::Empty);
        }
        Ok(playlist)
    }

    /// How far from the end a player begins.
    #[must_use]
    pub fn start_distance(&self) -> Duration {
        let low_latency = self.part_hold_back.filter(|_| self.part_target.is_some());
        let usual = || self.target_duration.saturating_mul(HOLD_BACK_TARGETS);
        low_latency.or(self.hold_back).unwrap_or_else(usual)
    }

    /// The `_HLS_msn` and `_HLS_part` of the next reload, as hls.js asks for it.
    #[must_use]
    pub fn next_reload(&self) -> Option<Reload> {
        let last = self.segments.last()?;
        let next_segment = last.msn.saturating_add(1);
        Some(match (last.uri.is_some(), self.part_target.is_some()) {
            (false, _) => {
                let part = u32::try_from(last.parts.len()).unwrap_or(u32::MAX);
                Reload { msn: last.msn, part: Some(part) }
            }
            (true, true) => Reload { msn: next_segment, part: Some(0) },
            (true, false) => Reload { msn: next_segment, part: None },
        })
    }
}

/// What a blocking reload waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reload {
    /// `_HLS_msn`.
    pub msn: u64,
    /// `_HLS_part`.
    pub part: Option<u32>,
}

#[derive(Default)]
struct Reading {
    playlist: Playlist,
    open: Segment,
    map: Option<String>,
}

impl Reading {
    /// Takes one line; none where it cannot be read.
    fn line(&mut self, line: &str) -> Option<()> {
        let Some(tag) = line.strip_prefix('#') else {
            if !line.is_empty() {
                self.close(line);
            }
            return Some(());
        };
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        match name {
            "EXT-X-PART" => self.part(value)?,
            "EXTINF" => {
                let value = value.split(',').next().unwrap_or(value);
                self.open.duration = Some(seconds(value)?);
            }
            "EXT-X-PROGRAM-DATE-TIME" => self.open.date_time_micros = Some(date_time(value)?),
            "EXT-X-GAP" => self.open.gap = true,
            "EXT-X-BYTERANGE" => return None,
            "EXT-X-MAP" => {
                if attribute(value, "BYTERANGE").is_some() {
                    return None;
                }
                self.map = Some(attribute(value, "URI")?.to_owned());
            }
            _ => self.header(name, value)?,
        }
        Some(())
    }

    fn header(&mut self, name: &str, value: &str) -> Option<()> {
        let playlist = &mut self.playlist;
        match name {
            "EXT-X-TARGETDURATION" => playlist.target_duration = seconds(value)?,
            "EXT-X-MEDIA-SEQUENCE" => playlist.media_sequence = value.parse().ok()?,
            "EXT-X-PART-INF" => {
                playlist.part_target = Some(seconds(attribute(value, "PART-TARGET")?)?);
            }
            "EXT-X-SERVER-CONTROL" => {
                let time = |name| attribute(value, name).and_then(seconds);
                playlist.can_block = yes(value, "CAN-BLOCK-RELOAD");
                playlist.can_skip_until = time("CAN-SKIP-UNTIL");
                playlist.hold_back = time("HOLD-BACK");
                playlist.part_hold_back = time("PART-HOLD-BACK");
            }
            "EXT-X-SKIP" => {
                playlist.skipped = attribute(value, "SKIPPED-SEGMENTS")?.parse().ok()?;
            }
            "EXT-X-PRELOAD-HINT" if attribute(value, "TYPE") == Some("PART") => {
                playlist.hint = Some(attribute(value, "URI")?.to_owned());
            }
            "EXT-X-ENDLIST" => playlist.ended = true,
            // Others are for players that show something.
            _ => {}
        }
        Some(())
    }

    fn part(&mut self, value: &str) -> Option<()> {
        if attribute(value, "BYTERANGE").is_some() {
            return None;
        }
        self.open.parts.push(Part {
            uri: attribute(value, "URI")?.to_owned(),
            duration: seconds(attribute(value, "DURATION")?)?,
            independent: yes(value, "INDEPENDENT"),
            gap: yes(value, "GAP"),
        });
        Some(())
    }

    fn close(&mut self, uri: &str) {
        self.open.uri = Some(uri.to_owned());
        self.push();
    }

    fn push(&mut self) {
        let mut segment = std::mem::take(&mut self.open);
        let before = u64::try_from(self.playlist.segments.len()).unwrap_or(u64::MAX);
        let first = self.playlist.media_sequence.saturating_add(self.playlist.skipped);
        segment.msn = first.saturating_add(before);
        segment.map.clone_from(&self.map);
        self.playlist.segments.push(segment);
    }

    fn finish(mut self) -> Playlist {
        if !self.open.parts.is_empty() {
            self.push();
        }
        self.playlist
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two segments of two parts, and an open one of `open` parts.
    pub(in super::super) fn example(open: usize) -> String {
        let mut text = String::from(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:1\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.0,PART-HOLD-BACK=0.6\n\
             #EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MEDIA-SEQUENCE:7\n\
             #EXT-X-MAP:URI=\"init-1.mp4\"\n",
        );
        for msn in 7..9 {
            text.push_str("#EXT-X-PROGRAM-DATE-TIME:2026-11-27T19:38:52.000Z\n");
            parts(&mut text, msn, 2);
            text.push_str(&format!("#EXTINF:0.400000,\n{msn}.m4s\n"));
        }
        parts(&mut text, 9, open);
        text.push_str(&format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"9.{open}.m4s\"\n"));
        text
    }

    fn parts(text: &mut String, msn: u64, count: usize) {
        for part in 0..count {
            let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
            text.push_str(&format!(
                "#EXT-X-PART:DURATION=0.200000,URI=\"{msn}.{part}.m4s\"{independent}\n"
            ));
        }
    }

    #[test]
    fn segments_and_parts_are_numbered_from_the_media_sequence() {
        let playlist = Playlist::parse(&example(1)).unwrap();
        let numbers: Vec<_> = playlist.segments.iter().map(|s| (s.msn, s.parts.len())).collect();
        assert_eq!(numbers, [(7, 2), (8, 2), (9, 1)]);
        assert_eq!(playlist.hint.as_deref(), Some("9.1.m4s"));
        assert_eq!(playlist.next_reload(), Some(Reload { msn: 9, part: Some(1) }));
        assert_eq!(playlist.start_distance(), Duration::from_millis(600));
        let last = playlist.segments.last().unwrap();
        assert_eq!((last.uri.as_ref(), last.map.as_deref()), (None, Some("init-1.mp4")));
    }

    #[test]
    fn after_a_whole_segment_the_first_part_of_the_next_is_asked_for() {
        let playlist = Playlist::parse(&example(0)).unwrap();
        assert_eq!(playlist.next_reload(), Some(Reload { msn: 9, part: Some(0) }));
    }

    #[test]
    fn a_delta_update_counts_what_it_leaves_out() {
        let text = example(1).replace("#EXT-X-MAP", "#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXT-X-MAP");
        let playlist = Playlist::parse(&text).unwrap();
        assert_eq!(playlist.segments.first().map(|segment| segment.msn), Some(10));
    }

    #[test]
    fn a_stream_without_parts_is_asked_for_by_segments_and_begun_three_of_them_back() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:3\n#EXTINF:2,\na.ts\n";
        let playlist = Playlist::parse(text).unwrap();
        assert_eq!(playlist.next_reload(), Some(Reload { msn: 4, part: None }));
        assert_eq!(playlist.start_distance(), Duration::from_secs(6));
    }

    #[test]
    fn what_is_no_playlist_says_why() {
        assert_eq!(Playlist::parse("<html>"), Err(PlaylistError::NotAPlaylist));
        assert_eq!(Playlist::parse("#EXTM3U\n"), Err(PlaylistError::Empty));
        let range = "#EXTM3U\n#EXT-X-PART:DURATION=1,URI=\"a\",BYTERANGE=\"1@2\"";
        assert!(matches!(Playlist::parse(range), Err(PlaylistError::ByteRange(_))));
        let wrong = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:seven";
        assert!(matches!(Playlist::parse(wrong), Err(PlaylistError::Line(_))));
    }
}
