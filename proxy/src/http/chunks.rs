//! Follows a body in chunks to its end, by the letter of RFC 9112 section 7.1.
//!
//! Bytes in, how many of them belong to the body out. Never keeps more than one line.

use super::head;
use crate::{http::normalize::Problem, limits, refuse::Fault};

/// Where in the body the next byte belongs.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// In the line with the size of a chunk.
    #[default]
    Size,
    /// In its data; so many bytes are left.
    Data(u64),
    /// In the line end behind the data.
    DataEnd,
    /// In the trailer section.
    Trailers,
    /// Behind the last byte.
    Done,
}

impl Chunks {
    /// Takes bytes until the body ends; how many it took, and whether it ended.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Problem> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            taken += match self.state {
                State::Done => break,
                State::Data(left) => self.data(left, rest.len()),
                State::Size | State::DataEnd | State::Trailers => self.byte(rest)?,
            };
        }
        Ok((taken, matches!(self.state, State::Done)))
    }

    fn data(&mut self, left: u64, there: usize) -> usize {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        let after = left.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
        self.state = if after == 0 {
            State::DataEnd
        } else {
            State::Data(after)
        };
        take
    }

    /// Takes what is there of a line.
    fn byte(&mut self, rest: &[u8]) -> Result<usize, Problem> {
        let longest = match self.state {
            State::Trailers => limits::HEAD_BYTES,
            _ => limits::CHUNK_LINE_BYTES,
        };
        let end = memchr::memchr(b'\n', rest);
        let take = end.map_or(rest.len(), |end| end + 1);
        if self.line.len() + take > longest {
            return Err(Problem::malformed(format!(
                "a line of a chunked body is longer than {longest} bytes"
            )));
        }
        self.line
            .extend_from_slice(rest.get(..take).unwrap_or_default());
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r\n").ok_or_else(bare)?;
            if line.contains(&b'\r') {
                return Err(bare());
            }
            self.line_is(line)?;
        }
        Ok(take)
    }

    fn line_is(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.state = match self.state {
            State::Size => match size(line)? {
                0 => State::Trailers,
                size => State::Data(size),
            },
            State::DataEnd if line.is_empty() => State::Size,
            State::DataEnd => {
                return Err(Problem::malformed("a chunk is longer than its size says"));
            }
            State::Trailers if line.is_empty() => State::Done,
            State::Trailers => {
                self.trailers += 1;
                trailer(line, self.trailers)?;
                State::Trailers
            }
            state @ (State::Data(_) | State::Done) => state,
        };
        Ok(())
    }
}

/// One to 15 hexadecimal digits, then nothing or an extension.
fn size(line: &[u8]) -> Result<u64, Problem> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, rest) = line.split_at_checked(digits).unwrap_or((line, b""));
    let extension = rest.is_empty() || rest.first() == Some(&b';');
    let clean = rest
        .iter()
        .all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    if digits.is_empty() || digits.len() > 15 || !extension || !clean {
        return Err(Problem::malformed(
            "the size of a chunk is not a hexadecimal number",
        ));
    }
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(text, 16)
        .map_err(|_overflow| Problem::malformed("the size of a chunk is not a number"))
}

/// Source: RFC 9110 section 6.5.1: nothing that frames, routes or authenticates.
fn trailer(line: &[u8], count: usize) -> Result<(), Problem> {
    if count > limits::HEAD_FIELDS {
        let text = format!("more than {} trailer fields", limits::HEAD_FIELDS);
        return Err(Problem::new(Fault::HeadTooLarge, text));
    }
    let (name, _value) = head::field(line)?;
    let forbidden = NEVER_TRAILERS
        .iter()
        .find(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()));
    match forbidden {
        Some(name) => Err(Problem::malformed(format!(
            "`{name}` as a trailer; it belongs into the head"
        ))),
        None => Ok(()),
    }
}

const NEVER_TRAILERS: [&str; 17] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "max-forwards",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-cordon-decision",
];

fn bare() -> Problem {
    Problem::malformed("a line does not end with CR LF")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_followed_to_its_end_however_it_is_cut() {
        let body =
            b"5;a=b\r\nhello\r\n1f\r\n0123456789012345678901234567890\r\n0\r\nx-sum: 1\r\n\r\nGET";
        for cut in 1..=body.len() {
            let mut chunks = Chunks::default();
            let (mut taken, mut done) = (0, false);
            for part in body.chunks(cut) {
                let (more, ended) = chunks.take(part).unwrap();
                taken += more;
                done = ended;
                if done {
                    break;
                }
            }
            assert!(done, "cut {cut}");
            assert_eq!(taken, body.len() - 3, "cut {cut}");
        }
    }

    #[test]
    fn n22_what_is_no_chunk_is_refused() {
        let table: [&[u8]; 14] = [
            b"\r\n",
            b"x\r\n",
            b"0x5\r\n",
            b"+5\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"5\n",
            b"5;\x00\r\n",
            b"1234567890123456\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"0\r\ncontent-length: 5\r\n",
            b"0\r\n folded\r\n",
            b"0\r\nno colon\r\n",
        ];
        for bytes in table {
            let refused = Chunks::default().take(bytes);
            assert!(refused.is_err(), "{}", bytes.escape_ascii());
        }
    }
}
