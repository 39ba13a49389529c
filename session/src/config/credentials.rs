//! `[[credentials]]`: secrets that the proxy puts into requests, so that no session holds them.
//!
//! ```toml
//! [[credentials]]
//! name = "forge"                         # what rules call it: @credential("forge")
//! hosts = ["api.forge.example"]          # or "*.forge.example": where it may go at all
//! methods = ["GET", "POST"]              # every method where it is left out
//! path = "/repos"                        # this path and what is below it
//! as = "bearer"                          # bearer, basic:USER, header:NAME, query:NAME, aws-sigv4
//! from = "file:/etc/cordon/forge-token"  # file:, env:, systemd:, command:, keyring:
//! env_in_session = "FORGE_TOKEN"         # holds the placeholder inside
//! ```
//!
//! Text in, checked values out. Never reads a secret.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use cordon_policy::Host;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{canonical, covers};

/// One credential: where its value is kept, where it may go, and how it is put in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialConfig {
    /// What rules call it: `a-z`, `0-9`, `-`, at most 64 characters.
    pub name: String,
    /// Where it may go: host names, or `*.suffix` for everything below one.
    #[serde(deserialize_with = "patterns")]
    pub hosts: Vec<String>,
    /// Methods that it may go with; empty: every one.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Path that it may go to, with everything below; without it every one.
    #[serde(default)]
    pub path: Option<String>,
    /// How it is put in.
    #[serde(rename = "as", deserialize_with = "place")]
    pub place: CredentialPlace,
    /// Where its value is kept.
    #[serde(deserialize_with = "source")]
    pub from: CredentialSource,
    /// Variable of the session that holds the placeholder. `aws-sigv4` sets its own two.
    #[serde(default)]
    pub env_in_session: Option<String>,
    /// What the placeholder begins with, for programs that look at the shape of a token.
    #[serde(default)]
    pub placeholder_prefix: Option<String>,
    /// Seconds that a value is used before it is read again. Default 300.
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
    /// Whether it may go over plain HTTP. Default false.
    #[serde(default)]
    pub plain: bool,
    /// What becomes of the value where an answer sends it back. Default `mask`.
    #[serde(default)]
    pub echo: EchoedValue,
    /// `aws-sigv4`: the service that is signed for, for example `s3`.
    #[serde(default)]
    pub service: Option<String>,
    /// `aws-sigv4`: the region that is signed for, for example `eu-central-1`.
    #[serde(default)]
    pub region: Option<String>,
}

/// What becomes of a value that an answer sends back.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum EchoedValue {
    /// It is overwritten with `*`, and the origin is asked for a whole answer that is not
    /// compressed.
    #[default]
    Mask,
    /// The answer is refused, and so is one that cannot be looked into.
    Refuse,
    /// It goes to the session.
    Allow,
}

/// How a credential is put into a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CredentialPlace {
    /// `Authorization: Bearer VALUE`.
    Bearer,
    /// `Authorization: Basic`, the value as this user's password.
    Basic(String),
    /// The value as this field; its name in lower case.
    Header(String),
    /// The value under this key of the query.
    Query(String),
    /// Signed anew with AWS Signature Version 4. The value has two lines, access key id and secret
    /// access key, and may have a third, the session token.
    AwsSigV4,
}

/// Where the value of a credential is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CredentialSource {
    /// A file that nobody else can read.
    File(PathBuf),
    /// A variable of the daemon's environment.
    Env(String),
    /// A credential that the service manager passes to the daemon.
    Systemd(String),
    /// What a program prints. Its words; no shell.
    Command(Vec<String>),
    /// An entry of the desktop's keyring, read with `secret-tool`.
    Keyring {
        /// Its attribute `service`.
        service: String,
        /// Its attribute `username`.
        account: String,
    },
}

impl CredentialConfig {
    /// Most credentials of one configuration.
    pub const MOST: usize = 256;

    /// Whether it may go to this host.
    pub fn covers(&self, host: &Host) -> bool {
        self.hosts.iter().any(|pattern| covers(pattern, host))
    }

    /// Whether it may go with this method to this path.
    pub fn may_ask(&self, method: &str, path: &str) -> bool {
        let is_method = self.methods.is_empty() || self.methods.iter().any(|one| one == method);
        let is_path = self.path.as_deref().is_none_or(|prefix| {
            let below = path.strip_prefix(prefix.trim_end_matches('/'));
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        });
        is_method && is_path
    }

    /// How long a value is used before it is read again.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_seconds.unwrap_or(300).into())
    }

    /// Variables of the session that hold the placeholder.
    pub fn variables(&self) -> Vec<&str> {
        match &self.place {
            CredentialPlace::AwsSigV4 => vec!["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            CredentialPlace::Bearer
            | CredentialPlace::Basic(_)
            | CredentialPlace::Header(_)
            | CredentialPlace::Query(_) => self.env_in_session.iter().map(String::as_str).collect(),
        }
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let fail = |what: &str| Err(format!("credential `{}`: {what}", name.escape_debug()));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            return fail("the name is 1 to 64 characters of `a-z`, `0-9` and `-`");
        }
        if self.hosts.is_empty() {
            return fail("`hosts` is empty, so it could go nowhere; name a host");
        }
        let method =
            |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase());
        if !self.methods.iter().all(method) {
            return fail("a method is written in upper case, as in `GET`");
        }
        if self.path.as_deref().is_some_and(|path| !is_path(path)) {
            return fail("`path` begins with `/` and has no `?`, `#`, `%`, `..` or space");
        }
        if self
            .env_in_session
            .as_deref()
            .is_some_and(|name| !is_variable(name))
        {
            return fail("`env_in_session` is a variable's name: letters, digits and `_`");
        }
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let prefix = self.placeholder_prefix.as_deref().unwrap_or("cordon");
        if !(2..=32).contains(&prefix.len()) || !prefix.bytes().all(token) {
            return fail("`placeholder_prefix` is 2 to 32 letters, digits, `-` and `_`");
        }
        let is_aws = self.place == CredentialPlace::AwsSigV4;
        if is_aws != (self.service.is_some() && self.region.is_some())
            || is_aws != (self.service.is_some() || self.region.is_some())
        {
            return fail("`service` and `region` belong to `as = \"aws-sigv4\"`, both of them");
        }
        if is_aws && self.env_in_session.is_some() {
            return fail(
                "`aws-sigv4` sets `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` by itself; take \
                 `env_in_session` away",
            );
        }
        Ok(())
    }
}

/// Checks what belongs together.
pub(super) fn check(all: &[CredentialConfig]) -> Result<(), String> {
    if all.len() > CredentialConfig::MOST {
        let most = CredentialConfig::MOST;
        return Err(format!("there are more than {most} credentials"));
    }
    let (mut names, mut variables) = (HashSet::new(), HashSet::new());
    for credential in all {
        credential.check()?;
        if !names.insert(&credential.name) {
            return Err(format!("two credentials are named `{}`", credential.name));
        }
        for variable in credential.variables() {
            if !variables.insert(variable) {
                return Err(format!(
                    "two credentials have their placeholder in the variable `{variable}`"
                ));
            }
        }
    }
    Ok(())
}

/// Fields that are about the message or its way, never about who asks.
const NOT_CREDENTIALS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

fn place<'de, D: Deserializer<'de>>(from: D) -> Result<CredentialPlace, D::Error> {
    let text = String::deserialize(from)?;
    let read = match text.split_once(':') {
        None if text == "bearer" => Some(CredentialPlace::Bearer),
        None if text == "aws-sigv4" => Some(CredentialPlace::AwsSigV4),
        Some(("basic", user)) if is_user(user) => Some(CredentialPlace::Basic(user.to_owned())),
        Some(("query", key)) if is_token(key) => Some(CredentialPlace::Query(key.to_owned())),
        Some(("header", name)) => {
            let name = name.to_ascii_lowercase();
            let is_own = !NOT_CREDENTIALS.contains(&&*name) && !name.starts_with("proxy-");
            (is_token(&name) && is_own).then_some(CredentialPlace::Header(name))
        }
        _other => None,
    };
    read.ok_or_else(|| {
        D::Error::custom(format!(
            "`as = {text:?}` is not a place for a credential: write `bearer`, `basic:USER`, \
             `header:NAME`, `query:NAME` or `aws-sigv4`"
        ))
    })
}

fn source<'de, D: Deserializer<'de>>(from: D) -> Result<CredentialSource, D::Error> {
    let text = String::deserialize(from)?;
    let read = match text.split_once(':') {
        Some(("file", path)) if path.starts_with('/') => Some(CredentialSource::File(path.into())),
        Some(("env", name)) if is_variable(name) => Some(CredentialSource::Env(name.to_owned())),
        Some(("systemd", name)) if is_file_name(name) => {
            Some(CredentialSource::Systemd(name.to_owned()))
        }
        Some(("command", words)) => {
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            (!words.is_empty()).then_some(CredentialSource::Command(words))
        }
        Some(("keyring", entry)) => entry.split_once('/').and_then(|(service, account)| {
            let is_there = !service.is_empty() && !account.is_empty();
            is_there.then(|| CredentialSource::Keyring {
                service: service.to_owned(),
                account: account.to_owned(),
            })
        }),
        // What was written here may be the secret itself: it is not repeated.
        _other => None,
    };
    read.ok_or_else(|| {
        D::Error::custom(
            "`from` does not say where the credential is kept: write `file:/PATH`, `env:NAME`, \
             `systemd:NAME`, `command:PROGRAM ARGUMENT ...` or `keyring:SERVICE/ACCOUNT`",
        )
    })
}

fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let read = |raw: String| {
        let pattern = match raw.strip_prefix("*.") {
            Some(suffix) => canonical(suffix).map(|suffix| format!("*.{suffix}")),
            None => canonical(&raw),
        };
        pattern.map_err(D::Error::custom)
    };
    Vec::<String>::deserialize(from)?
        .into_iter()
        .map(read)
        .collect()
}

fn is_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%' | '\\');
    let dots = |segment: &str| matches!(segment, "." | "..");
    path.starts_with('/') && path.chars().all(plain) && !path.split('/').any(dots)
}

/// A user of Basic: no colon, which ends it (RFC 7617 section 2), and nothing that is not shown.
fn is_user(user: &str) -> bool {
    !user.is_empty() && user.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

/// A token that needs no encoding in a query and is fine as a field's name.
fn is_token(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

fn is_variable(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    starts && name.len() <= 128 && name.bytes().all(plain)
}

fn is_file_name(name: &str) -> bool {
    is_token(name) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(&[file.path()]).map_err(|error| error.to_string())
    }

    fn with(lines: &str) -> String {
        format!(
            "[[credentials]]\nname = \"forge\"\nhosts = [\"API.forge.example\", \"*.b.example\"]\n{lines}\n"
        )
    }

    #[test]
    fn n21_places_and_sources_are_read() {
        for (text, expected) in [
            ("bearer", CredentialPlace::Bearer),
            ("basic:x-token", CredentialPlace::Basic("x-token".into())),
            (
                "header:X-Api-Key",
                CredentialPlace::Header("x-api-key".into()),
            ),
            ("query:key", CredentialPlace::Query("key".into())),
        ] {
            let config = load(&with(&format!("as = {text:?}\nfrom = \"env:A\""))).unwrap();
            assert_eq!(config.credentials[0].place, expected);
        }
        for (text, expected) in [
            ("file:/a/b", CredentialSource::File("/a/b".into())),
            ("systemd:forge", CredentialSource::Systemd("forge".into())),
            (
                "command:gh auth token",
                CredentialSource::Command(vec!["gh".into(), "auth".into(), "token".into()]),
            ),
            (
                "keyring:forge/me",
                CredentialSource::Keyring {
                    service: "forge".into(),
                    account: "me".into(),
                },
            ),
        ] {
            let config = load(&with(&format!("as = \"bearer\"\nfrom = {text:?}"))).unwrap();
            assert_eq!(config.credentials[0].from, expected);
        }
    }

    #[test]
    fn n21_where_a_credential_may_go_is_a_ceiling() {
        let text =
            with("as = \"bearer\"\nfrom = \"env:A\"\nmethods = [\"GET\"]\npath = \"/repos/\"");
        let credential = load(&text).unwrap().credentials.remove(0);
        let host = |name: &str| Host::Name(name.parse().unwrap());
        assert!(
            credential.covers(&host("api.forge.example"))
                && credential.covers(&host("x.b.example"))
        );
        assert!(
            !credential.covers(&host("forge.example")) && !credential.covers(&host("b.example"))
        );
        assert!(!credential.covers(&Host::Address("127.0.0.1".parse().unwrap())));
        for (method, path, expected) in [
            ("GET", "/repos", true),
            ("GET", "/repos/a", true),
            ("GET", "/reposit", false),
            ("GET", "/", false),
            ("POST", "/repos", false),
        ] {
            assert_eq!(
                credential.may_ask(method, path),
                expected,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn f14_mistakes_are_errors_and_repeat_no_secret() {
        let secret = "ghp_0123456789abcdef";
        for (lines, expected) in [
            ("as = \"bearer\"", "missing field `from`"),
            (
                "as = \"cookie\"\nfrom = \"env:A\"",
                "not a place for a credential",
            ),
            (
                "as = \"header:Host\"\nfrom = \"env:A\"",
                "not a place for a credential",
            ),
            (
                "as = \"basic:a:b\"\nfrom = \"env:A\"",
                "not a place for a credential",
            ),
            (
                "as = \"bearer\"\nfrom = \"file:relative\"",
                "does not say where",
            ),
            ("as = \"bearer\"\nfrom = \"env:A B\"", "does not say where"),
            (
                "as = \"bearer\"\nfrom = \"systemd:../x\"",
                "does not say where",
            ),
            (
                "as = \"bearer\"\nvalue = \"ghp_0123456789abcdef\"",
                "line 5: unknown field `value`",
            ),
            (
                "as = \"bearer\"\nfrom = \"ghp_0123456789abcdef\"",
                "does not say where",
            ),
            (
                "as = \"bearer\"\nfrom = \"env:A\"\npath = \"repos\"",
                "`path` begins",
            ),
            (
                "as = \"bearer\"\nfrom = \"env:A\"\nmethods = [\"get\"]",
                "upper case",
            ),
            (
                "as = \"bearer\"\nfrom = \"env:A\"\nregion = \"x\"",
                "both of them",
            ),
            (
                "as = \"aws-sigv4\"\nfrom = \"env:A\"\nregion = \"x\"",
                "both of them",
            ),
            (
                "as = \"bearer\"\nfrom = \"env:A\"\nplaceholder_prefix = \"a b\"",
                "placeholder_prefix",
            ),
            (
                "as = \"bearer\"\nfrom = \"env:A\"\nenv_in_session = \"A B\"",
                "env_in_session",
            ),
        ] {
            let error = load(&with(lines)).unwrap_err();
            assert!(error.contains(expected), "{lines}: {error}");
            assert!(!error.contains(secret), "{error}");
        }
        let twice = with("as = \"bearer\"\nfrom = \"env:A\"");
        assert!(
            load(&format!("{twice}{twice}"))
                .unwrap_err()
                .contains("two credentials")
        );
        assert!(load(&twice).is_ok());
    }
}
