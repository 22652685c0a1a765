//! Patterns of stream names.
//!
//! Not here: what a pattern is used for.

use std::fmt;

use headwater_media::StreamName;

use super::value::{Input, Value, quoted};

/// Most bytes of a pattern: a stream's longest name, with room.
const BYTES_MAX: usize = 1_024;

/// A pattern of stream names: `*` stands for any characters but `/`, `**` for any at all. The whole
/// name has to fit: `auction/*` is each lot, `auction/**` also what lies deeper.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamGlob(String);

impl StreamGlob {
    /// Checks a pattern.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-/*".contains(c);
        let fits = (1..=BYTES_MAX).contains(&text.len()) && text.chars().all(allowed);
        let segments = !text.split('/').any(str::is_empty);
        (fits && segments && !text.contains("***")).then(|| Self(text.to_owned()))
    }

    /// Whether the name fits the pattern.
    #[must_use]
    pub fn matches(&self, name: &StreamName) -> bool {
        fits(self.0.as_bytes(), name.as_str().as_bytes())
    }
}

/// What a star stands for, and where the pattern goes on after it.
#[derive(Clone, Copy)]
struct Star<'a> {
    deep: bool,
    pattern: &'a [u8],
    /// The name from the first byte on that the star does not yet stand for.
    name: &'a [u8],
}

/// Linear but for the stars: when the pattern fails, the latest star takes one byte more, and one
/// that may not take it leaves that to the latest `**` before it.
fn fits<'a>(mut pattern: &'a [u8], mut name: &'a [u8]) -> bool {
    let (mut shallow, mut deep): (Option<Star<'a>>, Option<Star<'a>>) = (None, None);
    loop {
        match (pattern, name) {
            ([b'*', b'*', rest @ ..], _) => {
                (shallow, deep) = (None, Some(Star { deep: true, pattern: rest, name }));
                pattern = rest;
                continue;
            }
            ([b'*', rest @ ..], _) => {
                shallow = Some(Star { deep: false, pattern: rest, name });
                pattern = rest;
                continue;
            }
            ([], []) => return true,
            ([wanted, rest @ ..], [byte, tail @ ..]) if wanted == byte => {
                (pattern, name) = (rest, tail);
                continue;
            }
            _ => {}
        }
        let more = |star: Star<'a>| match star.name {
            [byte, tail @ ..] if star.deep || *byte != b'/' => Some(Star { name: tail, ..star }),
            _ => None,
        };
        shallow = shallow.and_then(more);
        if shallow.is_none() {
            deep = deep.and_then(more);
        }
        let Some(star) = shallow.or(deep) else { return false };
        (pattern, name) = (star.pattern, star.name);
    }
}

impl fmt::Debug for StreamGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Value for Vec<StreamGlob> {
    fn allowed() -> String {
        "a list of patterns of stream names such as [\"auction/*\"]".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        input.items()?.into_iter().map(StreamGlob::parse).collect()
    }
    fn render(&self) -> String {
        let items: Vec<_> = self.iter().map(|item| quoted(&item.0)).collect();
        format!("[{}]", items.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stays_in_its_segment_and_two_do_not() {
        let matches = |glob: &str, name: &str| {
            StreamGlob::parse(glob).unwrap().matches(&StreamName::parse(name).unwrap())
        };
        for (glob, name) in [
            ("a", "a"),
            ("*", "lot-7"),
            ("auction/*", "auction/lot-7"),
            ("auction/lot-*", "auction/lot-"),
            ("*/lot-*-x", "a/lot-7-y-x"),
            ("**", "a/b/c"),
            ("a/**", "a/b/c"),
            ("**/c", "a/b/c"),
            ("**/*.x", "a/b.x/c.x"),
            ("**a*b", "a/ab/aab"),
            ("*/**/*", "a/b/c/d"),
        ] {
            assert!(matches(glob, name), "{glob} {name}");
        }
        for (glob, name) in [
            ("a", "b"),
            ("a", "ab"),
            ("*", "a/b"),
            ("auction/*", "auction"),
            ("auction/*", "auction/a/b"),
            ("**/c", "c"),
            ("**a*b", "a/ab/c"),
            ("*a", "b/a"),
        ] {
            assert!(!matches(glob, name), "{glob} {name}");
        }
    }

    #[test]
    fn what_no_name_could_fit_is_no_pattern() {
        for bad in ["", "/a", "a/", "a//b", "a b", "***", "ä", "a?"] {
            assert!(StreamGlob::parse(bad).is_none(), "{bad}");
        }
        let list = Vec::<StreamGlob>::read(Input::Text("auction/*, demo")).unwrap();
        assert_eq!(list.render(), "[\"auction/*\", \"demo\"]");
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let glob = StreamGlob::parse(&"*a".repeat(30)).unwrap();
        assert!(!glob.matches(&StreamName::parse(&"a".repeat(29)).unwrap()));
        let glob = StreamGlob::parse(&"**a*a".repeat(20)).unwrap();
        let name = format!("{}b", "aaaaaaaa/".repeat(7) + "aaaaaaa");
        assert!(!glob.matches(&StreamName::parse(&name).unwrap()));
    }
}
