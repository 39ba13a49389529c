//! The waiting thread as seen from outside: its strings, its root, its working directory, its
//! descriptors, its mounts.

use std::{
    cell::Cell,
    io::Read,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::{Stop, Why, call::RawPath};
use crate::sys::notify;

/// One thread, pinned: once its number is used again, nothing here opens any more.
pub(super) struct Task {
    tid: u32,
    dir: OwnedFd,
    /// Its umask, and since which change of any umask that is known.
    pub(super) umask: Cell<Option<(u64, Mode)>>,
}

impl Task {
    /// Pins thread `tid` by its directory in `proc`, which is our own process namespace's.
    pub(super) fn open(proc: &OwnedFd, tid: u32) -> Result<Self, Stop> {
        let dir = openat(proc, tid.to_string(), DIRECTORY, Mode::empty()).map_err(blind)?;
        Ok(Self {
            tid,
            dir,
            umask: Cell::new(None),
        })
    }

    /// Its number.
    pub(super) fn tid(&self) -> u32 {
        self.tid
    }

    /// Whether this is thread `tid`, still there.
    pub(super) fn is(&self, tid: u32) -> bool {
        self.tid == tid
            && rustix::fs::accessat(
                &self.dir,
                "stat",
                rustix::fs::Access::EXISTS,
                rustix::fs::AtFlags::empty(),
            )
            .is_ok()
    }

    /// Its root directory.
    pub(super) fn root(&self) -> Result<OwnedFd, Stop> {
        openat(&self.dir, "root", DIRECTORY, Mode::empty()).map_err(blind)
    }

    /// The directory that a relative path starts from.
    pub(super) fn start(&self, path: &RawPath) -> Result<OwnedFd, Stop> {
        if path.start == libc::AT_FDCWD {
            return openat(&self.dir, "cwd", DIRECTORY, Mode::empty()).map_err(blind);
        }
        if path.start < 0 {
            return Err(Errno::BADF.into());
        }
        match openat(
            &self.dir,
            format!("fd/{}", path.start),
            DIRECTORY,
            Mode::empty(),
        ) {
            Err(Errno::NOENT) => Err(Errno::BADF.into()),
            Err(Errno::NOTDIR) => Err(Errno::NOTDIR.into()),
            other => other.map_err(blind),
        }
    }

    /// The text at `address`, without its closing zero.
    pub(super) fn text(&self, address: u64) -> Result<Vec<u8>, Stop> {
        let mut text = vec![0; PATH_MAX];
        let read = match notify::read_memory(self.tid, address, &mut text) {
            Err(Errno::FAULT) => return Err(Errno::FAULT.into()),
            other => other.map_err(blind)?,
        };
        text.truncate(read);
        match text.iter().position(|byte| *byte == 0) {
            Some(0) => Err(Errno::NOENT.into()),
            Some(end) => {
                text.truncate(end);
                Ok(text)
            }
            None if read == PATH_MAX => Err(Errno::NAMETOOLONG.into()),
            None => Err(Errno::FAULT.into()),
        }
    }

    /// `length` bytes at `address`.
    pub(super) fn bytes(&self, address: u64, length: usize) -> Result<Vec<u8>, Stop> {
        let mut bytes = vec![0; length];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        match notify::read_memory(self.tid, address, &mut bytes) {
            Ok(read) if read == length => Ok(bytes),
            Ok(_) | Err(Errno::FAULT) => Err(Errno::FAULT.into()),
            Err(other) => Err(blind(other)),
        }
    }

    /// A copy of one of its descriptors, whatever it is. Whoever calls makes sure afterwards that
    /// the thread still waits.
    pub(super) fn descriptor(&self, number: i32) -> Result<OwnedFd, Stop> {
        if number < 0 {
            return Err(Errno::BADF.into());
        }
        let thread = self.pidfd()?;
        match pidfd_getfd(thread, number, PidfdGetfdFlags::empty()) {
            Err(Errno::BADF) => Err(Errno::BADF.into()),
            other => other.map_err(blind),
        }
    }

    /// Of the thread; before Linux 6.9 of its process, whose descriptors are nearly always its too,
    /// and are in any case the session's.
    fn pidfd(&self) -> Result<OwnedFd, Stop> {
        let number = |tid: u32| i32::try_from(tid).ok().and_then(Pid::from_raw);
        let tid = number(self.tid).ok_or_else(Stop::blind)?;
        match pidfd_open(tid, PidfdFlags::from_bits_retain(PIDFD_THREAD)) {
            Err(Errno::INVAL) => {}
            other => return other.map_err(blind),
        }
        let status = String::from_utf8_lossy(&self.read("status")?).into_owned();
        let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
        let process = process.and_then(|text| text.trim().parse().ok());
        let process = process.and_then(number).ok_or_else(Stop::blind)?;
        pidfd_open(process, PidfdFlags::empty()).map_err(blind)
    }

    /// The namespace of its mounts.
    pub(super) fn mount_namespace(&self) -> Result<OwnedFd, Stop> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(&self.dir, "ns/mnt", flags, Mode::empty()).map_err(blind)
    }

    /// The mounts it sees, as the kernel lists them.
    pub(super) fn mounts(&self) -> Result<Vec<u8>, Stop> {
        self.read("mountinfo")
    }

    /// The numbers that the thread itself knows as its process's and its own.
    pub(super) fn own_numbers(&self) -> Result<(String, String), Stop> {
        let status = String::from_utf8_lossy(&self.read("status")?).into_owned();
        let innermost = |key| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next_back().map(str::to_owned)
        };
        match (innermost("NStgid:"), innermost("NSpid:")) {
            (Some(process), Some(thread)) => Ok((process, thread)),
            _ => Err(Stop::Refuse(Why::Blind)),
        }
    }

    /// What its new files do not get, as it is now.
    pub(super) fn read_umask(&self) -> Result<Mode, Stop> {
        let status = self.read("status")?;
        let text = String::from_utf8_lossy(&status);
        let line = text.lines().find_map(|line| line.strip_prefix("Umask:"));
        let bits = line.and_then(|line| u32::from_str_radix(line.trim(), 8).ok());
        bits.map(Mode::from_bits_retain).ok_or_else(Stop::blind)
    }

    /// The number of its controlling terminal among the session's, where it has one.
    pub(super) fn terminal(&self) -> Result<u32, Stop> {
        let stat = self.read("stat")?;
        // After the program's name, which may hold anything but ends with the last parenthesis.
        let text = String::from_utf8_lossy(&stat);
        let after = text.rsplit(')').next().unwrap_or_default();
        let number: u32 = after
            .split_whitespace()
            .nth(4)
            .and_then(|field| field.parse::<i32>().ok())
            .map(i32::cast_unsigned)
            .ok_or_else(Stop::blind)?;
        let (major, minor) = (
            (number >> 8) & 0xfff,
            (number & 0xff) | ((number >> 12) & 0xf_ff00),
        );
        match major.checked_sub(FIRST_PTS_MAJOR) {
            Some(block) if block < 8 => Ok(block * 256 + minor),
            _ => Err(Errno::NXIO.into()),
        }
    }

    /// One of its open files by number, without following what it is.
    pub(super) fn file(&self, number: i32) -> Result<OwnedFd, Stop> {
        if number < 0 {
            return Err(Errno::BADF.into());
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match openat(&self.dir, format!("fd/{number}"), flags, Mode::empty()) {
            Err(Errno::NOENT) => Err(Errno::BADF.into()),
            other => other.map_err(blind),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Stop> {
        let fd = openat(
            self.dir.as_fd(),
            name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(blind)?;
        let mut text = Vec::new();
        std::fs::File::from(fd)
            .read_to_end(&mut text)
            .map_err(|_| Stop::Refuse(Why::Blind))?;
        Ok(text)
    }
}

/// We could not look, so we cannot judge. A thread that has died meanwhile gets no answer anyway.
fn blind(_: Errno) -> Stop {
    Stop::Refuse(Why::Blind)
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// `PIDFD_THREAD` of `include/uapi/linux/pidfd.h`.
const PIDFD_THREAD: u32 = libc::O_EXCL.cast_unsigned();

/// The longest path the kernel takes, closing zero included.
const PATH_MAX: usize = 4096;

/// `UNIX98_PTY_SLAVE_MAJOR` of `include/uapi/linux/major.h`; eight of them follow each other.
const FIRST_PTS_MAJOR: u32 = 136;
