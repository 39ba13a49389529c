//! Sockets of the host's daemons, descriptors, processes, privileges.

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
};

use rustix::process::Pid;

use super::{Finding, Orders, SOCKET, WORK};
use crate::sys::userns;

pub(super) fn findings(home: &Path, orders: &Orders) -> Vec<Finding> {
    let mut found = sockets(home, orders);
    found.extend(processes(orders));
    found.push(clock(orders));
    found.extend(privileges());
    found
}

fn sockets(home: &Path, orders: &Orders) -> Vec<Finding> {
    let wall = "unix sockets";
    let path = home.join("mnt").join(WORK).join(SOCKET);
    let by_abstract_name = || {
        let address = SocketAddr::from_abstract_name(&orders.abstract_name)?;
        UnixStream::connect_addr(&address)
    };
    let turned = || {
        let (ours, _theirs) = UnixDatagram::pair()?;
        ours.connect(&path)
    };
    let in_grant = home.join("mnt").join(WORK).join("made.sock");
    vec![
        own_socket(wall, orders),
        Finding::refused(
            wall,
            "make a socket in a granted folder",
            UnixListener::bind(in_grant),
        ),
        Finding::refused(
            wall,
            "a socket of the host in a granted folder",
            UnixStream::connect(&path),
        ),
        Finding::refused(wall, "an abstract socket of the host", by_abstract_name()),
        Finding::refused(wall, "a pair of datagram sockets, turned", turned()),
        Finding::works(
            wall,
            "a pair of stream sockets",
            UnixStream::pair().map(|_pair| "made".into()),
        ),
    ]
}

/// Made and reached in the session's own `/tmp`, where its profile lets it make any.
fn own_socket(wall: &str, orders: &Orders) -> Finding {
    let attempt = "a socket of the session's own";
    let path = "/tmp/boundary.sock";
    let reached = UnixListener::bind(path)
        .and_then(|listener| UnixStream::connect(path).and_then(|_stream| listener.accept()));
    match orders.own_sockets {
        true => Finding::works(wall, attempt, reached.map(|_peer| "reached".into())),
        false => Finding::refused(wall, attempt, reached),
    }
}

fn processes(orders: &Orders) -> Vec<Finding> {
    let wall = "processes";
    let host = format!("/proc/{}/cmdline", orders.process);
    let kill = || {
        let pid = i32::try_from(orders.process).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no such number"))?;
        Ok::<_, io::Error>(rustix::process::test_kill_process(pid)?)
    };
    vec![
        Finding::works("descriptors", "none but 0, 1 and 2 is open", descriptors()),
        Finding::refused(wall, "see a process of the host", fs::read(host)),
        Finding::refused(wall, "signal a process of the host", kill()),
        Finding::refused(
            wall,
            "read the memory of the first process",
            fs::File::open("/proc/1/mem"),
        ),
        Finding::refused(
            wall,
            "read the environment of the first process",
            fs::read("/proc/1/environ"),
        ),
        Finding::works(
            wall,
            "read one's own",
            fs::read("/proc/self/environ").map(|_bytes| "read".into()),
        ),
    ]
}

fn descriptors() -> io::Result<String> {
    let mut open = Vec::new();
    // The listing's own descriptor leads to the listing.
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let listing = fs::read_link(entry.path())
            .is_ok_and(|to| to.starts_with("/proc") && to.ends_with("fd"));
        if !listing {
            open.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    open.sort();
    let text = open.join(" ");
    if text == "0 1 2" {
        return Ok(text);
    }
    Err(io::Error::other(format!("open: {text}")))
}

/// A kernel without such namespaces shows it: that is said, and no wall.
fn clock(orders: &Orders) -> Finding {
    let (wall, attempt) = ("clocks", "learn how long the host has been running");
    let Some(uptime) = orders.uptime else {
        let none = "a container's runtime does not hide it".to_owned();
        return Finding::works(wall, attempt, Ok(none));
    };
    if !Path::new("/proc/self/ns/time").exists() {
        let none = "this kernel cannot hide it".to_owned();
        return Finding::works(wall, attempt, Ok(none));
    }
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
    let hidden = || io::Error::other(format!("{boot} s, the session's own"));
    let seen = u64::try_from(boot).is_ok_and(|boot| boot >= uptime);
    Finding::refused(wall, attempt, seen.then_some(()).ok_or_else(hidden))
}

fn privileges() -> Vec<Finding> {
    let wall = "privileges";
    let mount = || {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", "/tmp", "tmpfs", flags, None)
    };
    let status = |line: &'static str, wanted: &'static str| {
        let status = fs::read_to_string("/proc/self/status")?;
        let value = status.lines().find_map(|text| text.strip_prefix(line));
        match value.map(str::trim) {
            Some(value) if value == wanted => Ok(value.to_owned()),
            value => Err(io::Error::other(value.unwrap_or("not told").to_owned())),
        }
    };
    vec![
        Finding::works(wall, "no capability is held", status("CapPrm:", NONE)),
        Finding::works(wall, "none can be gained", status("CapBnd:", NONE)),
        Finding::works(wall, "no new privileges", status("NoNewPrivs:", "1")),
        Finding::works(wall, "a system call filter", status("Seccomp:", "2")),
        Finding::refused(wall, "mount a file system", mount().map_err(Into::into)),
        Finding::refused(
            wall,
            "change the root",
            rustix::process::chroot("/tmp").map_err(Into::into),
        ),
        // Last: should it work, this process is elsewhere.
        Finding::refused(wall, "a user namespace", userns::unshare_user_and_net()),
    ]
}

const NONE: &str = "0000000000000000";
