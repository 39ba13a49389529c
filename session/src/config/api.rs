//! `[api]`: the API for other machines and other people, over TLS. Off by default.
//!
//! ```toml
//! [api]
//! listen = "192.0.2.10:8443"
//! certificate = "/etc/cordon/api.pem"      # with its chain
//! key = "/etc/cordon/api.key"
//! client_ca = "/etc/cordon/clients.pem"    # callers must show a certificate of this authority
//! crl = ["/etc/cordon/clients.crl"]        # and none that it has revoked
//! url = "https://cordon.example.com"       # what the discovery document says
//!
//! [[api.callers]]
//! name = "bob"                             # the user that policy and the log know
//! groups = ["cordon-approvers"]
//! token_sha256 = "9f86…"                   # of a bearer token; or:
//! certificate = "bob@example.com"          # a name in the certificate
//!
//! [api.limits]                             # these are the defaults
//! head_seconds = 60                        # for a request's head; the socket's too, like the next two
//! body_seconds = 30                        # for its body
//! answer_seconds = 60                      # for a client to take a part of an answer
//! strangers = 64                           # connections of callers that are not known yet
//! connections_per_caller = 64
//! ```

use std::{collections::BTreeSet, net::SocketAddr, num::NonZeroU16, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::limits::seconds;

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
    /// PEM files of the revocation lists of those authorities; with it a certificate is taken only
    /// where a list that is not out of date does not have it.
    pub crl: Vec<PathBuf>,
    /// The address that callers know it by: `https`, without path. Default: as they call it.
    pub url: Option<String>,
    /// `[[api.callers]]`: who may call.
    pub callers: Vec<ApiCaller>,
    /// `[api.limits]`: how long and how many.
    pub limits: ApiLimits,
}

/// Bounds of the API's connections. Absent values keep their defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiLimits {
    /// Time for the head of a request, also the longest rest between two. Default 60 s.
    #[serde(deserialize_with = "seconds")]
    pub head_seconds: Option<Duration>,
    /// Time for the body of a request, from its head on. Default 30 s.
    #[serde(deserialize_with = "seconds")]
    pub body_seconds: Option<Duration>,
    /// Time for a client to take a part of an answer when nothing more fits. Default 60 s.
    #[serde(deserialize_with = "seconds")]
    pub answer_seconds: Option<Duration>,
    /// Connections over TLS of callers that are not known yet. Default 64.
    pub strangers: Option<NonZeroU16>,
    /// Connections over TLS of each caller that is known. Default 64.
    pub connections_per_caller: Option<NonZeroU16>,
}

/// One caller. It is who its name says: one that is called like the daemon's user may what that
/// user may; any other, what policy permits them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiCaller {
    /// Its name as a user.
    pub name: String,
    /// Groups that policy may name. One that is called like the daemon's user is in that user's too.
    #[serde(default)]
    pub groups: Vec<String>,
    /// SHA-256 of its bearer token, lower-case hex.
    pub token_sha256: Option<String>,
    /// A name in its certificate: DNS name, URI or e-mail address of the subject alternative names.
    pub certificate: Option<String>,
    /// Whether it may start commands on this machine at all; policy decides each.
    #[serde(default)]
    pub commands: bool,
}

impl ApiConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        match (self.listen, self.of_a_listener()) {
            (None, Some(key)) => {
                return Err(format!(
                    "`api.{key}` has no `listen` beside it: say both in one file, because a later \
                     file's `listen` brings all of `api` along"
                ));
            }
            (None, None) => return Ok(()),
            (Some(_), _) if self.certificate.is_none() || self.key.is_none() => {
                return Err("`api.listen` needs `certificate` and `key`: it is TLS alone".into());
            }
            (Some(_), _) => {}
        }
        if self.client_ca.is_none() && !self.crl.is_empty() {
            return Err("`api.crl` revokes certificates of `client_ca`, and there is none".into());
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

    /// The first key that says something of `listen`. Without that it would be dropped, and a
    /// restriction with it.
    fn of_a_listener(&self) -> Option<&'static str> {
        [
            ("certificate", self.certificate.is_some()),
            ("key", self.key.is_some()),
            ("client_ca", self.client_ca.is_some()),
            ("crl", !self.crl.is_empty()),
            ("url", self.url.is_some()),
            ("callers", !self.callers.is_empty()),
        ]
        .into_iter()
        .find_map(|(key, said)| said.then_some(key))
    }

    /// One place says where and for whom: what a later file says replaces it. Limits are one by one.
    pub(super) fn extend(&mut self, mut later: Self) {
        let limits = std::mem::take(&mut self.limits).under(std::mem::take(&mut later.limits));
        if later.listen.is_some() {
            *self = later;
        }
        self.limits = limits;
    }
}

impl ApiLimits {
    /// Values of `over` where it has them, else these.
    fn under(self, over: Self) -> Self {
        Self {
            head_seconds: over.head_seconds.or(self.head_seconds),
            body_seconds: over.body_seconds.or(self.body_seconds),
            answer_seconds: over.answer_seconds.or(self.answer_seconds),
            strangers: over.strangers.or(self.strangers),
            connections_per_caller: over.connections_per_caller.or(self.connections_per_caller),
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
        assert!(
            read("[limits]\nbody_seconds = 0.5").is_ok(),
            "the socket has limits too"
        );
        for (text, named) in [
            (format!("crl = [\"/a\"]\n{base}"), "client_ca"),
            ("[limits]\nstrangers = 0".into(), "nonzero"),
            ("[limits]\nbody_seconds = 0".into(), "0.001"),
            ("[limits]\nfriends = 1".into(), "friends"),
            ("listen = \"127.0.0.1:8443\"".to_owned(), "TLS alone"),
            ("certificate = \"/c\"".into(), "no `listen`"),
            (
                "client_ca = \"/a\"".into(),
                "`api.client_ca` has no `listen`",
            ),
            ("crl = [\"/a\"]".into(), "`api.crl` has no `listen`"),
            ("url = \"https://a\"".into(), "`api.url` has no `listen`"),
            ("[[callers]]\nname = \"bob\"".into(), "`api.callers` has no"),
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

    #[test]
    fn what_a_later_file_says_of_limits_is_added() {
        let config = |text: &str| toml::from_str::<ApiConfig>(text).unwrap();
        let mut all = config(
            "listen = \"127.0.0.1:1\"\n[limits]\nhead_seconds = 1\nbody_seconds = 2\nstrangers = 3",
        );
        all.extend(config("[limits]\nbody_seconds = 4"));
        assert_eq!(all.limits.head_seconds, Some(Duration::from_secs(1)));
        assert_eq!(all.limits.body_seconds, Some(Duration::from_secs(4)));
        assert!(all.listen.is_some(), "and says nothing of the rest");
        all.extend(config("listen = \"127.0.0.1:2\""));
        assert_eq!(all.listen.unwrap().port(), 2);
        assert_eq!(all.limits.strangers.unwrap().get(), 3);
    }
}
