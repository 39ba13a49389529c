//! `[policy]` of `cordon.toml`: where bundles come from, and who is trusted to sign them.
//!
//! ```toml
//! [policy]
//! trust = "/etc/cordon/trust.toml"       # with it nothing unsigned is loaded
//! contact = "policy@example.com"         # whom refusals tell a caller to ask
//! keep = 5                               # revisions kept for a rollback, per layer
//!
//! [[policy.bundle]]
//! layer = "organisation"                 # or "team", "user"; at most one of each
//! source = "dir:/etc/cordon/policy"      # or "https://...", "oci://registry/name:tag", "manual"
//! poll_seconds = 60                      # how often it is looked for; 5 to 86400
//! adopt = "live"                         # or "manual": what arrives waits for `policy promote`
//! credentials = "/etc/cordon/registry"   # a file `user:password`, for https and oci
//! ```

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use cordon_policy::Layer;
use serde::{Deserialize, Deserializer, de::Error as _};

/// `[policy]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Trust file: whose signatures count. Without it bundles need none.
    pub trust: Option<PathBuf>,
    /// Revisions of each layer that are kept for a rollback. Default 5, at least 2.
    pub keep: Option<u16>,
    /// Whom refusals tell a caller to ask: an address of mail or web, or words; up to 200 bytes on
    /// one line. Without it they say "whoever owns the policy".
    pub contact: Option<String>,
    /// `[[policy.bundle]]`: at most one of each layer.
    pub bundle: Vec<BundleConfig>,
}

/// One `[[policy.bundle]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleConfig {
    /// The layer that it is; the bundle must say the same of itself.
    pub layer: Layer,
    /// Where it comes from.
    pub source: BundleSource,
    /// How often it is looked for, in seconds. Default 60.
    #[serde(default)]
    pub poll_seconds: Option<u32>,
    /// What happens to a new revision.
    #[serde(default)]
    pub adopt: Adopt,
    /// A file with `user:password`, for a server that asks for one. Never sent over plain HTTP.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
}

/// What happens to a new revision that a source brings.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Adopt {
    /// It goes into force.
    #[default]
    Live,
    /// It waits for `cordon policy rollout` or `cordon policy promote`.
    Manual,
}

/// Where a bundle comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BundleSource {
    /// A directory, or an archive in a file; watched.
    Path(PathBuf),
    /// An archive by HTTP or HTTPS.
    Http(HttpUrl),
    /// A layer of an image in a registry.
    Oci(OciReference),
    /// Nowhere: bundles are put into force by `cordon policy publish` alone.
    Manual,
}

/// An HTTP address, as far as fetching needs it taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
}

/// An image in a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OciReference {
    /// Registry.
    pub registry: HttpUrl,
    /// Repository.
    pub repository: String,
    /// Tag, or `sha256:` and 64 hex digits.
    pub reference: String,
}

impl PolicyConfig {
    /// Revisions of each layer that are kept.
    pub fn keep(&self) -> usize {
        self.keep.unwrap_or(5).max(2).into()
    }

    /// The bundle of a layer.
    pub fn of(&self, layer: Layer) -> Option<&BundleConfig> {
        self.bundle.iter().find(|bundle| bundle.layer == layer)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.trust.as_deref().is_some_and(Path::is_relative) {
            return Err("`policy.trust` is not an absolute path; begin it with `/`".into());
        }
        if self.keep.is_some_and(|keep| !(2..=1000).contains(&keep)) {
            return Err("`policy.keep` is not between 2 and 1000".into());
        }
        let contact = self.contact.as_deref().unwrap_or("-");
        if contact.is_empty() || contact.len() > 200 || contact.contains(char::is_control) {
            return Err("`policy.contact` is not one line of 1 to 200 bytes".into());
        }
        for (at, bundle) in self.bundle.iter().enumerate() {
            bundle.check()?;
            let twice = self.bundle.iter().skip(at + 1);
            if twice.into_iter().any(|other| other.layer == bundle.layer) {
                return Err(twice_named(bundle.layer));
            }
        }
        Ok(())
    }

    /// A later file may add a layer; it may not replace what an earlier one (the machine's own)
    /// has laid down.
    pub(super) fn extend(&mut self, later: Self) -> Result<(), String> {
        if let Some(trust) = later.trust {
            if self.trust.is_some() {
                return Err(
                    "`policy.trust` is set by an earlier file already; remove it here".into(),
                );
            }
            if !self.bundle.is_empty() {
                return Err(
                    "`policy.trust` comes after an earlier file's bundles; it belongs \
                            into the file that names them"
                        .into(),
                );
            }
            self.trust = Some(trust);
        }
        for bundle in later.bundle {
            if self.of(bundle.layer).is_some() {
                return Err(twice_named(bundle.layer));
            }
            self.bundle.push(bundle);
        }
        self.keep = self.keep.or(later.keep);
        self.contact = self.contact.take().or(later.contact);
        self.check_plain()
    }

    /// Without TLS anybody on the way can put rules in; only a signature stops that.
    pub(super) fn check_plain(&self) -> Result<(), String> {
        let open = self.bundle.iter().find(|bundle| match &bundle.source {
            BundleSource::Http(url) => !url.tls && !url.is_loopback(),
            BundleSource::Path(_) | BundleSource::Oci(_) | BundleSource::Manual => false,
        });
        match open {
            Some(bundle) if self.trust.is_none() => Err(format!(
                "`{}` is plain HTTP and `policy.trust` is not set, so anybody on the way could \
                 change policy; use https, or signed bundles with a trust file",
                bundle.source
            )),
            _ => Ok(()),
        }
    }
}

fn twice_named(layer: Layer) -> String {
    format!("there is a `[[policy.bundle]]` of layer `{layer}` already; a layer has one bundle")
}

impl BundleConfig {
    /// How often it is looked for.
    pub fn poll(&self) -> Duration {
        Duration::from_secs(self.poll_seconds.unwrap_or(60).into())
    }

    fn check(&self) -> Result<(), String> {
        if self.layer == Layer::Workspace {
            return Err(
                "a workspace's policy lies in its folder, as `.cordon/policy`; \
                        `[[policy.bundle]]` is for organisation, team and user"
                    .into(),
            );
        }
        if self
            .poll_seconds
            .is_some_and(|s| !(5..=86_400).contains(&s))
        {
            return Err("`poll_seconds` is not between 5 and 86400".into());
        }
        if self.credentials.as_deref().is_some_and(Path::is_relative) {
            return Err("`credentials` is not an absolute path; begin it with `/`".into());
        }
        Ok(())
    }
}

impl FromStr for BundleSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "manual" {
            return Ok(Self::Manual);
        }
        if let Some(path) = text.strip_prefix("dir:").or(text.strip_prefix("file:")) {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Path(path))
            } else {
                Err(format!(
                    "`{text}` is not an absolute path; begin it with `/`"
                ))
            };
        }
        if let Some(rest) = text.strip_prefix("oci://") {
            return OciReference::parse(rest).map(Self::Oci);
        }
        HttpUrl::parse(text).map(Self::Http)
    }
}

impl HttpUrl {
    /// Reads `http://host[:port]/path` and `https://…`. Neither user nor fragment.
    ///
    /// # Errors
    /// In words, with what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "`{}` {what}",
                text.escape_default()
                    .to_string()
                    .chars()
                    .take(200)
                    .collect::<String>()
            )
        };
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => {
                return Err(wrong(
                    "is none of `dir:/path`, `https://host/path`, `oci://registry/name:tag` and \
                     `manual`",
                ));
            }
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['#', '\\', '"']) {
            return Err(wrong(
                "has bytes that an address does not have; percent-encode them",
            ));
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        if authority.contains('@') {
            return Err(wrong(
                "has a user name in it; put it into the `credentials` file",
            ));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(six) => six
                .split_once(']')
                .ok_or_else(|| wrong("has an address without its `]`"))?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| wrong("has no port between 1 and 65535"))?,
            _ => return Err(wrong("has no port between 1 and 65535")),
        };
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        let path = match path.as_bytes().first() {
            Some(b'/') => path.to_owned(),
            _ => format!("/{path}"),
        };
        Ok(Self {
            tls,
            host: host.to_ascii_lowercase(),
            port,
            path,
        })
    }

    /// Whether it never leaves this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// Host and port as they stand in a `Host` field: without the scheme's own port.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Another path on the same server.
    #[must_use]
    pub fn with_path(&self, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..self.clone()
        }
    }
}

impl OciReference {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "`oci://{}` {what}; name it as in `oci://registry.example.com/policy/main:stable` \
                 or with `@sha256:…` for one content",
                text.escape_default()
            )
        };
        let (registry, name) = text
            .split_once('/')
            .ok_or_else(|| wrong("has no repository"))?;
        let (repository, reference) = match name.split_once('@') {
            Some((repository, digest)) => (repository, digest),
            None => name.rsplit_once(':').ok_or_else(|| wrong("has no tag"))?,
        };
        let digest = reference.strip_prefix("sha256:");
        let good_reference = match digest {
            Some(hex) => {
                hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            }
            None => {
                (1..=128).contains(&reference.len())
                    && !reference.starts_with(['.', '-'])
                    && reference
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            }
        };
        if !good_reference {
            return Err(wrong("has neither a tag nor a sha256 digest"));
        }
        let component = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z') || b"._-".contains(&b))
        };
        if repository.len() > 255 || !repository.split('/').all(component) {
            return Err(wrong("has a repository that no registry can have"));
        }
        // A registry on this machine speaks plain HTTP, as every client of registries has it.
        let probe = HttpUrl::parse(&format!("http://{registry}/"))?;
        let scheme = if probe.is_loopback() { "http" } else { "https" };
        Ok(Self {
            registry: HttpUrl::parse(&format!("{scheme}://{registry}/"))?,
            repository: repository.into(),
            reference: reference.into(),
        })
    }

    /// Whether it names one content for ever.
    pub fn is_digest(&self) -> bool {
        self.reference.starts_with("sha256:")
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Display for BundleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "dir:{}", path.display()),
            Self::Http(url) => url.fmt(f),
            Self::Oci(image) => {
                let mark = if image.is_digest() { '@' } else { ':' };
                let registry = image.registry.authority();
                write!(
                    f,
                    "oci://{registry}/{}{mark}{}",
                    image.repository, image.reference
                )
            }
            Self::Manual => f.write_str("manual"),
        }
    }
}

impl<'de> Deserialize<'de> for BundleSource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
