//! `cordon policy test`: runs the tests of a policy and says what they cover.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use cordon_policy::{
    Snapshot, packs,
    testing::{self, Report, TestFile, TestResult, junit},
};
use serde_json::json;

use super::{Format, files, set};
use crate::{cli::exit, error::Failure};

/// Options of `cordon policy test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// A policy's directory with `tests/*.toml` in it, test files, or the name of a shipped pack
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// The policy to test, when it is not the directory that the tests lie in
    #[arg(long, value_name = "FILE|DIR|NAME")]
    policy: Vec<PathBuf>,
    /// Run only tests whose name has this in it
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Fail when fewer of the rules decided a request, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
    /// Fail when fewer scopes and conditions were seen both met and not met, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_clause_coverage: Option<u8>,
    /// Write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 0 when every test passed and enough was covered, 1 when not, 64 when there is
/// nothing to run.
pub fn test(args: &TestArgs) -> Result<u8, Failure> {
    let mut passed = true;
    let mut all = Vec::new();
    for suite in suites(args)? {
        let snapshot = Snapshot::load(&set::read(&suite.policy)?)?;
        let report = testing::run(&snapshot, &suite.tests, args.filter.as_deref());
        if report.tests.is_empty() {
            continue;
        }
        let short = too_little(args, &report);
        let suite_passed = short.is_empty() && report.tests.iter().all(TestResult::passed);
        passed &= suite_passed;
        match args.format {
            Format::Json => println!(
                "{}",
                json!({
                    "policy": snapshot.name(),
                    "digest": snapshot.digest(),
                    "passed": suite_passed,
                    "tests": report.tests,
                    "coverage": report.coverage,
                })
            ),
            Format::Text => print(snapshot.name(), &report, args.filter.is_none(), &short),
        }
        all.extend(report.tests);
    }
    if all.is_empty() {
        return Err(Failure::new("there is no test to run")
            .help("tests are in `tests/*.toml`; `--filter` takes a part of a test's name")
            .usage());
    }
    if let Some(path) = &args.junit {
        files::replace(path, junit(&all).as_bytes())?;
    }
    Ok(if passed { 0 } else { exit::FAILED })
}

/// One policy and its tests.
struct Suite {
    policy: Vec<PathBuf>,
    tests: Vec<(String, TestFile)>,
}

/// Most test files of one run.
const MAX_FILES: usize = 1_000;

/// What the command line means: each path's own policy with its tests, or all tests for the one
/// that `--policy` names.
fn suites(args: &TestArgs) -> Result<Vec<Suite>, Failure> {
    let mut suites: Vec<Suite> = Vec::new();
    let mut files = 0;
    for path in &args.paths {
        let (home, tests) = match of_policy(path)? {
            Some(tests) => (path.clone(), tests),
            None => (policy_of(path), vec![read_file(path)?]),
        };
        let policy = if args.policy.is_empty() {
            vec![home]
        } else {
            args.policy.clone()
        };
        files += tests.len();
        if files > MAX_FILES {
            return Err(
                Failure::new(format!("there are more than {MAX_FILES} test files")).usage(),
            );
        }
        match suites.iter_mut().find(|suite| suite.policy == policy) {
            Some(suite) => suite.tests.extend(tests),
            None => suites.push(Suite { policy, tests }),
        }
    }
    Ok(suites)
}

/// The tests that a shipped pack or a policy's directory has; nothing for any other path.
pub(super) fn of_policy(path: &Path) -> Result<Option<Vec<(String, TestFile)>>, Failure> {
    if let Some(pack) = path.to_str().and_then(packs::find) {
        let read = |(name, text): (&str, &str)| read(&format!("{}/{name}", pack.name), text);
        return pack.tests().map(read).collect::<Result<_, _>>().map(Some);
    }
    path.is_dir().then(|| in_directory(path)).transpose()
}

/// `DIR/tests/*.toml`.
fn in_directory(path: &Path) -> Result<Vec<(String, TestFile)>, Failure> {
    let folder = path.join("tests");
    let unreadable = |error: std::io::Error| {
        Failure::new(format!("`{}` cannot be read: {error}", folder.display()))
            .help("a policy's tests are in a folder `tests` beside its rules; or name test files")
            .usage()
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|found| found == "toml") {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            break;
        }
    }
    paths.sort();
    paths.iter().map(|path| read_file(path)).collect()
}

/// The policy of a test file: the directory that its `tests` folder lies in.
fn policy_of(test_file: &Path) -> PathBuf {
    let folder = test_file.parent().unwrap_or(Path::new("."));
    let home = if folder.ends_with("tests") {
        folder.parent().unwrap_or(Path::new("."))
    } else {
        folder
    };
    if home.as_os_str().is_empty() {
        ".".into()
    } else {
        home.to_owned()
    }
}

fn read_file(path: &Path) -> Result<(String, TestFile), Failure> {
    let text = set::read_text(path, testing::MAX_FILE_BYTES)?;
    read(&path.display().to_string(), &text)
}

fn read(name: &str, text: &str) -> Result<(String, TestFile), Failure> {
    let file = testing::parse(text)
        .map_err(|error| Failure::new(format!("`{name}` {error}")).help(error.help.clone()))?;
    Ok((name.to_owned(), file))
}

/// What was asked for by `--min-coverage` and not reached.
fn too_little(args: &TestArgs, report: &Report) -> Vec<String> {
    let coverage = &report.coverage;
    let wanted = [
        (args.min_coverage, coverage.rules, "rules"),
        (args.min_clause_coverage, coverage.clauses, "conditions"),
    ];
    wanted
        .into_iter()
        .filter_map(|(least, share, what)| {
            let least = usize::from(least?);
            (share.percent() < least)
                .then(|| format!("{what} covered: {share}, and {least} % are asked for"))
        })
        .collect()
}

fn print(policy: &str, report: &Report, whole: bool, short: &[String]) {
    let mut failed = 0;
    for test in report.tests.iter().filter(|test| !test.passed()) {
        failed += 1;
        println!("FAILED {} ({}:{})", test.name, test.file, test.line);
        for failure in &test.failures {
            println!("  {}", failure.when);
            println!("    expected {}", failure.expected);
            println!("    came     {}", failure.came);
            for line in failure.why.lines() {
                println!("    {line}");
            }
        }
        println!();
    }
    let requests: usize = report.tests.iter().map(|test| test.requests).sum();
    println!(
        "{policy}: {} tests with {requests} requests: {} passed, {failed} failed",
        report.tests.len(),
        report.tests.len() - failed
    );
    if whole {
        print_coverage(report);
    }
    for line in short {
        println!("FAILED {line}");
    }
}

fn print_coverage(report: &Report) {
    println!(
        "covered: {} rules, {} sides of conditions",
        report.coverage.rules, report.coverage.clauses
    );
    for gap in report.coverage.gaps.iter().take(GAPS_SHOWN) {
        println!("  {} ({}): {}", gap.rule, gap.place, gap.missing);
    }
    let more = report.coverage.gaps.len().saturating_sub(GAPS_SHOWN);
    if more > 0 {
        println!("  and {more} more (`--format json` has all)");
    }
}

/// Most gaps of coverage that are printed for people.
const GAPS_SHOWN: usize = 20;
