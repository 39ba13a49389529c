//! `[connectors]`: services that a session can be given, each with its scopes.
//!
//! ```toml
//! [connectors.tracker]
//! description = "Issues of this organisation"
//! publisher = "Tracker Inc."
//! kind = "mcp"                              # or "http"
//! endpoint = "https://tracker.example.com/mcp"
//! credential = "tracker"                    # a name of `[[credentials]]`
//!
//! [connectors.tracker.scopes]
//! "read:issues" = "Read issues and comments"
//! "write:issues" = "Open and close issues"
//!
//! [connectors.tracker.tools]                # which scope each tool needs
//! "search" = "read:issues"
//! "close" = "write:issues"
//! ```

use std::collections::BTreeMap;

use cordon_policy::{Destination, Scheme};
use serde::Deserialize;

/// `[connectors.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectorConfig {
    /// What it is, in a few words. Default empty.
    #[serde(default)]
    pub description: String,
    /// Who offers it. Default empty.
    #[serde(default)]
    pub publisher: String,
    /// How it is spoken to.
    pub kind: ConnectorKind,
    /// Where it is: an `https` address. Absent for a server that is started here.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Name of its entry in `[[credentials]]`. Default none.
    #[serde(default)]
    pub credential: Option<String>,
    /// Its scopes, each with what it is for. At least one, at most 256.
    pub scopes: BTreeMap<String, String>,
    /// The scope that each tool needs, at most 1024. Default none: of a server that is spoken to at
    /// its endpoint no tool can be used then.
    #[serde(default)]
    pub tools: BTreeMap<String, String>,
    /// The scope that its resources need. Default none: then they cannot be read, as with tools.
    #[serde(default)]
    pub resources: Option<String>,
    /// The scope that its prompts need. Default none, as with resources.
    #[serde(default)]
    pub prompts: Option<String>,
}

/// How a connector is spoken to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum ConnectorKind {
    /// By the Model Context Protocol.
    Mcp,
    /// By an HTTP API of its own.
    Http,
}

impl ConnectorKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Http => "http",
        }
    }
}

impl ConnectorConfig {
    /// Refuses what policy could not name.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let shown = name.escape_default();
        if !first || name.len() > 64 || !name.chars().all(plain) {
            return Err(format!(
                "`connectors.{shown}`: a name is 1 to 64 letters, digits, `.`, `_`, `-`"
            ));
        }
        let usable = |scope: &String| {
            (1..=128).contains(&scope.len()) && !scope.chars().any(char::is_control)
        };
        if !(1..=256).contains(&self.scopes.len()) || !self.scopes.keys().all(usable) {
            return Err(format!(
                "`connectors.{shown}.scopes` has 1 to 256 scopes, each of at most 128 bytes"
            ));
        }
        let mut needed = self
            .tools
            .values()
            .chain(&self.resources)
            .chain(&self.prompts);
        if let Some(unknown) = needed.find(|scope| !self.scopes.contains_key(*scope)) {
            return Err(format!(
                "`connectors.{shown}` has no scope `{}`, which its `tools`, `resources` or \
                 `prompts` need",
                unknown.escape_default()
            ));
        }
        if self.tools.len() > MOST_TOOLS {
            return Err(format!(
                "`connectors.{shown}.tools` has more than {MOST_TOOLS} tools"
            ));
        }
        match &self.endpoint {
            Some(endpoint) if Endpoint::read(endpoint).is_none() => Err(format!(
                "`connectors.{shown}.endpoint` is not `https://HOST[:PORT]/PATH`, without a user, \
                 a query or a fragment"
            )),
            _fine => Ok(()),
        }
    }

    /// Where it is spoken to, where that is an endpoint.
    pub fn endpoint(&self) -> Option<Endpoint> {
        Endpoint::read(self.endpoint.as_deref()?)
    }

    /// Whether each tool needs a scope that is named here.
    pub fn maps_tools(&self) -> bool {
        self.endpoint.is_some() || !self.tools.is_empty()
    }
}

/// An `https` address, in its parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// What is connected to.
    pub destination: Destination,
    /// Host and port as they stand there.
    pub authority: String,
    /// The path.
    pub path: String,
}

impl Endpoint {
    fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?;
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(at)?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>^`{|}".contains(&byte);
        if !path.bytes().all(plain) || text.len() > MAX_ENDPOINT_BYTES {
            return None;
        }
        Some(Self {
            destination: Destination::from_url_authority(authority.as_bytes(), Scheme::Https)
                .ok()?,
            authority: authority.into(),
            path: if path.is_empty() { "/" } else { path }.into(),
        })
    }
}

const MOST_TOOLS: usize = 1024;
const MAX_ENDPOINT_BYTES: usize = 2048;

/// A later file adds connectors; it does not change one that is named already.
pub(super) fn extend(
    connectors: &mut BTreeMap<String, ConnectorConfig>,
    later: BTreeMap<String, ConnectorConfig>,
) -> Result<(), String> {
    for (name, connector) in later {
        if connectors.contains_key(&name) {
            let shown = name.escape_default();
            return Err(format!(
                "`connectors.{shown}` is in an earlier file already"
            ));
        }
        connectors.insert(name, connector);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Connectors = BTreeMap<String, ConnectorConfig>;

    fn read(text: &str) -> Result<Connectors, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn what_policy_could_not_name_is_refused() {
        let scopes = "scopes = { \"read\" = \"r\" }";
        for (text, ok) in [
            (format!("[a]\nkind = \"mcp\"\n{scopes}"), true),
            (
                format!("[a]\nkind = \"http\"\nendpoint = \"https://a.test\"\n{scopes}"),
                true,
            ),
            (
                format!("[a]\nkind = \"http\"\nendpoint = \"http://a.test\"\n{scopes}"),
                false,
            ),
            (format!("[\"a/b\"]\nkind = \"mcp\"\n{scopes}"), false),
            ("[a]\nkind = \"mcp\"\nscopes = {}".into(), false),
            (
                "[a]\nkind = \"mcp\"\nscopes = { \"\" = \"\" }".into(),
                false,
            ),
            (
                format!("[a]\nkind = \"mcp\"\n{scopes}\ntools = {{ \"t\" = \"read\" }}"),
                true,
            ),
            (
                format!("[a]\nkind = \"mcp\"\n{scopes}\ntools = {{ \"t\" = \"write\" }}"),
                false,
            ),
            (
                format!("[a]\nkind = \"mcp\"\n{scopes}\nresources = \"write\""),
                false,
            ),
        ] {
            let connectors = read(&text).unwrap();
            let all = connectors.iter().all(|(name, one)| one.check(name).is_ok());
            assert_eq!(all, ok, "{text}");
        }
        assert!(read(&format!("[a]\nkind = \"other\"\n{scopes}")).is_err());
        assert!(read(&format!("[a]\nkind = \"mcp\"\nmore = 1\n{scopes}")).is_err());
    }

    #[test]
    fn an_endpoint_is_one_host_and_one_path() {
        let read = |text: &str| {
            let endpoint = Endpoint::read(text)?;
            Some((endpoint.destination.to_string(), endpoint.path))
        };
        let is = |destination: &str, path: &str| Some((destination.to_owned(), path.to_owned()));
        assert_eq!(read("https://A.test/mcp"), is("a.test:443", "/mcp"));
        assert_eq!(read("https://a.test:8443"), is("a.test:8443", "/"));
        for text in [
            "http://a.test/",
            "https://",
            "https:///mcp",
            "https://u:p@a.test/",
            "https://a.test/?x",
            "https://a.test/#x",
            "https://a.test?x",
            "https://a.test/ b",
            "https://a.test\\@b.test/",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_later_file_does_not_widen_an_earlier_connector() {
        let one = || read("[a]\nkind = \"mcp\"\nscopes = { \"read\" = \"r\" }").unwrap();
        let mut connectors = one();
        assert!(extend(&mut connectors, one()).is_err());
        let other = read("[b]\nkind = \"mcp\"\nscopes = { \"x\" = \"y\" }").unwrap();
        extend(&mut connectors, other).unwrap();
        assert_eq!(connectors.len(), 2);
    }
}
