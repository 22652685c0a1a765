//! The rules of the low-latency profile that a server can break, each a function of playlists.
//!
//! Not here: getting playlists (`follow`), reading them (`playlist`).

use super::playlist::{Playlist, Segment};

/// Parts but a segment's last fill at least this much of `PART-TARGET` (RFC 8216bis, 4.4.4.9).
const PART_FILL_MIN: f64 = 0.85;
/// Written durations are rounded to microseconds.
const ROUNDING: f64 = 0.000_01;
/// How far `PROGRAM-DATE-TIME` of neighbours may be from the length between them: the owner slews
/// it where the publisher's clock drifts.
const DATE_TIME_TOLERANCE: f64 = 0.1;

/// Collects complaints.
#[derive(Debug, Default)]
pub struct Complaints(pub Vec<String>);

impl Complaints {
    /// Notes `what` unless `holds`.
    pub fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }
}

/// Rules about one full playlist.
pub fn check_alone(list: &Playlist, out: &mut Complaints) {
    out.unless(list.version >= 9, || format!("version {} with low-latency tags", list.version));
    out.unless(list.can_block_reload, || "CAN-BLOCK-RELOAD is not YES".into());
    out.unless(list.part_hold_back >= 3.0 * list.part_target, || {
        format!("PART-HOLD-BACK {} for parts of {}", list.part_hold_back, list.part_target)
    });
    let target = f64::from(list.target_duration);
    out.unless(list.part_target > 0.0 && list.part_target <= target, || {
        format!("PART-TARGET {}", list.part_target)
    });
    if let Some(until) = list.can_skip_until {
        out.unless(until >= 6.0 * target, || format!("CAN-SKIP-UNTIL {until}"));
    }
    out.unless(list.ended || list.hint.is_some(), || "no hint in a live playlist".into());
    out.unless(list.segments.first().is_none_or(|first| first.map.is_some()), || {
        "the first segment has no EXT-X-MAP".into()
    });
    for segment in &list.segments {
        whole_segment(list, segment, out);
    }
    for segment in list.all() {
        parts(list, segment, out);
        out.unless(segment.date_time.is_some(), || {
            format!("segment {} has no PROGRAM-DATE-TIME", segment.msn)
        });
    }
    edge(list, target, out);
    date_times(list, out);
    next_is_hinted(list, out);
}

fn whole_segment(list: &Playlist, segment: &Segment, out: &mut Complaints) {
    let (msn, duration) = (segment.msn, segment.duration);
    out.unless(duration.round() <= f64::from(list.target_duration), || {
        format!("segment {msn} of {duration} s is over TARGETDURATION {}", list.target_duration)
    });
    if !segment.parts.is_empty() {
        let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
        out.unless((sum - duration).abs() < ROUNDING * segment.parts.len() as f64, || {
            format!("the parts of segment {msn} last {sum} s, the segment {duration} s")
        });
    }
}

fn parts(list: &Playlist, segment: &Segment, out: &mut Complaints) {
    let whole = !segment.uri.is_empty();
    let count = segment.parts.len();
    for (index, part) in segment.parts.iter().enumerate() {
        let name = || format!("part {index} of segment {} ({} s)", segment.msn, part.duration);
        out.unless(part.duration <= list.part_target + ROUNDING, || {
            format!("{} is over PART-TARGET {}", name(), list.part_target)
        });
        let last = whole && index + 1 == count;
        out.unless(last || part.duration >= PART_FILL_MIN * list.part_target, || {
            format!("{} is under 85 % of PART-TARGET {}", name(), list.part_target)
        });
        let expected = format!("{}.{index}.m4s", segment.msn);
        out.unless(part.uri == expected, || format!("{} is named {}", name(), part.uri));
    }
}

/// What of a segment is there, in seconds.
fn length(segment: &Segment) -> f64 {
    match segment.uri.is_empty() {
        true => segment.parts.iter().map(|part| part.duration).sum(),
        false => segment.duration,
    }
}

/// Rules about the end of the list: parts are there.
fn edge(list: &Playlist, target: f64, out: &mut Complaints) {
    let total: f64 = list.all().map(length).sum();
    let mut from_end = total;
    for segment in list.all() {
        from_end -= length(segment);
        if from_end < 3.0 * target - ROUNDING && !segment.gap {
            out.unless(!segment.parts.is_empty(), || {
                format!("segment {}, {from_end} s before the end, lists no parts", segment.msn)
            });
        }
    }
}

fn date_times(list: &Playlist, out: &mut Complaints) {
    let mut before: Option<(&Segment, f64)> = None;
    for segment in list.all() {
        let Some(time) = segment.date_time.as_deref().and_then(seconds_of_day) else {
            out.unless(segment.date_time.is_none(), || {
                format!("PROGRAM-DATE-TIME {:?} cannot be read", segment.date_time)
            });
            continue;
        };
        if let Some((earlier, then)) = before.filter(|_| segment.discontinuities == 0) {
            let passed = (time - then).rem_euclid(86_400.0);
            out.unless((passed - earlier.duration).abs() < DATE_TIME_TOLERANCE, || {
                format!(
                    "segment {} of {} s, but {passed} s of wall-clock time",
                    earlier.msn, earlier.duration
                )
            });
        }
        before = Some((segment, time));
    }
}

/// The seconds since midnight of `YYYY-MM-DDThh:mm:ss.mmmZ`.
fn seconds_of_day(text: &str) -> Option<f64> {
    let time = text.split_once('T')?.1.strip_suffix('Z')?;
    let mut fields = time.split(':').map(|field| field.parse::<f64>().ok());
    let (hours, minutes, seconds) = (fields.next()??, fields.next()??, fields.next()??);
    fields.next().is_none().then_some(hours * 3_600.0 + minutes * 60.0 + seconds)
}

/// The hint names the next part of the open segment, or the first of the next one.
fn next_is_hinted(list: &Playlist, out: &mut Complaints) {
    let Some(hint) = &list.hint else { return };
    let (msn, part) = list.next_part();
    let allowed = [format!("{msn}.{part}.m4s"), format!("{}.0.m4s", msn + 1)];
    out.unless(allowed.contains(hint), || format!("{hint} is hinted after {:?}", list.last_part()));
    let listed = list.all().flat_map(|segment| &segment.parts).any(|part| part.uri == *hint);
    out.unless(!listed, || format!("{hint} is hinted and listed"));
}

/// Rules about a full playlist and a later one.
pub fn check_pair(before: &Playlist, after: &Playlist, out: &mut Complaints) {
    out.unless(after.media_sequence >= before.media_sequence, || {
        format!(
            "MEDIA-SEQUENCE went back from {} to {}",
            before.media_sequence, after.media_sequence
        )
    });
    // A segment may leave the list only where three target durations stay in it.
    let total: f64 = after.all().map(length).sum();
    let target = f64::from(after.target_duration);
    out.unless(
        after.media_sequence == before.media_sequence || total >= 3.0 * target - ROUNDING,
        || format!("only {total} s stayed in the list when a segment left it"),
    );
    out.unless(after.last_part() >= before.last_part() || after.ended, || {
        format!("the edge went back from {:?} to {:?}", before.last_part(), after.last_part())
    });
    out.unless(after.target_duration == before.target_duration, || "TARGETDURATION changed".into());
    out.unless((after.part_target - before.part_target).abs() < ROUNDING, || {
        "PART-TARGET changed".into()
    });
    let gone = before.all().filter(|segment| segment.msn <= after.media_sequence);
    let left: u64 = gone.map(|segment| segment.discontinuities).sum();
    out.unless(after.discontinuity_sequence == before.discontinuity_sequence + left, || {
        format!(
            "DISCONTINUITY-SEQUENCE went from {} to {}, {left} discontinuities left the list",
            before.discontinuity_sequence, after.discontinuity_sequence
        )
    });
    for old in before.all() {
        if let Some(new) = after.all().find(|new| new.msn == old.msn) {
            same_segment(old, new, out);
        }
    }
}

fn same_segment(old: &Segment, new: &Segment, out: &mut Complaints) {
    let msn = old.msn;
    if !old.uri.is_empty() {
        out.unless(
            new.uri == old.uri && (new.duration - old.duration).abs() < f64::EPSILON,
            || format!("segment {msn} changed: {old:?} to {new:?}"),
        );
    }
    out.unless(new.date_time == old.date_time, || {
        format!("PROGRAM-DATE-TIME of segment {msn} changed")
    });
    // Parts are only added, and only go all together.
    let grown = new.parts.starts_with(&old.parts);
    out.unless(grown || (new.parts.is_empty() && !new.uri.is_empty()), || {
        format!("the parts of segment {msn} changed: {:?} to {:?}", old.parts, new.parts)
    });
}

/// Whether what `before` hinted is the part that came next. A group that ends where another part
/// of it was expected makes the next group's first part come; the hint then is another name of it.
#[must_use]
pub fn hint_came_true(before: &Playlist, after: &Playlist) -> Option<bool> {
    let hint = before.hint.as_ref()?;
    let known: Vec<_> = before.all().flat_map(|segment| &segment.parts).collect();
    let new = after.all().flat_map(|segment| &segment.parts).find(|part| !known.contains(part))?;
    Some(new.uri == *hint)
}
