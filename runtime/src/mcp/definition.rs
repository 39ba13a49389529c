//! What a tool is, in a form that can be compared: the digest of its whole definition, and the
//! hints that stand in it.

use std::fmt::Write as _;

use cordon_policy::ToolHints;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// SHA-256 over the canonical form (RFC 8785) of everything that a server says about a tool:
/// description, schemas, annotations, title, icons, metadata. Lower-case hex.
pub fn definition_digest(definition: &Value) -> String {
    // Canonicalising fails for numbers that JSON cannot hold, and those are never read.
    let canonical = serde_json_canonicalizer::to_vec(definition)
        .unwrap_or_else(|_error| definition.to_string().into_bytes());
    let digest = Sha256::digest(&canonical);
    digest.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The hints of a tool's definition. What is not said, or not said plainly, is the worse.
pub fn hints_of(definition: &Value) -> ToolHints {
    let hint = |name: &str| definition.get("annotations")?.get(name)?.as_bool();
    let usual = ToolHints::default();
    ToolHints {
        read_only: hint("readOnlyHint").unwrap_or(usual.read_only),
        destructive: hint("destructiveHint").unwrap_or(usual.destructive),
        open_world: hint("openWorldHint").unwrap_or(usual.open_world),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn p08_every_part_of_a_definition_counts_and_the_order_of_its_keys_does_not() {
        let first = json!({"name": "a", "description": "x", "inputSchema": {"type": "object"}});
        let same = json!({"inputSchema": {"type": "object"}, "description": "x", "name": "a"});
        assert_eq!(definition_digest(&first), definition_digest(&same));
        for (key, value) in [
            ("description", json!("y")),
            (
                "inputSchema",
                json!({"type": "object", "properties": {"b": {}}}),
            ),
            ("annotations", json!({"readOnlyHint": true})),
            ("outputSchema", json!({})),
            ("title", json!("A")),
            ("_meta", json!({"x": 1})),
        ] {
            let mut other = first.clone();
            other[key] = value;
            assert_ne!(
                definition_digest(&first),
                definition_digest(&other),
                "{key}"
            );
        }
    }

    #[test]
    fn what_is_not_said_plainly_is_the_worse() {
        let said = json!({"annotations": {
            "readOnlyHint": true, "destructiveHint": false, "openWorldHint": false,
        }});
        let hints = hints_of(&said);
        assert!(hints.read_only && !hints.destructive && !hints.open_world);
        for unsaid in [
            json!({}),
            json!({"annotations": []}),
            json!({"annotations": {
                "readOnlyHint": "true", "destructiveHint": 0, "openWorldHint": null,
            }}),
        ] {
            assert_eq!(hints_of(&unsaid), ToolHints::default(), "{unsaid}");
        }
    }
}
