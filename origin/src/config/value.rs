//! The kinds of values a configuration key can have: how each is read and written.
//!
//! Not here: which keys there are (`schema`), what they mean together (`resolve`).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use headwater_media::StreamName;
use toml::de::DeValue;

/// Where a value comes from: a TOML value, or text from a flag or an environment variable.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// A value of the file.
    Toml(&'a DeValue<'a>),
    /// Text, in which lists are separated by commas.
    Text(&'a str),
}

impl<'a> Input<'a> {
    /// The text of a string value.
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Toml(value) => value.as_str(),
            Self::Text(text) => Some(text.trim()),
        }
    }

    /// The items of a list of strings.
    pub(super) fn items(self) -> Option<Vec<&'a str>> {
        match self {
            Self::Toml(value) => {
                value.as_array()?.iter().map(|item| item.get_ref().as_str()).collect()
            }
            Self::Text(text) => {
                let items = text.split(',').map(str::trim);
                Some(items.filter(|item| !item.is_empty()).collect())
            }
        }
    }

    /// The value as an error message shows it, short.
    pub(crate) fn shown(self) -> String {
        let text = match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Toml(DeValue::String(text)) => format!("{text:?}"),
            Self::Toml(DeValue::Integer(number)) => number.as_str().to_owned(),
            Self::Toml(DeValue::Float(number)) => number.as_str().to_owned(),
            Self::Toml(DeValue::Boolean(value)) => value.to_string(),
            Self::Toml(other) => format!("a value of type {}", other.type_str()),
        };
        if text.chars().count() <= SHOWN_CHARS_MAX {
            return text;
        }
        text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
    }
}

/// Longest value repeated in an error message.
const SHOWN_CHARS_MAX: usize = 80;

/// A type of value: read from TOML and from text, written as TOML.
pub trait Value: Sized {
    /// Whether the value may not appear in messages.
    const SECRET: bool = false;
    /// What is allowed, to follow "expected".
    fn allowed() -> String;
    /// Reads it; none when it is not allowed.
    fn read(input: Input<'_>) -> Option<Self>;
    /// Writes it as TOML; reads back as the same value.
    fn render(&self) -> String;
}

/// A string as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Value for bool {
    fn allowed() -> String {
        "true or false".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        match input {
            Input::Toml(value) => value.as_bool(),
            Input::Text(text) => text.trim().parse().ok(),
        }
    }
    fn render(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    fn allowed() -> String {
        "a whole number".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        match input {
            Input::Toml(value) => {
                let number = value.as_integer()?;
                Self::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
            }
            Input::Text(text) => text.trim().parse().ok(),
        }
    }
    fn render(&self) -> String {
        self.to_string()
    }
}

impl Value for SocketAddr {
    fn allowed() -> String {
        "an IP address with a port such as \"0.0.0.0:8080\" or \"[::]:8080\"".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        input.text()?.parse().ok()
    }
    fn render(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Value for IpAddr {
    fn allowed() -> String {
        "an IP address such as \"127.0.0.2\" or \"::1\"".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        input.text()?.parse().ok()
    }
    fn render(&self) -> String {
        quoted(&self.to_string())
    }
}

/// A value that may be missing: the empty text.
impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;
    fn allowed() -> String {
        format!("{}, or \"\" for none", T::allowed())
    }
    fn read(input: Input<'_>) -> Option<Self> {
        match input.text()? {
            "" => Some(None),
            _ => T::read(input).map(Some),
        }
    }
    fn render(&self) -> String {
        self.as_ref().map_or_else(|| quoted(""), T::render)
    }
}

impl Value for Vec<IpAddr> {
    fn allowed() -> String {
        "a list of IP addresses such as [\"203.0.113.7\"]".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        input.items()?.into_iter().map(|item| item.parse().ok()).collect()
    }
    fn render(&self) -> String {
        let items: Vec<_> = self.iter().map(|item| quoted(&item.to_string())).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Value for StreamName {
    fn allowed() -> String {
        "a stream's name such as \"demo\" or \"auction/lot-7\"".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        Self::parse(input.text()?).ok()
    }
    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

impl Value for PathBuf {
    fn allowed() -> String {
        "a path that is not empty".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        input.text().filter(|text| !text.is_empty()).map(Self::from)
    }
    fn render(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

/// Splits `"200ms"` into its number and its unit.
fn with_unit(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at_checked(at)?;
    let number: f64 = number.parse().ok()?;
    Some((number, unit.trim()))
}

/// `number` of `unit` as a whole count; none when it has a fraction or is too large.
fn count(number: f64, unit: u64) -> Option<u64> {
    /// Up to here `f64` counts exactly.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let total = number * unit as f64;
    (total.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&total)).then_some(total as u64)
}

/// Reads with the table of units, largest first.
fn read_units(input: Input<'_>, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = with_unit(input.text()?)?;
    let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
    count(number, *size)
}

/// Writes with the largest unit that leaves a whole number.
fn render_units(total: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, size)| total.is_multiple_of(*size) && total >= *size);
    let smallest = units.last().copied().unwrap_or(("", 1));
    let (name, size) = fits.copied().unwrap_or(smallest);
    quoted(&format!("{}{name}", total / size))
}

/// Microseconds.
const DURATION_UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl Value for Duration {
    fn allowed() -> String {
        "a duration with a unit (us, ms, s, m, h) such as \"200ms\" or \"10s\"".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        read_units(input, &DURATION_UNITS).map(Self::from_micros)
    }
    fn render(&self) -> String {
        render_units(u64::try_from(self.as_micros()).unwrap_or(u64::MAX), &DURATION_UNITS)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `count` mebibytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The size as an index type; saturates on small machines.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Value for ByteSize {
    fn allowed() -> String {
        "a size with a unit (B, KiB, MiB, GiB) such as \"64MiB\"".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        read_units(input, &SIZE_UNITS).map(Self)
    }
    fn render(&self) -> String {
        render_units(self.0, &SIZE_UNITS)
    }
}

/// Bits a second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BitRate(pub u64);

impl BitRate {
    /// `count` million bits a second.
    #[must_use]
    pub const fn mbps(count: u64) -> Self {
        Self(count * 1_000_000)
    }
}

const RATE_UNITS: [(&str, u64); 4] =
    [("Gbps", 1_000_000_000), ("Mbps", 1_000_000), ("kbps", 1_000), ("bps", 1)];

impl Value for BitRate {
    fn allowed() -> String {
        "a bit rate with a unit (bps, kbps, Mbps, Gbps) such as \"50Mbps\"".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        read_units(input, &RATE_UNITS).map(Self)
    }
    fn render(&self) -> String {
        render_units(self.0, &RATE_UNITS)
    }
}

/// SRT's shared secret; none when empty. Its text stays out of logs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Passphrase(Option<String>);

impl Passphrase {
    /// The secret, where one is set.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Passphrase(set)" } else { "Passphrase(none)" })
    }
}

impl Value for Passphrase {
    const SECRET: bool = true;
    fn allowed() -> String {
        "10 to 79 characters, or \"\" for none".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        match input.text()? {
            "" => Some(Self(None)),
            text if (10..=79).contains(&text.len()) && !text.contains('\0') => {
                Some(Self(Some(text.to_owned())))
            }
            _ => None,
        }
    }
    fn render(&self) -> String {
        quoted(self.0.as_deref().unwrap_or_default())
    }
}

/// Declares an enum whose values are words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Value for $name {
            fn allowed() -> String {
                let words = [$($word),*].map(|word| format!("\"{word}\""));
                match &words[..] {
                    [only] => only.clone(),
                    _ => format!("one of {}", words.join(", ")),
                }
            }
            fn read(input: Input<'_>) -> Option<Self> {
                match input.text()? {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
            fn render(&self) -> String {
                quoted(match self { $(Self::$variant => $word,)* })
            }
        }
    };
}

words! {
    /// What happens to a second publisher of a live stream.
    SecondPublisher {
        /// It is refused.
        Reject = "reject",
        /// It takes over; the first one's session ends.
        Replace = "replace",
    }
}

words! {
    /// What a node does in the cluster.
    NodeRole {
        /// It may vote, and takes publishers.
        Origin = "origin",
        /// It carries streams to viewers; it neither votes nor takes publishers.
        Relay = "relay",
    }
}

words! {
    /// Which audio codecs HLS offers.
    HlsAudio {
        /// Opus.
        Opus = "opus",
        /// AAC.
        Aac = "aac",
        /// Both, as two renditions.
        Both = "both",
    }
}

words! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// A filter of log lines in the syntax of `RUST_LOG`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFilter(pub String);

impl Value for LogFilter {
    fn allowed() -> String {
        "a filter in the syntax of RUST_LOG such as \"info\" or \"info,headwater_sfu=debug\"".into()
    }
    fn read(input: Input<'_>) -> Option<Self> {
        let text = input.text()?;
        text.parse::<tracing_subscriber::filter::Targets>().ok()?;
        Some(Self(text.to_owned()))
    }
    fn render(&self) -> String {
        quoted(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Value>(text: &str) -> Option<T> {
        T::read(Input::Text(text))
    }

    #[test]
    fn durations_sizes_and_rates_need_a_unit_and_a_whole_result() {
        assert_eq!(read("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(read("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(read("0s"), Some(Duration::ZERO));
        assert_eq!(read("64MiB"), Some(ByteSize::mib(64)));
        assert_eq!(read("50Mbps"), Some(BitRate::mbps(50)));
        for bad in
            ["", "10", "s", "-1s", "1 fortnight", "1e9s", "0.1us", "1.2.3s", "99999999999999h"]
        {
            assert_eq!(read::<Duration>(bad), None, "{bad}");
        }
        for bad in ["64", "64MB", "0.3B", "MiB", "-1B"] {
            assert_eq!(read::<ByteSize>(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_value_reads_back_what_it_writes() {
        fn round<T: Value + PartialEq + std::fmt::Debug>(value: T) {
            let text = format!("k = {}", value.render());
            let table = toml::de::DeTable::parse(&text).unwrap();
            let read = T::read(Input::Toml(table.get_ref().get("k").unwrap().get_ref()));
            assert_eq!(read, Some(value), "{text}");
        }
        round(Duration::from_millis(1_500));
        round(Duration::ZERO);
        round(ByteSize(1_025));
        round(BitRate::mbps(20));
        round(HlsAudio::Both);
        round(Passphrase(Some("say \"friend\" \\ enter".into())));
        round(vec!["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        round(PathBuf::from("./a b"));
    }

    #[test]
    fn a_passphrase_is_not_shown_by_debug() {
        let secret = read::<Passphrase>("correct horse battery").unwrap();
        assert!(!format!("{secret:?}").contains("horse"));
    }
}
