//! The summary as a person reads it.

use std::fmt::{self, Write};

use cordon_audit::escape;
use cordon_sandbox::limits::Used;

use super::{DeniedLine, GrantLine, Summary};
use crate::control::GrantChanges;

/// Processor time: `12 ms`, `3.4 s`.
pub fn processor_time(us: u64) -> String {
    let time = std::time::Duration::from_micros(us);
    match us {
        0..1_000_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// What went from and to storage: `1.2 MB read, 8.3 MB written`.
pub fn storage_words(used: &Used) -> String {
    match (used.read_bytes, used.written_bytes) {
        (Some(read), Some(written)) => format!("{} read, {} written", bytes(read), bytes(written)),
        _ => "not counted by this kernel".into(),
    }
}

/// What was done to the files of a grant, with sizes:
/// `2 created (3.1 kB), 1 changed (5.0 kB, was 4.1 kB), 0 replaced, 0 deleted, 1 moved`.
pub fn change_words(files: &GrantChanges) -> String {
    let size = |count: u64, size: Option<u64>| match (count, size) {
        (0, _) => String::new(),
        (_, Some(size)) => format!(" ({})", bytes(size)),
        (_, None) => " (size not known)".into(),
    };
    let changed = match (
        files.changed,
        files.changed_bytes,
        files.changed_bytes_before,
    ) {
        // All of them are gone again, or empty as before.
        (1.., Some(0), Some(0)) => String::new(),
        (1.., Some(now), Some(before)) => format!(" ({}, was {})", bytes(now), bytes(before)),
        (count, _, _) => size(count, None),
    };
    format!(
        "{} created{}, {} changed{changed}, {} replaced{}, {} deleted{}, {} moved",
        files.created,
        size(files.created, files.created_bytes),
        files.changed,
        files.replaced,
        size(files.replaced, Some(files.replaced_bytes)),
        files.deleted,
        size(files.deleted, Some(files.deleted_bytes)),
        files.moved,
    )
}

/// Writes the summary as text; with ANSI colours when `colour`.
pub fn render(summary: &Summary, colour: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _infallible = write_summary(&mut out, summary, &Paint { colour });
    out
}

fn write_summary(out: &mut String, summary: &Summary, paint: &Paint) -> fmt::Result {
    let ended = match summary.exit_code {
        Some(0) => paint.green("exit 0"),
        Some(code) => paint.red(&format!("exit {code}")),
        None => paint.red("never ran"),
    };
    writeln!(
        out,
        "{} {} · {ended} · {:.1} s · policy {}",
        paint.bold("cordon: session"),
        summary.session,
        summary.seconds,
        summary.policy,
    )?;
    if summary.unwalled {
        let said = "NO WALLS: only what went over the session's proxy was decided and is here";
        writeln!(out, "  {}", paint.red(said))?;
    }
    if let Some(until) = &summary.observe {
        writeln!(
            out,
            "  {}",
            paint.red(&format!(
                "policy ONLY OBSERVES until {until}: what it would refuse went through"
            ))
        )?;
    }
    for grant in &summary.grants {
        writeln!(
            out,
            "  granted  {:<4} {}{} {}",
            grant.mode,
            escape(&grant.path.to_string_lossy()),
            shown_inside(grant),
            paint.dim(&format!("({}, rule `{}`)", grant.source, grant.rule)),
        )?;
    }
    for files in &summary.changes {
        // Its name inside, or, from the log alone, the one on the host.
        let name = files.inside.file_name().or(files.path.file_name());
        let name = name.unwrap_or_default().to_string_lossy();
        writeln!(out, "  files    {}: {}", escape(&name), change_words(files))?;
    }
    write_allowed(out, summary, paint)?;
    write_denied(out, summary, paint)?;
    if summary.more > 0 {
        let what = "more decisions, of too many kinds to list: `cordon audit show` has them all";
        writeln!(out, "           {} {what}", summary.more)?;
    }
    if summary.denied.iter().any(is_rule_offered) {
        let hint = "a line that allows something goes into a FILE.cedar: --policy default --policy FILE.cedar";
        writeln!(out, "           {}", paint.dim(hint))?;
    }
    if let Some(used) = &summary.used {
        writeln!(
            out,
            "  used     {} of processor time, at most {} and {} at a time",
            processor_time(used.cpu_us),
            bytes(used.memory_bytes),
            match used.processes {
                1 => "1 process".to_owned(),
                many => format!("{many} processes"),
            },
        )?;
        writeln!(out, "  storage  {}", storage_words(used))?;
    }
    writeln!(
        out,
        "  bytes    {} in, {} out",
        bytes(summary.bytes_in),
        bytes(summary.bytes_out)
    )?;
    writeln!(
        out,
        "  log      {} records · cordon audit show {}",
        summary.records, summary.session
    )
}

fn write_allowed(out: &mut String, summary: &Summary, paint: &Paint) -> fmt::Result {
    for line in summary.allowed.iter().take(LINES) {
        let rule = paint.dim(&format!("rule `{}`", line.rule));
        let unreached = match line.unreached {
            0 => String::new(),
            count => paint.red(&format!("  ({count} did not reach it)")),
        };
        writeln!(
            out,
            "  {}  {:>4} × {}  {rule}{unreached}",
            paint.green("allowed"),
            line.count,
            escape(&line.what)
        )?;
    }
    let rest = summary.allowed.iter().skip(LINES);
    write_rest(out, "allowed", rest.map(|line| line.count))
}

fn write_denied(out: &mut String, summary: &Summary, paint: &Paint) -> fmt::Result {
    let mut offered = None;
    for line in summary.denied.iter().take(LINES) {
        writeln!(
            out,
            "  {}   {:>4} × {}  {}{}",
            paint.red("denied"),
            line.count,
            escape(&line.what),
            paint.dim(&escape(&line.rule).to_string()),
            if line.observed {
                "  (observed: it went ahead)"
            } else {
                ""
            },
        )?;
        // What is the same for several is said once.
        if let Some(rule) = &line.allow_with
            && offered != Some(rule)
        {
            writeln!(out, "           {} {rule}", paint.dim("to allow:"))?;
            offered = Some(rule);
        }
    }
    let rest = summary.denied.iter().skip(LINES);
    write_rest(out, "denied", rest.map(|line| line.count))
}

/// What is counted and not shown: a person reads the first lines.
fn write_rest(out: &mut String, what: &str, counts: impl Iterator<Item = u64>) -> fmt::Result {
    let (kinds, times) = counts.fold((0, 0), |(kinds, times), count| (kinds + 1, times + count));
    if kinds == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "           and {kinds} more that were {what}, {times} times: `cordon audit show` lists them"
    )
}

/// Lines of each kind that a summary shows.
const LINES: usize = 16;

/// Empty when it is not known, as in a summary made from the log alone.
fn shown_inside(grant: &GrantLine) -> String {
    if grant.inside.as_os_str().is_empty() {
        return String::new();
    }
    format!(" → {}", escape(&grant.inside.to_string_lossy()))
}

fn is_rule_offered(line: &DeniedLine) -> bool {
    line.allow_with
        .as_ref()
        .is_some_and(|offer| offer.starts_with("permit"))
}

/// Bytes in the largest unit that keeps one digit before the point.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut whole = count;
    let mut tenths = 0;
    let mut unit = 0;
    while whole >= 1000 && unit + 1 < UNITS.len() {
        tenths = whole % 1000 / 100;
        whole /= 1000;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).unwrap_or(&"B");
    if unit == 0 {
        format!("{whole} B")
    } else {
        format!("{whole}.{tenths} {unit_name}")
    }
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn green(&self, text: &str) -> String {
        self.ansi("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.ansi("31", text)
    }

    fn bold(&self, text: &str) -> String {
        self.ansi("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.ansi("2", text)
    }

    fn ansi(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::AllowedLine;

    #[test]
    fn bytes_are_shown_in_a_readable_unit() {
        for (count, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_250, "1.2 kB"),
            (5_400_000, "5.4 MB"),
        ] {
            assert_eq!(bytes(count), want);
        }
    }

    #[test]
    fn a_denial_shows_its_rule_and_how_to_allow_it() {
        let summary = Summary {
            session: "s".into(),
            exit_code: Some(7),
            allowed: vec![AllowedLine {
                what: "connect a:1".into(),
                count: 3,
                unreached: 1,
                rule: "r".into(),
            }],
            denied: vec![DeniedLine {
                what: "connect b:2".into(),
                count: 1,
                reason: "default_deny".into(),
                rule: "no rule allows it".into(),
                observed: false,
                allow_with: Some("permit (…);".into()),
            }],
            ..Summary::default()
        };
        let text = render(&summary, false);
        for want in [
            "exit 7",
            "3 × connect a:1  rule `r`  (1 did not reach it)",
            "1 × connect b:2",
            "to allow: permit",
        ] {
            assert!(text.contains(want), "{want:?} in {text}");
        }
        assert!(!text.contains('\x1b'));
        assert!(render(&summary, true).contains("\x1b[31mdenied"));
    }

    #[test]
    fn sizes_are_shown_and_what_is_not_known_is_not_nothing() {
        let all = GrantChanges {
            created: 2,
            created_bytes: Some(3_100),
            changed: 1,
            changed_bytes: Some(5_000),
            changed_bytes_before: Some(4_100),
            deleted: 1,
            deleted_bytes: 0,
            ..GrantChanges::default()
        };
        let words = "2 created (3.1 kB), 1 changed (5.0 kB, was 4.1 kB), \
                     0 replaced, 1 deleted (0 B), 0 moved";
        assert_eq!(change_words(&all), words);
        let unknown = GrantChanges {
            created: 1,
            changed: 1,
            ..GrantChanges::default()
        };
        let words = "1 created (size not known), 1 changed (size not known), 0 replaced, 0 deleted, 0 moved";
        assert_eq!(change_words(&unknown), words);
        let used = Used {
            read_bytes: Some(0),
            written_bytes: Some(1_200_000),
            ..Used::default()
        };
        assert_eq!(storage_words(&used), "0 B read, 1.2 MB written");
        assert!(storage_words(&Used::default()).contains("not counted"));
    }

    #[test]
    fn a_person_is_shown_the_first_lines_and_told_of_the_rest() {
        let line = |n: u64| DeniedLine {
            what: format!("delete /w/f{n}"),
            count: 2,
            reason: "grant_mode".into(),
            rule: "no rule allows it".into(),
            observed: false,
            allow_with: Some("grant its folder with delete".into()),
        };
        let summary = Summary {
            denied: (0..100).map(line).collect(),
            ..Summary::default()
        };
        let text = render(&summary, false);
        assert_eq!(text.matches("× delete").count(), LINES);
        assert_eq!(text.matches("to allow:").count(), 1);
        assert!(
            text.contains("and 84 more that were denied, 168 times"),
            "{text}"
        );
        let all = Summary {
            denied: (0..16).map(line).collect(),
            ..Summary::default()
        };
        assert!(!render(&all, false).contains("more that were"));
    }
}
