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
    fn a_call_that_is_not_held_is_not_carried_out() {
        assert_eq!(read(libc::SYS_linkat, [0; 6]), Err(Errno::NOSYS));
    }
}
