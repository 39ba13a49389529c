//! What the filters say, by running their programs as the kernel does.

use cordon_policy::SeccompProfile;
use cordon_sandbox::seccomp::{program, program_for};
use libc::{EAFNOSUPPORT, ENOSYS, EPERM, c_long};

use super::call::with_high_bits;

/// What the filter says to a call: an errno, `ALLOW` or `KILL`.
const ALLOW: i32 = 0;
const KILL: i32 = -1;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;

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
            [EAFNOSUPPORT, EAFNOSUPPORT, ALLOW],
        ),
        (
            "f12 unix, flags and high bits",
            libc::SYS_socket,
            vec![with_high_bits(1), with_high_bits(0x8_0801), 0],
            [EAFNOSUPPORT, EAFNOSUPPORT, ALLOW],
        ),
        (
            "f12 unix datagram",
            libc::SYS_socket,
            vec![1, 2, 0],
            [EAFNOSUPPORT; 3],
        ),
        (
            "f12 unix raw, which is a datagram's",
            libc::SYS_socket,
            vec![1, 3, 0],
            [EAFNOSUPPORT; 3],
        ),
        (
            "f12 unix seqpacket",
            libc::SYS_socket,
            vec![1, 5, 0],
            [EAFNOSUPPORT; 3],
        ),
        (
            "f11 SO_PEERPIDFD",
            libc::SYS_getsockopt,
            vec![3, 1, 77],
            [ALLOW, ALLOW, EPERM],
        ),
        (
            "f11 SO_PEERPIDFD, high bits",
            libc::SYS_getsockopt,
            vec![3, with_high_bits(1), with_high_bits(77)],
            [ALLOW, ALLOW, EPERM],
        ),
        (
            "SO_PEERCRED",
            libc::SYS_getsockopt,
            vec![3, 1, 17],
            [ALLOW; 3],
        ),
        (
            "77 of TCP",
            libc::SYS_getsockopt,
            vec![3, 6, 77],
            [ALLOW; 3],
        ),
        (
            "f12 vsock",
            libc::SYS_socket,
            vec![40, 1, 0],
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
        ("openat2", libc::SYS_openat2, vec![], [ENOSYS; 3]),
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

/// A call that takes a mode: its name and number, that on aarch64, what comes before the mode, and
/// where the mode is.
type Making = (&'static str, c_long, Option<i64>, Vec<u64>, usize);

/// No file of a session's is set-user-id or set-group-id, by whatever call it is made or changed.
#[test]
fn no_mode_has_a_set_id_bit_in_any_profile() {
    let creates = 0o101;
    let nameless = 0o20_200_001;
    let table: Vec<Making> = vec![
        ("chmod", libc::SYS_chmod, None, vec![], 1),
        ("fchmod", libc::SYS_fchmod, Some(52), vec![], 1),
        ("fchmodat", libc::SYS_fchmodat, Some(53), vec![], 2),
        ("fchmodat2", libc::SYS_fchmodat2, Some(452), vec![], 2),
        ("creat", libc::SYS_creat, None, vec![], 1),
        ("open", libc::SYS_open, None, vec![0, creates], 2),
        ("openat", libc::SYS_openat, Some(56), vec![0, 0, creates], 3),
        (
            "openat, no name",
            libc::SYS_openat,
            Some(56),
            vec![0, 0, nameless],
            3,
        ),
        ("mkdir", libc::SYS_mkdir, None, vec![], 1),
        ("mkdirat", libc::SYS_mkdirat, Some(34), vec![], 2),
        ("mknod", libc::SYS_mknod, None, vec![], 1),
        ("mknodat", libc::SYS_mknodat, Some(33), vec![], 2),
    ];
    for profile in SeccompProfile::ALL {
        for (name, number, elsewhere, arguments, at) in &table {
            for (mode, expected) in [
                (0o644, ALLOW),
                (0o1777, ALLOW),
                (0o10_0755, ALLOW),
                (0o4755, EPERM),
                (0o2755, EPERM),
                (0o6000, EPERM),
                (0o10_4755, EPERM),
                (with_high_bits(0o755), ALLOW),
                (with_high_bits(0o4755), EPERM),
            ] {
                let mut arguments = arguments.clone();
                arguments.resize(*at, 0);
                arguments.push(mode);
                let answered = answer_of(program(profile), X86_64, *number, &arguments);
                assert_eq!(answered, expected, "{name} {mode:o} in {profile}");
                if let Some(number) = elsewhere {
                    let code = program_for(profile, "aarch64").unwrap();
                    let answered = answer_of(code, AARCH64, *number, &arguments);
                    assert_eq!(answered, expected, "{name} {mode:o} in {profile}, aarch64");
                }
            }
        }
        // Without making a file the mode is whatever the register held.
        for (number, arguments) in [
            (libc::SYS_open, vec![0, 0o2, 0o4755]),
            (libc::SYS_openat, vec![0, 0, 0o1, 0o4755]),
        ] {
            let answered = answer_of(program(profile), X86_64, number, &arguments);
            assert_eq!(answered, ALLOW, "{number} in {profile}");
        }
    }
}

/// The other processor's programs: its own architecture word, its own numbers, the same answers.
#[test]
fn f10_the_programs_of_aarch64_answer_as_its_data_says() {
    // Numbers of include/uapi/asm-generic/unistd.h, which aarch64 uses.
    let table: [(&str, i64, Vec<u64>, [i32; 3]); 17] = [
        ("openat", 56, vec![], [ALLOW; 3]),
        ("read", 63, vec![], [ALLOW; 3]),
        ("ptrace", 117, vec![], [EPERM, EPERM, ALLOW]),
        ("personality", 92, vec![0x4_0000], [EPERM, EPERM, ALLOW]),
        ("unshare NEWUSER", 97, vec![0x1000_0000], [EPERM; 3]),
        ("shmget", 194, vec![], [EPERM, ALLOW, ALLOW]),
        (
            "socket unix",
            198,
            vec![1, 1],
            [EAFNOSUPPORT, EAFNOSUPPORT, ALLOW],
        ),
        ("socket unix dgram", 198, vec![1, 2], [EAFNOSUPPORT; 3]),
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
