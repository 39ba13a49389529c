//! Agents that ask by a hook: which session of ours each of theirs is decided in.
//!
//! Never decides. One that a person or runtime ended stays ended, also over a restart: the agent's
//! next question does not quietly open another.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use cordon_audit::durable;
use tracing::warn;

/// Sessions of agents, each by its own id with its policy.
#[derive(Debug)]
pub struct Hooks {
    known: HashMap<String, String>,
    /// Those that were ended, the newest last.
    over: VecDeque<String>,
    /// Where those are kept: one a line, as JSON.
    file: PathBuf,
    /// Lines of that.
    lines: usize,
    /// Why those that were ended are not known.
    lost: Option<String>,
}

/// Sessions that are remembered as ended.
const REMEMBERED: usize = 4_096;

/// Longest file of them that is read back, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

impl Hooks {
    /// With those that are remembered in `file`.
    pub fn new(file: PathBuf) -> Self {
        let read = read(&file);
        let (all, lost) = match read {
            Ok(all) => (all, None),
            Err(error) => {
                let shown = file.display();
                let why = format!(
                    "which sessions of agents were ended is not known: `{shown}` cannot be read: \
                     {error}; remove it, and they may begin anew"
                );
                warn!("{why}");
                (Vec::new(), Some(why))
            }
        };
        let lines = all.len();
        let over = all.into_iter().rev().take(REMEMBERED).rev().collect();
        Self {
            known: HashMap::new(),
            over,
            file,
            lines,
            lost,
        }
    }

    /// The session that `theirs` is decided in.
    pub fn get(&self, theirs: &str) -> Option<&String> {
        self.known.get(theirs)
    }

    /// Whether it was ended, by others than the agent.
    ///
    /// # Errors
    /// In words: that is not known, so none is opened.
    pub fn is_over(&self, theirs: &str) -> Result<bool, String> {
        match &self.lost {
            Some(why) => Err(why.clone()),
            None => Ok(self.over.iter().any(|one| one == theirs)),
        }
    }

    /// It is decided in `id`.
    pub fn enter(&mut self, theirs: String, id: String) {
        self.known.insert(theirs, id);
    }

    /// The agent itself is done; gives the session that it was decided in.
    pub fn leave(&mut self, theirs: &str) -> Option<String> {
        self.known.remove(theirs)
    }

    /// Lets go of those whose session is not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.known.retain(|_theirs, id| is_there(id));
    }

    /// Somebody ended the session `id`; on disk when this returns.
    pub fn ended(&mut self, id: &str) {
        let theirs = self.known.iter().find(|(_, known)| *known == id);
        let Some(theirs) = theirs.map(|(theirs, _)| theirs.clone()) else {
            return;
        };
        self.known.remove(&theirs);
        if let Err(error) = self.keep(&theirs) {
            let file = self.file.display();
            warn!(%error, %file, "an ended session of an agent may begin anew after a restart");
        }
        self.over.push_back(theirs);
        if self.over.len() > REMEMBERED {
            self.over.pop_front();
        }
    }

    fn keep(&mut self, theirs: &str) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder)?;
        }
        let line = |theirs: &str| serde_json::to_string(theirs).map(|text| text + "\n");
        // Written anew now and then, so that it does not grow for ever.
        if self.lines >= 2 * REMEMBERED {
            let mut text = String::new();
            for one in &self.over {
                text.push_str(&line(one)?);
            }
            text.push_str(&line(theirs)?);
            durable::replace(&self.file, text.as_bytes())?;
            self.lines = self.over.len() + 1;
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.file)?;
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(line(theirs)?.as_bytes()) {
            // The next line is not to go on within half of this one: where that cannot be cut off,
            // all are written anew then.
            let _cut = file.set_len(before);
            self.lines = 2 * REMEMBERED;
            return Err(error);
        }
        file.sync_all()?;
        if self.lines == 0 {
            sync_folder(&self.file)?;
        }
        self.lines += 1;
        Ok(())
    }
}

fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// All that are remembered. Of a line that a kill cut off nothing was answered: it is taken out.
fn read(file: &Path) -> io::Result<Vec<String>> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    opened.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if fs::metadata(file)?.len() > LONGEST {
        return Err(io::Error::other("too long"));
    }
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let end = end.map_or(0, |end| end + 1);
    let whole = bytes.get(..end).unwrap_or_default();
    let whole = std::str::from_utf8(whole).map_err(io::Error::other)?;
    let lines = whole.lines().map(serde_json::from_str::<String>);
    let all = lines.collect::<Result<Vec<_>, _>>()?;
    if whole.len() < bytes.len() {
        durable::replace(file, whole.as_bytes())?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p01_what_was_ended_stays_so_over_a_restart_and_a_cut_off_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/ended-hooks");
        let end = |hooks: &mut Hooks, theirs: &str| {
            hooks.enter(theirs.into(), format!("id of {theirs}"));
            hooks.ended(&format!("id of {theirs}"));
        };
        let mut hooks = Hooks::new(file.clone());
        assert_eq!(hooks.is_over("a [\"x\"]\n"), Ok(false));
        end(&mut hooks, "a [\"x\"]\n");
        end(&mut hooks, "b");
        fs::write(
            &file,
            [fs::read(&file).unwrap(), b"\"c\xc3".to_vec()].concat(),
        )
        .unwrap();
        let mut hooks = Hooks::new(file.clone());
        end(&mut hooks, "d");
        let hooks = Hooks::new(file.clone());
        for (theirs, over) in [
            ("a [\"x\"]\n", true),
            ("b", true),
            ("c", false),
            ("d", true),
        ] {
            assert_eq!(hooks.is_over(theirs), Ok(over), "{theirs}");
        }
        fs::write(&file, "{}\n").unwrap();
        assert!(
            Hooks::new(file)
                .is_over("e")
                .unwrap_err()
                .contains("ended-hooks")
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ended-hooks");
        let lines: String = (0..2 * REMEMBERED).map(|n| format!("\"{n}\"\n")).collect();
        fs::write(&file, lines).unwrap();
        let mut hooks = Hooks::new(file.clone());
        assert_eq!(
            (hooks.is_over("0"), hooks.is_over("8191")),
            (Ok(false), Ok(true))
        );
        hooks.enter("x".into(), "id".into());
        hooks.ended("id");
        let kept = fs::read_to_string(&file).unwrap();
        assert_eq!(kept.lines().count(), REMEMBERED + 1);
        assert_eq!(Hooks::new(file).is_over("x"), Ok(true));
    }
}
