//! AMF0: the values in RTMP's commands and metadata (Action Message Format, version 0).
//!
//! Not here: AMF3. Its command wrapper, which carries AMF0 in practice, is opened in `session`.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Deepest nesting of objects and arrays: metadata needs 2.
pub const DEPTH_MAX: usize = 16;
/// Most values in one message, nested ones and properties counted: encoders send about 40.
pub const VALUES_MAX: usize = 2_048;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const REFERENCE: u8 = 0x07;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;
const XML_DOCUMENT: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;

/// Why bytes are not AMF0. The peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AmfError {
    /// The bytes end inside a value.
    #[error("a value is cut short")]
    Truncated,
    /// A type that is reserved, AMF3's, or unknown.
    #[error("values of type {0:#04x} are not supported")]
    Type(u8),
    /// Nesting beyond [`DEPTH_MAX`].
    #[error("values are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// More than [`VALUES_MAX`] values.
    #[error("more than {VALUES_MAX} values in a message")]
    TooMany,
}

/// A value. Text that is not UTF-8 has its bad bytes replaced.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A double.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A string, long string or XML document.
    String(String),
    /// An object, typed object or ECMA array: properties in the order in which they came.
    Object(Vec<(String, Value)>),
    /// A strict array.
    Array(Vec<Value>),
    /// Milliseconds since 1970.
    Date(f64),
    /// Null, undefined, unsupported, or a reference.
    Null,
}

impl Value {
    /// A string of `text`.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    /// An object of `properties`.
    #[must_use]
    pub fn object<const N: usize>(properties: [(&str, Self); N]) -> Self {
        Self::Object(properties.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// The text, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The property `name`, if this is an object that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// Reads all values of a message.
///
/// # Errors
/// When the bytes are not AMF0 or pass a limit.
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut decoder = Decoder { rest: bytes, values: 0 };
    let mut values = Vec::new();
    while !decoder.rest.is_empty() {
        values.push(decoder.value(0)?);
    }
    Ok(values)
}

struct Decoder<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Decoder<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], AmfError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(AmfError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(AmfError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, AmfError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn double(&mut self) -> Result<f64, AmfError> {
        self.array().map(f64::from_be_bytes)
    }

    fn short_string(&mut self) -> Result<String, AmfError> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(usize::from(length)).map(lossy)
    }

    fn long_string(&mut self) -> Result<String, AmfError> {
        let length = u32::from_be_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| AmfError::Truncated)?;
        self.take(length).map(lossy)
    }

    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(AmfError::TooMany);
        }
        if depth > DEPTH_MAX {
            return Err(AmfError::TooDeep);
        }
        match self.byte()? {
            NUMBER => self.double().map(Value::Number),
            BOOLEAN => self.byte().map(|byte| Value::Boolean(byte != 0)),
            STRING => self.short_string().map(Value::String),
            OBJECT => self.properties(depth).map(Value::Object),
            NULL | UNDEFINED | UNSUPPORTED => Ok(Value::Null),
            REFERENCE => self.take(2).map(|_| Value::Null),
            ECMA_ARRAY => {
                // The count is a hint that encoders get wrong; the end marker rules.
                self.take(4)?;
                self.properties(depth).map(Value::Object)
            }
            STRICT_ARRAY => self.strict_array(depth),
            DATE => {
                let millis = self.double()?;
                self.take(2)?; // a time zone that must be 0
                Ok(Value::Date(millis))
            }
            LONG_STRING | XML_DOCUMENT => self.long_string().map(Value::String),
            TYPED_OBJECT => {
                self.short_string()?;
                self.properties(depth).map(Value::Object)
            }
            other => Err(AmfError::Type(other)),
        }
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut properties = Vec::new();
        loop {
            if let [0, 0, OBJECT_END, rest @ ..] = self.rest {
                self.rest = rest;
                return Ok(properties);
            }
            let name = self.short_string()?;
            properties.push((name, self.value(depth + 1)?));
        }
    }

    fn strict_array(&mut self, depth: usize) -> Result<Value, AmfError> {
        let count = u32::from_be_bytes(self.array()?);
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Appends `value` to `out`.
pub fn encode(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Number(number) => {
            out.put_u8(NUMBER);
            out.put_f64(*number);
        }
        Value::Boolean(boolean) => out.put_slice(&[BOOLEAN, u8::from(*boolean)]),
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(_) => {
                out.put_u8(STRING);
                put_short(text, out);
            }
            Err(_) => {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.put_u8(LONG_STRING);
                out.put_u32(length);
                out.extend(text.bytes().take(usize::try_from(length).unwrap_or(usize::MAX)));
            }
        },
        Value::Object(properties) => {
            out.put_u8(OBJECT);
            for (name, value) in properties {
                put_short(name, out);
                encode(value, out);
            }
            out.put_slice(&[0, 0, OBJECT_END]);
        }
        Value::Array(items) => {
            let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
            out.put_u8(STRICT_ARRAY);
            out.put_u32(count);
            items.iter().for_each(|item| encode(item, out));
        }
        Value::Date(millis) => {
            out.put_u8(DATE);
            out.put_f64(*millis);
            out.put_u16(0);
        }
        Value::Null => out.put_u8(NULL),
    }
}

/// A string without its type, cut at the 65,535 bytes that its length field can say.
fn put_short(text: &str, out: &mut BytesMut) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.extend(text.bytes().take(usize::from(length)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(values: &[Value]) -> BytesMut {
        let mut out = BytesMut::new();
        values.iter().for_each(|value| encode(value, &mut out));
        out
    }

    #[test]
    fn values_read_back_as_they_were_written() {
        let values = vec![
            Value::text("connect"),
            Value::Number(1.0),
            Value::object([
                ("app", Value::text("live")),
                ("nested", Value::object([("list", Value::Array(vec![Value::Null]))])),
                ("flag", Value::Boolean(true)),
                ("when", Value::Date(1e12)),
            ]),
            Value::String("x".repeat(70_000)),
        ];
        assert_eq!(decode_all(&encoded(&values)), Ok(values));
    }

    #[test]
    fn ecma_arrays_end_at_their_marker_whatever_their_count_says() {
        let mut bytes = vec![ECMA_ARRAY, 0xff, 0xff, 0xff, 0xff, 0, 1, b'a', NUMBER];
        bytes.extend_from_slice(&7.0f64.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, OBJECT_END, NULL]);
        let values = decode_all(&bytes).unwrap();
        assert_eq!(values, [Value::object([("a", Value::Number(7.0))]), Value::Null]);
    }

    #[test]
    fn bad_values_end_in_clear_errors() {
        let deep_array = [STRICT_ARRAY, 0, 0, 0, 1].repeat(DEPTH_MAX + 2);
        let deep_object = [OBJECT, 0, 1, b'a'].repeat(DEPTH_MAX + 2);
        let mut absurd_count = vec![STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff];
        absurd_count.extend([NULL].repeat(VALUES_MAX));
        for (case, bytes, expected) in [
            ("number cut short", vec![NUMBER, 0, 0], AmfError::Truncated),
            ("boolean cut short", vec![BOOLEAN], AmfError::Truncated),
            ("string longer than the message", vec![STRING, 0xff, 0xff, b'a'], AmfError::Truncated),
            (
                "long string longer than the message",
                vec![LONG_STRING, 0xff, 0xff, 0xff, 0xff, b'a'],
                AmfError::Truncated,
            ),
            ("object without end", vec![OBJECT, 0, 1, b'a', NULL], AmfError::Truncated),
            ("end marker alone", vec![OBJECT_END], AmfError::Type(OBJECT_END)),
            ("switch to AMF3", vec![0x11, 1], AmfError::Type(0x11)),
            ("movie clip", vec![0x04], AmfError::Type(0x04)),
            ("array of four thousand million", absurd_count, AmfError::TooMany),
            ("short array of many", vec![STRICT_ARRAY, 0, 0, 1, 0, NULL], AmfError::Truncated),
            ("many small values", [NULL].repeat(VALUES_MAX + 1), AmfError::TooMany),
            ("nested arrays", deep_array, AmfError::TooDeep),
            ("nested objects", deep_object, AmfError::TooDeep),
        ] {
            assert_eq!(decode_all(&bytes), Err(expected), "{case}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_mended() {
        let values = decode_all(&[STRING, 0, 2, 0xff, b'a']).unwrap();
        assert_eq!(values, [Value::text("\u{fffd}a")]);
    }
}
