//! What the commands of sessions say that the API started: kept on disk, the newest of it, and read
//! page by page.
//!
//! Bytes of two streams in; lines of JSON in files out, each file named by where in the whole it
//! begins. Nothing of it is in the log, and nothing is decided by it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::watch,
};
use tracing::warn;
use utoipa::ToSchema;

/// Which of the two.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of what a command said.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// Where.
    pub stream: Stream,
    /// What. Bytes that are no UTF-8 stand as U+FFFD.
    pub text: String,
}

/// Some of it.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order in which it came.
    pub said: Vec<Said>,
    /// Where the page that follows begins.
    pub next: u64,
    /// Whether something before this page is not kept any more.
    pub cut: bool,
}

/// Takes in what one command says.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    writing: Mutex<Writing>,
    end: watch::Sender<u64>,
}

#[derive(Debug)]
struct Writing {
    file: File,
    /// How much is in this file.
    filled: u64,
    /// Whether half a line follows that.
    is_torn: bool,
    /// Where it ends, in the whole.
    end: u64,
}

impl Output {
    /// Of a new session, below `all`. Lets go of the oldest that are over and more than
    /// [`SESSIONS`]; `lives` says which are not.
    ///
    /// # Errors
    /// When its folder or file cannot be made.
    pub fn new(all: &Path, id: &str, lives: impl Fn(&str) -> bool) -> io::Result<Self> {
        forget_old(all, lives);
        let folder = all.join(id);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&folder)?;
        let file = begin(&folder, 0)?;
        Ok(Self {
            folder,
            writing: Mutex::new(Writing {
                file,
                filled: 0,
                is_torn: false,
                end: 0,
            }),
            end: watch::Sender::new(0),
        })
    }

    /// Takes all that comes from `source`, until it ends.
    pub async fn take(self: Arc<Self>, stream: Stream, mut source: impl AsyncRead + Unpin) {
        let mut read = vec![0; PIECE_BYTES];
        let mut rest = Vec::new();
        while let Ok(length @ 1..) = source.read(&mut read).await {
            rest.extend_from_slice(read.get(..length).unwrap_or_default());
            let whole = rest.len() - unfinished(&rest);
            let text = String::from_utf8_lossy(rest.get(..whole).unwrap_or_default()).into_owned();
            rest.drain(..whole);
            self.say(stream, text);
            // One that never stops writing waits, and not everybody else.
            tokio::time::sleep(BETWEEN_PIECES).await;
        }
        self.say(stream, String::from_utf8_lossy(&rest).into_owned());
    }

    /// Where it ends, as it grows.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// The first of it.
    pub fn first(&self, most: usize) -> Option<Page> {
        let (all, id) = (self.folder.parent()?, self.folder.file_name()?.to_str()?);
        read(all, id, 0, most).ok().flatten()
    }

    /// Removes all of it.
    pub fn discard(&self) {
        let removed = self.folder.parent().zip(self.folder.file_name());
        let removed = removed.map(|(all, id)| remove(all, &id.to_string_lossy()));
        if let Some(Err(error)) = removed {
            let folder = self.folder.display();
            warn!(%error, %folder, "what a command said was not removed");
        }
    }

    fn say(&self, stream: Stream, text: String) {
        if text.is_empty() {
            return;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at_us = since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let said = Said {
            at_us,
            stream,
            text,
        };
        match writing.write(&self.folder, &said) {
            Ok(()) => drop(self.end.send_replace(writing.end)),
            Err(error) => {
                let folder = self.folder.display();
                warn!(%error, %folder, "what a command said was not kept");
            }
        }
    }
}

impl Writing {
    fn write(&mut self, folder: &Path, said: &Said) -> io::Result<()> {
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        self.mend()?;
        if self.filled >= FILE_BYTES {
            self.file = begin(folder, self.end)?;
            self.filled = 0;
            let files = files(folder)?;
            let old = files.len().saturating_sub(FILES);
            for start in files.into_iter().take(old) {
                fs::remove_file(folder.join(name(start)))?;
            }
        }
        if let Err(error) = self.file.write_all(&line) {
            self.is_torn = true;
            // What cannot be done now is done before the next line, or there is none.
            let _torn = self.mend();
            return Err(error);
        }
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.filled += length;
        self.end += length;
        Ok(())
    }

    /// Cuts off half a line: what follows would not be where it is said to be.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.filled)?;
            self.is_torn = false;
        }
        Ok(())
    }
}

/// A page of what the command of the session `id` said, from `after` on, of about `most` bytes. None
/// where nothing is kept of it.
///
/// # Errors
/// When what is kept cannot be read.
pub fn read(all: &Path, id: &str, after: u64, most: usize) -> io::Result<Option<Page>> {
    let folder = all.join(id);
    let starts = match files(&folder) {
        Ok(starts) if starts.is_empty() => return Ok(None),
        Ok(starts) => starts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let first = starts.first().copied().unwrap_or(0);
    let mut page = Page {
        said: Vec::new(),
        next: after.max(first),
        cut: after < first,
    };
    let mut taken = 0;
    for (index, start) in starts.iter().enumerate() {
        let is_before = starts.get(index + 1).is_some_and(|next| *next <= page.next);
        if is_before || taken >= most {
            continue;
        }
        taken += page.add(&folder.join(name(*start)), *start, most - taken)?;
    }
    Ok(Some(page))
}

/// Removes what is kept of a session. False where nothing is.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(all: &Path, id: &str) -> io::Result<bool> {
    match fs::remove_dir_all(all.join(id)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // The last one leaves nothing.
    let _others = fs::remove_dir(all);
    Ok(true)
}

impl Page {
    /// Adds whole lines of a file from where the page ends; how many bytes they are.
    fn add(&mut self, path: &Path, start: u64, most: usize) -> io::Result<usize> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            // It was the oldest, just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let from = self.next.saturating_sub(start);
        if from >= length {
            return Ok(0);
        }
        file.seek(SeekFrom::Start(from))?;
        let longest = u64::try_from(most.max(LINE_BYTES)).unwrap_or(u64::MAX);
        let mut text = Vec::new();
        file.take(longest).read_to_end(&mut text)?;
        let mut taken = 0;
        // The last one may be still written.
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if line.last() != Some(&b'\n') || taken >= most {
                break;
            }
            taken += line.len();
            // Whoever begins in the middle of a line gets what comes after it.
            self.said.extend(serde_json::from_slice(line).ok());
        }
        self.next = start + from + u64::try_from(taken).unwrap_or(0);
        Ok(taken)
    }
}

/// How many bytes at the end may be the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    last.map_or(0, |chunk| chunk.invalid().len())
}

fn begin(folder: &Path, start: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create_new(true).append(true).mode(0o600);
    options.open(folder.join(name(start)))
}

fn name(start: u64) -> String {
    format!("{start}.jsonl")
}

/// Where its files begin, in order.
fn files(folder: &Path) -> io::Result<Vec<u64>> {
    let mut starts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let start = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        starts.extend(start.and_then(|start| start.parse::<u64>().ok()));
    }
    starts.sort_unstable();
    Ok(starts)
}

/// Ids are in the order in which their sessions began.
fn forget_old(all: &Path, lives: impl Fn(&str) -> bool) {
    let entries = fs::read_dir(all).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut over: Vec<String> = names.filter(|name| !lives(name)).collect();
    over.sort_unstable();
    let old = over.len().saturating_sub(SESSIONS - 1);
    for name in over.into_iter().take(old) {
        if let Err(error) = fs::remove_dir_all(all.join(&name)) {
            warn!(%error, session = %name, "what an old session said was not removed");
        }
    }
}

/// Sessions that are over of which it is kept, the newest one counted in.
const SESSIONS: usize = 64;

/// A file of one session that is longer than this is not written any more.
const FILE_BYTES: u64 = 1024 * 1024;

/// Files of one session: all but the newest [`FILES`] are gone.
const FILES: usize = 4;

/// What is read of a stream at a time, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// Longest line: each byte of a piece takes at most six (`\u0000`), or three as U+FFFD.
const LINE_BYTES: usize = PIECE_BYTES * 6 + 128;

/// At most 16 MiB of each stream in a second.
const BETWEEN_PIECES: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn all(folder: &Path, id: &str, most: usize) -> (Vec<String>, bool) {
        let (mut texts, mut after, mut cut) = (Vec::new(), 0, false);
        loop {
            let page = read(folder, id, after, most).unwrap().unwrap();
            if page.said.is_empty() {
                return (texts, cut);
            }
            assert!(page.next > after);
            after = page.next;
            cut |= page.cut;
            texts.extend(page.said.into_iter().map(|said| said.text));
        }
    }

    #[tokio::test]
    async fn what_is_said_is_read_in_pages_and_no_character_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let output = Arc::new(Output::new(folder.path(), "one", |_| true).unwrap());
        let text = "Grüße, 世界\n".repeat(4_000);
        Arc::clone(&output)
            .take(Stream::Stdout, text.as_bytes())
            .await;
        Arc::clone(&output)
            .take(Stream::Stderr, &b"half \xf0\x9f"[..])
            .await;
        for most in [1, 1_000, 1 << 20] {
            let (texts, cut) = all(folder.path(), "one", most);
            assert_eq!(texts.concat(), format!("{text}half \u{fffd}"), "{most}");
            assert!(!cut);
        }
        // In the middle of a line: from the next one on.
        let page = read(folder.path(), "one", 1, 1).unwrap().unwrap();
        assert!(page.said.is_empty() && page.next > 1);
        assert!(read(folder.path(), "two", 0, 1).unwrap().is_none());
        output.discard();
        assert!(read(folder.path(), "one", 0, 1).unwrap().is_none());
    }

    /// As on a disk that is full for a moment, in a process of its own: files end at a length there.
    #[test]
    fn a_line_that_a_full_disk_cut_off_shifts_nothing() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        const HERE: &str = "CORDON_TEST_BY_ITSELF";
        if std::env::var_os(HERE).is_none() {
            let test = "daemon::output::tests::a_line_that_a_full_disk_cut_off_shifts_nothing";
            let done = std::process::Command::new("sh")
                .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", test])
                .env(HERE, "")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let has_room = |bytes: Option<u64>| {
            let maximum = getrlimit(Resource::Fsize).maximum;
            let limit = Rlimit {
                current: bytes.or(maximum),
                maximum,
            };
            setrlimit(Resource::Fsize, limit).unwrap();
        };
        let folder = tempfile::tempdir().unwrap();
        let output = Output::new(folder.path(), "one", |_| true).unwrap();
        output.say(Stream::Stdout, "first".into());
        let end = *output.follow().borrow();
        has_room(Some(end + end / 2));
        output.say(Stream::Stdout, "lost".into());
        has_room(None);
        output.say(Stream::Stdout, "second".into());
        assert_eq!(all(folder.path(), "one", 1 << 20).0, ["first", "second"]);
        let page = read(folder.path(), "one", end, 1 << 20).unwrap().unwrap();
        assert_eq!(page.said.len(), 1, "what follows is where it is said to be");
        let length = fs::metadata(folder.path().join("one").join(name(0)));
        assert_eq!(length.unwrap().len(), *output.follow().borrow());
    }

    #[test]
    fn the_newest_is_kept_within_its_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::new(folder.path(), "one", |_| true).unwrap();
        let mut last = String::new();
        for n in 0..1_000 {
            last = format!("{n}{}", "\0".repeat(4 * 1024));
            output.say(Stream::Stdout, last.clone());
        }
        let (texts, cut) = all(folder.path(), "one", 1 << 20);
        assert!(cut && texts.last() == Some(&last), "{}", texts.len());
        let kept = fs::read_dir(folder.path().join("one")).unwrap().flatten();
        let kept: u64 = kept.map(|file| file.metadata().unwrap().len()).sum();
        assert!(
            kept < 4 * (FILE_BYTES + u64::try_from(LINE_BYTES).unwrap()),
            "{kept}"
        );
        for n in 0..70 {
            Output::new(folder.path(), &format!("s{n:03}"), |id| id == "s000").unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        names.sort_by_key(fs::DirEntry::file_name);
        assert_eq!(names.len(), SESSIONS + 1, "with the one that runs");
        assert_eq!(names[0].file_name(), "s000");
        assert!(!folder.path().join("one").exists());
    }
}
