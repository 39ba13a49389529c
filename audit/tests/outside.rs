//! Verifiers that we did not write accept our logs and refuse changed ones (A04, A05): Go's
//! checksum database code, and sigstore's Merkle verifier.
//!
//! Skipped with a message where the tools are missing: Debian's `golang-go` and
//! `golang-golang-x-mod-dev`; a Python with `sigstore`, named by `CORDON_TEST_PYTHON`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use cordon_audit::{Event, Log, LogOptions, export, prove};
use tempfile::TempDir;

#[path = "common/copy.rs"]
mod copy;

use copy::copy;

/// Where Debian puts Go's libraries.
const GOPATH: &str = "/usr/share/gocode";

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/verifiers")
}

/// The Go program, compiled once; `None` where Go or its library is missing.
fn go() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let library = Path::new(GOPATH).join("src/golang.org/x/mod/sumdb/tlog");
        if !library.exists() || Command::new("go").arg("version").output().is_err() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("tlog");
        let output = Command::new("go")
            .env("GO111MODULE", "off")
            .env("GOPATH", GOPATH)
            .env("GOCACHE", directory.path().join("cache"))
            .args(["build", "-o"])
            .arg(&program)
            .arg(programs().join("tlog.go"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Some((directory, program))
    });
    if built.is_none() {
        println!("skipped: install golang-go and golang-golang-x-mod-dev");
    }
    built.as_ref().map(|(_, program)| program.as_path())
}

/// A Python with sigstore, if there is one.
fn python() -> Option<String> {
    let python = std::env::var("CORDON_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python)
        .args(["-c", "import sigstore"])
        .output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: CORDON_TEST_PYTHON names no Python with sigstore");
    }
    found.then_some(python)
}

/// A log of at least `count` records, as the writer leaves it.
fn log_of(directory: &Path, count: usize) {
    let options = LogOptions {
        segment_records: 512,
        ..LogOptions::default()
    };
    let log = Log::open(directory, options).unwrap();
    for _ in 0..count {
        log.event_later(Event::ServiceStarted);
    }
    log.close();
}

/// What the Go program says: accepted, or refused and why.
fn asks(go: &Path, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(go).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.starts_with("accepted") || said.starts_with("refused: "),
        "{output:?}"
    );
    if output.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}

/// The entries of bundle `name`.
fn entries(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (entry, after) = after.split_at(u16::from_be_bytes(*length).into());
        all.push(entry.to_vec());
        rest = after;
    }
    all
}

fn put(path: &Path, entries: &[Vec<u8>]) {
    let frame = |entry: &Vec<u8>| {
        [
            &u16::try_from(entry.len()).unwrap().to_be_bytes()[..],
            entry,
        ]
        .concat()
    };
    fs::write(path, entries.iter().flat_map(frame).collect::<Vec<u8>>()).unwrap();
}

#[test]
fn a04_a05_gos_checksum_database_code_accepts_ours_and_refuses_changes() {
    let Some(go) = go() else { return };
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    log_of(&log, 300);
    let early = directory.path().join("early");
    fs::copy(log.join("checkpoint"), &early).unwrap();
    log_of(&log, 700);
    let key = directory.path().join("key");
    fs::copy(log.join("log.pub"), &key).unwrap();
    let kind = Path::new("log");

    // The log's own directory, once all of it is sealed, and an export of it.
    let exported = directory.path().join("exported");
    export::copy_log(&log, &exported).unwrap();
    for whole in [&log, &exported] {
        assert_eq!(asks(go, &[kind, whole, &key]), Ok(()));
        assert_eq!(asks(go, &[kind, whole, &key, &early]), Ok(()));
    }

    type Change = fn(&Path);
    let cases: [(&str, Change); 8] = [
        ("flipped bit", |d| {
            let path = d.join("tile/entries/001");
            let mut all = entries(&path);
            all[9][30] ^= 1;
            put(&path, &all);
        }),
        ("dropped record", |d| {
            let path = d.join("tile/entries/001");
            let mut all = entries(&path);
            all.remove(9);
            put(&path, &all);
        }),
        ("swapped records", |d| {
            let path = d.join("tile/entries/001");
            let mut all = entries(&path);
            all.swap(9, 10);
            put(&path, &all);
        }),
        ("inserted record", |d| {
            let path = d.join("tile/entries/001");
            let mut all = entries(&path);
            all.insert(9, b"{}".to_vec());
            put(&path, &all);
        }),
        ("duplicated record", |d| {
            let path = d.join("tile/entries/001");
            let mut all = entries(&path);
            all.insert(9, all[9].clone());
            put(&path, &all);
        }),
        ("truncation", |d| {
            fs::remove_dir_all(d.join("tile/entries/003.p")).unwrap()
        }),
        ("flipped bit in a tile", |d| {
            let path = d.join("tile/0/001");
            let mut all = fs::read(&path).unwrap();
            all[9] ^= 1;
            fs::write(path, all).unwrap();
        }),
        ("checkpoint of another size", |d| {
            let path = d.join("checkpoint");
            let text = fs::read_to_string(&path).unwrap();
            let size = text.lines().nth(1).unwrap();
            fs::write(&path, text.replacen(size, "700", 1)).unwrap();
        }),
    ];
    for (name, change) in cases {
        let changed = directory.path().join("changed");
        copy(&exported, &changed);
        change(&changed);
        assert!(asks(go, &[kind, &changed, &key]).is_err(), "{name}");
        fs::remove_dir_all(&changed).unwrap();
    }
    against_evidence(go, directory.path(), &key);
}

/// Truncation with a new signature, rollback, and another key.
fn against_evidence(go: &Path, directory: &Path, key: &Path) {
    let (log, kind) = (directory.join("log"), Path::new("log"));
    let late = directory.join("late");
    fs::copy(log.join("checkpoint"), &late).unwrap();
    let rolled = directory.join("rolled");
    copy(&directory.join("exported"), &rolled);
    fs::copy(directory.join("early"), rolled.join("checkpoint")).unwrap();
    assert!(asks(go, &[kind, &rolled, key, &late]).is_err(), "rollback");

    let other = directory.join("other");
    log_of(&other, 700);
    let other_export = directory.join("other-export");
    export::copy_log(&other, &other_export).unwrap();
    assert_eq!(
        asks(go, &[kind, &other_export, &other.join("log.pub")]),
        Ok(())
    );
    assert!(asks(go, &[kind, &other_export, key]).is_err(), "other key");

    // The log's own key signs a shorter and different log: only a checkpoint from elsewhere tells.
    let shorter = directory.join("shorter");
    fs::create_dir(&shorter).unwrap();
    fs::set_permissions(&shorter, fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(log.join("log.key"), shorter.join("log.key")).unwrap();
    fs::copy(log.join("log.pub"), shorter.join("log.pub")).unwrap();
    log_of(&shorter, 500);
    let forged = directory.join("forged");
    export::copy_log(&shorter, &forged).unwrap();
    assert_eq!(
        asks(go, &[kind, &forged, key]),
        Ok(()),
        "by itself it is whole"
    );
    assert!(
        asks(go, &[kind, &forged, key, &late]).is_err(),
        "truncation with a new signature"
    );
    let early = directory.join("early");
    assert!(
        asks(go, &[kind, &forged, key, &early]).is_err(),
        "replaced, and longer"
    );
}

#[test]
fn a04_single_proofs_are_accepted_by_go_and_sigstore_and_changed_ones_refused() {
    let (go, python) = (go(), python());
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    log_of(&log, 700);
    let key = log.join("log.pub");
    let mut files = Vec::new();
    for seq in [0_u64, 1, 255, 256, 511, 512, 600, 699] {
        let file = directory.path().join(format!("{seq}.tlog-proof"));
        let text = prove::inclusion(&log, seq).unwrap().to_text();
        fs::write(&file, &text).unwrap();
        let changed = directory.path().join(format!("{seq}.changed"));
        let index = format!("\nindex {seq}\n");
        assert!(text.contains(&index));
        fs::write(
            &changed,
            text.replace(&index, &format!("\nindex {}\n", seq ^ 1)),
        )
        .unwrap();
        files.push((file, changed));
    }
    for (file, changed) in &files {
        if let Some(go) = go {
            assert_eq!(asks(go, &[Path::new("proof"), file, &key]), Ok(()));
            assert!(asks(go, &[Path::new("proof"), changed, &key]).is_err());
        }
    }
    if let Some(python) = python {
        let said = |pick: fn(&(PathBuf, PathBuf)) -> &PathBuf| {
            let output = Command::new(&python)
                .arg(programs().join("proof.py"))
                .args(files.iter().map(pick))
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(said(|pair| &pair.0), "accepted\n".repeat(files.len()));
        let refused = said(|pair| &pair.1);
        assert_eq!(
            refused.matches("refused: ").count(),
            files.len(),
            "{refused}"
        );
    }
}
