//! A user's terminal before the launcher: sizes, keys, job control by a real shell.

use std::{
    os::fd::OwnedFd,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pty::OpenptFlags,
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::support::{Who, everyone, program};

#[test]
fn the_session_has_a_terminal_of_its_own_size() {
    for who in everyone() {
        let script = "tty; stty size; trap 'stty size; exit 4' WINCH; echo waiting; while :; do sleep 0.05; done";
        let mut user = User::starts(who, &["--", "sh", "-c", script]);
        user.sees("/dev/pts/0\r\n24 80\r\n");
        user.sees("waiting");
        user.resizes(50, 132);
        user.sees("50 132");
        assert_eq!(user.child.wait().unwrap().code(), Some(4), "{who:?}");
    }
}

#[test]
fn control_c_ends_the_command_and_the_terminal_is_as_before() {
    for who in everyone() {
        let mut user = User::starts(who, &["--", "sh", "-c", "echo up; exec sleep 1000"]);
        user.sees("up");
        user.types("\x03");
        assert_eq!(user.child.wait().unwrap().code(), Some(130), "{who:?}");
        let modes = tcgetattr(&user.session_end).unwrap().local_modes;
        assert!(
            modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG),
            "{who:?}"
        );
    }
}

#[test]
fn what_is_typed_arrives_and_echoes_once() {
    for who in everyone() {
        let mut user = User::starts(who, &["--", "sh", "-c", "echo up; read x; echo got $x"]);
        user.sees("up");
        user.types("hello\r");
        user.sees("hello\r\ngot hello");
        assert_eq!(user.child.wait().unwrap().code(), Some(0), "{who:?}");
        assert_eq!(user.seen.matches("hello").count(), 2, "{:?}", user.seen);
    }
}

#[test]
fn a_shell_can_stop_background_and_continue_it() {
    for who in everyone() {
        let mut user = User::starts_shell(who);
        let walls = program();
        let walls = walls.display();
        user.types(&format!(
            "{walls} -- sh -c 'echo u''p; read x; echo got $x; exit 6'\r"
        ));
        user.sees("up\r\n");
        user.types("\x1a");
        user.sees("Stopped");
        user.types("echo shell lives\r");
        user.sees("\nshell lives");
        user.types("fg\r");
        user.types("word\r");
        user.sees("got word\r\nready> ");
        user.types("echo code=$?\r");
        user.sees("\ncode=6\r\nready> ");
        // In the background it writes, stops where it reads, and reads once it is in the foreground.
        user.types(&format!(
            "{walls} -- sh -c 'echo be''hind; read x; echo got $x; exit 0' &\r"
        ));
        user.sees("behind");
        user.types("until jobs | grep -q Stopped; do :; done; echo it sto''pped\r");
        user.sees("it stopped\r\n");
        user.types("fg\r");
        user.sees("exit 0'\r\n");
        user.types("again\r");
        user.sees("got again\r\nready> ");
        user.types(&format!(
            "{walls} -- sh -c 'echo slee''ping; exec sleep 1000'\r"
        ));
        user.sees("sleeping");
        user.types("\x03");
        user.sees("ready> ");
        user.types("echo code=$?\r");
        user.sees("\ncode=130");
        user.leaves_shell();
    }
}

#[test]
fn a_pipeline_member_leaves_the_terminal_alone_until_it_reads() {
    for who in everyone() {
        let mut user = User::starts_shell(who);
        let walls = program();
        let walls = walls.display();
        user.types(&format!(
            "{walls} -- sh -c 'read x; echo got $x' | tr a-z A-Z\r"
        ));
        user.types("word\r");
        // The echo of what was typed takes another way and may come later.
        user.sees("GOT WORD\r\n");
        user.sees("ready> ");
        user.types(&format!(
            "echo from pipe | {walls} -- sh -c 'read x </dev/tty; cat; echo and $x'\r"
        ));
        user.types("keys\r");
        user.sees("\nfrom pipe\r\nand keys\r\n");
        user.leaves_shell();
    }
}

#[test]
fn f13_no_key_can_be_pushed_into_the_terminal() {
    for who in everyone() {
        let script = "import fcntl\n\
            for request in (0x5412, 0x5412 | 1 << 32, 0x541c):\n\
            \ttry: fcntl.ioctl(0, request, b'x'); print('pushed', request)\n\
            \texcept OSError as error: print('refused')\n\
            \texcept OverflowError: print('refused')";
        let mut user = User::starts(who, &["--", "python3", "-c", script]);
        user.sees("refused\r\nrefused\r\nrefused\r\n");
        assert!(!user.seen.contains("pushed"), "{:?}", user.seen);
        user.child.wait().unwrap();
    }
}

/// Someone at a terminal.
struct User {
    keyboard_and_screen: OwnedFd,
    session_end: OwnedFd,
    child: Child,
    seen: String,
    read_to: usize,
}

impl User {
    fn starts(who: Who, words: &[&str]) -> Self {
        Self::at_a_terminal(who, [program().to_str().unwrap()].iter().chain(words))
    }

    fn starts_shell(who: Who) -> Self {
        let mut user = Self::at_a_terminal(who, ["bash", "--norc", "--noprofile", "-i"].iter());
        user.types("PS1='ready> '; bind 'set enable-bracketed-paste off'\r");
        user.sees("\nready> ");
        user
    }

    fn at_a_terminal<'a>(who: Who, words: impl Iterator<Item = &'a &'a str>) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&controller).unwrap();
        let session_end = rustix::pty::ioctl_tiocgptpeer(&controller, flags).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&controller, size).unwrap();
        let mut command = who.command("/usr/bin/setsid");
        command.arg("--ctty").args(words).env("TERM", "dumb");
        let end = || Stdio::from(session_end.try_clone().unwrap());
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            keyboard_and_screen: controller,
            session_end,
            child,
            seen: String::new(),
            read_to: 0,
        }
    }

    /// Waits for the prompt first: what is typed while a command ends may still be the command's.
    fn leaves_shell(&mut self) {
        self.sees("ready> ");
        self.types("exit\r");
        self.child.wait().unwrap();
    }

    fn types(&self, keys: &str) {
        rustix::io::write(&self.keyboard_and_screen, keys.as_bytes()).unwrap();
    }

    fn resizes(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keyboard_and_screen, size).unwrap();
    }

    /// Reads until `expected` shows after what was seen last.
    fn sees(&mut self, expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(at) = self.seen[self.read_to..].find(expected) {
                self.read_to += at + expected.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut sources = [PollFd::new(&self.keyboard_and_screen, PollFlags::IN)];
            let limit = Timespec::try_from(left).unwrap();
            let ready = poll(&mut sources, Some(&limit)).unwrap();
            assert!(
                ready > 0,
                "expected {expected:?} in {:?}",
                &self.seen[self.read_to..]
            );
            let mut buffer = [0; 4096];
            let count = rustix::io::read(&self.keyboard_and_screen, &mut buffer).unwrap();
            self.seen
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Already ended when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
