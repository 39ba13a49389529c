//! The policy of a world: sessions and grants as the command line names them, and the hosts that
//! the scenario allows; nothing else.

use std::fmt::Write as _;

/// Rules of a world, as text.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    hosts: Vec<String>,
    extra: String,
}

impl Policy {
    /// Allows every kind of network request to a host, on every port.
    pub fn allow(&mut self, host: &str) {
        if !self.hosts.iter().any(|known| known == host) {
            self.hosts.push(host.into());
        }
    }

    /// Takes it back.
    pub fn withdraw(&mut self, host: &str) {
        self.hosts.retain(|known| known != host);
    }

    /// Adds rules as they are.
    pub fn rule(&mut self, text: &str) {
        self.extra.push_str(text);
        self.extra.push('\n');
    }

    /// File names and texts of the policy folder.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let mut hosts = String::new();
        for host in &self.hosts {
            writeln!(
                hosts,
                "@id(\"allow-{host}\")\npermit (principal, action in Action::\"network\", \
                 resource == Host::\"{host}\");"
            )
            .expect("a text takes text");
        }
        let base = BASE.to_owned();
        let extra = self.extra.clone();
        vec![
            ("10-base.cedar", base),
            ("20-hosts.cedar", hosts),
            ("30-extra.cedar", extra),
        ]
    }
}

/// What every scenario may do: start, and open what its command line names.
const BASE: &str = r#"@id("start")
permit (principal, action in [Action::"start_session", Action::"exec"], resource);

@id("grants")
permit (principal, action in Action::"grant", resource);

@id("delete-in-rwd")
permit (principal, action == Action::"delete", resource) when { context.mode == "rwd" };
"#;
