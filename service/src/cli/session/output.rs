//! `cordon session logs --output`: what the command of a session said that the API started.

use std::{
    io::{self, ErrorKind, IsTerminal as _, Write},
    time::Duration,
};

use cordon_audit::{escape_json, escape_lines};
use hyper::Method;
use serde_json::Value;

use crate::{
    cli::{Format, api},
    error::Failure,
};

/// Prints it, standard error of the command to standard error; with `follow` until it is over.
pub fn output(session: &str, follow: bool, format: Format) -> Result<u8, Failure> {
    // Of one that is over the whole id is needed: only running ones are looked for.
    let id = api::session(session).unwrap_or_else(|_over| session.to_owned());
    if !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(Failure::new("name one session by its id").usage());
    }
    let wait = if follow { WAIT } else { Duration::ZERO };
    let mut after = 0;
    loop {
        let path = format!(
            "/v1/sessions/{id}/output?after={after}&limit=1048576&wait={}",
            wait.as_secs()
        );
        let reply = api::ask(&Method::GET, &path, Vec::new(), wait + DEADLINE)?;
        if reply.status != 200 {
            return Err(reply.failure());
        }
        let said = reply.body.get("said").and_then(Value::as_array).cloned();
        let said = said.unwrap_or_default();
        for one in &said {
            match print(one, format) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(0),
                printed => printed?,
            }
        }
        let is_last = said.is_empty() && !follow;
        if is_last || reply.body.get("over") == Some(&Value::Bool(true)) {
            return Ok(0);
        }
        let next = reply.body.get("next").and_then(Value::as_u64);
        after = next.unwrap_or(after);
    }
}

fn print(said: &Value, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if format == Format::Json {
        return writeln!(out, "{}", escape_json(&said.to_string()));
    }
    let text = said.get("text").and_then(Value::as_str).unwrap_or_default();
    if said.get("stream").and_then(Value::as_str) == Some("stderr") {
        let mut err = io::stderr().lock();
        return err.write_all(shown(text, err.is_terminal()).as_bytes());
    }
    let shown = shown(text, out.is_terminal());
    out.write_all(shown.as_bytes())?;
    out.flush()
}

/// A terminal is not told what to do by a command that somebody else ran.
fn shown(text: &str, terminal: bool) -> String {
    if terminal {
        // What a terminal makes of the end of a line is its own business.
        escape_lines(&text.replace("\r\n", "\n")).to_string()
    } else {
        text.to_owned()
    }
}

/// How long the daemon waits for more at a time.
const WAIT: Duration = Duration::from_secs(60);

/// Beside that.
const DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a06_a_terminal_gets_no_escapes() {
        let text = "a\t\u{1b}[31mred\r\n\u{9b}1m\u{202e}x\rC:\\";
        assert_eq!(
            shown(text, true),
            "a\t\\u{1b}[31mred\n\\u{9b}1m\\u{202e}x\\rC:\\"
        );
        assert_eq!(shown(text, false), text);
    }
}
