//! The Cedar schema, `policies/cordon.cedarschema`, parsed once.

use std::sync::LazyLock;

use cedar_policy::Schema;

/// The schema's text, for people and editors.
pub const SCHEMA_TEXT: &str = include_str!("../../policies/cordon.cedarschema");

/// Number of the schema; see the file's head for what it promises.
pub const SCHEMA_VERSION: u32 = 1;

/// The parsed schema. The text is part of the program, so an error is a broken build; it is a
/// value all the same, so that it ends in a refusal to load and not in a panic.
pub(crate) fn schema() -> Result<&'static Schema, &'static str> {
    static SCHEMA: LazyLock<Result<Schema, String>> = LazyLock::new(|| {
        Schema::from_cedarschema_str(SCHEMA_TEXT)
            .map(|(schema, _warnings)| schema)
            .map_err(|error| error.to_string())
    });
    SCHEMA.as_ref().map_err(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_parses_without_warnings_and_says_its_version() {
        let (_, warnings) = Schema::from_cedarschema_str(SCHEMA_TEXT).unwrap();
        assert_eq!(warnings.map(|w| w.to_string()).collect::<Vec<_>>(), [""; 0]);
        assert!(SCHEMA_TEXT.contains(&format!("// Version {SCHEMA_VERSION}.")));
    }
}
