//! The command line. Results go to standard output, everything else to standard error.

mod api;
mod approve;
mod audit;
mod check;
mod connect;
mod connector;
mod decide;
mod doctor;
mod extension;
mod gateway;
mod hook;
mod import;
mod mcp;
mod policy;
mod run;
mod serve;
mod session;
mod status;
mod time;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::Failure;

/// Exit codes of our own; a session's command brings its own otherwise.
pub mod exit {
    /// It failed.
    pub const FAILED: u8 = 1;
    /// Policy refused it.
    pub const DENIED: u8 = 3;
    /// The log is not whole, so nothing runs.
    pub const INTEGRITY: u8 = 4;
    /// It was not asked correctly (EX_USAGE of sysexits.h).
    pub const USAGE: u8 = 64;
}

#[derive(Debug, Parser)]
#[command(
    name = "cordon",
    version,
    about = "Draws a cordon round an AI agent's session",
    long_about = "Draws a cordon round an AI agent's session: one Cedar policy set decides every \
                  folder and every connection, a sandbox and an egress proxy enforce it, and a \
                  durable log records it.\n\nStart with `cordon run -- COMMAND` in a project folder.",
    after_help = "Exit codes: 0 done, 1 failed, 3 denied by policy, 4 the log is not \
                  whole, 64 wrong usage; `cordon run` \
                  gives the command's own."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command inside the cordon
    Run(Box<run::Args>),
    /// Run the daemon (normally `cordon run` starts it)
    Serve(serve::Args),
    /// Run the proxy without a sandbox, for CI runners, containers and servers
    Gateway(gateway::Args),
    /// Look into the log and verify it
    #[command(subcommand)]
    Audit(Box<audit::Command>),
    /// Work on policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Check that the walls stand
    #[command(subcommand)]
    Check(check::Command),
    /// Say what this machine has of what Cordon needs, what is missing, and how to get it
    Doctor(doctor::Args),
    /// Look at running sessions and steer them
    #[command(subcommand)]
    Session(session::Command),
    /// Ask whether a running session may do something
    Decide(decide::DecideArgs),
    /// Answer what sessions ask people
    Approve(approve::ApproveArgs),
    /// Have an agent's own hooks ask Cordon
    #[command(subcommand)]
    Hook(hook::Command),
    /// Turn settings of other tools into rules, and say what could not be
    #[command(subcommand)]
    Import(import::Command),
    /// See which services there are, and enable them in a session
    #[command(subcommand)]
    Connector(connector::Command),
    /// Install extensions, see what changed, approve them
    #[command(subcommand)]
    Extension(extension::Command),
    /// Put tool servers (MCP) behind policy
    #[command(subcommand)]
    Mcp(mcp::Command),
    /// Show the daemon and the running sessions
    Status(status::StatusArgs),
    /// Stop the daemon
    Stop(status::StopArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object, or one a line.
    Json,
}

/// `cordon run` alone: what starts most often is parsed without the tree of all other commands,
/// which takes 1 ms to build. What it does not understand goes to [`Cli`], which has the words for it.
#[derive(Debug, Parser)]
#[command(name = "cordon")]
enum Short {
    /// As [`Command::Run`].
    Run(run::Args),
}

fn parse() -> Result<Command, clap::Error> {
    match Short::try_parse() {
        Ok(Short::Run(args)) => Ok(Command::Run(Box::new(args))),
        Err(_longer) => Cli::try_parse().map(|cli| cli.command),
    }
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let command = match parse() {
        Ok(command) => command,
        Err(error) => {
            let _unwritable = error.print();
            return if error.use_stderr() {
                hook::usage_code(std::env::args_os()).into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let result = match command {
        Command::Run(args) => run::run(*args),
        Command::Serve(args) => serve::serve(&args),
        Command::Gateway(args) => gateway::gateway(args),
        Command::Audit(command) => audit::run(*command),
        Command::Policy(command) => policy::run(command),
        Command::Check(command) => check::run(&command),
        Command::Doctor(args) => doctor::run(&args),
        Command::Session(command) => session::run(command),
        Command::Decide(args) => decide::decide(&args),
        Command::Approve(args) => approve::approve(args),
        Command::Hook(command) => hook::run(command),
        Command::Import(command) => import::run(&command),
        Command::Connector(command) => connector::run(command),
        Command::Extension(command) => extension::run(command),
        Command::Mcp(command) => mcp::run(command),
        Command::Status(args) => status::status(&args),
        Command::Stop(args) => status::stop(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            print_failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// `error:` what and why; `help:` what to do.
pub fn print_failure(failure: &Failure) {
    // Its exit code says that it failed, also where nobody reads this; `eprintln!` would panic.
    let mut err = io::stderr().lock();
    let _unread = writeln!(err, "error: {failure}");
    if let Some(help) = failure.help_text() {
        let _unread = writeln!(err, "help: {help}");
    }
}
