//! `cordon check`: does what is promised hold here?

mod boundary;
mod host;
mod passed;
mod stage;

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use cordon_sandbox::adapter::probe::Finding;

use super::{
    Format,
    audit::table::{Column, Table, colours, terminal_width},
    exit,
    run::{
        self, Profile,
        backend::{self, Wanted},
    },
};
use crate::{error::Failure, paths::Paths};
use boundary::Report;
pub use passed::{before_first_session, stood};

/// What is checked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try the walls from inside a real session: each wall, and a control beside it
    Boundary(BoundaryArgs),
}

/// Options of `cordon check boundary`.
#[derive(Debug, Args)]
#[command(
    after_help = "It runs a session of its own, with a daemon, a policy and a log of its \
    own in a folder of /tmp that is gone afterwards; your log and policy are not touched. \
    `cordon run` does it by itself before the first session (of each profile) after a start of \
    the machine, and after a change of the kernel, bubblewrap (or podman and the image), cordon or the configuration.\n\n\
    Exit codes: 0 every wall stands, 1 one does not, or could not be tried."
)]
pub struct BoundaryArgs {
    /// What holds the walls
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// The system calls of the session: each profile has walls of its own
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// With `--backend container`: an image that podman has; it is never fetched
    #[arg(long, value_name = "IMAGE", conflicts_with = "rootfs")]
    image: Option<String>,
    /// With `--backend container`: a folder with a root file system
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Every attempt, and not only the walls
    #[arg(long, short)]
    verbose: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A backend that has walls.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Backend {
    /// Namespaces, system call filters, and what is granted
    #[default]
    Bubblewrap,
    /// A container of rootless podman, from an image or a root file system
    Container,
}

/// Runs the check.
pub fn run(command: &Command) -> Result<u8, Failure> {
    let Command::Boundary(args) = command;
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let wanted = Wanted {
        backend: match args.backend {
            Backend::Bubblewrap => run::Backend::Bubblewrap,
            Backend::Container => run::Backend::Container,
        },
        image: args.image.clone(),
        rootfs: args.rootfs.clone(),
        profile: args.profile.into(),
    };
    let chosen = backend::of(&wanted, &paths)?;
    let report = boundary::check(&chosen)?;
    if report.passed {
        passed::remember(&paths, &chosen.flags)?;
    } else {
        passed::forget(&paths, &chosen.flags);
    }
    let text = match args.format {
        Format::Json => format!("{}\n", serde_json::to_string(&report)?),
        Format::Text => as_text(&report, args.verbose),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Nobody reads any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(if report.passed { 0 } else { exit::FAILED })
}

fn as_text(report: &Report, verbose: bool) -> String {
    let wrong = report.findings.iter().filter(|finding| !finding.ok);
    let wrong: Vec<&Finding> = wrong.collect();
    let mut text = match verbose {
        true => attempts(&report.findings.iter().collect::<Vec<_>>()),
        false => walls(&report.findings),
    };
    if !verbose && !wrong.is_empty() {
        text += "\n";
        text += &attempts(&wrong);
    }
    let verdict = match wrong.len() {
        0 => "every wall stands".to_owned(),
        n => format!("{n} WRONG: no session is started like this"),
    };
    format!(
        "{text}\n{} attempts, {verdict} ({}, profile {}, kernel {}, {} ms)\n",
        report.findings.len(),
        report.built_by,
        report.profile,
        report.kernel,
        report.milliseconds
    )
}

/// One line a wall, in the order in which they were tried.
fn walls(findings: &[Finding]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for finding in findings {
        if !names.contains(&&*finding.wall) {
            names.push(&finding.wall);
        }
    }
    let columns = [
        Column::new("WALL"),
        Column::new("STANDS"),
        Column::number("REFUSED"),
        Column::number("WORKS"),
    ];
    let mut table = Table::new(&columns, terminal_width());
    for name in names {
        let of_wall = || findings.iter().filter(|finding| finding.wall == name);
        let count = |must_work: bool| {
            let all = of_wall().filter(|finding| finding.must_work == must_work);
            let (ok, wrong): (Vec<_>, Vec<_>) = all.partition(|finding| finding.ok);
            match (ok.len(), wrong.len()) {
                (0, 0) => "-".to_owned(),
                (ok, 0) => ok.to_string(),
                (ok, wrong) => format!("{ok} of {}", ok + wrong),
            }
        };
        let stands = of_wall().all(|finding| finding.ok);
        let stands = if stands { "yes" } else { WRONG };
        table.add([name, stands, &count(false), &count(true)]);
    }
    table.render(paint)
}

fn attempts(findings: &[&Finding]) -> String {
    let columns = [
        Column::new("WALL"),
        Column::cut("ATTEMPT"),
        Column::new("MUST"),
        Column::new("OK"),
        Column::cut("GOT"),
    ];
    let mut table = Table::new(&columns, terminal_width());
    for finding in findings {
        let must = if finding.must_work { "work" } else { "fail" };
        let ok = if finding.ok { "ok" } else { WRONG };
        table.add([&finding.wall, &finding.attempt, must, ok, &finding.got]);
    }
    table.render(paint)
}

const WRONG: &str = "WRONG";

fn paint(_column: &str, cell: &str) -> String {
    if cell.trim() == WRONG && colours() {
        return format!("\x1b[31m{cell}\x1b[0m");
    }
    cell.to_owned()
}
