//! What any node has ever served of a stream, and every way in which two of them, or one at two
//! times, may not differ.
//!
//! Not here: getting it (`recorder`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::conformance::playlist::{Playlist, Segment};

/// A node, by its place.
pub type Place = usize;
/// Complaints that are kept; one bug makes many.
const COMPLAINTS_MAX: usize = 40;

/// All that was seen of one stream.
#[derive(Debug, Default)]
pub struct Ledger {
    renditions: BTreeMap<String, Rendition>,
    complaints: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Rendition {
    /// By name: the bytes, and where they came from first.
    bytes: HashMap<String, (Bytes, Place)>,
    /// Whole segments by number.
    segments: BTreeMap<u64, Whole>,
    nodes: BTreeMap<Place, Seen>,
}

/// What a playlist says of a whole segment, wherever it is listed.
#[derive(Debug, PartialEq)]
struct Whole {
    by: Place,
    duration: f64,
    date_time: Option<String>,
    discontinuity: u64,
    map: Option<String>,
    gap: bool,
}

#[derive(Debug, Default)]
struct Seen {
    media_sequence: u64,
    discontinuity_sequence: u64,
    last: (u64, u64),
    /// When a new part was listed.
    advances: Vec<Instant>,
    /// Names whose bytes this node gave.
    fetched: BTreeSet<String>,
    gaps: BTreeSet<u64>,
}

/// Counts, for people.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// Names (parts, segments, initialisations) whose bytes were fetched.
    pub names: usize,
    /// Of these, how many from each of two nodes or more.
    pub compared: usize,
    /// Whole segments.
    pub segments: usize,
    /// Numbers that were a gap on some node.
    pub gaps: usize,
    /// Numbers that were a gap on one node and a segment on another.
    pub gaps_of_some: usize,
}

impl Ledger {
    /// Notes what is wrong.
    pub fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.insert(what);
        }
    }

    /// What is wrong so far.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.iter().cloned().collect()
    }

    /// A playlist that a node gave. Returns the names in it that were not fetched from there yet.
    pub fn playlist(
        &mut self,
        node: Place,
        rendition: &str,
        list: &Playlist,
        now: Instant,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let kept = self.renditions.entry(rendition.to_owned()).or_default();
        let seen = kept.nodes.entry(node).or_default();
        seen.sequences(list, now, &mut wrong);
        let mut discontinuity = list.discontinuity_sequence;
        for segment in &list.segments {
            discontinuity += segment.discontinuities;
            if segment.gap {
                seen.gaps.insert(segment.msn);
            }
            if let Some(why) = whole(&mut kept.segments, node, segment, discontinuity) {
                wrong.push(why);
            }
        }
        let new = names(list).filter(|name| !seen.fetched.contains(name)).collect();
        for why in wrong {
            self.complain(format!("{rendition} on node {}: {why}", node + 1));
        }
        new
    }

    /// A node's process has started anew: what it lists first may be behind what the one before
    /// listed last. Other numbers and bytes still have to be the same.
    pub fn begins_anew(&mut self, node: Place) {
        for kept in self.renditions.values_mut() {
            if let Some(seen) = kept.nodes.get_mut(&node) {
                seen.last = (0, 0);
            }
        }
    }

    /// The bytes that a node gave for a name.
    pub fn bytes(&mut self, node: Place, rendition: &str, name: &str, bytes: &Bytes) {
        let kept = self.renditions.entry(rendition.to_owned()).or_default();
        kept.nodes.entry(node).or_default().fetched.insert(name.to_owned());
        let known = kept.bytes.entry(name.to_owned()).or_insert_with(|| (bytes.clone(), node));
        if known.0 != bytes {
            let (lengths, first) = ((known.0.len(), bytes.len()), known.1 + 1);
            self.complain(format!(
                "{rendition} {name}: node {} gave other bytes than node {first} ({lengths:?} bytes)",
                node + 1
            ));
        }
    }

    /// Whether a segment's parts, as far as all were fetched, make up its bytes.
    fn sums(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (rendition, kept) in &self.renditions {
            for msn in kept.segments.keys() {
                let Some((whole, _)) = kept.bytes.get(&format!("{msn}.m4s")) else { continue };
                let parts = (0..).map_while(|part| kept.bytes.get(&format!("{msn}.{part}.m4s")));
                let parts: Vec<&[u8]> = parts.map(|(bytes, _)| &bytes[..]).collect();
                let sum = parts.concat();
                if !parts.is_empty() && !whole.starts_with(&sum) {
                    wrong.push(format!("{rendition} {msn}: its parts are not what it begins with"));
                }
            }
        }
        wrong
    }

    /// The longest time within which a node listed no new part of a rendition; ends count.
    #[must_use]
    pub fn silence(&self, node: Place, rendition: &str, from: Instant, to: Instant) -> Duration {
        let seen = self.renditions.get(rendition).and_then(|kept| kept.nodes.get(&node));
        let advances = seen.map_or(&[][..], |seen| &seen.advances);
        let before = advances.iter().rev().find(|at| **at <= from).copied().unwrap_or(from);
        let within = advances.iter().filter(|at| **at > from && **at < to).copied();
        let mut times = vec![before];
        times.extend(within);
        times.push(to);
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// When a node listed its first new part after `from`.
    #[must_use]
    pub fn advanced_since(&self, node: Place, rendition: &str, from: Instant) -> usize {
        let seen = self.renditions.get(rendition).and_then(|kept| kept.nodes.get(&node));
        seen.map_or(0, |seen| seen.advances.iter().filter(|at| **at > from).count())
    }

    /// The newest part of a rendition that a node has listed.
    #[must_use]
    pub fn newest(&self, node: Place, rendition: &str) -> (u64, u64) {
        let seen = self.renditions.get(rendition).and_then(|kept| kept.nodes.get(&node));
        seen.map_or((0, 0), |seen| seen.last)
    }

    /// What was compared.
    #[must_use]
    pub fn totals(&self) -> Sums {
        let mut sums = Sums::default();
        for kept in self.renditions.values() {
            sums.names += kept.bytes.len();
            let by = |name: &&String| {
                kept.nodes.values().filter(|seen| seen.fetched.contains(*name)).count()
            };
            sums.compared += kept.bytes.keys().filter(|name| by(name) > 1).count();
            sums.segments += kept.segments.len();
            let gaps: BTreeSet<u64> =
                kept.nodes.values().flat_map(|seen| seen.gaps.iter().copied()).collect();
            sums.gaps += gaps.len();
            let here = |msn: &&u64| kept.bytes.contains_key(&format!("{msn}.m4s"));
            sums.gaps_of_some += gaps.iter().filter(here).count();
        }
        sums
    }

    /// Ends it: all complaints.
    #[must_use]
    pub fn judge(&mut self) -> Vec<String> {
        for wrong in self.sums() {
            self.complain(wrong);
        }
        self.complaints()
    }
}

impl Seen {
    fn sequences(&mut self, list: &Playlist, now: Instant, wrong: &mut Vec<String>) {
        for (what, before, after) in [
            ("MEDIA-SEQUENCE", &mut self.media_sequence, list.media_sequence),
            (
                "DISCONTINUITY-SEQUENCE",
                &mut self.discontinuity_sequence,
                list.discontinuity_sequence,
            ),
        ] {
            if after < *before {
                wrong.push(format!("{what} goes back from {before} to {after}"));
            }
            *before = after.max(*before);
        }
        let next = list.next_part();
        if next < self.last {
            wrong.push(format!("the newest part goes back from {:?} to {next:?}", self.last));
        }
        if next > self.last {
            self.last = next;
            self.advances.push(now);
        }
    }
}

/// Compares a whole segment with what was said of it before.
fn whole(
    known: &mut BTreeMap<u64, Whole>,
    node: Place,
    segment: &Segment,
    discontinuity: u64,
) -> Option<String> {
    let is = Whole {
        by: node,
        duration: segment.duration,
        date_time: segment.date_time.clone(),
        discontinuity,
        map: segment.map.clone(),
        gap: segment.gap,
    };
    let Some(was) = known.get_mut(&segment.msn) else {
        known.insert(segment.msn, is);
        return None;
    };
    if was.gap || is.gap {
        // One node may never get what another has. A gap's length is what is missing there.
        if was.gap {
            *was = is;
        }
        return None;
    }
    let same = Whole { by: was.by, ..is };
    (same != *was).then(|| format!("segment {} was {was:?}, is {same:?}", segment.msn))
}

/// All names whose bytes a playlist promises.
pub fn names(list: &Playlist) -> impl Iterator<Item = String> {
    let maps: BTreeSet<String> = list.all().filter_map(|segment| segment.map.clone()).collect();
    let parts = list.all().flat_map(|segment| segment.parts.iter().map(|part| part.uri.clone()));
    let whole = list.segments.iter().filter(|segment| !segment.gap);
    maps.into_iter().chain(parts).chain(whole.map(|segment| segment.uri.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(first: u64, count: u64) -> Playlist {
        let segment =
            |msn| Segment { msn, uri: format!("{msn}.m4s"), duration: 1.0, ..Segment::default() };
        Playlist {
            media_sequence: first,
            segments: (first..first + count).map(segment).collect(),
            ..Playlist::default()
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any time will do")]
    fn numbers_that_go_back_and_names_with_two_versions_are_complained_about() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert_eq!(ledger.playlist(0, "video", &list(3, 2), now), ["3.m4s", "4.m4s"]);
        ledger.bytes(0, "video", "3.m4s", &Bytes::from_static(b"one"));
        assert_eq!(ledger.playlist(0, "video", &list(3, 2), now), ["4.m4s"]);
        ledger.bytes(1, "video", "3.m4s", &Bytes::from_static(b"one"));
        assert_eq!(ledger.judge(), Vec::<String>::new());
        assert_eq!(ledger.totals().compared, 1);

        ledger.bytes(2, "video", "3.m4s", &Bytes::from_static(b"two"));
        ledger.playlist(0, "video", &list(2, 2), now);
        ledger.bytes(0, "video", "4.0.m4s", &Bytes::from_static(b"p"));
        ledger.bytes(0, "video", "4.m4s", &Bytes::from_static(b"quite another"));
        let complaints = ledger.judge().join("\n");
        for part in ["other bytes", "MEDIA-SEQUENCE goes back", "newest part goes back", "begins"] {
            assert!(complaints.contains(part), "{part}: {complaints}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any time will do")]
    fn silence_is_the_longest_time_between_two_new_parts() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (n, ms) in [0, 200, 900, 1_100].into_iter().enumerate() {
            ledger.playlist(0, "video", &list(0, 1 + n as u64), at(ms));
        }
        let silence = |from, to| ledger.silence(0, "video", at(from), at(to)).as_millis();
        assert_eq!(silence(100, 1_150), 700);
        assert_eq!(silence(950, 1_150), 200, "the one before counts from its own time");
        assert_eq!(silence(1_150, 2_150), 1_050, "up to the end");
    }
}
