//! The config file: TOML whose keys and types are checked against the table, line by line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use baton_protocol::id::GroupName;
use baton_protocol::text::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::GroupConfig;
use crate::config::error::{ConfigError, Source};
use crate::config::layers::{Layers, Value};
use crate::config::table::{self, KEYS, Shape};

/// Bytes of a config file that are read: one with a thousand groups has less.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

type Groups = BTreeMap<GroupName, GroupConfig>;

/// Reads a text file. One that is too large is refused, as a cut one could be read as another.
pub(super) fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Lays the file over the defaults, and gives its groups.
pub(super) fn lay(path: &Path, layers: &mut Layers) -> Result<Groups, ConfigError> {
    let text = read(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    let source = Text { path: path.to_owned(), text: &text };
    let root = DeTable::parse(&text).map_err(|error| source.syntax(&error))?;
    let mut groups = Groups::new();
    for (name, value) in root.get_ref() {
        match (name.get_ref().as_ref(), table::find(name.get_ref())) {
            ("groups", _) => groups = source.groups(value)?,
            (_, Some(key)) => {
                let read = source.value(key.name, key.shape, value)?;
                layers.set(key, read, source.at(value));
            }
            (word, None) if table::is_table(word) => source.lay_table(word, value, layers)?,
            (word, None) => {
                let known: Vec<_> = KEYS.iter().map(|key| key.name).chain(["groups"]).collect();
                return Err(source.unknown(name, word.to_owned(), nearest(word, &known)));
            }
        }
    }
    Ok(groups)
}

struct Text<'a> {
    path: PathBuf,
    text: &'a str,
}

impl Text<'_> {
    fn line(&self, offset: usize) -> Source {
        let before = self.text.as_bytes().iter().take(offset);
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        Source::File(self.path.clone(), line)
    }

    fn at<T>(&self, spanned: &Spanned<T>) -> Source {
        self.line(spanned.span().start)
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let at = self.line(error.span().map_or(0, |span| span.start));
        // The error's whole text would show the line, and with it a token.
        ConfigError::Syntax { at, message: error.message().replace('\n', ", ") }
    }

    fn unknown<T>(
        &self,
        at: &Spanned<T>,
        key: String,
        nearest: Option<&'static str>,
    ) -> ConfigError {
        ConfigError::UnknownKey { at: self.at(at), key, nearest }
    }

    fn wrong(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &'static str,
    ) -> ConfigError {
        let found = match value.get_ref() {
            DeValue::Boolean(is) => is.to_string(),
            DeValue::Integer(number) => format!("the number {}", number.as_str()),
            DeValue::String(_) => "a text".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            other => format!("a {}", other.type_str()),
        };
        ConfigError::Type { at: self.at(value), key: key.to_owned(), expected, found }
    }

    fn value(
        &self,
        key: &str,
        shape: Shape,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Value, ConfigError> {
        match (shape, value.get_ref()) {
            (Shape::Text, DeValue::String(text)) => Ok(Value::Text(text.to_string())),
            (Shape::Switch, DeValue::Boolean(is)) => Ok(Value::Switch(*is)),
            (Shape::List, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| {
                    let text = item.get_ref().as_str().map(str::to_owned);
                    text.ok_or_else(|| self.wrong(key, item, shape.expected()))
                });
                texts.collect::<Result<_, _>>().map(Value::List)
            }
            _ => Err(self.wrong(key, value, shape.expected())),
        }
    }

    fn table<'v, 'i>(
        &self,
        key: &str,
        value: &'v Spanned<DeValue<'i>>,
        expected: &'static str,
    ) -> Result<&'v DeTable<'i>, ConfigError> {
        value.get_ref().as_table().ok_or_else(|| self.wrong(key, value, expected))
    }

    /// The keys of a table such as `[balancer]`.
    fn lay_table(
        &self,
        table: &str,
        value: &Spanned<DeValue<'_>>,
        layers: &mut Layers,
    ) -> Result<(), ConfigError> {
        for (name, value) in self.table(table, value, "a table of keys")? {
            let word = format!("{table}.{}", name.get_ref());
            let Some(key) = table::find(&word) else {
                let known: Vec<_> = KEYS.iter().map(|key| key.name).collect();
                return Err(self.unknown(name, word.clone(), nearest(&word, &known)));
            };
            layers.set(key, self.value(key.name, key.shape, value)?, self.at(value));
        }
        Ok(())
    }

    fn groups(&self, value: &Spanned<DeValue<'_>>) -> Result<Groups, ConfigError> {
        let mut groups = Groups::new();
        for (name, value) in self.table("groups", value, "tables such as [groups.web]")? {
            let key = format!("groups.{}", name.get_ref());
            let group: GroupName = name.get_ref().parse().map_err(|error| ConfigError::Value {
                at: self.at(name),
                key: key.clone(),
                why: format!("{error}"),
            })?;
            groups.insert(group, self.group(&key, value)?);
        }
        Ok(groups)
    }

    fn group(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<GroupConfig, ConfigError> {
        let mut group = GroupConfig::default();
        for (name, value) in self.table(key, value, "a table such as [groups.web]")? {
            let word = name.get_ref().as_ref();
            let key = format!("{key}.{word}");
            if word != "vars" {
                // A variable without its table is the likely slip here.
                return Err(self.unknown(name, key, Some("vars")));
            }
            group.vars = self.vars(&key, value)?;
        }
        Ok(group)
    }

    fn vars(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut vars = BTreeMap::new();
        for (name, value) in self.table(key, value, "a table such as { port = \"8080\" }")? {
            let name = name.get_ref().to_string();
            let Some(text) = value.get_ref().as_str() else {
                let expected = "a text in quotes, such as \"8080\"";
                return Err(self.wrong(&format!("{key}.{name}"), value, expected));
            };
            vars.insert(name, text.to_owned());
        }
        Ok(vars)
    }
}
