//! `[mcp]`: what passes through the gateway for tool servers.
//!
//! ```toml
//! [mcp]
//! result_bytes = 1_048_576      # largest answer of a server that reaches the agent
//!
//! [mcp.servers.tracker]
//! arguments = ["repo"]          # facts for policy: context.arguments.contains("repo=acme/site")
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

/// `[mcp]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpConfig {
    /// Largest answer of a server that is passed on, in bytes. Default 1 MiB, at most 8 MiB.
    pub result_bytes: Option<usize>,
    /// What is known about single servers, by name.
    pub servers: BTreeMap<String, McpServerConfig>,
}

/// `[mcp.servers.NAME]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpServerConfig {
    /// Names of arguments that policy is shown, and that are recorded. Default none.
    pub arguments: Vec<String>,
}

impl McpConfig {
    /// Largest answer of a server, in bytes.
    pub fn result_bytes(&self) -> usize {
        self.result_bytes.unwrap_or(1024 * 1024)
    }

    /// Names of arguments that are facts about calls of a server.
    pub fn arguments(&self, server: &str) -> &[String] {
        let server = self.servers.get(server);
        server.map_or(&[], |server| server.arguments.as_slice())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(1024..=MOST_RESULT_BYTES).contains(&self.result_bytes()) {
            return Err(format!(
                "`mcp.result_bytes` is between 1024 and {MOST_RESULT_BYTES}"
            ));
        }
        for (name, server) in &self.servers {
            let usable = |name: &String| (1..=128).contains(&name.len()) && !name.contains('=');
            if server.arguments.len() > MOST_ARGUMENTS || !server.arguments.iter().all(usable) {
                return Err(format!(
                    "`mcp.servers.{}.arguments` has at most {MOST_ARGUMENTS} names, each of at \
                     most 128 bytes and without `=`",
                    name.escape_default()
                ));
            }
        }
        Ok(())
    }

    /// The lower limit counts; what policy is shown adds up.
    pub(super) fn extend(&mut self, later: Self) {
        self.result_bytes = match (self.result_bytes, later.result_bytes) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        for (name, server) in later.servers {
            let arguments = &mut self.servers.entry(name).or_default().arguments;
            for argument in server.arguments {
                if !arguments.contains(&argument) {
                    arguments.push(argument);
                }
            }
        }
    }
}

const MOST_RESULT_BYTES: usize = 8 * 1024 * 1024;
const MOST_ARGUMENTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> McpConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_later_file_lowers_and_adds() {
        let mut config = read("result_bytes = 4096\n[servers.a]\narguments = [\"x\"]");
        config.extend(read(
            "result_bytes = 9000\n[servers.a]\narguments = [\"x\", \"y\"]",
        ));
        assert_eq!(config.result_bytes(), 4096);
        assert_eq!(config.arguments("a"), ["x", "y"]);
        assert!(config.arguments("b").is_empty());
        assert_eq!(read("").result_bytes(), 1_048_576);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, ok) in [
            ("result_bytes = 1024", true),
            ("result_bytes = 0", false),
            ("result_bytes = 99999999", false),
            ("[servers.a]\narguments = [\"a=b\"]", false),
            ("[servers.a]\narguments = [\"\"]", false),
        ] {
            assert_eq!(read(text).check().is_ok(), ok, "{text}");
        }
        assert!(toml::from_str::<McpConfig>("more = 1").is_err());
    }
}
