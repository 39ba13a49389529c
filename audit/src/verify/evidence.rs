//! What there is to verify with: keys, and checkpoints that nobody has judged yet.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    Rotation,
    note::{Key, MAX_NOTE, Note},
    report::{Evidence, VerifyError},
    store::read_bounded,
};

/// The keys to begin with.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) name: String,
    pub(super) origin: Option<[u8; 16]>,
    /// One that was brought along.
    pub(super) given: Option<Key>,
    /// All that lie in the log's directory.
    pub(super) own: Vec<Key>,
}

impl Keys {
    pub(super) fn read(directory: &Path, evidence: &Evidence) -> Result<Self, VerifyError> {
        let given = match &evidence.public_key {
            None => None,
            Some(text) => Some(Key::parse(text).ok_or_else(|| {
                let what = "the key given is no Ed25519 key of a signed note (`name+id+key`): \
                            name the right one";
                VerifyError::new(directory, what)
            })?),
        };
        let mut own = Vec::new();
        let single = directory.join("log.pub");
        let mut files = vec![single.clone()];
        if let Ok(entries) = fs::read_dir(directory.join("keys")) {
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            files.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "pub")));
        }
        files.sort();
        for path in files {
            let bytes =
                read_bounded(&path, 4096).map_err(|error| VerifyError::io(&path, &error))?;
            let Some(bytes) = bytes else { continue };
            let key = std::str::from_utf8(&bytes).ok().and_then(Key::parse);
            let key = key.ok_or_else(|| {
                let what = "it is no Ed25519 key of a signed note (`name+id+key`): put it back, or \
                            name the right one with `--key`";
                VerifyError::new(&path, what)
            });
            match key {
                Ok(key) if !own.contains(&key) => own.push(key),
                Ok(_) => {}
                // With a key from elsewhere, it does not matter what lies in the directory.
                Err(_) if given.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        let Some(first) = given.as_ref().or(own.first()) else {
            let what = "there is no log in this directory: it has no public key (`log.pub`)";
            return Err(VerifyError::new(&single, what));
        };
        Ok(Self {
            name: first.name.clone(),
            origin: first.origin(),
            given,
            own,
        })
    }

    /// The key that is trusted before any change: the one given, else the log's first.
    pub(super) fn first(&self, rotations: &[Rotation]) -> Option<Key> {
        let by_id = |id: &str| self.own.iter().find(|key| key.id_text() == id);
        self.given.clone().or_else(|| {
            let first = rotations.first().and_then(|rotation| by_id(&rotation.old));
            first.or(self.own.first()).cloned()
        })
    }
}

/// The checkpoints there are, and why one of them does not count.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) own: Option<Note>,
    pub(super) against: Option<Note>,
    pub(super) history: Vec<Note>,
    pub(super) problem: Option<String>,
}

impl Notes {
    pub(super) fn read(
        directory: &Path,
        evidence: &Evidence,
        name: &str,
    ) -> Result<Self, VerifyError> {
        let mut notes = Self {
            own: None,
            against: None,
            history: Vec::new(),
            problem: None,
        };
        let open = |text: &str| match Note::parse(text) {
            Ok(note) if note.origin == name => Ok(note),
            Ok(_) => Err("is of another log"),
            Err(why) => Err(why),
        };
        let path = directory.join("checkpoint");
        let own = read_bounded(&path, MAX_NOTE).map_err(|error| VerifyError::io(&path, &error))?;
        match own.map(|bytes| open(&String::from_utf8_lossy(&bytes))) {
            Some(Ok(note)) => notes.own = Some(note),
            Some(Err(why)) => notes.problem = Some(format!("the log's checkpoint {why}")),
            None => notes.problem = Some("the log's checkpoint is gone".into()),
        }
        if let Ok(entries) = fs::read_dir(directory.join("checkpoints")) {
            for entry in entries.filter_map(Result::ok) {
                let path = entry.path();
                let size: Option<u64> = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok());
                let Some(size) = size else { continue };
                let bytes = read_bounded(&path, MAX_NOTE);
                let Some(bytes) = bytes.map_err(|error| VerifyError::io(&path, &error))? else {
                    continue;
                };
                match open(&String::from_utf8_lossy(&bytes)) {
                    Ok(note) if note.size == size => notes.history.push(note),
                    Ok(_) => notes.object(format!("checkpoint {size} states another size")),
                    Err(why) => notes.object(format!("checkpoint {size} of the history {why}")),
                }
            }
        }
        if let Some(text) = &evidence.checkpoint {
            match open(text) {
                Ok(note) => notes.against = Some(note),
                Err(why) => {
                    notes.problem = Some(format!("the checkpoint to verify against {why}"));
                }
            }
        }
        notes.history.sort_by_key(|note| note.size);
        Ok(notes)
    }

    pub(super) fn object(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    pub(super) fn all(&self) -> Vec<&Note> {
        let mut all: Vec<&Note> = self
            .history
            .iter()
            .chain(&self.own)
            .chain(&self.against)
            .collect();
        all.sort_by_key(|note| note.size);
        all
    }

    pub(super) fn sizes(&self) -> BTreeSet<u64> {
        self.all().iter().map(|note| note.size).collect()
    }
}
