//! Pairs of unix sockets do not reach the host.

use std::{
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{UnixDatagram, UnixListener},
    },
    path::Path,
    ptr,
};

use cordon_policy::SeccompProfile;
use cordon_sandbox::seccomp::apply_to_self;
use libc::c_long;

use super::{
    call::{address, call},
    inside::{User, start},
};

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
