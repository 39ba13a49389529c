//! `[api]`: the API for other machines and other people, over TLS. Off by default.
//!
//! ```toml
//! [api]
//! listen = "192.0.2.10:8443"
//! certificate = "/etc/cordon/api.pem"      # with its chain
//! key = "/etc/cordon/api.key"
//! client_ca = "/etc/cordon/clients.pem"    # callers must show a certificate of this authority
//! url = "https://cordon.example.com"       # what the discovery document says
//!
//! [[api.callers]]
//! name = "bob"                             # the user that policy and the log know
//! groups = ["cordon-approvers"]
//! token_sha256 = "9f86…"                   # of a bearer token; or:
//! certificate = "bob@example.com"          # a name in the certificate
//! ```

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use serde::Deserialize;

/// `[api]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it is served, by address and port. Nowhere by default.
    pub listen: Option<SocketAddr>,
    /// PEM file of the certificate with its chain.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// PEM file of the authorities of callers' certificates; with it every caller must show one.
    pub client_ca: Option<PathBuf>,
    /// The address that callers know it by: `https`, without path. Default: as they call it.
    pub url: Option<String>,
    /// `[[api.callers]]`: who may call.
    pub callers: Vec<ApiCaller>,
}

/// One caller. It is who its name says: one that is called like the daemon's user may what that
/// user may; any other, what policy permits them of administration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiCaller {
    /// Its name as a user.
    pub name: String,
    /// Groups that policy may name.
    #[serde(default)]
    pub groups: Vec<String>,
    /// SHA-256 of its bearer token, lower-case hex.
    pub token_sha256: Option<String>,
    /// A name in its certificate: DNS name, URI or e-mail address of the subject alternative names.
    pub certificate: Option<String>,
}

impl ApiConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let said = self.certificate.is_some() || self.key.is_some() || !self.callers.is_empty();
        match self.listen {
            None if said => return Err("`api` says much and has no `listen`".into()),
            None => return Ok(()),
            Some(_) if self.certificate.is_none() || self.key.is_none() => {
                return Err("`api.listen` needs `certificate` and `key`: it is TLS alone".into());
            }
            Some(_) => {}
        }
        if let Some(url) = &self.url {
            let host = url.strip_prefix("https://").unwrap_or_default();
            if host.is_empty() || host.contains(['/', '?', '#', '@']) {
                return Err("`api.url` is `https://HOST[:PORT]` and nothing more".into());
            }
        }
        let mut names = BTreeSet::new();
        for caller in &self.callers {
            caller.check(self.client_ca.is_some())?;
            if !names.insert(&caller.name) {
                return Err(format!(
                    "caller {:?} of `api` stands there twice",
                    caller.name
                ));
            }
        }
        Ok(())
    }

    /// One place says it all: what a later file says replaces it.
    pub(super) fn extend(&mut self, later: Self) {
        if later.listen.is_some() {
            *self = later;
        }
    }
}

impl ApiCaller {
    fn check(&self, certificates: bool) -> Result<(), String> {
        let name = &self.name;
        let fail = |what: &str| Err(format!("caller {name:?} of `api` {what}"));
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return fail("has no usable name");
        }
        let is_digest = |text: &String| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match (&self.token_sha256, &self.certificate) {
            (None, None) => fail("needs `token_sha256` or `certificate`"),
            (Some(digest), _) if !is_digest(digest) => {
                fail("has a `token_sha256` that is not 64 lower-case hex digits")
            }
            (_, Some(_)) if !certificates => {
                fail("has a `certificate`, and there is no `client_ca`")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let read = |text: &str| -> Result<ApiConfig, String> {
            let config: ApiConfig = toml::from_str(text).map_err(|error| error.to_string())?;
            config.check().map(|()| config)
        };
        let base = "listen = \"127.0.0.1:8443\"\ncertificate = \"/c\"\nkey = \"/k\"\n";
        let digest = "ab".repeat(32);
        let caller = |rest: &str| format!("{base}[[callers]]\nname = \"bob\"\n{rest}");
        assert!(read("").unwrap().listen.is_none());
        assert!(read(&caller(&format!("token_sha256 = \"{digest}\""))).is_ok());
        assert!(
            read(&format!(
                "client_ca = \"/a\"\n{}",
                caller("certificate = \"bob\"")
            ))
            .is_ok()
        );
        for (text, named) in [
            ("listen = \"127.0.0.1:8443\"".to_owned(), "TLS alone"),
            ("certificate = \"/c\"".into(), "no `listen`"),
            (format!("url = \"http://a\"\n{base}"), "api.url"),
            (format!("url = \"https://a/b\"\n{base}"), "api.url"),
            (caller(""), "needs"),
            (caller("token_sha256 = \"AB\""), "64"),
            (caller("certificate = \"bob\""), "client_ca"),
            (caller("password = \"x\""), "password"),
            (
                format!(
                    "{0}token_sha256 = \"{digest}\"\n[[callers]]\nname = \"bob\"\ntoken_sha256 = \"{digest}\"",
                    caller("")
                ),
                "twice",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
