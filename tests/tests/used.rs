//! What the end of a session tells of storage and of files, by real programs.

#![expect(
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{fs, path::PathBuf};

use cordon_tests::{World, for_both, process::eventually};
use serde_json::{Value, json};

/// A folder of the project with files that were there before any session.
fn folder(world: &World) -> PathBuf {
    let folder = world.folder("home/project/folder");
    world.project_file("folder/old", "before\n");
    world.project_file("folder/big", "x".repeat(10_000));
    world.project_file("folder/log", "x".repeat(100));
    folder
}

/// What the summary and the record of the end say was done to files.
fn changes(world: &World, mode: &str, script: &str) -> (Value, Value) {
    let folder = folder(world);
    let run = world
        .session(&["sh", "-c", &format!("cd mnt/folder; {script}")])
        .grant(format!("{}:{mode}", folder.display()))
        .run();
    run.expect_code(0);
    let end = end_of(world, &run.session());
    (run.summary()["changes"].clone(), end["changes"].clone())
}

/// The counts in the record of a session's end.
fn end_of(world: &World, session: &str) -> Value {
    let records = world.records(session);
    let end = records
        .iter()
        .find(|record| record["kind"] == "session.end");
    end.map(|record| record["summary"].clone())
        .unwrap_or_default()
}

/// Whether what is written there goes to storage.
fn is_on_disk(folder: &std::path::Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(folder).is_ok_and(|found| u64::try_from(found.f_type) != Ok(TMPFS))
}

for_both! {
    /// Hard links count once, a sparse file with its length, what was cut with what it had; a file
    /// that was written and removed again with the bytes that went.
    fn files_are_counted_with_their_sizes(world) {
        let script = "set -e
            head -c 5000 /dev/zero > new; ln new second
            truncate -s 1M sparse
            : > big
            echo more >> log; echo more >> log
            echo gone > temporary; rm temporary
            echo tmp > t; mv t old
            mkdir room; echo 1234 > room/inner; mv room hall";
        for mode in ["rw", "rwd"] {
            let (summary, recorded) = changes(world, mode, script);
            let expected = json!({
                "changed": 2,
                "changed_bytes": 110,
                "changed_bytes_before": 10_100,
                "created": 7,
                "created_bytes": 5000 + (1 << 20) + 4 + 5,
                "deleted": 1,
                "deleted_bytes": 5,
                "moved": 2,
                "replaced": 1,
                "replaced_bytes": 7,
                "path": world.project().join("folder"),
            });
            assert_eq!(recorded, json!([expected]), "{mode}");
            for (name, value) in expected.as_object().into_iter().flatten() {
                assert_eq!(&summary[0][name], value, "{mode}: {name}");
            }
            assert!(fs::remove_dir_all(world.project().join("folder")).is_ok());
        }
    }

    /// Nothing was done is not the same as nobody counted.
    fn where_nothing_was_changed_that_is_said(world) {
        let (summary, recorded) = changes(world, "ro", "cat old > /dev/null; ! echo x > new");
        assert_eq!((summary, recorded), (Value::Null, json!([])));
        // A process that is killed has not told what it did: then the record says nothing.
        let launcher = world.session(&["sh", "-c", "touch up; exec sleep 600"]).start();
        let up = world.project().join("up");
        eventually("the session runs", || up.exists());
        let listed = world.cordon(&["session", "list", "--format", "json"]).text();
        let listed: Value = serde_json::from_str(listed.trim()).unwrap_or_default();
        let session = listed["session"].as_str().unwrap_or_default().to_owned();
        launcher.signal(rustix::process::Signal::KILL);
        eventually("the end is recorded", || end_of(world, &session) != Value::Null);
        let end = end_of(world, &session);
        assert_eq!((&end["changes"], &end["used"]), (&Value::Null, &Value::Null), "{end}");
    }

    /// What processes read and wrote that ended long before the session did.
    fn storage_is_counted_of_processes_that_have_ended(world) {
        let folder = folder(world);
        if !is_on_disk(&folder) {
            eprintln!("not run: the tests' folders are in memory");
            return;
        }
        let run = |script: &str| {
            let run = world.session(&["sh", "-c", script]).grant(format!("{}:rw", folder.display()));
            let run = run.run();
            run.expect_code(0);
            let used = run.summary()["used"].clone();
            let recorded = end_of(world, &run.session())["used"].clone();
            for name in ["read_bytes", "written_bytes"] {
                assert_eq!(recorded[name], used[name], "{name}");
            }
            (used["read_bytes"].as_u64(), used["written_bytes"].as_u64())
        };
        const MIB: u64 = 1 << 20;
        // By a process that the session's first one reaps, and one that its parent does.
        let (_, written) = run("(sh -c 'head -c 8M /dev/zero > mnt/folder/a' &); \
                                head -c 8M /dev/zero > mnt/folder/b; \
                                while [ \"$(stat -c %s mnt/folder/a)\" != 8388608 ]; do :; done");
        assert!((Some(16 * MIB)..Some(20 * MIB)).contains(&written), "{written:?}");
        // Past the page cache, which costs no storage.
        let (read, written) = run("dd if=mnt/folder/a of=/dev/null bs=1M iflag=direct 2>&1");
        assert!((Some(8 * MIB)..Some(40 * MIB)).contains(&read), "{read:?}");
        assert!(written < Some(MIB), "{written:?}");
        let (_, written) = run("cat mnt/folder/old");
        assert!(written < Some(MIB), "the control: {written:?}");
    }
}
