//! A terminal for a program: a pseudo-terminal, what it shows, and a way to type.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::chown},
    path::PathBuf,
    process::{Child, Command},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};

use rustix::{
    process::Pid,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

use crate::{World, process};

/// A program on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    master: Arc<OwnedFd>,
    slave: File,
    child: Child,
    shown: Arc<(Mutex<Screen>, Condvar)>,
}

#[derive(Debug, Default)]
struct Screen {
    bytes: Vec<u8>,
    read: usize,
    closed: bool,
}

impl Terminal {
    /// Starts `command` on a new terminal of 80 columns and 24 rows, as its session leader.
    #[track_caller]
    pub fn start(world: &World, command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("/dev/ptmx is there");
        grantpt(&master).expect("it is a terminal");
        unlockpt(&master).expect("it is a terminal");
        let path = ptsname(&master, Vec::new()).expect("it has a name");
        let path = PathBuf::from(path.to_string_lossy().into_owned());
        chown(&path, Some(world.account().uid), None).expect("it is ours");
        let slave = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .expect("it is ours");
        let master = Arc::new(master);
        let mut terminal = Self {
            child: on_terminal(command, &slave, world),
            shown: follow(&master),
            master,
            slave,
        };
        terminal.resize(80, 24);
        terminal.child.stdin = None;
        terminal
    }

    /// Types `text`.
    pub fn send(&self, text: &str) {
        File::from(self.master.try_clone().expect("descriptors are left"))
            .write_all(text.as_bytes())
            .expect("the terminal takes what is typed");
    }

    /// Waits until `text` is shown after what was waited for before, and returns all up to it.
    ///
    /// # Panics
    /// When it is not shown before the deadline or the terminal closes.
    #[track_caller]
    pub fn expect(&self, text: &str) -> String {
        let (screen, changed) = &*self.shown;
        let until = Instant::now() + process::DEADLINE;
        let mut screen = screen.lock().expect("no thread panics with it");
        loop {
            let unread = String::from_utf8_lossy(&screen.bytes[screen.read..]).into_owned();
            if let Some(at) = unread.find(text) {
                screen.read += at + text.len();
                return unread[..at].to_owned();
            }
            let left = until.saturating_duration_since(Instant::now());
            if screen.closed || left.is_zero() {
                // The thread that follows the terminal must not find the lock poisoned.
                drop(screen);
                panic!("`{text}` was not shown; the terminal shows:\n{unread}");
            }
            screen = changed
                .wait_timeout(screen, left)
                .expect("no thread panics with it")
                .0;
        }
    }

    /// Changes its size, as a window does.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("it is a terminal");
    }

    /// Whether it is in the mode that a shell leaves it in: lines, echo, signals.
    pub fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        let modes = tcgetattr(&self.slave)
            .expect("it is a terminal")
            .local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// The program's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        let screen = self.shown.0.lock().expect("no thread panics with it");
        String::from_utf8_lossy(&screen.bytes).into_owned()
    }

    /// Waits for the program's end and returns its exit code.
    #[track_caller]
    pub fn finish(&mut self) -> i32 {
        let ended = process::gone(self.pid(), process::DEADLINE);
        assert!(ended, "still running; it shows:\n{}", self.shown());
        process::shell_code(self.child.wait().expect("it is our child"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `setsid --ctty` makes its standard input the controlling terminal of a new session.
fn on_terminal(command: &Command, slave: &File, world: &World) -> Child {
    let mut wrapped = world.as_account("setsid");
    wrapped.args([
        OsStr::new("--ctty"),
        OsStr::new("--wait"),
        command.get_program(),
    ]);
    wrapped.args(command.get_args()).env("TERM", "xterm");
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    let end = || slave.try_clone().expect("descriptors are left");
    wrapped.stdin(end()).stdout(end()).stderr(end());
    wrapped.spawn().expect("setsid is part of every Linux")
}

fn follow(master: &Arc<OwnedFd>) -> Arc<(Mutex<Screen>, Condvar)> {
    let shown = Arc::new((Mutex::new(Screen::default()), Condvar::new()));
    let (keep, master) = (Arc::clone(&shown), Arc::clone(master));
    thread::spawn(move || {
        let mut master = File::from(master.try_clone().expect("descriptors are left"));
        let mut buffer = [0; 4096];
        loop {
            let length = master.read(&mut buffer).unwrap_or(0);
            let mut screen = keep.0.lock().expect("no thread panics with it");
            screen.bytes.extend_from_slice(&buffer[..length]);
            screen.closed = length == 0;
            keep.1.notify_all();
            if length == 0 {
                return;
            }
        }
    });
    shown
}
