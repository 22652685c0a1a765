//! Holds every version of a media playlist to RFC 8216bis, and to the versions before it.
//!
//! A delta update or a late answer may be older than what was seen before: order is checked only
//! of versions that are newer, and by each viewer for its own answers.
//! Not here: reading it (`playlist`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::playlist::{Playlist, Reload, Segment};

/// What rounding to a microsecond, and to floating point and back, may do to a duration.
const ROUNDING: Duration = Duration::from_micros(10);
/// How much `EXTINF` may differ from the sum of its segment's parts: some servers round to
/// milliseconds.
const SUM_ROUNDING: Duration = Duration::from_millis(5);
/// Every part but a segment's last has at least so many hundredths of `PART-TARGET` (§4.4.4.9).
const PART_PERCENT_MIN: u32 = 85;

/// One kind of fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// How often it was seen.
    pub count: u64,
    /// The first one.
    pub example: String,
}

/// What was wrong, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults(pub BTreeMap<&'static str, Fault>);

impl Faults {
    /// Counts one.
    pub fn note(&mut self, kind: &'static str, example: impl FnOnce() -> String) {
        let fault = self.0.entry(kind).or_default();
        if fault.count == 0 {
            fault.example = example();
        }
        fault.count += 1;
    }

    /// Adds others.
    pub fn merge(&mut self, others: &Self) {
        for (kind, other) in &others.0 {
            let fault = self.0.entry(kind).or_default();
            if fault.count == 0 {
                fault.example.clone_from(&other.example);
            }
            fault.count += other.count;
        }
    }
}

/// What was known before of a part: its URI and duration.
pub type Known<'a> = (&'a str, Duration);

/// The checks of one media playlist.
#[derive(Debug, Default)]
pub struct Check {
    /// What was wrong.
    pub faults: Faults,
    /// The newest version so far.
    newest: Option<Newest>,
}

#[derive(Debug)]
struct Newest {
    media_sequence: u64,
    target_duration: Duration,
    reload: Option<Reload>,
    /// The hinted part, and its place.
    hint: Option<(Reload, String)>,
    /// The last segment that was complete.
    complete: Option<u64>,
}

impl Check {
    /// Looks at a version; `known` says what earlier versions said of a segment's part.
    pub fn version<'a>(
        &mut self,
        playlist: &Playlist,
        known: impl Fn(u64, u32) -> Option<Known<'a>>,
    ) {
        for segment in &playlist.segments {
            self.parts(playlist, segment, &known);
        }
        let reload = playlist.next_reload();
        let newer = self.newest.as_ref().is_none_or(|newest| newest.reload < reload);
        if !newer {
            return;
        }
        if let Some(newest) = self.newest.take() {
            self.order(&newest, playlist);
            self.hint(&newest, playlist);
        } else {
            self.header(playlist);
        }
        let complete = playlist.segments.iter().filter(|s| s.uri.is_some()).map(|s| s.msn).max();
        self.newest = Some(Newest {
            media_sequence: playlist.media_sequence,
            target_duration: playlist.target_duration,
            reload,
            hint: reload.zip(playlist.hint.clone()),
            complete,
        });
    }

    fn header(&mut self, playlist: &Playlist) {
        let least = playlist.part_target.map(|target| target.saturating_mul(2));
        match (playlist.part_hold_back, least) {
            (Some(hold_back), Some(least)) if hold_back < least => {
                self.faults.note("PART-HOLD-BACK below two parts", || format!("{hold_back:?}"));
            }
            (None, Some(_)) => {
                self.faults.note("parts without PART-HOLD-BACK", String::new);
            }
            _ => {}
        }
    }

    fn order(&mut self, newest: &Newest, playlist: &Playlist) {
        if playlist.media_sequence < newest.media_sequence {
            self.faults.note("media sequence went back", || {
                format!("{} to {}", newest.media_sequence, playlist.media_sequence)
            });
        }
        if playlist.target_duration != newest.target_duration {
            self.faults.note("target duration changed", || {
                format!("{:?} to {:?}", newest.target_duration, playlist.target_duration)
            });
        }
        let complete = newest.complete;
        let since = playlist.segments.iter().filter(|segment| Some(segment.msn) > complete);
        for segment in since {
            self.segment(playlist, segment);
        }
    }

    /// A segment that is complete now and was not before.
    fn segment(&mut self, playlist: &Playlist, segment: &Segment) {
        let Some(duration) = segment.duration else { return };
        let rounded = Duration::from_secs((duration + Duration::from_millis(500)).as_secs());
        if rounded > playlist.target_duration {
            self.faults.note("segment longer than the target duration", || {
                format!("segment {}: {duration:?}", segment.msn)
            });
        }
        let parts: Duration = segment.parts.iter().map(|part| part.duration).sum();
        if !segment.parts.is_empty() && parts.abs_diff(duration) > SUM_ROUNDING {
            self.faults.note("EXTINF is not the sum of the parts", || {
                format!("segment {}: {duration:?}, parts {parts:?}", segment.msn)
            });
        }
    }

    fn hint(&mut self, newest: &Newest, playlist: &Playlist) {
        let Some((place, uri)) = &newest.hint else { return };
        if playlist.next_reload() <= Some(*place) {
            return;
        }
        let Some(segment) = playlist.segments.iter().find(|segment| segment.msn == place.msn)
        else {
            return;
        };
        let listed = || playlist.segments.iter().flat_map(|segment| &segment.parts);
        if !segment.parts.is_empty() && !listed().any(|part| part.uri == *uri) {
            self.faults.note("a hinted part never came", || uri.clone());
        }
    }

    /// Parts that are listed: new ones are measured, others must be as before.
    fn parts<'a>(
        &mut self,
        playlist: &Playlist,
        segment: &Segment,
        known: &impl Fn(u64, u32) -> Option<Known<'a>>,
    ) {
        let target = playlist.part_target.unwrap_or(Duration::MAX);
        let least = playlist.part_target.unwrap_or_default() * PART_PERCENT_MIN / 100;
        let mut before = None;
        for (part, index) in segment.parts.iter().zip(0_u32..) {
            let name = || format!("part {} of segment {}", index, segment.msn);
            match known(segment.msn, index) {
                Some((uri, duration)) => {
                    if uri != part.uri || duration != part.duration {
                        self.faults.note("a part changed", name);
                    }
                }
                None => {
                    if part.duration > target.saturating_add(ROUNDING) {
                        self.faults.note("part longer than PART-TARGET", name);
                    }
                    if before.is_some_and(|before| before + ROUNDING < least) {
                        self.faults.note("short part inside a segment", name);
                    }
                }
            }
            before = Some(part.duration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::playlist::tests::example;
    use super::*;

    fn kinds(texts: &[String]) -> Vec<&'static str> {
        let mut check = Check::default();
        for text in texts {
            check.version(&Playlist::parse(text).unwrap(), |_, _| None);
        }
        check.faults.0.into_keys().collect()
    }

    #[test]
    fn versions_that_only_grow_have_no_fault() {
        let text = |open| example(open);
        assert_eq!(kinds(&[text(0), text(1), text(2), text(1), text(3)]), [""; 0]);
    }

    #[test]
    fn a_sequence_that_goes_back_and_a_target_that_changes_are_faults() {
        let back = example(2).replace("MEDIA-SEQUENCE:7", "MEDIA-SEQUENCE:8");
        let changed = example(3)
            .replace("TARGETDURATION:1", "TARGETDURATION:2")
            .replace("#EXTINF", "#EXT-X-DISCONTINUITY\n#EXTINF");
        // One segment more at the front, so that the end is still newer.
        let extra = changed.replace("#EXT-X-MAP", "#EXTINF:0.4,\n6.m4s\n#EXT-X-MAP");
        assert_eq!(kinds(&[back, extra]), ["media sequence went back", "target duration changed"]);
    }

    #[test]
    fn a_hint_that_never_comes_is_a_fault() {
        let other = example(1).replace("URI=\"9.0.m4s\"", "URI=\"nine.m4s\"");
        assert_eq!(kinds(&[example(0), other]), ["a hinted part never came"]);
    }

    #[test]
    fn durations_outside_the_limits_are_faults() {
        let long = example(1).replace("0.200000,URI=\"9.0", "0.200100,URI=\"9.0");
        assert_eq!(kinds(&[long]), ["part longer than PART-TARGET"]);
        let short = example(2).replace("0.200000,URI=\"9.0", "0.100000,URI=\"9.0");
        assert_eq!(kinds(&[short]), ["short part inside a segment"]);
        let near = example(1).replace("HOLD-BACK=0.6", "HOLD-BACK=0.3");
        assert_eq!(kinds(&[near]), ["PART-HOLD-BACK below two parts"]);
        let sum = format!("{}#EXTINF:1.7,\n9.m4s\n", example(2));
        assert_eq!(
            kinds(&[example(2), sum]),
            [
                "EXTINF is not the sum of the parts",
                "a hinted part never came",
                "segment longer than the target duration"
            ]
        );
    }

    #[test]
    fn a_part_that_is_not_as_it_was_is_a_fault() {
        let mut check = Check::default();
        let playlist = Playlist::parse(&example(1)).unwrap();
        check.version(&playlist, |msn, _| {
            (msn == 9).then_some(("other.m4s", Duration::from_millis(200)))
        });
        assert_eq!(check.faults.0.len(), 1);
    }
}
