//! Bundles that were made to do harm: each ends in a clear error, within bounds of time and
//! memory. One test, so that the process's peak of memory is this test's alone.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test's helpers fail loudly"
)]

use std::{
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use cordon_policy::{
    Snapshot,
    bundle::{Bundle, Limits},
};
use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};

const MANIFEST: &str = "name = \"corp\"\nrevision = 7\nschema = 1\nlayer = \"organisation\"\n";
const RULE: &str = "permit (principal, action, resource);\n";

/// For one hostile bundle, on a slow and busy machine.
const MOST_TIME: Duration = Duration::from_secs(60);
/// For all of them. Loading the largest set that is accepted takes more than any of these.
const MOST_MEMORY: u64 = 400 << 20;

#[test]
fn hostile_bundles_end_in_a_clear_error_within_bounds() {
    accepted(
        "the positive control",
        &archive(&[file("bundle.toml", MANIFEST), file("a.cedar", RULE)]),
    );
    for (name, archive, expected) in hostile_archives() {
        let started = Instant::now();
        let error = refusal(&archive).unwrap_or_else(|| panic!("{name}: accepted"));
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!error.chars().any(char::is_control), "{name}: {error:?}");
        assert!(error.len() < 4_000, "{name}: {} bytes", error.len());
        assert!(
            started.elapsed() < MOST_TIME,
            "{name}: {:?}",
            started.elapsed()
        );
    }
    for (name, make, expected) in hostile_directories() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bundle.toml"), MANIFEST).unwrap();
        fs::write(folder.path().join("a.cedar"), RULE).unwrap();
        let started = Instant::now();
        Bundle::read_directory(folder.path()).unwrap();
        make(folder.path());
        let error = Bundle::read_directory(folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(
            started.elapsed() < MOST_TIME,
            "{name}: {:?}",
            started.elapsed()
        );
    }
    let peak = peak_memory();
    assert!(peak < MOST_MEMORY, "{} MiB", peak >> 20);
}

/// What a node says to an archive: that it cannot be read, or that it cannot be loaded.
fn refusal(archive: &[u8]) -> Option<String> {
    match Bundle::read_archive(archive, &Limits::default()) {
        Err(error) => Some(error.to_string()),
        Ok(bundle) => Snapshot::load(&bundle.source())
            .err()
            .map(|e| e.to_string()),
    }
}

fn accepted(name: &str, archive: &[u8]) {
    assert_eq!(refusal(archive), None, "{name}");
}

type Archive = (&'static str, Vec<u8>, &'static str);

fn hostile_archives() -> Vec<Archive> {
    let mut all = names();
    all.extend(kinds());
    all.extend(sizes());
    all.extend(texts());
    all.extend(broken());
    all
}

fn with(entry: Entry) -> Vec<u8> {
    archive(&[file("bundle.toml", MANIFEST), entry])
}

fn names() -> Vec<Archive> {
    let long = format!("{}.cedar", "a".repeat(94));
    let deep = "rules/".repeat(16) + "a.cedar";
    accepted("a long name", &with(file(&long[1..], RULE)));
    let refused = |name, path: &[u8], expected| {
        let entry = Entry {
            path: path.to_vec(),
            ..file("", RULE)
        };
        (name, with(entry), expected)
    };
    vec![
        refused("path escape", b"../evil.cedar", "leads elsewhere"),
        refused(
            "path escape below",
            b"rules/../../evil.cedar",
            "leads elsewhere",
        ),
        refused("absolute path", b"/etc/evil.cedar", "absolute"),
        refused(
            "backslashes",
            b"rules\\..\\evil.cedar",
            "something other than letters",
        ),
        refused(
            "drive letter",
            b"c:evil.cedar",
            "something other than letters",
        ),
        refused(
            "escape codes",
            b"\x1b[2Jevil.cedar",
            "something other than letters",
        ),
        refused("not UTF-8", b"ev\xffil.cedar", "not UTF-8"),
        refused(
            "look-alike",
            "\u{430}.cedar".as_bytes(),
            "something other than letters",
        ),
        refused("empty part", b"rules//evil.cedar", "empty part"),
        refused("an option", b"-rf.cedar", "dot or a dash"),
        refused("deep", deep.as_bytes(), "too deep"),
        refused("no place", b"evil.so", "no place"),
        refused("duplicate", b"bundle.toml", "twice"),
        refused("duplicate in another spelling", b"./bundle.toml", "twice"),
        refused("folder as file", b"rules/", "empty part"),
        (
            "case trick",
            archive(&[
                file("bundle.toml", MANIFEST),
                file("a.cedar", RULE),
                file("A.cedar", "forbid (principal, action, resource);"),
            ]),
            "another case",
        ),
        (
            "case trick with the manifest",
            with(file("Bundle.toml", MANIFEST)),
            "no place",
        ),
        (
            "no manifest",
            archive(&[file("a.cedar", RULE)]),
            "no `bundle.toml`",
        ),
        (
            "in a folder of its own",
            archive(&[file("corp/bundle.toml", MANIFEST)]),
            "no place",
        ),
    ]
}

fn kinds() -> Vec<Archive> {
    let refused = |name, kind, expected| {
        let entry = Entry {
            kind,
            link: "/etc/passwd",
            ..file("evil.cedar", "")
        };
        (name, with(entry), expected)
    };
    vec![
        refused("symlink", EntryType::Symlink, "a symlink"),
        refused("hard link", EntryType::Link, "a hard link"),
        refused("character device", EntryType::Char, "a device"),
        refused("block device", EntryType::Block, "a device"),
        refused("pipe", EntryType::Fifo, "a pipe"),
        refused(
            "GNU long name",
            EntryType::GNULongName,
            "more than 100 bytes",
        ),
        refused(
            "GNU long link",
            EntryType::GNULongLink,
            "more than 100 bytes",
        ),
        refused("pax header", EntryType::XHeader, "a pax extension"),
        refused(
            "pax global header",
            EntryType::XGlobalHeader,
            "a pax extension",
        ),
        refused("sparse file", EntryType::GNUSparse, "a sparse file"),
        refused("contiguous file", EntryType::Continuous, "unknown type"),
        refused("vendor type", EntryType::new(b'Z'), "unknown type"),
        (
            "folder elsewhere",
            with(Entry {
                kind: EntryType::Directory,
                ..file("../up/", "")
            }),
            "no bundle has the folder",
        ),
        (
            "folder with content",
            with(Entry {
                kind: EntryType::Directory,
                ..file("rules/", RULE)
            }),
            "no bundle has the folder",
        ),
    ]
}

fn sizes() -> Vec<Archive> {
    let many: Vec<Entry> = (0..1_100)
        .map(|n| file(&format!("{n}.cedar"), RULE))
        .collect();
    let folders: Vec<Entry> = (0..100_000)
        .map(|_| Entry {
            kind: EntryType::Directory,
            ..file("rules/", "")
        })
        .collect();
    let blank = |path: &str, blank| Entry {
        blank,
        ..file(path, "")
    };
    let few: Vec<Entry> = (0..6)
        .map(|n| blank(&format!("{n}.cedar"), 4 << 20))
        .collect();
    vec![
        (
            "a file of 100 MB",
            with(blank("a.cedar", 100_000_000)),
            "more than 16777216 bytes",
        ),
        (
            "a file of 5 MB",
            with(blank("a.cedar", 5_000_000)),
            "`a.cedar` has more than 4194304 bytes",
        ),
        (
            "24 MB in 6 files",
            archive(&few),
            "more than 16777216 bytes",
        ),
        (
            "a gzip bomb of 1 GB",
            gzip_of_zeros(1 << 30),
            "more than 16777216 bytes",
        ),
        ("1,100 files", archive(&many), "more than 1000 files"),
        (
            "100,000 folders",
            archive(&folders),
            "more than 16777216 bytes",
        ),
        (
            "an archive of 17 MB",
            vec![0x1f; 17 << 20],
            "the archive has more than",
        ),
        (
            "a size that lies",
            archive(&[Entry {
                size: Some(u64::MAX >> 1),
                ..file("a.cedar", RULE)
            }]),
            "more than 4194304 bytes",
        ),
        (
            "a size beyond the end",
            archive(&[Entry {
                size: Some(1 << 20),
                ..file("a.cedar", RULE)
            }]),
            "broken",
        ),
    ]
}

fn texts() -> Vec<Archive> {
    let data = |text: &str| {
        archive(&[
            file("bundle.toml", MANIFEST),
            file("a.cedar", RULE),
            file("data/h.toml", text),
        ])
    };
    let json = |text: &str| {
        archive(&[
            file("bundle.toml", MANIFEST),
            file("a.cedar", RULE),
            file("data/h.json", text),
        ])
    };
    let manifest = |more: &str| archive(&[file("bundle.toml", &format!("{MANIFEST}{more}"))]);
    let chain: String = (0..990)
        .map(|n| format!("g{n} = [\"@g{}\"]\n", (n + 1) % 990))
        .collect();
    let rules = RULE.repeat(100_000);
    let nested = |n: usize| {
        format!(
            "permit (principal, action, resource) when {{ {}true{} }};",
            "(".repeat(n),
            ")".repeat(n)
        )
    };
    accepted("nested brackets", &with(file("a.cedar", &nested(40))));
    accepted(
        "groups in groups",
        &data("[host_groups]\na = [\"@b\"]\nb = [\"x.test\"]\n"),
    );
    vec![
        (
            "100,000 rules",
            with(file("a.cedar", &rules)),
            "more than 20000 rules",
        ),
        (
            "nested brackets",
            with(file("a.cedar", &nested(200_000))),
            "nested more than 64 deep",
        ),
        (
            "not UTF-8",
            with(Entry {
                content: b"\xff".to_vec(),
                ..file("a.cedar", "")
            }),
            "not UTF-8",
        ),
        (
            "a circle of groups",
            data(&format!("[host_groups]\n{chain}")),
            "contains itself",
        ),
        (
            "a group in itself",
            data("[host_groups]\na = [\"@a\"]\n"),
            "contains itself",
        ),
        (
            "a circle in JSON",
            json("{\"host_groups\": {\"a\": [\"@b\"], \"b\": [\"@a\"]}}"),
            "contains itself",
        ),
        (
            "2,000 groups",
            data(&many_groups(2_000)),
            "more than 1000 host groups",
        ),
        (
            "deep TOML",
            data(&format!("a = {}", "[".repeat(1_000_000))),
            "h.toml` line 1",
        ),
        (
            "deep TOML tables",
            data(&format!("[{}]", "a.".repeat(500_000))),
            "h.toml` line 1",
        ),
        ("deep JSON", json(&"[".repeat(1_000_000)), "h.json` line 1"),
        (
            "deep JSON in a group",
            json(&format!("{{\"host_groups\": {}", "{\"a\":".repeat(500_000))),
            "h.json` line 1",
        ),
        (
            "huge manifest",
            manifest(&format!("#{}", "x".repeat(1 << 20))),
            "more than 262144 bytes",
        ),
        (
            "many labels",
            manifest(&format!("[labels]\n{}", many_labels())),
            "256 are the most",
        ),
        (
            "deep manifest",
            manifest(&format!("labels = {}", "[".repeat(100_000))),
            "bundle.toml` line 5",
        ),
        (
            "hostile key",
            manifest("\"\\u001b[2J\\n\" = 1"),
            "bundle.toml` line 5",
        ),
    ]
}

fn many_groups(count: usize) -> String {
    let groups: String = (0..count).map(|n| format!("g{n} = []\n")).collect();
    format!("[host_groups]\n{groups}")
}

fn many_labels() -> String {
    (0..300).map(|n| format!("l{n} = \"\"\n")).collect()
}

fn broken() -> Vec<Archive> {
    let good = with(file("a.cedar", RULE));
    accepted("the archive that is broken next", &good);
    let tar = tar_of(&[file("bundle.toml", MANIFEST), file("a.cedar", RULE)]);
    let mut hidden = tar.clone();
    hidden.extend(tar_of(&[file("evil.cedar", RULE)]));
    let mut checksum = tar.clone();
    checksum[0] ^= 1;
    let mut flipped = good.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    vec![
        ("nothing", Vec::new(), "broken"),
        ("no gzip", tar.clone(), "broken"),
        ("no tar", gzip(b"hello"), "broken"),
        ("cut off", good[..good.len() - 20].to_vec(), "broken"),
        ("a wrong gzip checksum", flipped, "broken"),
        ("a wrong tar checksum", gzip(&checksum), "broken"),
        (
            "a second tar behind the first",
            gzip(&hidden),
            "something after its end",
        ),
        (
            "a second gzip member",
            [good.clone(), good.clone()].concat(),
            "something after its end",
        ),
        (
            "rubbish behind it",
            [good, vec![0; 10]].concat(),
            "something after its end",
        ),
    ]
}

type Directory = (&'static str, fn(&Path), &'static str);

fn hostile_directories() -> Vec<Directory> {
    vec![
        (
            "a sparse file of 100 MB",
            |folder| {
                let file = fs::File::create(folder.join("b.cedar")).unwrap();
                file.set_len(100_000_000).unwrap();
            },
            "more than 4194304 bytes",
        ),
        (
            "20,000 files",
            |folder| (0..20_000).for_each(|n| fs::write(folder.join(format!(".{n}")), "").unwrap()),
            "more than 10000 files",
        ),
        (
            "1,100 rule files",
            |folder| {
                (0..1_100).for_each(|n| fs::write(folder.join(format!("{n}.cedar")), "").unwrap());
            },
            "more than 1000 files",
        ),
        (
            "deep folders",
            |folder| {
                let deep = folder.join("rules/".repeat(50));
                fs::create_dir_all(&deep).unwrap();
                fs::write(deep.join("b.cedar"), RULE).unwrap();
            },
            "no place",
        ),
        (
            "a link to a device",
            |folder| std::os::unix::fs::symlink("/dev/zero", folder.join("b.cedar")).unwrap(),
            "symlink",
        ),
        (
            "a link to itself",
            |folder| std::os::unix::fs::symlink("rules", folder.join("rules")).unwrap(),
            "symlink",
        ),
    ]
}

struct Entry {
    path: Vec<u8>,
    kind: EntryType,
    link: &'static str,
    size: Option<u64>,
    content: Vec<u8>,
    /// Spaces behind the content.
    blank: usize,
}

fn file(path: &str, content: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: EntryType::Regular,
        link: "",
        size: None,
        content: content.into(),
        blank: 0,
    }
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    write_tar(entries, &mut gzip);
    gzip.finish().unwrap()
}

/// A tar archive with names as they are given: the library's own writer would refuse some.
fn write_tar(entries: &[Entry], tar: &mut impl Write) {
    for entry in entries {
        let length = entry.content.len() + entry.blank;
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..entry.path.len()].copy_from_slice(&entry.path);
        header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(0o644);
        header.set_size(entry.size.unwrap_or(length as u64));
        header.set_cksum();
        tar.write_all(header.as_bytes()).unwrap();
        tar.write_all(&entry.content).unwrap();
        write_many(b' ', entry.blank, tar);
        write_many(0, length.next_multiple_of(512) - length, tar);
    }
    write_many(0, 1_024, tar);
}

fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    write_tar(entries, &mut tar);
    tar
}

/// Piece by piece, so that this test needs no more memory than what it tests.
fn write_many(byte: u8, count: usize, to: &mut impl Write) {
    let piece = [byte; 4_096];
    let mut left = count;
    while left > 0 {
        let now = left.min(piece.len());
        to.write_all(&piece[..now]).unwrap();
        left -= now;
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn gzip_of_zeros(count: usize) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    write_many(0, count, &mut gzip);
    gzip.finish().unwrap()
}

/// The most memory this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes << 10
}
