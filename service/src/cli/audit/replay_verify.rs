//! `cordon audit replay-verify`: whether past decisions come out the same again.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;
use cordon_analysis::{
    again::{self, Report, Sets},
    records::Selection,
};
use cordon_policy::{Snapshot, bundle::Bundle, source::PolicySource};

use super::{Format, directory, open_log};
use crate::{
    cli::{exit, policy::inputs},
    error::Failure,
    paths::Paths,
    policy_sets::PolicySets,
};

/// Options of `cordon audit replay-verify`.
#[derive(Debug, Args)]
pub struct ReplayVerifyArgs {
    /// From when on: `7d`, `12h`, a day, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    since: Option<SystemTime>,
    /// Until when
    #[arg(long, value_name = "TIME", value_parser = inputs::time)]
    until: Option<SystemTime>,
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Policy sets that decided, as `cordon run --policy` was given them; name each set with its
    /// own flag. The built-in pack, and sets that the daemon keeps, are at hand
    #[arg(long, value_name = "DIR")]
    policy: Vec<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Does it. Exit 1 when a decision comes out differently.
pub fn replay_verify(args: &ReplayVerifyArgs) -> Result<u8, Failure> {
    let log = open_log(&directory(args.log.as_ref())?)?;
    let mut sets = AtHand::with(&args.policy)?;
    let selection = Selection {
        since: args.since,
        until: args.until,
        session: args.session.clone(),
    };
    let report = again::verify(&log, &mut sets, &selection)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&report)?),
        Format::Text => print(&report),
    }
    Ok(if report.different == 0 {
        0
    } else {
        exit::FAILED
    })
}

/// Policy sets by digest; loaded when first asked for.
struct AtHand {
    sources: HashMap<String, PolicySource>,
    loaded: HashMap<String, Option<Snapshot>>,
}

impl AtHand {
    /// The built-in pack, what is named, each alone and all together (as one `cordon run` may
    /// have been given them), and what the daemon keeps.
    fn with(named: &[PathBuf]) -> Result<Self, Failure> {
        let builtin = PolicySource::default_pack();
        let mut sources = vec![builtin.clone()];
        for path in named {
            let one = inputs::policy(std::slice::from_ref(path))?;
            sources.push(builtin.clone().join(one.clone()));
            sources.push(one);
        }
        if named.len() > 1 {
            let all = inputs::policy(named)?;
            sources.push(builtin.join(all.clone()));
            sources.push(all);
        }
        if let Ok(paths) = Paths::from_env(|name| std::env::var_os(name)) {
            sources.extend(kept_by_daemon(&paths.state));
        }
        Ok(Self {
            sources: sources
                .into_iter()
                .map(|source| (source.digest(), source))
                .collect(),
            loaded: HashMap::new(),
        })
    }
}

impl Sets for AtHand {
    fn by_digest(&mut self, digest: &str) -> Option<&Snapshot> {
        let kept = || PolicySets::of_user().and_then(|sets| sets.find(digest));
        let source = self.sources.get(digest).cloned().or_else(kept);
        self.loaded
            .entry(digest.to_owned())
            .or_insert_with(|| Snapshot::load(&source?).ok())
            .as_ref()
    }
}

/// Archives of bundles that the daemon keeps in the state directory. What cannot be read is not at hand.
fn kept_by_daemon(state: &Path) -> Vec<PolicySource> {
    const MOST: usize = 1_000;
    let Ok(entries) = std::fs::read_dir(state.join("policy/bundles")) else {
        return Vec::new();
    };
    entries
        .take(MOST)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b".tar.gz"))
        .filter_map(|entry| Bundle::read(&entry.path()).ok())
        .map(|bundle| bundle.source())
        .collect()
}

fn print(report: &Report) {
    println!(
        "{} decisions, {} decided again under their own policy set: {} as recorded, {} DIFFERENT",
        report.decisions, report.decided_again, report.same, report.different
    );
    for difference in &report.differences {
        println!(
            "\nrecord {} ({}): {}\n  recorded {}\n  again    {}",
            difference.seq,
            difference.record,
            difference.what,
            difference.recorded,
            difference.again.words()
        );
    }
    let listed = u64::try_from(report.differences.len()).unwrap_or(u64::MAX);
    if report.different > listed {
        println!("\nand {} more", report.different - listed);
    }
    if !report.not_again.is_empty() {
        println!("\nnot decided again:");
    }
    for (why, count) in &report.not_again {
        println!("{count:>8}  {why}");
    }
    for set in &report.missing_sets {
        let digest = set.digest.get(..12).unwrap_or(&set.digest);
        println!("{:>8}  by `{}` {digest}", set.decisions, set.name);
    }
}
