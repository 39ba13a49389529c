//! What holds whatever policy says, for every question that comes by the API: extensions as the
//! registry knows them, connectors as they are enabled (P07, P09, P10), and browsers that are on.
//!
//! A question in; the same with the registry's facts, or its recorded refusal, out.

use std::sync::Arc;

use cordon_policy::{Asked, Basis, Decided, Deny, DenyReason, ExtensionFacts, Operation, Request};

use super::{
    Daemon,
    decide::{Undecided, Verdict, refusal},
    operation::Wanted,
};
use crate::daemon::{extensions::Installed, live::Live};

/// What no policy can allow.
pub struct Stopped {
    operation: Operation,
    reason: DenyReason,
    /// Why, in words.
    pub why: String,
}

impl Stopped {
    /// As a stable word.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// Its recorded refusal.
    ///
    /// # Errors
    /// [`Undecided`]: it was not recorded.
    pub async fn refused(self, live: &Live) -> Result<Verdict, Undecided> {
        refused(live, self.operation, self.reason, self.why).await
    }
}

/// The question with the registry's facts in it. Records nothing.
///
/// # Errors
/// [`Stopped`]: no policy can allow it.
pub fn floor(daemon: &Daemon, live: &Live, wanted: Wanted) -> Result<Wanted, Box<Stopped>> {
    let operation = match wanted {
        Wanted::Operation(operation) => operation,
        file @ Wanted::File(..) => return Ok(file),
    };
    let (operation, stops) = match operation {
        Operation::UseScope { connector, scope } => {
            let why = not_enabled(daemon, live, &connector, &scope);
            (Operation::UseScope { connector, scope }, why)
        }
        Operation::LoadExtension { extension } => {
            let (extension, installed) = known(daemon, extension);
            let stops = installed.and_then(|installed| unapproved(&installed));
            (Operation::LoadExtension { extension }, stops)
        }
        Operation::UsePermission {
            extension,
            permission,
        } => {
            let (extension, installed) = known(daemon, extension);
            let stops = installed.and_then(|installed| not_permitted(&installed, &permission));
            let operation = Operation::UsePermission {
                extension,
                permission,
            };
            (operation, stops)
        }
        Operation::CallTool {
            extension,
            tool,
            call,
        } => {
            let (extension, installed) = known(daemon, extension);
            let off = || switched_off(daemon, live, &extension.id, &tool);
            let stops = installed.as_ref().and_then(unapproved).or_else(off);
            let operation = Operation::CallTool {
                extension,
                tool,
                call,
            };
            (operation, stops)
        }
        opened @ (Operation::OpenOrigin { .. } | Operation::ActInOrigin { .. }) => {
            let stops = no_page(daemon, live, &opened);
            (opened, stops)
        }
        other => (other, None),
    };
    match stops {
        None => Ok(Wanted::Operation(operation)),
        Some((reason, why)) => Err(Box::new(Stopped {
            operation,
            reason,
            why,
        })),
    }
}

/// The recorded refusal of something that no policy can allow.
///
/// # Errors
/// [`Undecided`]: it was not recorded.
pub async fn refused(
    live: &Live,
    operation: Operation,
    reason: DenyReason,
    why: String,
) -> Result<Verdict, Undecided> {
    let request = Request {
        session: Arc::clone(live.facts()),
        operation,
        at: std::time::SystemTime::now(),
    };
    let basis = Basis {
        errors: vec![why],
        ..Basis::default()
    };
    let deny = Decided::<Deny>::deny(Asked::Request(request), reason, basis);
    refusal(live.gate().refuse(deny).await, None)
}

/// Why a tool, resource or prompt of a server that has the name of a connector may not be used, if so
/// (P10). What the server wants of the client needs no scope.
pub fn switched_off(
    daemon: &Daemon,
    live: &Live,
    server: &str,
    tool: &str,
) -> Option<(DenyReason, String)> {
    let connector = daemon.connectors.all().get(server)?;
    let off = |why: &str| Some((DenyReason::DefaultDeny, why.to_owned()));
    if daemon.connectors.scopes(live.id(), server).is_none() {
        return off("it is a connector that is not enabled in this session");
    }
    if !connector.maps_tools() || tool.starts_with("client:") {
        return None;
    }
    // No tool is called so: the gateway lets none pass.
    let scope = match tool.split_once(':') {
        Some(("resource", _uri)) => connector.resources.as_ref(),
        Some(("prompt", _name)) => connector.prompts.as_ref(),
        _tool => connector.tools.get(tool),
    };
    let Some(scope) = scope else {
        return off("`[connectors]` of the configuration names no scope for it");
    };
    if let Some(stops) = not_enabled(daemon, live, server, scope) {
        return Some(stops);
    }
    let using = Operation::UseScope {
        connector: server.into(),
        scope: scope.clone(),
    };
    // It was allowed when it was enabled; policy may have changed.
    let denied = live.gate().review(using).err()?;
    let why = format!("its scope `{scope}`: {}", denied.verdict().why());
    Some((denied.verdict().reason, why))
}

/// Why no page can be opened or acted on, if so: the browser is off, or no connection leads there.
fn no_page(daemon: &Daemon, live: &Live, operation: &Operation) -> Option<(DenyReason, String)> {
    if !daemon.browsers.is_on(live.id()) {
        let why = format!("{}: `cordon session browser`", live.why_no_browser());
        return Some((DenyReason::DefaultDeny, why));
    }
    let destination = operation.destination()?;
    if daemon.egress.can_reach(destination) {
        return None;
    }
    let why = "the address is of special use, or Cordon's own; an admin may name one of special \
               use under `network.permit_addresses`";
    Some((DenyReason::AddressNotPermitted, why.into()))
}

/// Why an extension may not use a permission, if so.
fn not_permitted(installed: &Installed, permission: &String) -> Option<(DenyReason, String)> {
    if let Some(stops) = unapproved(installed) {
        return Some(stops);
    }
    let declared = installed.permissions.contains(permission);
    let why = "the extension did not declare this permission".to_owned();
    (!declared).then_some((DenyReason::DefaultDeny, why))
}

/// Why an extension may not be loaded, if so.
pub fn unapproved(installed: &Installed) -> Option<(DenyReason, String)> {
    let name = &installed.name;
    let what = match &installed.approved {
        _ if installed.is_approved() => return None,
        Some(_) => "it changed since it was approved",
        None => "nobody approved it",
    };
    let why = format!(
        "{what}: `cordon extension show {name}` says what it is, `cordon extension approve {name}` \
         approves it"
    );
    Some((DenyReason::ApprovalRequired, why))
}

/// Why a scope of a connector of the configuration may not be used, if so. Of others nothing is known
/// here: policy alone decides.
fn not_enabled(
    daemon: &Daemon,
    live: &Live,
    connector: &str,
    scope: &str,
) -> Option<(DenyReason, String)> {
    if !daemon.connectors.all().contains_key(connector) {
        return None;
    }
    let why = match daemon.connectors.scopes(live.id(), connector) {
        None => "the connector is not enabled in this session",
        Some(scopes) if !scopes.contains(scope) => {
            "the connector was enabled in this session without this scope"
        }
        Some(_) => return None,
    };
    Some((DenyReason::DefaultDeny, why.into()))
}

/// The registry's facts where it knows the extension; a damaged record is no reason to believe less
/// than it would say, so it stays unsigned and unknown.
fn known(daemon: &Daemon, asked: ExtensionFacts) -> (ExtensionFacts, Option<Installed>) {
    match daemon.extensions.get(&asked.id) {
        Ok(Some(installed)) => (installed.facts(), Some(installed)),
        Ok(None) | Err(_) => (asked, None),
    }
}
