//! Where a credential's value is kept: read when it is needed, kept for a while, never shown.
//!
//! A place in, the value out. Bounded in bytes and time. A file that others can read is refused.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use cordon_session::config::{CredentialConfig, CredentialSource};
use thiserror::Error;
use tokio::{io::AsyncReadExt as _, process::Command, sync::Mutex};
use zeroize::Zeroizing;

use crate::limits;

/// A secret. Its text is wiped when the last holder is gone, and shows in no debug print.
#[derive(Clone)]
pub(super) struct Value(Arc<Zeroizing<String>>);

/// Reads a credential, and keeps what it read for a while.
pub(super) struct Source {
    from: CredentialSource,
    ttl: Duration,
    /// Time for a program to print it.
    deadline: Duration,
    /// Held while it is read, so that many requests at once read it once.
    kept: Mutex<Option<(Instant, Value)>>,
}

/// Why there is no value.
#[derive(Debug, Error)]
pub(super) enum SourceError {
    #[error("`{path}` cannot be read", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` can be read by others; make it 0600", path = .path.display())]
    Open { path: PathBuf },
    #[error("the daemon's environment has no variable `{0}`")]
    NoVariable(String),
    #[error("the service manager passes no credentials to the daemon")]
    NoManager,
    #[error("`{program}` did not print it")]
    Command {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "it is empty, longer than {} bytes, or not text",
        limits::CREDENTIAL_VALUE_BYTES
    )]
    NotText,
}

impl Source {
    pub(super) fn new(config: &CredentialConfig) -> Self {
        Self {
            from: config.from.clone(),
            ttl: config.ttl(),
            deadline: limits::CREDENTIAL_DEADLINE,
            kept: Mutex::new(None),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// [`SourceError`]; nothing is kept then, and it is read again for the next request.
    pub(super) async fn value(&self) -> Result<Value, SourceError> {
        let mut kept = self.kept.lock().await;
        if let Some((since, value)) = &*kept
            && since.elapsed() < self.ttl
        {
            return Ok(value.clone());
        }
        *kept = None;
        let value = text(self.read().await?)?;
        *kept = Some((Instant::now(), value.clone()));
        Ok(value)
    }

    async fn read(&self) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        match &self.from {
            CredentialSource::File(path) => file(path, true).await,
            CredentialSource::Env(name) => match std::env::var(name) {
                Ok(value) => Ok(Zeroizing::new(value.into_bytes())),
                Err(_) => Err(SourceError::NoVariable(name.clone())),
            },
            CredentialSource::Systemd(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
                let folder = folder.ok_or(SourceError::NoManager)?;
                // The folder is the service's own; its files have the manager's modes.
                file(&Path::new(&folder).join(name), false).await
            }
            CredentialSource::Command(words) => command(words, self.deadline).await,
            CredentialSource::Keyring { service, account } => {
                let words = [
                    "secret-tool",
                    "lookup",
                    "service",
                    service,
                    "username",
                    account,
                ];
                command(&words.map(str::to_owned), self.deadline).await
            }
        }
    }
}

async fn file(path: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let fail = |source| SourceError::File {
        path: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(fail)?;
    let metadata = file.metadata().await.map_err(fail)?;
    if !metadata.is_file() {
        return Err(fail(io::Error::other("it is no file")));
    }
    let own = rustix::process::geteuid().as_raw();
    let is_ours = metadata.uid() == own || metadata.uid() == 0;
    if private && (metadata.mode() & 0o077 != 0 || !is_ours) {
        return Err(SourceError::Open {
            path: path.to_owned(),
        });
    }
    bounded(file).await.map_err(fail)
}

/// What a program prints. It gets no input, its complaints go nowhere, and it ends with its time.
async fn command(words: &[String], deadline: Duration) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let program = words.first().cloned().unwrap_or_default();
    let fail = |source| SourceError::Command {
        program: program.clone(),
        source,
    };
    let run = async {
        let mut child = Command::new(&program)
            .args(words.get(1..).unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let read = bounded(output).await?;
        let status = child.wait().await?;
        if status.success() {
            Ok(read)
        } else {
            Err(io::Error::other(format!("it ended with {status}")))
        }
    };
    match tokio::time::timeout(deadline, run).await {
        Ok(read) => read.map_err(fail),
        Err(_elapsed) => Err(fail(io::ErrorKind::TimedOut.into())),
    }
}

/// At most one byte more than is accepted. The room is taken at once: what grows leaves copies.
async fn bounded(from: impl tokio::io::AsyncRead + Unpin) -> io::Result<Zeroizing<Vec<u8>>> {
    let most = limits::CREDENTIAL_VALUE_BYTES + 1;
    let mut read = Zeroizing::new(Vec::with_capacity(most));
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    from.take(limit).read_to_end(&mut read).await?;
    Ok(read)
}

/// Without the line end that editors and programs leave. Lines inside stay: some have several.
fn text(bytes: Zeroizing<Vec<u8>>) -> Result<Value, SourceError> {
    let text = std::str::from_utf8(&bytes).map_err(|_| SourceError::NotText)?;
    let text = text.trim_end_matches(['\r', '\n']);
    let plain = |c: char| !c.is_control() || c == '\n' || c == '\r';
    if text.is_empty() || bytes.len() > limits::CREDENTIAL_VALUE_BYTES || !text.chars().all(plain) {
        return Err(SourceError::NotText);
    }
    Ok(Value(Arc::new(Zeroizing::new(text.to_owned()))))
}

impl Value {
    /// The secret. Whoever takes it puts it into a request, and nowhere else.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self(Arc::new(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value")
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn source(from: CredentialSource, ttl: Duration) -> Source {
        Source {
            from,
            ttl,
            deadline: Duration::from_millis(300),
            kept: Mutex::new(None),
        }
    }

    async fn read(from: CredentialSource) -> Result<String, String> {
        let value = source(from, Duration::ZERO).value().await;
        value
            .map(|v| v.reveal().to_owned())
            .map_err(|e| e.to_string())
    }

    fn words(text: &str) -> CredentialSource {
        CredentialSource::Command(text.split(' ').map(str::to_owned).collect())
    }

    #[tokio::test]
    async fn a08_a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "s3cret-value\n").unwrap();
        for (mode, expected) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let got = read(CredentialSource::File(path.clone())).await;
            assert_eq!(
                got == Ok("s3cret-value".into()),
                expected,
                "{mode:o} {got:?}"
            );
        }
        let folder = CredentialSource::File(folder.path().to_owned());
        assert!(read(folder).await.is_err());
        let missing = CredentialSource::File("/nonexistent/token".into());
        assert!(read(missing).await.unwrap_err().contains("cannot be read"));
    }

    #[tokio::test]
    async fn what_a_program_prints_is_bounded_and_must_be_its_success() {
        assert_eq!(
            read(words("echo s3cret-value")).await,
            Ok("s3cret-value".into())
        );
        for refused in [
            "false",
            "true",
            "/nonexistent/program",
            "head -c 70000 /dev/zero",
        ] {
            assert!(read(words(refused)).await.is_err(), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_given_up() {
        let error = read(words("sleep 600")).await.unwrap_err();
        assert!(error.contains("did not print it"), "{error}");
    }

    #[tokio::test]
    async fn a_value_is_kept_for_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let write = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("first");
        let kept = source(
            CredentialSource::File(path.clone()),
            Duration::from_secs(3_600),
        );
        let fresh = source(CredentialSource::File(path.clone()), Duration::ZERO);
        for source in [&kept, &fresh] {
            assert_eq!(source.value().await.unwrap().reveal(), "first");
        }
        write("second");
        assert_eq!(kept.value().await.unwrap().reveal(), "first");
        assert_eq!(fresh.value().await.unwrap().reveal(), "second");
    }

    #[test]
    fn a08_no_debug_print_shows_a_value() {
        let source = source(CredentialSource::Env("A".into()), Duration::ZERO);
        let value = Value::of("s3cret-value");
        assert!(!format!("{value:?} {source:?}").contains("s3cret"));
    }
}
