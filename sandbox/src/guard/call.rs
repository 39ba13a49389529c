//! Turns a held system call into what it asks for. Numbers and registers in, [`Asked`] out.

use std::fmt;

use rustix::{
    fs::{AtFlags, RenameFlags},
    io::Errno,
};

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
}

/// A path argument: where it starts and where its text lies in the caller's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RawPath {
    /// A descriptor's number, or `AT_FDCWD`.
    pub(super) start: i32,
    /// Address of the text.
    pub(super) address: u64,
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
}

impl Asked {
    /// Reads the registers of `held`.
    pub(super) fn from_registers(held: &Notification) -> Result<Self, Errno> {
        let [a, b, c, d, e, _] = held.args;
        let here = |address| RawPath {
            start: libc::AT_FDCWD,
            address,
        };
        let at = |start, address| RawPath {
            start: low_signed(start),
            address,
        };
        match held.number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => Ok(Self::Remove {
                path: here(a),
                flags: AtFlags::empty(),
            }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rmdir => Ok(Self::Remove {
                path: here(a),
                flags: AtFlags::REMOVEDIR,
            }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => Ok(Self::Rename {
                from: here(a),
                to: here(b),
                flags: RenameFlags::empty(),
            }),
            libc::SYS_unlinkat => match AtFlags::from_bits_retain(low(c)) {
                flags if (flags - AtFlags::REMOVEDIR).is_empty() => Ok(Self::Remove {
                    path: at(a, b),
                    flags,
                }),
                _ => Err(Errno::INVAL),
            },
            libc::SYS_renameat => Ok(Self::Rename {
                from: at(a, b),
                to: at(c, d),
                flags: RenameFlags::empty(),
            }),
            libc::SYS_renameat2 => match RenameFlags::from_bits_retain(low(e)) {
                // A whiteout is an overlay's business, and leaves a device node behind.
                flags if (flags - (RenameFlags::NOREPLACE | RenameFlags::EXCHANGE)).is_empty() => {
                    Ok(Self::Rename {
                        from: at(a, b),
                        to: at(c, d),
                        flags,
                    })
                }
                _ => Err(Errno::INVAL),
            },
            _ => Err(Errno::NOSYS),
        }
    }

    /// The call's name for people.
    pub(super) fn call(&self) -> Call {
        match self {
            Self::Remove { flags, .. } if flags.contains(AtFlags::REMOVEDIR) => Call::Rmdir,
            Self::Remove { .. } => Call::Unlink,
            Self::Rename { .. } => Call::Rename,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Rename => "rename",
        })
    }
}

/// The lower half of a register, which is all that the kernel looks at for an `int`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel truncates just so"
)]
fn low(register: u64) -> u32 {
    register as u32
}

fn low_signed(register: u64) -> i32 {
    low(register).cast_signed()
}
