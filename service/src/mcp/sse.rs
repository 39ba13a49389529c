//! Server-sent events: bytes as they come in, whole events out, bounded.
//!
//! Source: HTML Standard, "Server-sent events", "Interpreting an event stream".

use super::SERVER_LINE_BYTES;

/// One event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Event {
    /// What it says; line breaks are spaces, because what it says is JSON.
    pub data: Vec<u8>,
    /// Its id, where it has one.
    pub id: Option<String>,
}

/// A stream that is being read.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    after_return: bool,
    event: Event,
    is_message: bool,
    has_data: bool,
}

impl Events {
    /// Takes further bytes; gives the events that they complete.
    ///
    /// # Errors
    /// In words: an event is longer than any message may be.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        for byte in bytes {
            let follows = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if follows => {}
                b'\n' | b'\r' => events.extend(self.end_of_line()),
                _other => self.line.push(*byte),
            }
            if self.line.len() + self.event.data.len() > SERVER_LINE_BYTES {
                return Err(format!("a message has more than {SERVER_LINE_BYTES} bytes"));
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let is_message = std::mem::replace(&mut self.is_message, true);
            return (std::mem::take(&mut self.has_data) && is_message).then_some(event);
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => {
                let (name, value) = line.split_at(at);
                let value = value.get(1..).unwrap_or_default();
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line.as_slice(), [].as_slice()),
        };
        match name {
            b"data" => {
                if self.has_data {
                    self.event.data.push(b' ');
                }
                self.has_data = true;
                self.event.data.extend_from_slice(value);
            }
            b"event" => self.is_message = value.is_empty() || value == b"message",
            b"id" if value.len() <= LONGEST_ID => {
                let plain = value.iter().all(|byte| byte.is_ascii_graphic());
                let id = String::from_utf8_lossy(value);
                self.event.id = (plain && !value.is_empty()).then(|| id.into_owned());
            }
            // How long to wait is not the server's to say; the rest is nobody's.
            _other => {}
        }
        None
    }

    /// For a new stream.
    pub fn new() -> Self {
        Self {
            is_message: true,
            ..Self::default()
        }
    }
}

/// Longest id of an event, in bytes: it goes into a field.
const LONGEST_ID: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&str]) -> Vec<(String, Option<String>)> {
        let mut events = Events::new();
        let mut found = Vec::new();
        for chunk in chunks {
            let done = events.feed(chunk.as_bytes()).unwrap();
            found.extend(
                done.into_iter()
                    .map(|one| (String::from_utf8(one.data).unwrap(), one.id)),
            );
        }
        found
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": hello\r\nid: 7\r\nevent: message\r\ndata: {\"a\":\r\ndata:1}\r\n\r\nevent: other\ndata: x\n\ndata: {}\rid: a b\r\rdata: cut";
        let expected = [
            ("{\"a\": 1}".to_owned(), Some("7".to_owned())),
            ("{}".to_owned(), None),
        ];
        assert_eq!(all(&[text]), expected);
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(all(&bytes), expected);
        assert_eq!(
            all(&["\n\n", "id: 1\n\n", "data\n\n"]),
            [(String::new(), None)]
        );
    }

    #[test]
    fn an_event_that_never_ends_is_refused() {
        let mut events = Events::new();
        let part = [b'x'; 64 * 1024];
        let mut whole = (0..).map(|_| events.feed(&part));
        assert!(whole.any(|fed| fed.is_err()));
        let mut events = Events::new();
        let mut lines = (0..).map(|_| events.feed(b"data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"));
        assert!(lines.any(|fed| fed.is_err()));
    }
}
