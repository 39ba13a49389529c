//! A user and a password for a parent proxy. Read once, shown never.

use std::{fmt, io::Read, os::unix::fs::MetadataExt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use cordon_session::config::ParentConfig;

/// A user and a password, each 1 to 255 bytes without control characters.
pub(super) struct Credentials {
    user: String,
    password: String,
}

/// Longest `user:password`, in bytes.
const MAX_BYTES: usize = 511;

impl Credentials {
    /// Those that the configuration leads to.
    ///
    /// # Errors
    /// In words that never show them.
    pub(super) fn of(config: &ParentConfig) -> Result<Option<Self>, String> {
        let text = match (&config.credentials_file, &config.credentials_env) {
            (Some(path), _) => read(path)?,
            (None, Some(name)) => std::env::var(name).map_err(|_absent| {
                format!("the environment variable `{name}` of `credentials_env` is not set")
            })?,
            (None, None) => return Ok(None),
        };
        Self::parse(&text).map(Some)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let wrong = "its credentials are not one line `user:password` of at most 255 bytes each";
        let (user, password) = line.split_once(':').ok_or(wrong)?;
        let usable =
            |part: &str| (1..=255).contains(&part.len()) && !part.contains(char::is_control);
        if !usable(user) || !usable(password) {
            return Err(wrong.into());
        }
        Ok(Self {
            user: user.into(),
            password: password.into(),
        })
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// The value of `Proxy-Authorization`. Base64 alone, so nothing can break out of the field.
    ///
    /// Source: RFC 7617 section 2.
    pub(super) fn basic(&self) -> String {
        let both = format!("{}:{}", self.user, self.password);
        format!("Basic {}", STANDARD.encode(both))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

fn read(path: &Path) -> Result<String, String> {
    let fail = |what: String| format!("`{}` {what}", path.display());
    let file = std::fs::File::open(path)
        .map_err(|error| fail(format!("of `credentials_file` cannot be read: {error}")))?;
    let mode = file
        .metadata()
        .map_err(|error| fail(error.to_string()))?
        .mode();
    if mode & 0o077 != 0 {
        return Err(fail(format!(
            "holds credentials and is open to others (mode {:o}); `chmod 600` it",
            mode & 0o777
        )));
    }
    let mut text = String::new();
    let most = u64::try_from(MAX_BYTES + 3).unwrap_or(u64::MAX);
    file.take(most)
        .read_to_string(&mut text)
        .map_err(|error| fail(format!("of `credentials_file` cannot be read: {error}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn n03_credentials_are_one_line_and_never_shown() {
        let good = Credentials::parse("proxy:pass:word\n").unwrap();
        assert_eq!((good.user(), good.password()), ("proxy", "pass:word"));
        assert_eq!(good.basic(), "Basic cHJveHk6cGFzczp3b3Jk");
        assert!(!format!("{good:?}").contains("pass"));
        let long = format!("u:{}", "x".repeat(256));
        for wrong in [
            "",
            "user",
            "user:",
            ":word",
            "u:a\r\nX: y",
            "u:a\nb:c",
            "u:\0",
            &long,
        ] {
            let error = Credentials::parse(wrong).unwrap_err();
            assert!(!error.contains("X: y"), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"u:p\n").unwrap();
        let mode =
            |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode));
        mode(0o644).unwrap();
        assert!(read(file.path()).unwrap_err().contains("chmod 600"));
        mode(0o600).unwrap();
        assert_eq!(read(file.path()).unwrap(), "u:p\n");
    }
}
