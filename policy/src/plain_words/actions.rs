//! What a rule's actions are called.

use serde_json::Value;

use super::{list, quoted};

/// What an action is about; it decides how "any resource" is called.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Session,
    Network,
    Grant,
    File,
    Connector,
    Scope,
    Extension,
    Permission,
    Tool,
    Browser,
    Site,
    Approve,
    Manage,
    Publish,
    Log,
    Several,
}

/// Action, what it is about, and the words with `{}` where the resource stands.
const ACTIONS: &[(&str, Kind, &str)] = &[
    ("start_session", Kind::Session, "be started inside {}"),
    (
        "run_without_sandbox",
        Kind::Session,
        "be run without a sandbox",
    ),
    ("exec", Kind::Session, "be given further commands inside {}"),
    ("publish", Kind::Session, "be reached from outside at {}"),
    (
        "session",
        Kind::Session,
        "be started inside or outside {} and be given further commands",
    ),
    ("network", Kind::Network, "reach {} over the network"),
    ("connect", Kind::Network, "open connections to {}"),
    ("http", Kind::Network, "make HTTP requests to {}"),
    ("http_read", Kind::Network, "read from {} over HTTP"),
    ("http_write", Kind::Network, "send to {} over HTTP"),
    ("http_delete", Kind::Network, "delete at {} over HTTP"),
    (
        "http_other",
        Kind::Network,
        "use unusual HTTP methods at {}",
    ),
    (
        "http_upgrade",
        Kind::Network,
        "change to another protocol (WebSocket) at {}",
    ),
    ("grant", Kind::Grant, "be given {}"),
    ("grant_ro", Kind::Grant, "be given {} to read"),
    ("grant_rw", Kind::Grant, "be given {} to read and write"),
    (
        "grant_rwd",
        Kind::Grant,
        "be given {} to read, write and delete",
    ),
    ("files", Kind::File, "be given or use {}"),
    ("read", Kind::File, "read {}"),
    ("write", Kind::File, "write {}"),
    ("delete", Kind::File, "delete {}"),
    ("connectors", Kind::Connector, "enable or use {}"),
    ("enable_connector", Kind::Connector, "enable {}"),
    ("use_scope", Kind::Scope, "use {}"),
    ("extensions", Kind::Extension, "install, load or use {}"),
    ("install_extension", Kind::Extension, "install {}"),
    ("load_extension", Kind::Extension, "load {}"),
    ("use_permission", Kind::Permission, "use {}"),
    ("call_tool", Kind::Tool, "call {}"),
    ("browser", Kind::Site, "browse {}"),
    (
        "enable_browser",
        Kind::Browser,
        "switch on the browser on {}",
    ),
    ("open", Kind::Site, "open {} in the browser"),
    ("act", Kind::Site, "act on {} in the browser"),
    ("administration", Kind::Several, "administer {}"),
    ("approve", Kind::Approve, "answer requests of {}"),
    ("manage_sessions", Kind::Manage, "manage {}"),
    ("open_session", Kind::Manage, "open {}"),
    ("read_session", Kind::Manage, "see {}"),
    ("ask_session", Kind::Manage, "ask in the name of {}"),
    ("steer_session", Kind::Manage, "pause and resume {}"),
    ("change_session", Kind::Manage, "give to and take from {}"),
    ("end_session", Kind::Manage, "end {}"),
    ("issue_token", Kind::Manage, "make tokens of {}"),
    ("publish_policy", Kind::Publish, "put {} into force"),
    ("read_log", Kind::Log, "read {}"),
];

impl Kind {
    /// What all these actions are about; `Several` where they are of more than one section.
    pub(super) fn of(actions: &[String]) -> Self {
        let mut kinds = actions
            .iter()
            .map(|name| entry(name).map_or(Self::Several, |(_, kind, _)| *kind));
        let Some(first) = kinds.next() else {
            return Self::Several;
        };
        if kinds.all(|kind| kind.section() == first.section()) {
            first
        } else {
            Self::Several
        }
    }

    /// Whether the principal is a person and not a session.
    pub(super) fn is_administration(self) -> bool {
        matches!(
            self,
            Self::Approve | Self::Manage | Self::Publish | Self::Log
        )
    }

    /// The heading of a page that these actions stand under.
    pub(super) fn section(self) -> &'static str {
        match self {
            Self::Session => "Starting a session",
            Self::Network => "Network",
            Self::Grant | Self::File => "Files",
            Self::Connector | Self::Scope => "Connectors",
            Self::Extension | Self::Permission | Self::Tool => "Extensions",
            Self::Browser | Self::Site => "Browser",
            Self::Approve | Self::Manage | Self::Publish | Self::Log => "Administration",
            Self::Several => "Several kinds of requests",
        }
    }

    /// Any resource of these actions.
    pub(super) fn anything(self) -> &'static str {
        match self {
            Self::Session => "any walls",
            Self::Network => "any host or address",
            Self::Grant => "any folder",
            Self::File => "any file",
            Self::Connector => "any connector",
            Self::Scope => "any scope of any connector",
            Self::Extension => "any extension",
            Self::Permission => "any permission of any extension",
            Self::Tool => "any tool of any extension",
            Self::Browser => "any platform",
            Self::Site => "any site",
            Self::Approve | Self::Manage => "any session",
            Self::Publish => "any policy bundle",
            Self::Log => "any log",
            Self::Several => "anything",
        }
    }
}

/// The actions that a scope names; empty for every action.
pub(super) fn names(scope: &Value) -> Vec<String> {
    let one = scope.get("entity").into_iter();
    let several = scope.get("entities").and_then(Value::as_array);
    one.chain(several.into_iter().flatten())
        .filter_map(|entity| entity["id"].as_str().map(str::to_owned))
        .collect()
}

/// What may, or may not, be done. A resource that was just named is "it" or "them".
pub(super) fn phrase(actions: &[String], resource: impl Fn(Kind) -> String, may: bool) -> String {
    if actions.is_empty() {
        return format!("do anything with {}", resource(Kind::Several));
    }
    let mut said = String::new();
    let phrases: Vec<String> = actions
        .iter()
        .map(|name| {
            let (kind, words) = match entry(name) {
                Some((_, kind, words)) => (*kind, (*words).to_owned()),
                None => (Kind::Several, format!("do {} with {{}}", quoted(name))),
            };
            let named = resource(kind);
            if named == said {
                return words.replace("{}", pronoun(&named));
            }
            let phrase = words.replace("{}", &named);
            said = named;
            phrase
        })
        .collect();
    list(&phrases, if may { "and" } else { "or" })
}

fn pronoun(resource: &str) -> &'static str {
    const PLURAL: [&str; 5] = ["the hosts", "addresses", "sites", "extensions", "sessions"];
    if PLURAL.iter().any(|word| resource.starts_with(word)) {
        "them"
    } else {
        "it"
    }
}

fn entry(name: &str) -> Option<&'static (&'static str, Kind, &'static str)> {
    ACTIONS.iter().find(|(action, _, _)| *action == name)
}

/// Every action that has words, for the test that holds them to the schema.
#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(action, _, _)| *action)
}
