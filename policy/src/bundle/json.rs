//! `data/*.json`: the JSON twin of a data file, for data that programs write.
//!
//! Text in, host groups with their places out. A name that is there twice is an error, as it is
//! in TOML: the second would silently replace the first.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use toml::Spanned;

/// Host groups as a data file has them: names and members with their byte ranges.
pub(crate) type Groups = BTreeMap<Spanned<String>, Vec<Spanned<String>>>;

/// Reads `{"host_groups": {"name": ["host", ...]}}`.
///
/// # Errors
/// The byte offset of what is wrong, and what it is.
pub(crate) fn host_groups(text: &str) -> Result<Groups, (usize, String)> {
    let file: DataFile = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        (
            offset(text, error.line(), error.column()),
            message.to_owned(),
        )
    })?;
    let mut places = Places { text, from: 0 };
    let groups = file.host_groups.0.into_iter().map(|(name, members)| {
        let name = places.find(name);
        let members = members.into_iter().map(|member| places.find(member));
        (name, members.collect())
    });
    Ok(groups.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataFile {
    #[serde(default)]
    host_groups: InOrder,
}

/// Names and members in the order of the file.
#[derive(Default)]
struct InOrder(Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = InOrder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of host groups, each a list of hosts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut seen = std::collections::HashSet::new();
                let mut groups = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!(
                            "host group {name:.100?} is there twice"
                        )));
                    }
                    groups.push((name, map.next_value()?));
                }
                Ok(InOrder(groups))
            }
        }

        deserializer.deserialize_map(Unique)
    }
}

/// Finds strings again in the order in which they were read; one that is written with escapes
/// gets the place where the search stands.
struct Places<'a> {
    text: &'a str,
    from: usize,
}

impl Places<'_> {
    fn find(&mut self, value: String) -> Spanned<String> {
        let rest = self.text.get(self.from..).unwrap_or_default();
        // Bounded, so that a file of escaped names is not searched to its end for each.
        let near = rest
            .char_indices()
            .nth(Self::NEAR)
            .map_or(rest.len(), |(at, _)| at);
        let near = rest.get(..near).unwrap_or_default();
        let (start, length) = match near.find(&format!("\"{value}\"")) {
            Some(at) => (self.from + at, value.len() + 2),
            None => (self.from, 0),
        };
        self.from = start + length;
        Spanned::new(start..start + length, value)
    }

    const NEAR: usize = 4_096;
}

/// Byte offset of a line and column, both from 1, as `serde_json` counts them: bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let mut at = (before + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_with_their_places() {
        let text = "{\"host_groups\": {\n  \"b\": [\"x.test\", \"*.y.test\"],\n  \"a\": [\"@b\"]}}";
        let groups = host_groups(text).unwrap();
        let shown: Vec<_> = groups
            .iter()
            .map(|(name, members)| {
                assert_eq!(text[name.span()], format!("\"{}\"", name.get_ref()));
                let members: Vec<&str> = members.iter().map(|m| &text[m.span()]).collect();
                (name.get_ref().as_str(), members.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("a", "\"@b\"".to_owned()),
                ("b", "\"x.test\" \"*.y.test\"".to_owned())
            ]
        );
        assert!(host_groups("{}").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_data_file_is_refused_at_its_place() {
        let deep = format!("{{\"host_groups\": {}", "[".repeat(100_000));
        let cases = [
            ("{\"host_groups\": {\"a\": [], \"a\": []}}", "twice"),
            (
                "{\"host_groups\": {\"a\": []}, \"host_groups\": {}}",
                "duplicate",
            ),
            ("{\"hosts\": {}}", "unknown field"),
            ("{\"host_groups\": {\"a\": [1]}}", "invalid type"),
            ("{\"host_groups\": []}", "an object of host groups"),
            ("{} {}", "trailing"),
            ("[", "EOF"),
            (deep.as_str(), "an object of host groups"),
            (
                "{\"host_groups\": {\"\u{e4}\": [\u{e4}]}}",
                "expected value",
            ),
        ];
        for (text, expected) in cases {
            let (at, message) = host_groups(text).unwrap_err();
            assert!(message.contains(expected), "{text:.40}: {message}");
            assert!(
                text.is_char_boundary(at) && !message.contains("line"),
                "{message}"
            );
        }
        let (at, _) = host_groups("{\n\"host_groups\": {\n\"a\": [1]}}").unwrap_err();
        assert!((18..27).contains(&at), "{at}");
    }
}
