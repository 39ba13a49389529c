//! A page of what a server lists: tools, resources, templates or prompts.
//!
//! A result in, the same without what may not be shown out.

use cordon_policy::ToolKind;
use serde_json::{Map, Value};

use super::{Fate, Listed, RESERVED};

/// What is listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ListKind {
    Tools,
    Resources,
    Templates,
    Prompts,
}

impl ListKind {
    pub(super) fn of(method: &str) -> Option<Self> {
        Some(match method {
            "tools/list" => Self::Tools,
            "resources/list" => Self::Resources,
            "resources/templates/list" => Self::Templates,
            "prompts/list" => Self::Prompts,
            _other => return None,
        })
    }

    /// The key of the list, the key of an entry's name, and what an entry is.
    fn keys(self) -> (&'static str, &'static str, ToolKind) {
        match self {
            Self::Tools => ("tools", "name", ToolKind::Tool),
            Self::Resources => ("resources", "uri", ToolKind::Resource),
            Self::Templates => ("resourceTemplates", "uriTemplate", ToolKind::Resource),
            Self::Prompts => ("prompts", "name", ToolKind::Prompt),
        }
    }
}

/// A page, its entries each with a name of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    kind: ListKind,
    entries: Vec<(String, Value)>,
    next: Option<String>,
    meta: Option<Value>,
}

impl Page {
    /// Reads a result.
    ///
    /// # Errors
    /// In words; then nothing is listed.
    pub(super) fn read(kind: ListKind, result: Value) -> Result<Self, String> {
        let (list, name, _) = kind.keys();
        let Value::Object(mut fields) = result else {
            return Err("the server's list is not an object".into());
        };
        let Some(Value::Array(values)) = fields.remove(list) else {
            return Err(format!("the server's answer has no list `{list}`"));
        };
        if values.len() > MOST_ENTRIES {
            return Err(format!("the server lists more than {MOST_ENTRIES} at once"));
        }
        let mut entries: Vec<(String, Value)> = Vec::with_capacity(values.len());
        for value in values {
            let Some(name) = value.get(name).and_then(Value::as_str) else {
                return Err(format!("an entry of `{list}` has no `{name}`"));
            };
            let reserved = RESERVED.iter().any(|start| name.starts_with(start));
            if kind == ListKind::Tools && reserved {
                return Err(format!(
                    "`{}` is no name for a tool: it begins like another thing's",
                    name.escape_default()
                ));
            }
            if entries.iter().any(|(known, _)| known == name) {
                return Err(format!("`{}` is listed twice", name.escape_default()));
            }
            entries.push((name.to_owned(), value));
        }
        let next = match fields.remove("nextCursor") {
            None | Some(Value::Null) => None,
            Some(Value::String(next)) if next.len() <= MAX_CURSOR_BYTES => Some(next),
            Some(_other) => return Err("the server's cursor is not a short text".into()),
        };
        Ok(Self {
            kind,
            entries,
            next,
            meta: fields.remove("_meta"),
        })
    }

    /// What is asked about each entry.
    pub(super) fn entries(&self) -> Vec<Listed> {
        let (_, _, kind) = self.kind.keys();
        let named = |name: &str| match kind {
            ToolKind::Tool => name.to_owned(),
            other => format!("{}:{name}", other.as_str()),
        };
        let entries = self.entries.iter().map(|(name, value)| Listed {
            kind,
            name: named(name),
            definition: (kind == ToolKind::Tool).then(|| value.clone()),
        });
        entries.collect()
    }

    /// Names and whole definitions.
    pub(super) fn definitions(&self) -> impl Iterator<Item = (&str, &Value)> {
        let entries = self.entries.iter();
        entries.map(|(name, value)| (name.as_str(), value))
    }

    /// Takes out what is not shown. An entry without a fate is not.
    pub(super) fn keep(&mut self, fates: &[Fate]) {
        let mut fates = fates.iter();
        self.entries
            .retain(|_entry| fates.next() == Some(&Fate::Shown));
    }

    /// Where the next page begins.
    pub(super) fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// As a result again.
    pub(super) fn value(self) -> Value {
        let (list, _, _) = self.kind.keys();
        let mut fields = Map::new();
        let entries = self.entries.into_iter().map(|(_, value)| value).collect();
        fields.insert(list.into(), Value::Array(entries));
        if let Some(next) = self.next {
            fields.insert("nextCursor".into(), Value::from(next));
        }
        if let Some(meta) = self.meta {
            fields.insert("_meta".into(), meta);
        }
        Value::Object(fields)
    }
}

/// Entries of one page.
const MOST_ENTRIES: usize = 1024;

const MAX_CURSOR_BYTES: usize = 4096;
