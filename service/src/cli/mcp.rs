//! `cordon mcp`: tool servers (Model Context Protocol) behind policy.

mod http;
mod judge;
mod remote;
mod tools;
mod wrap;

use clap::Subcommand;

use crate::error::Failure;

/// What to do with tool servers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server in a sandbox of its own, or reach a connector, and decide every use of it
    Wrap(Box<wrap::WrapArgs>),
    /// Servers whose tools were seen
    List(tools::ListArgs),
    /// The tools of one, and what changed
    Show(tools::ShowArgs),
    /// Accept tools as they are now
    Accept(tools::AcceptArgs),
    /// Take away what is known of one: what it says next is taken as it is
    Forget(tools::ForgetArgs),
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Wrap(args) => wrap::wrap(*args),
        Command::List(args) => tools::list(&args),
        Command::Show(args) => tools::show(&args),
        Command::Accept(args) => tools::accept(&args),
        Command::Forget(args) => tools::forget(&args),
    }
}
