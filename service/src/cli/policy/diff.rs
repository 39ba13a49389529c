//! `cordon policy diff`: what a change newly allows and newly denies.

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::{Args, ValueEnum};
use cordon_analysis::{
    diff::{self, Check, CheckKind, Difference, Environment, Finder, Options, Report, Verdict},
    records::{self, Selection},
};
use cordon_policy::{Request, bundle::Bundle, source::is_bundle, testing};

use super::{Format, inputs};
use crate::{cli::exit, error::Failure};

/// Options of `cordon policy diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The policy as it is: a bundle, a directory, or a file; `default` is the built-in pack
    old: PathBuf,
    /// The policy as it would be
    new: PathBuf,
    /// Also check each rule of the new one: never fires, may fail; and what is always allowed
    #[arg(long)]
    checks: bool,
    /// Compare recorded requests as well: from `7d` ago on, a day, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    since: Option<SystemTime>,
    /// Exit with 1 when there is such a difference; `unproven` also when the solver has not
    /// answered for everything. May be given several times
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Vec<FailOn>,
    /// Longest time for each question to the solver
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    limit: u64,
    /// Do without the solver, though it is installed
    #[arg(long)]
    no_solver: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory for `--since`, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// What makes the exit code 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum FailOn {
    /// Something is newly allowed
    NewlyAllowed,
    /// Something is newly denied
    NewlyDenied,
    /// The solver has not answered for every kind of request
    Unproven,
}

/// Does it. Exit 0 when compared; 1 when `--fail-on` names what was found.
pub fn diff(args: &DiffArgs) -> Result<u8, Failure> {
    let old = inputs::policy(std::slice::from_ref(&args.old))?;
    let new = inputs::policy(std::slice::from_ref(&args.new))?;
    let solver = diff::find_solver(
        std::env::var_os("CVC5").map(PathBuf::from),
        std::env::var_os("PATH"),
    )
    .filter(|_| !args.no_solver);
    if solver.is_none() && args.checks {
        return Err(Failure::new("`--checks` needs the solver cvc5")
            .help("install it (Debian: `apt install cvc5`), or name it in the variable CVC5"));
    }
    let has_solver = solver.is_some();
    let shows_progress = io::stderr().is_terminal() && args.format == Format::Text;
    let options = Options {
        solver,
        limit: Duration::from_secs(args.limit.clamp(1, 3_600)),
        checks: args.checks,
        requests: requests(args)?,
        progress: &|what, number, count| {
            if shows_progress {
                eprint!("\r\x1b[K{number} of {count}: {what}");
            }
        },
    };
    let report = diff::diff(&old, &new, &options)?;
    if shows_progress {
        eprint!("\r\x1b[K");
    }
    let mut out = io::stdout().lock();
    let written = match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string(&report)?),
        Format::Text => print(&mut out, &report, has_solver),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _written => {}
    }
    let fails = args.fail_on.iter().any(|what| match what {
        FailOn::NewlyAllowed => !report.newly_allowed.is_empty(),
        FailOn::NewlyDenied => !report.newly_denied.is_empty(),
        FailOn::Unproven => !report.is_complete,
    });
    Ok(if fails { exit::FAILED } else { 0 })
}

/// Most recorded requests that are compared.
const MOST_RECORDED: usize = 50_000;

/// Requests of both bundles' tests, and of the log.
fn requests(args: &DiffArgs) -> Result<Vec<(Finder, Request)>, Failure> {
    let mut requests = Vec::new();
    for path in [&args.old, &args.new] {
        requests.extend(tests(path)?.into_iter().map(|asked| (Finder::Test, asked)));
    }
    if args.since.is_some() {
        let log = inputs::log(args.log.as_ref())?;
        let selection = Selection {
            since: args.since,
            ..Selection::default()
        };
        let recorded = records::requests(&log, &selection, MOST_RECORDED)?;
        requests.extend(recorded.into_iter().map(|asked| (Finder::Record, asked)));
    }
    Ok(requests)
}

fn tests(path: &Path) -> Result<Vec<Request>, Failure> {
    if !is_bundle(path) {
        return Ok(Vec::new());
    }
    let bundle = Bundle::read(path)?;
    let mut requests = Vec::new();
    for (file, text) in bundle.tests() {
        let tests = testing::parse(text).map_err(|error| {
            let help = error.help.clone();
            Failure::new(format!("`{}`: {error}", file.display())).help(help)
        })?;
        for test in tests.tests {
            let asked = test
                .when
                .iter()
                .filter_map(|(_, asked)| asked.as_ref().ok());
            requests.extend(asked.map(|asked| test.given.request(asked.clone())));
        }
    }
    Ok(requests)
}

fn print(out: &mut impl Write, report: &Report, has_solver: bool) -> io::Result<()> {
    for rule in &report.rules {
        let kind = match rule.kind {
            diff::RuleChangeKind::Added => "added",
            diff::RuleChangeKind::Removed => "removed",
            diff::RuleChangeKind::Changed => "changed",
        };
        writeln!(out, "rule `{}` {kind}", rule.id)?;
    }
    for group in &report.groups {
        let added = group.added.iter().map(|member| format!("+{member}"));
        let removed = group.removed.iter().map(|member| format!("-{member}"));
        let mut members: Vec<String> = added.chain(removed).collect();
        let more = members.len().saturating_sub(SHOWN_MEMBERS);
        members.truncate(SHOWN_MEMBERS);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        writeln!(
            out,
            "host group `{}`: {}{more}",
            group.name,
            members.join(" ")
        )?;
    }
    for (title, differences) in [
        ("NEWLY ALLOWED", &report.newly_allowed),
        ("NEWLY DENIED", &report.newly_denied),
        (
            "REFUSED OTHERWISE (with an approval, or no longer)",
            &report.refused_otherwise,
        ),
    ] {
        if !differences.is_empty() {
            writeln!(out, "\n{title}")?;
        }
        for difference in differences {
            print_difference(out, difference)?;
        }
    }
    if !report.checks.is_empty() {
        writeln!(out, "\nCHECKS OF THE NEW POLICY")?;
    }
    for check in &report.checks {
        print_check(out, check)?;
    }
    print_proof(out, report, has_solver)
}

const SHOWN_MEMBERS: usize = 20;

fn print_difference(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    let shown = |text: &str| cordon_audit::escape(text).to_string();
    let given = &difference.given;
    let mut who = format!("by {}", shown(given.user.as_deref().unwrap_or("somebody")));
    let groups = given.groups.as_deref().unwrap_or_default();
    if !groups.is_empty() {
        who.push_str(&format!(" in {}", shown(&groups.join(", "))));
    }
    if let Some(agent) = &given.agent {
        who.push_str(&format!(" with {}", shown(agent)));
    }
    let by = match difference.found_by {
        Finder::Solver => "solver",
        Finder::Probe => "probe",
        Finder::Test => "test",
        Finder::Record => "log",
    };
    let at = given.time.map(|time| time.to_string()).unwrap_or_default();
    writeln!(out, "  {}  ({who}, {at}; {by})", shown(&difference.request))?;
    writeln!(out, "    was {}", difference.old.words())?;
    writeln!(out, "    now {}", difference.new.words())?;
    if difference.others > 0 {
        let examples: Vec<String> = difference.examples.iter().map(|text| shown(text)).collect();
        writeln!(
            out,
            "    and {} more alike: {}",
            difference.others,
            examples.join("; ")
        )?;
    }
    Ok(())
}

fn print_check(out: &mut impl Write, check: &Check) -> io::Result<()> {
    let about = cordon_audit::escape(&check.about);
    match check.kind {
        CheckKind::AlwaysAllows => writeln!(out, "  always allowed, whoever asks: {about}"),
        CheckKind::NeverFires => writeln!(out, "  rule `{about}` never fires"),
        CheckKind::MayError => writeln!(
            out,
            "  rule `{about}` can fail for some request, which denies that request"
        ),
        CheckKind::Unanswered => {
            let why = check.why.as_deref().unwrap_or_default();
            let why = cordon_audit::escape(why);
            writeln!(out, "  `{about}` could not be checked: {why}")
        }
    }
}

/// What the absence of a difference is worth.
fn print_proof(out: &mut impl Write, report: &Report, has_solver: bool) -> io::Result<()> {
    let differs = !report.newly_allowed.is_empty() || !report.newly_denied.is_empty();
    if !differs {
        writeln!(out, "\nno difference found")?;
    }
    writeln!(
        out,
        "\n{} requests compared by this program's own engine",
        report.compared
    )?;
    if !has_solver {
        return writeln!(
            out,
            "without a solver: requests that neither the rules, nor the data, nor the tests name \
             may differ. Install cvc5 (Debian: `apt install cvc5`) for a proof"
        );
    }
    for environment in report.environments.iter().filter(|e| !e.is_answered()) {
        let Environment {
            action,
            principal,
            resource,
            ..
        } = environment;
        for (title, verdict) in [
            ("newly allowed", &environment.newly_allowed),
            ("newly denied", &environment.newly_denied),
        ] {
            let why = match verdict {
                Verdict::Nothing | Verdict::Confirmed => continue,
                Verdict::Unconfirmed => {
                    "the solver sees a difference that no request we could make shows".to_owned()
                }
                Verdict::Unanswered(why) => cordon_audit::escape(why).to_string(),
            };
            writeln!(
                out,
                "{title}, {action} of a {resource} by a {principal}: {why}"
            )?;
        }
    }
    let count = report.environments.len();
    if report.is_complete {
        writeln!(
            out,
            "the solver has answered for all {count} kinds of requests: what is not listed by kind \
             does not differ"
        )
    } else {
        writeln!(
            out,
            "not proven for all of {count} kinds of requests, see above"
        )
    }
}
