//! HTTP POST of JSON lines with an HMAC, so that the receiver knows who sent them.
//!
//! `X-Cordon-Signature: sha256=` and the hex HMAC-SHA256, with the secret, of
//! `X-Cordon-Timestamp` (seconds since the epoch), a full stop, and the body. Redeliveries carry
//! the same `Idempotency-Key`.

use std::time::{SystemTime, UNIX_EPOCH};

use cordon_audit::export::Source;
use cordon_session::config::{SinkFormat, WebhookSink};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::Method;
use sha2::Sha256;

use super::{Failure, secret};
use crate::{
    feed::{Entry, lines},
    http::Endpoint,
    sigv4::hex,
};

/// A webhook.
#[derive(Debug)]
pub(crate) struct Webhook {
    endpoint: Endpoint,
    key: Key,
    format: SinkFormat,
}

/// The secret; never shown.
struct Key(Vec<u8>);

impl Webhook {
    pub(super) fn new(config: &WebhookSink) -> Result<Self, String> {
        let key = secret(&config.secret_file)?.trim().as_bytes().to_vec();
        if key.len() < 16 {
            return Err(format!(
                "the secret in `{}` is shorter than 16 bytes: make one with `openssl rand -hex 32`",
                config.secret_file.display()
            ));
        }
        Ok(Self {
            endpoint: Endpoint::parse(&config.url, config.ca.as_deref())?,
            key: Key(key),
            format: config.format,
        })
    }

    pub(super) async fn deliver(
        &mut self,
        entries: &[Entry],
        source: &Source,
    ) -> Result<(), Failure> {
        let body = lines(entries, self.format, source);
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs()).to_string();
        let headers = [
            ("content-type", "application/x-ndjson".to_owned()),
            ("x-cordon-timestamp", now.clone()),
            (
                "x-cordon-signature",
                format!("sha256={}", self.sign(&now, &body)?),
            ),
            (
                "idempotency-key",
                format!("{}/{}-{}", source.origin, first.seq, last.seq),
            ),
        ];
        let answer = self.endpoint.send(Method::POST, "", &headers, body).await?;
        answer.accepted(&self.endpoint.authority).map(|_| ())
    }

    fn sign(&self, now: &str, body: &[u8]) -> Result<String, Failure> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0)
            .map_err(|error| Failure::Retry(error.to_string()))?;
        mac.update(now.as_bytes());
        mac.update(b".");
        mac.update(body);
        Ok(hex(&mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret")
    }
}
