//! `Accept-Encoding`, `Range` and conditional requests (RFC 9110).
//!
//! Not here: compressing (`packager`), sending (`reply`).

use std::ops::Range;

use crate::packager::Encoding;

/// Entries of a header that are read; a client that sends more is not worth following.
const ENTRIES_MAX: usize = 32;

/// The best encoding that the client accepts (RFC 9110, 12.5.3). Ties go to the smaller text.
pub(super) fn encoding(accept: &str) -> Encoding {
    let weights: Vec<(&str, u16)> = accept.split(',').take(ENTRIES_MAX).map(weight).collect();
    let of = |name: &str| {
        let named = |wanted: &str| {
            weights.iter().find(|(got, _)| got.eq_ignore_ascii_case(wanted)).map(|(_, q)| *q)
        };
        named(name).or_else(|| named("*"))
    };
    let mut best = (Encoding::Identity, of("identity").unwrap_or(1).max(1));
    for encoding in [Encoding::Gzip, Encoding::Brotli] {
        let weight = encoding.token().and_then(of).unwrap_or(0);
        if weight > 0 && weight >= best.1 {
            best = (encoding, weight);
        }
    }
    best.0
}

/// A coding's name and its weight in thousandths.
fn weight(entry: &str) -> (&str, u16) {
    let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
    let quality = parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok()).flatten()
    });
    let quality = quality.filter(|quality| quality.is_finite()).unwrap_or(1.0);
    (name.trim(), (quality.clamp(0.0, 1.0) * 1_000.0) as u16)
}

/// What a `Range` header asks of `len` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ranged {
    /// All of it: no range, several, or one that is not understood (RFC 9110, 14.2).
    Whole,
    /// 206.
    Partial(Range<u64>),
    /// 416.
    Unsatisfiable,
}

/// Reads a `Range` header.
pub(super) fn range(header: &str, len: u64) -> Ranged {
    let Some(spec) = header.trim().strip_prefix("bytes=") else { return Ranged::Whole };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Ranged::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(first) || !digits(last) || (first.is_empty() && last.is_empty()) {
        return Ranged::Whole;
    }
    // A number beyond 64 bits is beyond every length.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    if first.is_empty() {
        let count = number(last).min(len);
        return if count == 0 { Ranged::Unsatisfiable } else { Ranged::Partial(len - count..len) };
    }
    let first = number(first);
    if !last.is_empty() && number(last) < first {
        return Ranged::Whole;
    }
    if first >= len {
        return Ranged::Unsatisfiable;
    }
    let end = if last.is_empty() { len } else { number(last).saturating_add(1).min(len) };
    Ranged::Partial(first..end)
}

/// Whether `If-None-Match` names `etag` (weak comparison).
pub(super) fn matches(header: &str, etag: &str) -> bool {
    let plain = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    header.split(',').take(ENTRIES_MAX).any(|tag| tag.trim() == "*" || plain(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_with_the_highest_weight_wins_and_ties_go_to_the_smaller() {
        for (accept, expected) in [
            ("", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("GZIP", Encoding::Gzip),
            ("gzip, deflate, br", Encoding::Brotli),
            ("br;q=0.5, gzip;q=0.8", Encoding::Gzip),
            ("br;q=0, gzip;q=0", Encoding::Identity),
            ("*", Encoding::Brotli),
            ("*;q=0.1, br;q=0", Encoding::Gzip),
            ("identity, gzip;q=0.5", Encoding::Identity),
            ("identity;q=0.5, gzip;q=1.0, br;q=0.2", Encoding::Gzip),
            ("br;q=nan", Encoding::Brotli),
            (";;;,,,", Encoding::Identity),
        ] {
            assert_eq!(encoding(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn one_range_is_served_and_all_others_as_rfc_9110_says() {
        use Ranged::{Partial, Unsatisfiable, Whole};
        for (header, expected) in [
            ("bytes=0-0", Partial(0..1)),
            ("bytes=2-", Partial(2..10)),
            ("bytes=2-99", Partial(2..10)),
            ("bytes=-3", Partial(7..10)),
            ("bytes=-99", Partial(0..10)),
            ("bytes=9-99999999999999999999999", Partial(9..10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=3-2", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(range(header, 10), expected, "{header:?}");
        }
        assert_eq!(range("bytes=0-", 0), Unsatisfiable);
    }

    #[test]
    fn an_etag_matches_in_a_list_and_weakly() {
        for header in ["\"a\"", "\"b\", \"a\"", "W/\"a\"", "*"] {
            assert!(matches(header, "\"a\""), "{header}");
        }
        assert!(!matches("\"b\"", "\"a\""));
    }
}
