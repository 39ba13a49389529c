//! Settings of Claude Code: permission rules, and what its sandbox may reach.

use serde_json::{Map, Value};

use super::{
    Imported, NoteKind, Places, is_off, object,
    rules::{Effect, GRANTS, Rules, Unless, WRITES, folder, text},
    srt::sandbox,
};

/// Reads settings, managed or the user's own.
///
/// # Errors
/// It is no such file.
pub fn claude_settings(file: &[u8], places: &Places) -> Result<Imported, String> {
    let fields = object(file)?;
    let mut rules = Rules::new("claude");
    for (name, value) in &fields {
        match (name.as_str(), value) {
            ("permissions", Value::Object(permissions)) => {
                all_permissions(&mut rules, permissions, places);
            }
            ("sandbox", Value::Object(settings)) => in_sandbox(&mut rules, settings, places),
            ("permissions" | "sandbox", _other) => {
                rules.note(NoteKind::Lost, name, "it is not an object");
            }
            ("deniedMcpServers", _) => denied_servers(&mut rules, value),
            ("disabledMcpjsonServers", _) => disabled_servers(&mut rules, value),
            ("disableAllHooks", Value::Bool(true)) => rules.note(
                NoteKind::Lost,
                name,
                "without hooks an agent outside a sandbox does not ask Cordon: run it inside",
            ),
            ("disableAllHooks", Value::Bool(false)) => {}
            _other => other(&mut rules, name, value),
        }
    }
    Ok(rules.finish())
}

fn all_permissions(rules: &mut Rules, permissions: &Map<String, Value>, places: &Places) {
    for (name, effect) in [
        ("allow", Effect::Allow),
        ("ask", Effect::Ask),
        ("deny", Effect::Deny),
    ] {
        let place = format!("permissions.{name}");
        for (place, written) in rules.texts(effect, &place, permissions.get(name)) {
            permission(rules, effect, &place, &written, places);
        }
    }
    let place = "permissions.additionalDirectories";
    for (place, written) in rules.texts(
        Effect::Allow,
        place,
        permissions.get("additionalDirectories"),
    ) {
        match path(&written, places) {
            Some(path) => rules.grant(&place, "Action::\"grant_ro\", Action::\"grant_rw\"", &path),
            None => rules.not_expressed(Effect::Allow, &place, "it is no plain folder"),
        }
    }
    for (name, value) in permissions {
        let place = format!("permissions.{name}");
        match (name.as_str(), value.as_str()) {
            ("allow" | "ask" | "deny" | "additionalDirectories", _) => {}
            ("disableBypassPermissionsMode", _) => rules.note(
                NoteKind::Other,
                &place,
                "no mode of the agent passes by these rules",
            ),
            ("defaultMode", Some("default" | "plan" | "dontAsk")) => {
                rules.note(NoteKind::Other, &place, "what no rule allows is refused");
            }
            ("defaultMode", _) => rules.note(
                NoteKind::Narrower,
                &place,
                "a mode that allows by itself: here only rules allow",
            ),
            _unknown => rules.note(NoteKind::Lost, &place, "it is not known here"),
        }
    }
}

/// `Tool` or `Tool(specifier)`.
fn permission(rules: &mut Rules, effect: Effect, place: &str, written: &str, places: &Places) {
    let (tool, specifier) = match written.split_once('(') {
        None => (written, None),
        Some((tool, rest)) => match rest.strip_suffix(')') {
            // Nothing in the brackets: what is meant is not said, and a whole tool is a lot.
            Some(nothing) if nothing.trim().is_empty() && effect == Effect::Allow => {
                return rules.not_expressed(
                    effect,
                    place,
                    "it says nothing in its brackets; write the tool alone to allow all of it",
                );
            }
            Some(all) if matches!(all.trim(), "" | "*") => {
                if effect == Effect::Allow {
                    rules.note(
                        NoteKind::Wider,
                        place,
                        "the whole tool is allowed by it, with whatever it is given",
                    );
                }
                (tool, None)
            }
            Some(specifier) => (tool, Some(specifier)),
            None => return rules.not_expressed(effect, place, "it is not well-formed"),
        },
    };
    let name = |c: char| c.is_ascii_alphanumeric() || "_-*".contains(c);
    if tool.is_empty() || !tool.chars().all(name) {
        return rules.not_expressed(effect, place, "it names no tool");
    }
    match (tool, specifier) {
        ("Read" | "Glob" | "Grep" | "LS" | "NotebookRead", specifier) => {
            files(rules, effect, place, READ, specifier, places);
        }
        ("Edit" | "Write" | "MultiEdit" | "NotebookEdit", specifier) => {
            files(rules, effect, place, WRITE, specifier, places);
        }
        ("WebFetch", None) => {
            rules.rule(effect, place, "action == Action::\"http_read\"", "resource");
        }
        ("WebFetch", Some(specifier)) => fetch(rules, effect, place, specifier),
        (tool, None) => match tool.strip_prefix("mcp__") {
            Some(server) => server_tool(rules, effect, place, server),
            None if tool.contains('*') => {
                rules.not_expressed(effect, place, "rules name tools one by one");
            }
            None => {
                let resource = format!("resource == ExtensionTool::\"claude-code/{tool}\"");
                rules.rule(effect, place, CALL, &resource);
            }
        },
        ("Bash", Some(_)) => rules.not_expressed(
            effect,
            place,
            "what a command does cannot be told from its text: the sandbox decides its files and hosts",
        ),
        (_other, Some(_)) => rules.not_expressed(effect, place, "its specifier is not known here"),
    }
}

fn files(
    rules: &mut Rules,
    effect: Effect,
    place: &str,
    action: &str,
    specifier: Option<&str>,
    places: &Places,
) {
    let one = format!("action == {action}");
    // What is in a granted folder is read and written without being asked, so what is refused or
    // asked about is so of grants too.
    let grants = match action {
        READ => GRANTS,
        _write => WRITES,
    };
    let no_grant = match effect {
        Effect::Deny => Some(Unless::Never),
        Effect::Ask => Some(Unless::Approved),
        Effect::Allow => None,
    };
    let Some(specifier) = specifier else {
        rules.rule(effect, place, &one, "resource");
        if let Some(unless) = no_grant {
            rules.no_grant_at_all(place, grants, unless);
        }
        return;
    };
    let Some(path) = path(specifier, places) else {
        return rules.not_expressed(
            effect,
            place,
            "it is a pattern, and rules are about folders",
        );
    };
    let shown = text(&path.to_string_lossy());
    rules.rule(effect, place, &one, &format!("resource in Folder::{shown}"));
    // The path itself may be a file, which is in no folder of its own name.
    rules.rule(effect, place, &one, &format!("resource == File::{shown}"));
    if let Some(unless) = no_grant {
        rules.no_grant(place, grants, &path, unless);
    }
}

/// `//x` is absolute, `/x` begins at the settings.
fn path(written: &str, places: &Places) -> Option<std::path::PathBuf> {
    match (written.strip_prefix("//"), written.strip_prefix('/')) {
        (Some(rest), _) => folder(&format!("/{rest}"), places),
        (None, Some(rest)) => folder(&format!("./{rest}"), places),
        (None, None) => folder(written, places),
    }
}

fn fetch(rules: &mut Rules, effect: Effect, place: &str, specifier: &str) {
    let host = specifier.strip_prefix("domain:");
    let Some(Ok(host)) = host.map(str::parse::<cordon_policy::NormalizedHost>) else {
        return rules.not_expressed(effect, place, "it names no host");
    };
    // Refusing, the wider reading is the safe one; allowing, the narrower.
    let resource = match effect {
        Effect::Allow => format!("resource == Host::\"{host}\""),
        Effect::Ask | Effect::Deny => format!("resource in Domain::\"{host}\""),
    };
    rules.rule(effect, place, "action == Action::\"http_read\"", &resource);
}

fn server_tool(rules: &mut Rules, effect: Effect, place: &str, rest: &str) {
    let (server, tool) = rest.split_once("__").unwrap_or((rest, "*"));
    let resource = match tool {
        _ if server.is_empty() || server.contains('*') => None,
        "*" => Some(format!("resource in Extension::\"{server}\"")),
        tool if tool.is_empty() || tool.contains('*') => None,
        tool => Some(format!("resource == ExtensionTool::\"{server}/{tool}\"")),
    };
    match resource {
        Some(resource) => rules.rule(effect, place, CALL, &resource),
        None => rules.not_expressed(effect, place, "rules name servers and tools one by one"),
    }
}

fn denied_servers(rules: &mut Rules, value: &Value) {
    let place = "deniedMcpServers";
    for (at, server) in value.as_array().into_iter().flatten().enumerate() {
        let place = format!("{place}[{at}]");
        denied_server(
            rules,
            &place,
            server.get("serverName").and_then(Value::as_str),
        );
    }
    if !value.is_array() {
        rules.not_expressed(Effect::Deny, place, "it is not a list");
    }
}

fn disabled_servers(rules: &mut Rules, value: &Value) {
    for (place, name) in rules.texts(Effect::Deny, "disabledMcpjsonServers", Some(value)) {
        denied_server(rules, &place, Some(&name));
    }
}

fn denied_server(rules: &mut Rules, place: &str, name: Option<&str>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let Some(name) = name.filter(|name| !name.is_empty() && name.chars().all(plain)) else {
        return rules.not_expressed(Effect::Deny, place, "it names no server by `serverName`");
    };
    let load = "action == Action::\"load_extension\"";
    let itself = format!("resource == Extension::\"{name}\"");
    rules.rule(Effect::Deny, place, load, &itself);
    let its_tools = format!("resource in Extension::\"{name}\"");
    rules.rule(Effect::Deny, place, CALL, &its_tools);
}

fn in_sandbox(rules: &mut Rules, settings: &Map<String, Value>, places: &Places) {
    sandbox(rules, "sandbox.", settings, places);
    for (name, value) in settings {
        let place = format!("sandbox.{name}");
        match (name.as_str(), value) {
            ("network" | "filesystem", _) => {}
            ("enabled" | "failIfUnavailable", _) => {
                rules.note(
                    NoteKind::Other,
                    &place,
                    "`cordon run` always has walls, or does not run",
                );
            }
            ("credentials", _) => rules.note(
                NoteKind::Other,
                &place,
                "nothing of the environment or of credential files is inside unless it is named",
            ),
            ("excludedCommands" | "allowUnsandboxedCommands" | "autoAllowBashIfSandboxed", _) => {
                let what = "no command leaves the walls here";
                rules.note(NoteKind::Narrower, &place, what);
            }
            (name, value) => super::srt::other(rules, name, &place, value),
        }
    }
}

/// A setting beside permissions. What is not known may refuse something, so it counts as lost: also
/// where it is empty or off, because an empty list of what is allowed refuses everything.
fn other(rules: &mut Rules, name: &str, value: &Value) {
    let (kind, what) = match name {
        name if NEUTRAL.contains(&name) => (NoteKind::Other, "it is not about permissions"),
        name if ONLY_MANAGED.contains(&name) => (
            NoteKind::Other,
            "nothing but these rules allows anything here",
        ),
        name if ALLOWING.contains(&name) => (
            NoteKind::Narrower,
            "which servers a session loads is a rule about `load_extension`",
        ),
        _any if value.is_null() => return,
        name if ELSEWHERE.contains(&name) && !restricts_nothing(name, value) => (
            NoteKind::Lost,
            "it restricts something of the agent that Cordon does not see: leave it in the settings",
        ),
        name if ELSEWHERE.contains(&name) => return,
        _unknown => (NoteKind::Lost, "it is not known here"),
    };
    rules.note(kind, name, what);
}

/// Whether a setting of [`ELSEWHERE`] leaves everything as it is.
fn restricts_nothing(name: &str, value: &Value) -> bool {
    match (name, value) {
        // It names what is refused, or what may refuse.
        ("blockedMarketplaces" | "hooks", empty) => is_off(empty),
        // By their names: what is there and not on is switched off.
        ("enabledPlugins", Value::Object(plugins)) => {
            plugins.values().all(|on| *on == Value::Bool(true))
        }
        ("allowManagedHooksOnly" | "strictPluginOnlyCustomization", value) => {
            *value == Value::Bool(false)
        }
        _lists_what_is_allowed => false,
    }
}

/// Settings that neither allow nor refuse anything.
const NEUTRAL: [&str; 45] = [
    "$schema",
    "agent",
    "alwaysThinkingEnabled",
    "apiKeyHelper",
    "attribution",
    "autoMemoryDirectory",
    "autoMemoryEnabled",
    "autoUpdatesChannel",
    "awsAuthRefresh",
    "awsCredentialExport",
    "cleanupPeriodDays",
    "companyAnnouncements",
    "defaultShell",
    "effortLevel",
    "env",
    "extraKnownMarketplaces",
    "fastMode",
    "feedbackSurveyRate",
    "fileSuggestion",
    "gcpAuthRefresh",
    "includeCoAuthoredBy",
    "includeGitInstructions",
    "language",
    "model",
    "modelOverrides",
    "otelHeadersHelper",
    "outputStyle",
    "plansDirectory",
    "pluginTrustMessage",
    "prefersReducedMotion",
    "respectGitignore",
    "showClearContextOnPlanAccept",
    "showThinkingSummaries",
    "showTurnDuration",
    "skipWebFetchPreflight",
    "spinnerTipsEnabled",
    "spinnerTipsOverride",
    "spinnerVerbs",
    "statusLine",
    "subagentStatusLine",
    "teammateMode",
    "terminalProgressBarEnabled",
    "theme",
    "verbose",
    "worktree",
];

/// Settings by which only an administrator's rules count.
const ONLY_MANAGED: [&str; 3] = [
    "allowManagedPermissionRulesOnly",
    "allowManagedMcpServersOnly",
    "disableAutoMode",
];

/// Settings that allow tool servers.
const ALLOWING: [&str; 3] = [
    "allowedMcpServers",
    "enableAllProjectMcpServers",
    "enabledMcpjsonServers",
];

/// Settings that restrict the agent itself.
const ELSEWHERE: [&str; 12] = [
    "allowManagedHooksOnly",
    "allowedHttpHookUrls",
    "availableModels",
    "blockedMarketplaces",
    "enabledPlugins",
    "forceLoginMethod",
    "forceLoginOrgUUID",
    "hooks",
    "httpHookAllowedEnvVars",
    "minimumVersion",
    "strictKnownMarketplaces",
    "strictPluginOnlyCustomization",
];

const READ: &str = "Action::\"read\"";
const WRITE: &str = "Action::\"write\"";
const CALL: &str = "action == Action::\"call_tool\"";
