//! `manifest.json` of an extension (MCPB 0.1 to 0.4): strict about its keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json;

/// What an extension says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Its name, by which policy and files know it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// In a few words.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// How its server is started, where it says so.
    pub start: Option<Start>,
    /// Tools that it names; it may offer others.
    pub tools: Vec<String>,
    /// Permissions that it declares, sorted: `_meta."org.cordon".permissions`.
    pub permissions: Vec<String>,
}

/// How a server is started on this platform.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
}

/// The keys of the format; what is not looked at is taken as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    manifest_version: Option<String>,
    dxt_version: Option<String>,
    name: String,
    version: String,
    description: String,
    author: Author,
    server: Server,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default, rename = "_meta")]
    meta: BTreeMap<String, Value>,
    #[serde(rename = "$schema")]
    _schema: Option<Value>,
    #[serde(rename = "display_name")]
    _display_name: Option<Value>,
    #[serde(rename = "long_description")]
    _long_description: Option<Value>,
    #[serde(rename = "repository")]
    _repository: Option<Value>,
    #[serde(rename = "homepage")]
    _homepage: Option<Value>,
    #[serde(rename = "documentation")]
    _documentation: Option<Value>,
    #[serde(rename = "support")]
    _support: Option<Value>,
    #[serde(rename = "icon")]
    _icon: Option<Value>,
    #[serde(rename = "icons")]
    _icons: Option<Value>,
    #[serde(rename = "screenshots")]
    _screenshots: Option<Value>,
    #[serde(rename = "localization")]
    _localization: Option<Value>,
    #[serde(rename = "tools_generated")]
    _tools_generated: Option<bool>,
    #[serde(rename = "prompts")]
    _prompts: Option<Value>,
    #[serde(rename = "prompts_generated")]
    _prompts_generated: Option<bool>,
    #[serde(rename = "keywords")]
    _keywords: Option<Value>,
    #[serde(rename = "license")]
    _license: Option<Value>,
    #[serde(rename = "privacy_policies")]
    _privacy_policies: Option<Value>,
    #[serde(rename = "compatibility")]
    _compatibility: Option<Value>,
    #[serde(rename = "user_config")]
    _user_config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Author {
    name: String,
    #[serde(rename = "email")]
    _email: Option<Value>,
    #[serde(rename = "url")]
    _url: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "entry_point")]
    _entry_point: String,
    mcp_config: Option<McpConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct McpConfig {
    command: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    platform_overrides: BTreeMap<String, Override>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    command: Option<String>,
    args: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    #[serde(rename = "description")]
    _description: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    #[serde(default)]
    permissions: Vec<String>,
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    /// In words.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
        let value = json::read(text)?;
        let raw: Raw = serde_json::from_value(value).map_err(|error| error.to_string())?;
        match (&raw.manifest_version, &raw.dxt_version) {
            (Some(version), None) | (None, Some(version))
                if VERSIONS.contains(&version.as_str()) => {}
            (Some(_), Some(_)) => return Err("it has two versions".into()),
            _unknown => return Err("its version is not one of 0.1, 0.2, 0.3, 0.4".into()),
        }
        checked_name(&raw.name)?;
        if !(1..=64).contains(&raw.version.len()) || raw.version.chars().any(char::is_control) {
            return Err("`version` is no short text".into());
        }
        if !["node", "python", "binary", "uv"].contains(&raw.server.kind.as_str()) {
            return Err("`server.type` is not `node`, `python`, `binary` or `uv`".into());
        }
        let permissions = declared(raw.meta)?;
        Ok(Self {
            name: raw.name,
            version: raw.version,
            description: raw.description,
            author: raw.author.name,
            start: raw.server.mcp_config.map(Start::here),
            tools: raw.tools.into_iter().map(|tool| tool.name).collect(),
            permissions,
        })
    }
}

impl Start {
    fn here(config: McpConfig) -> Self {
        let mut overrides = config.platform_overrides;
        let mut start = Self {
            command: config.command,
            args: config.args,
            env: config.env,
        };
        if let Some(here) = overrides.remove("linux") {
            start.command = here.command.unwrap_or(start.command);
            start.args = here.args.unwrap_or(start.args);
            start.env.extend(here.env.unwrap_or_default());
        }
        start
    }

    /// With the folder that the content lies in.
    ///
    /// # Errors
    /// Names what else it wants to have put in.
    pub fn with_folder(&self, folder: &str) -> Result<Self, String> {
        let put = |text: &String| {
            let text = text.replace("${__dirname}", folder).replace("${/}", "/");
            match text.split_once("${") {
                None => Ok(text),
                Some((_, rest)) => {
                    let name: String = rest.chars().take_while(|c| *c != '}').take(64).collect();
                    Err(format!(
                        "it wants `${{{}}}`, which Cordon does not put in",
                        name.escape_default()
                    ))
                }
            }
        };
        let env = self.env.iter();
        Ok(Self {
            command: put(&self.command)?,
            args: self.args.iter().map(put).collect::<Result<_, _>>()?,
            env: env
                .map(|(name, value)| Ok((name.clone(), put(value)?)))
                .collect::<Result<_, String>>()?,
        })
    }
}

fn checked_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && name.len() <= 64 && name.chars().all(plain) {
        Ok(())
    } else {
        Err("`name` is not 1 to 64 letters, digits, `.`, `_`, `-`".into())
    }
}

/// The format has no place for permissions; this is ours.
fn declared(mut meta: BTreeMap<String, Value>) -> Result<Vec<String>, String> {
    let Some(ours) = meta.remove("org.cordon") else {
        return Ok(Vec::new());
    };
    let declared: Declared =
        serde_json::from_value(ours).map_err(|error| format!("`_meta.\"org.cordon\"`: {error}"))?;
    let mut permissions = declared.permissions;
    let usable =
        |name: &String| (1..=128).contains(&name.len()) && !name.chars().any(char::is_control);
    if permissions.len() > 64 || !permissions.iter().all(usable) {
        return Err("it declares more than 64 permissions, or one that is no short text".into());
    }
    permissions.sort_unstable();
    permissions.dedup();
    Ok(permissions)
}

const VERSIONS: [&str; 4] = ["0.1", "0.2", "0.3", "0.4"];
const MAX_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> Value {
        json!({
            "manifest_version": "0.4", "name": "notes", "version": "1.0", "description": "d",
            "author": {"name": "Ann"},
            "server": {"type": "node", "entry_point": "s.js", "mcp_config": {
                "command": "node", "args": ["${__dirname}/s.js"],
                "platform_overrides": {"linux": {"env": {"A": "1"}}, "win32": {"command": "n.exe"}},
            }},
            "tools": [{"name": "add", "description": "Adds"}],
            "_meta": {"org.cordon": {"permissions": ["net:b", "files:read", "net:b"]}, "x.y": 1},
        })
    }

    #[test]
    fn a_manifest_is_read_with_what_it_declares() {
        let read = Manifest::read(manifest().to_string().as_bytes()).unwrap();
        assert_eq!(read.permissions, ["files:read", "net:b"]);
        let start = read.start.unwrap().with_folder("mnt/notes").unwrap();
        assert_eq!(
            (start.args, start.env["A"].as_str()),
            (vec!["mnt/notes/s.js".into()], "1")
        );
        let mut older = manifest();
        let fields = older.as_object_mut().unwrap();
        let version = fields.remove("manifest_version").unwrap();
        fields.insert("dxt_version".into(), version);
        assert!(Manifest::read(older.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn what_the_format_does_not_know_is_refused() {
        for (key, value) in [
            ("surprise", json!(1)),
            ("dxt_version", json!("0.4")),
            ("manifest_version", json!("9")),
            ("name", json!("../x")),
            ("name", json!("a/b")),
            ("version", json!("")),
            ("author", json!("Ann")),
            ("server", json!({"type": "shell", "entry_point": "x"})),
            ("_meta", json!({"org.cordon": {"permission": []}})),
            ("_meta", json!({"org.cordon": {"permissions": [""]}})),
        ] {
            let mut other = manifest();
            other[key] = value.clone();
            let read = Manifest::read(other.to_string().as_bytes());
            assert!(read.is_err(), "{key}: {value}");
        }
        let twice = manifest()
            .to_string()
            .replacen('{', r#"{"name":"other","#, 1);
        assert!(
            Manifest::read(twice.as_bytes())
                .unwrap_err()
                .contains("twice")
        );
        let start = Start {
            command: "${user_config.key}".into(),
            ..Start::default()
        };
        assert!(
            start
                .with_folder("x")
                .unwrap_err()
                .contains("user_config.key")
        );
    }
}
