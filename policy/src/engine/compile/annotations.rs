//! What a rule's annotations say, and which of them are wrong.
//!
//! One parsed rule in, its [`Terms`] or findings out. An annotation that nothing acts on must
//! not pass for one that something does: an unknown one is a warning, and an obligation that no
//! enforcement point carries out yet is an error that names it.

mod network;

use std::{sync::Arc, time::SystemTime};

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy};

use crate::{
    Obligation, Observe, ObserveError, Wall,
    check::{Code, Finding, Findings},
    is_label, labels_in,
};

/// What a rule's annotations ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// Until when the rule only observes.
    pub(crate) observe: Option<Observe>,
    /// What the enforcement point must do when the rule permits.
    pub(crate) obligations: Vec<Obligation>,
}

/// Annotations that say something to people. Cedar and the engine do nothing by them.
const FOR_PEOPLE: &[&str] = &["id", "reason", "severity", "description"];

/// Obligations, with the values that some enforcement point carries out today.
const OBLIGATIONS: &[(&str, Values)] = &[
    ("address", Values::OneOf(&["unverified"])),
    // So many people must approve what the rule asks an approval for.
    ("approvers", Values::OneOf(&["2", "3"])),
    ("credential", Values::Name),
    ("durability", Values::OneOf(&["each"])),
    ("inspect", Values::OneOf(&["tls"])),
    // Labels that the session takes on when the rule permits.
    ("label", Values::Labels),
    // So many people must have signed a bundle that is put into force.
    ("people", Values::OneOf(&["2"])),
    ("no_delete", Values::OneOf(&["strict"])),
    ("preserve", Values::OneOf(&["originals"])),
    ("strip", Values::OneOf(&["client"])),
    ("tls", Values::SomeOf(&["no-sni", "ech", "not-tls"])),
    // What must hold the session that starts by the rule.
    ("walls", Values::Walls),
];

/// What an obligation takes.
enum Values {
    OneOf(&'static [&'static str]),
    /// A list with commas, each word once.
    SomeOf(&'static [&'static str]),
    /// Names of walls with commas between them.
    Walls,
    /// A name from configuration.
    Name,
    /// A list of labels with commas.
    Labels,
}

const MAX_NAME_BYTES: usize = 64;

const MAX_ID_BYTES: usize = 128;
const MAX_TEXT_BYTES: usize = 500;

/// Reads a rule's annotations. `here` makes a finding at the rule.
pub(super) fn read(
    policy: &Policy,
    here: &dyn Fn(String) -> Finding,
    findings: &mut Findings,
) -> Terms {
    let mut terms = Terms::default();
    let mut names: Vec<(&str, &str)> = policy.annotations().collect();
    names.sort_unstable();
    for (name, value) in names {
        if let Err((message, help)) = text_problem(name, value) {
            findings.error(|| here(message).with_code(Code::Annotation).with_help(help));
        } else if name == "observe" {
            observe(policy, value, &mut terms, here, findings);
        } else if let Some((_, carried_out)) = OBLIGATIONS.iter().find(|(known, _)| *known == name)
        {
            match obligation(policy, name, value, carried_out) {
                Ok(obligation) => terms.obligations.push(obligation),
                Err((message, help)) => {
                    findings.error(|| here(message).with_code(Code::Unenforceable).with_help(help))
                }
            }
        } else if !FOR_PEOPLE.contains(&name) {
            findings.warning(|| {
                here(format!("nothing acts on the annotation `@{name}`"))
                    .with_code(Code::UnknownAnnotation)
                    .with_help(known_names())
            });
        }
    }
    terms
}

type Problem = (String, String);

fn text_problem(name: &str, value: &str) -> Result<(), Problem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
    let is_id = (1..=MAX_ID_BYTES).contains(&value.len()) && value.bytes().all(plain);
    let is_line = value.len() <= MAX_TEXT_BYTES && !value.chars().any(char::is_control);
    let help = match name {
        "id" if !is_id => "`@id` takes 1 to 128 letters, digits and `-_.:/`".to_owned(),
        "id" => return Ok(()),
        _ if !is_line => format!("`@{name}` takes one line of at most {MAX_TEXT_BYTES} bytes"),
        _ => return Ok(()),
    };
    Err((format!("the rule's `@{name}` is not accepted"), help))
}

fn observe(
    policy: &Policy,
    value: &str,
    terms: &mut Terms,
    here: &dyn Fn(String) -> Finding,
    findings: &mut Findings,
) {
    if policy.effect() == Effect::Permit {
        findings.error(|| {
            here("`@observe` stands on a `permit`, which has nothing to hold back".into())
                .with_code(Code::Annotation)
                .with_help("take it away; try a new `permit` out as a candidate bundle in shadow")
        });
        return;
    }
    match value.parse::<Observe>() {
        Ok(end) => {
            // The one look at a clock: a warning to the author. Deciding goes by the request's time.
            if !end.is_on(SystemTime::now()) {
                findings.warning(|| {
                    here(format!("`@observe` ended on {end}, so the rule enforces"))
                        .with_code(Code::ObserveEnded)
                        .with_help(
                            "take the annotation away, or set another end if it is not ready",
                        )
                });
            }
            terms.observe = Some(end);
        }
        Err(error) => {
            let error: ObserveError = error;
            findings.error(|| {
                here(format!("`@observe`: {error}"))
                    .with_code(Code::Annotation)
                    .with_help(error.hint())
            });
        }
    }
}

fn obligation(
    policy: &Policy,
    name: &str,
    value: &str,
    carried_out: &Values,
) -> Result<Obligation, Problem> {
    if policy.effect() == Effect::Forbid {
        return Err((
            format!("`@{name}` stands on a `forbid`, where nothing is let through to act on"),
            "put it on the `permit` that it belongs to".into(),
        ));
    }
    if name == "people" && !is_about_publishing(policy) {
        return Err((
            "`@people` stands on a rule that is not about putting policy into force alone".into(),
            "write it on `permit (…, action == Action::\"publish_policy\", …)`".into(),
        ));
    }
    if name == "approvers" && !is_about_approval(policy) {
        return Err((
            "`@approvers` stands on a rule that asks for no approval".into(),
            "write it on a `permit` with `when { context has approval }`".into(),
        ));
    }
    if name == "walls" && !is_about_starting(policy) {
        return Err((
            "`@walls` stands on a rule that is not about sessions with walls alone".into(),
            "write it on `permit (…, action == Action::\"start_session\", …)`; `exec` may stand \
             beside it in a list, and has the walls of its session"
                .into(),
        ));
    }
    network::check(policy, name)?;
    if carried_out.accept(value) {
        return Ok(Obligation {
            name: Arc::from(name),
            value: Arc::from(value),
        });
    }
    Err(match carried_out {
        Values::OneOf([]) => (
            format!("no enforcement point of this version can carry out `@{name}`"),
            "take it away, or forbid what must not happen without it".into(),
        ),
        values => (
            format!("no enforcement point can carry out `@{name}({value:.100?})`"),
            format!("it takes {}", values.in_words()),
        ),
    })
}

/// Whether a condition speaks of an approval; what cannot be looked into does not.
fn is_about_approval(policy: &Policy) -> bool {
    let json = policy.to_json().ok();
    let conditions = json.as_ref().and_then(|json| json.get("conditions"));
    conditions.is_some_and(|conditions| conditions.to_string().contains("\"approval\""))
}

impl Values {
    fn accept(&self, value: &str) -> bool {
        match self {
            Self::OneOf(values) => values.contains(&value),
            Self::SomeOf(values) => {
                let words: Vec<&str> = value.split(',').map(str::trim).collect();
                let is_once = |(at, word): (usize, &&str)| {
                    values.contains(word)
                        && words.iter().position(|other| other == word) == Some(at)
                };
                words.iter().enumerate().all(is_once)
            }
            Self::Walls => value
                .split(',')
                .all(|name| name.trim().parse::<Wall>().is_ok()),
            Self::Labels => labels_in(value).all(is_label),
            Self::Name => {
                let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                (1..=MAX_NAME_BYTES).contains(&value.len()) && value.bytes().all(plain)
            }
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::OneOf(values) => format!("{values:?}"),
            Self::SomeOf(values) => format!("a list of {values:?}, for example \"no-sni,ech\""),
            Self::Walls => format!(
                "walls with commas between them: {}",
                Wall::ALL.map(Wall::name).join(", ")
            ),
            Self::Labels => {
                "labels with commas between them, each of 1 to 64 lower-case letters, digits and \
                 `-`: \"untrusted\""
                    .into()
            }
            Self::Name => {
                "the name of a credential: 1 to 64 lower-case letters, digits and `-`".into()
            }
        }
    }
}

/// Signatures are counted where a bundle is put into force, and nowhere else.
fn is_about_publishing(policy: &Policy) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Eq(action) => action.id().unescaped() == "publish_policy",
        ActionConstraint::Any | ActionConstraint::In(_) => false,
    }
}

/// A session's walls are compared with what is asked when it starts.
fn is_about_starting(policy: &Policy) -> bool {
    let starts = |action: &EntityUid| action.id().unescaped() == "start_session";
    match policy.action_constraint() {
        ActionConstraint::Eq(action) => starts(&action),
        ActionConstraint::In(actions) => {
            let known = |action: &EntityUid| starts(action) || action.id().unescaped() == "exec";
            actions.iter().any(starts) && actions.iter().all(known)
        }
        ActionConstraint::Any => false,
    }
}

fn known_names() -> String {
    let obligations = OBLIGATIONS.iter().map(|(name, _)| *name);
    let names: Vec<String> = FOR_PEOPLE
        .iter()
        .copied()
        .chain(["observe"])
        .chain(obligations)
        .map(|name| format!("`@{name}`"))
        .collect();
    format!("known are {}", names.join(", "))
}
