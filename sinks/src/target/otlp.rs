//! OTLP/HTTP logs as JSON. Source: the OTLP specification, section OTLP/HTTP.

use std::path::Path;

use cordon_audit::{Record, export, export::Source};
use cordon_session::config::OtlpSink;
use hyper::Method;
use serde_json::{Value, json};

use super::{Failure, secret};
use crate::{feed::Entry, http::Endpoint};

/// A collector.
#[derive(Debug)]
pub(crate) struct Otlp {
    endpoint: Endpoint,
    headers: Headers,
}

/// Headers with secrets; never shown.
struct Headers(Vec<(String, String)>);

impl Otlp {
    pub(super) fn new(config: &OtlpSink) -> Result<Self, String> {
        let headers = config.headers_file.as_deref().map(headers).transpose()?;
        Ok(Self {
            endpoint: Endpoint::parse(&config.url, config.ca.as_deref())?,
            headers: Headers(headers.unwrap_or_default()),
        })
    }

    pub(super) async fn deliver(
        &mut self,
        entries: &[Entry],
        source: &Source,
    ) -> Result<(), Failure> {
        let records: Vec<Record> = entries
            .iter()
            .filter_map(|entry| entry.record.clone())
            .collect();
        self.post(&export::otlp_request(&records, source)).await
    }

    pub(super) async fn deliver_note(
        &mut self,
        note: &str,
        source: &Source,
    ) -> Result<(), Failure> {
        let mut request = export::otlp_request(&[], source);
        if let Some(records) = request.pointer_mut("/resourceLogs/0/scopeLogs/0/logRecords") {
            *records = json!([{
                "severityNumber": 9,
                "severityText": "INFO",
                "eventName": "cordon.log.checkpoint",
                "body": {"stringValue": note},
            }]);
        }
        self.post(&request).await
    }

    async fn post(&mut self, request: &Value) -> Result<(), Failure> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        for (name, value) in &self.headers.0 {
            headers.push((name, value.clone()));
        }
        let body =
            serde_json::to_vec(request).map_err(|error| Failure::Retry(error.to_string()))?;
        let answer = self.endpoint.send(Method::POST, "", &headers, body).await?;
        let answer = answer.accepted(&self.endpoint.authority)?;
        // A collector that took some says how many it did not.
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let rejected = said.pointer("/partialSuccess/rejectedLogRecords");
        let rejected = match rejected {
            Some(Value::String(text)) => text.parse().unwrap_or(0),
            Some(number) => number.as_u64().unwrap_or(0),
            None => 0,
        };
        if rejected > 0 {
            return Err(Failure::Refused(format!(
                "`{}` rejected {rejected} of the records",
                self.endpoint.authority
            )));
        }
        Ok(())
    }
}

/// Reads a file with one header a line.
pub(crate) fn headers(path: &Path) -> Result<Vec<(String, String)>, String> {
    let text = secret(path)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    let headers = lines.map(header).collect::<Option<_>>();
    headers.ok_or_else(|| {
        format!(
            "a line of `{}` is no header (`Name: value`)",
            path.display()
        )
    })
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} headers", self.0.len())
    }
}
