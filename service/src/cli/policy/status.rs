//! `cordon policy status`: sources, what is in force, what is tried out, what could be gone back to.

use std::fmt::Write as _;

use clap::Args;
use cordon_audit::escape;

use super::{Format, change::ask};
use crate::{
    control::{PolicyAnswer, PolicyAsk, PolicyStatus},
    error::Failure,
};

/// Options of `cordon policy status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 0.
pub fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let PolicyAnswer::Status(status) = ask(PolicyAsk::Status)? else {
        return Err(Failure::new("the daemon answered something unexpected"));
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&status)?),
        Format::Text => print!("{}", text(&status, true)),
    }
    Ok(0)
}

/// In lines; `whole` with what could be gone back to.
pub fn text(status: &PolicyStatus, whole: bool) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let mut line = |label: &str, text: &str| {
        let _written = writeln!(out, "{label:<9}{}", escape(text));
    };
    if status.layers.is_empty() {
        line("policy", "the built-in pack, or what `--policy` names");
    }
    for layer in &status.layers {
        let live = match &layer.live {
            Some(live) => live.words(),
            None => "NOTHING IN FORCE, no session may start".into(),
        };
        line("policy", &format!("{}: {live}", layer.layer));
        line("", &format!("from {}", layer.source));
        if let Some(fault) = &layer.fault {
            let stays = match layer.live {
                Some(_) => ", what is in force stays",
                None => "",
            };
            line("", &format!("FAULT{stays}: {fault}"));
        }
        if let Some(waiting) = &layer.waiting {
            line(
                "",
                &format!("waits for `cordon policy promote`: {}", waiting.words()),
            );
        }
        if whole {
            for former in &layer.former {
                line("", &format!("before: {}", former.words()));
            }
        }
    }
    if let Some(candidate) = &status.candidate {
        let counts = candidate.counts;
        line(
            "candidate",
            &format!(" {}: {}", candidate.layer, candidate.bundle.words()),
        );
        line(
            "",
            &format!("{}, begun by {}", candidate.stage, candidate.by),
        );
        line(
            "",
            &format!(
                "same answer {}, newly refused {}, newly allowed {}",
                counts.both_allow + counts.both_refuse,
                counts.newly_refused,
                counts.newly_allowed
            ),
        );
    }
    for pending in &status.pending {
        line("pending", pending);
    }
    for note in &status.notes {
        line("note", note);
    }
    if let (true, Some(trust)) = (whole, &status.trust) {
        line("trust", &trust.display().to_string());
    }
    out
}
