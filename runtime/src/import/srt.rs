//! Settings of a sandbox runtime: hosts, and folders that may be read and written.

use serde_json::{Map, Value};

use super::{
    Imported, NoteKind, Places, is_off, object,
    rules::{Effect, GRANTS, Rules, Unless, WRITES, folder},
};

/// Reads the settings of a sandbox runtime.
///
/// # Errors
/// It is no such file.
pub fn srt_settings(text: &[u8], places: &Places) -> Result<Imported, String> {
    let fields = object(text)?;
    let mut rules = Rules::new("srt");
    sandbox(&mut rules, "", &fields, places);
    for (name, value) in &fields {
        match name.as_str() {
            "network" | "filesystem" => {}
            name => other(&mut rules, name, name, value),
        }
    }
    Ok(rules.finish())
}

/// A setting beside hosts and files. What is not known may refuse something.
pub(super) fn other(rules: &mut Rules, name: &str, place: &str, value: &Value) {
    let (kind, what) = match name {
        "$schema"
        | "ripgrep"
        | "mandatoryDenySearchDepth"
        | "seccomp"
        | "bwrapPath"
        | "socatPath" => (NoteKind::Other, "it is of the other sandbox's own making"),
        "ignoreViolations"
        | "enableWeakerNestedSandbox"
        | "enableWeakerNetworkIsolation"
        | "allowPty"
        | "allowAppleEvents" => (NoteKind::Narrower, "no command leaves the walls here"),
        _unknown if value.is_null() => return,
        _unknown => (NoteKind::Lost, "it is not known here"),
    };
    rules.note(kind, place, what);
}

/// `network` and `filesystem` of an object.
pub(super) fn sandbox(
    rules: &mut Rules,
    place: &str,
    fields: &Map<String, Value>,
    places: &Places,
) {
    let at = |name: &str| format!("{place}{name}");
    match fields.get("network") {
        None | Some(Value::Null) => {}
        Some(Value::Object(network)) => hosts(rules, &at("network"), network),
        Some(_other) => rules.note(NoteKind::Lost, &at("network"), "it is not an object"),
    }
    match fields.get("filesystem") {
        None | Some(Value::Null) => {}
        Some(Value::Object(files)) => folders(rules, &at("filesystem"), files, places),
        Some(_other) => rules.note(NoteKind::Lost, &at("filesystem"), "it is not an object"),
    }
}

fn hosts(rules: &mut Rules, place: &str, network: &Map<String, Value>) {
    let at = |name: &str| format!("{place}.{name}");
    rules.domains(
        Effect::Allow,
        &at("allowedDomains"),
        network.get("allowedDomains"),
    );
    rules.domains(
        Effect::Deny,
        &at("deniedDomains"),
        network.get("deniedDomains"),
    );
    for (name, value) in network {
        let what = match name.as_str() {
            "allowedDomains" | "deniedDomains" => continue,
            "strictAllowlist" | "allowManagedDomainsOnly" => {
                "nothing outside the rules is allowed here anyway"
            }
            "httpProxyPort" | "socksProxyPort" | "tlsTerminate" | "mitmProxy" => {
                "Cordon has a proxy of its own for each session"
            }
            _unknown if value.is_null() => continue,
            // Nothing is allowed by it, so nothing is narrower here.
            "allowUnixSockets"
            | "allowAllUnixSockets"
            | "allowLocalBinding"
            | "allowMachLookup"
                if is_off(value) =>
            {
                continue;
            }
            "allowUnixSockets" | "allowAllUnixSockets" => {
                "sockets of the host are not visible inside"
            }
            "allowLocalBinding" => "a session listens on a loopback of its own",
            "allowMachLookup" => "it is of another operating system",
            _unknown => {
                rules.note(NoteKind::Lost, &at(name), "it is not known here");
                continue;
            }
        };
        rules.note(NoteKind::Narrower, &at(name), what);
    }
}

fn folders(rules: &mut Rules, place: &str, files: &Map<String, Value>, places: &Places) {
    let at = |name: &str| format!("{place}.{name}");
    let rwd = "Action::\"grant_ro\", Action::\"grant_rw\", Action::\"grant_rwd\"";
    for (name, effect, actions) in [
        ("allowRead", Effect::Allow, "Action::\"grant_ro\""),
        ("allowWrite", Effect::Allow, rwd),
        ("denyRead", Effect::Deny, GRANTS),
        ("denyWrite", Effect::Deny, WRITES),
    ] {
        for (place, pattern) in rules.texts(effect, &at(name), files.get(name)) {
            match (folder(&pattern, places), effect) {
                (Some(folder), Effect::Allow) => rules.grant(&place, actions, &folder),
                (Some(folder), _) => rules.no_grant(&place, actions, &folder, Unless::Never),
                (None, _) => {
                    let why = format!("{pattern:?} is a pattern, and rules are about folders");
                    rules.not_expressed(effect, &place, &why);
                }
            }
        }
    }
    let known = [
        "allowRead",
        "allowWrite",
        "denyRead",
        "denyWrite",
        "allowManagedReadPathsOnly",
        "allowGitConfig",
    ];
    for (name, value) in files {
        if !known.contains(&name.as_str()) && !value.is_null() {
            rules.note(NoteKind::Lost, &at(name), "it is not known here");
        }
    }
    let what = "folders that are not named are not there at all here, also not to be read";
    rules.note(NoteKind::Narrower, place, what);
}
