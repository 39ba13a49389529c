//! `cordon policy replay`: what a candidate would have changed about recorded requests.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::{Instant, SystemTime},
};

use clap::Args;
use cordon_analysis::{
    records::Selection,
    replay::{self, Count, Line, Report},
};
use cordon_policy::Snapshot;

use super::{Format, inputs};
use crate::{cli::exit, error::Failure};

/// Options of `cordon policy replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The candidate: a bundle, a directory, or policy files; `default` is the built-in pack
    #[arg(long = "with", value_name = "BUNDLE", required = true)]
    with: Vec<PathBuf>,
    /// From when on: `7d`, `12h`, a day, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    since: Option<SystemTime>,
    /// Until when
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    until: Option<SystemTime>,
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Exit with 1 when more were allowed and would be refused: a number, or `P%` of the allowed
    #[arg(long, value_name = "N|P%", value_parser = bound)]
    max_newly_denied: Option<Bound>,
    /// Exit with 1 when more were refused and would be allowed
    #[arg(long, value_name = "N")]
    max_newly_allowed: Option<u64>,
    /// How many lines of each table to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    lines: usize,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// How much may be newly denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bound {
    Count(u64),
    /// Hundredths of a per cent.
    BasisPoints(u64),
}

/// Does it. Exit 1 when a bound is passed.
pub fn replay(args: &ReplayArgs) -> Result<u8, Failure> {
    let candidate = Snapshot::load(&inputs::policy(&args.with)?)?;
    let log = inputs::log(args.log.as_ref())?;
    let selection = Selection {
        since: args.since,
        until: args.until,
        session: args.session.clone(),
    };
    let started = Instant::now();
    let report = replay::replay(&log, &candidate, &selection)?;
    let seconds = started.elapsed().as_secs_f64();
    let passed = args.passed(&report);
    let mut out = io::stdout().lock();
    let written = match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string(&report)?),
        Format::Text => print(&mut out, &report, args.lines),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _written => {}
    }
    if args.format == Format::Text {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = report.decisions as f64 / seconds.max(1e-6);
        eprintln!(
            "{} decisions in {seconds:.2} s, {rate:.0} a second",
            report.decisions
        );
    }
    for what in &passed {
        eprintln!("error: {what}");
    }
    Ok(if passed.is_empty() { 0 } else { exit::FAILED })
}

impl ReplayArgs {
    /// Bounds that are passed, in words.
    fn passed(&self, report: &Report) -> Vec<String> {
        let mut passed = Vec::new();
        let points = report.newly_denied_basis_points();
        match self.max_newly_denied {
            Some(Bound::Count(most)) if report.newly_denied > most => passed.push(format!(
                "{} would be newly denied, more than {most}",
                report.newly_denied
            )),
            Some(Bound::BasisPoints(most)) if points > most => passed.push(format!(
                "{} of {} allowed ones would be newly denied, more than {}.{:02} %",
                report.newly_denied,
                report.were_allowed,
                most / 100,
                most % 100
            )),
            _within => {}
        }
        if let Some(most) = self.max_newly_allowed
            && report.newly_allowed > most
        {
            passed.push(format!(
                "{} would be newly allowed, more than {most}",
                report.newly_allowed
            ));
        }
        passed
    }
}

/// `100`, `2%`, `0.5%`.
fn bound(text: &str) -> Result<Bound, String> {
    let wrong = || "write a number like `10`, or a share like `0.5%`".to_owned();
    let Some(share) = text.strip_suffix('%') else {
        return text.parse().map(Bound::Count).map_err(|_| wrong());
    };
    let (whole, part) = share.split_once('.').unwrap_or((share, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
    if whole > 100 {
        return Err(wrong());
    }
    Ok(Bound::BasisPoints(whole * 100 + part))
}

fn print(out: &mut impl Write, report: &Report, lines: usize) -> io::Result<()> {
    writeln!(
        out,
        "{} decisions, {} decided again: {} as before ({} by other rules), {} newly allowed, {} newly denied, {} refused otherwise",
        report.decisions,
        report.replayed,
        report.same,
        report.by_other_rules,
        report.newly_allowed,
        report.newly_denied,
        report.refused_otherwise,
    )?;
    for (why, count) in &report.not_replayed {
        writeln!(out, "{count} not decided again: {why}")?;
    }
    if report.changes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>8}  {:<17}  WHO AND WHAT", "COUNT", "CHANGE")?;
    for line in report.changes.iter().take(lines) {
        print_line(out, line)?;
    }
    let hidden = report.changes.len().saturating_sub(lines);
    if hidden > 0 || report.more_changes > 0 {
        writeln!(
            out,
            "{:>8}  more kinds of changes{}; --lines N shows more",
            hidden,
            match report.more_changes {
                0 => String::new(),
                n => format!(", and {n} changed decisions that had no room"),
            }
        )?;
    }
    for (name, counts) in [
        ("USER", &report.by_user),
        ("SESSION", &report.by_session),
        ("DESTINATION", &report.by_destination),
        ("RULE (`-`: no rule allows it)", &report.by_rule),
    ] {
        print_counts(out, name, counts, lines)?;
    }
    Ok(())
}

fn print_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    writeln!(
        out,
        "{:>8}  {:<17}  {}: {}",
        line.count,
        line.change.words(),
        line.user,
        line.what
    )?;
    writeln!(out, "{:>29}was {}", "", line.was)?;
    writeln!(out, "{:>29}now {}", "", line.now.words())
}

fn print_counts(
    out: &mut impl Write,
    name: &str,
    counts: &[Count],
    lines: usize,
) -> io::Result<()> {
    writeln!(out, "\n{:>8}  {:>8}  {name}", "ALLOWED", "DENIED")?;
    for count in counts.iter().take(lines) {
        writeln!(
            out,
            "{:>8}  {:>8}  {}",
            count.newly_allowed, count.newly_denied, count.name
        )?;
    }
    match counts.len().saturating_sub(lines) {
        0 => Ok(()),
        more => writeln!(out, "{more:>8}  more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_counts_or_shares() {
        for (text, expected) in [
            ("0", Some(Bound::Count(0))),
            ("25", Some(Bound::Count(25))),
            ("2%", Some(Bound::BasisPoints(200))),
            ("0.5%", Some(Bound::BasisPoints(50))),
            ("0.05%", Some(Bound::BasisPoints(5))),
            ("100%", Some(Bound::BasisPoints(10_000))),
            ("101%", None),
            ("0.005%", None),
            ("%", None),
            ("-1", None),
            ("1e3%", None),
        ] {
            assert_eq!(bound(text).ok(), expected, "{text}");
        }
    }
}
