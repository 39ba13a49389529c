//! Runs tests against a snapshot. Pure: the clock is the one that the test names.

use serde::Serialize;

use super::{Coverage, Expected, Test, TestFile, coverage::Counter};
use crate::{
    Decision, DenyReason, Operation, Request, RuleRef, Snapshot,
    ask::{AskError, Given, words},
};

/// What came of running tests.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Every test that was run, in order.
    pub tests: Vec<TestResult>,
    /// What they covered.
    pub coverage: Coverage,
}

/// One test that was run.
#[derive(Clone, Debug, Serialize)]
pub struct TestResult {
    /// File, as it was named.
    pub file: String,
    /// Line where the test begins.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// How many requests it has.
    pub requests: usize,
    /// Requests that did not come out as written; none means that it passed.
    pub failures: Vec<Failed>,
}

/// One request that did not come out as written.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// The request in words.
    pub when: String,
    /// What was expected, in words.
    pub expected: String,
    /// What came instead.
    pub came: Came,
    /// Why, in words: the deciding rules or the nearest permit.
    pub why: String,
}

/// What a policy set said to one request.
#[derive(Clone, Debug, Serialize)]
pub struct Came {
    /// The outcome.
    pub outcome: Expected,
    /// The reason of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DenyReason>,
    /// Ids of the determining rules.
    pub rules: Vec<String>,
    /// The refusal's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Runs the tests of these files (each with its name), or only those whose name has `filter` in
/// it. Coverage counts what was run.
pub fn run(snapshot: &Snapshot, files: &[(String, TestFile)], filter: Option<&str>) -> Report {
    let mut counter = Counter::new(snapshot);
    let mut tests = Vec::new();
    for (name, file) in files {
        for test in &file.tests {
            if filter.is_none_or(|part| test.name.contains(part)) {
                tests.push(run_one(snapshot, name, test, &mut counter));
            }
        }
    }
    Report {
        tests,
        coverage: counter.coverage(),
    }
}

/// What a snapshot says to an operation under these facts, as tests and people see it.
pub fn decide(snapshot: &Snapshot, given: &Given, operation: &Operation) -> Came {
    let approved = given.approved.unwrap_or(false);
    let request = given.request(operation.clone());
    match snapshot.decide_after(&given.history(), request, None) {
        // Observe mode lets through what it would refuse; a test is about what the rules mean.
        Decision::Allow(allow) => match &allow.verdict().basis.observed {
            Some(observed) => came(
                outcome_of(observed.reason),
                Some(observed.reason),
                Some(observed.reason.words().into()),
                &observed.rules,
            ),
            None => came(Expected::Allow, None, None, &allow.verdict().basis.rules),
        },
        Decision::Deny(deny) => {
            let deny = deny.verdict();
            let (rules, reason) = (&deny.basis.rules, deny.reason);
            if reason == DenyReason::ApprovalRequired && approved {
                return came(Expected::Allow, None, None, rules);
            }
            came(outcome_of(reason), Some(reason), Some(deny.why()), rules)
        }
    }
}

fn outcome_of(reason: DenyReason) -> Expected {
    if reason == DenyReason::ApprovalRequired {
        Expected::Ask
    } else {
        Expected::Deny
    }
}

fn came(
    outcome: Expected,
    reason: Option<DenyReason>,
    message: Option<String>,
    rules: &[RuleRef],
) -> Came {
    Came {
        outcome,
        reason,
        rules: rules.iter().map(|rule| rule.id.to_string()).collect(),
        message,
    }
}

fn run_one(snapshot: &Snapshot, file: &str, test: &Test, counter: &mut Counter) -> TestResult {
    let mut failures = Vec::new();
    for (text, asked) in &test.when {
        let (came, request) = match asked {
            Ok(operation) => {
                let came = decide(snapshot, &test.given, operation);
                let request = test.given.request(operation.clone());
                counter.count(snapshot, &request, &came, &test.given);
                (came, Some(request))
            }
            Err(error) => (refused(error), None),
        };
        if !is_as_written(test, &came) {
            failures.push(Failed {
                when: asked.as_ref().map_or_else(|_| text.clone(), words),
                expected: expected(test),
                why: why(snapshot, &came, &test.given, request.as_ref()),
                came,
            });
        }
    }
    for question in &test.ask {
        let came = question.came(snapshot);
        if let Some(application) = question.application(snapshot) {
            counter.count_answer(application.bundle(), &came);
        }
        if !is_as_written(test, &came) {
            failures.push(Failed {
                when: question.words(),
                expected: expected(test),
                why: came.message.clone().unwrap_or_default(),
                came,
            });
        }
    }
    TestResult {
        file: file.to_owned(),
        line: test.line,
        name: test.name.clone(),
        requests: test.when.len() + test.ask.len(),
        failures,
    }
}

/// What the proxy would say to a target that is none.
fn refused(error: &AskError) -> Came {
    Came {
        outcome: Expected::Deny,
        reason: Some(DenyReason::Malformed),
        rules: Vec::new(),
        message: Some(error.to_string()),
    }
}

fn is_as_written(test: &Test, came: &Came) -> bool {
    let has = |part: &String| {
        came.message
            .as_ref()
            .is_some_and(|text| text.contains(part))
    };
    came.outcome == test.then
        && test.rules.iter().all(|rule| came.rules.contains(rule))
        && test.reason.is_none_or(|reason| came.reason == Some(reason))
        && test.message.as_ref().is_none_or(has)
}

fn expected(test: &Test) -> String {
    let mut text = test.then.as_str().to_owned();
    if !test.rules.is_empty() {
        text.push_str(&format!(" by `{}`", test.rules.join("`, `")));
    }
    if let Some(reason) = test.reason {
        text.push_str(&format!(" with reason {}", reason.code()));
    }
    if let Some(message) = &test.message {
        text.push_str(&format!(" saying {message:?}"));
    }
    text
}

/// The deciding rules with their places, or why nothing permits it.
fn why(snapshot: &Snapshot, came: &Came, given: &Given, request: Option<&Request>) -> String {
    if came.outcome != Expected::Allow
        && let Some(request) = request
        && let Some(why) = snapshot.why_not_after(&given.history(), request)
    {
        return why.to_string();
    }
    let rules: Vec<String> = snapshot
        .rules()
        .iter()
        .filter(|rule| came.rules.iter().any(|id| **id == *rule.id))
        .map(|rule| {
            format!(
                "rule `{}` at {}:{}",
                rule.id,
                rule.file.display(),
                rule.line
            )
        })
        .collect();
    if !rules.is_empty() {
        return rules.join(", ");
    }
    came.message.clone().unwrap_or_default()
}

impl Expected {
    /// As it stands in a test file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
}

impl TestResult {
    /// Whether every request came out as written.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl std::fmt::Display for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.outcome.as_str())?;
        if let Some(reason) = self.reason {
            write!(f, " with reason {}", reason.code())?;
        }
        if !self.rules.is_empty() {
            write!(f, " by `{}`", self.rules.join("`, `"))?;
        }
        Ok(())
    }
}
