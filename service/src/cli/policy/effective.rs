//! `cordon policy effective`: what a running session is decided by, rule by rule (N20).

use clap::Args;
use cordon_audit::escape;

use super::{
    Format,
    change::{ask, told},
};
use crate::{
    control::{Effective, PolicyAnswer, PolicyAsk},
    error::Failure,
};

/// Options of `cordon policy effective`.
#[derive(Debug, Args)]
pub struct EffectiveArgs {
    /// The session's id, or the beginning of it
    session: String,
    /// Ids and reasons only, without the text of the rules
    #[arg(long)]
    short: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 0, 1 when no such session runs, or 3 when policy does not let it be seen.
pub fn effective(args: &EffectiveArgs) -> Result<u8, Failure> {
    let answer = ask(PolicyAsk::Effective {
        session: args.session.clone(),
    })?;
    let effective = match answer {
        PolicyAnswer::Effective(effective) => effective,
        other => return told(other, args.format),
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&effective)?),
        Format::Text => print_text(&effective, args.short),
    }
    Ok(0)
}

fn print_text(effective: &Effective, short: bool) {
    println!("session  {}", escape(&effective.session));
    println!("policy   {}", escape(&effective.set));
    println!("digest   {}", escape(&effective.digest));
    if let Some(revision) = effective.revision {
        println!("revision {revision}");
    }
    let follows = if effective.follows {
        "follows every change while the session runs"
    } else {
        "stays as the session began"
    };
    println!("changes  {follows}");
    match &effective.observe {
        Some(until) => println!("mode     ONLY OBSERVES until {}", escape(until)),
        None => println!("mode     enforces"),
    }
    for (layer, bundle) in &effective.bundles {
        println!("bundle   {layer}: {}", escape(&bundle.words()));
    }
    if let Some(candidate) = &effective.candidate {
        println!("candidate {}", escape(candidate));
    }
    for grant in &effective.refused_grants {
        println!("refused now, and mounted still: {}", escape(grant));
    }
    println!(
        "rules    {}; what none permits is refused",
        effective.rules.len()
    );
    for rule in &effective.rules {
        println!(
            "\n{:<12} {} {} ({})",
            rule.layer.as_str(),
            rule.effect,
            escape(&rule.id),
            escape(&rule.place)
        );
        if let Some(reason) = &rule.reason {
            println!("             {}", escape(reason));
        }
        if let Some(until) = &rule.observe {
            println!("             only observes until {}", escape(until));
        }
        if !short {
            for line in rule.text.lines() {
                println!("    {}", escape(line));
            }
        }
    }
}
