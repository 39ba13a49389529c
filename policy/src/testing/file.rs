//! One test file: TOML text in, tests out, or what is wrong and where.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::Spanned;

use super::question::Question;
use crate::{
    DenyReason, Operation,
    ask::{self, AskError, Given},
    check::{locate, plain},
};

/// Most bytes of one test file.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Most tests of one file.
pub const MAX_TESTS: usize = 10_000;
/// Most requests of one test.
pub const MAX_REQUESTS: usize = 1_000;
const MAX_NAME_BYTES: usize = 200;

/// The tests of one file.
#[derive(Clone, Debug, Default)]
pub struct TestFile {
    /// Its tests, in their order, with the file's `[given]` filled in.
    pub tests: Vec<Test>,
}

/// One test: who, what, and what must come of it.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// Line where it begins, from 1.
    pub line: usize,
    /// Who asks, and when.
    pub given: Given,
    /// What is asked: the words as they stand, and the request, or why the proxy would refuse it
    /// before any rule is asked.
    pub when: Vec<(String, Result<Operation, AskError>)>,
    /// What is asked of an application of the set, in place of that.
    pub ask: Vec<Question>,
    /// The outcome that each must have.
    pub then: Expected,
    /// Rules that must be among the determining ones.
    pub rules: Vec<String>,
    /// The reason that a deny must have.
    pub reason: Option<DenyReason>,
    /// Text that the refusal's words must have in them.
    pub message: Option<String>,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It goes through.
    Allow,
    /// It is refused.
    Deny,
    /// It is refused, and would go through with an approval.
    Ask,
}

/// Why a text is no test file.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct TestFileError {
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    given: Given,
    #[serde(default)]
    test: Vec<Spanned<RawTest>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    name: String,
    #[serde(default)]
    given: Given,
    #[serde(default)]
    when: Option<OneOrMore>,
    #[serde(default)]
    ask: Vec<Question>,
    then: Expected,
    #[serde(default)]
    rule: Option<OneOrMore>,
    reason: Option<DenyReason>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

/// Reads a test file.
///
/// # Errors
/// [`TestFileError`] with the line: not TOML, an unknown key, a request that has no such form, two
/// tests of one name, or more than the bounds.
pub fn parse(text: &str) -> Result<TestFile, TestFileError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(TestFileError {
            line: None,
            message: format!("the file has more than {MAX_FILE_BYTES} bytes"),
            help: "split it into several files".into(),
        });
    }
    let raw: RawFile = toml::from_str(text).map_err(|error| TestFileError {
        line: error.span().map(|span| line_of(text, span.start)),
        message: plain(error.message()),
        help: "a test is `[[test]]` with `name`, `when` (or `ask`, of an application) and `then`, \
               and where wanted `given`, `rule`, `reason` and `message`"
            .into(),
    })?;
    let mut tests: Vec<Test> = Vec::with_capacity(raw.test.len().min(MAX_TESTS));
    let mut names = std::collections::HashSet::new();
    let mut lines = Lines::new(text);
    for test in raw.test {
        let line = lines.of(test.span().start);
        let test = checked(test.into_inner(), &raw.given, line)?;
        if tests.len() >= MAX_TESTS {
            return Err(refuse(
                line,
                format!("the file has more than {MAX_TESTS} tests"),
                "split it into several files",
            ));
        }
        if !names.insert(test.name.clone()) {
            return Err(refuse(
                line,
                format!("test {:?} is there twice", test.name),
                "give one of them another name",
            ));
        }
        tests.push(test);
    }
    Ok(TestFile { tests })
}

fn checked(raw: RawTest, defaults: &Given, line: usize) -> Result<Test, TestFileError> {
    let is_plain = !raw.name.chars().any(char::is_control);
    if raw.name.is_empty() || raw.name.len() > MAX_NAME_BYTES || !is_plain {
        return Err(refuse(
            line,
            format!("a test's name has 1 to {MAX_NAME_BYTES} bytes and no control characters"),
            "say in a few words what must hold",
        ));
    }
    let name = raw.name;
    let here =
        |message: String, help: &str| refuse(line, format!("test `{name}`: {message}"), help);
    let when = raw.when.map(OneOrMore::into_vec).unwrap_or_default();
    if when.is_empty() == raw.ask.is_empty() || when.len().max(raw.ask.len()) > MAX_REQUESTS {
        return Err(here(
            format!("`when` has 1 to {MAX_REQUESTS} requests, or `ask` as many questions"),
            "write `when = \"connect example.com:443\"` or a list of such; of an application \
             `ask = [{ subject = { type = \"user\", id = \"alice\" }, action = \"view\", \
             resource = { type = \"record\", id = \"7\" } }]`",
        ));
    }
    if !raw.ask.is_empty() && raw.then == Expected::Ask {
        return Err(here(
            "rules of an application ask for no approval".into(),
            "say `then = \"deny\"`",
        ));
    }
    if raw.then == Expected::Allow && (raw.reason.is_some() || raw.message.is_some()) {
        return Err(here(
            "an allow has neither `reason` nor `message`".into(),
            "leave them out, or say `then = \"deny\"`",
        ));
    }
    let rules = raw.rule.map(OneOrMore::into_vec).unwrap_or_default();
    if rules.iter().any(|rule| rule.chars().any(char::is_control)) {
        return Err(here(
            "`rule` has a control character".into(),
            "write the rule's `@id`",
        ));
    }
    let when = when
        .into_iter()
        .map(|words| match ask::parse(&words) {
            Err(error) if !error.is_malformed_target() => {
                Err(here(error.to_string(), &error.hint()))
            }
            read => Ok((words, read)),
        })
        .collect::<Result<_, _>>()?;
    Ok(Test {
        given: raw.given.or(defaults),
        line,
        when,
        ask: raw.ask,
        then: raw.then,
        rules,
        reason: raw.reason,
        message: raw.message,
        name,
    })
}

fn refuse(line: usize, message: String, help: &str) -> TestFileError {
    TestFileError {
        line: Some(line),
        message,
        help: help.into(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    locate(text, offset).0
}

/// Counts lines in one pass over offsets that only grow.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            offset: 0,
            line: 1,
        }
    }

    fn of(&mut self, offset: usize) -> usize {
        if let Some(between) = self.text.get(self.offset..offset) {
            self.line += between.matches('\n').count();
            self.offset = offset;
        }
        self.line
    }
}
