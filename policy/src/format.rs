//! Lays out policy files in one way.
//!
//! Text in, the same policy as text out: comments stay, and the formatter itself refuses where
//! what it would print is another policy. Bounded as loading is.

use cedar_policy_formatter::{Config, policies_str_to_pretty};
use thiserror::Error;

use crate::{
    check::{locate, plain},
    engine::{
        bounds::{self, MAX_FILE_BYTES},
        compile::on_large_stack,
    },
};

/// Columns of a line.
const WIDTH: usize = 100;
/// Columns of an indent.
const INDENT: isize = 2;

/// Why a text cannot be laid out.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct FormatError {
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// A `.cedar` file's text, laid out.
///
/// # Errors
/// [`FormatError`] for a text that is out of bounds or that Cedar does not read. `cordon policy
/// check` says more about it.
pub fn format(text: &str) -> Result<String, FormatError> {
    let refuse = |line, message: &str| FormatError {
        line,
        message: plain(message),
    };
    if text.len() > MAX_FILE_BYTES {
        return Err(refuse(None, "the file is too large"));
    }
    bounds::scan(text)
        .map_err(|error| refuse(Some(locate(text, error.offset).0), &error.message))?;
    let config = Config {
        line_width: WIDTH,
        indent_width: INDENT,
    };
    on_large_stack(|| policies_str_to_pretty(text, &config).map_err(|error| format!("{error:#}")))
        .and_then(|formatted| formatted)
        .map_err(|message| refuse(None, &message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_laid_out_once_and_comments_stay() {
        let text = "// why\n@id(\"a\") permit(principal,action,resource)when{context.port==443 // TLS\n};\n// end\n";
        let once = format(text).unwrap();
        for comment in ["// why", "// TLS", "// end"] {
            assert!(once.contains(comment), "{once}");
        }
        assert_ne!(once, text);
        assert_eq!(format(&once).unwrap(), once);
    }

    #[test]
    fn what_is_out_of_bounds_or_no_policy_is_refused() {
        let nested = format!(
            "permit(principal,action,resource) when {{ {}",
            "(".repeat(100_000)
        );
        assert_eq!(format(&nested).unwrap_err().line, Some(1));
        assert!(format("permit;").is_err());
        assert!(format(&" ".repeat(MAX_FILE_BYTES + 1)).is_err());
        assert!(format("").is_ok_and(|text| text.trim().is_empty()));
    }

    #[test]
    fn every_shipped_pack_is_laid_out() {
        for pack in crate::packs::PACKS {
            let rules = pack
                .files
                .iter()
                .filter(|(path, _)| path.ends_with(".cedar"));
            for (path, text) in rules {
                let laid_out = format(text).unwrap_or_else(|error| panic!("{path}: {error}"));
                assert_eq!(laid_out, *text, "{}/{path}", pack.name);
            }
        }
    }
}
