//! The half that runs in the sandbox: puts on the filter, hands out the listener, and does what it
//! is told, one operation per line, one word of result for each.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may end the test"
)]

use std::{
    fs,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use cordon_policy::SeccompProfile;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, open, openat, renameat_with, unlinkat},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{DumpableBehavior, set_dumpable_behavior},
};

/// The variable that holds the operations.
pub const OPERATIONS: &str = "GUARD_TEST_OPERATIONS";

/// What a line with a result begins with; the test harness prints lines of its own.
pub const RESULT: &str = "result: ";

/// What a line with the microseconds of a `timed` operation begins with.
pub const TOOK: &str = "took: ";

/// The variable that is set where there shall be no guard.
pub const UNGUARDED: &str = "GUARD_TEST_UNGUARDED";

/// The variable that is set where the guard holds what is done with sockets.
pub const SOCKETS: &str = "GUARD_TEST_SOCKETS";

/// Runs them all.
pub fn main() {
    if std::env::var_os(UNGUARDED).is_none() {
        let profile = match std::env::var_os(SOCKETS) {
            Some(_) => SeccompProfile::Build,
            None => SeccompProfile::Default,
        };
        hand_out(&cordon_sandbox::guard::install(profile).unwrap());
    }
    let mut directory = None;
    for line in std::env::var(OPERATIONS).unwrap().lines() {
        let word = match operate(line.trim(), &mut directory) {
            Ok(()) => "ok".to_owned(),
            Err(Failure::Errno(errno)) => name_of(errno),
            Err(Failure::Exit(code)) => format!("exit-{code}"),
        };
        println!("\n{RESULT}{word}");
    }
}

enum Failure {
    Errno(Errno),
    Exit(i32),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Errno(Errno::from_io_error(&error).unwrap())
    }
}

/// One operation. `opendir` keeps a directory open, which later paths call `fd/9`.
fn operate(line: &str, directory: &mut Option<OwnedFd>) -> Result<(), Failure> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match verb {
        "sh" => return run(Command::new("sh").args(["-c", rest])),
        "timed" => {
            let begun = Instant::now();
            run(Command::new("sh").args(["-c", rest]))?;
            println!("{TOOK}{}", begun.elapsed().as_micros());
            return Ok(());
        }
        _ => {}
    }
    let number = directory.as_ref().map(AsRawFd::as_raw_fd);
    let rest = number.map_or(rest.to_owned(), |fd| {
        rest.replace("fd/9", &format!("fd/{fd}"))
    });
    let words: Vec<&str> = rest.split(' ').collect();
    match (verb, words.as_slice()) {
        // The standard library makes the old calls, the other library the newer ones.
        ("unlink", [path]) => fs::remove_file(path)?,
        ("rmdir", [path]) => fs::remove_dir(path)?,
        ("rename", [from, to]) => fs::rename(from, to)?,
        ("unlinkat", ["9", path]) => {
            unlinkat(directory.as_ref().unwrap(), *path, AtFlags::empty())?
        }
        ("unlinkat", ["0", path]) => unlinkat(io::stdin(), *path, AtFlags::empty())?,
        ("badflags", [path]) => unlinkat(CWD, *path, AtFlags::from_bits_retain(0x8000))?,
        ("exchange", [from, to]) => renameat_with(CWD, *from, CWD, *to, RenameFlags::EXCHANGE)?,
        ("noreplace", [from, to]) => renameat_with(CWD, *from, CWD, *to, RenameFlags::NOREPLACE)?,
        ("whiteout", [from, to]) => renameat_with(CWD, *from, CWD, *to, RenameFlags::WHITEOUT)?,
        ("link", [from, to]) => fs::hard_link(from, to)?,
        ("symlink", [text, at]) => std::os::unix::fs::symlink(text, at)?,
        ("write", [path]) => fs::write(path, "written inside")?,
        ("truncate", [path]) => truncate(path)?,
        ("mkdir", [path]) => fs::create_dir(path)?,
        ("fifo", [path]) => {
            use rustix::fs::{FileType, mknodat};
            mknodat(CWD, *path, FileType::Fifo, Mode::RUSR, 0)?;
        }
        // It listens for as long as the session lives.
        ("listen", [path]) => std::mem::forget(UnixListener::bind(path)?),
        ("connect", [path]) => drop(UnixStream::connect(path)?),
        ("chdir", [path]) => std::env::set_current_dir(path)?,
        ("opendir", ["9", path]) => {
            *directory = Some(open(
                *path,
                OFlags::RDONLY | OFlags::DIRECTORY,
                Mode::empty(),
            )?);
        }
        ("nodump", _) => set_dumpable_behavior(DumpableBehavior::NotDumpable)?,
        ("tmpfile", [at, path]) => name_a_nameless_file(at, path)?,
        ("syscall", numbers) => raw_call(numbers)?,
        ("threads", [threads, rounds, path]) => race(threads, rounds, path),
        _ => panic!("unknown operation {line:?}"),
    }
    Ok(())
}

/// `O_TMPFILE`, then a name through the link of `/proc`.
fn name_a_nameless_file(folder: &str, path: &str) -> Result<(), Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    let file = openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR)?;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, link, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

/// By its name; the standard library opens it first.
fn truncate(path: &str) -> Result<(), Failure> {
    let script = format!("truncate({path:?}, 0) or exit($!+0)");
    run(Command::new("perl").args(["-e", &script]))
}

/// A call that no safe function makes; Perl can.
fn raw_call(numbers: &[&str]) -> Result<(), Failure> {
    let script = format!(
        "($n, @a) = ({}); exit(syscall($n, @a) == -1 ? $!+0 : 0)",
        numbers.join(",")
    );
    match run(Command::new("perl").args(["-e", &script])) {
        Err(Failure::Exit(errno)) => Err(Errno::from_raw_os_error(errno).into()),
        other => other,
    }
}

/// Each thread makes and removes its own files; each asks for the old one in between.
fn race(threads: &str, rounds: &str, folder: &str) {
    let (threads, rounds): (u32, u32) = (threads.parse().unwrap(), rounds.parse().unwrap());
    thread::scope(|scope| {
        for me in 0..threads {
            scope.spawn(move || {
                for round in 0..rounds {
                    let path = format!("{folder}/{me}-{round}");
                    let moved = format!("{path}-moved");
                    fs::write(&path, "x").unwrap();
                    fs::rename(&path, &moved).unwrap();
                    let refused = fs::remove_file(format!("{folder}/old")).unwrap_err();
                    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
                    fs::remove_file(moved).unwrap();
                }
            });
        }
    });
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr().as_fd().try_clone_to_owned()?);
    match status.status()?.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Exit(code.unwrap_or(-1))),
    }
}

fn hand_out(listener: &OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let handed = [listener.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&handed)));
    let byte = [IoSlice::new(b"x")];
    sendmsg(io::stdin(), &byte, &mut ancillary, SendFlags::empty()).unwrap();
}

fn name_of(errno: Errno) -> String {
    let known = [
        (Errno::PERM, "PERM"),
        (Errno::ACCESS, "ACCES"),
        (Errno::ROFS, "ROFS"),
        (Errno::BUSY, "BUSY"),
        (Errno::XDEV, "XDEV"),
        (Errno::NOENT, "NOENT"),
        (Errno::EXIST, "EXIST"),
        (Errno::INVAL, "INVAL"),
        (Errno::ISDIR, "ISDIR"),
        (Errno::NOTDIR, "NOTDIR"),
        (Errno::NOTEMPTY, "NOTEMPTY"),
        (Errno::LOOP, "LOOP"),
        (Errno::BADF, "BADF"),
        (Errno::FAULT, "FAULT"),
        (Errno::NOSYS, "NOSYS"),
        (Errno::NAMETOOLONG, "NAMETOOLONG"),
        (Errno::ADDRINUSE, "ADDRINUSE"),
        (Errno::CONNREFUSED, "CONNREFUSED"),
    ];
    let name = known.iter().find(|(known, _)| *known == errno);
    name.map_or_else(
        || errno.raw_os_error().to_string(),
        |(_, name)| (*name).to_owned(),
    )
}
