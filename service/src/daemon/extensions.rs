//! The registry of extensions: what is installed, what its signature came to, and which content the
//! user approved (P07, P08).
//!
//! Paths in, checked content in a folder of its own and a record of it out. Never decides by itself.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use cordon_policy::{ExtensionFacts, Signature};
use cordon_runtime::extension::{self, Finding, Package, Start, Trust};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store;

/// What is installed.
#[derive(Debug)]
pub struct Extensions {
    /// Records, one file for each.
    records: PathBuf,
    /// Content, one folder for each.
    content: PathBuf,
    trust: Trust,
    /// One change at a time.
    changing: Mutex<()>,
}

/// An installed extension.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Version of this record: 1.
    v: u32,
    /// Its name, in policy too.
    pub name: String,
    /// Its version.
    pub version: String,
    /// In a few words.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// SHA-256 of its content.
    pub digest: String,
    /// `trusted`, `untrusted`, `broken` or `unsigned`.
    #[schema(value_type = String)]
    pub signature: Signature,
    /// The publisher, the subject of the certificate, or why it is broken.
    pub signer: Option<String>,
    /// Permissions that it declares.
    pub permissions: Vec<String>,
    /// Tools that it names.
    pub tools: Vec<String>,
    /// How its server is started.
    #[schema(value_type = Option<Object>)]
    pub start: Option<Start>,
    /// Where it came from.
    pub source: String,
    /// When it was installed, in seconds since the epoch.
    pub installed_at: u64,
    /// What the user approved last.
    pub approved: Option<Approved>,
}

/// What a user approved.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// The content's digest.
    pub digest: String,
    /// Its version then.
    pub version: String,
    /// What came of its signature then.
    #[schema(value_type = String)]
    pub signature: Signature,
    /// Who signed it then.
    pub signer: Option<String>,
    /// Permissions that it declared then.
    pub permissions: Vec<String>,
    /// Tools that it named then.
    pub tools: Vec<String>,
}

/// Content that is laid out and not installed yet; gone with this unless it is.
#[derive(Debug)]
pub struct Laid {
    folder: PathBuf,
    package: Package,
    source: String,
}

impl Installed {
    /// What policy may know about it.
    pub fn facts(&self) -> ExtensionFacts {
        ExtensionFacts {
            id: self.name.clone(),
            // Who merely says so is no publisher.
            publisher: match self.signature {
                Signature::Trusted => self.signer.clone(),
                Signature::Untrusted | Signature::Broken | Signature::Unsigned => None,
            },
            version: self.version.clone(),
            digest: self.digest.clone(),
            signature: self.signature,
        }
    }

    /// Whether the user approved exactly this.
    pub fn is_approved(&self) -> bool {
        let approved = self.approved.as_ref();
        approved.is_some_and(|approved| approved.digest == self.digest)
    }
}

impl Laid {
    /// What would be installed.
    pub fn facts(&self) -> ExtensionFacts {
        self.installed(None).facts()
    }

    fn installed(&self, approved: Option<Approved>) -> Installed {
        let Package {
            manifest,
            digest,
            signature,
        } = &self.package;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Installed {
            v: VERSION,
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            author: manifest.author.clone(),
            digest: digest.clone(),
            signature: Finding::signature(signature),
            signer: signature.detail().map(str::to_owned),
            permissions: manifest.permissions.clone(),
            tools: manifest.tools.clone(),
            start: manifest.start.clone(),
            source: self.source.clone(),
            installed_at: since.map_or(0, |since| since.as_secs()),
            approved,
        }
    }
}

/// How folders begin whose content is not installed yet; no extension is called so.
const LAID_OUT: &str = ".new-";

impl Drop for Laid {
    fn drop(&mut self) {
        // Installed, it is not there any more.
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

impl Extensions {
    /// With records below `records` and content below `content`. What a daemon that was killed had
    /// laid out there and not installed goes.
    pub fn new(records: PathBuf, content: PathBuf, trust: Trust) -> Self {
        for left in fs::read_dir(&content).into_iter().flatten().flatten() {
            if left.file_name().to_string_lossy().starts_with(LAID_OUT) {
                // It is in nobody's way where it cannot.
                let _gone = fs::remove_dir_all(left.path());
            }
        }
        Self {
            records,
            content,
            trust,
            changing: Mutex::default(),
        }
    }

    /// Lays out what is at `source` and checks it. Reads a lot: not for a thread that serves.
    ///
    /// # Errors
    /// In words: it is no extension, or cannot be laid out.
    pub fn lay(&self, source: &Path) -> Result<Laid, String> {
        let unusable = |error: io::Error| format!("`{}`: {error}", self.content.display());
        let folder = self
            .content
            .join(format!("{LAID_OUT}{}", uuid::Uuid::new_v4()));
        private(&self.content).map_err(unusable)?;
        private(&folder).map_err(unusable)?;
        let unpacked = extension::unpack(source, &folder, &self.trust, SystemTime::now());
        match unpacked {
            Ok(package) => Ok(Laid {
                folder,
                package,
                source: source.display().to_string(),
            }),
            Err(error) => {
                let _gone = fs::remove_dir_all(&folder);
                Err(format!("`{}`: {error}", source.display()))
            }
        }
    }

    /// Installs what was laid out, in place of what was there. An approval stays with the content it
    /// was given for.
    ///
    /// # Errors
    /// In words.
    pub fn install(&self, laid: &Laid) -> Result<Installed, String> {
        let _changing = self.lock();
        let name = &laid.package.manifest.name;
        let before = self.get(name)?;
        let installed = laid.installed(before.as_ref().and_then(|one| one.approved.clone()));
        let place = self.folder(&installed);
        let above = place.parent().unwrap_or(&self.content);
        let kept = private(above)
            .and_then(|()| match fs::remove_dir_all(&place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _gone => Ok(()),
            })
            .and_then(|()| fs::rename(&laid.folder, &place));
        kept.map_err(|error| format!("its content was not kept: {error}"))?;
        self.write(&installed)?;
        if let Some(before) = before.filter(|before| before.digest != installed.digest) {
            let _gone = fs::remove_dir_all(self.folder(&before));
        }
        Ok(installed)
    }

    /// What is installed under this name.
    ///
    /// # Errors
    /// In words: the record is damaged.
    pub fn get(&self, name: &str) -> Result<Option<Installed>, String> {
        let text = store::read(&self.records, name).map_err(|error| error.to_string())?;
        let Some(text) = text else {
            return Ok(None);
        };
        let read = serde_json::from_slice::<Installed>(&text);
        let damaged = |why: String| {
            format!(
                "the record of `{name}` is damaged: {why}; `cordon extension remove {name}` takes \
                 it away"
            )
        };
        match read {
            Ok(installed) if installed.v == VERSION && installed.name == name => {
                Ok(Some(installed))
            }
            Ok(_other) => Err(damaged("it is of another version or name".into())),
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    /// Names of all that are installed, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        store::names(&self.records)
    }

    /// The user approves the content of this digest, and no other.
    ///
    /// # Errors
    /// In words.
    pub fn approve(&self, name: &str, digest: &str) -> Result<Installed, String> {
        let _changing = self.lock();
        let installed = self.get(name)?;
        let mut installed = installed.ok_or_else(|| format!("`{name}` is not installed"))?;
        if installed.digest != digest {
            return Err(format!(
                "`{name}` is not what was shown any more: `cordon extension show {name}`"
            ));
        }
        installed.approved = Some(Approved {
            digest: installed.digest.clone(),
            version: installed.version.clone(),
            signature: installed.signature,
            signer: installed.signer.clone(),
            permissions: installed.permissions.clone(),
            tools: installed.tools.clone(),
        });
        self.write(&installed)?;
        Ok(installed)
    }

    /// Takes an extension away.
    ///
    /// # Errors
    /// When its record stays.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let _changing = self.lock();
        fs::remove_file(store::file(&self.records, name))?;
        match fs::remove_dir_all(self.content.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _gone => Ok(()),
        }
    }

    /// Whether its content is still what was installed. Reads all of it.
    ///
    /// # Errors
    /// In words.
    pub fn is_whole(&self, installed: &Installed) -> Result<bool, String> {
        let digest = extension::digest(&self.folder(installed));
        let digest = digest.map_err(|error| format!("its content cannot be read: {error}"))?;
        Ok(digest == installed.digest)
    }

    /// Where its content lies.
    pub fn folder(&self, installed: &Installed) -> PathBuf {
        self.content.join(&installed.name).join(&installed.digest)
    }

    fn write(&self, installed: &Installed) -> Result<(), String> {
        let text = serde_json::to_vec(installed).map_err(|error| error.to_string())?;
        store::write(&self.records, &installed.name, &text)
            .map_err(|error| format!("its record was not kept: {error}"))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

const VERSION: u32 = 1;
