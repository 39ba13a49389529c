//! `cordon session changes`: what a session did to files, and what was kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cordon_audit::escape;
use cordon_sandbox::guard::{Changed, INDEX, Kept};
use serde_json::json;

use super::{SessionAnswer, SessionAsk, ask, connect, other, unexpected};
use crate::{
    cli::{Format, exit},
    control::{Answer, Ask, GrantChanges},
    error::Failure,
    paths::Paths,
    summary::{bytes, change_words},
};

/// Options of `cordon session changes`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or the first digits of it; it need not run any more
    #[arg(value_name = "SESSION", required_unless_present = "purge")]
    session: Option<String>,
    /// Remove what was kept of it, or without SESSION of every session that is over; recorded
    #[arg(long)]
    purge: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Shows them, or removes what was kept.
pub fn changes(args: &Args) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let session = match (&args.session, args.purge) {
        (Some(session), false) => session,
        (session, _purge) => return purge(&paths, session.clone(), args.format),
    };
    let running = counted(session)?;
    let Index { kept, unread } = match store(&paths, session) {
        Ok(store) => read(&store)?,
        Err(_) if running.is_some() => Index::default(),
        Err(failure) => return Err(failure),
    };
    match args.format {
        Format::Json => println!("{}", json!({ "grants": running, "kept": kept })),
        Format::Text => {
            for grant in running.unwrap_or_default() {
                println!("{}: {}", shown(&grant.path), change_words(&grant));
            }
            for line in &kept {
                println!("{:9} {}{}", word(line.change), shown(&line.path), to(line));
            }
        }
    }
    Ok(if unread == 0 { 0 } else { exit::FAILED })
}

/// The daemon does it, because it is a record and it knows who runs.
fn purge(paths: &Paths, session: Option<String>, format: Format) -> Result<u8, Failure> {
    let mut client = connect::reach(paths)?;
    let answer = client.ask(&Ask::Session(SessionAsk::Purge { session }))?;
    let Answer::Session(SessionAnswer::Purged(purged)) = answer else {
        return Err(unexpected());
    };
    match format {
        Format::Json => println!("{}", json!({ "purged": purged })),
        Format::Text if purged.is_empty() => println!("nothing was kept"),
        Format::Text => {
            for line in purged {
                println!("{} {}", line.session, bytes(line.bytes));
            }
        }
    }
    Ok(0)
}

/// Of a session that runs; `None` when it does not.
fn counted(session: &str) -> Result<Option<Vec<GrantChanges>>, Failure> {
    match ask(SessionAsk::List { used: false })? {
        Some(SessionAnswer::List(all)) => {
            if !all.iter().any(|status| status.session.starts_with(session)) {
                return Ok(None);
            }
        }
        None => return Ok(None),
        Some(_other) => return Err(unexpected()),
    }
    let about = SessionAsk::Changes {
        session: session.into(),
    };
    match ask(about)? {
        Some(SessionAnswer::Changes { grants, .. }) => Ok(Some(grants)),
        Some(answer) => Err(other(&answer)),
        None => Err(unexpected()),
    }
}

/// The folder in which something was kept of the one session that begins with `prefix`.
pub fn store(paths: &Paths, prefix: &str) -> Result<PathBuf, Failure> {
    let all = paths.kept("");
    let entries = fs::read_dir(&all).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) if !prefix.is_empty() => Ok(only),
        (Some(_), _) => Err(Failure::new("more than one session begins so").usage()),
        (None, _) => Err(Failure::new(format!(
            "nothing was kept of a session `{}`",
            prefix.escape_default()
        ))
        .help(
            "originals are kept where policy says so: `@preserve(\"originals\")` on the permit of \
             a grant; `cordon audit show SESSION` tells what was counted",
        )),
    }
}

/// What was kept.
#[derive(Debug, Default)]
pub struct Index {
    /// In the order in which it happened.
    pub kept: Vec<Kept>,
    /// Lines beside these that nobody can read. Each was told of.
    pub unread: usize,
}

/// Reads what was kept.
pub fn read(store: &Path) -> Result<Index, Failure> {
    let file = store.join(INDEX);
    let text = fs::read(&file)?;
    let mut index = Index::default();
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(line) => index.kept.push(line),
            // The last line of a session that was killed may be half a line.
            Err(_) if !line.ends_with(b"\n") => {}
            Err(_) => {
                index.unread += 1;
                let number = number + 1;
                let file = file.display();
                eprintln!("cordon: line {number} of `{file}` cannot be read, nor what it is about");
            }
        }
    }
    Ok(index)
}

/// One word for a change.
pub fn word(change: Changed) -> &'static str {
    match change {
        Changed::Removed => "removed",
        Changed::Replaced => "replaced",
        Changed::Written => "written",
        Changed::Moved => "moved",
        Changed::Exchanged => "exchanged",
    }
}

/// A path for people: what the session chose is escaped.
pub fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy()).to_string()
}

fn to(line: &Kept) -> String {
    let to = line.to.as_ref();
    to.map_or_else(String::new, |to| format!(" -> {}", shown(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of a full disk is told of, and what follows it is read; half a line at the end is what a
    /// killed session leaves.
    #[test]
    fn what_follows_a_line_that_is_not_whole_is_read() {
        let line = |name: &str| {
            let (grant, path) = ("/grant", format!("/grant/{name}"));
            json!({"change": "removed", "path": path, "grant": grant, "mode": 0, "size": 0})
                .to_string()
        };
        let half = line("ä").into_bytes();
        let half = &half[..half.iter().position(|byte| *byte > 0x7f).unwrap() + 1];
        let mut text = format!("{}\n", line("one")).into_bytes();
        for part in [half, line("lost").as_bytes(), b"\n"] {
            text.extend(part);
        }
        text.extend(format!("{}\n", line("two")).into_bytes());
        text.extend(half);
        let store = tempfile::tempdir().unwrap();
        fs::write(store.path().join(INDEX), text).unwrap();
        let index = read(store.path()).unwrap();
        let kept: Vec<_> = index.kept.iter().map(|line| line.path.as_path()).collect();
        assert_eq!(kept, [Path::new("/grant/one"), Path::new("/grant/two")]);
        assert_eq!(index.unread, 1);
    }
}
