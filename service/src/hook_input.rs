//! A tool's input as a hook passes it on: what decides, what an approval is of and what a person is
//! shown are all made of this one value.
//!
//! Long texts (a file's contents) stand there by their length and digest, so that a request to the
//! daemon stays small and an approval is of exactly these contents all the same.

use std::path::Path;

use cordon_session::approvals::LONGEST_SHOWN;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What is told to an agent whose session a person ended.
pub const OVER: &str = "the session that Cordon decided this agent in was ended; a new session of \
                        the agent begins another";

/// Longest text that stands there as it is, in bytes.
const LONGEST: usize = 16 * 1024;

/// Fields that say what the tool does to what: always as they are.
const WHOLE: [&str; 5] = ["command", "file_path", "notebook_path", "path", "url"];

/// The input with long texts by length and digest. Of what it made it makes the same again.
pub fn reduced(input: Map<String, Value>) -> Map<String, Value> {
    let each = input.into_iter().map(|(name, value)| {
        let value = match WHOLE.contains(&name.as_str()) {
            true => value,
            false => short(value),
        };
        (name, value)
    });
    each.collect()
}

/// What a person who is asked sees of it: the folder it is done in, and the command or all of it, cut.
pub fn shown(folder: &Path, input: &Map<String, Value>) -> String {
    let what = match input.get("command").and_then(Value::as_str) {
        Some(command) => command.to_owned(),
        None => Value::Object(input.clone()).to_string(),
    };
    let folder = folder.to_string_lossy();
    // A long folder must not push the command out of sight.
    let text = format!("in {}: {what}", cut(&folder, LONGEST_SHOWN / 4));
    cut(&text, LONGEST_SHOWN).to_owned()
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most))
        .unwrap_or_default()
}

/// As deep as JSON is read: 128 levels.
fn short(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > LONGEST => {
            let digest = Sha256::digest(text.as_bytes());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"bytes": text.len(), "sha256": digest})
        }
        Value::Array(items) => items.into_iter().map(short).collect(),
        Value::Object(fields) => {
            let each = fields.into_iter().map(|(name, value)| (name, short(value)));
            Value::Object(each.collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn long_texts_are_told_apart_and_short_ones_stand_there() {
        let long = |end: &str| "x".repeat(LONGEST) + end;
        let input =
            |end: &str| of(&json!({"file_path": "/a", "edits": [{"new": long(end), "old": "o"}]}));
        let (one, other) = (reduced(input("1")), reduced(input("2")));
        assert_ne!(one, other);
        assert_eq!(one.get("file_path"), Some(&json!("/a")));
        assert!(Value::Object(one.clone()).to_string().len() < 300);
        assert_eq!(
            reduced(one.clone()),
            one,
            "of what it made it makes the same"
        );
        let command = of(&json!({"command": long("1")}));
        assert_eq!(reduced(command.clone()), command);
        assert_eq!(shown(Path::new("/p"), &command).len(), LONGEST_SHOWN);
        let other = of(&json!({"a": 1}));
        assert_eq!(shown(Path::new("/p"), &other), "in /p: {\"a\":1}");
        let command = of(&json!({"command": "rm x"}));
        let long = "/p".repeat(LONGEST_SHOWN);
        assert!(shown(Path::new(&long), &command).ends_with(": rm x"));
    }
}
