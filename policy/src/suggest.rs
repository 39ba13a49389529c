//! One line that would allow a refused request: shown to a person, never written by us (P06).

use crate::{Operation, Request, engine::target::Target};

/// One Cedar rule, in one line, that permits this request's action on exactly this resource and,
/// for the network, this port, for a start this profile. It does not lift a `forbid`.
///
/// For [`Operation::ReachAddress`], which no rule can allow, the line of `cordon.toml` that does.
/// Empty for a path that is not canonical: nothing can allow that.
pub fn suggest(request: &Request) -> String {
    if let Operation::ReachAddress {
        destination,
        address,
    } = &request.operation
    {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        return format!(
            "network.permit_addresses = [{{ host = {:?}, addresses = [\"{address}/{prefix}\"] }}]",
            destination.host.to_string(),
        );
    }
    let Ok(Target { action, resource }) = Target::of(request) else {
        return String::new();
    };
    format!(
        "permit (principal, action == Action::\"{action}\", resource == {}::{:?}){};",
        resource.type_name(),
        resource.id(),
        condition(&request.operation),
    )
}

/// What a rule calls the action and the resource of a request.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Names {
    /// The action: `connect`, `http_read`, `grant_rw`.
    pub action: &'static str,
    /// The resource's type: `Host`, `Folder`.
    pub resource_type: &'static str,
    /// The resource's id, not quoted.
    pub resource_id: String,
    /// Whether the principal is the user and not a session.
    pub is_administration: bool,
}

impl Names {
    /// The names of a request; none where no rule is ever asked about it.
    pub fn of(request: &Request) -> Option<Self> {
        let target = Target::of(request).ok()?;
        Some(Self {
            action: target.action,
            resource_type: target.resource.type_name(),
            resource_id: target.resource.id(),
            is_administration: target.is_administration(),
        })
    }
}

fn condition(operation: &Operation) -> String {
    match operation {
        Operation::Connect { destination, .. } | Operation::HttpRequest { destination, .. } => {
            format!(" when {{ context.port == {} }}", destination.port)
        }
        // Another profile is another decision: it opens more of the kernel.
        Operation::StartSession { profile, .. } | Operation::ExecInSession { profile, .. } => {
            format!(" when {{ context.profile == \"{profile}\" }}")
        }
        Operation::PublishPort { port, .. } => format!(" when {{ context.port == {port} }}"),
        Operation::GrantFolder { .. }
        | Operation::DeletePath { .. }
        | Operation::ReadPath { .. }
        | Operation::WritePath { .. }
        | Operation::ReachAddress { .. }
        | Operation::EnableConnector { .. }
        | Operation::UseScope { .. }
        | Operation::InstallExtension { .. }
        | Operation::LoadExtension { .. }
        | Operation::UsePermission { .. }
        | Operation::CallTool { .. }
        | Operation::EnableBrowser
        | Operation::OpenOrigin { .. }
        | Operation::ActInOrigin { .. }
        | Operation::Approve { .. }
        | Operation::PublishPolicy { .. }
        | Operation::ManageSession { .. }
        | Operation::ReadLog { .. } => String::new(),
    }
}

#[cfg(test)]
mod tests;
