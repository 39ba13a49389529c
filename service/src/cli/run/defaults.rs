//! Session defaults: a file that says which modes grants of a name have, which folders are always
//! granted, and which variables never go in. `cordon import cowork-baseline --out` writes one.
//!
//! Text in, checked [`Defaults`] out. They ask for what a flag could ask for and take away; policy
//! decides all of it as ever.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use cordon_policy::GrantMode;
use cordon_session::grants::{GrantFlag, Names, is_name};
use serde::Deserialize;

use crate::control::GrantAsked;

/// What `--defaults` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Variables that never go in: of the host, of an agent's profile, or by `--env`.
    #[serde(default)]
    pub strip_env: Vec<String>,
    /// Grants by their names.
    #[serde(default)]
    grant: Vec<DefaultGrant>,
}

/// One grant by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultGrant {
    /// Its name below `mnt/`.
    name: String,
    /// The mode it has, and the most that `--grant` can ask for it.
    mode: GrantMode,
    /// The folder or file, from the folder of the defaults on; without one the grant is made where
    /// `--grant DIR=NAME` names it.
    path: Option<PathBuf>,
}

impl DefaultGrant {
    fn holds(&self, asked: GrantMode, by: &str) -> Result<(), String> {
        if asked > self.mode {
            return Err(format!(
                "`{}` is `{}` by the session defaults, so {by} cannot make it `{asked}`",
                self.name, self.mode
            ));
        }
        Ok(())
    }
}

impl Defaults {
    /// Reads the file that a flag names.
    ///
    /// # Errors
    /// In words: it cannot be read, or what it says cannot be used.
    pub fn read(path: &str) -> Result<Self, String> {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        let mut text = String::new();
        let file = File::open(&path).map_err(|error| error.to_string())?;
        // One byte more than is taken, so that a longer file is refused and not cut.
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
        let read = read.map_err(|error| error.to_string())?;
        if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
        Self::parse(&text, path.parent().unwrap_or(&path))
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        // Without the line that is wrong: whoever has us started may not be who may read the file.
        let mut defaults: Self =
            toml::from_str(text).map_err(|error| error.message().to_owned())?;
        for grant in &mut defaults.grant {
            if !is_name(&grant.name) {
                return Err(format!(
                    "`{}` is no name for a grant",
                    grant.name.escape_debug()
                ));
            }
            if let Some(path) = &mut grant.path {
                *path = folder.join(&*path);
            }
        }
        let mut names: Vec<&str> = defaults
            .grant
            .iter()
            .map(|grant| grant.name.as_str())
            .collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|two| two.first() == two.last()) {
            return Err(format!("two grants have the name `{}`", twice.join("")));
        }
        Ok(defaults)
    }

    /// A `--grant` with the mode that its name has here. Less may be written, more may not. What has
    /// no name goes by that of the folder which it leads to, from `directory` on.
    ///
    /// # Errors
    /// In words: more was written.
    pub fn flag(&self, mut flag: GrantFlag, directory: &Path) -> Result<GrantFlag, String> {
        let path = directory.join(&flag.path);
        let Some(default) = self.of(flag.name.as_deref(), &path) else {
            return Ok(flag);
        };
        // Named, so that the default's own folder does not come beside it.
        flag.name = Some(default.name.clone());
        if flag.mode_written {
            default.holds(flag.mode, "`--grant`")?;
        } else {
            flag.mode = default.mode;
        }
        Ok(flag)
    }

    /// A folder that was handed over, with the name that it has here. It has no more than that.
    ///
    /// # Errors
    /// In words: it has.
    pub fn handed(&self, handed: &GrantAsked) -> Result<GrantAsked, String> {
        let mut handed = handed.clone();
        if let Some(default) = self.of(handed.name.as_deref(), &handed.path) {
            default.holds(handed.mode, "a grant")?;
            handed.name = Some(default.name.clone());
        }
        Ok(handed)
    }

    /// A folder that nobody named, with no more than its name has here.
    pub fn bounded(&self, mut asked: GrantAsked) -> GrantAsked {
        if let Some(default) = self.of(asked.name.as_deref(), &asked.path) {
            asked.mode = asked.mode.min(default.mode);
            asked.name = Some(default.name.clone());
        }
        asked
    }

    /// What is said of a grant of this name, or of what the session will call the folder at `path`.
    fn of(&self, name: Option<&str>, path: &Path) -> Option<&DefaultGrant> {
        let name = name.map_or_else(
            || {
                // Of what is not there the daemon says so.
                let path = path.canonicalize().unwrap_or_else(|_absent| path.into());
                Names::default().take(&path, None)
            },
            str::to_owned,
        );
        self.grant.iter().find(|grant| grant.name == name)
    }

    /// Those that have a folder of their own, unless a flag names them.
    pub fn grants(&self, named: &[Option<String>]) -> Vec<GrantFlag> {
        let own = self.grant.iter().filter_map(|grant| {
            let path = grant.path.clone()?;
            let is_named = named.iter().flatten().any(|name| *name == grant.name);
            (!is_named).then(|| GrantFlag {
                path,
                mode: grant.mode,
                mode_written: true,
                name: Some(grant.name.clone()),
            })
        });
        own.collect()
    }
}

/// Largest file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "strip_env = [\"SECRET\"]\n\
        [[grant]]\nname = \"uploads\"\nmode = \"ro\"\n\
        [[grant]]\nname = \"outputs\"\nmode = \"rw\"\npath = \"out\"\n";

    fn flag(text: &str) -> GrantFlag {
        GrantFlag::parse(text, |_path| false).unwrap()
    }

    #[test]
    fn a_name_gives_the_mode_and_no_flag_gives_more() {
        let defaults = Defaults::parse(TEXT, Path::new("/base")).unwrap();
        for (text, expected) in [
            ("/x=uploads", Some(GrantMode::Ro)),
            ("/x/outputs", Some(GrantMode::Rw)),
            ("/x:ro=outputs", Some(GrantMode::Ro)),
            ("/x:rw=uploads", None),
            ("/x/outputs:rwd", None),
            ("/x:rwd=other", Some(GrantMode::Rwd)),
            ("/x/outputs=other", Some(GrantMode::Ro)),
        ] {
            let got = defaults.flag(flag(text), Path::new("/")).ok();
            assert_eq!(got.map(|flag| flag.mode), expected, "{text}");
        }
        let own = defaults.grants(&[]);
        assert_eq!(own.len(), 1);
        assert_eq!(
            (own[0].path.as_path(), own[0].mode),
            (Path::new("/base/out"), GrantMode::Rw)
        );
        assert!(defaults.grants(&[Some("outputs".into())]).is_empty());
    }

    #[test]
    fn a_folder_goes_by_the_name_that_it_has_inside() {
        let defaults = Defaults::parse(TEXT, Path::new("/base")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let uploads = dir.path().join("uploads");
        std::fs::create_dir_all(uploads.join("below")).unwrap();
        std::fs::create_dir(dir.path().join("other")).unwrap();
        std::os::unix::fs::symlink(&uploads, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("other", dir.path().join("outputs")).unwrap();
        for (from, text, expected) in [
            ("uploads", ".", Some(GrantMode::Ro)),
            ("uploads", ".:rw", None),
            ("uploads", "below/..:rw", None),
            ("uploads", "below:rw", Some(GrantMode::Rw)),
            ("uploads", ".:rw=other", Some(GrantMode::Rw)),
            ("", "link:rw", None),
            ("", "link", Some(GrantMode::Ro)),
            // It leads to a folder of another name, so it is not `outputs` inside.
            ("", "outputs", Some(GrantMode::Ro)),
        ] {
            let got = defaults.flag(flag(text), &dir.path().join(from)).ok();
            assert_eq!(got.map(|flag| flag.mode), expected, "{text} in {from:?}");
        }
        // The default's own folder is not there twice.
        let named = defaults.flag(flag("/x/outputs"), dir.path()).unwrap().name;
        assert!(defaults.grants(&[named]).is_empty());
        let named = defaults.flag(flag("/x/else"), dir.path()).unwrap().name;
        assert_eq!(defaults.grants(&[named]).len(), 1, "the control");
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for text in [
            "surprise = 1",
            "[[grant]]\nname = \"a\"\nmode = \"rx\"",
            "[[grant]]\nname = \"../a\"\nmode = \"ro\"",
            "[[grant]]\nname = \"a\"\nmode = \"ro\"\nsurprise = 1",
            "[[grant]]\nname = \"a\"\nmode = \"ro\"\n[[grant]]\nname = \"a\"\nmode = \"rw\"",
            "strip_env = \"A\"",
        ] {
            assert!(Defaults::parse(text, Path::new("/base")).is_err(), "{text}");
        }
    }
}
