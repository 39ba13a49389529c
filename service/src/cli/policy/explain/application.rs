//! `cordon policy explain` of a question about the application of a bundle.

use std::path::PathBuf;

use cordon_policy::{
    Rule, Snapshot,
    testing::{Came, Expected, Question},
};
use serde_json::json;

use super::{Format, print_rule, set};
use crate::{cli::exit, error::Failure};

/// Does it. Exit 0 when it is allowed, 3 when it is not.
pub fn explain(question: &Question, policy: &[PathBuf], format: Format) -> Result<u8, Failure> {
    let snapshot = Snapshot::load(&set::read(policy)?)?;
    let Some(application) = question.application(&snapshot) else {
        let came = question.came(&snapshot);
        return Err(Failure::new(came.message.unwrap_or_default())
            .help("`--policy` names a bundle's directory; its `app/authzen.toml` has the types")
            .usage());
    };
    let came = question.came(&snapshot);
    let decided = |rule: &&Rule| came.rules.iter().any(|id| **id == *rule.id);
    let rules: Vec<&Rule> = application.rules().iter().filter(decided).collect();
    match format {
        Format::Json => {
            let rules = rules.iter().map(|rule| {
                json!({
                    "id": rule.id, "effect": rule.effect, "layer": rule.layer,
                    "reason": rule.reason, "file": rule.file, "line": rule.line, "text": rule.text,
                })
            });
            let told = json!({
                "request": question.words(),
                "application": application.bundle(),
                "policy": snapshot.name(),
                "digest": snapshot.digest(),
                "outcome": came.outcome,
                "reason": came.reason,
                "message": came.message,
                "rules": serde_json::Value::from_iter(rules),
            });
            println!("{told}");
        }
        Format::Text => print(question, &came, &rules, application.bundle(), &snapshot),
    }
    Ok(match came.outcome {
        Expected::Allow => 0,
        Expected::Ask | Expected::Deny => exit::DENIED,
    })
}

fn print(question: &Question, came: &Came, rules: &[&Rule], bundle: &str, snapshot: &Snapshot) {
    println!("{}: {}", came.outcome.as_str(), question.words());
    if let Some(message) = &came.message {
        println!("  {message}");
    }
    println!(
        "  application of bundle {bundle}, policy {} ({:.12})",
        snapshot.name(),
        snapshot.digest()
    );
    for rule in rules {
        print_rule(rule, None);
    }
}
