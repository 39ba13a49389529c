//! The one table of refusals: what a caller is told, in each protocol.
//!
//! Everything shown is canonical or escaped: a caller's bytes never come back raw, and nothing of
//! them reaches a header (N03).

use std::io;

use cordon_audit::{Denied, RecordId};
use cordon_policy::{Asked, Basis, DenyReason, Operation, RuleRef};
use cordon_session::GateError;
use fast_socks5::ReplyError;
use hyper::{StatusCode, header::HeaderValue};
use serde_json::json;

/// Name of the response field that carries the decision's id.
pub(crate) const DECISION_FIELD: &str = "x-cordon-decision";

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The gate refused, or could not record.
    Gate(GateError),
    /// Not a request that this listener carries; recorded by the gate as malformed.
    Fault(Fault, GateError),
    /// Allowed and recorded, then not reached. The flow is closed already.
    Unreachable {
        /// The allow.
        decision: RecordId,
        /// What kind of trouble.
        trouble: Trouble,
        /// In words.
        problem: String,
    },
}

/// What is wrong with a request, as far as the answer differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Cannot be understood, or may be understood in two ways.
    Malformed,
    /// A method that is not forwarded.
    Method,
    /// The `Host` field names another destination than the target.
    Misdirected,
    /// A feature of the protocol that is not carried.
    NotCarried,
    /// A version of HTTP that is not spoken.
    Version,
    /// A request target beyond its bound.
    TargetTooLong,
    /// A request head beyond its bounds.
    HeadTooLarge,
    /// An expectation other than `100-continue`.
    Expectation,
    /// A request that was begun and not finished in time.
    Late,
    /// Nobody that this listener knows, or not by the right credentials.
    Caller,
    /// As [`Fault::Caller`], where credentials would help.
    Credentials,
    /// Too many wrong credentials from the same address.
    TooMany,
    /// A SOCKS command other than CONNECT.
    Command,
}

/// What went wrong beyond the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    /// The name has no address.
    NotResolved,
    /// The destination refused the connection.
    Refused,
    /// There is no way to the destination.
    NoRoute,
    /// Nobody answered in time.
    TimedOut,
    /// The connection broke, or its answer made no sense.
    Broken,
}

impl Refusal {
    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Gate(GateError::NotRecorded(_)) | Self::Fault(_, GateError::NotRecorded(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Gate(GateError::Denied(denied)) => match denied.verdict().reason {
                DenyReason::Malformed => StatusCode::BAD_REQUEST,
                DenyReason::TlsMismatch => StatusCode::MISDIRECTED_REQUEST,
                DenyReason::Limit => StatusCode::SERVICE_UNAVAILABLE,
                DenyReason::DefaultDeny
                | DenyReason::Rule
                | DenyReason::ApprovalRequired
                | DenyReason::EvaluationError
                | DenyReason::AddressNotPermitted
                | DenyReason::GrantMode
                | DenyReason::ProtectedFolder
                | DenyReason::Unavailable
                | DenyReason::TlsHidden
                | DenyReason::NotTls
                | DenyReason::Credential => StatusCode::FORBIDDEN,
            },
            Self::Fault(fault, GateError::Denied(_)) => match fault {
                Fault::Malformed | Fault::Command => StatusCode::BAD_REQUEST,
                Fault::Method => StatusCode::METHOD_NOT_ALLOWED,
                Fault::Misdirected => StatusCode::MISDIRECTED_REQUEST,
                Fault::NotCarried => StatusCode::NOT_IMPLEMENTED,
                Fault::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                Fault::TargetTooLong => StatusCode::URI_TOO_LONG,
                Fault::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Fault::Expectation => StatusCode::EXPECTATION_FAILED,
                Fault::Late => StatusCode::REQUEST_TIMEOUT,
                Fault::Caller => StatusCode::FORBIDDEN,
                Fault::Credentials => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                Fault::TooMany => StatusCode::TOO_MANY_REQUESTS,
            },
            Self::Unreachable { trouble, .. } => match trouble {
                Trouble::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                Trouble::NotResolved | Trouble::Refused | Trouble::NoRoute | Trouble::Broken => {
                    StatusCode::BAD_GATEWAY
                }
            },
        }
    }

    /// What stands behind the status, for clients that show only that: our words and the id of
    /// the first rule, as far as it is plain; nothing of the caller's (N03).
    pub(crate) fn phrase(&self) -> String {
        let what = match self {
            Self::Unreachable { .. } => "Not reached",
            Self::Gate(GateError::Denied(_)) => "Denied",
            Self::Fault(..) | Self::Gate(GateError::NotRecorded(_)) => "Refused",
        };
        let phrase = format!("{what} by cordon: {}", self.reason());
        match self.rules().first() {
            Some(rule) if is_plain(&rule.id) => format!("{phrase} {}", rule.id),
            _ => phrase,
        }
    }

    /// The SOCKS5 reply.
    ///
    /// Source: RFC 1928 section 6.
    pub(crate) fn socks_reply(&self) -> ReplyError {
        match self {
            Self::Gate(GateError::NotRecorded(_)) | Self::Fault(_, GateError::NotRecorded(_)) => {
                ReplyError::GeneralFailure
            }
            Self::Fault(Fault::Command, GateError::Denied(_)) => ReplyError::CommandNotSupported,
            Self::Gate(GateError::Denied(_)) | Self::Fault(_, GateError::Denied(_)) => {
                ReplyError::ConnectionNotAllowed
            }
            Self::Unreachable { trouble, .. } => match trouble {
                Trouble::NotResolved => ReplyError::HostUnreachable,
                Trouble::Refused => ReplyError::ConnectionRefused,
                Trouble::NoRoute => ReplyError::NetworkUnreachable,
                Trouble::TimedOut => ReplyError::ConnectionTimeout,
                Trouble::Broken => ReplyError::GeneralFailure,
            },
        }
    }

    /// The decision's id, where there is a record.
    pub(crate) fn decision(&self) -> Option<RecordId> {
        match self {
            Self::Unreachable { decision, .. } => Some(*decision),
            Self::Gate(_) | Self::Fault(..) => self.denied().map(Denied::id),
        }
    }

    /// Why policy, or a step beside it, refused.
    pub(crate) fn deny_reason(&self) -> Option<DenyReason> {
        self.denied().map(|denied| denied.verdict().reason)
    }

    fn denied(&self) -> Option<&Denied> {
        match self {
            Self::Unreachable { .. } => None,
            Self::Gate(error) | Self::Fault(_, error) => denied(error),
        }
    }

    /// One line that says what was refused and why, for protocols that carry only that.
    pub(crate) fn line(&self) -> String {
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
        // One line, whatever a policy author wrote.
        line.replace(char::is_control, " ")
    }

    /// The body of an HTTP answer and its media type: JSON where the client asks for it.
    pub(crate) fn body(&self, accept: Option<&HeaderValue>) -> (&'static str, String) {
        if accept.is_some_and(wants_json) {
            ("application/json", self.json())
        } else {
            ("text/plain; charset=utf-8", self.text())
        }
    }

    /// A whole HTTP/1.1 answer after which the connection closes, for where `hyper` is not asked.
    pub(crate) fn http_answer(&self, accept: Option<&HeaderValue>) -> Vec<u8> {
        let (media, body) = self.body(accept);
        let status = self.status();
        let phrase = self.phrase();
        let decision = self
            .decision()
            .map_or_else(String::new, |id| format!("{DECISION_FIELD}: {id}\r\n"));
        format!(
            "HTTP/1.1 {} {phrase}\r\ncontent-type: {media}\r\n\
             content-length: {}\r\n{decision}connection: close\r\n\r\n{body}",
            status.as_u16(),
            body.len(),
        )
        .into_bytes()
    }

    fn text(&self) -> String {
        let mut text = format!("cordon: {}\nreason: {}\n", self.message(), self.reason());
        if let Some(problem) = self.problem() {
            text.push_str(&format!("problem: {problem}\n"));
        }
        for rule in self.rules() {
            match &rule.reason {
                Some(reason) => text.push_str(&format!("rule: {}: {reason}\n", rule.id)),
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
        text
    }

    /// The approval that is waited for. People answer it, outside the session.
    fn approval(&self) -> Option<&str> {
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

    fn json(&self) -> String {
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
    fn reason(&self) -> &'static str {
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

    fn help(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "policy allows it; check the destination and its network",
            Self::Fault(Fault::Credentials, GateError::Denied(_)) => {
                "give your program this proxy's user name and password"
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

    /// The rules that decided, each with its layer (N20).
    fn rules(&self) -> &[RuleRef] {
        self.denied()
            .map_or(&[], |denied| denied.verdict().basis.rules.as_slice())
    }

    /// What decided, where policy was asked at all.
    fn basis(&self) -> Option<&Basis> {
        let basis = &self.denied()?.verdict().basis;
        (!basis.policy.is_empty()).then_some(basis)
    }

    fn revision(&self) -> Option<u64> {
        self.basis()?.revision
    }
}

impl From<GateError> for Refusal {
    fn from(error: GateError) -> Self {
        if let GateError::Denied(denied) = &error {
            // Over as soon as it begins: what it says is that and why there was no flow.
            let _refused = tracing::debug_span!(
                parent: None,
                "refused",
                cordon.decision = %denied.id(),
                cordon.reason = denied.verdict().reason.code(),
            );
        }
        Self::Gate(error)
    }
}

impl From<io::ErrorKind> for Trouble {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Self::NoRoute,
            _ => Self::Broken,
        }
    }
}

fn denied(error: &GateError) -> Option<&Denied> {
    match error {
        GateError::Denied(denied) => Some(denied),
        GateError::NotRecorded(_) => None,
    }
}

/// Whether a rule's id may stand in a status line: short, and in no reader's way.
fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    id.len() <= 64 && id.bytes().all(plain)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n03_only_a_plain_rule_id_stands_in_a_status_line() {
        for id in ["no-uploads", "Rule_1.b", &"x".repeat(64)] {
            assert!(is_plain(id), "{id}");
        }
        for id in [
            "a b",
            "a\r\nset-cookie: x",
            "\u{e4}",
            "a\tb",
            &"x".repeat(65),
        ] {
            assert!(!is_plain(id), "{id}");
        }
    }
}
