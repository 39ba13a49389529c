//! Rules in Cedar's own layout, comments kept.

use cedar_policy_formatter::{Config, policies_str_to_pretty};

use crate::engine::{bounds, compile::on_large_stack};

/// Formats a `.cedar` text: 100 columns, four spaces.
///
/// # Errors
/// Says why it is left as it is: too large or too deep, or not Cedar.
pub fn format_rules(text: &str) -> Result<String, String> {
    bounds::scan(text).map_err(|error| error.message)?;
    let config = Config {
        line_width: 100,
        indent_width: 4,
    };
    on_large_stack(|| policies_str_to_pretty(text, &config))?
        .map_err(|error| format!("not formatted: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stay_and_formatting_twice_changes_nothing() {
        let text = "// why\n@id(\"a\") permit(principal,action,resource)when{true};";
        let once = format_rules(text).unwrap();
        assert!(once.starts_with("// why\n@id(\"a\")\npermit"), "{once}");
        assert_eq!(format_rules(&once).unwrap(), once);
    }

    #[test]
    fn what_is_no_policy_is_left_as_it_is() {
        for text in ["permit (", &"(".repeat(100_000)] {
            assert!(format_rules(text).is_err());
        }
    }
}
