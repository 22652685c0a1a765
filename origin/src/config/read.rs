//! Reads a configuration: the file, then flags, then `HEADWATER_*` variables, each over the last.
//! Collects every error instead of stopping at the first.
//!
//! Not here: which keys there are (`schema`), opening files and reading the environment (callers).

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use toml::de::{DeTable, DeValue};

use super::schema::{RawConfig, Section, SetError};
use super::value::Input;

/// Where a key's value was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A line of the file, counted from 1.
    Line(usize),
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// Nowhere: the default.
    Default,
}

/// One thing wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Where.
    pub origin: Origin,
    /// The key with its section, such as `http.listen`; empty where the TOML itself is broken.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// Everything wrong with a configuration, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors {
    /// Name of the file, for messages.
    pub file: String,
    /// The errors, at least one.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match &error.origin {
                Origin::Line(line) => write!(f, "{}:{line}: ", self.file)?,
                Origin::Flag(flag) => write!(f, "{flag}: ")?,
                Origin::Variable(name) => write!(f, "{name}: ")?,
                Origin::Default => {}
            }
            if !error.key.is_empty() {
                write!(f, "{}: ", error.key)?;
            }
            f.write_str(&error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A value given by a flag.
#[derive(Clone, Debug)]
pub struct FlagValue {
    /// The flag, such as `--data`.
    pub flag: &'static str,
    /// The section, empty for none.
    pub section: &'static str,
    /// The key in it.
    pub key: &'static str,
    /// The value's text.
    pub value: String,
}

/// A configuration read but not yet checked across keys.
#[derive(Debug, Default)]
pub struct Reading {
    /// The values.
    pub raw: RawConfig,
    /// What was wrong so far.
    pub errors: Vec<ConfigError>,
    /// What is odd but harmless.
    pub warnings: Vec<String>,
    origins: HashMap<String, Origin>,
}

/// The start of every variable's name that concerns us.
const VARIABLE_PREFIX: &str = "HEADWATER_";

/// The one key of a section that has a short variable too, `HEADWATER_JOIN_TOKEN`.
const JOIN_TOKEN: &str = "join_token";

impl Reading {
    /// Where `key` (with its section) was given.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The keys (with their sections) that were given and are allowed.
    pub(super) fn given(&self) -> BTreeSet<String> {
        self.origins.keys().cloned().collect()
    }

    /// Reads the text of a file.
    pub fn file(&mut self, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            self.error(Origin::Line(line), &key_at(text, line), error.message().to_owned());
        }
        let broken: Vec<_> = self.errors.iter().map(|error| error.origin.clone()).collect();
        for (key, value) in table.get_ref() {
            let line = line_of(text, key.span().start);
            let name = key.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(inner) if self.is_section(name) => {
                    self.section(name, inner, text);
                }
                DeValue::Table(_) => self.unknown_section(Origin::Line(line), name),
                _ if self.is_section(name) => {
                    let message = format!("this is a section, write [{name}]");
                    self.error(Origin::Line(line), name, message);
                }
                value => self.set(Origin::Line(line), "", name, Input::Toml(value)),
            }
        }
        // What a line that is no TOML was taken for says nothing more.
        let mut place = 0;
        self.errors.retain(|error| {
            place += 1;
            place <= broken.len() || !broken.contains(&error.origin)
        });
    }

    /// Takes the values of flags.
    pub fn flags(&mut self, flags: &[FlagValue]) {
        for flag in flags {
            let origin = Origin::Flag(flag.flag);
            self.set(origin, flag.section, flag.key, Input::Text(&flag.value));
        }
    }

    /// Takes environment variables; those that do not begin with `HEADWATER_` are passed over.
    pub fn variables(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let mut ours: Vec<_> = variables.into_iter().collect();
        ours.sort();
        for (name, value) in ours {
            let Some(path) = name.strip_prefix(VARIABLE_PREFIX).map(str::to_ascii_lowercase) else {
                continue;
            };
            let origin = Origin::Variable(name.clone());
            match path.split_once("__") {
                Some((section, key)) if self.is_section(section) => {
                    self.set(origin, section, key, Input::Text(&value));
                }
                Some((section, _)) => self.unknown_section(origin, section),
                None if path == JOIN_TOKEN => {
                    self.set(origin, "cluster", JOIN_TOKEN, Input::Text(&value));
                }
                None if self.knows("", &path) => self.set(origin, "", &path, Input::Text(&value)),
                None => self.warnings.push(format!("the variable {name} is not known and ignored")),
            }
        }
    }

    fn is_section(&self, name: &str) -> bool {
        !name.is_empty() && self.raw.sections().iter().any(|section| section.name() == name)
    }

    fn knows(&self, section: &str, key: &str) -> bool {
        let named = |candidate: &&dyn Section| candidate.name() == section;
        let sections = self.raw.sections();
        let found = sections.into_iter().find(named);
        found.is_some_and(|section| section.keys().iter().any(|known| known.name == key))
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>, text: &str) {
        for (key, value) in table {
            let origin = Origin::Line(line_of(text, key.span().start));
            self.set(origin, section, key.get_ref(), Input::Toml(value.get_ref()));
        }
    }

    fn set(&mut self, origin: Origin, section: &str, key: &str, input: Input<'_>) {
        let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        let Some(target) = self.raw.section_mut(section) else {
            return self.unknown_section(origin, section);
        };
        let message = match target.set(key, input) {
            Ok(()) => {
                self.origins.insert(path, origin);
                return;
            }
            Err(SetError::NotAllowed(message)) => message,
            Err(SetError::UnknownKey) => {
                let names: Vec<_> = target.keys().iter().map(|known| known.name).collect();
                unknown("key", key, &names)
            }
        };
        self.error(origin, &path, message);
    }

    fn unknown_section(&mut self, origin: Origin, name: &str) {
        let sections = self.raw.sections();
        let names: Vec<_> = sections.iter().map(|s| s.name()).filter(|n| !n.is_empty()).collect();
        let message = unknown("section", name, &names);
        self.error(origin, name, message);
    }

    pub(super) fn error(&mut self, origin: Origin, key: &str, message: String) {
        self.errors.push(ConfigError { origin, key: key.to_owned(), message });
    }
}

/// "unknown key, did you mean …; allowed are …".
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let near = known.iter().find(|candidate| edit_distance_is_small(candidate, name));
    let hint = near.map(|near| format!(", did you mean {near}?")).unwrap_or_default();
    format!("unknown {what}{hint} (allowed: {})", known.join(", "))
}

/// Whether two names differ by a slip: at most two insertions, deletions or replacements.
fn edit_distance_is_small(a: &str, b: &str) -> bool {
    /// Longer names are not compared: no key is as long.
    const COMPARED_BYTES_MAX: usize = 64;
    if b.len() > COMPARED_BYTES_MAX {
        return false;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.bytes().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&row, j) + usize::from(x != y);
            next.push(replaced.min(at(&row, j + 1) + 1).min(at(&next, j) + 1));
        }
        row = next;
    }
    row.last().is_some_and(|distance| *distance <= 2)
}

/// The line of the byte at `offset`, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The key, or the section, that a line of broken TOML is about, as far as its text tells.
fn key_at(text: &str, line: usize) -> String {
    let header = |line: &str| {
        let inner = line.trim().strip_prefix('[')?.trim_start_matches('[');
        Some(inner.split([']', '#']).next().unwrap_or_default().trim().to_owned())
    };
    let Some(broken) = text.lines().nth(line.saturating_sub(1)) else { return String::new() };
    if let Some(section) = header(broken) {
        return section;
    }
    let section = text.lines().take(line.saturating_sub(1)).filter_map(header).last();
    let key = broken.split(['=', '#']).next().unwrap_or_default().trim();
    let path: Vec<_> = section.iter().map(String::as_str).chain([key]).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"');
    // What does not look like a key is none.
    if path.iter().all(|part| !part.is_empty() && part.chars().all(plain)) {
        path.join(".")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_of(text: &str) -> Vec<(Origin, String, String)> {
        let mut reading = Reading::default();
        reading.file(text);
        reading.errors.into_iter().map(|e| (e.origin, e.key, e.message)).collect()
    }

    #[test]
    fn each_kind_of_mistake_is_named_with_its_key_its_line_and_what_is_allowed() {
        for (text, line, key, says) in [
            ("drain_timeout = 10", 1, "drain_timeout", "a duration with a unit"),
            ("\n[http]\nlisten = \"8080\"", 3, "http.listen", "an IP address with a port"),
            ("[http]\nlisten = 8080", 2, "http.listen", "8080 is not allowed"),
            ("[http]\nlisen = \"x\"", 2, "http.lisen", "did you mean listen?"),
            ("[http]\nenabled = \"yes\"", 2, "http.enabled", "true or false"),
            ("[htttp]\nlisten = \"x\"", 1, "htttp", "did you mean http?"),
            ("http = 3", 1, "http", "this is a section"),
            ("bind = \"here\"", 1, "bind", "an IP address such as"),
            ("[cluster]\nadvertise = \"a\"", 2, "cluster.advertise", "a host with a port"),
            ("[cluster]\nname = \"a b\"", 2, "cluster.name", "1 to 64 characters"),
            ("[cluster]\nregion = \"\"", 2, "cluster.region", "1 to 64 characters"),
            ("[cluster]\nrole = \"king\"", 2, "cluster.role", "one of \"origin\", \"relay\""),
            ("[cluster]\nhttp = [\"a\"]", 2, "cluster.http", "a list of up to 8 URLs"),
            ("[cluster]\nheartbeat = \"1ms\"", 2, "cluster.heartbeat", "between 10ms and 5s"),
            ("[http.tls]\ncert = \"x\"", 1, "http.tls", "unknown key"),
            ("[webrtc]\nworkers = -1", 2, "webrtc.workers", "a whole number"),
            ("[webrtc]\nworkers = 1000", 2, "webrtc.workers", "between 0 and 256"),
            ("[webrtc]\npublic_addresses = [\"a\"]", 2, "webrtc.public_addresses", "list of IP"),
            ("[srt]\nlatency = \"9h\"", 2, "srt.latency", "between 20ms and 8s"),
            ("[srt]\npassphrase = \"short\"", 2, "srt.passphrase", "10 to 79 characters"),
            ("[ingest]\npolicy = \"first\"", 2, "ingest.policy", "\"reject\", \"replace\""),
            ("[limits]\ntrack_bytes = \"64MB\"", 2, "limits.track_bytes", "KiB, MiB, GiB"),
            ("[log]\nfilter = \"a=loud\"", 2, "log.filter", "RUST_LOG"),
            ("[http]\nlisten = ", 2, "http.listen", ""),
            ("data = a", 1, "data", "quoted"),
            ("[http]\nenabled = true\nenabled = true", 3, "http.enabled", "duplicate key"),
            ("[http]\n[srt]\n[http]", 3, "http", "duplicate key"),
            ("[http]\n[srt\nlatency = \"1s\"", 2, "srt", "unclosed"),
            ("[http]\n= 3", 2, "", ""),
            ("\u{e9} = 3", 1, "", ""),
        ] {
            let errors = errors_of(text);
            let found = errors.iter().any(|(origin, at, message)| {
                *origin == Origin::Line(line) && at == key && message.contains(says)
            });
            assert!(found, "{text:?} gives {errors:?}");
        }
    }

    #[test]
    fn all_errors_come_at_once() {
        let text = "x = 1\n[http]\nlisten = 1\nfoo = 2\n[srt]\nlatency = 3\n[nope]\n";
        assert_eq!(errors_of(text).len(), 5);
    }

    #[test]
    fn a_secret_is_never_repeated_in_an_error() {
        for text in ["[srt]\npassphrase = \"hunter2\"", "[cluster]\njoin_token = \"hunter2\""] {
            let errors = errors_of(text);
            assert!(errors.len() == 1 && !format!("{errors:?}").contains("hunter2"), "{errors:?}");
        }
    }

    #[test]
    fn variables_go_before_flags_and_flags_before_the_file() {
        let mut reading = Reading::default();
        reading.file("data = \"a\"\ndrain_timeout = \"1s\"\n[log]\nformat = \"json\"");
        let flag =
            |flag, key, value: &str| FlagValue { flag, section: "", key, value: value.into() };
        reading.flags(&[flag("--data", "data", "b"), flag("--x", "drain_timeout", "2s")]);
        let variable = ("HEADWATER_DRAIN_TIMEOUT".to_owned(), "3s".to_owned());
        reading.variables([variable]);
        assert_eq!(reading.errors, []);
        assert_eq!(reading.raw.general.data.to_str(), Some("b"));
        assert_eq!(reading.raw.general.drain_timeout.as_secs(), 3);
        assert_eq!(reading.raw.log.format, crate::config::LogFormat::Json);
        assert_eq!(reading.origin("data"), Origin::Flag("--data"));
        assert_eq!(reading.origin("log.format"), Origin::Line(4));
    }

    #[test]
    fn nested_variables_and_lists_are_read_and_unknown_ones_told() {
        let mut reading = Reading::default();
        let pairs = [
            ("HEADWATER_HTTP__LISTEN", "127.0.0.1:1"),
            ("HEADWATER_WEBRTC__PUBLIC_ADDRESSES", "10.0.0.1, ::1"),
            ("HEADWATER_HTTP__LISTN", "x"),
            ("HEADWATER_HTTB__LISTEN", "x"),
            ("HEADWATER_AUTH__OPEN", "maybe"),
            ("HEADWATER_SOMETHING", "x"),
            ("HEADWATER_JOIN_TOKEN", "x"),
            ("PATH", "x"),
        ];
        reading.variables(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(reading.raw.http.listen.port(), 1);
        assert_eq!(reading.raw.webrtc.public_addresses.len(), 2);
        let keys: Vec<_> = reading.errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["auth.open", "httb", "http.listn", "cluster.join_token"]);
        assert_eq!(reading.warnings.len(), 1);
    }
}
