//! Cordon: draws a cordon round an AI agent's session.
//!
//! The same binary is three things: the command line, the user's daemon (`cordon serve`), and,
//! under the name it is mounted by in a sandbox, a session's first process.

mod cli;
mod control;
mod daemon;
mod error;
mod hook_input;
mod lsp;
mod mcp;
mod paths;
mod policy_sets;
mod policy_sources;
mod reflinks;
mod summary;
mod user;

use std::{ffi::OsString, path::Path, process::ExitCode};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    // Before anything else is read: inside a sandbox this is the first process and nothing more.
    if args.next().is_some_and(|name| is_first_process(&name)) {
        return cordon_sandbox::init::main(args);
    }
    cli::main()
}

fn is_first_process(argv0: &OsString) -> bool {
    Path::new(argv0)
        .file_name()
        .is_some_and(|name| name == cordon_sandbox::init::NAME)
}
