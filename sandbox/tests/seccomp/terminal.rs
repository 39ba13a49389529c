//! The controlling terminal is not typed into.

use std::ptr;

use cordon_policy::SeccompProfile;
use cordon_sandbox::seccomp::apply_to_self;
use libc::EPERM;

use super::{
    call::{address, call, with_high_bits},
    inside::{User, start},
};

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
