//! Attempts on a granted folder that the caller laid out: on what is protected in it (F04 to F06), on
//! what lies beside it (F07), on what was there before (F20). And on what a session is given: its
//! variables (F17), its life (F18), its limits (F19).

use std::{
    env,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, IntoRawFd as _},
        unix::fs::{OpenOptionsExt as _, symlink},
    },
};

use libc::{AT_FDCWD, c_int, c_long};

use crate::{
    call::{address, errno, path, raw, set_errno},
    rows::{flags, of, some},
};

/// Opens for writing, and writes nothing.
pub fn opened_for_writing(name: &str) -> c_long {
    of(OpenOptions::new().append(true).open(name))
}

/// Makes a file of this name.
pub fn made(name: &str) -> c_long {
    of(File::create(name))
}

/// Makes a folder of this name.
pub fn made_folder(name: &str) -> c_long {
    of(fs::create_dir(name))
}

/// Makes a folder of this name; where that works, it goes again.
pub fn made_and_removed(name: &str) -> c_long {
    of(fs::create_dir(name).and_then(|()| fs::remove_dir(name)))
}

/// Makes a link of this name.
pub fn made_link(name: &str) -> c_long {
    of(symlink("sub", name))
}

/// Writes a file under a plain name and gives it this one.
pub fn renamed_to(name: &str) -> c_long {
    of(fs::write("sub/plain", "x").and_then(|()| fs::rename("sub/plain", name)))
}

/// Moves a folder away; where that works, back again.
pub fn moved_and_back(from: &str, to: &str) -> c_long {
    of(fs::rename(from, to).and_then(|()| fs::rename(to, from)))
}

/// Gives something that was there a second name outside of the grant.
pub fn linked_out() -> c_long {
    let name = format!("/tmp/hostile-link-{}", std::process::id());
    let result = of(fs::hard_link("old/linked", &name));
    removing(&name, result)
}

/// Reads what lies beside the grant.
pub fn read(name: &str) -> c_long {
    of(fs::read(name))
}

/// Removes a file that was there.
pub fn removed(name: &str) -> c_long {
    of(fs::remove_file(name))
}

/// Removes one by a descriptor of its folder.
pub fn removed_by_descriptor() -> c_long {
    match File::open("old") {
        Ok(folder) => raw(
            libc::SYS_unlinkat,
            &[folder.as_raw_fd() as u64, path("descriptor"), 0],
        ),
        Err(error) => of::<()>(Err(error)),
    }
}

/// Removes a folder that was there.
pub fn removed_folder() -> c_long {
    of(fs::remove_dir("old/folder"))
}

/// Moves a file that was there out of the grant.
pub fn moved_out() -> c_long {
    let name = format!("/tmp/hostile-moved-{}", std::process::id());
    let result = of(fs::rename("old/moved", &name));
    removing(&name, result)
}

/// Replaces a file that was there, then removes what stands in for it.
pub fn replaced_and_removed() -> c_long {
    of(fs::write("sub/new", "x")
        .and_then(|()| fs::rename("sub/new", "old/replaced"))
        .and_then(|()| fs::remove_file("old/replaced")))
}

/// Gives a file that was there a second name, then removes the first.
pub fn linked_and_removed() -> c_long {
    of(fs::hard_link("old/second", "sub/second").and_then(|()| fs::remove_file("old/second")))
}

/// Exchanges a file that was there with a new one, as saving may, removes the old, and then what
/// stands in for it.
pub fn exchanged_and_removed() -> c_long {
    if let Err(error) = fs::write("sub/exchanged", "x") {
        return of::<()>(Err(error));
    }
    let [at, old, new] = [
        flags(AT_FDCWD),
        path("old/exchanged"),
        path("sub/exchanged"),
    ];
    let exchanged = raw(
        libc::SYS_renameat2,
        &[at, old, at, new, libc::RENAME_EXCHANGE.into()],
    );
    match exchanged {
        0 => of(fs::remove_file("sub/exchanged").and_then(|()| fs::remove_file("old/exchanged"))),
        refused => refused,
    }
}

/// Whether a variable of whoever started us is ours.
pub fn has_variable(name: &str) -> c_long {
    of(some(env::var_os(name).is_some()))
}

/// Takes one more of something than a session has when nobody names its limits.
pub fn raised(what: u32) -> c_long {
    let most = match what {
        libc::RLIMIT_NOFILE => 16_384,
        _ => 64_u64 << 30,
    };
    let limit = [most + 1; 2];
    raw(libc::SYS_prlimit64, &[0, what.into(), address(&limit), 0])
}

/// Takes 128 MiB of `/tmp`, in a file without a name. Its sessions have half of that.
pub fn filled() -> c_long {
    let flags = libc::O_TMPFILE;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open("/tmp");
    match file {
        Ok(file) => raw(
            libc::SYS_fallocate,
            &[file.as_raw_fd() as u64, 0, 0, 128 << 20],
        ),
        Err(error) => of::<()>(Err(error)),
    }
}

/// Leaves a process behind, out of our session and without our streams, that holds `behind` open.
/// It ends when somebody has opened that for writing and closed it.
pub fn stayed_behind() -> c_long {
    let nonblocking = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("behind");
    let held = match nonblocking {
        Ok(held) => held.into_raw_fd(),
        Err(error) => return of::<()>(Err(error)),
    };
    // SAFETY: this process has one thread; the child makes system calls and ends.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            (0..=2).for_each(|stream: c_int| {
                libc::close(stream);
            });
            let mut wait = libc::pollfd {
                fd: held,
                events: libc::POLLIN,
                revents: 0,
            };
            libc::poll(&raw mut wait, 1, 30_000);
            libc::_exit(0);
        }
    }
    0
}

/// Takes away what an attempt made, and keeps its error.
fn removing(name: &str, result: c_long) -> c_long {
    let error = errno();
    let _absent: io::Result<()> = fs::remove_file(name);
    set_errno(error);
    result
}
