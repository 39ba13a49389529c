//! The trust root, `trust.toml`: whose signature counts for which bundles.
//!
//! Text in, a checked [`TrustRoot`] out. It is the node's own file and never comes with a bundle.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    time::SystemTime,
};

use serde::Deserialize;
use toml::{Spanned, Value};

use super::{BundleError, PublicKey, Role, error::Artefact, manifest::is_name, moment};
use crate::Layer;

/// Whose signature counts for which bundles. With one, nothing unsigned is accepted.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    keys: BTreeMap<String, TrustedKey>,
    needed: BTreeMap<Layer, usize>,
}

/// One key of a trust root.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    /// Its name.
    pub id: String,
    /// Whose it is. Two keys of one person count once.
    pub person: String,
    /// The key.
    pub public: PublicKey,
    /// What it may sign as.
    pub roles: Vec<Role>,
    /// Of which layers it may sign bundles.
    pub layers: Vec<Layer>,
    /// Names of the bundles it may sign; `None` is any.
    pub bundles: Option<Vec<String>>,
    /// From when its signatures count.
    pub not_before: Option<SystemTime>,
    /// From when they do not count any more.
    pub not_after: Option<SystemTime>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    signatures: BTreeMap<Layer, Spanned<usize>>,
    #[serde(default)]
    key: Vec<WrittenKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    id: Spanned<String>,
    person: Option<Spanned<String>>,
    public: Spanned<String>,
    roles: Spanned<Vec<Role>>,
    layers: Spanned<Vec<Layer>>,
    bundles: Option<Vec<Spanned<String>>>,
    not_before: Option<Spanned<Value>>,
    not_after: Option<Spanned<Value>>,
}

const MAX_TRUST_FILE_BYTES: usize = 256 << 10;
const MAX_KEYS: usize = 256;
const FORM: &str = "each `[[key]]` has `id`, `public`, `roles` and `layers`, and may have \
                    `person`, `bundles`, `not_before` and `not_after`; `[signatures]` says how \
                    many people must sign for a layer";
const NAME_HELP: &str =
    "use 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`, beginning with a letter or digit";

impl TrustRoot {
    /// Reads a trust file's text. `path` is for messages.
    ///
    /// # Errors
    /// [`BundleError`] says where and why. A file without keys is one: it could accept nothing,
    /// and is more likely a mistake.
    pub fn parse(path: &Path, text: &str) -> Result<Self, BundleError> {
        Reader { path, text }.read()
    }

    /// The keys, in the order of their names.
    pub fn keys(&self) -> impl Iterator<Item = &TrustedKey> {
        self.keys.values()
    }

    /// How many people must sign a bundle of this layer.
    pub fn needed(&self, layer: Layer) -> usize {
        self.needed.get(&layer).copied().unwrap_or(1)
    }

    pub(super) fn key(&self, id: &str) -> Option<&TrustedKey> {
        self.keys.get(id)
    }
}

impl TrustedKey {
    /// Whether it may sign this bundle, by its layer and name.
    pub(super) fn may_sign(&self, layer: Layer, name: &str) -> bool {
        let names = self.bundles.as_ref();
        self.layers.contains(&layer) && names.is_none_or(|names| names.iter().any(|n| n == name))
    }

    /// Whether its signatures count at this moment.
    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before.is_none_or(|from| from <= now)
            && self.not_after.is_none_or(|until| now < until)
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn read(&self) -> Result<TrustRoot, BundleError> {
        if self.text.len() > MAX_TRUST_FILE_BYTES {
            return Err(self.at(0..0, "the file is too large", FORM));
        }
        let written: Written = toml::from_str(self.text)
            .map_err(|e| Artefact::Trust.toml((self.path, self.text), &e, FORM))?;
        if written.key.is_empty() || written.key.len() > MAX_KEYS {
            let message = format!("it has {} keys", written.key.len());
            return Err(self.at(
                0..0,
                message,
                format!("1 to {MAX_KEYS} `[[key]]` are needed"),
            ));
        }
        let mut keys: BTreeMap<String, TrustedKey> = BTreeMap::new();
        let mut publics = HashSet::new();
        for key in &written.key {
            let trusted = self.key(key)?;
            if !publics.insert(trusted.public.to_string()) {
                return Err(self.at(
                    key.public.span(),
                    "this public key is there under another name, too",
                    "one key is one `[[key]]`; else one person could sign as two",
                ));
            }
            if keys.insert(trusted.id.clone(), trusted).is_some() {
                let message = format!("key `{}` is there twice", key.id.get_ref());
                return Err(self.at(key.id.span(), message, "give one of them another `id`"));
            }
        }
        let mut needed = BTreeMap::new();
        for (layer, count) in &written.signatures {
            self.check_count(*layer, count, &keys)?;
            needed.insert(*layer, *count.get_ref());
        }
        Ok(TrustRoot { keys, needed })
    }

    fn key(&self, key: &WrittenKey) -> Result<TrustedKey, BundleError> {
        self.check_name(&key.id)?;
        let person = key.person.as_ref().unwrap_or(&key.id);
        self.check_name(person)?;
        let public = key.public.get_ref().parse().map_err(|()| {
            self.at(
                key.public.span(),
                "`public` is no Ed25519 public key",
                "take the line that `cordon policy key show` prints",
            )
        })?;
        if key.roles.get_ref().is_empty() {
            return Err(self.at(key.roles.span(), "the key has no role", ROLES));
        }
        let layers = key.layers.get_ref();
        if layers.is_empty() || layers.contains(&Layer::Workspace) {
            return Err(self.at(
                key.layers.span(),
                "the key signs for no layer that has bundles",
                "the layers are `organisation`, `team` and `user`",
            ));
        }
        for name in key.bundles.iter().flatten() {
            self.check_name(name)?;
        }
        let moment = |value: &Option<Spanned<Value>>| {
            moment::read(Artefact::Trust, (self.path, self.text), value.as_ref())
        };
        Ok(TrustedKey {
            id: key.id.get_ref().clone(),
            person: person.get_ref().clone(),
            public,
            roles: key.roles.get_ref().clone(),
            layers: layers.clone(),
            bundles: key
                .bundles
                .as_ref()
                .map(|names| names.iter().map(|name| name.get_ref().clone()).collect()),
            not_before: moment(&key.not_before)?,
            not_after: moment(&key.not_after)?,
        })
    }

    /// A number that can be reached: nought would accept anything, and more than there are people
    /// nothing.
    fn check_count(
        &self,
        layer: Layer,
        count: &Spanned<usize>,
        keys: &BTreeMap<String, TrustedKey>,
    ) -> Result<(), BundleError> {
        let people: BTreeSet<&str> = keys
            .values()
            .filter(|key| key.layers.contains(&layer))
            .map(|key| key.person.as_str())
            .collect();
        let wanted = *count.get_ref();
        if (1..=people.len()).contains(&wanted) {
            return Ok(());
        }
        Err(self.at(
            count.span(),
            format!(
                "{wanted} people must sign for layer `{layer}`, and {} can",
                people.len()
            ),
            "write a number from 1 to the people whose keys name that layer",
        ))
    }

    fn check_name(&self, name: &Spanned<String>) -> Result<(), BundleError> {
        if is_name(name.get_ref()) {
            return Ok(());
        }
        let message = format!("{:.100?} is not a name", name.get_ref());
        Err(self.at(name.span(), message, NAME_HELP))
    }

    fn at(
        &self,
        span: std::ops::Range<usize>,
        message: impl Into<String>,
        help: impl AsRef<str>,
    ) -> BundleError {
        Artefact::Trust.error_at((self.path, self.text, span.start), message, help)
    }
}

const ROLES: &str = "the roles are `policy-publisher` and `policy-reviewer`";
