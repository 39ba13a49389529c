//! Decides what a running session wants of its grants beyond what they include.

use std::path::PathBuf;

use cordon_policy::{Asked, Basis, Decided, Deny, GrantMode, Operation};
use cordon_session::{Durability, Gate, GateError};

use super::open::Open;
use crate::control::Answer;

/// Changing a path that is protected in its grant: refused unless policy permits `write` for it.
pub async fn protected_write(gate: &Gate, open: &Open, path: PathBuf, why: String) -> Answer {
    let operation = Operation::WritePath {
        mode: mode_at(open, &path),
        path,
    };
    let outcome = match gate.review(operation.clone()) {
        Ok(_permitted) => gate.admit(operation, Durability::Synced).await.map(drop),
        Err(deny) => Err(gate.refuse(protected(&deny, why)).await),
    };
    match outcome {
        Ok(()) => Answer::Permitted,
        Err(GateError::Denied(_)) => Answer::Noted,
        Err(GateError::NotRecorded(error)) => Answer::Failed {
            message: error.to_string(),
            help: None,
        },
    }
}

/// What of `paths`, which are there and protected, need not be held: nothing was asked for yet, so
/// only what policy permits is recorded.
pub async fn protected_paths(gate: &Gate, open: &Open, paths: Vec<PathBuf>) -> Answer {
    let mut permitted = Vec::with_capacity(paths.len());
    for path in paths {
        let operation = Operation::WritePath {
            mode: mode_at(open, &path),
            path,
        };
        let may = gate.review(operation.clone()).is_ok();
        permitted.push(may && gate.admit(operation, Durability::Synced).await.is_ok());
    }
    Answer::ProtectedPaths { permitted }
}

/// The refusal with the reason that tells more than that no rule permits it.
fn protected(deny: &Decided<Deny>, why: String) -> Decided<Deny> {
    let verdict = deny.verdict();
    let asked = match &verdict.asked {
        Asked::Request(request) => Asked::Request(request.clone()),
        Asked::Raw(raw) => Asked::Raw(raw.clone()),
    };
    let basis = Basis {
        errors: vec![why],
        ..verdict.basis.clone()
    };
    Decided::<Deny>::deny(asked, verdict.reason, basis)
}

/// The mode of the innermost grant that `path` lies in.
pub fn mode_at(open: &Open, path: &std::path::Path) -> GrantMode {
    let grants = open.opened.grants.iter();
    let within = grants.filter(|grant| path.starts_with(&grant.path));
    within
        .max_by_key(|grant| grant.path.components().count())
        .map_or(GrantMode::Ro, |grant| grant.mode)
}
