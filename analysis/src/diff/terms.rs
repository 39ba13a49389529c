//! What holds of every request that Cordon ever asks, as a condition of Cedar.
//!
//! Put beside both sets as a `forbid ... unless`, it keeps the solver to requests that can be asked:
//! a port is a port, a host is in a group exactly when the data say so, a path is canonical.

use super::pools::Pools;

/// Which requests a condition is for.
pub(super) struct Kind<'a> {
    pub(super) principal: &'a str,
    pub(super) action: &'a str,
    pub(super) resource: &'a str,
}

/// Longest condition about hosts, in comparisons; beyond it the solver works without, and what it
/// finds is only looked for among real hosts.
const MOST_TERMS: usize = 12_000;

/// The condition, and whether it says all that is known.
pub(super) fn well_formed(pools: &Pools, kind: &Kind<'_>) -> (String, bool) {
    let mut parts = vec!["context.time >= datetime(\"2000-01-01\")".to_owned()];
    parts.push("context.time < datetime(\"2100-01-01\")".into());
    if kind.principal == "Session" {
        parts.extend(session(pools));
        parts.push("!(context has approval)".into());
    }
    parts.extend(context(kind.action));
    if matches!(
        kind.action,
        "connect" | "http_read" | "http_write" | "http_delete" | "http_other" | "http_upgrade"
    ) {
        parts.push(handshake(kind.resource));
        parts.push(NAMES.into());
    }
    let mut is_whole = true;
    match kind.resource {
        "Host" => match hosts(pools) {
            Some(condition) => parts.push(condition),
            None => is_whole = false,
        },
        "Address" => parts.extend(addresses(pools)),
        "Folder" | "File" => parts.extend(paths(pools, kind.resource)),
        "Backend" => {
            let name = if kind.action == "start_session" {
                "bubblewrap"
            } else {
                "none"
            };
            parts.push(format!("resource == Backend::{name:?}"));
            parts.push(format!("principal.backend == {name:?}"));
        }
        "Origin" => {
            parts.push("[\"https\", \"http\"].contains(resource.scheme)".into());
            parts.push("resource.port >= 1 && resource.port <= 65535".into());
        }
        _named => {}
    }
    (all(&parts), is_whole)
}

/// A session is in its user, the user's groups, its agent and its platform.
fn session(pools: &Pools) -> Vec<String> {
    let mut parts = vec!["[\"bubblewrap\", \"none\"].contains(principal.backend)".to_owned()];
    for user in pools.of_type("User") {
        parts.push(same(
            &format!("principal in User::{user:?}"),
            &format!("principal.user == User::{user:?}"),
        ));
    }
    for group in pools.of_type("Group") {
        parts.push(same(
            &format!("principal in Group::{group:?}"),
            &format!("principal.user in Group::{group:?}"),
        ));
    }
    for agent in pools.of_type("Agent") {
        parts.push(same(
            &format!("principal in Agent::{agent:?}"),
            &format!("(principal has agent && principal.agent == Agent::{agent:?})"),
        ));
    }
    for platform in pools.of_type("Platform") {
        parts.push(same(
            &format!("principal in Platform::{platform:?}"),
            &format!("principal.platform == {platform:?}"),
        ));
    }
    for organisation in pools.of_type("Organisation") {
        parts.push(format!("!(principal in Organisation::{organisation:?})"));
    }
    parts
}

const NAMES: &str = "(if context has names then !context.names.isEmpty() else true)";
/// At most [`cordon_policy::MAX_LENGTH`].
const LENGTH: &str = "(if context has content_length then context.content_length >= 0 && \
    context.content_length <= 9007199254740991 else true)";

/// What hangs together in a handshake, where there is one.
fn handshake(resource: &str) -> String {
    let matches = if resource == "Host" {
        "context.tls has sni && context.tls.sni == resource.name"
    } else {
        "context.tls.kind == \"hello\" && !(context.tls has sni)"
    };
    format!(
        "(if context has tls then [\"hello\", \"not-tls\"].contains(context.tls.kind) && \
         context.tls.sni_matches == ({matches}) else true)"
    )
}

fn context(action: &str) -> Vec<String> {
    let port = "context.port >= 1 && context.port <= 65535".to_owned();
    let upgrades = if action == "http_upgrade" {
        "context has upgrade && context.upgrade != \"\""
    } else {
        "!(context has upgrade)"
    };
    let methods = |methods: &str| {
        vec![
            upgrades.to_owned(),
            port.clone(),
            "[\"http\", \"https\"].contains(context.scheme)".to_owned(),
            LENGTH.to_owned(),
            "context.transport == \"http\"".to_owned(),
            "context.path like \"/*\"".to_owned(),
            methods.to_owned(),
        ]
    };
    match action {
        "connect" => vec![
            port.clone(),
            "[\"http-connect\", \"socks5\", \"capture\"].contains(context.transport)".into(),
        ],
        "http_read" => methods("[\"GET\", \"HEAD\", \"OPTIONS\"].contains(context.method)"),
        "http_write" => methods("[\"POST\", \"PUT\", \"PATCH\"].contains(context.method)"),
        "http_delete" => methods("context.method == \"DELETE\""),
        "http_upgrade" => methods("context.method == \"GET\""),
        "http_other" => methods(
            "!([\"GET\", \"HEAD\", \"OPTIONS\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\", \"\"]\
             .contains(context.method))",
        ),
        "grant_ro" | "grant_rw" | "grant_rwd" => vec![
            format!("context.mode == {:?}", action.trim_start_matches("grant_")),
            "[\"command-line\", \"working-directory\", \"profile\", \"api\"].contains(context.source)"
                .into(),
            // Nor has it a `/`: the solver does not know "contains", and words that say so are not asked.
            "context.name != \"\"".into(),
        ],
        "read" | "write" | "delete" => {
            vec!["[\"ro\", \"rw\", \"rwd\"].contains(context.mode)".into()]
        }
        "act" => vec![
            "[\"click\", \"type\", \"submit\", \"upload\", \"download\", \"script\"]\
             .contains(context.kind)"
                .into(),
        ],
        _plain => Vec::new(),
    }
}

/// A host is of one of the classes. Nothing where that would be too long.
fn hosts(pools: &Pools) -> Option<String> {
    let terms = pools.hosts.len().saturating_mul(pools.host_literals.len());
    if !pools.has_all_hosts || terms > MOST_TERMS {
        return None;
    }
    let classes: Vec<String> = pools
        .hosts
        .keys()
        .map(|class| {
            let parts: Vec<String> = pools
                .host_literals
                .iter()
                .map(|literal| {
                    let relation = if literal.starts_with("Host::") {
                        "=="
                    } else {
                        "in"
                    };
                    let condition = format!("resource {relation} {literal}");
                    if class.contains(literal) {
                        condition
                    } else {
                        format!("!({condition})")
                    }
                })
                .collect();
            all(&parts)
        })
        .collect();
    let mut parts = vec![any(&classes)];
    parts.push("resource.length >= 1 && resource.length <= 253".into());
    parts.push("resource.labels >= 1 && resource.labels <= 127".into());
    parts.push("resource.longest_label >= 1 && resource.longest_label <= 63".into());
    parts.push("resource.entropy >= 0 && resource.entropy <= 8000".into());
    Some(all(&parts))
}

/// An address is in a network exactly when its number is.
fn addresses(pools: &Pools) -> Vec<String> {
    let networks = pools.of_type("Network").map(|network| {
        same(
            &format!("resource in Network::{network:?}"),
            &format!("resource.ip.isInRange(ip({network:?}))"),
        )
    });
    let literals = pools.of_type("Address").map(|address| {
        same(
            &format!("resource == Address::{address:?}"),
            &format!("resource.ip == ip({address:?})"),
        )
    });
    networks.chain(literals).collect()
}

/// A path is canonical, and in a folder exactly when it begins with it.
fn paths(pools: &Pools, kind: &str) -> Vec<String> {
    // That a path is canonical in all it takes more patterns than the solver bears; a path that is
    // not is put right when a request is made of it.
    let mut parts = vec![
        "resource.path like \"/*\"".to_owned(),
        "(resource.path == \"/\" || !(resource.path like \"*/\"))".into(),
    ];
    for folder in pools.of_type("Folder") {
        let below = format!("{}/", folder.trim_end_matches('/'));
        let is_below = format!("resource.path like {}", pattern(&below));
        let itself = format!("resource.path == {folder:?}");
        parts.push(same(
            &format!("resource in Folder::{folder:?}"),
            &match (kind, folder) {
                ("File", _) | (_, "/") => is_below,
                _folder => format!("({itself} || {is_below})"),
            },
        ));
    }
    for path in pools.of_type(kind) {
        parts.push(same(
            &format!("resource == {kind}::{path:?}"),
            &format!("resource.path == {path:?}"),
        ));
    }
    parts
}

/// A pattern for everything that begins with `text`.
fn pattern(text: &str) -> String {
    let quoted = format!("{text:?}").replace('*', "\\*");
    format!("{}*\"", quoted.strip_suffix('"').unwrap_or(&quoted))
}

fn same(left: &str, right: &str) -> String {
    format!("(({left}) == ({right}))")
}

pub(super) fn all(parts: &[String]) -> String {
    joined(parts, "&&", "true")
}

fn any(parts: &[String]) -> String {
    joined(parts, "||", "false")
}

/// In pairs, so that brackets nest as deep as the logarithm of the length.
fn joined(parts: &[String], operator: &str, none: &str) -> String {
    match parts {
        [] => none.to_owned(),
        [one] => one.clone(),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            format!(
                "({} {operator} {})",
                joined(left, operator, none),
                joined(right, operator, none)
            )
        }
    }
}
