//! What a hostile program tries passes without the filter and is refused with it.

use cordon_policy::SeccompProfile;
use cordon_sandbox::seccomp::apply_to_self;
use libc::{EAFNOSUPPORT, ENOSYS, EPERM, c_long};

use super::{
    call::{address, call},
    inside::{User, start, users},
};

struct Attempt {
    name: &'static str,
    number: c_long,
    arguments: [u64; 5],
    refused: i32,
}

/// What a hostile program tries; each would pass or fail otherwise without the filter.
fn attempts() -> Vec<Attempt> {
    let attempt = |name, number, arguments: &[u64], refused| {
        let mut five = [0; 5];
        five[..arguments.len()].copy_from_slice(arguments);
        let arguments = five;
        Attempt {
            name,
            number,
            arguments,
            refused,
        }
    };
    // Live as long as the process: the children use copies.
    let root = address(Box::leak(Box::new(*b"/\0")));
    let tmpfs = address(Box::leak(Box::new(*b"tmpfs\0")));
    let buffer = address(Box::leak(Box::new([0_u8; 4096])));
    let range = address(Box::leak(Box::new([buffer, 8])));
    let me = u64::from(std::process::id());
    vec![
        attempt("f08 unshare user", libc::SYS_unshare, &[0x1000_0000], EPERM),
        attempt("f08 unshare net", libc::SYS_unshare, &[0x4000_0000], EPERM),
        attempt(
            "f08 mount",
            libc::SYS_mount,
            &[tmpfs, root, tmpfs, 0, 0],
            EPERM,
        ),
        attempt("f08 umount", libc::SYS_umount2, &[root, 2], EPERM),
        attempt("f08 pivot_root", libc::SYS_pivot_root, &[root, root], EPERM),
        attempt("f08 chroot", libc::SYS_chroot, &[root], EPERM),
        attempt("f08 setns", libc::SYS_setns, &[u64::MAX, 0], EPERM),
        attempt("f08 fsopen", libc::SYS_fsopen, &[tmpfs, 0], ENOSYS),
        attempt(
            "f08 open_tree",
            libc::SYS_open_tree,
            &[u64::MAX, root, 1],
            ENOSYS,
        ),
        attempt("f08 clone3", libc::SYS_clone3, &[buffer, 0], ENOSYS),
        attempt(
            "f09 io_uring_setup",
            libc::SYS_io_uring_setup,
            &[1, 0],
            ENOSYS,
        ),
        attempt(
            "f09 io_uring_enter",
            libc::SYS_io_uring_enter,
            &[u64::MAX],
            ENOSYS,
        ),
        attempt("f11 ptrace", libc::SYS_ptrace, &[0], EPERM),
        attempt(
            "f11 process_vm_readv",
            libc::SYS_process_vm_readv,
            &[me, range, 1, range, 1],
            EPERM,
        ),
        attempt(
            "f11 pidfd_getfd",
            libc::SYS_pidfd_getfd,
            &[u64::MAX, 0, 0],
            EPERM,
        ),
        attempt("f11 kcmp", libc::SYS_kcmp, &[0, 0, 9], EPERM),
        attempt(
            "f12 unix stream",
            libc::SYS_socket,
            &[1, 1, 0],
            EAFNOSUPPORT,
        ),
        attempt(
            "f12 unix datagram",
            libc::SYS_socket,
            &[1, 2, 0],
            EAFNOSUPPORT,
        ),
        attempt(
            "f12 pair of datagram",
            libc::SYS_socketpair,
            &[1, 2, 0, buffer],
            EPERM,
        ),
        attempt("f12 packet", libc::SYS_socket, &[17, 3, 0], EAFNOSUPPORT),
        attempt("netlink netfilter", libc::SYS_socket, &[16, 3, 12], EPERM),
        attempt("mptcp", libc::SYS_socket, &[2, 1, 262], EAFNOSUPPORT),
        attempt("keyctl", libc::SYS_keyctl, &[0, 0xffff_fffd, 0], EPERM),
        attempt("add_key", libc::SYS_add_key, &[], EPERM),
        attempt("bpf", libc::SYS_bpf, &[99, 0, 4096], EPERM),
        attempt("userfaultfd", libc::SYS_userfaultfd, &[1], EPERM),
        attempt("personality", libc::SYS_personality, &[0x4_0000], EPERM),
        attempt("future call", 463, &[u64::MAX, 0, 0, 1, 1], ENOSYS),
    ]
}

/// Has every capability in namespaces of its own, so that it is the filter that refuses.
fn with_capabilities() {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    // SAFETY: unshare with these flags changes no memory of ours.
    let left = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) };
    assert_eq!(left, 0);
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).unwrap();
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).unwrap();
}

#[test]
fn f08_f09_f11_f12_attempts_pass_without_the_filter_and_are_refused_with_it() {
    for user in users() {
        for (index, Attempt { name, refused, .. }) in attempts().into_iter().enumerate() {
            let try_it = || {
                // Made anew in the child: one names the process itself.
                let Attempt {
                    number, arguments, ..
                } = attempts().swap_remove(index);
                format!(
                    "{:?}",
                    call(number, arguments).map_err(|error| error.raw_os_error())
                )
            };
            let with = start(user, |_| {
                with_capabilities();
                apply_to_self(SeccompProfile::Default).unwrap();
                try_it()
            });
            assert_eq!(
                with.saw(),
                format!("Err(Some({refused}))"),
                "{name}, {user:?}"
            );

            let without = start(user, |_| {
                with_capabilities();
                try_it()
            });
            let saw = without.saw();
            // Some calls need a privilege of the whole machine, or are newer than this kernel.
            let same = saw == format!("Err(Some({refused}))");
            let excused = ["bpf", "f09 io_uring_setup", "future call"].contains(&name);
            assert!(
                !same || excused,
                "{name}, {user:?}: refused without the filter too"
            );
        }
    }
}

#[test]
fn f10_calls_by_the_x32_and_i386_doors_kill() {
    let getpid_x32 = || {
        let _answer = call(0x4000_0000 | libc::SYS_getpid, [0; 5]);
        "lives ".to_owned()
    };
    let getpid_i386 = || {
        let mut number = 20_i64;
        // SAFETY: interrupt 0x80 with getpid's number reads and writes only eax.
        unsafe { std::arch::asm!("int 0x80", inout("rax") number) };
        format!("lives {}", if number == 0 { "oddly" } else { "" })
    };
    for door in [getpid_x32 as fn() -> String, getpid_i386] {
        let with = start(User::Same, |_| {
            apply_to_self(SeccompProfile::Default).unwrap();
            door()
        });
        assert_eq!(with.saw(), format!("killed by {}", libc::SIGSYS));
        // Control: without the filter the process lives, or the kernel has no such door at all.
        let without = start(User::Same, |_| door()).saw();
        assert!(
            without.starts_with("lives") || without == format!("killed by {}", libc::SIGSEGV),
            "{without}"
        );
    }
}
