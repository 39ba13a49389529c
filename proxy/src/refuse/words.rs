//! Refusals in words: a line, a text, JSON, a whole answer of HTTP.
//!
//! A refusal and whom to ask in, what the caller reads out. Never what evaluating a rule said, nor a
//! rule's text: those are the author's.

use cordon_audit::Denied;
use cordon_policy::{Asked, DenyReason, Operation};
use cordon_session::GateError;
use hyper::header::HeaderValue;
use serde_json::json;

use super::{DECISION_FIELD, Fault, Refusal, Trouble};

impl Refusal {
    /// One line that says what was refused and why, for protocols that carry only that.
    pub(crate) fn line(&self, contact: Option<&str>) -> String {
        let mut line = format!("cordon: {}", self.message());
        for rule in self.rules() {
            line.push_str(" [rule ");
            line.push_str(&rule.id);
            if let Some(reason) = &rule.reason {
                line.push_str(": ");
                line.push_str(reason);
            }
            line.push_str(&format!("; layer {}", rule.layer));
            if let Some(revision) = self.revision() {
                line.push_str(&format!(", revision {revision}"));
            }
            line.push(']');
        }
        if let Some(denied) = self
            .denied()
            .filter(|denied| denied.verdict().basis.rules.is_empty())
        {
            line.push_str(": ");
            line.push_str(denied.verdict().reason.words());
        }
        if let Some(id) = self.decision() {
            line.push_str(" (decision ");
            line.push_str(&id.to_string());
            line.push(')');
        }
        if let Some(contact) = self.whom_to_ask(contact) {
            line.push_str("; ask ");
            line.push_str(contact);
        }
        plain(&line)
    }

    /// The body of an HTTP answer and its media type: JSON where the client asks for it.
    pub(crate) fn body(
        &self,
        contact: Option<&str>,
        accept: Option<&HeaderValue>,
    ) -> (&'static str, String) {
        let contact = self.whom_to_ask(contact);
        if accept.is_some_and(wants_json) {
            ("application/json", self.json(contact))
        } else {
            ("text/plain; charset=utf-8", self.text(contact))
        }
    }

    /// A whole HTTP/1.1 answer after which the connection closes, for where `hyper` is not asked.
    pub(crate) fn http_answer(
        &self,
        contact: Option<&str>,
        accept: Option<&HeaderValue>,
    ) -> Vec<u8> {
        let (media, body) = self.body(contact, accept);
        let status = self.status();
        let phrase = self.phrase();
        let field = self.field(contact);
        format!(
            "HTTP/1.1 {} {phrase}\r\ncontent-type: {media}\r\n\
             content-length: {}\r\n{DECISION_FIELD}: {field}\r\nconnection: close\r\n\r\n{body}",
            status.as_u16(),
            body.len(),
        )
        .into_bytes()
    }

    fn text(&self, contact: Option<&str>) -> String {
        let mut text = format!("cordon: {}\nreason: {}\n", self.message(), self.reason());
        if let Some(problem) = self.problem() {
            text.push_str(&format!("problem: {problem}\n"));
        }
        for rule in self.rules() {
            match &rule.reason {
                Some(reason) => text.push_str(&format!("rule: {}: {}\n", rule.id, plain(reason))),
                None => text.push_str(&format!("rule: {}\n", rule.id)),
            }
            text.push_str(&format!("layer: {}\n", rule.layer));
        }
        if let Some(basis) = self.basis() {
            let digest = basis.digest.get(..12).unwrap_or(&basis.digest);
            match basis.revision {
                Some(revision) => text.push_str(&format!(
                    "policy: {}, revision {revision} ({digest})\n",
                    basis.policy
                )),
                None => text.push_str(&format!("policy: {} ({digest})\n", basis.policy)),
            }
        }
        if let Some(id) = self.decision() {
            text.push_str(&format!("decision: {id}\n"));
        }
        if let Some(id) = self.approval() {
            text.push_str(&format!("approval: {id}\n"));
        }
        text.push_str(&format!("help: {}\n", self.help()));
        if let Some(contact) = contact {
            text.push_str(&format!("ask: {contact}\n"));
        }
        text
    }

    /// Whom an admin named to be asked, where asking can change the answer.
    pub(super) fn whom_to_ask<'a>(&self, contact: Option<&'a str>) -> Option<&'a str> {
        let may_help = match self.deny_reason()? {
            DenyReason::DefaultDeny
            | DenyReason::Rule
            | DenyReason::ApprovalRequired
            | DenyReason::EvaluationError
            | DenyReason::AddressNotPermitted
            | DenyReason::GrantMode
            | DenyReason::ProtectedFolder
            | DenyReason::TlsHidden
            | DenyReason::NotTls
            | DenyReason::Limit => true,
            DenyReason::Malformed
            | DenyReason::Unavailable
            | DenyReason::TlsMismatch
            | DenyReason::Credential => false,
        };
        contact.filter(|_| may_help)
    }

    /// The approval that is waited for. People answer it, outside the session.
    pub(super) fn approval(&self) -> Option<&str> {
        let approval = self.denied()?.verdict().basis.approval.as_ref()?;
        Some(&approval.id)
    }

    /// What was wrong, where a step beside policy says so. Never what evaluating a rule said: that
    /// is the author's.
    fn problem(&self) -> Option<&str> {
        let verdict = self.denied()?.verdict();
        let is_told = verdict.reason == DenyReason::Credential;
        verdict
            .basis
            .errors
            .first()
            .filter(|_| is_told)
            .map(String::as_str)
    }

    fn json(&self, contact: Option<&str>) -> String {
        let rules: Vec<_> = self
            .rules()
            .iter()
            .map(|rule| json!({ "id": rule.id, "layer": rule.layer, "reason": rule.reason }))
            .collect();
        let body = json!({
            "error": self.message(),
            "reason": self.reason(),
            "problem": self.problem(),
            "rules": rules,
            "policy": self.basis().map(|basis| json!({
                "name": basis.policy,
                "revision": basis.revision,
                "digest": basis.digest,
            })),
            "decision": self.decision().map(|id| id.to_string()),
            "approval": self.approval(),
            "help": self.help(),
            "ask": contact,
        });
        format!("{body}\n")
    }

    fn message(&self) -> String {
        match self {
            Self::Unreachable { problem, .. } => format!("allowed, but {problem}"),
            Self::Gate(error) | Self::Fault(_, error) => match error {
                GateError::NotRecorded(_) => {
                    "refused: the decision could not be recorded, so nothing was done".into()
                }
                GateError::Denied(denied) => match &denied.verdict().asked {
                    Asked::Raw(raw) => format!("refused: {}", raw.problem),
                    Asked::Request(request) => {
                        let what = shown(&request.operation);
                        match limit(denied) {
                            Some(limit) => format!("denied: {what}: {limit}"),
                            None => format!("denied: {what}"),
                        }
                    }
                },
            },
        }
    }

    /// A fixed word for programs.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { trouble, .. } => match trouble {
                Trouble::NotResolved => "not_resolved",
                Trouble::Refused => "connection_refused",
                Trouble::NoRoute => "no_route",
                Trouble::TimedOut => "timed_out",
                Trouble::Broken => "connection_broken",
            },
            Self::Gate(error) | Self::Fault(_, error) => match error {
                GateError::NotRecorded(_) => "not_recorded",
                GateError::Denied(denied) => denied.verdict().reason.code(),
            },
        }
    }

    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "policy allows it; check the destination and its network",
            Self::Fault(Fault::Credentials, GateError::Denied(_)) => {
                "give your program this proxy's user name and password"
            }
            Self::Fault(Fault::Caller, GateError::Denied(_)) => {
                "ask whoever runs this proxy to name you"
            }
            Self::Fault(Fault::TooMany, GateError::Denied(_)) => {
                "wait a minute, then give the right user name and password"
            }
            Self::Fault(Fault::Leaving, GateError::Denied(_)) => {
                "open a new connection to this proxy"
            }
            Self::Fault(Fault::NoSession, GateError::Denied(_)) => {
                "try again later; if it stays so, tell whoever runs this proxy"
            }
            Self::Gate(error) | Self::Fault(_, error) => match error {
                GateError::NotRecorded(_) => {
                    "check the disk of the machine that runs cordon, then try again"
                }
                GateError::Denied(denied) => match denied.verdict().reason {
                    DenyReason::DefaultDeny => {
                        "no rule permits this; ask whoever owns the policy to add one"
                    }
                    DenyReason::Rule => "a rule forbids this; ask whoever owns the policy",
                    DenyReason::ApprovalRequired => {
                        "a person must approve exactly this request (`cordon approve` on the \
                         host); then try again"
                    }
                    DenyReason::EvaluationError => {
                        "a rule could not be evaluated; tell whoever owns the policy"
                    }
                    DenyReason::Malformed => "correct the request",
                    DenyReason::AddressNotPermitted => {
                        "the address is of special use; an admin may name it for this host under \
                         `network.permit_addresses`"
                    }
                    DenyReason::GrantMode
                    | DenyReason::ProtectedFolder
                    | DenyReason::Unavailable => "choose another folder",
                    DenyReason::TlsMismatch => {
                        "the server name of the handshake must be the host that was asked for"
                    }
                    DenyReason::TlsHidden => {
                        "send the server name in clear; a rule may accept less with \
                         `@tls(\"no-sni\")` or `@tls(\"ech\")`"
                    }
                    DenyReason::NotTls => {
                        "speak TLS on this port; a rule may accept less with `@tls(\"not-tls\")`"
                    }
                    DenyReason::Limit => {
                        "wait, or ask whoever runs cordon to raise the limit that was reached"
                    }
                    DenyReason::Credential => {
                        "send the placeholder only to the host, and in the field, that it is for"
                    }
                },
            },
        }
    }
}

/// On one line, whatever a policy author wrote.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The limit that refused, in our own words; a caller can wait for it or ask for more.
fn limit(denied: &Denied) -> Option<&str> {
    let verdict = denied.verdict();
    let is_limit = verdict.reason == DenyReason::Limit;
    is_limit.then(|| verdict.basis.errors.first().map(String::as_str))?
}

/// An operation in a caller's words. Network operations only come here; the others are named so
/// that a new kind must be thought about.
pub(crate) fn shown(operation: &Operation) -> String {
    match operation {
        Operation::Connect { destination, .. } => format!("connection to {destination}"),
        Operation::HttpRequest {
            destination,
            method,
            path,
            facts,
        } => {
            // A path keeps the caller's spelling, so it is escaped and bounded.
            let path: String = path.chars().take(200).collect();
            let scheme = facts.scheme.as_str();
            format!(
                "{} {scheme}://{destination}{}",
                method.0,
                path.escape_default()
            )
        }
        Operation::ReachAddress {
            destination,
            address,
        } => format!("{destination} is at {address}, an address of special use"),
        other => other.to_string(),
    }
}

/// Whether JSON is asked for by name; `*/*` is not asking.
pub(crate) fn wants_json(accept: &HeaderValue) -> bool {
    accept.to_str().unwrap_or_default().split(',').any(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case("application/json")
    })
}
