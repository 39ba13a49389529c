//! Opening a log: what a crash left is taken up, what was changed is refused, and private it is.

use super::*;

#[tokio::test]
async fn one_process_at_a_time_and_private_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::open(&path, quick()).unwrap();
    let refused = Log::open(&path, quick()).unwrap_err();
    assert_eq!(refused.kind, OpenErrorKind::Locked);
    deny(&log, "s", "x").await.unwrap();
    log.close();
    assert!(
        log.record(refusal("s", "late")).await.is_err(),
        "closed is closed"
    );
    log.close();
    let files = super::testing::files(&path);
    assert!(files.iter().any(|file| file.starts_with(path.join("tile"))));
    for file in files {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    drop(Log::open(&path, quick()).unwrap());
}

#[tokio::test]
async fn an_unfinished_write_is_cut_off_and_said() {
    let open = tempfile::tempdir().unwrap();
    let journal = "journal-00000000000000000000.log";
    let log = Log::open(open.path(), quick()).unwrap();
    deny(&log, "s", "x").await.unwrap();
    let whole = fs::read(open.path().join(journal)).unwrap();
    for tail in [vec![0; 5], vec![0; 100], whole[40..60].to_vec()] {
        let directory = killed(open.path());
        let mut bytes = whole.clone();
        bytes.extend(&tail);
        fs::write(directory.path().join(journal), bytes).unwrap();
        let log = Log::open(directory.path(), quick()).unwrap();
        deny(&log, "s", "y").await.unwrap();
        log.close();
        let records = all(directory.path());
        assert_eq!(records.len(), 3);
        assert_eq!(records[1].cut_bytes, Some(tail.len() as u64));
        assert!(verify(directory.path()).unwrap().is_clean());
    }
}

type Change = fn(&Path);

#[tokio::test]
async fn a04_an_open_log_that_was_changed_is_not_opened() {
    let changes: [(&str, Change); 6] = [
        ("a flipped byte in a synced record", |d| {
            flip(&d.join("journal-00000000000000000032.log"), 300);
        }),
        ("a shorter journal", |d| {
            shorten(&d.join("journal-00000000000000000032.log"))
        }),
        ("a journal that is gone", |d| {
            fs::remove_file(d.join("journal-00000000000000000032.log")).unwrap();
        }),
        ("a manifest that is gone", |d| {
            fs::remove_dir_all(d.join("segments")).unwrap()
        }),
        ("tiles that are gone", |d| {
            fs::remove_dir_all(d.join("tile")).unwrap()
        }),
        ("a changed tile", |d| flip(&d.join("tile/0/000.p/32"), 40)),
    ];
    let open = tempfile::tempdir().unwrap();
    let log = Log::open(open.path(), small_segments()).unwrap();
    for n in 0..40 {
        deny(&log, "s", &n.to_string()).await.unwrap();
    }
    wait_for("sealing", || open.path().join("tile/0/000.p/32").exists());
    wait_for("signing", || signed(open.path()) == 40);
    drop(Log::open(killed(open.path()).path(), small_segments()).unwrap());
    for (name, change) in changes {
        refused_unchanged(name, &killed(open.path()), change);
    }
}

#[tokio::test]
async fn a04_a_closed_log_that_was_changed_is_not_opened() {
    let changes: [(&str, Change); 8] = [
        ("a manifest that is gone", |d| {
            fs::remove_dir_all(d.join("segments")).unwrap()
        }),
        ("a manifest that was changed", |d| {
            flip(&d.join("segments/0.json"), 9)
        }),
        ("tiles that are gone", |d| {
            fs::remove_dir_all(d.join("tile")).unwrap()
        }),
        ("a shorter tile", |d| shorten(&d.join("tile/0/000.p/40"))),
        ("a checkpoint that is gone", |d| {
            fs::remove_file(d.join("checkpoint")).unwrap();
        }),
        ("a checkpoint that was changed", |d| {
            flip(&d.join("checkpoint"), 60)
        }),
        ("an older checkpoint", |d| {
            fs::copy(d.join("checkpoints/16"), d.join("checkpoint")).unwrap();
        }),
        ("a key that is gone", |d| {
            fs::remove_file(d.join("log.key")).unwrap()
        }),
    ];
    let closed = tempfile::tempdir().unwrap();
    let log = Log::open(closed.path(), small_segments()).unwrap();
    for n in 0..40 {
        deny(&log, "s", &n.to_string()).await.unwrap();
    }
    log.close();
    drop(Log::open(killed(closed.path()).path(), small_segments()).unwrap());
    for (name, change) in changes {
        refused_unchanged(name, &killed(closed.path()), change);
    }
}

/// A changed log is refused for what it is, and what there is of it stays as it was.
fn refused_unchanged(name: &str, directory: &tempfile::TempDir, change: Change) {
    change(directory.path());
    let read = || -> Vec<_> {
        let files = super::testing::files(directory.path());
        files
            .into_iter()
            .map(|file| (fs::read(&file).unwrap(), file))
            .collect()
    };
    fs::write(directory.path().join("lock"), "").unwrap();
    let before = read();
    let refused = Log::open(directory.path(), small_segments()).expect_err(name);
    assert_eq!(refused.kind, OpenErrorKind::Integrity, "{name}: {refused}");
    assert!(refused.message.contains("new-origin"), "{name}: {refused}");
    assert_eq!(read(), before, "{name}");
}

fn signed(directory: &Path) -> u64 {
    let note = fs::read_to_string(directory.join("checkpoint")).unwrap();
    note.lines().nth(1).unwrap().parse().unwrap()
}

fn shorten(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - 10).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn opening_reads_no_sealed_record_and_verifying_reads_all() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), small_segments()).unwrap();
    for n in 0..300 {
        drop(
            log.record_written(refusal("s", &n.to_string()))
                .await
                .unwrap(),
        );
    }
    log.close();
    assert!(verify(directory.path()).unwrap().is_clean());
    flip(&directory.path().join("tile/entries/000"), 300);
    drop(Log::open(directory.path(), small_segments()).unwrap());
    assert!(!verify(directory.path()).unwrap().is_clean());
}

#[test]
fn a01_a_directory_open_to_others_is_closed_or_refused() {
    let open = fs::Permissions::from_mode(0o755);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), open.clone()).unwrap();
    drop(Log::open(directory.path(), quick()).unwrap());
    let mode = fs::metadata(directory.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("letter"), "x").unwrap();
    fs::set_permissions(other.path(), open).unwrap();
    let refused = Log::open(other.path(), quick()).unwrap_err();
    assert_eq!(refused.kind, OpenErrorKind::Invalid);
    let mode = fs::metadata(other.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "left as it was");
}
