//! `bundle.toml`: what a bundle says of itself.
//!
//! Text in, a checked [`Manifest`] out. An unknown key is an error with its line: a misspelt
//! `not_after` would otherwise never end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use toml::{Spanned, Value};

use super::{
    BundleError,
    contents::Contents,
    error::Artefact,
    moment,
    path::{MANIFEST, PLACES, SCHEMA},
};
use crate::{Layer, Observe, SCHEMA_TEXT, SCHEMA_VERSION, Trust};

/// What `bundle.toml` says, checked.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The bundle's name: 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`. It stays for life.
    pub name: String,
    /// A counter that only grows.
    pub revision: u64,
    /// Whose policy it is.
    pub layer: Layer,
    /// In a sentence, what it is for.
    pub description: String,
    /// Whether it is never to be accepted without a signature, even where nobody is trusted to
    /// sign.
    pub signed: bool,
    /// From when it may be used.
    pub not_before: Option<SystemTime>,
    /// From when it may not be used any more.
    pub not_after: Option<SystemTime>,
    /// Which lower layers may `permit`. Only an organisation says so; by default none may.
    pub trust: Trust,
    /// Until when the whole bundle only observes.
    pub observe: Option<Observe>,
    /// Labels that data of a session can carry, each with its meaning.
    pub labels: BTreeMap<String, String>,
    /// Credentials that rules can name, each by where its value is kept.
    pub credentials: BTreeMap<String, Credential>,
}

/// A credential by reference. A bundle never holds a secret.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Credential {
    /// Where the node finds the value.
    pub from: CredentialSource,
    /// What it is for.
    pub description: String,
}

/// Where the node finds a credential's value.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialSource {
    /// `env:NAME`, a variable of the daemon's environment.
    Env(String),
    /// `file:/PATH`, an absolute path on the node.
    File(PathBuf),
    /// `systemd:NAME`, a credential that the service manager passes to the daemon.
    Systemd(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    revision: Spanned<u64>,
    layer: Spanned<Layer>,
    schema: Option<Spanned<u32>>,
    #[serde(default)]
    description: Option<Spanned<String>>,
    #[serde(default)]
    signed: bool,
    not_before: Option<Spanned<Value>>,
    not_after: Option<Spanned<Value>>,
    trust: Option<Spanned<Trust>>,
    observe: Option<WrittenObserve>,
    #[serde(default)]
    labels: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    credentials: BTreeMap<Spanned<String>, WrittenCredential>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenObserve {
    until: Spanned<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCredential {
    from: Spanned<String>,
    description: Option<Spanned<String>>,
}

const MAX_NAME_BYTES: usize = 64;
const MAX_DESCRIPTION_BYTES: usize = 1_000;
const MAX_MANIFEST_BYTES: usize = 256 << 10;
/// Most labels, and most credentials.
const MAX_NAMED: usize = 256;

const KEYS: &str = "`name`, `revision` and `layer` are needed; `schema`, `description`, `signed`, \
                    `not_before`, `not_after`, `[trust]`, `[observe]`, `[labels]` and \
                    `[credentials]` may be there";

impl Manifest {
    /// From when and until when it may be used, RFC 3339 in UTC.
    pub fn validity(&self) -> (Option<String>, Option<String>) {
        (
            self.not_before.map(moment::write),
            self.not_after.map(moment::write),
        )
    }

    /// Reads the manifest of a bundle. `directory` is where the bundle lies, for messages.
    pub(super) fn read(contents: &Contents, directory: Option<&Path>) -> Result<Self, BundleError> {
        let path = directory.map_or_else(|| PathBuf::from(MANIFEST), |d| d.join(MANIFEST));
        let text = contents.get(MANIFEST).ok_or_else(|| {
            let help = if directory.is_some() {
                "`cordon policy new` makes a bundle to begin with"
            } else {
                PLACES
            };
            Artefact::Bundle.error("it has no `bundle.toml` at its top", help)
        })?;
        Reader { path: &path, text }.read(contents.get(SCHEMA))
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn read(&self, schema: Option<&str>) -> Result<Manifest, BundleError> {
        if self.text.len() > MAX_MANIFEST_BYTES {
            return Err(self.at(
                0..0,
                format!("it has more than {MAX_MANIFEST_BYTES} bytes"),
                KEYS,
            ));
        }
        let written: Written = toml::from_str(self.text)
            .map_err(|e| Artefact::Bundle.toml((self.path, self.text), &e, KEYS))?;
        self.check_name(&written.name)?;
        self.check_schema(written.schema.as_ref(), schema)?;
        let layer = self.layer(&written.layer)?;
        let (not_before, not_after) = self.validity(&written)?;
        if *written.revision.get_ref() == 0 {
            let span = written.revision.span();
            return Err(self.at(
                span,
                "the revision is 0",
                "count from 1, one more each time",
            ));
        }
        Ok(Manifest {
            name: written.name.get_ref().clone(),
            revision: *written.revision.get_ref(),
            layer,
            description: self.description(written.description.as_ref())?,
            signed: written.signed,
            not_before,
            not_after,
            trust: self.trust(layer, written.trust.as_ref())?,
            observe: self
                .moment(written.observe.as_ref().map(|observe| &observe.until))?
                .map(|until| Observe { until }),
            labels: self.labels(&written.labels)?,
            credentials: self.credentials(&written.credentials)?,
        })
    }

    fn check_name(&self, name: &Spanned<String>) -> Result<(), BundleError> {
        if is_name(name.get_ref()) {
            return Ok(());
        }
        Err(self.at(
            name.span(),
            format!("{:.100?} is not the name of a bundle", name.get_ref()),
            "use 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`, beginning with a letter or digit",
        ))
    }

    /// A bundle says which schema it was written for: by number, by a copy of it, or both.
    fn check_schema(
        &self,
        version: Option<&Spanned<u32>>,
        copy: Option<&str>,
    ) -> Result<(), BundleError> {
        match (version, copy) {
            (Some(version), _) if *version.get_ref() != SCHEMA_VERSION => Err(self.at(
                version.span(),
                format!("this Cordon knows no schema {}", version.get_ref()),
                format!("write the rules for schema {SCHEMA_VERSION}, or use another Cordon"),
            )),
            (_, Some(text)) if text != SCHEMA_TEXT => Err(Artefact::Bundle.error(
                format!("its `schema` is not the one of this Cordon, version {SCHEMA_VERSION}"),
                format!("delete the file and write `schema = {SCHEMA_VERSION}` into bundle.toml"),
            )),
            (None, None) => Err(self.at(
                0..0,
                "it does not say which schema it was written for",
                format!("write `schema = {SCHEMA_VERSION}`"),
            )),
            _known => Ok(()),
        }
    }

    fn layer(&self, layer: &Spanned<Layer>) -> Result<Layer, BundleError> {
        match layer.get_ref() {
            Layer::Workspace => Err(self.at(
                layer.span(),
                "a workspace has no bundle",
                "put `*.cedar` with `forbid` rules into `.cordon/policy` of the workspace",
            )),
            known @ (Layer::Organisation | Layer::Team | Layer::User) => Ok(*known),
        }
    }

    fn validity(
        &self,
        written: &Written,
    ) -> Result<(Option<SystemTime>, Option<SystemTime>), BundleError> {
        let not_before = self.moment(written.not_before.as_ref())?;
        let not_after = self.moment(written.not_after.as_ref())?;
        match (not_before, not_after, &written.not_after) {
            (Some(from), Some(until), Some(value)) if until <= from => Err(self.at(
                value.span(),
                "`not_after` is not after `not_before`, so the bundle is never valid",
                "write the later moment into `not_after`",
            )),
            _window => Ok((not_before, not_after)),
        }
    }

    fn trust(&self, layer: Layer, trust: Option<&Spanned<Trust>>) -> Result<Trust, BundleError> {
        match (layer, trust) {
            (Layer::Organisation, Some(trust)) => Ok(*trust.get_ref()),
            (Layer::Organisation, None) => Ok(Trust {
                team: false,
                user: false,
            }),
            (_below, Some(trust)) => Err(self.at(
                trust.span(),
                "only an organisation's bundle says whom it trusts",
                "take `[trust]` out; the organisation's bundle decides who may `permit`",
            )),
            (_below, None) => Ok(Trust::WITHOUT_ORGANISATION),
        }
    }

    fn labels(
        &self,
        written: &BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> Result<BTreeMap<String, String>, BundleError> {
        self.check_count(written.keys().next(), written.len())?;
        let read = written.iter().map(|(name, meaning)| {
            self.check_key(name)?;
            Ok((name.get_ref().clone(), self.description(Some(meaning))?))
        });
        read.collect()
    }

    fn credentials(
        &self,
        written: &BTreeMap<Spanned<String>, WrittenCredential>,
    ) -> Result<BTreeMap<String, Credential>, BundleError> {
        self.check_count(written.keys().next(), written.len())?;
        let read = written.iter().map(|(name, credential)| {
            self.check_key(name)?;
            // The value is not shown: it may be a secret that was put there by mistake.
            let from = CredentialSource::parse(credential.from.get_ref()).ok_or_else(|| {
                self.at(
                    credential.from.span(),
                    "`from` does not say where the credential is kept",
                    "write `env:NAME`, `file:/PATH` or `systemd:NAME`; a bundle holds no secrets",
                )
            })?;
            let description = self.description(credential.description.as_ref())?;
            Ok((name.get_ref().clone(), Credential { from, description }))
        });
        read.collect()
    }

    fn check_count(
        &self,
        first: Option<&Spanned<String>>,
        count: usize,
    ) -> Result<(), BundleError> {
        match first {
            Some(first) if count > MAX_NAMED => Err(self.at(
                first.span(),
                format!("there are {count} of them, and {MAX_NAMED} are the most"),
                "name what rules use",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn check_key(&self, name: &Spanned<String>) -> Result<(), BundleError> {
        self.check_name(name).map_err(|_| {
            self.at(
                name.span(),
                format!("{:.100?} is not a name", name.get_ref()),
                "use 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`, beginning with a letter or digit",
            )
        })
    }

    fn description(&self, text: Option<&Spanned<String>>) -> Result<String, BundleError> {
        let Some(text) = text else {
            return Ok(String::new());
        };
        let words = text.get_ref();
        if words.len() <= MAX_DESCRIPTION_BYTES && !words.chars().any(char::is_control) {
            return Ok(words.clone());
        }
        Err(self.at(
            text.span(),
            "the description is too long, or has line breaks or control characters",
            format!("one line of at most {MAX_DESCRIPTION_BYTES} bytes"),
        ))
    }

    fn moment(&self, value: Option<&Spanned<Value>>) -> Result<Option<SystemTime>, BundleError> {
        moment::read(Artefact::Bundle, (self.path, self.text), value)
    }

    fn at(
        &self,
        span: std::ops::Range<usize>,
        message: impl Into<String>,
        help: impl AsRef<str>,
    ) -> BundleError {
        Artefact::Bundle.error_at((self.path, self.text, span.start), message, help)
    }
}

impl CredentialSource {
    fn parse(text: &str) -> Option<Self> {
        let is_word = |name: &str| {
            (1..=128).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match text.split_once(':')? {
            ("env", name) if is_word(name) => Some(Self::Env(name.into())),
            ("systemd", name) if is_word(name) => Some(Self::Systemd(name.into())),
            ("file", path) => {
                let path = Path::new(path);
                let is_plain = path.is_absolute()
                    && path.as_os_str().len() <= 1_024
                    && !path.components().any(|part| part.as_os_str() == "..");
                is_plain.then(|| Self::File(path.into()))
            }
            _unknown => None,
        }
    }
}

/// A name that is safe in file names, records and commands.
pub(super) fn is_name(text: &str) -> bool {
    let first = text.bytes().next();
    text.len() <= MAX_NAME_BYTES
        && first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}
