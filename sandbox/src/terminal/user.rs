//! The user's terminal, while a session's own terminal stands between it and the command.
//!
//! *Attached* means: we are in its foreground, it is raw, and keys go to the session. Otherwise
//! it is left as the shell has it, keys are not read, and the command is behind its own terminal's
//! foreground, so that it stops when it wants to read.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    termios::{OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};

use super::{End, Pump, set_nonblocking};

/// The user's side and, once the sandbox has it, the session's. Restored when dropped.
#[derive(Debug)]
pub(crate) struct UserTerminal {
    tty: OwnedFd,
    /// Its settings from before we made it raw; there only while it is.
    before: Option<Termios>,
    /// Whether the command reads the terminal as far as we know.
    pub(crate) wanted: bool,
    session: Option<SessionSide>,
}

#[derive(Debug)]
struct SessionSide {
    controller: OwnedFd,
    output: Pump,
    /// None once no key goes to the session any more.
    keyboard: Option<Pump>,
    /// Whether it has the user's settings yet.
    set_up: bool,
}

impl UserTerminal {
    /// The terminal among these three streams, if there is one.
    pub(super) fn among(streams: [Option<BorrowedFd<'_>>; 3]) -> io::Result<Option<Self>> {
        let [stdin, stdout, stderr] = streams;
        let Some(tty) = stdin.or(stdout).or(stderr) else {
            return Ok(None);
        };
        Ok(Some(Self {
            tty: open_anew(tty)?,
            before: None,
            // In a pipeline the terminal may belong to another member of it; the command gets it
            // when it asks.
            wanted: stdin.is_some() && stdout.is_some(),
            session: None,
        }))
    }

    /// Connects the session's terminal, by its controlling end.
    pub(crate) fn connect(&mut self, controller: OwnedFd) -> io::Result<()> {
        set_nonblocking(&controller)?;
        let end = |descriptor: &OwnedFd| descriptor.try_clone().map(End::File);
        self.session = Some(SessionSide {
            output: Pump::new(end(&controller)?, end(&self.tty)?),
            keyboard: Some(Pump::new(end(&self.tty)?, end(&controller)?)),
            controller,
            set_up: false,
        });
        self.set_output_mode();
        self.resize();
        Ok(())
    }

    /// Takes the terminal if we are in its foreground and the command wants it. True if so.
    pub(crate) fn attach(&mut self) -> bool {
        if !self.wanted || !self.is_foreground() {
            // Whoever is in the foreground has set it as they like; nothing to restore.
            self.before = None;
            self.set_output_mode();
            return false;
        }
        let Ok(current) = tcgetattr(&self.tty) else {
            return false;
        };
        if let Some(session) = self.session.as_mut().filter(|session| !session.set_up) {
            session.set_up = tcsetattr(&session.controller, OptionalActions::Now, &current).is_ok();
        }
        let mut raw = current.clone();
        raw.make_raw();
        if tcsetattr(&self.tty, OptionalActions::Now, &raw).is_err() {
            return false;
        }
        self.before.get_or_insert(current);
        self.set_output_mode();
        self.resize();
        true
    }

    /// Gives the terminal back as it was.
    pub(crate) fn detach(&mut self) {
        if let Some(before) = self.before.take()
            && self.is_foreground()
        {
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(&self.tty, OptionalActions::Now, &before);
        }
        self.set_output_mode();
    }

    /// Makes the session's terminal as large as the user's.
    pub(crate) fn resize(&self) {
        if let Some(session) = &self.session
            && let Ok(size) = rustix::termios::tcgetwinsize(&self.tty)
        {
            // The size is a courtesy; a program asks again when it matters.
            let _ = rustix::termios::tcsetwinsize(&session.controller, size);
        }
    }

    /// Tells a reader inside that no key will ever come.
    pub(crate) fn end_input(&self) {
        if let Some(session) = &self.session {
            let end = tcgetattr(&session.controller)
                .map_or(CONTROL_D, |set| set.special_codes[SpecialCodeIndex::VEOF]);
            // A full queue has unread input in front of the end; then reading does not wait.
            let _ = rustix::io::write(&session.controller, &[end]);
        }
    }

    /// Leaves what is typed from now on to whoever reads the terminal next.
    pub(crate) fn end_keyboard(&mut self) {
        if let Some(session) = &mut self.session {
            session.keyboard = None;
        }
    }

    /// The two directions, if there is something to carry now.
    pub(crate) fn pumps_mut(&mut self) -> [Option<&mut Pump>; 2] {
        let attached = self.before.is_some();
        match &mut self.session {
            Some(session) => [
                Some(&mut session.output),
                session.keyboard.as_mut().filter(|_| attached),
            ],
            None => [None, None],
        }
    }

    /// The same, for looking at.
    pub(crate) fn pumps(&self) -> [Option<&Pump>; 2] {
        let attached = self.before.is_some();
        match &self.session {
            Some(session) => [
                Some(&session.output),
                session.keyboard.as_ref().filter(|_| attached),
            ],
            None => [None, None],
        }
    }

    /// A terminal that is not our controlling one has no foreground to be in: ours then.
    fn is_foreground(&self) -> bool {
        match rustix::termios::tcgetpgrp(&self.tty) {
            Ok(group) => group == rustix::process::getpgrp(),
            Err(Errno::NOTTY) => true,
            Err(_) => false,
        }
    }

    /// A terminal that is not raw ends lines itself.
    fn set_output_mode(&mut self) {
        let cooked = self.before.is_none();
        if let Some(session) = &mut self.session {
            session.output.strip_returns(cooked);
        }
    }
}

impl Drop for UserTerminal {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Opens the terminal a second time, so that it can be non-blocking for us without being so for
/// everyone who shares it. Where that is refused (after `su`), the shared one must do.
fn open_anew(tty: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", tty.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(own) => Ok(own),
        Err(_) => Ok(rustix::io::fcntl_dupfd_cloexec(tty.as_fd(), 3)?),
    }
}

const CONTROL_D: u8 = 4;
