//! The one table of refusals: what a caller is told, in each protocol.
//!
//! Statuses and reply codes here, the words in [`words`], the field in [`field`]. Everything shown
//! is canonical or escaped: a caller's bytes never come back raw, and nothing of them reaches a
//! header (N03).

mod field;
mod words;

use std::io;

use cordon_audit::{Denied, RecordId};
use cordon_policy::{Basis, DenyReason, RuleRef};
use cordon_session::GateError;
use fast_socks5::ReplyError;
use hyper::{StatusCode, header::HeaderName};

pub(crate) use field::of_allow;
pub(crate) use words::{shown, wants_json};

/// Name of the response field that tells the decision to programs.
pub(crate) const DECISION_FIELD: HeaderName = HeaderName::from_static("x-cordon-decision");

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
    /// A caller's session that takes nothing new.
    Leaving,
    /// A caller whose session cannot be opened.
    NoSession,
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
                Fault::Leaving | Fault::NoSession => StatusCode::SERVICE_UNAVAILABLE,
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
