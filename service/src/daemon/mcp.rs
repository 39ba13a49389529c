//! Tool servers behind the gateway: which session may use which, and what their tools were when they
//! were seen (P08).
//!
//! Definitions in, their standing out, kept on disk before it is told. Never decides by itself.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cordon_policy::{Definition, ExtensionFacts, Signature};
use cordon_runtime::mcp::{Pins, PinsError, Standing};
use cordon_session::config::McpConfig;
use serde_json::Value;

use super::store;

/// What the daemon knows about tool servers.
#[derive(Debug)]
pub struct Servers {
    folder: PathBuf,
    config: McpConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was read or written so far, by server.
    pins: HashMap<String, Pins>,
    /// Sessions, each with a server that it may use.
    attached: HashSet<(String, String)>,
    /// Changed definitions that were recorded: server, tool and digest.
    told: HashSet<(String, String, String)>,
}

/// A name of a server that is safe as a name of a file and of an entity.
///
/// # Errors
/// In words.
pub fn server_name(name: &str) -> Result<(), String> {
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if first && name.len() <= 64 && name.chars().all(plain) {
        Ok(())
    } else {
        Err(
            "a server's name is 1 to 64 letters, digits, `.`, `_` and `-`, and begins with a \
             letter or digit"
                .into(),
        )
    }
}

impl Servers {
    /// With what is kept below `folder`.
    pub fn new(folder: PathBuf, config: McpConfig) -> Self {
        Self {
            folder,
            config,
            state: Mutex::default(),
        }
    }

    /// What passes, and what policy is shown.
    pub fn config(&self) -> &McpConfig {
        &self.config
    }

    /// A server that is not installed as an extension: nothing is known of it but its name.
    pub fn facts(name: &str) -> ExtensionFacts {
        ExtensionFacts {
            id: name.into(),
            publisher: None,
            version: String::new(),
            digest: String::new(),
            signature: Signature::Unsigned,
        }
    }

    /// A session may use a server from now on. `lives` says which sessions there still are.
    pub fn attach(&self, session: &str, server: &str, lives: impl Fn(&str) -> bool) {
        let mut state = self.lock();
        state.attached.retain(|(session, _)| lives(session));
        state.attached.insert((session.into(), server.into()));
    }

    /// No session may use it any more before it is decided again.
    pub fn detach(&self, server: &str) {
        self.lock().attached.retain(|(_, name)| name != server);
    }

    /// One session may not any more. False where it did not.
    pub fn detach_from(&self, session: &str, server: &str) -> bool {
        let pair = (session.to_owned(), server.to_owned());
        self.lock().attached.remove(&pair)
    }

    /// Whether it may.
    pub fn is_attached(&self, session: &str, server: &str) -> bool {
        let pair = (session.to_owned(), server.to_owned());
        self.lock().attached.contains(&pair)
    }

    /// Compares what a server says of its tools with what it said before, and holds on to it.
    ///
    /// # Errors
    /// In words, and then nothing of it may be used: what was kept is damaged, there is too much of
    /// it, or it cannot be kept.
    pub fn see(&self, server: &str, tools: &[(&str, &Value)]) -> Result<Vec<Standing>, String> {
        self.change(server, |pins| {
            let seen = tools.iter().map(|(name, value)| pins.see(name, value));
            seen.collect::<Result<Vec<_>, _>>()
        })
    }

    /// What is known about a definition by its digest.
    ///
    /// # Errors
    /// As [`Servers::see`].
    pub fn standing(&self, server: &str, tool: &str, digest: &str) -> Result<Definition, String> {
        let mut state = self.lock();
        let pins = pins(&mut state, &self.folder, server)?;
        Ok(pins.standing(tool, digest))
    }

    /// Whether this change is news: true once for each.
    pub fn is_news(&self, server: &str, tool: &str, digest: &str) -> bool {
        let mut state = self.lock();
        if state.told.len() >= MOST_TOLD {
            state.told.clear();
        }
        state
            .told
            .insert((server.into(), tool.into(), digest.into()))
    }

    /// A person accepts definitions, each by its digest: all of them or none.
    ///
    /// # Errors
    /// In words: one is another by now.
    pub fn accept(&self, server: &str, tools: &[(String, String)]) -> Result<(), String> {
        self.change(server, |pins| {
            let mut accepted = tools.iter().map(|(name, digest)| pins.accept(name, digest));
            accepted.try_for_each(|one| one)
        })
    }

    /// Takes everything that is known of a server's tools away. False where nothing is.
    ///
    /// # Errors
    /// When the file stays.
    pub fn forget(&self, server: &str) -> io::Result<bool> {
        let mut state = self.lock();
        state.pins.remove(server);
        match std::fs::remove_file(file(&self.folder, server)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is known of a server's tools.
    ///
    /// # Errors
    /// As [`Servers::see`].
    pub fn pins(&self, server: &str) -> Result<Pins, String> {
        let mut state = self.lock();
        pins(&mut state, &self.folder, server).cloned()
    }

    /// Names of the servers that something is known of, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        store::names(&self.folder)
    }

    /// A change of pins counts once it is on disk.
    fn change<T>(
        &self,
        server: &str,
        change: impl FnOnce(&mut Pins) -> Result<T, PinsError>,
    ) -> Result<T, String> {
        let mut state = self.lock();
        let before = pins(&mut state, &self.folder, server)?;
        let mut after = before.clone();
        let result = change(&mut after).map_err(|error| error.to_string())?;
        if after != *before {
            store::write(&self.folder, server, after.text().as_bytes())
                .map_err(|error| format!("the definitions of its tools were not kept: {error}"))?;
            state.pins.insert(server.into(), after);
        }
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pins<'a>(state: &'a mut State, folder: &Path, server: &str) -> Result<&'a Pins, String> {
    if !state.pins.contains_key(server) {
        let read = match store::read(folder, server) {
            Ok(Some(text)) => Pins::read(&text).map_err(|error| error.to_string()),
            Ok(None) => Ok(Pins::default()),
            Err(error) => Err(error.to_string()),
        };
        let read = read.map_err(|why| {
            format!("{why}; `cordon mcp forget {server}` begins anew, with what is there then")
        })?;
        state.pins.insert(server.into(), read);
    }
    let read = state.pins.get(server);
    read.ok_or_else(|| "the definitions of its tools are not there".into())
}

fn file(folder: &Path, server: &str) -> PathBuf {
    store::file(folder, server)
}

/// Changes that are remembered as recorded.
const MOST_TOLD: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn p08_what_was_seen_outlives_the_daemon_and_damage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Servers::new(folder.path().join("mcp"), McpConfig::default());
        let (first, second) = (json!({"description": "a"}), json!({"description": "b"}));
        assert_eq!(open().see("s", &[("t", &first)]), Ok(vec![Standing::New]));
        let servers = open();
        assert_eq!(servers.names().unwrap(), ["s"]);
        let seen = servers.see("s", &[("t", &second), ("u", &first)]);
        assert_eq!(seen, Ok(vec![Standing::Changed, Standing::New]));
        let digest = cordon_runtime::mcp::definition_digest(&second);
        assert_eq!(servers.standing("s", "t", &digest), Ok(Definition::Changed));
        let both = [("t".into(), digest.clone()), ("u".into(), digest.clone())];
        assert!(servers.accept("s", &both).is_err());
        assert_eq!(open().standing("s", "t", &digest), Ok(Definition::Changed));
        servers.accept("s", &both[..1]).unwrap();
        assert_eq!(open().standing("s", "t", &digest), Ok(Definition::Accepted));
        std::fs::write(file(&folder.path().join("mcp"), "s"), "{").unwrap();
        let why = open().see("s", &[("t", &first)]).unwrap_err();
        assert!(why.contains("cordon mcp forget s"), "{why}");
        assert!(open().forget("s").unwrap());
        assert_eq!(open().see("s", &[("t", &first)]), Ok(vec![Standing::New]));
    }

    #[test]
    fn a_server_is_named_so_that_a_file_can_be() {
        for (name, usable) in [
            ("tracker", true),
            ("a.b_c-1", true),
            ("", false),
            (".hidden", false),
            ("../a", false),
            ("a/b", false),
            ("a b", false),
        ] {
            assert_eq!(server_name(name).is_ok(), usable, "{name:?}");
        }
    }

    #[test]
    fn a_session_uses_what_it_is_attached_to_while_it_lives() {
        let folder = tempfile::tempdir().unwrap();
        let servers = Servers::new(folder.path().into(), McpConfig::default());
        servers.attach("one", "a", |_| true);
        assert!(servers.is_attached("one", "a") && !servers.is_attached("two", "a"));
        servers.attach("two", "a", |session| session == "two");
        assert!(!servers.is_attached("one", "a") && servers.is_attached("two", "a"));
        assert!(servers.is_news("a", "t", "d") && !servers.is_news("a", "t", "d"));
    }
}
