//! The filter half, inside the sandbox: holds every call that could make a name disappear, or make
//! or write one that is protected, until the supervisor has answered it.
//!
//! What it holds: the calls that take names away (unlink, rmdir, rename), those that add some
//! (mkdir, mknod, symlink, link, bind), and opening to write or to make a file; where unix sockets can
//! be made, connecting one. What it refuses by itself: io_uring and openat2, which would do the same out
//! of its sight, and btrfs's removal of subvolumes. Calls of a foreign architecture kill the process.

use std::{io, os::fd::OwnedFd};

use cordon_policy::SeccompProfile;
use libc::sock_filter;

use crate::sys::notify;

/// Puts the filter on this thread and everything it starts, and returns the listener for
/// [`Supervisor::new`](super::Supervisor::new).
///
/// Call it last before `exec`: from here on a held call waits for a supervisor. When the listener
/// is closed everywhere, held calls fail with `ENOSYS`. `profile` is the system calls that it has.
///
/// # Errors
/// `EINVAL`: the kernel is older than 5.19. `EBUSY`: there is a listener on this thread already.
pub fn install(profile: SeccompProfile) -> io::Result<OwnedFd> {
    rustix::thread::set_no_new_privs(true)?;
    notify::install(&program(profile))
}

/// The whole filter. Every jump is relative, so each check carries its own verdict behind it.
fn program(profile: SeccompProfile) -> Vec<sock_filter> {
    let mut program = vec![
        load(ARCH_AT),
        skip_if_equal(ARCH, 1),
        verdict(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    program.push(load(NUMBER_AT));
    if cfg!(target_arch = "x86_64") {
        // x32 calls carry this bit; the numbers below would not match them.
        program.extend([
            skip_unless_at_least(0x4000_0000),
            verdict(libc::SECCOMP_RET_KILL_PROCESS),
        ]);
    }
    let of_sockets: &[_] = match profile {
        SeccompProfile::Build => &[libc::SYS_connect],
        // An end of a connected pair is connected for good.
        SeccompProfile::Strict | SeccompProfile::Default => &[],
    };
    for number in HELD.iter().chain(of_sockets) {
        program.extend([
            skip_unless_equal(number_of(*number)),
            verdict(libc::SECCOMP_RET_USER_NOTIF),
        ]);
    }
    for (number, flags_at) in OPENING {
        // Each check that fits returns, so what follows is only reached by other calls.
        program.extend([
            skip_count_unless_equal(number_of(*number), 6),
            load(*flags_at),
            skip_unless_any(NAMELESS),
            verdict(libc::SECCOMP_RET_ALLOW),
            skip_unless_any(WRITES),
            verdict(libc::SECCOMP_RET_USER_NOTIF),
            verdict(libc::SECCOMP_RET_ALLOW),
        ]);
    }
    for number in [
        // Its flags lie in memory, where a filter cannot look: C libraries and languages fall back.
        libc::SYS_openat2,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ] {
        program.extend([skip_unless_equal(number_of(number)), refuse(libc::ENOSYS)]);
    }
    program.extend([
        skip_if_equal(number_of(libc::SYS_ioctl), 1),
        verdict(libc::SECCOMP_RET_ALLOW),
        // The request is an `unsigned int`: its upper half is ignored by the kernel and by us.
        load(SECOND_ARGUMENT_AT),
    ]);
    for request in BTRFS_REMOVALS {
        program.extend([skip_unless_equal(request), refuse(libc::EPERM)]);
    }
    program.push(verdict(libc::SECCOMP_RET_ALLOW));
    program
}

fn load(offset: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn skip_if_equal(value: u32, count: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, count, 0, value)
}

fn skip_unless_equal(value: u32) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, value)
}

fn skip_count_unless_equal(value: u32, count: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, count, value)
}

fn skip_unless_any(bits: u32) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, bits)
}

fn skip_unless_at_least(value: u32) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, value)
}

fn verdict(action: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, action)
}

fn refuse(errno: i32) -> sock_filter {
    verdict(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
}

fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    // Every BPF operation is below 0x100.
    sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt,
        jf,
        k,
    }
}

/// A system call's number as the filter sees it. One that did not fit would match nothing real.
fn number_of(number: libc::c_long) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The calls that wait for the supervisor.
#[cfg(target_arch = "x86_64")]
const HELD: &[libc::c_long] = &[
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_truncate,
    libc::SYS_umask,
    // It makes a name too: a filter sees neither the address nor what kind of socket it is.
    libc::SYS_bind,
];
#[cfg(target_arch = "aarch64")]
const HELD: &[libc::c_long] = &[
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_truncate,
    libc::SYS_umask,
    // It makes a name too: a filter sees neither the address nor what kind of socket it is.
    libc::SYS_bind,
];

/// The calls that wait when their flags say that they write or make a file, and where those are.
#[cfg(target_arch = "x86_64")]
const OPENING: &[(libc::c_long, u32)] = &[
    (libc::SYS_open, SECOND_ARGUMENT_AT),
    (libc::SYS_openat, THIRD_ARGUMENT_AT),
];
#[cfg(target_arch = "aarch64")]
const OPENING: &[(libc::c_long, u32)] = &[(libc::SYS_openat, THIRD_ARGUMENT_AT)];

/// Flags of which any one means that a file is written or made.
const WRITES: u32 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC).cast_unsigned();

/// Flags of which any one means that no name is made and no file is written: `O_PATH`, and the bit
/// that says `O_TMPFILE`, whose file gets a name by a link, which waits.
const NAMELESS: u32 = (libc::O_PATH | (libc::O_TMPFILE & !libc::O_DIRECTORY)).cast_unsigned();

/// `BTRFS_IOC_SNAP_DESTROY` and `BTRFS_IOC_SNAP_DESTROY_V2`.
const BTRFS_REMOVALS: [u32; 2] = [0x5000_940f, 0x5000_943f];

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

// Offsets in `struct seccomp_data`; both machines are little endian, so a 64-bit argument's lower
// half comes first.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const SECOND_ARGUMENT_AT: u32 = 24;
const THIRD_ARGUMENT_AT: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would, on a call's number, architecture and second argument.
    fn judge(number: u32, arch: u32, argument: u64) -> u32 {
        judge_two(number, arch, [argument, 0])
    }

    fn judge_two(number: u32, arch: u32, [argument, third]: [u64; 2]) -> u32 {
        run(
            &program(SeccompProfile::Default),
            number,
            arch,
            [argument, third],
        )
    }

    fn run(program: &[sock_filter], number: u32, arch: u32, [argument, third]: [u64; 2]) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) {
                0x20 => {
                    held = match step.k {
                        NUMBER_AT => number,
                        ARCH_AT => arch,
                        SECOND_ARGUMENT_AT => (argument & 0xffff_ffff).try_into().unwrap(),
                        THIRD_ARGUMENT_AT => (third & 0xffff_ffff).try_into().unwrap(),
                        other => panic!("loads {other}"),
                    }
                }
                0x15 => at += usize::from(if held == step.k { step.jt } else { step.jf }),
                0x35 => at += usize::from(if held >= step.k { step.jt } else { step.jf }),
                0x45 => at += usize::from(if held & step.k != 0 { step.jt } else { step.jf }),
                0x06 => return step.k,
                other => panic!("unknown step {other:#x}"),
            }
        }
    }

    #[test]
    fn each_call_gets_its_verdict() {
        let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
        let cases = [
            (libc::SYS_unlinkat, 0, libc::SECCOMP_RET_USER_NOTIF),
            (libc::SYS_renameat, 0, libc::SECCOMP_RET_USER_NOTIF),
            (libc::SYS_renameat2, 0, libc::SECCOMP_RET_USER_NOTIF),
            (libc::SYS_linkat, 0, libc::SECCOMP_RET_USER_NOTIF),
            (libc::SYS_mkdirat, 0, libc::SECCOMP_RET_USER_NOTIF),
            (libc::SYS_openat2, 0, errno(libc::ENOSYS)),
            (libc::SYS_openat, 0, libc::SECCOMP_RET_ALLOW),
            (libc::SYS_execve, 0, libc::SECCOMP_RET_ALLOW),
            (libc::SYS_io_uring_setup, 0, errno(libc::ENOSYS)),
            (libc::SYS_io_uring_enter, 0, errno(libc::ENOSYS)),
            (libc::SYS_io_uring_register, 0, errno(libc::ENOSYS)),
            (libc::SYS_ioctl, 0x5401, libc::SECCOMP_RET_ALLOW),
            (libc::SYS_ioctl, 0x5000_940f, errno(libc::EPERM)),
            (libc::SYS_ioctl, 0xdead_beef_5000_940f, errno(libc::EPERM)),
            (libc::SYS_ioctl, 0x5000_943f, errno(libc::EPERM)),
        ];
        for (number, argument, expected) in cases {
            let verdict = judge(number_of(number), ARCH, argument);
            assert_eq!(verdict, expected, "call {number}, argument {argument:#x}");
        }
    }

    #[test]
    fn sockets_are_held_where_unix_ones_can_be_made() {
        for profile in SeccompProfile::ALL {
            let connecting = match profile {
                SeccompProfile::Build => libc::SECCOMP_RET_USER_NOTIF,
                SeccompProfile::Strict | SeccompProfile::Default => libc::SECCOMP_RET_ALLOW,
            };
            let held = libc::SECCOMP_RET_USER_NOTIF;
            for (call, expected) in [(libc::SYS_bind, held), (libc::SYS_connect, connecting)] {
                let verdict = run(&program(profile), number_of(call), ARCH, [3, 110]);
                assert_eq!(verdict, expected, "{call} in {profile}");
            }
        }
    }

    #[test]
    fn f05_opening_is_held_when_it_writes_or_makes() {
        let high = 0xffff_ffff_0000_0000;
        let flags = |flags: i32| u64::from(flags.cast_unsigned());
        let (held, passes) = (libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW);
        for (flags, expected) in [
            (0, passes),
            (high, passes),
            (flags(libc::O_CLOEXEC | libc::O_DIRECTORY), passes),
            (flags(libc::O_WRONLY), held),
            (flags(libc::O_RDWR), held),
            (flags(libc::O_CREAT), held),
            (flags(libc::O_TRUNC), held),
            (high | flags(libc::O_CREAT), held),
            (flags(libc::O_PATH | libc::O_RDWR), passes),
            (flags(libc::O_TMPFILE | libc::O_RDWR), passes),
        ] {
            let open = judge_two(number_of(libc::SYS_openat), ARCH, [flags, flags]);
            assert_eq!(open, expected, "{flags:#x}");
            // Only the flags count, not the address beside them.
            let address = judge_two(number_of(libc::SYS_openat), ARCH, [0x42, flags]);
            assert_eq!(address, expected, "{flags:#x}");
        }
    }

    #[test]
    fn f10_a_foreign_architecture_is_killed() {
        for arch in [0, 0x4000_0003, 0x4000_0028, ARCH ^ 0x4000_0000, u32::MAX] {
            assert_eq!(
                judge(number_of(libc::SYS_read), arch, 0),
                libc::SECCOMP_RET_KILL_PROCESS
            );
        }
        assert_eq!(
            judge(number_of(libc::SYS_read), ARCH, 0),
            libc::SECCOMP_RET_ALLOW
        );
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn f10_x32_calls_are_killed_and_the_old_calls_are_held() {
        for number in [libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_rename] {
            let number = number_of(number);
            assert_eq!(
                judge(number | 0x4000_0000, ARCH, 0),
                libc::SECCOMP_RET_KILL_PROCESS
            );
            assert_eq!(judge(number, ARCH, 0), libc::SECCOMP_RET_USER_NOTIF);
        }
        assert_eq!(judge(u32::MAX, ARCH, 0), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
