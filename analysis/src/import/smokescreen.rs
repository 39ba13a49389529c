//! Smokescreen's egress ACL, version 1.
//!
//! Its order for one role: names that the role's own rule allows, then the global deny list, then
//! the global allow list, then the rule's action (`open` allows, `report` allows and reports,
//! `enforce` refuses). A role becomes the agent of that name; who has none falls to `default`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ImportError, Imported, Rule, cedar::Expr, members::Entry};

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    services: Vec<Service>,
    default: Option<Service>,
    #[serde(default)]
    global_allow_list: Vec<String>,
    #[serde(default)]
    global_deny_list: Vec<String>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    name: String,
    action: Action,
    #[serde(default)]
    allowed_domains: Vec<String>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Open,
    Report,
    Enforce,
}

const MAX_SERVICES: usize = 1_000;

pub(super) fn import(text: &str) -> Result<Imported, ImportError> {
    let config: Config = serde_saphyr::from_str(text).map_err(|error| {
        let why: String = error.to_string().chars().take(500).collect();
        ImportError::new(
            cordon_audit::escape(&why).to_string(),
            "it must be the egress ACL of smokescreen, version v1",
        )
    })?;
    if config
        .version
        .as_deref()
        .is_some_and(|version| version != "v1")
    {
        let why = "its version is not v1, the one that is known";
        return Err(ImportError::new(why, "convert it to v1"));
    }
    if config.services.len() > MAX_SERVICES {
        let why = format!("it has more than {MAX_SERVICES} services");
        return Err(ImportError::new(why, "import a part of it"));
    }
    let mut out = Imported::default();
    for key in config.others.keys() {
        out.leave_out(0, "", format!("the key `{key:.60}` has no counterpart"));
    }
    let lists = Lists {
        denied: list(&mut out, "global-deny", &config.global_deny_list, true),
        allowed: list(&mut out, "global-allow", &config.global_allow_list, false),
    };
    let agents: Vec<String> = config
        .services
        .iter()
        .map(|service| format!("Agent::{:?}", service.name))
        .collect();
    for (service, number) in config.services.iter().zip(1_usize..) {
        let scope = format!("principal in Agent::{:?}", service.name);
        add(
            &mut out,
            service,
            &scope,
            &format!("service-{number}"),
            None,
            &lists,
        );
    }
    if let Some(service) = &config.default {
        let others = (!agents.is_empty()).then(|| format!("principal in [{}]", agents.join(", ")));
        add(
            &mut out,
            service,
            "principal",
            "default",
            others.as_deref(),
            &lists,
        );
    }
    if !config.services.is_empty() {
        let why = "roles are taken for agents of the same name (`principal in Agent::\"...\"`); \
                   where they are users or groups, change it in the rules";
        out.leave_out(0, "", why);
    }
    Ok(out)
}

struct Lists {
    denied: Expr,
    allowed: Expr,
}

fn add(
    out: &mut Imported,
    service: &Service,
    scope: &str,
    id: &str,
    but: Option<&str>,
    lists: &Lists,
) {
    for key in service.others.keys().filter(|key| *key != "project") {
        let why = format!("{id}: the key `{key:.60}` has no counterpart");
        out.leave_out(0, "", why);
    }
    let own = list(out, id, &service.allowed_domains, false);
    let not_denied = || lists.denied.clone().not();
    let globally = Expr::all([lists.allowed.clone(), not_denied()]);
    let otherwise = match service.action {
        Action::Open => not_denied(),
        Action::Enforce => Expr::False,
        Action::Report => {
            let why = format!(
                "{id}: `report` allows everything else and reports it; the draft refuses it. \
                 Observe mode does what `report` does"
            );
            out.leave_out(0, "", why);
            Expr::False
        }
    };
    let allowed = Expr::any([own, globally, otherwise]);
    let all = match but {
        Some(others) => Expr::all([Expr::Is(others.to_owned()).not(), allowed]),
        None => allowed,
    };
    let when = match &all {
        Expr::False => return,
        Expr::True => String::new(),
        other => format!("\nwhen {{ {} }}", other.text()),
    };
    out.rules.push(Rule {
        id: format!("smokescreen-{id}"),
        cedar: format!("permit ({scope}, action in Action::\"network\", resource){when};"),
        from: format!("{id} {}", cordon_audit::escape(&service.name)),
    });
}

/// A list of domains as a group and its condition. On the denying side an entry that cannot be
/// read counts for everything.
fn list(out: &mut Imported, name: &str, domains: &[String], denies: bool) -> Expr {
    let mut members = Vec::new();
    let mut parts = Vec::new();
    for domain in domains {
        match Entry::read(domain) {
            Ok(entry) => match entry.condition() {
                Some(condition) => parts.push(Expr::Is(condition)),
                None => members.extend(entry.members()),
            },
            Err(why) => {
                let what = if denies {
                    "; nothing is allowed beside what rules name"
                } else {
                    ""
                };
                out.leave_out(0, "", format!("{name}: `{domain:.80}`: {why}{what}"));
                if denies {
                    parts.push(Expr::True);
                }
            }
        }
    }
    if !members.is_empty() {
        members.sort();
        members.dedup();
        out.groups.insert(name.to_owned(), members);
        parts.push(Expr::Is(format!("resource in HostGroup::\"{name}\"")));
    }
    Expr::any(parts)
}
