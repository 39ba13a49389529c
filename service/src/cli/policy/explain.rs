//! `cordon policy explain`: what a policy says to one request, and why.

mod application;

use std::path::PathBuf;

use clap::Args;
use cordon_policy::{
    Backend, DestinationPast, Operation, Rule, SessionPast, Snapshot, WhyNot,
    ask::{self, Given, Moment},
    plain_words, suggest,
    testing::{Came, Expected, Question, decide},
};
use serde_json::json;

use super::{Format, set};
use crate::{cli::exit, error::Failure, user::User};

/// Options of `cordon policy explain`.
#[derive(Debug, Args)]
#[command(after_help = forms())]
pub struct ExplainArgs {
    /// The policy: files, directories, or the name of a shipped pack
    #[arg(long, value_name = "FILE|DIR|NAME", default_value = "default")]
    policy: Vec<PathBuf>,
    /// Who asks: login name; you, with your groups, when left out
    #[arg(long)]
    user: Option<String>,
    /// A group of the user; may be given several times, and without it a named user has none
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// The agent profile
    #[arg(long)]
    agent: Option<String>,
    /// Operating system of the session
    #[arg(long, default_value = "linux")]
    platform: String,
    /// As though the session had no walls
    #[arg(long)]
    without_sandbox: bool,
    /// When it is asked, RFC 3339 (`2026-03-02T18:00:00Z`); now when left out
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// A label that the session has; may be given several times
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// As though the session had reached the destination before
    #[arg(long)]
    seen: bool,
    /// What the session did before: requests, destinations, bytes_sent, bytes_received, deletes or
    /// tool_calls; may be given several times
    #[arg(long, value_name = "NAME=NUMBER")]
    past: Vec<String>,
    /// As though a person had approved it
    #[arg(long)]
    approved: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The request in words, for example `connect api.example.com:443`
    #[arg(required = true, trailing_var_arg = true, value_name = "REQUEST")]
    request: Vec<String>,
}

fn forms() -> String {
    format!(
        "Requests:\n  {}\n\nOf an application of a bundle, as AuthZEN would ask it:\n  \
         may TYPE ID ACTION TYPE ID\n  '{{\"subject\": …, \"action\": …, \"resource\": …, \
         \"context\": …}}'",
        ask::FORMS.join("\n  ")
    )
}

/// Does it. Exit 0 when it is allowed, 3 when it is not.
pub fn explain(args: &ExplainArgs) -> Result<u8, Failure> {
    if let Some(question) = Question::parse(&args.request) {
        let question = question.map_err(|why| Failure::new(why).usage())?;
        return application::explain(&question, &args.policy, args.format);
    }
    let operation = ask::parse_words(&args.request)
        .map_err(|error| Failure::new(error.to_string()).help(error.hint()).usage())?;
    let source = set::read(&args.policy)?;
    let snapshot = Snapshot::load(&source)?;
    let given = given(args)?;
    let answer = Answer::of(&snapshot, &given, &operation);
    match args.format {
        Format::Json => println!("{}", answer.json(&snapshot)),
        Format::Text => answer.print(&snapshot),
    }
    Ok(if answer.came.outcome == Expected::Allow {
        0
    } else {
        exit::DENIED
    })
}

fn given(args: &ExplainArgs) -> Result<Given, Failure> {
    let (user, mut groups) = match &args.user {
        Some(user) => (user.clone(), Vec::new()),
        None => {
            let caller = User::current()?;
            (caller.name, caller.groups)
        }
    };
    if !args.group.is_empty() {
        groups.clone_from(&args.group);
    }
    Ok(Given {
        user: Some(user),
        groups: Some(groups),
        agent: args.agent.clone(),
        platform: Some(args.platform.clone()),
        backend: args.without_sandbox.then_some(Backend::None),
        time: Some(
            args.at
                .unwrap_or_else(|| Moment(std::time::SystemTime::now())),
        ),
        session: Some(past(args)?),
        destination: Some(DestinationPast {
            seen: args.seen,
            ..DestinationPast::default()
        }),
        approved: Some(args.approved),
    })
}

/// What the session did before, as the options say.
fn past(args: &ExplainArgs) -> Result<SessionPast, Failure> {
    let mut fields = serde_json::Map::new();
    for said in &args.past {
        let number = said.split_once('=').and_then(|(name, number)| {
            let number: u64 = number.parse().ok()?;
            Some((name, number))
        });
        let Some((name, number)) = number else {
            return Err(Failure::new(format!("`--past {said}` is not NAME=NUMBER")).usage());
        };
        fields.insert(name.into(), number.into());
    }
    let mut past: SessionPast = serde_json::from_value(fields.into())
        .map_err(|error| Failure::new(format!("`--past`: {error}")).usage())?;
    past.labels = args
        .label
        .iter()
        .map(|label| label.as_str().into())
        .collect();
    Ok(past)
}

/// What a policy says to one request, and why.
struct Answer<'a> {
    request: String,
    given: &'a Given,
    came: Came,
    rules: Vec<Rule>,
    why_not: Option<WhyNot>,
    approval: &'static str,
    would_allow: String,
}

impl<'a> Answer<'a> {
    fn of(snapshot: &Snapshot, given: &'a Given, operation: &Operation) -> Self {
        let came = decide(snapshot, given, operation);
        let request = given.request(operation.clone());
        let is_allowed = came.outcome == Expected::Allow;
        let decides = |rule: &&Rule| came.rules.iter().any(|id| **id == *rule.id);
        let forbidden = !is_allowed && came.outcome == Expected::Deny && !came.rules.is_empty();
        Self {
            request: ask::words(operation),
            given,
            rules: snapshot.rules().iter().filter(decides).cloned().collect(),
            why_not: (!is_allowed)
                .then(|| snapshot.why_not_after(&given.history(), &request))
                .flatten(),
            approval: match came.outcome {
                Expected::Allow => "",
                Expected::Ask => "an approval would allow it",
                Expected::Deny => "an approval would not help",
            },
            would_allow: if is_allowed || forbidden {
                String::new()
            } else {
                suggest(&request)
            },
            came,
        }
    }

    /// Who was taken to ask, and when.
    fn who(&self) -> String {
        let session = self.given.session();
        let mut text = format!("asked by {}", session.user);
        if !session.groups.is_empty() {
            text.push_str(&format!(" of {}", session.groups.join(", ")));
        }
        if let Some(agent) = &session.agent {
            text.push_str(&format!(" with agent {agent}"));
        }
        format!(
            "{text} on {} at {}",
            session.platform,
            Moment(self.given.at())
        )
    }

    fn json(&self, snapshot: &Snapshot) -> serde_json::Value {
        let rules = self.rules.iter().map(|rule| {
            json!({
                "id": rule.id, "effect": rule.effect, "layer": rule.layer, "reason": rule.reason,
                "file": rule.file, "line": rule.line, "text": rule.text,
                "words": plain_words::rule(rule),
            })
        });
        json!({
            "request": self.request,
            "given": self.given,
            "policy": snapshot.name(),
            "digest": snapshot.digest(),
            "outcome": self.came.outcome,
            "reason": self.came.reason,
            "message": self.came.message,
            "rules": serde_json::Value::from_iter(rules),
            "why_not": self.why_not,
            "approval": self.approval,
            "would_allow": self.would_allow,
        })
    }

    fn print(&self, snapshot: &Snapshot) {
        println!("{}: {}", self.came.outcome.as_str(), self.request);
        if let Some(message) = &self.came.message {
            println!("  {message}");
        }
        println!("  {}", self.who());
        println!("  policy {} ({:.12})", snapshot.name(), snapshot.digest());
        for rule in &self.rules {
            print_rule(rule, Some(&plain_words::rule(rule)));
        }
        if let Some(why) = &self.why_not {
            println!("\n{why}");
        }
        if !self.approval.is_empty() {
            println!("\n{}", self.approval);
        }
        if !self.would_allow.is_empty() {
            println!(
                "this line would allow exactly that, if you mean it:\n  {}",
                self.would_allow
            );
        }
    }
}

/// A rule with where it stands, what it says in plain words where there are any, and its text.
fn print_rule(rule: &Rule, words: Option<&str>) {
    println!(
        "\nrule `{}` ({} layer, {}:{})",
        rule.id,
        rule.layer,
        rule.file.display(),
        rule.line
    );
    if let Some(words) = words {
        println!("  {words}");
    }
    for line in rule.text.lines() {
        println!("    {line}");
    }
}
