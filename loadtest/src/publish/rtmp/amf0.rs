//! AMF0, as far as a publisher speaks it and servers answer.
//!
//! Not here: which commands there are (`session`).

use std::fmt::Write as _;

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
const ECMA_ARRAY: u8 = 8;
const OBJECT_END: u8 = 9;
/// Objects in objects that are read.
const DEPTH_MAX: u8 = 8;
/// Members of an object that are read.
const MEMBERS_MAX: usize = 64;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Boolean(bool),
    String(String),
    Object(Vec<(String, Value)>),
    Null,
}

impl Value {
    pub(super) fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// An object with these members.
    pub(super) fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A member's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(known, _)| known == name).and_then(|(_, value)| match value {
            Self::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(NUMBER);
                out.extend(number.to_be_bytes());
            }
            Self::Boolean(value) => out.extend([BOOLEAN, u8::from(*value)]),
            Self::String(text) => {
                out.push(STRING);
                name(out, text);
            }
            Self::Object(members) => {
                out.push(OBJECT);
                for (key, value) in members {
                    name(out, key);
                    value.write(out);
                }
                out.extend([0, 0, OBJECT_END]);
            }
            Self::Null => out.push(NULL),
        }
    }

    /// Reads one value from the front.
    pub(super) fn read(bytes: &mut &[u8]) -> Option<Self> {
        Self::read_within(bytes, DEPTH_MAX)
    }

    fn read_within(bytes: &mut &[u8], depth: u8) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let (marker, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(match *marker {
            NUMBER => Self::Number(f64::from_be_bytes(take::<8>(bytes)?)),
            BOOLEAN => Self::Boolean(take::<1>(bytes)? != [0]),
            STRING => Self::String(text(bytes)?),
            NULL | UNDEFINED => Self::Null,
            OBJECT => Self::Object(members(bytes, depth)?),
            ECMA_ARRAY => {
                take::<4>(bytes)?;
                Self::Object(members(bytes, depth)?)
            }
            _ => return None,
        })
    }
}

/// Several values one after the other.
pub(super) fn write_all(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| value.write(&mut out));
    out
}

/// The values of a message, up to the first that is not understood.
pub(super) fn read_all(mut bytes: &[u8]) -> Vec<Value> {
    std::iter::from_fn(|| Value::read(&mut bytes)).take(MEMBERS_MAX).collect()
}

/// What a status object says, for people.
pub(super) fn status(info: &Value) -> String {
    let mut said = info.text("code").unwrap_or("no code").to_owned();
    if let Some(description) = info.text("description") {
        // Writing to a string cannot fail.
        let _ = write!(said, ": {description}");
    }
    said
}

/// Names of ours are far shorter than their length field allows; what is longer is cut.
fn name(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes(take::<2>(bytes)?));
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn members(bytes: &mut &[u8], depth: u8) -> Option<Vec<(String, Value)>> {
    let mut members = Vec::new();
    loop {
        let key = text(bytes)?;
        if key.is_empty() && bytes.first() == Some(&OBJECT_END) {
            *bytes = bytes.get(1..)?;
            return Some(members);
        }
        if members.len() >= MEMBERS_MAX {
            return None;
        }
        members.push((key, Value::read_within(bytes, depth)?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let values = [
            Value::string("connect"),
            Value::Number(1.5),
            Value::object([("app", Value::string("live")), ("deep", Value::object([]))]),
            Value::Boolean(true),
            Value::Null,
        ];
        assert_eq!(read_all(&write_all(&values)), values);
    }

    #[test]
    fn cut_or_deep_values_are_refused() {
        let mut deep = Value::Null;
        for _ in 0..20 {
            deep = Value::object([("x", deep)]);
        }
        assert!(read_all(&write_all(&[deep])).is_empty());
        let whole = write_all(&[Value::object([("a", Value::string("b"))])]);
        for end in 0..whole.len() {
            assert!(read_all(&whole[..end]).is_empty(), "{end} bytes");
        }
    }
}
