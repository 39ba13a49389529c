//! `cordon policy suggest`: the fewest rules that would allow what was refused or had to be approved.
//!
//! Writes a draft where it is told to, and never into a policy that is live (P06).

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::{Args, ValueEnum};
use cordon_analysis::{
    records::Selection,
    suggest::{self, Draft, Options, Report, Scope, Suggestion, Unused},
};
use cordon_policy::Snapshot;

use super::{Format, inputs};
use crate::{error::Failure, paths::Paths};

/// Options of `cordon policy suggest`.
#[derive(Debug, Args)]
pub struct SuggestArgs {
    /// From when on: `7d`, `12h`, a day, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    since: Option<SystemTime>,
    /// Only from this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The policy in force, as for `cordon run`; without it the built-in pack
    #[arg(long, value_name = "PATH")]
    policy: Vec<PathBuf>,
    /// For whom the rules are
    #[arg(long = "for", value_enum, default_value_t, value_name = "WHOM")]
    scope: Whom,
    /// How many names below one domain make all below it of them, never above the registrable
    /// domain; 0 names each
    #[arg(long, value_name = "N", default_value_t = 3)]
    generalise: usize,
    /// Also list rules that determined nothing since then
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    unused: Option<SystemTime>,
    /// Write a draft to this new file, and its host groups beside it as `.toml`
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// For whom rules are proposed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Whom {
    /// The agent that asked; everyone where there was none
    #[default]
    Agent,
    /// The user who asked
    User,
    /// Everyone
    Everyone,
}

/// Does it.
pub fn suggest(args: &SuggestArgs) -> Result<u8, Failure> {
    if let Some(output) = &args.output {
        refuse_live(output, &args.policy)?;
    }
    let current = inputs::policy(&args.policy)?;
    let log = inputs::log(args.log.as_ref())?;
    let options = Options {
        selection: Selection {
            since: args.since,
            until: None,
            session: args.session.clone(),
        },
        scope: match args.scope {
            Whom::Agent => Scope::Agent,
            Whom::User => Scope::User,
            Whom::Everyone => Scope::Everyone,
        },
        generalise_from: (args.generalise > 0).then_some(args.generalise.max(2)),
    };
    let report = suggest::suggest(&log, &current, &options)?;
    let unused = args
        .unused
        .map(|since| {
            let snapshot = Snapshot::load(&current)?;
            Ok::<_, Failure>(suggest::unused(&log, &snapshot, since)?)
        })
        .transpose()?;
    match args.format {
        Format::Json => println!(
            "{}",
            serde_json::json!({ "suggested": report, "unused": unused })
        ),
        Format::Text => print(&report, unused.as_ref()),
    }
    if let Some(output) = &args.output {
        write(output, &report.draft)?;
    }
    Ok(0)
}

/// A draft goes nowhere where it could be read as policy.
fn refuse_live(output: &Path, policies: &[PathBuf]) -> Result<(), Failure> {
    let live = |why: String| {
        Failure::new(format!("`{}` is not written: {why}", output.display())).help(
            "a draft is read before it decides: write it elsewhere and take over what is meant",
        )
    };
    if output.extension().is_none_or(|ending| ending != "cedar") {
        return Err(Failure::new("a draft is a file called `*.cedar`").usage());
    }
    let folder = match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|error| {
        Failure::new(format!("`{}`: {error}", folder.display())).help("make the folder first")
    })?;
    let mut configured = vec![PathBuf::from("/etc/cordon")];
    if let Ok(paths) = Paths::from_env(|name| std::env::var_os(name)) {
        configured.extend([paths.config, paths.state, paths.runtime]);
    }
    let named = policies.iter().map(|path| {
        if path.is_dir() {
            path.clone()
        } else {
            path.parent().map(Path::to_path_buf).unwrap_or_default()
        }
    });
    for live_folder in configured.into_iter().chain(named) {
        if live_folder
            .canonicalize()
            .is_ok_and(|live| folder.starts_with(live))
        {
            return Err(live(format!(
                "`{}` holds live policy",
                live_folder.display()
            )));
        }
    }
    for above in folder.ancestors() {
        if above.join("bundle.toml").exists() || above.ends_with(".cordon") {
            return Err(live(format!("`{}` is a bundle", above.display())));
        }
    }
    let has_rules = fs::read_dir(&folder)?.filter_map(Result::ok).any(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|ending| ending == "cedar")
    });
    if has_rules {
        return Err(live("there are rules in that folder".into()));
    }
    Ok(())
}

/// Two new files; one that is there is never replaced.
fn write(output: &Path, draft: &Draft) -> Result<(), Failure> {
    if draft.cedar.is_empty() {
        eprintln!("nothing to write: nothing is proposed");
        return Ok(());
    }
    let data = output.with_extension("toml");
    let mut files = vec![(output, &draft.cedar)];
    if !draft.toml.is_empty() {
        files.push((&data, &draft.toml));
    }
    for (path, text) in files {
        File::create_new(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| {
                Failure::new(format!("`{}`: {error}", path.display()))
                    .help("a draft never replaces a file: name another, or move that one aside")
            })?;
        eprintln!("draft written to {}", path.display());
    }
    eprintln!("it is not in force: read it, then take over what is meant");
    Ok(())
}

fn print(report: &Report, unused: Option<&Unused>) {
    println!(
        "{} decisions, {} refused because no rule allows them, {} allowed by a person's approval, \
         {} of these allowed by now",
        report.decisions, report.refused, report.approved, report.allowed_by_now
    );
    for (why, count) in &report.left_out {
        println!("{count} left out: {why}");
    }
    for rule in &report.rules {
        print_rule(rule);
    }
    if !report.forbidden.is_empty() {
        println!("\nRefused by a rule; nothing is proposed against that:");
    }
    for (rule, count) in &report.forbidden {
        println!("{count:>8}  `{rule}`");
    }
    if !report.elsewhere.is_empty() {
        println!("\nNo rule can allow these:");
    }
    for line in &report.elsewhere {
        println!("{:>8}  {}: {}", line.count, line.what, line.remedy);
    }
    if let Some(unused) = unused {
        print_unused(unused);
    }
}

fn print_rule(rule: &Suggestion) {
    let evidence = &rule.evidence;
    println!(
        "\n{}{} time(s){} in {} session(s) of {}, for example {}",
        rule.cedar,
        evidence.count,
        match evidence.approved {
            0 => String::new(),
            approved => format!(", {approved} of them approved by a person,"),
        },
        evidence.sessions,
        evidence.users.join(", "),
        evidence.examples.join("; ")
    );
    if let Some(group) = &rule.group {
        println!("host group `{}`: {}", group.name, group.members.join(", "));
    }
    if !rule.beyond.is_empty() {
        println!(
            "allows beyond that, for example: {}",
            rule.beyond.join("; ")
        );
    }
    for refused in &rule.still_refused {
        println!("would still be refused: {refused}");
    }
}

fn print_unused(unused: &Unused) {
    println!(
        "\nRules that determined none of {} decisions:",
        unused.decisions
    );
    if unused.rules.is_empty() {
        println!("  none; every rule was needed");
    }
    for rule in &unused.rules {
        let effect = match rule.effect {
            cordon_policy::Effect::Permit => "permit",
            cordon_policy::Effect::Forbid => "forbid",
        };
        println!("  {effect}  `{}`  {}:{}", rule.id, rule.file, rule.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft {
            cedar: "// a draft\n".into(),
            toml: "[host_groups]\n".into(),
        }
    }

    #[test]
    fn p06_a_draft_is_never_written_where_policy_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let made = folder.path().join(name);
            fs::create_dir_all(&made).unwrap();
            made
        };
        let (named, rules, bundle) = (at("named"), at("rules"), at("bundle"));
        let (inside, workspace, free) = (at("bundle/rules"), at("w/.cordon/policy"), at("free"));
        fs::write(rules.join("live.cedar"), "").unwrap();
        fs::write(bundle.join("bundle.toml"), "").unwrap();
        let policies = [named.clone()];
        for live in [&named, &rules, &bundle, &inside, &workspace] {
            let refused = refuse_live(&live.join("draft.cedar"), &policies);
            assert!(refused.is_err(), "{}", live.display());
        }
        refuse_live(&free.join("draft.cedar"), &policies).unwrap();
        assert!(refuse_live(&free.join("draft.txt"), &policies).is_err());
    }

    #[test]
    fn p06_a_draft_never_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("draft.cedar");
        write(&path, &draft()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "// a draft\n");
        assert!(folder.path().join("draft.toml").is_file());
        fs::write(&path, "mine").unwrap();
        assert!(write(&path, &draft()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
