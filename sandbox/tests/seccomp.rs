//! The system call filter: its answers to every call as the kernel would compute them, and the
//! attempts of a hostile program against the real one.

#![cfg(target_arch = "x86_64")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]
#![expect(unsafe_code, reason = "the attempts are raw system calls")]

mod inside;

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::{io, ptr};

use cordon_policy::SeccompProfile;
use cordon_sandbox::seccomp::{apply_to_self, program, program_for};
use inside::{User, start, users};
use libc::{EAFNOSUPPORT, ENOSYS, EPERM, c_long};

/// What the filter says to a call: an errno, `ALLOW` or `KILL`.
const ALLOW: i32 = 0;
const KILL: i32 = -1;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// What the default profile says.
fn answer(arch: u32, number: i64, arguments: &[u64]) -> i32 {
    answer_of(program(SeccompProfile::Default), arch, number, arguments)
}

/// Runs a program as the kernel does, on one call.
fn answer_of(program: &[u8], arch: u32, number: i64, arguments: &[u64]) -> i32 {
    let number = u32::try_from(number).unwrap();
    let mut data = [number.to_le_bytes(), arch.to_le_bytes()].concat();
    data.extend([0; 8]);
    for at in 0..6 {
        data.extend(arguments.get(at).copied().unwrap_or(0).to_le_bytes());
    }
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
    let code: Vec<&[u8]> = program.chunks(8).collect();
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let step = code[at];
        let k = u32::from_le_bytes(step[4..8].try_into().unwrap());
        let jump = |taken: bool| usize::from(if taken { step[2] } else { step[3] });
        at += 1;
        match u32::from(u16::from_le_bytes([step[0], step[1]])) {
            0x20 => accumulator = word(usize::try_from(k).unwrap()), // load a word
            0x54 => accumulator &= k,
            0x05 => at += usize::try_from(k).unwrap(),
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x06 => match k {
                libc::SECCOMP_RET_ALLOW => return ALLOW,
                libc::SECCOMP_RET_KILL_PROCESS => return KILL,
                errno => return i32::try_from(errno & 0xffff).unwrap(),
            },
            other => panic!("unknown instruction {other:#x} at {at}"),
        }
    }
}

/// A value that a 64-bit comparison would tell apart and the kernel does not.
fn with_high_bits(value: u64) -> u64 {
    value | 0xdead_beef_0000_0000
}

#[test]
fn every_rule_answers_as_its_data_says() {
    let inet = |kind: i32, protocol: u64| vec![2, u64::try_from(kind).unwrap(), protocol];
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let stream = libc::SOCK_STREAM;
    let fork = u64::try_from(libc::SIGCHLD).unwrap();
    let thread = 0x003d_0f00;
    let table: Vec<(&str, c_long, Vec<u64>, i32)> = vec![
        ("read", libc::SYS_read, vec![], ALLOW),
        ("openat", libc::SYS_openat, vec![], ALLOW),
        ("execve", libc::SYS_execve, vec![], ALLOW),
        ("seccomp", libc::SYS_seccomp, vec![], ALLOW),
        ("highest known", 462, vec![], ALLOW),
        ("first unknown", 463, vec![], ENOSYS),
        ("far future", 0x3fff_ffff, vec![], ENOSYS),
        ("in the hole", 400, vec![], EPERM),
        (
            "f09 io_uring_setup",
            libc::SYS_io_uring_setup,
            vec![],
            ENOSYS,
        ),
        (
            "f09 io_uring_enter",
            libc::SYS_io_uring_enter,
            vec![],
            ENOSYS,
        ),
        (
            "f09 io_uring_register",
            libc::SYS_io_uring_register,
            vec![],
            ENOSYS,
        ),
        ("clone3", libc::SYS_clone3, vec![], ENOSYS),
        ("open_tree", libc::SYS_open_tree, vec![], ENOSYS),
        ("fsopen", libc::SYS_fsopen, vec![], ENOSYS),
        ("mount_setattr", libc::SYS_mount_setattr, vec![], ENOSYS),
        ("fork by clone", libc::SYS_clone, vec![fork], ALLOW),
        ("thread by clone", libc::SYS_clone, vec![thread], ALLOW),
        (
            "f08 NEWUSER",
            libc::SYS_clone,
            vec![0x1000_0000 | fork],
            EPERM,
        ),
        (
            "f08 NEWNET",
            libc::SYS_clone,
            vec![with_high_bits(0x4000_0000)],
            EPERM,
        ),
        (
            "f08 unshare NEWNS",
            libc::SYS_unshare,
            vec![0x0002_0000],
            EPERM,
        ),
        ("f08 unshare NEWTIME", libc::SYS_unshare, vec![0x80], EPERM),
        ("unshare FILES", libc::SYS_unshare, vec![0x400], ALLOW),
        ("tcp", libc::SYS_socket, inet(stream, 0), ALLOW),
        (
            "tcp, flags",
            libc::SYS_socket,
            inet(stream | flags, 6),
            ALLOW,
        ),
        ("udp", libc::SYS_socket, inet(libc::SOCK_DGRAM, 17), ALLOW),
        ("tcp6", libc::SYS_socket, vec![10, 1, 0], ALLOW),
        ("raw", libc::SYS_socket, inet(libc::SOCK_RAW, 0), EPERM),
        ("raw icmp", libc::SYS_socket, inet(libc::SOCK_RAW, 1), EPERM),
        (
            "ping socket",
            libc::SYS_socket,
            inet(libc::SOCK_DGRAM, 1),
            EPERM,
        ),
        (
            "tcp as datagram",
            libc::SYS_socket,
            inet(libc::SOCK_DGRAM, 6),
            EPERM,
        ),
        ("mptcp", libc::SYS_socket, inet(stream, 262), EAFNOSUPPORT),
        ("sctp", libc::SYS_socket, inet(stream, 132), EAFNOSUPPORT),
        ("f12 unix", libc::SYS_socket, vec![1, 1, 0], EAFNOSUPPORT),
        (
            "f12 unix, high bits",
            libc::SYS_socket,
            vec![with_high_bits(1), 1],
            EAFNOSUPPORT,
        ),
        (
            "inet, high bits",
            libc::SYS_socket,
            vec![with_high_bits(2), 1],
            ALLOW,
        ),
        ("packet", libc::SYS_socket, vec![17, 3, 0], EAFNOSUPPORT),
        ("vsock", libc::SYS_socket, vec![40, 1, 0], EAFNOSUPPORT),
        ("alg", libc::SYS_socket, vec![38, 5, 0], EAFNOSUPPORT),
        ("netlink route", libc::SYS_socket, vec![16, 3, 0], ALLOW),
        ("netlink audit", libc::SYS_socket, vec![16, 3, 9], EPERM),
        (
            "netlink netfilter",
            libc::SYS_socket,
            vec![16, 3, 12],
            EPERM,
        ),
        ("pair stream", libc::SYS_socketpair, vec![1, 1], ALLOW),
        (
            "pair seqpacket",
            libc::SYS_socketpair,
            vec![1, 5 | 0x8_0000],
            ALLOW,
        ),
        ("f12 pair dgram", libc::SYS_socketpair, vec![1, 2], EPERM),
        (
            "f12 pair dgram, flags",
            libc::SYS_socketpair,
            vec![1, 2 | 0x8_0800],
            EPERM,
        ),
        ("f12 pair raw", libc::SYS_socketpair, vec![1, 3], EPERM),
        ("ioctl TCGETS", libc::SYS_ioctl, vec![0, 0x5401], ALLOW),
        ("f13 TIOCSTI", libc::SYS_ioctl, vec![0, 0x5412], EPERM),
        (
            "f13 TIOCSTI, high bits",
            libc::SYS_ioctl,
            vec![0, with_high_bits(0x5412)],
            EPERM,
        ),
        (
            "f13 TIOCLINUX",
            libc::SYS_ioctl,
            vec![0, with_high_bits(0x541c)],
            EPERM,
        ),
        ("personality plain", libc::SYS_personality, vec![0], ALLOW),
        (
            "personality asked",
            libc::SYS_personality,
            vec![0xffff_ffff],
            ALLOW,
        ),
        (
            "personality, no random addresses",
            libc::SYS_personality,
            vec![0x4_0000],
            EPERM,
        ),
        ("f11 ptrace", libc::SYS_ptrace, vec![], EPERM),
        ("f11 pidfd_getfd", libc::SYS_pidfd_getfd, vec![], EPERM),
        ("reboot", libc::SYS_reboot, vec![], EPERM),
    ];
    for (name, number, arguments, expected) in table {
        let answered = answer(X86_64, number, &arguments);
        assert_eq!(answered, expected, "{name} {arguments:x?}");
    }
}

#[test]
fn f10_foreign_architectures_and_x32_are_killed_whatever_the_call() {
    for number in (0..600).chain([0x3fff_ffff]) {
        assert_eq!(answer(I386, number, &[]), KILL, "i386 {number}");
        assert_eq!(
            answer(X86_64, number | 0x4000_0000, &[]),
            KILL,
            "x32 {number}"
        );
        assert_ne!(answer(X86_64, number, &[]), KILL, "{number}");
    }
    assert_eq!(answer(X86_64, 0xffff_ffff, &[]), KILL);
}

/// A raw call, as a program may make it that no library guards.
fn call(number: c_long, arguments: [u64; 5]) -> io::Result<c_long> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the callers below pass integers, null, or pointers to live buffers of the size
    // that the call wants; each runs in a forked child that ends afterwards.
    match unsafe { libc::syscall(number, a, b, c, d, e) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

fn address<T>(of: &T) -> u64 {
    ptr::from_ref(of).expose_provenance().try_into().unwrap()
}

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

/// Makes a pair of unix sockets, cuts one end off its peer, and turns it to `path`.
fn turn_a_pair_to(kind: u64, path: &Path) -> io::Result<c_long> {
    let mut name = [0_u8; 110];
    name[0] = 1; // AF_UNIX
    let bytes = path.as_os_str().as_bytes();
    name[2..2 + bytes.len()].copy_from_slice(bytes);
    let (name, unspecified, text) = (address(&name), address(&[0_u8; 16]), address(b"escaped"));
    let mut pair = [0_i32; 2];
    let pair_at = ptr::from_mut(&mut pair).expose_provenance() as u64;
    call(libc::SYS_socketpair, [1, kind, 0, pair_at, 0])?;
    let end = u64::try_from(pair[0]).unwrap();
    let _cut = call(libc::SYS_connect, [end, unspecified, 16, 0, 0]);
    call(libc::SYS_connect, [end, name, 110, 0, 0])?;
    call(libc::SYS_sendto, [end, text, 7, 0, 0])
}

#[test]
fn f12_n27_no_pair_can_be_turned_to_a_socket_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let (datagram, stream) = (folder.path().join("datagram"), folder.path().join("stream"));
    let host = UnixDatagram::bind(&datagram).unwrap();
    let listener = UnixListener::bind(&stream).unwrap();
    host.set_nonblocking(true).unwrap();
    listener.set_nonblocking(true).unwrap();
    for kind in [
        libc::SOCK_STREAM,
        libc::SOCK_DGRAM,
        libc::SOCK_SEQPACKET,
        libc::SOCK_RAW,
    ] {
        for path in [&datagram, &stream] {
            let saw = start(User::Same, |_| {
                apply_to_self(SeccompProfile::Default).unwrap();
                format!(
                    "{}",
                    turn_a_pair_to(u64::try_from(kind).unwrap(), path).is_err()
                )
            });
            assert_eq!(saw.saw(), "true", "{kind} {path:?}");
        }
    }
    assert!(host.recv(&mut [0; 16]).is_err() && listener.accept().is_err());

    // Control: without the filter a datagram pair reaches the host.
    let kind = u64::try_from(libc::SOCK_DGRAM).unwrap();
    let without = start(User::Same, |_| {
        format!("{:?}", turn_a_pair_to(kind, &datagram).ok())
    });
    assert_eq!(without.saw(), "Some(7)");
    let mut heard = [0; 16];
    assert_eq!(host.recv(&mut heard).unwrap(), 7);
    assert_eq!(&heard[..7], b"escaped");
}

#[test]
fn what_programs_need_passes_the_filter() {
    for user in users() {
        let saw = start(user, |_| {
            apply_to_self(SeccompProfile::Default).unwrap();
            let mut pair = [0_i32; 2];
            let pair_at = ptr::from_mut(&mut pair).expose_provenance() as u64;
            for (name, number, arguments) in [
                ("tcp", libc::SYS_socket, [2, 1, 0, 0, 0]),
                ("tcp6", libc::SYS_socket, [10, 1 | 0x8_0800, 6, 0, 0]),
                ("udp", libc::SYS_socket, [2, 2, 17, 0, 0]),
                ("route netlink", libc::SYS_socket, [16, 3, 0, 0, 0]),
                ("pair stream", libc::SYS_socketpair, [1, 1, 0, pair_at, 0]),
                (
                    "pair seqpacket",
                    libc::SYS_socketpair,
                    [1, 5 | 0x8_0000, 0, pair_at, 0],
                ),
                ("unshare files", libc::SYS_unshare, [0x400, 0, 0, 0, 0]),
                (
                    "personality",
                    libc::SYS_personality,
                    [0xffff_ffff, 0, 0, 0, 0],
                ),
            ] {
                if let Err(error) = call(number, arguments) {
                    return format!("{name}: {error}");
                }
            }
            let thread = std::thread::spawn(|| 7).join().unwrap();
            let program = Command::new("true").status().unwrap();
            format!("{thread} {}", program.success())
        });
        assert_eq!(saw.saw(), "7 true", "{user:?}");
    }
}

#[test]
fn a_further_filter_may_be_added_and_a_program_may_confine_itself() {
    let saw = start(User::Same, |_| {
        apply_to_self(SeccompProfile::Default).unwrap();
        format!(
            "{:?}",
            apply_to_self(SeccompProfile::Default).map_err(|error| error.to_string())
        )
    });
    assert_eq!(saw.saw(), "Ok(())");
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

#[test]
fn f13_nothing_types_into_the_controlling_terminal() {
    let attempt = |filtered: bool| {
        start(User::Same, move |_| {
            // SAFETY: the calls take integers and pointers to live locals.
            unsafe {
                let (mut master, mut terminal) = (0, 0);
                let null = ptr::null_mut();
                assert_eq!(
                    libc::openpty(
                        &raw mut master,
                        &raw mut terminal,
                        null,
                        null.cast(),
                        null.cast()
                    ),
                    0
                );
                assert!(libc::setsid() > 0);
                assert_eq!(libc::ioctl(terminal, libc::TIOCSCTTY, 0), 0);
                if filtered {
                    apply_to_self(SeccompProfile::Default).unwrap();
                }
                let letter = address(b"x");
                let terminal = u64::try_from(terminal).unwrap();
                let mut saw = Vec::new();
                for request in [0x5412, with_high_bits(0x5412), with_high_bits(0x541c)] {
                    let typed = call(libc::SYS_ioctl, [terminal, request, letter, 0, 0]);
                    saw.push(typed.map_or_else(|error| error.raw_os_error().unwrap(), |_| 0));
                }
                // Control: other requests to the same terminal pass.
                let mut size = [0_u16; 4];
                let at = ptr::from_mut(&mut size).expose_provenance() as u64;
                let asked = call(libc::SYS_ioctl, [terminal, 0x5413, at, 0, 0]);
                format!("{saw:?} {}", asked.is_ok())
            }
        })
        .saw()
    };
    assert_eq!(attempt(true), format!("[{EPERM}, {EPERM}, {EPERM}] true"));
    // Without the filter the kernel types, or says EIO where its own switch is off, whatever the
    // high bits; and knows TIOCLINUX only on a console.
    let without = attempt(false);
    let typed = [0, libc::EIO].map(|first| format!("[{first}, {first}, {}] true", libc::ENOTTY));
    assert!(typed.contains(&without), "{without}");
}

#[test]
fn f08_bubblewrap_takes_the_program_as_its_filter() {
    let script = "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null && echo unshared; \
                  python3 -c 'import socket; socket.socket(socket.AF_UNIX)' 2>&1 | tail -1; echo done";
    let run = |filtered: bool| {
        start(User::Same, move |_| {
            let (read, mut write) = io::pipe().unwrap();
            write.write_all(program(SeccompProfile::Default)).unwrap();
            drop(write);
            rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::empty()).unwrap();
            let fd = std::os::fd::AsRawFd::as_raw_fd(&read).to_string();
            let mut command = Command::new("bwrap");
            command.args([
                "--unshare-all",
                "--ro-bind",
                "/",
                "/",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
            ]);
            if filtered {
                command.args(["--seccomp", &fd]);
            }
            let output = command.args(["sh", "-c", script]).output().unwrap();
            let mut text = String::from_utf8(output.stdout).unwrap();
            output.stderr.as_slice().read_to_string(&mut text).unwrap();
            text
        })
        .saw()
    };
    let with = run(true);
    assert!(
        with.starts_with("Seccomp:\t2\n") && with.ends_with("done\n"),
        "{with}"
    );
    assert!(!with.contains("unshared"), "{with}");
    assert!(with.contains("Address family not supported"), "{with}");
    let without = run(false);
    assert!(
        without.starts_with("Seccomp:\t0\nunshared\ndone"),
        "{without}"
    );
}

/// What each profile says to what it is there for: strict, default, build.
#[test]
fn each_profile_differs_from_the_default_where_its_data_says_so() {
    let table: Vec<(&str, c_long, Vec<u64>, [i32; 3])> = vec![
        ("ptrace", libc::SYS_ptrace, vec![], [EPERM, EPERM, ALLOW]),
        (
            "process_vm_readv",
            libc::SYS_process_vm_readv,
            vec![],
            [EPERM, EPERM, ALLOW],
        ),
        (
            "process_vm_writev",
            libc::SYS_process_vm_writev,
            vec![],
            [EPERM, EPERM, ALLOW],
        ),
        ("kcmp", libc::SYS_kcmp, vec![], [EPERM, EPERM, ALLOW]),
        (
            "fixed addresses",
            libc::SYS_personality,
            vec![0x4_0000],
            [EPERM, EPERM, ALLOW],
        ),
        (
            "fixed addresses, and more",
            libc::SYS_personality,
            vec![0x44_0000],
            [EPERM; 3],
        ),
        (
            "plain personality",
            libc::SYS_personality,
            vec![0],
            [ALLOW; 3],
        ),
        ("shmget", libc::SYS_shmget, vec![], [EPERM, ALLOW, ALLOW]),
        ("mq_open", libc::SYS_mq_open, vec![], [EPERM, ALLOW, ALLOW]),
        ("splice", libc::SYS_splice, vec![], [EPERM, ALLOW, ALLOW]),
        (
            "io_submit",
            libc::SYS_io_submit,
            vec![],
            [EPERM, ALLOW, ALLOW],
        ),
        (
            "pkey_alloc",
            libc::SYS_pkey_alloc,
            vec![],
            [EPERM, ALLOW, ALLOW],
        ),
        (
            "route netlink",
            libc::SYS_socket,
            vec![16, 3, 0],
            [EPERM, ALLOW, ALLOW],
        ),
        ("tcp", libc::SYS_socket, vec![2, 1, 0], [ALLOW; 3]),
        (
            "f12 unix",
            libc::SYS_socket,
            vec![1, 1, 0],
            [EAFNOSUPPORT; 3],
        ),
        (
            "f12 pair dgram",
            libc::SYS_socketpair,
            vec![1, 2],
            [EPERM; 3],
        ),
        (
            "f09 io_uring",
            libc::SYS_io_uring_setup,
            vec![],
            [ENOSYS; 3],
        ),
        ("f11 pidfd_getfd", libc::SYS_pidfd_getfd, vec![], [EPERM; 3]),
        ("f13 TIOCSTI", libc::SYS_ioctl, vec![0, 0x5412], [EPERM; 3]),
        ("future", 463, vec![], [ENOSYS; 3]),
        ("bpf", libc::SYS_bpf, vec![], [EPERM; 3]),
        ("read", libc::SYS_read, vec![], [ALLOW; 3]),
    ];
    for (name, number, arguments, expected) in table {
        for (profile, expected) in SeccompProfile::ALL.into_iter().zip(expected) {
            let code = program(profile);
            let answered = answer_of(code, X86_64, number, &arguments);
            assert_eq!(answered, expected, "{name} {arguments:x?} in {profile}");
        }
    }
}

/// The other processor's programs: its own architecture word, its own numbers, the same answers.
#[test]
fn f10_the_programs_of_aarch64_answer_as_its_data_says() {
    const AARCH64: u32 = 0xc000_00b7;
    // Numbers of include/uapi/asm-generic/unistd.h, which aarch64 uses.
    let table: [(&str, i64, Vec<u64>, [i32; 3]); 16] = [
        ("openat", 56, vec![], [ALLOW; 3]),
        ("read", 63, vec![], [ALLOW; 3]),
        ("ptrace", 117, vec![], [EPERM, EPERM, ALLOW]),
        ("personality", 92, vec![0x4_0000], [EPERM, EPERM, ALLOW]),
        ("unshare NEWUSER", 97, vec![0x1000_0000], [EPERM; 3]),
        ("shmget", 194, vec![], [EPERM, ALLOW, ALLOW]),
        ("socket unix", 198, vec![1, 1], [EAFNOSUPPORT; 3]),
        ("socket tcp", 198, vec![2, 1], [ALLOW; 3]),
        ("socketpair dgram", 199, vec![1, 2], [EPERM; 3]),
        ("clone thread", 220, vec![0x003d_0f00], [ALLOW; 3]),
        ("execve", 221, vec![], [ALLOW; 3]),
        ("bpf", 280, vec![], [EPERM; 3]),
        ("io_uring_setup", 425, vec![], [ENOSYS; 3]),
        ("clone3", 435, vec![], [ENOSYS; 3]),
        ("in the hole", 250, vec![], [EPERM; 3]),
        ("first unknown", 463, vec![], [ENOSYS; 3]),
    ];
    for (profile, at) in SeccompProfile::ALL.into_iter().zip(0..) {
        let code = program_for(profile, "aarch64").unwrap();
        for (name, number, arguments, expected) in &table {
            let answered = answer_of(code, AARCH64, *number, arguments);
            assert_eq!(answered, expected[at], "{name} in {profile}");
        }
        for number in 0..500 {
            for foreign in [X86_64, I386, 0x4000_0028] {
                assert_eq!(answer_of(code, foreign, number, &[]), KILL, "{number}");
            }
        }
    }
    assert!(program_for(SeccompProfile::Default, "riscv64").is_none());
}

/// The widest profile lets a process trace its own child, and the narrower ones do not.
#[test]
fn f11_a_child_is_traced_in_build_only() {
    for profile in SeccompProfile::ALL {
        let saw = start(User::Same, move |_| {
            apply_to_self(profile).unwrap();
            let child = Command::new("sleep").arg("60").spawn();
            let mut child = child.unwrap();
            let pid = u64::from(child.id());
            const SEIZE: u64 = 0x4206;
            let traced = call(libc::SYS_ptrace, [SEIZE, pid, 0, 0, 0]);
            child.kill().unwrap();
            let told = format!("{:?}", traced.map_err(|error| error.raw_os_error()));
            child.wait().unwrap();
            told
        });
        let expected = match profile {
            SeccompProfile::Build => "Ok(0)".to_owned(),
            SeccompProfile::Strict | SeccompProfile::Default => format!("Err(Some({EPERM}))"),
        };
        assert_eq!(saw.saw(), expected, "{profile}");
    }
}
