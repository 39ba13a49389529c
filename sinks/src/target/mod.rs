//! The receivers: each takes a batch whole, or says why not.

mod file;
pub(crate) mod otlp;
mod s3;
mod syslog;
mod webhook;

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use cordon_audit::export::Source;
use cordon_session::config::{SinkConfig, SinkTarget};

use crate::{SinkError, feed::Entry};
use file::File;
use otlp::Otlp;
use s3::S3;
use syslog::Syslog;
use webhook::Webhook;

/// A receiver, ready for records.
#[derive(Debug)]
pub(crate) enum Target {
    File(File),
    Otlp(Otlp),
    Syslog(Syslog),
    Webhook(Webhook),
    S3(S3),
}

/// Why a batch was not delivered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may be taken later.
    Retry(String),
    /// It will never be taken.
    Refused(String),
}

impl Target {
    pub(crate) fn new(config: &SinkConfig) -> Result<Self, SinkError> {
        let made = match &config.target {
            SinkTarget::File(file) => File::new(file).map(Self::File),
            SinkTarget::Otlp(otlp) => Otlp::new(otlp).map(Self::Otlp),
            SinkTarget::Syslog(syslog) => Syslog::new(syslog).map(Self::Syslog),
            SinkTarget::Webhook(webhook) => Webhook::new(webhook).map(Self::Webhook),
            SinkTarget::S3(s3) => S3::new(s3).map(Self::S3),
        };
        made.map_err(|why| SinkError::new(&config.name, &why))
    }

    /// Delivers all of `entries`: when it returns, the receiver has them.
    pub(crate) async fn deliver(
        &mut self,
        entries: &[Entry],
        source: &Source,
    ) -> Result<(), Failure> {
        match self {
            Self::File(file) => file.deliver(entries, source),
            Self::Otlp(otlp) => otlp.deliver(entries, source).await,
            Self::Syslog(syslog) => syslog.deliver(entries, source).await,
            Self::Webhook(webhook) => webhook.deliver(entries, source).await,
            Self::S3(s3) => s3.deliver(entries, source).await,
        }
    }

    /// Delivers a signed checkpoint, where the receiver takes such a thing.
    pub(crate) async fn deliver_note(
        &mut self,
        note: &str,
        source: &Source,
    ) -> Result<(), Failure> {
        match self {
            Self::Otlp(otlp) => otlp.deliver_note(note, source).await,
            Self::Syslog(syslog) => syslog.deliver_note(note, source).await,
            Self::File(_) | Self::Webhook(_) | Self::S3(_) => Err(Failure::Refused(
                "this kind of sink takes no checkpoints".into(),
            )),
        }
    }

    /// Most records at a time.
    pub(crate) fn batch(&self) -> usize {
        match self {
            Self::S3(_) => 8192,
            Self::File(_) | Self::Otlp(_) | Self::Syslog(_) | Self::Webhook(_) => 512,
        }
    }

    /// How long to wait for a fuller batch.
    pub(crate) fn patience(&self) -> Duration {
        match self {
            Self::S3(s3) => s3.patience(),
            Self::File(_) | Self::Otlp(_) | Self::Syslog(_) | Self::Webhook(_) => Duration::ZERO,
        }
    }

    /// The same, for a range that was delivered before: of its own, where the receiver is a file.
    pub(crate) fn for_backfill(self, from: u64, to: u64) -> Self {
        match self {
            Self::File(file) => Self::File(file.for_backfill(from, to)),
            other => other,
        }
    }
}

/// Reads a file with a secret: small, and nobody else's to read.
fn secret(path: &Path) -> Result<String, String> {
    let fail = |what: String| format!("`{}` {what}", path.display());
    let metadata = fs::metadata(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(fail("can be read by other users: `chmod 600` it".into()));
    }
    if metadata.len() > 64 * 1024 {
        return Err(fail("is larger than a secret".into()));
    }
    fs::read_to_string(path).map_err(|error| fail(format!("cannot be read: {error}")))
}
