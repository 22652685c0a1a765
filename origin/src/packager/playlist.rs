//! Writes a media playlist (RFC 8216bis, low-latency profile). A pure function of a snapshot,
//! and of where the other renditions are.
//!
//! Not here: compression, waiting (`rendition`), the multivariant playlist (`multivariant`).

use std::fmt::Write as _;
use std::sync::Arc;

use super::snapshot::{Segment, SegmentState, Snapshot};

/// `PART-HOLD-BACK` in parts: the least that RFC 8216bis recommends.
pub const HOLD_BACK_PARTS: i64 = 3;
/// `CAN-SKIP-UNTIL` in target durations: the least that RFC 8216bis allows.
const SKIP_UNTIL_TARGETS: i64 = 6;
/// Parts are listed for segments that reach into this many target durations before the end.
const PARTS_LISTED_TARGETS: i64 = 3;

/// Where another rendition is: `EXT-X-RENDITION-REPORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub rendition: String,
    /// Its newest segment.
    pub last_msn: u64,
    /// The newest part of that; none where the segment has none.
    pub last_part: Option<u64>,
}

/// How many segments a delta update of `snapshot` leaves out; none where it would leave out none.
#[must_use]
pub fn skippable(snapshot: &Snapshot) -> Option<usize> {
    let target = snapshot.target_duration_s.filter(|_| snapshot.offers_delta)?;
    let until = i64::from(target) * SKIP_UNTIL_TARGETS * 1_000_000;
    let listed = snapshot.listed();
    let mut left: i64 = listed.iter().map(|segment| segment.micros()).sum();
    let mut skipped = 0usize;
    for segment in listed.iter().filter(|segment| !segment.is_open()) {
        left -= segment.micros();
        if left < until {
            break;
        }
        skipped += 1;
    }
    Some(skipped).filter(|count| *count > 0)
}

/// The playlist; with `skip`, a delta update that leaves out so many segments. None while the
/// snapshot is not ready.
#[must_use]
pub fn render(snapshot: &Snapshot, skip: Option<usize>, reports: &[Report]) -> Option<String> {
    let target = i64::from(snapshot.target_duration_s.filter(|_| snapshot.is_ready())?);
    let mut out = String::with_capacity(4_096);
    header(&mut out, snapshot, target);
    let listed = snapshot.listed();
    if let Some(skipped) = skip {
        line(&mut out, format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
    }
    let mut from_end: i64 = listed.iter().map(|segment| segment.micros()).sum();
    let mut before: Option<&Arc<Segment>> = None;
    for (at, segment) in listed.iter().enumerate() {
        from_end -= segment.micros();
        let with_parts = from_end < PARTS_LISTED_TARGETS * target * 1_000_000;
        if skip.is_none_or(|skipped| at >= skipped) {
            write_segment(&mut out, segment, before, with_parts);
        }
        before = Some(segment);
    }
    if snapshot.ended {
        line(&mut out, format_args!("#EXT-X-ENDLIST"));
        return Some(out);
    }
    if let Some((msn, part)) = snapshot.hint() {
        line(&mut out, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{msn}.{part}.m4s\""));
    }
    for report in reports {
        let Report { rendition, last_msn, last_part } = report;
        let uri = format_args!("#EXT-X-RENDITION-REPORT:URI=\"../{rendition}/index.m3u8\"");
        match last_part {
            Some(part) => {
                line(&mut out, format_args!("{uri},LAST-MSN={last_msn},LAST-PART={part}"));
            }
            None => line(&mut out, format_args!("{uri},LAST-MSN={last_msn}")),
        }
    }
    Some(out)
}

fn header(out: &mut String, snapshot: &Snapshot, target: i64) {
    let part_target = snapshot.part_target_micros();
    line(out, format_args!("#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:{target}"));
    out.push_str("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES");
    if snapshot.offers_delta {
        let _ = write!(out, ",CAN-SKIP-UNTIL={}", Seconds(target * SKIP_UNTIL_TARGETS * 1_000_000));
    }
    // A microsecond over, since clients compute three parts in floating point.
    let hold_back = Seconds(part_target * HOLD_BACK_PARTS + 1);
    line(out, format_args!(",PART-HOLD-BACK={hold_back}"));
    line(out, format_args!("#EXT-X-PART-INF:PART-TARGET={}", Seconds(part_target)));
    if let Some(first) = snapshot.listed().first() {
        line(out, format_args!("#EXT-X-MEDIA-SEQUENCE:{}", first.seq));
        line(out, format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{}", first.discontinuity));
    }
    if snapshot.all_independent {
        line(out, format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    }
}

fn write_segment(
    out: &mut String,
    segment: &Segment,
    before: Option<&Arc<Segment>>,
    with_parts: bool,
) {
    if segment.is_open() && segment.parts.is_empty() {
        return;
    }
    if let Some(before) = before {
        // As many tags as the number rose by, so that players that count them agree with it.
        for _ in before.discontinuity.0..segment.discontinuity.0 {
            line(out, format_args!("#EXT-X-DISCONTINUITY"));
        }
    }
    if before.is_none_or(|before| before.init.version != segment.init.version) {
        line(out, format_args!("#EXT-X-MAP:URI=\"init-{}.mp4\"", segment.init.version));
    }
    let wall = segment.wall.to_rfc3339_millis();
    line(out, format_args!("#EXT-X-PROGRAM-DATE-TIME:{wall}"));
    if with_parts {
        for part in &segment.parts {
            let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
            let (duration, index) = (Seconds(part.duration.micros()), part.index);
            line(
                out,
                format_args!(
                    "#EXT-X-PART:DURATION={duration},URI=\"{}.{index}.m4s\"{independent}",
                    segment.seq
                ),
            );
        }
    }
    match segment.state {
        SegmentState::Open => return,
        SegmentState::Complete(_) => {}
        SegmentState::Gap(_) => line(out, format_args!("#EXT-X-GAP")),
    }
    line(out, format_args!("#EXTINF:{},\n{}.m4s", Seconds(segment.micros()), segment.seq));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// Microseconds written as decimal seconds.
struct Seconds(i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.max(0);
        write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}
