//! Connects and binds sockets for the waiting thread. Unix sockets are the session's own: one with a
//! path is bound and reached where the session has its own file systems in memory, and nowhere else.
//!
//! A granted folder may hold the socket of a host's daemon, and a program of the host may look for
//! one there. So nothing is reached in a grant, nor made.
//!
//! INVARIANT: the call is made here, with a copy of the address, on the very socket that was looked
//! at. To let it go on would be to let the thread's neighbours exchange both meanwhile. A socket is
//! connected to the file that was looked at, not to its path. A path is bound where nobody but the
//! session makes names, and those wait here.
//!
//! What a program can notice: whoever accepts is told the right user of its peer, and 0 for its
//! process; a signal does not interrupt a `connect`; ports below 1024 stay refused.

use std::os::{
    fd::{AsFd, AsRawFd, OwnedFd},
    unix::ffi::OsStringExt,
};

use rustix::{
    fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat},
    io::Errno,
    net::{AddressFamily, SocketType, sockopt},
    thread::{LinkNameSpaceType, move_into_link_name_space, set_capabilities},
};

use super::{
    Stop, Why,
    area::Area,
    call::{Call, RawPath, low, low_signed},
    elsewhere::{Elsewhere, Lent},
    judge::{Judge, is_dots, path_of},
    ledger::Found,
    resolve::{LINKS, Place, link_text, resolve_text},
    task::Task,
};
use crate::{
    owners::NO_CAPABILITIES,
    sys::{child::Child, mount::owner_of, notify::Notification, sockets},
};

/// What is to be done to a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SocketCall {
    pub(super) deed: SocketDeed,
    /// The socket's number.
    socket: i32,
    /// Where the address lies in the caller's memory, and how long it is.
    address: u64,
    length: u32,
}

/// What of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SocketDeed {
    Connect,
    Bind,
}

impl SocketCall {
    /// By its registers.
    pub(super) fn of(deed: SocketDeed, held: &Notification) -> Self {
        let [a, b, c, ..] = held.args;
        Self {
            deed,
            socket: low_signed(a),
            address: b,
            length: low(c),
        }
    }
}

impl SocketDeed {
    pub(super) fn call(self) -> Call {
        match self {
            Self::Connect => Call::Connect,
            Self::Bind => Call::Bind,
        }
    }
}

/// A socket of the waiting thread, and the address that it gave: a copy of each.
pub(super) struct Given {
    socket: Lent,
    address: Vec<u8>,
}

/// What came of it.
pub(super) enum Came {
    Done,
    /// It may wait for the other end: do it elsewhere.
    Waits(Waiting),
}

/// A connection that the other end has to take.
pub(super) struct Waiting {
    socket: Lent,
    address: Vec<u8>,
    /// What a path among our own descriptors leads to.
    _node: Option<OwnedFd>,
}

impl Given {
    /// Whoever calls makes sure afterwards that the thread still waits.
    pub(super) fn take(
        task: &Task,
        asked: &SocketCall,
        elsewhere: &Elsewhere,
    ) -> Result<Self, Stop> {
        let length = usize::try_from(asked.length).unwrap_or(usize::MAX);
        if length > sockets::LONGEST {
            return Err(Errno::INVAL.into());
        }
        Ok(Self {
            socket: elsewhere.lend(|| task.descriptor(asked.socket))?,
            address: task.bytes(asked.address, length)?,
        })
    }
}

impl Waiting {
    /// Waits for the other end, unless the socket does not.
    pub(super) fn connect(self) -> Result<(), Errno> {
        sockets::connect(self.socket.file()?, &self.address)
    }
}

impl Judge {
    /// Does what was asked, where it stays within the session. Where it does not, `refused` is the place.
    pub(super) fn use_socket(
        &mut self,
        task: &Task,
        given: Given,
        deed: SocketDeed,
        refused: &mut Option<Place>,
    ) -> Result<Came, Stop> {
        match sockopt::socket_domain(given.socket.file()?)? {
            AddressFamily::UNIX => self.use_unix_socket(task, given, deed, refused),
            domain @ (AddressFamily::INET | AddressFamily::INET6 | AddressFamily::NETLINK) => {
                refuse_what_owners_may(domain, &given.address, deed)?;
                act(given, deed, None)
            }
            _ => Err(Errno::ACCESS.into()),
        }
    }

    fn use_unix_socket(
        &mut self,
        task: &Task,
        given: Given,
        deed: SocketDeed,
        refused: &mut Option<Place>,
    ) -> Result<Came, Stop> {
        // There are no others, and one could be sent from to any path without a connection.
        let kind = sockopt::socket_type(given.socket.file()?)?;
        if kind != SocketType::STREAM && kind != SocketType::SEQPACKET {
            return Err(Errno::ACCESS.into());
        }
        let name = match (family_of(&given.address), given.address.get(FAMILY..)) {
            (Some(AddressFamily::UNIX), Some(name)) if name.len() <= LONGEST_NAME => name,
            _ => return Err(Errno::INVAL.into()),
        };
        // Without a name, and in the abstract, it is the network namespace's: the session's own.
        if name.first().is_none_or(|byte| *byte == 0) {
            return act(given, deed, None);
        }
        let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = text.to_vec();
        match deed {
            SocketDeed::Connect => {
                let node = self.find_socket(task, &text, refused)?;
                let address = unix_address(own_path(&node).as_bytes());
                act(Given { address, ..given }, deed, Some(node))
            }
            SocketDeed::Bind => {
                self.bind_path(task, &given, &text, refused)?;
                Ok(Came::Done)
            }
        }
    }

    /// The socket that `text` leads to, if it is the session's own.
    fn find_socket(
        &mut self,
        task: &Task,
        text: &[u8],
        refused: &mut Option<Place>,
    ) -> Result<OwnedFd, Stop> {
        let mut place = resolve_text(task, self.own_fds(), text, || from_here(task))?;
        for _ in 0..=LINKS {
            if place.spelled != place.name {
                return Err(Errno::NOTDIR.into());
            }
            let node = openat(&place.parent, &*place.name, NODE, Mode::empty())?;
            let found = Found::at(&node, b"")?;
            match found.kind {
                // Where a link of `/proc` leads depends on who looks.
                FileType::Symlink if fstatfs(&node)?.f_type == PROC_SUPER_MAGIC => {
                    *refused = Some(place);
                    return Err(Stop::Refuse(Why::Outside));
                }
                FileType::Symlink => {
                    let next = link_text(&node)?;
                    let start = || place.parent.try_clone().map_err(|_| Errno::MFILE.into());
                    let found = resolve_text(task, self.own_fds(), &next, start)?;
                    place = found;
                }
                FileType::Socket => {
                    if !self.is_own(task, &place, &found)? {
                        *refused = Some(place);
                        return Err(Stop::Refuse(Why::Outside));
                    }
                    return Ok(node);
                }
                _ => return Err(Errno::CONNREFUSED.into()),
            }
        }
        Err(Errno::LOOP.into())
    }

    fn bind_path(
        &mut self,
        task: &Task,
        given: &Given,
        text: &[u8],
        refused: &mut Option<Place>,
    ) -> Result<(), Stop> {
        let place = resolve_text(task, self.own_fds(), text, || from_here(task))?;
        if is_dots(&place.name) || place.spelled != place.name {
            return Err(Errno::ADDRINUSE.into());
        }
        let around = Found::at(&place.parent, b"")?;
        let is_own = self.is_own(task, &place, &around)?;
        // We are told of a grant before it is mounted: it may be before this is bound.
        let path = path_of(self.own_fds(), &place)?;
        if !is_own || self.areas.around(&path).is_some() {
            *refused = Some(place);
            return Err(Stop::Refuse(Why::Outside));
        }
        self.umasks.put_on(task)?;
        let name = self.name_to_bind(&place, text)?;
        bind_there(task, &place, given, &unix_address(&name))
    }

    /// Whether `found`, in `place`, lies in a file system of the session's own.
    fn is_own(&mut self, task: &Task, place: &Place, found: &Found) -> Result<bool, Stop> {
        let around = Found::at(&place.parent, b"")?;
        let own = self.area_around(task, place, &around)? == Area::Scratch;
        // Another file system's file may be mounted on the name.
        Ok(own && found.mount == around.mount)
    }

    /// What the socket says its name is, to itself and to whoever connects: as the caller spelt it,
    /// where that means the same to everybody; else its whole path.
    fn name_to_bind(&self, place: &Place, text: &[u8]) -> Result<Vec<u8>, Stop> {
        if !text.contains(&b'/') {
            return Ok(text.to_vec());
        }
        let whole = path_of(self.own_fds(), place)?.into_os_string().into_vec();
        // What does not fit is reached from its own folder.
        match whole.len() < LONGEST_NAME {
            true => Ok(whole),
            false => Ok(place.name.clone()),
        }
    }
}

/// Makes the call, or leaves it to whoever may wait: others' calls, and changes of grants, wait for
/// this thread. That a socket does not wait can be changed by the session at any moment.
fn act(given: Given, deed: SocketDeed, node: Option<OwnedFd>) -> Result<Came, Stop> {
    let Given { socket, address } = given;
    if deed == SocketDeed::Bind {
        sockets::bind(socket.file()?, &address)?;
        return Ok(Came::Done);
    }
    let kind = sockopt::socket_type(socket.file()?)?;
    if kind == SocketType::STREAM || kind == SocketType::SEQPACKET {
        return Ok(Came::Waits(Waiting {
            socket,
            address,
            _node: node,
        }));
    }
    sockets::connect(socket.file()?, &address)?;
    Ok(Came::Done)
}

/// Binds in the session's own view of the files, since the socket keeps the name that it is bound
/// by: a child enters its mounts, with no right that the session has not.
fn bind_there(task: &Task, place: &Place, given: &Given, address: &[u8]) -> Result<(), Stop> {
    let mounts = task.mount_namespace()?;
    let owner = owner_of(mounts.as_fd()).map_err(|_| Stop::blind())?;
    let socket = given.socket.file()?;
    let bind = || {
        move_into_link_name_space(owner.as_fd(), Some(LinkNameSpaceType::User))?;
        move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        set_capabilities(None, NO_CAPABILITIES)?;
        rustix::process::fchdir(&place.parent)?;
        sockets::bind(socket, address)
    };
    // Errors are small numbers; none is 0.
    let code = || match bind() {
        Ok(()) => 0,
        Err(errno) => u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX),
    };
    let child = Child::fork(code).map_err(|_| Errno::AGAIN)?;
    match child.wait().ok().and_then(|status| status.exit_status()) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(errno).into()),
        None => Err(Stop::blind()),
    }
}

/// Whoever started the session owns its network, and could do there what the session may not: use
/// ports of the system's, and address other users of netlink. By what the socket is: the kernel takes
/// an address of no family for one of the internet's.
fn refuse_what_owners_may(
    domain: AddressFamily,
    address: &[u8],
    deed: SocketDeed,
) -> Result<(), Errno> {
    let number = |at: usize| address.get(at..at + 2)?.try_into().ok();
    match (domain, deed) {
        (AddressFamily::INET | AddressFamily::INET6, SocketDeed::Bind) => {
            match number(FAMILY).map(u16::from_be_bytes) {
                Some(1..FIRST_FREE_PORT) => Err(Errno::ACCESS),
                _ => Ok(()),
            }
        }
        (AddressFamily::NETLINK, SocketDeed::Connect) => {
            let peer = address.get(FAMILY + 2..).unwrap_or_default();
            match peer.iter().all(|byte| *byte == 0) {
                true => Ok(()),
                false => Err(Errno::PERM),
            }
        }
        _ => Ok(()),
    }
}

fn family_of(address: &[u8]) -> Option<AddressFamily> {
    let number = address.get(..FAMILY)?.try_into().ok()?;
    Some(AddressFamily::from_raw(u16::from_ne_bytes(number)))
}

fn unix_address(name: &[u8]) -> Vec<u8> {
    let mut address = AddressFamily::UNIX.as_raw().to_ne_bytes().to_vec();
    address.extend_from_slice(name);
    address.push(0);
    address
}

/// A path of ours to what `node` is, whatever it is called by now.
fn own_path(node: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", node.as_raw_fd())
}

fn from_here(task: &Task) -> Result<OwnedFd, Stop> {
    task.start(&RawPath {
        start: libc::AT_FDCWD,
        address: 0,
    })
}

const NODE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Bytes of an address before what its family says.
const FAMILY: usize = 2;

/// Bytes of `sun_path`.
const LONGEST_NAME: usize = 108;

/// `ip_unprivileged_port_start`, as it is in a new network namespace.
const FIRST_FREE_PORT: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(family: AddressFamily, port: u16) -> Vec<u8> {
        let mut address = family.as_raw().to_ne_bytes().to_vec();
        address.extend(port.to_be_bytes());
        address.resize(28, 0);
        address
    }

    #[test]
    fn ports_of_the_system_and_other_users_of_netlink_stay_refused() {
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            for (port, refused) in [(0, false), (1, true), (1023, true), (1024, false)] {
                // Of no family it is bound all the same (`__inet_bind`).
                for said in [family, AddressFamily::UNSPEC] {
                    let address = inet(said, port);
                    let bound = refuse_what_owners_may(family, &address, SocketDeed::Bind);
                    assert_eq!(bound.is_err(), refused, "{said:?} {port}");
                    let reached = refuse_what_owners_may(family, &address, SocketDeed::Connect);
                    assert!(reached.is_ok(), "{port}");
                }
            }
        }
        let mut netlink = inet(AddressFamily::NETLINK, 0);
        let netlink_to = |address: &[u8]| {
            refuse_what_owners_may(AddressFamily::NETLINK, address, SocketDeed::Connect)
        };
        assert!(netlink_to(&netlink).is_ok());
        netlink[8] = 1; // a group
        assert_eq!(netlink_to(&netlink), Err(Errno::PERM));
        assert!(
            netlink_to(&[]).is_ok() && netlink_to(&[2]).is_ok(),
            "the kernel's to refuse"
        );
    }
}
