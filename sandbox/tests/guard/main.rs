//! The guard with a real kernel: a process under bubblewrap and the filter, a supervisor out here.
//!
//! Each session runs a short list of operations inside and returns one word for each: `ok`, or the
//! error's name. The program inside is this test binary itself, started as the test `inside`.

mod calls;
mod kept;
mod names;
mod operations;
mod paths;
mod shield;
mod sockets;
mod support;

/// Not a test of its own: the half that runs in the sandbox.
#[test]
#[ignore = "started by the other tests, inside their sandbox"]
fn inside() {
    operations::main();
}
