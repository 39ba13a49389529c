//! Carries bytes one way between two descriptors without ever waiting for either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    event::PollFlags,
    io::Errno,
    net::{RecvFlags, SendFlags},
};

/// One direction. Over when its source ended and all of it is written, or its target is gone.
#[derive(Debug)]
pub(crate) struct Pump {
    from: Option<End>,
    to: Option<End>,
    held: Vec<u8>,
    /// Whether the target adds the carriage returns that the source has added already.
    strip_returns: bool,
    held_return: bool,
}

/// What bytes come from or go to. A socket's open file may be shared with others, so it is never
/// set to non-blocking but asked not to wait each time.
#[derive(Debug)]
pub(crate) enum End {
    File(OwnedFd),
    Socket(OwnedFd),
}

impl Pump {
    pub(crate) fn new(from: End, to: End) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            held: Vec::new(),
            strip_returns: false,
            held_return: false,
        }
    }

    /// From here on, one carriage return before each line feed is left out, or not.
    pub(crate) fn strip_returns(&mut self, strip: bool) {
        self.strip_returns = strip;
    }

    /// What to poll for next; `None` when it is over.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let to = self.to.as_ref()?;
        if !self.held.is_empty() {
            return Some((to.as_fd(), PollFlags::OUT));
        }
        self.from.as_ref().map(|from| (from.as_fd(), PollFlags::IN))
    }

    /// Moves what can be moved now. What cannot be written any more is dropped with both ends, so
    /// that whoever wrote it learns.
    pub(crate) fn step(&mut self) {
        if self.held.is_empty() {
            self.fill();
        }
        while !self.held.is_empty() {
            match self.to.as_ref().map(|to| to.write(&self.held)) {
                Some(Ok(written)) => drop(self.held.drain(..written)),
                Some(Err(Errno::AGAIN)) => return,
                Some(Err(Errno::INTR)) => {}
                Some(Err(_)) | None => self.close(),
            }
        }
        if self.from.is_none() {
            self.to = None;
        }
    }

    fn fill(&mut self) {
        let mut buffer = [0; 64 * 1024];
        match self.from.as_ref().map(|from| from.read(&mut buffer)) {
            Some(Ok(count)) if count > 0 => {
                let bytes = buffer.get(..count).unwrap_or_default();
                if self.strip_returns || self.held_return {
                    self.hold_stripped(bytes);
                } else {
                    self.held.extend_from_slice(bytes);
                }
            }
            Some(Err(Errno::AGAIN | Errno::INTR)) => {}
            // The end; a terminal whose other end is closed says EIO instead.
            Some(_) | None => {
                self.from = None;
                if std::mem::take(&mut self.held_return) {
                    self.held.push(b'\r');
                }
            }
        }
    }

    fn hold_stripped(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if std::mem::take(&mut self.held_return) && *byte != b'\n' {
                self.held.push(b'\r');
            }
            if *byte == b'\r' && self.strip_returns {
                self.held_return = true;
            } else {
                self.held.push(*byte);
            }
        }
    }

    fn close(&mut self) {
        self.held.clear();
        self.from = None;
        self.to = None;
    }
}

impl End {
    fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::File(file) => rustix::io::read(file, buffer),
            Self::Socket(socket) => {
                rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(count, _whole)| count)
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::File(file) => rustix::io::write(file, bytes),
            Self::Socket(socket) => {
                rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::File(descriptor) | Self::Socket(descriptor) => descriptor.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use super::*;

    #[test]
    fn one_carriage_return_before_a_line_feed_is_left_out() {
        for (pieces, expected) in [
            (vec!["a\r\nb"], "a\nb"),
            (vec!["a\r", "\nb"], "a\nb"),
            (vec!["a\r\r\n"], "a\r\n"),
            (vec!["a\rb\r"], "a\rb\r"),
        ] {
            let (reader, mut writer) = io::pipe().unwrap();
            let (mut end, to) = io::pipe().unwrap();
            let mut pump = Pump::new(End::File(reader.into()), End::File(to.into()));
            pump.strip_returns(true);
            for piece in &pieces {
                writer.write_all(piece.as_bytes()).unwrap();
                pump.step();
            }
            drop(writer);
            pump.step();
            assert!(pump.interest().is_none());
            drop(pump);
            let mut got = String::new();
            end.read_to_string(&mut got).unwrap();
            assert_eq!(got, expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_target_that_is_gone_ends_it() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (end, to) = io::pipe().unwrap();
        let mut pump = Pump::new(End::File(reader.into()), End::File(to.into()));
        drop(end);
        writer.write_all(b"x").unwrap();
        pump.step();
        assert!(pump.interest().is_none());
        assert!(writer.write_all(b"x").is_err());
    }
}
