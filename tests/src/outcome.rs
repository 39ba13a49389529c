//! What a finished command left: exit code, output, and the summary where there is one.

use std::fmt;

use serde_json::Value;

/// A finished command.
#[derive(Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Exit code as a shell shows it (128+n for a signal).
    pub code: i32,
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Standard error as text, the summary included.
    pub stderr: String,
}

impl Outcome {
    /// Standard output as text without the last line break.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Fails unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// Fails unless standard error contains `text`; the summary, which has every reason, does not
    /// count.
    #[track_caller]
    pub fn expect_stderr(&self, text: &str) -> &Self {
        assert!(
            self.own_stderr().contains(text),
            "`{text}` in stderr of {self}"
        );
        self
    }

    /// Fails unless `text` is in what the command said, on standard output or standard error.
    #[track_caller]
    pub fn expect_told(&self, text: &str) -> &Self {
        let told = self.text().contains(text) || self.own_stderr().contains(text);
        assert!(told, "`{text}` in the output of {self}");
        self
    }

    fn own_stderr(&self) -> String {
        let lines = self.stderr.split_inclusive('\n');
        lines.filter(|line| !is_summary(line)).collect()
    }

    /// Fails unless standard output is `text` (a last line break aside).
    #[track_caller]
    pub fn expect_stdout(&self, text: &str) -> &Self {
        assert_eq!(self.text(), text, "standard output of {self}");
        self
    }

    /// The summary that `--format json` prints: the one line of standard error that is a JSON
    /// object with a `session`.
    #[track_caller]
    pub fn summary(&self) -> Value {
        self.stderr
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|value| value.get("session").is_some())
            .unwrap_or_else(|| panic!("a summary in {self}"))
    }

    /// The session's id.
    #[track_caller]
    pub fn session(&self) -> String {
        let summary = self.summary();
        let id = summary["session"].as_str();
        id.unwrap_or_else(|| panic!("a session id in {self}"))
            .to_owned()
    }

    /// How often something whose description contains `what` was allowed.
    #[track_caller]
    pub fn allowed(&self, what: &str) -> u64 {
        count(&self.summary()["allowed"], what)
    }

    /// How often something whose description contains `what` was denied.
    #[track_caller]
    pub fn denied(&self, what: &str) -> u64 {
        count(&self.summary()["denied"], what)
    }

    /// The reason given for the first refusal whose description contains `what`.
    #[track_caller]
    pub fn reason(&self, what: &str) -> String {
        let summary = self.summary();
        entries(&summary["denied"], what)
            .next()
            .and_then(|entry| entry["reason"].as_str())
            .unwrap_or_else(|| panic!("`{what}` denied with a reason in {self}"))
            .to_owned()
    }

    /// The reasons of all refusals, one for each entry of the summary.
    #[track_caller]
    pub fn reasons(&self) -> Vec<String> {
        let summary = self.summary();
        entries(&summary["denied"], "")
            .filter_map(|entry| Some(entry["reason"].as_str()?.to_owned()))
            .collect()
    }

    /// Fails unless there were refusals and all were for `reason`.
    #[track_caller]
    pub fn expect_only_refusals(&self, reason: &str) -> &Self {
        let reasons = self.reasons();
        let all = reasons.iter().all(|given| given == reason);
        assert!(all && !reasons.is_empty(), "only `{reason}` in {self}");
        self
    }

    /// Fails unless `what` was denied for `reason` and never allowed.
    #[track_caller]
    pub fn expect_denied(&self, what: &str, reason: &str) -> &Self {
        assert!(self.denied(what) > 0, "`{what}` denied in {self}");
        assert_eq!(self.reason(what), reason, "reason for `{what}` in {self}");
        assert_eq!(self.allowed(what), 0, "`{what}` not allowed in {self}");
        self
    }

    /// Fails unless an address that `what` led to was refused, whatever was allowed by name before.
    #[track_caller]
    pub fn expect_address_refused(&self, what: &str) -> &Self {
        assert_eq!(
            self.reason(what),
            "address_not_permitted",
            "reason for `{what}` in {self}"
        );
        self
    }

    /// Fails unless `what` was allowed and never denied.
    #[track_caller]
    pub fn expect_allowed(&self, what: &str) -> &Self {
        assert!(self.allowed(what) > 0, "`{what}` allowed in {self}");
        assert_eq!(self.denied(what), 0, "`{what}` not denied in {self}");
        self
    }
}

fn is_summary(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|value| value.get("session").is_some())
}

fn count(list: &Value, what: &str) -> u64 {
    entries(list, what)
        .filter_map(|entry| entry["count"].as_u64())
        .sum()
}

fn entries<'v>(list: &'v Value, what: &'v str) -> impl Iterator<Item = &'v Value> {
    list.as_array().into_iter().flatten().filter(move |entry| {
        entry["what"]
            .as_str()
            .is_some_and(|text| text.contains(what))
    })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}`: exit code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.code,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        )
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
