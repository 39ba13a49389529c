//! The processes of one session, by its own `/proc`, seen from outside.
//!
//! That file system lists them alone, and with their own numbers. It is reached through the first
//! process once and held open, so that no number can come to mean another process.

use std::{
    ffi::CStr,
    fs::File,
    io,
    io::Read as _,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{Mode, OFlags, RawDir, openat, readlinkat, readlinkat_raw},
    io::Errno,
    process::Pid,
};

/// The `/proc` of a session.
#[derive(Debug)]
pub(super) struct Table(OwnedFd);

/// One process of it, by a descriptor: it stays that process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    directory: OwnedFd,
}

/// What `stat` says of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    pub(super) start_us: u64,
    state: State,
}

/// What is left of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Runs,
    /// Its first thread has ended and others run: what they hold is not shown.
    Leaderless,
    Gone,
}

/// Whether a process holds a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Holds {
    Yes,
    No,
    /// It could not be looked into.
    Unknown,
}

impl Table {
    /// Of the session whose first process has this number here.
    pub(super) fn open(first: Pid) -> io::Result<Self> {
        let path = PathBuf::from(format!("/proc/{}/root/proc", first.as_raw_nonzero()));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = rustix::fs::open(&path, flags, Mode::empty())?;
        let kind = rustix::fs::fstatfs(&held)?.f_type;
        if u64::try_from(kind).ok() != Some(PROC_SUPER_MAGIC) {
            return Err(io::Error::other("the session's /proc is none"));
        }
        Ok(Self(held))
    }

    /// Of all processes that this one sees.
    #[cfg(test)]
    pub(super) fn of_this_machine() -> Self {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Self(rustix::fs::open("/proc", flags, Mode::empty()).unwrap())
    }

    /// The processes that run now, the first left out. `None` when there are more than are looked
    /// at.
    pub(super) fn processes(&self) -> io::Result<Option<Vec<u32>>> {
        let listing = openat(
            &self.0,
            c".",
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut found = Vec::new();
        let fits = each_number(&listing, |pid| {
            if pid != FIRST {
                found.push(pid);
            }
            found.len() <= MOST_PROCESSES
        })?;
        Ok(fits.then_some(found))
    }

    /// `None` when it is gone.
    pub(super) fn process(&self, pid: u32) -> Option<Process> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&self.0, pid.to_string(), flags, Mode::empty()).ok()?;
        Some(Process { pid, directory })
    }
}

impl Process {
    /// Whether it has the socket open. Counts down what may still be looked at.
    pub(super) fn holds(&self, socket: &CStr, left: &mut usize) -> Holds {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let unless_gone = || match self.state() {
            Some(State::Gone) => Holds::No,
            _there_or_unreadable => Holds::Unknown,
        };
        let Ok(descriptors) = openat(&self.directory, c"fd", flags, Mode::empty()) else {
            return unless_gone();
        };
        let (mut held, mut some) = (Holds::No, false);
        let listed = each_number(&descriptors, |number| {
            let Some(rest) = left.checked_sub(1) else {
                held = Holds::Unknown;
                return false;
            };
            *left = rest;
            some = true;
            if says(&descriptors, &number.to_string(), socket.to_bytes()) {
                held = Holds::Yes;
            }
            held == Holds::No
        });
        match listed {
            // Nothing is open in one that is going, and in one whose threads are not shown.
            Ok(_whole) if !some && self.state() != Some(State::Runs) => unless_gone(),
            Ok(_whole) => held,
            Err(_) => unless_gone(),
        }
    }

    /// `None` where it cannot be told: then it may hold anything.
    fn state(&self) -> Option<State> {
        match self.read_stat() {
            Ok(text) => parse(&text).map(|stat| stat.state),
            Err(Errno::NOENT | Errno::SRCH) => Some(State::Gone),
            Err(_) => None,
        }
    }

    /// Path of its program as the session sees it; `None` where there is none or it is too long.
    pub(super) fn executable(&self) -> Option<String> {
        let path = readlinkat(&self.directory, c"exe", Vec::new()).ok()?;
        let path = path.into_string().ok()?;
        (path.len() <= LONGEST_PATH).then_some(path)
    }

    /// Its program, to be read.
    pub(super) fn program(&self) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        openat(&self.directory, c"exe", flags, Mode::empty())
            .ok()
            .map(File::from)
    }

    pub(super) fn stat(&self) -> Option<Stat> {
        parse(&self.read_stat().ok()?)
    }

    fn read_stat(&self) -> Result<String, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory, c"stat", flags, Mode::empty())?;
        let mut bytes = Vec::new();
        let read = File::from(file).take(STAT_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        // A program calls itself what it likes, also in bytes that are no text.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The name of a program may hold anything, a `)` too; what follows the last one is ours.
fn parse(stat: &str) -> Option<Stat> {
    let (_name, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // The 20th and the 22nd of all, two of which are before the name's end.
    let threads: u64 = fields.nth(15)?.parse().ok()?;
    let ticks: u64 = fields.nth(1)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Stat {
        parent,
        start_us: ticks.saturating_mul(1_000_000) / per_second,
        state: match state {
            "Z" if threads > 1 => State::Leaderless,
            "Z" | "X" => State::Gone,
            _ => State::Runs,
        },
    })
}

/// Calls `each` with every entry that is a number until it says no. Whether it never did.
fn each_number(directory: &OwnedFd, mut each: impl FnMut(u32) -> bool) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(directory.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let number = entry.file_name().to_str().ok().and_then(|n| n.parse().ok());
        if number.is_some_and(|number| !each(number)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a link says this. What is longer than a socket's name is cut, and is none.
fn says(directory: &OwnedFd, name: &str, text: &[u8]) -> bool {
    let mut link = [0; SOCKET_BYTES];
    let length = readlinkat_raw(directory, name, &mut link);
    length.is_ok_and(|length| link.get(..length) == Some(text))
}

/// The session's first process, which is ours and connects to nothing.
pub(super) const FIRST: u32 = 1;

/// Processes that are looked at.
const MOST_PROCESSES: usize = 2048;

/// `socket:[4294967295]` and more.
const SOCKET_BYTES: usize = 32;

/// Bytes of the longest path of a program that is told.
const LONGEST_PATH: usize = 1024;

/// Bytes of `stat` that are read: it has some 400.
const STAT_BYTES: u64 = 4096;

/// From linux/magic.h.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

#[cfg(test)]
mod tests {
    use std::{
        ffi::CString,
        net::TcpListener,
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    };

    use super::*;

    fn own() -> Process {
        let table = Table::of_this_machine();
        table.process(std::process::id()).unwrap()
    }

    fn name(inode: u64) -> CString {
        CString::new(format!("socket:[{inode}]")).unwrap()
    }

    #[test]
    fn a_socket_is_found_by_its_number_and_no_other() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let inode = std::fs::metadata(path).unwrap().ino();
        let mut left = 100_000;
        assert_eq!(own().holds(&name(inode), &mut left), Holds::Yes);
        drop(socket);
        assert_eq!(own().holds(&name(inode), &mut left), Holds::No);
        assert_eq!(own().holds(&name(inode), &mut 0), Holds::Unknown, "bounded");
    }

    #[test]
    fn a_program_is_told_with_its_start() {
        let me = std::env::current_exe().unwrap();
        assert_eq!(own().executable(), me.to_str().map(str::to_owned));
        let stat = own().stat().unwrap();
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(stat.start_us > 0 && stat.state == State::Runs);
    }

    #[test]
    fn the_name_of_a_program_does_not_mislead() {
        let fields = "S 41 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 9";
        let expected = parse(&format!("7 (sh) {fields}")).unwrap();
        assert_eq!(expected.parent, 41);
        for name in ["a) R 99", "a b", ")", ""] {
            assert_eq!(parse(&format!("7 ({name}) {fields}")), Some(expected));
        }
        let state = |state: &str, threads: u32| {
            let fields = format!("{state} 41 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 500 9");
            parse(&format!("7 (sh) {fields}")).unwrap().state
        };
        assert_eq!((state("Z", 1), state("X", 1)), (State::Gone, State::Gone));
        assert_eq!(state("Z", 2), State::Leaderless, "its other threads run");
        assert_eq!(parse("7 sh S 41"), None);
    }
}
