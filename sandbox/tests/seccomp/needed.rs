//! What programs need passes, and what a wider profile is there for passes in it alone.

use std::{
    io::{self, Read, Write},
    process::Command,
    ptr,
};

use cordon_policy::SeccompProfile;
use cordon_sandbox::seccomp::{apply_to_self, program};
use libc::EPERM;

use super::{
    call::call,
    inside::{User, start, users},
};

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
