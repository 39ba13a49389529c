//! Which test carries which network row of the threat list: `docs/egress/threats.md` is this table,
//! made from the names of the tests. `CORDON_WRITE_TABLE=1` writes it anew.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail loudly")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Rows of the list, and what each is about.
const ROWS: [&str; 28] = [
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
];

/// Rows that only a whole sandbox can show, so that no crate has a test of them alone.
const WHOLE_ONLY: [usize; 2] = [15, 27];

#[test]
fn every_network_row_has_a_test_in_a_crate_and_one_of_the_whole_binary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let names = test_names(root);
    let mut table = String::from(HEADER);
    let mut without = Vec::new();
    for (index, about) in ROWS.iter().enumerate() {
        let row = index + 1;
        let empty = BTreeSet::new();
        let of = |whole| names.get(&(row, whole)).unwrap_or(&empty);
        let missing = |whole, excused: &[usize]| of(whole).is_empty() != excused.contains(&row);
        if missing(true, &[]) || missing(false, &WHOLE_ONLY) {
            without.push(row);
        }
        let shown = |whole: bool| of(whole).iter().cloned().collect::<Vec<_>>().join("<br>");
        table.push_str(&format!(
            "| N{row:02} | {about} | {} | {} |\n",
            shown(false),
            shown(true)
        ));
    }
    assert!(
        without.is_empty(),
        "rows without a test, or with one although they are excused: {without:?}"
    );
    let file = root.join("docs/egress/threats.md");
    if std::env::var_os("CORDON_WRITE_TABLE").is_some() {
        fs::write(&file, &table).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap();
    assert!(
        written == table,
        "stale; run it with CORDON_WRITE_TABLE=1: {}",
        file.display()
    );
}

const HEADER: &str = "# Which test shows what\n\n\
    Each network row of the threat list with the tests that carry its id: in a crate (real sockets \
    for most), and through the whole binary, in a sandbox. Made by `tests/tests/threat_rows.rs`, \
    which fails when a row has none.\n\n\
    | row | about | in a crate | whole binary |\n|---|---|---|---|\n";

/// Tests by row, and whether they are of the whole binary.
fn test_names(root: &Path) -> BTreeMap<(usize, bool), BTreeSet<String>> {
    let mut names: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(root) {
        let whole = file.starts_with(root.join("tests"));
        for line in fs::read_to_string(&file).unwrap().lines() {
            let Some(rest) = line
                .trim_start()
                .trim_start_matches("async ")
                .strip_prefix("fn ")
            else {
                continue;
            };
            let name = rest.split('(').next().unwrap_or_default();
            for row in rows_of(name) {
                let shown = format!("`{name}`");
                names.entry((row, whole)).or_default().insert(shown);
            }
        }
    }
    names
}

/// `n06_n09_what` is of rows 6 and 9.
fn rows_of(name: &str) -> impl Iterator<Item = usize> + '_ {
    name.split('_').map_while(|part| {
        let digits = part.strip_prefix('n').filter(|digits| digits.len() == 2)?;
        digits.parse().ok()
    })
}

fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let crates = [
        "analysis", "audit", "policy", "proxy", "sandbox", "service", "session", "sinks", "tests",
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
