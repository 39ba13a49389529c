//! `[[sinks]]` and `[log.checkpoints]`: where records and checkpoints are delivered.
//!
//! ```toml
//! [[sinks]]
//! name = "siem"
//! type = "syslog"                        # file, otlp, syslog, webhook, s3
//! address = "siem.example.com:6514"
//! format = "cef"                         # jsonl (default), ocsf, ecs, cef
//!
//! [log.checkpoints]
//! directory = "/mnt/worm/checkpoints"
//! witness = "https://witness.example.com/cordon"
//! ```

use std::path::PathBuf;

use serde::Deserialize;

/// `[[sinks]]`: one receiver of every record, allows like denies, at least once and in order.
#[derive(Clone, Debug, Deserialize)]
pub struct SinkConfig {
    /// Its own name: `a-z`, `0-9`, `-`, at most 32 characters. Its cursor is kept under it.
    pub name: String,
    /// What it is. It refuses the keys that are not its own.
    #[serde(flatten)]
    pub target: SinkTarget,
}

/// What a sink is.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SinkTarget {
    /// Files with one JSON object a line, rotated.
    File(FileSink),
    /// OTLP/HTTP logs as JSON.
    Otlp(OtlpSink),
    /// Syslog (RFC 5424) over TCP or TLS.
    Syslog(SyslogSink),
    /// HTTP POST of JSON lines, with an HMAC.
    Webhook(WebhookSink),
    /// Objects in an S3-compatible store.
    S3(S3Sink),
}

/// The form of a record in a sink.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum SinkFormat {
    /// The records exactly as they were hashed.
    #[default]
    Jsonl,
    /// OCSF 1.8.0.
    Ocsf,
    /// Elastic Common Schema.
    Ecs,
    /// ArcSight Common Event Format.
    Cef,
}

/// A file sink.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// The file that is written, for example `/var/log/cordon/records.jsonl`. Its directory exists.
    pub path: PathBuf,
    /// Form of the lines.
    #[serde(default)]
    pub format: SinkFormat,
    /// Size in bytes from which on a new file is begun. Default 64 MiB.
    #[serde(default = "rotate_bytes")]
    pub rotate_bytes: u64,
    /// How many full files are kept, as `path.1` (the newest) and so on. Default 8.
    #[serde(default = "keep_files")]
    pub keep_files: u32,
}

/// An OTLP sink.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpSink {
    /// For example `https://otel.example.com:4318/v1/logs`.
    pub url: String,
    /// File with one header a line (`Authorization: Bearer ...`), 0600.
    #[serde(default)]
    pub headers_file: Option<PathBuf>,
    /// PEM file of the certificates that are trusted instead of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// A syslog sink.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogSink {
    /// Host and port, for example `siem.example.com:6514`.
    pub address: String,
    /// TLS (RFC 5425). Default true; without it the records travel readable and unprotected.
    #[serde(default = "yes")]
    pub tls: bool,
    /// PEM file of the certificates that are trusted instead of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Form of the message.
    #[serde(default)]
    pub format: SinkFormat,
}

/// A webhook.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSink {
    /// For example `https://hooks.example.com/cordon`.
    pub url: String,
    /// File with the secret that HMAC-SHA256 is made with, at least 16 bytes, 0600.
    pub secret_file: PathBuf,
    /// PEM file of the certificates that are trusted instead of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Form of the lines.
    #[serde(default)]
    pub format: SinkFormat,
}

/// An object store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Sink {
    /// For example `https://s3.eu-central-1.amazonaws.com`; paths are `/bucket/key`.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// Region, for example `eu-central-1`.
    pub region: String,
    /// What the names of objects begin with. Default `cordon`.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// File with two lines, access key id and secret access key, 0600.
    pub credentials_file: PathBuf,
    /// PEM file of the certificates that are trusted instead of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Form of the lines.
    #[serde(default)]
    pub format: SinkFormat,
}

/// `[log.checkpoints]`: where signed checkpoints go, so that a log that is rolled back or replaced
/// as a whole is seen.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Least time between two checkpoints that leave, in seconds. Default 60.
    pub every_seconds: Option<u32>,
    /// A directory, best on another machine or on storage that cannot be overwritten; each
    /// checkpoint is a file of its own, named by its size.
    pub directory: Option<PathBuf>,
    /// An address that takes each checkpoint as a POST.
    pub url: Option<String>,
    /// Submission prefix of a C2SP witness; its cosignature is kept with the checkpoint.
    pub witness: Option<String>,
    /// Key of the witness (`name+id+key`); without it what it answers is not kept.
    pub witness_key: Option<String>,
    /// PEM file of the certificates that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// Names of sinks (`otlp`, `syslog`) that take each checkpoint too.
    pub sinks: Vec<String>,
}

impl CheckpointConfig {
    /// Whether checkpoints go anywhere.
    pub fn is_empty(&self) -> bool {
        let Self {
            directory,
            url,
            witness,
            sinks,
            ..
        } = self;
        directory.is_none() && url.is_none() && witness.is_none() && sinks.is_empty()
    }

    /// What it says of receivers stands beside them: a later file replaces all of it, or nothing.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self {
            every_seconds,
            witness_key,
            ca,
            ..
        } = self;
        let of_receivers = [
            ("every_seconds", every_seconds.is_some()),
            ("witness_key", witness_key.is_some()),
            ("ca", ca.is_some()),
        ];
        match of_receivers.into_iter().find(|(_, said)| *said) {
            Some((key, _)) if self.is_empty() => Err(format!(
                "`log.checkpoints.{key}` has no receiver beside it: say `directory`, `url`, \
                 `witness` or `sinks` in the same file"
            )),
            _ => Ok(()),
        }
    }
}

/// Checks what the types cannot: names, and what belongs together.
pub(super) fn check(sinks: &[SinkConfig], checkpoints: &CheckpointConfig) -> Result<(), String> {
    for (number, sink) in sinks.iter().enumerate() {
        let name = &sink.name;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
            return Err(format!(
                "the name {name:?} of a sink is not 1-32 characters of `a-z`, `0-9` and `-`"
            ));
        }
        if sinks.iter().take(number).any(|other| other.name == *name) {
            return Err(format!(
                "two sinks are named `{name}`; a cursor belongs to one"
            ));
        }
    }
    if checkpoints.witness.is_some() != checkpoints.witness_key.is_some() {
        return Err(
            "`witness` and `witness_key` of `log.checkpoints` belong together: name both".into(),
        );
    }
    for name in &checkpoints.sinks {
        let takes = |sink: &&SinkConfig| {
            sink.name == *name && matches!(sink.target, SinkTarget::Otlp(_) | SinkTarget::Syslog(_))
        };
        if sinks.iter().find(takes).is_none() {
            return Err(format!(
                "`log.checkpoints` names the sink `{name}`, and there is no `otlp` or `syslog` \
                 sink of that name"
            ));
        }
    }
    Ok(())
}

fn yes() -> bool {
    true
}

fn prefix() -> String {
    "cordon".into()
}

fn rotate_bytes() -> u64 {
    64 << 20
}

fn keep_files() -> u32 {
    8
}
