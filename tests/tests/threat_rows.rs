//! Which test carries which row of the threat list: `docs/egress/threats.md`,
//! `docs/sandbox/threats.md` and `docs/runtime-threats.md` are these tables, made from the names of the tests.
//! `CORDON_WRITE_TABLE=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail loudly")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Rows of one letter.
struct Table {
    /// As it stands in names of tests.
    letter: char,
    /// What each row is about.
    rows: &'static [&'static str],
    /// Rows that only a whole session can show, so that no crate has a test of them alone.
    whole_only: &'static [usize],
    /// Rows that are shown in a crate and not through the whole binary.
    crate_only: &'static [usize],
    file: &'static str,
    /// What the page says before the table.
    about: &'static str,
}

const NETWORK: Table = Table {
    letter: 'n',
    rows: &[
        "an empty allow list",
        "a zero byte in a name",
        "CR, LF, spaces towards a parent",
        "IPv6 zones; names against literals",
        "spellings of an IPv4 address",
        "case and trailing dot",
        "look-alike names",
        "the port is part of the request",
        "names that lead to special addresses",
        "a parent proxy that resolves",
        "DNS as a way out",
        "SNI, `Host` and target differ",
        "every protocol, one decision",
        "the spelling or client does not matter",
        "auto-allow modes",
        "ways round the proxy",
        "loopback and `NO_PROXY`",
        "another session's proxy",
        "a decision that policy took back",
        "the policy in force is shown",
        "an attacker's credentials",
        "ambiguous HTTP",
        "redirects",
        "slow, endless, too many",
        "SOCKS BIND, UDP ASSOCIATE, SOCKS4",
        "own listeners and APIs",
        "daemon sockets of the host",
        "the wrong protocol on a listener",
    ],
    whole_only: &[],
    crate_only: &[],
    file: "docs/egress/threats.md",
    about: "Each network row of the threat list with the tests that carry its id: in a crate (real \
            sockets for most), and through the whole binary, in a sandbox.",
};

const FILES: Table = Table {
    letter: 'f',
    rows: &[
        "the agent turns the sandbox off",
        "a file in the workspace widens policy",
        "a policy file made invalid",
        "the agent edits its own guards",
        "a protected path that does not exist yet",
        "`.git` as a file, worktrees, submodules",
        "symlinks, renames, hard links, `..`",
        "new user namespace, mounts, `setns`",
        "io_uring",
        "x32, i386, high bits",
        "ptrace and its like against helpers",
        "unix sockets, descriptors",
        "terminal injection",
        "what the backend cannot enforce",
        "bubblewrap or a kernel feature missing",
        "a grant of home, `/` or around a protected folder",
        "environment injection",
        "a child outlives the session",
        "fork, memory, disk and descriptor bombs",
        "what was there disappears",
    ],
    whole_only: &[],
    crate_only: &[],
    file: "docs/sandbox/threats.md",
    about: "Each row of the threat list about files, kernel and processes with the tests that carry \
            its id: in a crate, and through the whole binary, in a session.",
};

const RUNTIME: Table = Table {
    letter: 'p',
    rows: &[
        "a hook's wrong shape or exit code",
        "a hook or decision that is late",
        "one channel enforces, another does not",
        "the input changes after approval",
        "reading widens what may be fetched",
        "\"always allow\" writes rules",
        "a broken signature taken for none",
        "an extension that changes after approval",
        "a permission that was not declared",
        "a scope that was not enabled",
    ],
    whole_only: &[5, 7, 9],
    crate_only: &[],
    file: "docs/runtime-threats.md",
    about: "Each row of the threat list about decisions, approvals, extensions and connectors with the \
            tests that carry its id: in a crate, and through the whole binary. Tests of the shipped \
            packs (`policies/*/tests`) carry ids too and are not listed.",
};

#[test]
fn every_row_has_a_test_in_a_crate_and_one_of_the_whole_binary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for table in [NETWORK, FILES, RUNTIME] {
        hold(root, &table);
    }
}

fn hold(root: &Path, table: &Table) {
    let names = test_names(root, table.letter);
    let about = table.about;
    let mut page = format!(
        "# Which test shows what\n\n{about} Made by `tests/tests/threat_rows.rs`, which fails when a \
         row has none. A test marked *root* needs the whole run to be root's, one marked *clients* \
         what `CORDON_TEST_CLIENTS` names, one marked *toolchain* an account that may run cargo \
         (`tests/all.sh` sees to each); elsewhere it says `not run` and shows nothing.\n\n| row | about | in a crate | whole binary |\n|---|---|---|---|\n"
    );
    let mut without = Vec::new();
    for (index, about) in table.rows.iter().enumerate() {
        let row = index + 1;
        let empty = BTreeSet::new();
        let of = |whole| names.get(&(row, whole)).unwrap_or(&empty);
        let missing = |whole, excused: &[usize]| of(whole).is_empty() != excused.contains(&row);
        if missing(true, table.crate_only) || missing(false, table.whole_only) {
            without.push(row);
        }
        let shown = |whole: bool| of(whole).iter().cloned().collect::<Vec<_>>().join("<br>");
        let letter = table.letter.to_ascii_uppercase();
        page.push_str(&format!(
            "| {letter}{row:02} | {about} | {} | {} |\n",
            shown(false),
            shown(true)
        ));
    }
    assert!(
        without.is_empty(),
        "rows of {} without a test, or with one although they are excused: {without:?}",
        table.file
    );
    let file = root.join(table.file);
    if std::env::var_os("CORDON_WRITE_TABLE").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "stale; run it with CORDON_WRITE_TABLE=1: {}",
        file.display()
    );
}

/// Tests by row, and whether they are of the whole binary.
fn test_names(root: &Path, letter: char) -> BTreeMap<(usize, bool), BTreeSet<String>> {
    let mut names: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(root) {
        let whole = file.starts_with(root.join("tests"));
        let text = fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(name) = function(line) else { continue };
            let mut needs = BTreeSet::new();
            while let Some(line) = lines.next_if(|line| function(line).is_none()) {
                let named = NEEDS
                    .iter()
                    .filter(|(call, _)| whole && line.contains(call));
                needs.extend(named.map(|(_, need)| *need));
            }
            let marks: String = needs.iter().map(|need| format!(" *{need}*")).collect();
            for row in rows_of(name, letter) {
                let shown = format!("`{name}`{marks}");
                names.entry((row, whole)).or_default().insert(shown);
            }
        }
    }
    names
}

/// What a test calls, or says, that not every run has, and what that is; without it the test says so
/// and ends.
const NEEDS: [(&str, &str); 9] = [
    (".mount_over(", "root"),
    (".without_program(", "root"),
    ("DnsCanary::start()", "root"),
    ("only root can", "root"),
    ("hooked(world", "root"),
    ("Gateway::new(world", "clients"),
    ("Notes::start(world", "clients"),
    ("= sdk() else", "clients"),
    ("this account has no Rust toolchain", "toolchain"),
];

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("async ");
    line.strip_prefix("fn ")?.split('(').next()
}

/// `n06_n09_what` is of rows 6 and 9.
fn rows_of(name: &str, letter: char) -> impl Iterator<Item = usize> + '_ {
    let ids = name.split('_').map_while(move |part| {
        let (first, digits) = part.split_at_checked(1)?;
        let row: usize = digits.parse().ok().filter(|_| digits.len() == 2)?;
        Some((first.starts_with(letter), row))
    });
    ids.filter_map(|(ours, row)| ours.then_some(row))
}

fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let crates = [
        "analysis", "audit", "policy", "proxy", "sandbox", "service", "runtime", "session",
        "sinks", "tests",
    ];
    let mut folders: Vec<PathBuf> = crates.iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
