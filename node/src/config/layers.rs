//! The settings of all layers, one over the other: defaults, file, environment, flags.

use std::collections::BTreeMap;

use crate::config::error::{ConfigError, Source};
use crate::config::table::{KEYS, Key, Shape};

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Switch(bool),
    List(Vec<String>),
}

/// What is set, and by whom.
#[derive(Default)]
pub(super) struct Layers(BTreeMap<&'static str, (Value, Source)>);

impl Layers {
    pub(super) fn set(&mut self, key: &Key, value: Value, at: Source) {
        self.0.insert(key.name, (value, at));
    }

    /// The lowest layer.
    pub(super) fn defaults() -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        for key in KEYS {
            if let Some(text) = key.default {
                layers.set(key, value(key, text, &Source::Default)?, Source::Default);
            }
        }
        Ok(layers)
    }

    /// Lays the environment over the rest. An empty variable counts as not set.
    pub(super) fn env(&mut self, env: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        for key in KEYS {
            if let Some(text) = env(&key.env()).filter(|text| !text.is_empty()) {
                let at = Source::Env(key.env());
                self.set(key, value(key, &text, &at)?, at);
            }
        }
        Ok(())
    }

    pub(super) fn switch(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some((Value::Switch(true), _)))
    }

    /// Where the key is set; [`Source::Default`] when it is not.
    pub(super) fn source(&self, key: &str) -> Source {
        self.0.get(key).map_or(Source::Default, |(_, at)| at.clone())
    }

    /// The key's text as `read` understands it; `None` when it is not set.
    pub(super) fn text<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((Value::Text(text), at)) = self.0.get(key) else { return Ok(None) };
        let why = |why| ConfigError::Value { at: at.clone(), key: key.to_owned(), why };
        if text.is_empty() {
            return Err(why("is empty: give it a value, or remove the line".to_owned()));
        }
        read(text).map(Some).map_err(why)
    }

    /// The same of a key that always has a value.
    pub(super) fn need<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.text(key, read)?.ok_or_else(|| ConfigError::Value {
            at: Source::Default,
            key: key.to_owned(),
            why: "is not set".to_owned(),
        })
    }

    /// The key's texts as `read` understands each.
    pub(super) fn list<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some((Value::List(items), at)) = self.0.get(key) else { return Ok(Vec::new()) };
        let why = |why| ConfigError::Value { at: at.clone(), key: key.to_owned(), why };
        items.iter().map(|item| read(item).map_err(why)).collect()
    }
}

/// One text as a value of the key's shape.
fn value(key: &Key, text: &str, at: &Source) -> Result<Value, ConfigError> {
    match (key.shape, text) {
        (Shape::Text, text) => Ok(Value::Text(text.to_owned())),
        (Shape::Switch, "true" | "1" | "yes") => Ok(Value::Switch(true)),
        (Shape::Switch, "false" | "0" | "no") => Ok(Value::Switch(false)),
        (Shape::Switch, other) => Err(ConfigError::Type {
            at: at.clone(),
            key: key.name.to_owned(),
            expected: key.shape.expected(),
            found: format!("\"{other}\""),
        }),
        (Shape::List, text) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::List(items.map(str::to_owned).collect()))
        }
    }
}
