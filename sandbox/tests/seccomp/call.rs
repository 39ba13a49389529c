//! Raw calls, as a program may make them that no library guards.

use std::{io, ptr};

use libc::c_long;

/// A raw call, as a program may make it that no library guards.
pub fn call(number: c_long, arguments: [u64; 5]) -> io::Result<c_long> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the callers below pass integers, null, or pointers to live buffers of the size
    // that the call wants; each runs in a forked child that ends afterwards.
    match unsafe { libc::syscall(number, a, b, c, d, e) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Where it lies.
pub fn address<T>(of: &T) -> u64 {
    ptr::from_ref(of).expose_provenance().try_into().unwrap()
}

/// A value that a 64-bit comparison would tell apart and the kernel does not.
pub fn with_high_bits(value: u64) -> u64 {
    value | 0xdead_beef_0000_0000
}
