//! Names of files within a bundle: which there are, and what each is.
//!
//! Bytes from a directory or an archive in, a [`Kind`] out. A name is plain ASCII, relative and
//! without `..`, so that it means the same on every system and in every message.

/// What a file of a bundle is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// `bundle.toml`.
    Manifest,
    /// `bundle.sig`: the only file that the digest leaves out.
    Signatures,
    /// `schema`.
    Schema,
    /// `*.cedar`, at the top or below `rules/`.
    Rules,
    /// `data/*.toml`, `data/*.json`.
    Data,
    /// `tests/*.toml`.
    Tests,
    /// `app/*.cedarschema`, `app/*.cedar`, `app/entities.json`, `app/authzen.toml`.
    Application,
    /// `*.md` or `LICENSE` at the top: for people.
    Document,
}

pub(super) const MANIFEST: &str = "bundle.toml";
pub(super) const SIGNATURES: &str = "bundle.sig";
pub(super) const SCHEMA: &str = "schema";

/// How callers name what an application has.
pub(crate) const APPLICATION_MAPPING: &str = "authzen.toml";
/// What an application knows of subjects and resources.
pub(crate) const APPLICATION_ENTITIES: &str = "entities.json";
const APPLICATION: &str = "app";

/// Longest name with its folders: fits every tar format.
pub(super) const MAX_PATH_BYTES: usize = 100;
/// Most folders that a file lies in.
pub(super) const MAX_DEPTH: usize = 5;

pub(super) const PLACES: &str = "a bundle has `bundle.toml`, `schema`, `*.cedar` (also below `rules/`), \
                                 `data/*.toml`, `data/*.json`, `tests/*.toml`, `app/*`, and `*.md` for people";

/// What the file of this name is, or why no bundle has one.
pub(super) fn kind_of(path: &str) -> Result<Kind, &'static str> {
    check(path)?;
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match (folder, name, extension) {
        ("", MANIFEST, _) => Ok(Kind::Manifest),
        ("", SIGNATURES, _) => Ok(Kind::Signatures),
        ("", SCHEMA, _) => Ok(Kind::Schema),
        ("", "LICENSE", _) | ("", _, "md") => Ok(Kind::Document),
        ("", _, "cedar") => Ok(Kind::Rules),
        ("data", _, "toml" | "json") => Ok(Kind::Data),
        ("tests", _, "toml") => Ok(Kind::Tests),
        (APPLICATION, APPLICATION_MAPPING | APPLICATION_ENTITIES, _)
        | (APPLICATION, _, "cedar" | "cedarschema") => Ok(Kind::Application),
        (folder, _, "cedar") if is_rules_folder(folder) => Ok(Kind::Rules),
        _elsewhere => Err("it has no place in a bundle"),
    }
}

/// Whether a bundle has a folder of this name.
pub(super) fn is_folder(path: &str) -> bool {
    check(path).is_ok() && (matches!(path, "data" | "tests" | APPLICATION) || is_rules_folder(path))
}

fn is_rules_folder(folder: &str) -> bool {
    folder == "rules" || folder.starts_with("rules/")
}

fn check(path: &str) -> Result<(), &'static str> {
    if path.len() > MAX_PATH_BYTES {
        return Err("its name is longer than 100 bytes");
    }
    if path.starts_with('/') {
        return Err("its name is an absolute path");
    }
    if path.split('/').count() > MAX_DEPTH {
        return Err("it lies too deep");
    }
    path.split('/').try_for_each(|part| match part {
        "" => Err("its name has an empty part"),
        "." | ".." => Err("its name leads elsewhere (`.` or `..`)"),
        _ if part.starts_with(['.', '-']) => Err("its name begins with a dot or a dash"),
        _ if part.bytes().all(is_plain) => Ok(()),
        _ => Err("its name has something other than letters, digits, `.`, `_` and `-`"),
    })
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_its_place() {
        let cases = [
            ("bundle.toml", Some(Kind::Manifest)),
            ("bundle.sig", Some(Kind::Signatures)),
            ("schema", Some(Kind::Schema)),
            ("net.cedar", Some(Kind::Rules)),
            ("rules/net.cedar", Some(Kind::Rules)),
            ("rules/a/b/net.cedar", Some(Kind::Rules)),
            ("data/hosts.toml", Some(Kind::Data)),
            ("data/hosts.json", Some(Kind::Data)),
            ("tests/net.toml", Some(Kind::Tests)),
            ("app/todo.cedarschema", Some(Kind::Application)),
            ("app/todo.cedar", Some(Kind::Application)),
            ("app/entities.json", Some(Kind::Application)),
            ("app/authzen.toml", Some(Kind::Application)),
            ("app/other.toml", None),
            ("app/more/todo.cedar", None),
            ("todo.cedarschema", None),
            ("README.md", Some(Kind::Document)),
            ("rules/a/b/c/d/net.cedar", None),
            ("hosts.toml", None),
            ("data/a/hosts.toml", None),
            ("data/net.cedar", None),
            ("other/net.cedar", None),
            ("rulesets/net.cedar", None),
            ("BUNDLE.toml", None),
            ("net.Cedar", None),
            ("net.cedar/", None),
            ("net.cedar ", None),
            ("/net.cedar", None),
            ("../net.cedar", None),
            ("rules/../net.cedar", None),
            ("rules//net.cedar", None),
            ("./net.cedar", None),
            ("rules\\net.cedar", None),
            ("-o.cedar", None),
            (".net.cedar", None),
            ("n\u{435}t.cedar", None),
            ("a\nb.cedar", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(kind_of(path).ok(), expected, "{path:?}");
        }
        let long = format!("{}.cedar", "a".repeat(MAX_PATH_BYTES - 6));
        assert_eq!(kind_of(&long), Ok(Kind::Rules));
        assert!(kind_of(&format!("a{long}")).is_err());
    }
}
