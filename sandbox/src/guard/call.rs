//! Turns a held system call into what it asks for. Numbers and registers in, [`Asked`] out.

use std::fmt;

use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::sockets::{SocketCall, SocketDeed};
use crate::sys::notify::Notification;

/// What a held call asks for, before any path of it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// Take one name away.
    Remove {
        /// The name, and whether it is a directory's.
        path: RawPath,
        /// `AT_REMOVEDIR` for a directory, nothing for anything else.
        flags: AtFlags,
    },
    /// Give something another name.
    Rename {
        /// Its name now.
        from: RawPath,
        /// Its name then.
        to: RawPath,
        /// As the caller gave them.
        flags: RenameFlags,
    },
    /// Open a file, to write it or to make it.
    Open {
        /// Its name.
        path: RawPath,
        /// As the caller gave them.
        how: OpenHow,
    },
    /// Make a directory.
    MakeDirectory {
        /// Its name.
        path: RawPath,
        /// Permission bits, before the umask.
        mode: u32,
    },
    /// Make a file, a named pipe, a socket or a device.
    MakeNode {
        /// Its name.
        path: RawPath,
        /// Kind and permission bits, before the umask.
        mode: u32,
        /// Which device.
        device: u64,
    },
    /// Make a symbolic link.
    Symlink {
        /// Address of what it says.
        text: u64,
        /// Its name.
        path: RawPath,
    },
    /// Give a file one more name.
    Link {
        /// A name it has.
        from: RawPath,
        /// The new one.
        to: RawPath,
        /// As the caller gave them.
        flags: AtFlags,
    },
    /// Cut a file, or make it longer.
    Truncate {
        /// Its name.
        path: RawPath,
        /// How long it is to be.
        length: u64,
    },
    /// Connect a socket, or give it an address.
    Socket(SocketCall),
    /// Choose which permissions new files do not get. Takes no address, so it may go on by itself.
    Umask,
}

/// How a file is to be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OpenHow {
    /// As the caller gave them.
    pub(super) flags: OFlags,
    /// Permission bits, before the umask.
    pub(super) mode: Mode,
}

/// A path argument: where it starts and where its text lies in the caller's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RawPath {
    /// A descriptor's number, or `AT_FDCWD`.
    pub(super) start: i32,
    /// Address of the text.
    pub(super) address: u64,
}

impl RawPath {
    /// From the working directory.
    fn here(address: u64) -> Self {
        Self {
            start: libc::AT_FDCWD,
            address,
        }
    }

    /// From the descriptor in a register.
    fn at(start: u64, address: u64) -> Self {
        Self {
            start: low_signed(start),
            address,
        }
    }
}

/// The calls that are held, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// `unlink` or `unlinkat`.
    Unlink,
    /// `rmdir`, or `unlinkat` with `AT_REMOVEDIR`.
    Rmdir,
    /// `rename`, `renameat` or `renameat2`.
    Rename,
    /// `open`, `openat` or `creat`, to write or to make a file.
    Open,
    /// `mkdir` or `mkdirat`.
    Mkdir,
    /// `mknod` or `mknodat`.
    Mknod,
    /// `symlink` or `symlinkat`.
    Symlink,
    /// `link` or `linkat`.
    Link,
    /// `truncate`.
    Truncate,
    /// `umask`.
    Umask,
    /// `connect`.
    Connect,
    /// `bind`.
    Bind,
}

impl Asked {
    /// Reads the registers of `held`.
    pub(super) fn from_registers(held: &Notification) -> Result<Self, Errno> {
        let [a, b, c, d, e, _] = held.args;
        match held.number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => Ok(Self::Remove {
                path: RawPath::here(a),
                flags: AtFlags::empty(),
            }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rmdir => Ok(Self::Remove {
                path: RawPath::here(a),
                flags: AtFlags::REMOVEDIR,
            }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => Ok(Self::Rename {
                from: RawPath::here(a),
                to: RawPath::here(b),
                flags: RenameFlags::empty(),
            }),
            libc::SYS_unlinkat => match AtFlags::from_bits_retain(low(c)) {
                flags if (flags - AtFlags::REMOVEDIR).is_empty() => Ok(Self::Remove {
                    path: RawPath::at(a, b),
                    flags,
                }),
                _ => Err(Errno::INVAL),
            },
            libc::SYS_renameat => Ok(Self::Rename {
                from: RawPath::at(a, b),
                to: RawPath::at(c, d),
                flags: RenameFlags::empty(),
            }),
            libc::SYS_renameat2 => match RenameFlags::from_bits_retain(low(e)) {
                // A whiteout is an overlay's business, and leaves a device node behind.
                flags if (flags - (RenameFlags::NOREPLACE | RenameFlags::EXCHANGE)).is_empty() => {
                    Ok(Self::Rename {
                        from: RawPath::at(a, b),
                        to: RawPath::at(c, d),
                        flags,
                    })
                }
                _ => Err(Errno::INVAL),
            },
            _ => Self::adding(held),
        }
    }

    /// The calls that add names or write.
    fn adding(held: &Notification) -> Result<Self, Errno> {
        let [a, b, c, d, e, _] = held.args;
        let open = |path, flags, mode| {
            let flags = OFlags::from_bits_retain(low(flags));
            // Without it the register holds anything, and the kernel does not look.
            let mode = match flags.contains(OFlags::CREATE) {
                true => without_set_id(low(mode))?,
                false => 0,
            };
            // As the kernel does it for these calls.
            let mode = Mode::from_bits_retain(mode & 0o7777);
            let how = OpenHow { flags, mode };
            Ok(Self::Open { path, how })
        };
        match held.number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => open(RawPath::here(a), b, c),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                open(RawPath::here(a), flags.bits().into(), b)
            }
            libc::SYS_openat => open(RawPath::at(a, b), c, d),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => Ok(Self::MakeDirectory {
                path: RawPath::here(a),
                mode: without_set_id(low(b))?,
            }),
            libc::SYS_mkdirat => Ok(Self::MakeDirectory {
                path: RawPath::at(a, b),
                mode: without_set_id(low(c))?,
            }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mknod => Ok(Self::MakeNode {
                path: RawPath::here(a),
                mode: without_set_id(low(b))?,
                device: low(c).into(),
            }),
            libc::SYS_mknodat => Ok(Self::MakeNode {
                path: RawPath::at(a, b),
                mode: without_set_id(low(c))?,
                device: low(d).into(),
            }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_symlink => Ok(Self::Symlink {
                text: a,
                path: RawPath::here(b),
            }),
            libc::SYS_symlinkat => Ok(Self::Symlink {
                text: a,
                path: RawPath::at(b, c),
            }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_link => Ok(Self::Link {
                from: RawPath::here(a),
                to: RawPath::here(b),
                flags: AtFlags::empty(),
            }),
            libc::SYS_linkat => match AtFlags::from_bits_retain(low(e)) {
                flags if (flags - (AtFlags::SYMLINK_FOLLOW | AtFlags::EMPTY_PATH)).is_empty() => {
                    Ok(Self::Link {
                        from: RawPath::at(a, b),
                        to: RawPath::at(c, d),
                        flags,
                    })
                }
                _ => Err(Errno::INVAL),
            },
            libc::SYS_truncate => Ok(Self::Truncate {
                path: RawPath::here(a),
                length: b,
            }),
            libc::SYS_umask => Ok(Self::Umask),
            libc::SYS_connect => Ok(Self::Socket(SocketCall::of(SocketDeed::Connect, held))),
            libc::SYS_bind => Ok(Self::Socket(SocketCall::of(SocketDeed::Bind, held))),
            _ => Err(Errno::NOSYS),
        }
    }

    /// The call's name for people.
    pub(super) fn call(&self) -> Call {
        match self {
            Self::Remove { flags, .. } if flags.contains(AtFlags::REMOVEDIR) => Call::Rmdir,
            Self::Remove { .. } => Call::Unlink,
            Self::Rename { .. } => Call::Rename,
            Self::Open { .. } => Call::Open,
            Self::MakeDirectory { .. } => Call::Mkdir,
            Self::MakeNode { .. } => Call::Mknod,
            Self::Symlink { .. } => Call::Symlink,
            Self::Link { .. } => Call::Link,
            Self::Truncate { .. } => Call::Truncate,
            Self::Umask => Call::Umask,
            Self::Socket(call) => call.deed.call(),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Rename => "rename",
            Self::Open => "open",
            Self::Mkdir => "mkdir",
            Self::Mknod => "mknod",
            Self::Symlink => "symlink",
            Self::Link => "link",
            Self::Truncate => "truncate",
            Self::Umask => "umask",
            Self::Connect => "connect",
            Self::Bind => "bind",
        })
    }
}

/// The profile's filter refuses these bits before a call comes here. What is made here is made from
/// outside of that filter, so it is looked at again.
fn without_set_id(mode: u32) -> Result<u32, Errno> {
    match mode & SET_ID {
        0 => Ok(mode),
        _ => Err(Errno::PERM),
    }
}

/// `S_ISUID` and `S_ISGID`.
pub(super) const SET_ID: u32 = 0o6000;

/// The lower half of a register, which is all that the kernel looks at for an `int`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel truncates just so"
)]
pub(super) fn low(register: u64) -> u32 {
    register as u32
}

pub(super) fn low_signed(register: u64) -> i32 {
    low(register).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(number: i64, args: [u64; 6]) -> Result<Asked, Errno> {
        Asked::from_registers(&Notification {
            id: 1,
            tid: 2,
            number,
            args,
        })
    }

    #[test]
    fn only_the_registers_halves_that_the_kernel_reads_count() {
        let high = 0xffff_ffff_0000_0000;
        let path = RawPath {
            start: 5,
            address: 0x7fff_0000_1000,
        };
        let remove = |flags| Ok(Asked::Remove { path, flags });
        let cases = [
            ([5, path.address, 0, 0, 0, 0], remove(AtFlags::empty())),
            (
                [high | 5, path.address, high, 0, 0, 0],
                remove(AtFlags::empty()),
            ),
            (
                [5, path.address, high | 0x200, 0, 0, 0],
                remove(AtFlags::REMOVEDIR),
            ),
            ([5, path.address, 0x201, 0, 0, 0], Err(Errno::INVAL)),
        ];
        for (args, expected) in cases {
            assert_eq!(read(libc::SYS_unlinkat, args), expected, "{args:x?}");
        }
    }

    #[test]
    fn at_fdcwd_is_told_from_other_descriptors() {
        for start in [0xffff_ff9c, 0xffff_ffff_ffff_ff9c] {
            let asked = read(libc::SYS_renameat, [start, 1, 7, 2, 99, 0]);
            let from = RawPath {
                start: libc::AT_FDCWD,
                address: 1,
            };
            let to = RawPath {
                start: 7,
                address: 2,
            };
            assert_eq!(
                asked,
                Ok(Asked::Rename {
                    from,
                    to,
                    flags: RenameFlags::empty()
                })
            );
        }
    }

    #[test]
    fn flags_of_renameat2_that_are_not_known_are_refused() {
        for (flags, known) in [
            (0, true),
            (1, true),
            (2, true),
            (3, true),
            (4, false),
            (8, false),
        ] {
            assert_eq!(
                read(libc::SYS_renameat2, [0, 0, 0, 0, flags, 0]).is_ok(),
                known,
                "{flags}"
            );
        }
    }

    #[test]
    fn nothing_is_made_with_a_set_id_bit() {
        let creates = u64::from((libc::O_CREAT | libc::O_WRONLY).cast_unsigned());
        let file = u64::from(libc::S_IFREG);
        for (mode, made) in [
            (0o755, true),
            (0o1777, true),
            (0o4755, false),
            (0o2700, false),
        ] {
            let calls = [
                (libc::SYS_openat, [5, 1, creates, mode, 0, 0]),
                (libc::SYS_mkdirat, [5, 1, mode, 0, 0, 0]),
                (libc::SYS_mknodat, [5, 1, file | mode, 0, 0, 0]),
            ];
            for (number, args) in calls {
                let asked = read(number, args);
                let expected = if made { None } else { Some(Errno::PERM) };
                assert_eq!(asked.err(), expected, "{number} {mode:o}");
            }
            let writes = u64::from(libc::O_WRONLY.cast_unsigned());
            assert!(read(libc::SYS_openat, [5, 1, writes, mode, 0, 0]).is_ok());
        }
    }

    #[test]
    fn a_call_that_is_not_held_is_not_carried_out() {
        assert_eq!(read(libc::SYS_openat2, [0; 6]), Err(Errno::NOSYS));
    }
}
