//! What principals, resources and other entities are called.

use serde_json::Value;

use super::{actions::Kind, quoted};

/// The beginning of a sentence: who may, or may not.
pub(super) fn who(scope: &Value, kind: Kind, may: bool) -> String {
    let Some((type_name, id)) = scope_entity(scope) else {
        let every = match (scope["entity_type"].as_str(), kind) {
            (Some("User"), _) => "user",
            (Some("Session"), _) => "session",
            (_, admin) if admin.is_administration() => "user",
            (_, Kind::Several) if may => return "Everyone may".into(),
            (_, Kind::Several) => return "Nobody may".into(),
            (_, _sessions) => "session",
        };
        return if may {
            format!("Every {every} may")
        } else {
            format!("No {every} may")
        };
    };
    let may = if may { "may" } else { "may not" };
    let id = quoted(id);
    if kind.is_administration() || scope["entity_type"] == "User" {
        return match type_name {
            "User" => format!("User {id} {may}"),
            "Group" => format!("Members of group {id} {may}"),
            _other => format!("Users in {} {id} {may}", quoted(type_name)),
        };
    }
    match type_name {
        "User" | "Group" | "Organisation" => {
            format!("Sessions of {} {id} {may}", lower(type_name))
        }
        "Agent" => format!("Sessions with agent {id} {may}"),
        "Platform" => format!("Sessions on platform {id} {may}"),
        "Session" => format!("The session {id} {may}"),
        _other => format!("Sessions in {} {id} {may}", quoted(type_name)),
    }
}

/// The resource of a sentence.
pub(super) fn what(scope: &Value, kind: Kind) -> String {
    let is = scope["entity_type"].as_str().map(|name| any_of(name, kind));
    match (scope_entity(scope), is) {
        (None, None) => kind.anything().into(),
        (None, Some(is)) => is,
        (Some((name, id)), None) if scope["op"] == "==" => exactly(name, id),
        (Some((name, id)), None) => within(name, id, kind),
        (Some((name, id)), Some(is)) => format!("{is} in {}", within(name, id, kind)),
    }
}

/// One entity itself.
pub(super) fn exactly(type_name: &str, id: &str) -> String {
    let shown = quoted(id);
    match type_name {
        "Folder" => format!("the folder {shown} itself"),
        "Domain" => format!("the domain {shown} itself"),
        "HostGroup" => format!("the host group {shown} itself"),
        "Network" => format!("the network {shown} itself"),
        "Backend" if id == "none" => "nothing".into(),
        "Backend" => shown,
        "Host" | "Address" | "File" | "Connector" | "Extension" | "Publisher" | "Session"
        | "User" | "Group" | "Agent" | "Platform" | "Organisation" => {
            format!("the {} {shown}", lower(type_name))
        }
        "ConnectorScope" => format!("the connector scope {shown}"),
        "ExtensionPermission" => format!("the extension permission {shown}"),
        "ExtensionTool" => format!("the extension tool {shown}"),
        "Origin" => format!("the site {shown}"),
        "PolicyBundle" => format!("the policy bundle {shown}"),
        "AuditLog" => format!("the log {shown}"),
        _other => format!("{} {shown}", quoted(type_name)),
    }
}

/// An entity and everything in it.
pub(super) fn within(type_name: &str, id: &str, kind: Kind) -> String {
    let shown = quoted(id);
    match (type_name, kind) {
        ("Domain", Kind::Site) => format!("sites of {shown} and everything below it"),
        ("Domain", _) => format!("{shown} and everything below it"),
        ("HostGroup", Kind::Site) => format!("sites of host group {shown}"),
        ("HostGroup", _) => format!("the hosts of group {shown}"),
        ("Network", _) => format!("addresses in {shown}"),
        ("Folder", Kind::File) => format!("anything below {shown}"),
        ("Folder", _) => format!("{shown} or anything below it"),
        ("Connector", Kind::Scope) => format!("any scope of connector {shown}"),
        ("Extension", Kind::Permission) => format!("any permission of extension {shown}"),
        ("Extension", Kind::Tool) => format!("any tool of extension {shown}"),
        ("Publisher", Kind::Permission) => {
            format!("any permission of extensions by publisher {shown}")
        }
        ("Publisher", Kind::Tool) => format!("any tool of extensions by publisher {shown}"),
        ("Publisher", _) => format!("extensions by publisher {shown}"),
        ("User" | "Group" | "Organisation", Kind::Approve | Kind::Manage) => {
            format!("sessions of {} {shown}", lower(type_name))
        }
        ("Agent", Kind::Approve | Kind::Manage) => format!("sessions with agent {shown}"),
        ("Platform", Kind::Approve | Kind::Manage) => format!("sessions on platform {shown}"),
        _other => exactly(type_name, id),
    }
}

/// Anything of one entity type.
pub(super) fn any_of(type_name: &str, kind: Kind) -> String {
    match (type_name, kind) {
        ("Host", _) => "any host".into(),
        ("Address", _) => "any address".into(),
        ("Folder", _) => "any folder".into(),
        ("File", _) => "any file".into(),
        ("Origin", _) => "any site".into(),
        (_, Kind::Several) => format!("any {}", quoted(type_name)),
        _of_its_kind => kind.anything().into(),
    }
}

/// Type and id of a scope's entity.
fn scope_entity(scope: &Value) -> Option<(&str, &str)> {
    let entity = scope
        .get("entity")
        .or_else(|| scope.get("in").and_then(|inner| inner.get("entity")))?;
    named(entity)
}

/// Type and id of an entity in Cedar's JSON.
pub(super) fn named(entity: &Value) -> Option<(&str, &str)> {
    Some((entity["type"].as_str()?, entity["id"].as_str()?))
}

fn lower(type_name: &str) -> String {
    type_name.to_lowercase()
}
