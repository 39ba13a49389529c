//! The controls of attempts that an ordinary user cannot make on the host as they are: the same
//! calls, in a child with namespaces of its own, where nothing of ours holds it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
};

use rustix::{
    mount::{MountFlags, mount},
    net::SocketType,
    process::{chroot, getegid},
};

use super::{
    Finding,
    network::{packets, ping},
};
use crate::sys::{child::Child, userns};

/// Makes them: each must work where sessions can be built at all.
///
/// # Errors
/// When no child could be started, or it did not tell.
pub fn outside() -> io::Result<Vec<Finding>> {
    let (told, tell) = io::pipe()?;
    let child = Child::fork(|| {
        let wrote = serde_json::to_vec(&findings())
            .map_err(io::Error::from)
            .and_then(|bytes| fs::File::from(OwnedFd::from(tell.try_clone()?)).write_all(&bytes));
        u8::from(wrote.is_err())
    })?;
    drop(tell);
    let mut bytes = Vec::new();
    fs::File::from(OwnedFd::from(told))
        .take(LONGEST)
        .read_to_end(&mut bytes)?;
    child.wait()?;
    Ok(serde_json::from_slice(&bytes)?)
}

const LONGEST: u64 = 64 << 10;

fn findings() -> Vec<Finding> {
    let works = |attempt: &str, result: io::Result<()>| {
        let attempt = format!("{attempt}, in namespaces of its own");
        Finding::works(
            "from the host",
            &attempt,
            result.map(|()| "it worked".into()),
        )
    };
    let own = userns::Identity::current();
    let entered = userns::unshare_user_and_net().and_then(|()| {
        userns::map_identity(own).map_err(|(file, error)| {
            io::Error::new(error.kind(), format!("`{file}` not written: {error}"))
        })
    });
    let mut found = vec![works("a user namespace", entered)];
    found.push(works(
        "ICMP (ping)",
        everybody_pings().and_then(|()| ping(SocketType::DGRAM)),
    ));
    found.push(works("ICMP by a raw socket", ping(SocketType::RAW)));
    found.push(works("packets past IP", packets()));
    found.push(works("mount a file system", mounted()));
    // Last: from then on paths lead elsewhere.
    found.push(works("change the root", chroot("/tmp").map_err(Into::into)));
    found
}

/// In a new network nobody may ping without a raw socket.
fn everybody_pings() -> io::Result<()> {
    let group = getegid().as_raw();
    fs::write(
        "/proc/sys/net/ipv4/ping_group_range",
        format!("{group} {group}"),
    )
}

fn mounted() -> io::Result<()> {
    userns::unshare_mounts()?;
    mount("none", "/tmp", "tmpfs", MountFlags::empty(), None)?;
    Ok(())
}
