//! The node's configuration: a TOML file, flags and `HEADWATER_*` variables in, values that fit
//! together out. Everything is read and checked before anything is bound.
//!
//! Not here: what the values do (each listener's options).

mod check;
mod cluster;
mod glob;
mod ice;
mod read;
mod schema;
mod value;

use std::collections::BTreeSet;
use std::path::Path;

pub use cluster::{BaseUrl, HostPort};
pub use glob::StreamGlob;
pub use ice::IceServer;
pub use read::{ConfigError, ConfigErrors, FlagValue, Origin, Reading};
pub use schema::{
    Auth, Cluster, Demo, General, Hls, Http, Ingest, KeyDoc, Limits, Log, Media, RawConfig, Relay,
    Rtmp, Section, SetError, Srt, WebRtc, default_file,
};
pub use value::{
    BitRate, ByteSize, HlsAudio, Input, LogFilter, LogFormat, NodeRole, Passphrase,
    SecondPublisher, Value,
};

/// A configuration whose values were checked, each alone and all together. The only way to a
/// node.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    values: RawConfig,
    warnings: Vec<String>,
    given: BTreeSet<String>,
}

impl Config {
    /// Reads the text of a file (named `file` in messages), then `flags`, then `variables`.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(
        file: Option<(&str, &str)>,
        flags: &[FlagValue],
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let mut reading = Reading::default();
        if let Some((_, text)) = file {
            reading.file(text);
        }
        reading.flags(flags);
        reading.variables(variables);
        let given = reading.given();
        check::bind(&mut reading);
        check::check(&mut reading);
        let Reading { raw, mut errors, warnings, .. } = reading;
        if errors.is_empty() {
            return Ok(Self { values: raw, warnings, given });
        }
        errors.sort_by_key(|error| match error.origin {
            Origin::Line(line) => line,
            Origin::Flag(_) | Origin::Variable(_) | Origin::Default => usize::MAX,
        });
        let file = file.map_or_else(String::new, |(name, _)| name.to_owned());
        Err(ConfigErrors { file, errors })
    }

    /// Checks values that were made in code. What differs from its default counts as given.
    ///
    /// # Errors
    /// As [`Self::read`], for values that do not fit together.
    pub fn from_raw(raw: RawConfig) -> Result<Self, ConfigErrors> {
        let mut reading = Reading::default();
        let given = different(&raw, &RawConfig::default());
        reading.raw = raw;
        check::bind(&mut reading);
        check::check(&mut reading);
        let Reading { raw, errors, warnings, .. } = reading;
        if errors.is_empty() {
            Ok(Self { values: raw, warnings, given })
        } else {
            Err(ConfigErrors { file: String::new(), errors })
        }
    }

    /// Reads `path` (where given) and the process's environment.
    ///
    /// # Errors
    /// The file cannot be read, or what [`Self::read`] finds.
    pub fn load(path: Option<&Path>, flags: &[FlagValue]) -> anyhow::Result<Self> {
        let name = path.map(|path| path.display().to_string()).unwrap_or_default();
        let text = match path {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .map_err(|error| anyhow::anyhow!("cannot read {name}: {error}"))?,
            ),
            None => None,
        };
        let file = text.as_deref().map(|text| (name.as_str(), text));
        // A variable that is not Unicode cannot be one of ours.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Ok(Self::read(file, flags, variables)?)
    }

    /// The values.
    #[must_use]
    pub fn values(&self) -> &RawConfig {
        &self.values
    }

    /// Whether a key (with its section, such as `cluster.listen`) was given, by whichever way.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains(key)
    }

    /// What is odd but harmless, for the log.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Workers of the SFU: as configured, else one a core.
    #[must_use]
    pub fn webrtc_workers(&self) -> usize {
        match self.values.webrtc.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => usize::try_from(count).unwrap_or(usize::MAX),
        }
    }
}

/// The keys (with their sections) whose values differ.
fn different(one: &RawConfig, other: &RawConfig) -> BTreeSet<String> {
    let keys = |config: &RawConfig| -> Vec<(String, String)> {
        let of = |section: &&dyn Section| {
            let name = section.name();
            let path = move |key: &str| {
                if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") }
            };
            section
                .keys()
                .into_iter()
                .map(move |key| (path(key.name), key.value))
                .collect::<Vec<_>>()
        };
        config.sections().iter().flat_map(of).collect()
    };
    let both = keys(one).into_iter().zip(keys(other));
    both.filter(|(a, b)| a != b).map(|((key, _), _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_given_by_file_flag_or_variable_or_by_differing_from_its_default() {
        let variable = ("HEADWATER_CLUSTER__LISTEN".to_owned(), "127.0.0.1:4443".to_owned());
        let config = Config::read(Some(("f", "[http]\nenabled = true")), &[], [variable]).unwrap();
        for (key, given) in [("cluster.listen", true), ("http.enabled", true), ("data", false)] {
            assert_eq!(config.is_given(key), given, "{key}");
        }
        let mut raw = RawConfig::default();
        raw.cluster.listen.set_port(0);
        let config = Config::from_raw(raw).unwrap();
        assert!(config.is_given("cluster.listen") && !config.is_given("http.listen"));
    }

    #[test]
    fn bind_moves_every_listener_that_is_not_given() {
        let text = "bind = \"127.0.0.2\"\n[srt]\nlisten = \"0.0.0.0:8890\"";
        let config = Config::read(Some(("f", text)), &[], []).unwrap();
        let values = config.values();
        for (listen, expected) in [
            (values.http.listen, "127.0.0.2:8080"),
            (values.webrtc.listen, "127.0.0.2:8189"),
            (values.rtmp.listen, "127.0.0.2:1935"),
            (values.cluster.listen, "127.0.0.2:4443"),
            (values.srt.listen, "0.0.0.0:8890"),
        ] {
            assert_eq!(listen.to_string(), expected);
        }
        assert!(!config.is_given("cluster.listen"));
        let everywhere = Config::read(Some(("f", "bind = \"::\"")), &[], []).unwrap();
        assert_eq!(everywhere.values().http.listen.to_string(), "[::]:8080");
        assert_eq!(everywhere.values().cluster.listen.to_string(), "127.0.0.1:4443");
    }

    #[test]
    fn the_default_file_reads_back_as_the_defaults() {
        let text = default_file();
        let config = Config::read(Some(("default", &text)), &[], []).unwrap();
        assert_eq!(*config.values(), RawConfig::default());
        assert!(config.warnings().is_empty());
    }

    #[test]
    fn errors_are_listed_by_line_with_the_files_name() {
        let text = "[srt]\nlatency = 1\n[http]\nlisten = 2\n";
        let errors = Config::read(Some(("node.toml", text)), &[], []).unwrap_err();
        let shown = errors.to_string();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("node.toml:2: srt.latency: 1 is not allowed"), "{shown}");
        assert!(lines[1].starts_with("node.toml:4: http.listen: 2 is not allowed"), "{shown}");
    }
}
