//! Syslog (RFC 5424) over TCP with octet counting (RFC 6587), or TLS (RFC 5425).
//!
//! Syslog acknowledges nothing. So each batch has a connection of its own, whose end the receiver
//! confirms by closing it: then it has read everything.

use cordon_audit::{Record, escape, export::Source, record::Effect, rfc3339};
use cordon_session::config::{SinkFormat, SyslogSink};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::Failure;
use crate::{feed::Entry, net::Peer, runner::DEADLINE};

/// A receiver.
#[derive(Debug)]
pub(crate) struct Syslog {
    peer: Peer,
    format: SinkFormat,
}

/// Facility 13, log audit.
const FACILITY: u32 = 13;

impl Syslog {
    pub(super) fn new(config: &SyslogSink) -> Result<Self, String> {
        Ok(Self {
            peer: Peer::parse(&config.address, config.tls, config.ca.as_deref())?,
            format: config.format,
        })
    }

    pub(super) async fn deliver(&self, entries: &[Entry], source: &Source) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for entry in entries {
            let mut line = entry.line(self.format, source);
            line.pop();
            frame(&message(entry, &line, source), &mut bytes);
        }
        self.send(&bytes).await
    }

    pub(super) async fn deliver_note(&self, note: &str, source: &Source) -> Result<(), Failure> {
        let mut message = head(6, "-", "checkpoint", source).into_bytes();
        // A checkpoint in one line, as its JSON string.
        message.extend_from_slice(b"- ");
        message.extend(serde_json::to_vec(note).map_err(|e| Failure::Retry(e.to_string()))?);
        let mut bytes = Vec::new();
        frame(&message, &mut bytes);
        self.send(&bytes).await
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        let address = format!("`{}:{}`", self.peer.host, self.peer.port);
        let exchange = async {
            let mut stream = self.peer.connect().await?;
            stream.write_all(bytes).await?;
            stream.flush().await?;
            stream.shutdown().await?;
            let mut rest = [0; 512];
            // A receiver that ends without a TLS farewell has ended all the same.
            while stream.read(&mut rest).await.unwrap_or(0) > 0 {}
            Ok::<_, std::io::Error>(())
        };
        match timeout(DEADLINE, exchange).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Retry(format!("{address}: {error}"))),
            Err(_late) => Err(Failure::Retry(format!(
                "{address} did not take the records in time"
            ))),
        }
    }
}

/// One message: header, structured data, and the record.
fn message(entry: &Entry, line: &[u8], source: &Source) -> Vec<u8> {
    let (severity, time, id, data) = match &entry.record {
        None => (5, "-".into(), "record", String::new()),
        Some(record) => (
            severity(record),
            rfc3339(record.ts_us),
            record.kind.as_str(),
            data(record),
        ),
    };
    let mut message = head(severity, &time, id, source).into_bytes();
    message.extend_from_slice(format!("[cordon@32473 seq=\"{}\"{data}] ", entry.seq).as_bytes());
    message.extend_from_slice(line);
    message
}

/// Everything before the structured data. Source: RFC 5424 section 6.2.
fn head(severity: u32, time: &str, id: &str, source: &Source) -> String {
    format!(
        "<{}>1 {time} {} cordon {} {} ",
        FACILITY * 8 + severity,
        word(&source.host, 255),
        std::process::id(),
        word(id, 32)
    )
}

fn data(record: &Record) -> String {
    let fields = [
        ("id", Some(record.id.to_string())),
        ("session", record.session.clone()),
        ("action", record.action.clone()),
        ("effect", record.effect.map(|effect| effect.as_str().into())),
        ("reason", record.reason.clone()),
    ];
    fields
        .into_iter()
        .filter_map(|(name, text)| Some(format!(" {name}=\"{}\"", value(&text?))))
        .collect()
}

fn severity(record: &Record) -> u32 {
    match record.effect {
        Some(Effect::Allow) => 6,
        Some(Effect::Deny | Effect::Ask) => 4,
        Some(Effect::Error) => 3,
        None if record.lost.is_some() => 2,
        None => 6,
    }
}

/// A value of structured data: `"`, `\` and `]` escaped, nothing that acts on a terminal.
fn value(text: &str) -> String {
    let shown = escape(text).to_string();
    shown
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace(']', "\\]")
}

/// A word of the header: printable ASCII, or `-`.
fn word(text: &str, limit: usize) -> String {
    let word: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(limit)
        .collect();
    if word.is_empty() { "-".into() } else { word }
}

/// Length in decimal, a space, the message. Source: RFC 6587 section 3.4.1.
fn frame(message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{} ", message.len()).as_bytes());
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a06_hostile_text_stays_within_its_value_and_its_line() {
        let shown = value("a\"] <1>1\n\u{1b}[2J\\");
        assert_eq!(shown, "a\\\"\\] <1>1\\\\n\\\\u{1b}[2J\\\\\\\\");
        assert_eq!(word("ho st\n\u{7f}\u{e4}", 255), "host");
        assert_eq!(word("\n", 9), "-");
    }

    #[test]
    fn frames_count_octets() {
        let mut out = Vec::new();
        frame("gr\u{fc}n".as_bytes(), &mut out);
        assert_eq!(out, "5 gr\u{fc}n".as_bytes());
    }
}
