//! The list of protected paths, read from the reviewed file. A file that cannot be read ends the
//! build's tests; were it shipped so, everything would be protected.

use serde::Deserialize;

use super::Protection;

const TEXT: &str = include_str!("../../../../policies/protected-paths.json");

/// The list, ready to be asked.
pub(super) struct List {
    entries: Vec<Entry>,
    pub(super) packages: Vec<Vec<u8>>,
    /// By first byte: whether some entry begins so.
    begins: [bool; 256],
}

/// One protected path.
pub(super) struct Entry {
    words: Vec<Word>,
    pub(super) text: String,
    pub(super) place: Where,
    only_itself: bool,
    pub(super) outside: Option<Vec<u8>>,
    pub(super) exact_case: bool,
    pub(super) protection: Protection,
}

/// Where an entry counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Where {
    Anywhere,
    #[default]
    Sources,
    Top,
}

/// One name of an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Word {
    Name(Vec<u8>),
    Begins(Vec<u8>),
    Ends(Vec<u8>),
    Any,
    /// Any number of names.
    Deep,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "about")]
    _about: String,
    packages: Vec<String>,
    paths: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: String,
    why: String,
    #[serde(default, rename = "where")]
    place: Where,
    #[serde(default)]
    only_itself: bool,
    outside: Option<String>,
    #[serde(default)]
    exact_case: bool,
}

impl List {
    pub(super) fn read() -> Self {
        let file: File = serde_json::from_str(TEXT).unwrap_or_else(|_| File::everything());
        let entries: Vec<Entry> = file.paths.into_iter().map(Entry::from).collect();
        let mut begins = [false; 256];
        for entry in &entries {
            if let Some(Word::Name(name) | Word::Begins(name)) = entry.words.first()
                && let Some(first) = name.first()
                && let Some(place) = begins.get_mut(usize::from(*first))
            {
                *place = true;
            }
        }
        Self {
            entries,
            packages: file
                .packages
                .iter()
                .map(|name| fold(name.as_bytes()))
                .collect(),
            begins,
        }
    }

    /// Whether an entry could begin with this name.
    pub(super) fn may_begin(&self, name: &[u8]) -> bool {
        let first = name.first().copied().unwrap_or_default();
        self.begins.get(usize::from(first)).copied().unwrap_or(true)
            || self.entries.iter().any(|entry| {
                let open = matches!(entry.words.first(), Some(Word::Ends(_) | Word::Any));
                open && entry.begins_with(name)
            })
    }

    pub(super) fn entries_beginning(&self, name: &[u8]) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.begins_with(name))
    }

    #[cfg(test)]
    pub(super) fn is_whole() -> bool {
        serde_json::from_str::<File>(TEXT).is_ok()
    }
}

impl File {
    fn everything() -> Self {
        Self {
            _about: String::new(),
            packages: Vec::new(),
            paths: vec![Line {
                path: "*".into(),
                why: "the list of protected paths cannot be read".into(),
                place: Where::Anywhere,
                only_itself: false,
                outside: None,
                exact_case: false,
            }],
        }
    }
}

impl From<Line> for Entry {
    fn from(line: Line) -> Self {
        Self {
            words: line.path.split('/').map(Word::read).collect(),
            place: line.place,
            only_itself: line.only_itself,
            outside: line.outside.map(|name| fold(name.as_bytes())),
            exact_case: line.exact_case,
            // Once for the process: the list is read once.
            protection: Protection {
                pattern: String::leak(line.path.clone()),
                why: String::leak(line.why),
            },
            text: line.path,
        }
    }
}

impl Entry {
    fn begins_with(&self, name: &[u8]) -> bool {
        self.words.first().is_some_and(|word| word.fits(name))
    }

    /// Whether `names` lie at the entry or below it, the entry's own being `enough` at least.
    pub(super) fn covers(&self, names: &[Vec<u8>], enough: usize) -> bool {
        let mut lengths = Vec::new();
        lengths_of(&self.words, names, 0, &mut lengths);
        lengths
            .iter()
            .any(|length| *length >= enough && (!self.only_itself || *length == names.len()))
    }

    /// Whether the entry goes on where `names` end.
    pub(super) fn reaches_below(&self, names: &[Vec<u8>], _enough: usize) -> bool {
        reaches_below(&self.words, names)
    }
}

/// How many of `names` the words can take up, from `taken` on.
fn lengths_of(words: &[Word], names: &[Vec<u8>], taken: usize, lengths: &mut Vec<usize>) {
    let Some((word, words)) = words.split_first() else {
        lengths.push(taken);
        return;
    };
    if *word == Word::Deep {
        for skipped in 0..=names.len() {
            let rest = names.get(skipped..).unwrap_or_default();
            lengths_of(words, rest, taken + skipped, lengths);
        }
    } else if let Some((name, names)) = names.split_first()
        && word.fits(name)
    {
        lengths_of(words, names, taken + 1, lengths);
    }
}

fn reaches_below(words: &[Word], names: &[Vec<u8>]) -> bool {
    match (words.split_first(), names.split_first()) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some((Word::Deep, _)), Some(_)) => true,
        (Some((word, words)), Some((name, names))) => {
            word.fits(name) && reaches_below(words, names)
        }
    }
}

impl Word {
    fn read(text: &str) -> Self {
        match (text, text.strip_suffix('*'), text.strip_prefix('*')) {
            ("**", ..) => Self::Deep,
            ("*", ..) => Self::Any,
            (_, Some(begin), _) => Self::Begins(fold(begin.as_bytes())),
            (_, _, Some(end)) => Self::Ends(fold(end.as_bytes())),
            _ => Self::Name(fold(text.as_bytes())),
        }
    }

    fn fits(&self, name: &[u8]) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Begins(begin) => name.starts_with(begin),
            Self::Ends(end) => name.ends_with(end),
            Self::Any | Self::Deep => true,
        }
    }
}

/// One spelling for all that a file system without regard to case takes for the same name: small
/// letters, with the two letters outside ASCII that fold into it, and without what such file
/// systems leave out. On other file systems this protects a few names more.
pub(super) fn fold(name: &[u8]) -> Vec<u8> {
    if name.is_ascii() {
        // Some file systems drop dots and blanks at the end.
        return name.trim_ascii_end().to_ascii_lowercase();
    }
    let text = String::from_utf8_lossy(name);
    let kept = text.chars().filter(|c| !is_ignorable(*c));
    let folded: String = kept
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect();
    folded.into_bytes()
}

/// Code points that do not count when names are compared (`Default_Ignorable_Code_Point`).
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}
