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

mod answers;
mod attempts;
mod call;
#[path = "../inside/mod.rs"]
mod inside;
mod needed;
mod sockets;
mod terminal;
