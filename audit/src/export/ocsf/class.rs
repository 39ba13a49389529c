//! Which OCSF class and activity a record becomes.

use crate::{Kind, Record, record::Effect};

/// A class of events, with what is done in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Class {
    pub(super) category: u64,
    pub(super) class: u64,
    pub(super) activity: u64,
}

pub(super) fn class_of(record: &Record) -> Class {
    let class = |category, class, activity| Class {
        category,
        class,
        activity,
    };
    let allowed = record.effect == Some(Effect::Allow);
    match record.kind {
        Kind::Decision => {
            let action = record.action.as_deref().unwrap_or_default();
            match action.split('.').next().unwrap_or_default() {
                "http" => class(4, HTTP, http_activity(record)),
                "dns" => class(4, DNS, 1),
                "folder" | "path" | "file" => class(1, FILE, file_activity(action)),
                "proc" => class(1, PROCESS, 1),
                "session" => class(3, AUTHORIZE, 1),
                "net" | "malformed" => class(4, NETWORK, if allowed { 1 } else { 5 }),
                _ => class(6, API, OTHER),
            }
        }
        Kind::FlowClose => class(4, NETWORK, 2),
        Kind::SessionStart => class(1, PROCESS, 1),
        Kind::SessionState => class(1, PROCESS, OTHER),
        Kind::SessionEnd => class(1, PROCESS, 2),
        Kind::Approval => class(3, AUTHORIZE, OTHER),
        Kind::Start => class(6, LIFECYCLE, 3),
        Kind::Stop => class(6, LIFECYCLE, 4),
        Kind::LogGap => class(2, FINDING, 1),
        Kind::Export => class(6, API, 2),
        Kind::LogOrigin | Kind::KeyRotate => class(6, LIFECYCLE, OTHER),
        Kind::RetentionPrune | Kind::OriginalsPurge | Kind::Redaction => class(6, API, 4),
        Kind::RetentionHold | Kind::RetentionRelease => class(6, API, 3),
        Kind::PolicyLoad
        | Kind::PolicyTry
        | Kind::PolicyRollout
        | Kind::PolicyPromote
        | Kind::PolicyRollback => class(6, API, 3),
        Kind::PolicyPending => class(6, API, OTHER),
        // Somebody offered a policy that may not decide: it is for people to look at.
        Kind::PolicyRefused => class(2, FINDING, 1),
    }
}

fn http_activity(record: &Record) -> u64 {
    let method = record.http.as_ref().and_then(|http| http.method.as_deref());
    let known = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "PATCH",
    ];
    let at = known.iter().position(|name| Some(*name) == method);
    at.map_or(OTHER, |at| at as u64 + 1)
}

fn file_activity(action: &str) -> u64 {
    match action.rsplit('.').next().unwrap_or_default() {
        "create" => 1,
        "read" => 2,
        "write" | "update" => 3,
        "delete" => 4,
        "rename" => 5,
        "grant" | "open" => 14,
        _ => OTHER,
    }
}

pub(super) const NETWORK: u64 = 4001;
pub(super) const HTTP: u64 = 4002;
pub(super) const DNS: u64 = 4003;
pub(super) const API: u64 = 6003;
pub(super) const FILE: u64 = 1001;
pub(super) const PROCESS: u64 = 1007;
pub(super) const AUTHORIZE: u64 = 3003;
pub(super) const FINDING: u64 = 2004;
pub(super) const LIFECYCLE: u64 = 6002;

/// An activity that the class has no number for; its name goes beside it.
pub(super) const OTHER: u64 = 99;
