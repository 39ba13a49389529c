//! Requests and refusals in words, the same wherever a person meets them.

use std::{fmt, net::SocketAddr};

use crate::{Deny, DenyReason, Operation, SeccompProfile};

impl fmt::Display for Operation {
    /// `connect api.example.com:443`, `GET http://example.com:80`, `grant rw /home/u/project`.
    /// Paths of requests are left out: they may carry what should not be shown, and a summary
    /// counts by destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartSession { command, profile } => match profile {
                SeccompProfile::Default => write!(f, "start {command}"),
                other => write!(f, "start {command} with profile {other}"),
            },
            Self::ExecInSession { command, profile } => match profile {
                SeccompProfile::Default => write!(f, "exec {command}"),
                other => write!(f, "exec {command} with profile {other}"),
            },
            Self::PublishPort {
                address,
                port,
                inside,
            } => {
                let at = SocketAddr::new(*address, *port);
                write!(f, "publish port {inside} at {at}")
            }
            Self::GrantFolder { path, mode, .. } => write!(f, "grant {mode} {}", path.display()),
            Self::DeletePath { path, .. } => write!(f, "delete {}", path.display()),
            Self::ReadPath { path, .. } => write!(f, "read {}", path.display()),
            Self::WritePath { path, .. } => write!(f, "write {}", path.display()),
            Self::Connect { destination, .. } => write!(f, "connect {destination}"),
            Self::HttpRequest {
                destination,
                method,
                facts,
                ..
            } => {
                let scheme = facts.scheme.as_str();
                write!(f, "{} {scheme}://{destination}", method.0)
            }
            Self::ReachAddress {
                destination,
                address,
            } => {
                write!(f, "reach {destination} at {address}")
            }
            Self::EnableConnector { connector } => write!(f, "enable connector {connector}"),
            Self::UseScope { connector, scope } => write!(f, "use scope {scope} of {connector}"),
            Self::InstallExtension { extension } => write!(f, "install extension {}", extension.id),
            Self::LoadExtension { extension } => write!(f, "load extension {}", extension.id),
            Self::UsePermission {
                extension,
                permission,
            } => write!(f, "use permission {permission} of {}", extension.id),
            Self::CallTool {
                extension, tool, ..
            } => write!(f, "call {tool} of {}", extension.id),
            Self::EnableBrowser => f.write_str("enable browser"),
            Self::OpenOrigin { origin } => write!(f, "open {origin}"),
            Self::ActInOrigin { origin, act } => write!(f, "{} in {origin}", act.as_str()),
            Self::Approve { asking } => write!(f, "approve for session {}", asking.id),
            Self::ManageSession { act, of } => {
                write!(f, "manage {} for session {}", act.as_str(), of.id)
            }
            Self::PublishPolicy { bundle } => write!(f, "publish policy {bundle}"),
            Self::ReadLog { log } => write!(f, "read log {log}"),
        }
    }
}

impl DenyReason {
    /// Its word in records and in answers to machines.
    pub fn code(self) -> &'static str {
        match self {
            Self::DefaultDeny => "default_deny",
            Self::Rule => "rule",
            Self::ApprovalRequired => "approval_required",
            Self::EvaluationError => "evaluation_error",
            Self::Malformed => "malformed",
            Self::AddressNotPermitted => "address_not_permitted",
            Self::GrantMode => "grant_mode",
            Self::ProtectedFolder => "protected_folder",
            Self::Unavailable => "unavailable",
            Self::TlsMismatch => "tls_mismatch",
            Self::TlsHidden => "tls_hidden",
            Self::NotTls => "not_tls",
            Self::Limit => "limit",
            Self::Credential => "credential",
        }
    }

    /// Why, in words that fit after "denied: ".
    pub fn words(self) -> &'static str {
        match self {
            Self::DefaultDeny => "no rule allows it",
            Self::Rule => "a rule forbids it",
            Self::ApprovalRequired => "it needs an approval, and there is none",
            Self::EvaluationError => "a rule could not be evaluated, so nothing is allowed",
            Self::Malformed => "it is not a well-formed request",
            Self::AddressNotPermitted => {
                "the name leads to a special-use address that `permit_addresses` does not name"
            }
            Self::GrantMode => "the grant's mode does not include it",
            Self::ProtectedFolder => "it is protected and never granted",
            Self::Unavailable => "it does not exist or cannot be opened",
            Self::TlsMismatch => "its TLS handshake names another host than the one asked for",
            Self::TlsHidden => "its TLS handshake does not show which host it is for",
            Self::NotTls => "it is not TLS, and TLS is expected on this port",
            Self::Limit => "a limit is reached",
            Self::Credential => "a credential stands where it does not belong, or is missing",
        }
    }
}

impl Deny {
    /// Why, in words: the deciding rule's own reason where it has one.
    pub fn why(&self) -> String {
        let rule = self.basis.rules.first();
        match rule.map(|rule| (&rule.id, &rule.reason)) {
            Some((id, Some(reason))) => format!("{reason} (rule `{id}`)"),
            Some((id, None)) if self.reason == DenyReason::Rule => {
                format!("{} (rule `{id}`)", self.reason.words())
            }
            _none => self.reason.words().into(),
        }
    }
}
