//! The secrets that Cordon itself is told of, so that no record holds one (A08).
//!
//! Configuration in, values out, for the log alone. Files that an admin names have to be readable
//! and private; of those that sinks and bundles name, what can be read is taken: whoever uses them
//! says what is wrong with them.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use cordon_audit::Secret;
use rustix::fs::OFlags;

use super::{Config, SinkTarget};

/// All values that no record may hold.
///
/// # Errors
/// In words: a file of `log.secret_files` cannot be read, others may read it, or a line in it is too
/// short to be told from ordinary text.
pub(super) fn known(config: &Config) -> Result<Vec<Secret>, String> {
    let mut found = Vec::new();
    for path in &config.log.secret_files {
        let fail = |what: String| format!("secrets not known: `{}` {what}", path.display());
        let text = read_private(path).map_err(|error| fail(error.to_string()))?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty()) {
            if line.len() < Secret::MIN_BYTES {
                return Err(fail(format!(
                    "line {number} has fewer than {} bytes, which cannot be told from ordinary \
                     text: use a longer secret, or leave it out",
                    Secret::MIN_BYTES
                )));
            }
            found.push(line.to_owned());
        }
    }
    found.extend(own(config));
    found.sort_unstable();
    found.dedup();
    Ok(found.into_iter().map(Secret::from).collect())
}

/// Credentials that Cordon uses itself.
fn own(config: &Config) -> Vec<String> {
    let read = |path: &Path| read_private(path).unwrap_or_default();
    // The scheme before a token is in every header that carries one.
    let tokens = |path: &Path| -> Vec<String> {
        let text = read(path);
        let values = text.lines().filter_map(|line| line.split_once(':'));
        let last = |(_, value): (&str, &str)| value.split_whitespace().last().map(str::to_owned);
        values.filter_map(last).collect()
    };
    let mut found = Vec::new();
    if let Some(path) = &config.telemetry.headers_file {
        found.extend(tokens(path));
    }
    for sink in &config.sinks {
        match &sink.target {
            SinkTarget::Webhook(sink) => found.push(read(&sink.secret_file).trim().to_owned()),
            // Its id is no secret, and useful in a record.
            SinkTarget::S3(sink) => {
                let text = read(&sink.credentials_file);
                found.extend(text.lines().nth(1).map(|key| key.trim().to_owned()));
            }
            SinkTarget::Otlp(sink) => {
                found.extend(sink.headers_file.as_deref().into_iter().flat_map(tokens));
            }
            SinkTarget::File(_) | SinkTarget::Syslog(_) => {}
        }
    }
    for bundle in &config.policy.bundle {
        let text = bundle.credentials.as_deref().map(read).unwrap_or_default();
        let password = text.trim().split_once(':').map(|(_, password)| password);
        found.extend(password.map(str::to_owned));
    }
    found.retain(|value| (Secret::MIN_BYTES..=Secret::MAX_BYTES).contains(&value.len()));
    found
}

/// A small file that nobody else may read.
fn read_private(path: &Path) -> io::Result<String> {
    // Not to wait for a writer, should it be a pipe.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_wait())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("is no file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "can be read by other users: `chmod 600` it",
        ));
    }
    if metadata.len() > Secret::MAX_BYTES as u64 {
        return Err(io::Error::other("is larger than a file of secrets"));
    }
    let mut text = String::new();
    file.take(Secret::MAX_BYTES as u64)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn no_wait() -> i32 {
    // The flag is a small positive number on every platform we build for.
    i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) -> String {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    #[test]
    fn a08_files_of_secrets_and_what_cordon_uses_itself_are_known() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let listed = write(&at("listed"), "first-secret\n\nsecond one\n", 0o600);
        let hook = write(&at("hook"), "0123456789abcdef\n", 0o600);
        let s3 = write(&at("s3"), "AKIDEXAMPLE\nwJalrXUtnFEMI\n", 0o600);
        let otlp = write(
            &at("otlp"),
            "X-Team: a\nAuthorization: Bearer tok-3141592\n",
            0o600,
        );
        let traces = write(&at("traces"), "Api-Key: trc-2718281\n", 0o600);
        let login = write(&at("login"), "ann:hunter22\n", 0o600);
        let text = format!(
            "[log]\nsecret_files = [{listed:?}]\n\
             [[sinks]]\nname = \"w\"\ntype = \"webhook\"\nurl = \"https://hooks.example.com/\"\n\
             secret_file = {hook:?}\n\
             [[sinks]]\nname = \"s\"\ntype = \"s3\"\nendpoint = \"https://s3.example.com\"\n\
             bucket = \"b\"\nregion = \"r\"\ncredentials_file = {s3:?}\n\
             [[sinks]]\nname = \"o\"\ntype = \"otlp\"\nurl = \"https://otel.example.com/\"\n\
             headers_file = {otlp:?}\n\
             [[policy.bundle]]\nlayer = \"team\"\nsource = \"https://policy.example.com/b\"\n\
             credentials = {login:?}\n\
             [telemetry]\notlp = \"https://otel.example.com\"\nheaders_file = {traces:?}\n"
        );
        let path = at("cordon.toml");
        fs::write(&path, text).unwrap();
        let config = Config::load(&[&path]).unwrap();
        let options = config.log_options().unwrap();
        let mut expected = [
            "first-secret",
            "second one",
            "0123456789abcdef",
            "wJalrXUtnFEMI",
            "tok-3141592",
            "hunter22",
            "trc-2718281",
        ];
        expected.sort_unstable();
        let shown = format!("{:?}", options.secrets);
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(
            options
                .secrets
                .iter()
                .eq(expected.map(|value| Secret::from(value.to_owned())).iter())
        );
    }

    #[test]
    fn a08_a_file_that_others_read_or_with_a_line_too_short_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("secrets");
        let config = Config {
            log: toml::from_str(&format!("secret_files = [{path:?}]")).unwrap(),
            ..Config::default()
        };
        for (text, mode, expected) in [
            ("long enough\n", 0o600, None),
            ("long enough\n", 0o640, Some("chmod 600")),
            ("long enough\nshort\n", 0o600, Some("line 2")),
        ] {
            write(&path, text, mode);
            let error = known(&config).err();
            let right = match (&error, expected) {
                (None, None) => true,
                (Some(error), Some(expected)) => error.contains(expected),
                _ => false,
            };
            assert!(right, "{text:?} {mode:o}: {error:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(known(&config).is_err(), "missing");
    }
}
