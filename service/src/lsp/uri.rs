//! File URIs (RFC 8089) and paths, both ways.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use lsp_types::Uri;

/// The path of a `file:` URI of this machine.
pub fn path_of(uri: &Uri) -> Option<PathBuf> {
    let rest = uri.as_str().strip_prefix("file://")?;
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    if !rest.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(rest.len());
    let mut left = rest.bytes();
    while let Some(byte) = left.next() {
        match byte {
            b'%' => {
                let digits = [left.next()?, left.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'?' | b'#' => break,
            byte => bytes.push(byte),
        }
    }
    Some(OsString::from_vec(bytes).into())
}

/// A path as a `file:` URI.
pub fn of_path(path: &Path) -> Option<Uri> {
    let mut text = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_whatever_they_hold() {
        for path in ["/a/b.cedar", "/a b/\u{e9}%#?.toml", "/"] {
            let uri = of_path(Path::new(path)).unwrap();
            assert_eq!(path_of(&uri).unwrap(), Path::new(path), "{}", uri.as_str());
        }
    }

    #[test]
    fn other_uris_have_no_path() {
        for text in [
            "untitled:Untitled-1",
            "https://example.com/a",
            "file://host/a",
        ] {
            assert_eq!(path_of(&text.parse().unwrap()), None, "{text}");
        }
    }
}
