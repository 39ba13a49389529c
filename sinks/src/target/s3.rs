//! Objects in an S3-compatible store: `PREFIX/ORIGIN/FIRST-LAST.jsonl`, one for each batch.

use std::time::{Duration, SystemTime};

use cordon_audit::export::Source;
use cordon_session::config::{S3Sink, SinkFormat};
use hyper::Method;

use super::{Failure, secret};
use crate::{
    feed::{Entry, lines},
    http::Endpoint,
    sigv4::{Credentials, Request, encode_path},
};

/// A bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    endpoint: Endpoint,
    bucket: String,
    prefix: String,
    credentials: Credentials,
    format: SinkFormat,
}

/// An object a second would be dear; what is written waits this long for company.
const PATIENCE: Duration = Duration::from_secs(10);

impl S3 {
    pub(super) fn new(config: &S3Sink) -> Result<Self, String> {
        let text = secret(&config.credentials_file)?;
        let mut lines = text.lines().map(str::trim);
        let (Some(id), Some(key)) = (lines.next(), lines.next()) else {
            return Err(format!(
                "`{}` does not hold an access key id and a secret access key, one a line",
                config.credentials_file.display()
            ));
        };
        Ok(Self {
            endpoint: Endpoint::parse(&config.endpoint, config.ca.as_deref())?,
            bucket: config.bucket.clone(),
            prefix: config.prefix.trim_matches('/').into(),
            credentials: Credentials::new(id, key, &config.region),
            format: config.format,
        })
    }

    pub(super) fn patience(&self) -> Duration {
        PATIENCE
    }

    pub(super) async fn deliver(
        &mut self,
        entries: &[Entry],
        source: &Source,
    ) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let body = lines(entries, self.format, source);
        let (prefix, origin) = (&self.prefix, source.origin.replace('/', "-"));
        let end = match self.format {
            SinkFormat::Cef => "cef",
            SinkFormat::Jsonl | SinkFormat::Ocsf | SinkFormat::Ecs => "jsonl",
        };
        let key = format!("{prefix}/{origin}/{:020}-{:020}.{end}", first.seq, last.seq);
        let path = encode_path(&format!("/{}/{key}", self.bucket));
        let full = format!("{}{path}", self.endpoint.base);
        let headers = self.credentials.sign(
            &Request {
                method: "PUT",
                host: &self.endpoint.authority,
                path: &full,
                body: &body,
            },
            SystemTime::now(),
        );
        let headers: Vec<(&str, String)> = headers.iter().map(|(n, v)| (*n, v.clone())).collect();
        let answer = self
            .endpoint
            .send(Method::PUT, &path, &headers, body)
            .await?;
        // What is wrong with an object's request is wrong with all of them: none is passed over.
        answer
            .accepted(&self.endpoint.authority)
            .map(|_| ())
            .map_err(|failure| match failure {
                Failure::Refused(why) | Failure::Retry(why) => Failure::Retry(why),
            })
    }
}
