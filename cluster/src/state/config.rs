//! What the operator sets for the whole cluster: policies, keys, limits. One version for all of
//! it, which rises with each change.
//!
//! Not here: what policies and keys mean (`headwater` does).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Applied, KEY_BYTES_MAX, POLICIES_MAX, POLICY_BYTES_MAX, SETTING_MAX, State,
    TOKEN_KEY_BYTES_MAX, TOKEN_KEYS_MAX,
};
use crate::command::{Answer, Field, Refusal, Settings, Table};

/// The configuration that all nodes share.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    /// Rises with each change.
    pub version: u64,
    /// What holds for streams, by the glob over their names.
    pub policies: BTreeMap<String, Bytes>,
    /// Keys that sign tokens, by their ids.
    pub token_keys: BTreeMap<String, Bytes>,
    /// Limits.
    pub settings: Settings,
}

/// Changes `table`, unless it is so already.
fn put(
    table: &mut BTreeMap<String, Bytes>,
    key: &str,
    value: &Bytes,
    what: Table,
    max: u32,
) -> Result<(), Refusal> {
    let full = u32::try_from(table.len()).unwrap_or(u32::MAX) >= max;
    if full && !table.contains_key(key) {
        return Err(Refusal::TooMany { what, max });
    }
    table.insert(key.to_owned(), value.clone());
    Ok(())
}

fn check_lengths(key: &str, value: &Bytes, value_max: usize) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Refusal::OverLimit { what: Field::Key });
    }
    if value.len() > value_max {
        return Err(Refusal::OverLimit { what: Field::Value });
    }
    Ok(())
}

impl State {
    /// Changes the configuration if it is the one that the proposer saw.
    fn reconfigure(
        &mut self,
        expects: Option<u64>,
        change: impl FnOnce(&mut Config) -> Result<(), Refusal>,
    ) -> Applied {
        let current = self.directory.config.version;
        if expects.is_some_and(|expects| expects != current) {
            return Err(Refusal::OtherVersion { current });
        }
        let config = Arc::make_mut(&mut self.directory.config);
        change(config)?;
        config.version += 1;
        Ok(Answer::Done)
    }

    pub(super) fn put_policy(
        &mut self,
        glob: &str,
        policy: &Bytes,
        expects: Option<u64>,
    ) -> Applied {
        check_lengths(glob, policy, POLICY_BYTES_MAX)?;
        if self.directory.config.policies.get(glob) == Some(policy) {
            return Ok(Answer::Done);
        }
        self.reconfigure(expects, |config| {
            put(&mut config.policies, glob, policy, Table::Policies, POLICIES_MAX)
        })
    }

    pub(super) fn delete_policy(&mut self, glob: &str, expects: Option<u64>) -> Applied {
        if !self.directory.config.policies.contains_key(glob) {
            return Ok(Answer::Done);
        }
        self.reconfigure(expects, |config| {
            config.policies.remove(glob);
            Ok(())
        })
    }

    pub(super) fn put_token_key(&mut self, id: &str, key: &Bytes, expects: Option<u64>) -> Applied {
        check_lengths(id, key, TOKEN_KEY_BYTES_MAX)?;
        if self.directory.config.token_keys.get(id) == Some(key) {
            return Ok(Answer::Done);
        }
        self.reconfigure(expects, |config| {
            put(&mut config.token_keys, id, key, Table::TokenKeys, TOKEN_KEYS_MAX)
        })
    }

    pub(super) fn delete_token_key(&mut self, id: &str, expects: Option<u64>) -> Applied {
        if !self.directory.config.token_keys.contains_key(id) {
            return Ok(Answer::Done);
        }
        self.reconfigure(expects, |config| {
            config.token_keys.remove(id);
            Ok(())
        })
    }

    pub(super) fn put_settings(&mut self, settings: &Settings, expects: Option<u64>) -> Applied {
        let Settings { streams_max, names_max } = *settings;
        let range = 1..=SETTING_MAX;
        if !range.contains(&streams_max) || !range.contains(&names_max) || streams_max > names_max {
            return Err(Refusal::OverLimit { what: Field::Settings });
        }
        if self.directory.config.settings == *settings {
            return Ok(Answer::Done);
        }
        self.reconfigure(expects, |config| {
            config.settings = *settings;
            Ok(())
        })
    }
}
