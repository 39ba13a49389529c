//! Sessions that root starts: nothing inside is root of the host, and root's folders are usable all
//! the same.

#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use cordon_tests::{
    Identity, World,
    process::{Running, eventually, tree},
};

const ALICE: u32 = 54_321;

/// A session that waits until the project has a file `end`.
fn waiting(world: &World, mark: &str) -> Running {
    let script = format!(": > {mark}; until [ -e end ]; do sleep 0.02; done");
    let running = world.session(&["sh", "-c", &script]).start();
    let project = world.project();
    eventually("the session works", || project.join(mark).exists());
    running
}

/// The user ids of every process below the launcher, real, effective, saved and of files.
fn users(running: &Running) -> BTreeSet<u32> {
    let mut users = BTreeSet::new();
    let below = tree(running.pid());
    assert!(
        below.len() > 2,
        "bubblewrap, the first process, the command"
    );
    for pid in below.iter().skip(1) {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
        // One that ends meanwhile is nobody.
        let status = status.unwrap_or_default();
        for key in ["Uid:", "Gid:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let numbers = line.unwrap_or_default().split_whitespace();
            users.extend(numbers.map(|number| number.parse::<u32>().unwrap()));
        }
    }
    users
}

fn write(path: &Path, text: &str, owner: u32, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
}

#[test]
fn nothing_inside_is_root_and_no_two_sessions_are_one_user() {
    World::scenario(Identity::Root, |world| {
        let (one, other) = (waiting(world, "one"), waiting(world, "other"));
        let (of_one, of_other) = (users(&one), users(&other));
        for users in [&of_one, &of_other] {
            assert_eq!(users.len(), 1, "one user and group: {users:?}");
            assert!(users.iter().all(|user| *user >= 2_000_000_000), "{users:?}");
        }
        assert!(of_one.is_disjoint(&of_other), "{of_one:?} {of_other:?}");
        world.project_file("end", "");
        for session in [one, other] {
            let outcome = session.finish();
            outcome.expect_code(0);
            world.remember(&outcome);
        }
    });
}

/// What makes the connections into a session is no more root than the session is.
#[test]
fn nothing_of_roots_serves_a_published_port() {
    World::scenario(Identity::Root, |world| {
        world
            .policy
            .rule("permit (principal, action == Action::\"publish\", resource);");
        let script = ": > up; until [ -e end ]; do sleep 0.02; done";
        let session = world.session(&["sh", "-c", script]);
        let running = session.option("--publish", "127.0.0.1:48765:3000").start();
        let project = world.project();
        eventually("the session works", || project.join("up").exists());
        let dialler = || {
            let below = tree(running.pid());
            let own = below.iter().skip(1).filter(|pid| {
                let name = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()));
                name.is_ok_and(|name| name.ends_with("cordon"))
            });
            own.count()
        };
        assert!(
            dialler() > 1,
            "the dialler, beside the first process: the control"
        );
        let users = users(&running);
        assert_eq!(users.len(), 1, "one user and group: {users:?}");
        assert!(!users.contains(&0), "{users:?}");
        world.project_file("end", "");
        let outcome = running.finish();
        outcome.expect_code(0);
        world.remember(&outcome);
    });
}

#[test]
fn roots_files_are_used_as_ever_and_stay_roots() {
    World::scenario(Identity::Root, |world| {
        let project = world.project();
        write(&project.join("private"), "old", 0, 0o600);
        let script = "cat private && echo new >> private && echo made > made && mkdir d && id -u \
                      && ls -n private";
        let outcome = world.session(&["sh", "-c", script]).run();
        outcome.expect_code(0);
        let text = outcome.text();
        assert!(text.starts_with("old20000"), "{text}");
        let user = text.lines().next().unwrap().trim_start_matches("old");
        assert!(
            text.contains(&format!(" {user} {user} ")),
            "its own inside: {text}"
        );
        for (name, mode) in [("private", 0o600), ("made", 0o644), ("d", 0o755)] {
            let found = fs::metadata(project.join(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), (0, 0), "{name}");
            assert_eq!(found.mode() & 0o777, mode, "{name}");
        }
        assert_eq!(
            fs::read_to_string(project.join("private")).unwrap(),
            "oldnew\n"
        );
    });
}

/// Root outside of root's own folders is nobody.
#[test]
fn what_only_root_may_read_is_closed_in_anothers_folder_and_in_the_system() {
    World::scenario(Identity::Root, |world| {
        let theirs = world.folder("theirs");
        chown(&theirs, Some(ALICE), Some(ALICE)).unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o777)).unwrap();
        write(&theirs.join("roots"), "secret", 0, 0o600);
        write(&theirs.join("private"), "secret", ALICE, 0o600);
        write(&theirs.join("open"), "open", ALICE, 0o644);
        let system = tempfile::Builder::new()
            .prefix(".cordon-test-")
            .tempfile_in("/usr/share")
            .unwrap();
        write(system.path(), "secret", 0, 0o600);
        let script = format!(
            "cd \"$HOME/mnt/theirs\"; cat open; cat roots; cat private; cat {}; (: > made); echo done",
            system.path().display()
        );
        let outcome = world
            .session(&["sh", "-c", &script])
            .grant(format!("{}:rwd", theirs.display()))
            .run();
        outcome.expect_code(0);
        assert_eq!(outcome.text(), "opendone", "{outcome}");
        assert!(
            !theirs.join("made").exists(),
            "nothing is made there: {outcome}"
        );
        // The control: root itself reads all of them.
        for path in [
            &theirs.join("roots"),
            &theirs.join("private"),
            system.path(),
        ] {
            assert_eq!(fs::read_to_string(path).unwrap(), "secret");
        }
    });
}

/// The guard opens, makes and removes in the session's place: with the session's rights.
#[test]
fn the_guard_acts_with_no_rights_of_roots() {
    World::scenario(Identity::Root, |world| {
        let project = world.project();
        write(&project.join("alices"), "secret", ALICE, 0o600);
        write(&project.join("shown"), "shown", ALICE, 0o644);
        write(&project.join("ours"), "ours", 0, 0o600);
        fs::create_dir(project.join("closed")).unwrap();
        write(&project.join("closed/in"), "secret", 0, 0o666);
        fs::set_permissions(project.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        chown(project.join("closed"), Some(ALICE), Some(ALICE)).unwrap();
        // Opening to read and write goes through the guard; bash opens so by `<>`.
        let script = "for f in alices shown closed/in; do
                cat 3<>$f <&3 2>/dev/null && echo \"opened $f\"
                (echo x >> $f) 2>/dev/null && echo \"wrote $f\"
                (: > $f) 2>/dev/null && echo \"cut $f\"
            done
            (: > closed/made) 2>/dev/null && echo made
            mkdir closed/d 2>/dev/null && echo made
            mv alices closed/ 2>/dev/null && echo moved
            rm -f closed/in 2>/dev/null; ln closed/in l 2>/dev/null && echo linked
            cat 3<>ours <&3; echo; echo y >> ours; echo made > new && rm new && echo end";
        let inside = world.session(&["bash", "-c", script]).run();
        inside.expect_code(0);
        assert_eq!(inside.text(), "ours\nend", "{inside}");
        for (name, text) in [
            ("alices", "secret"),
            ("shown", "shown"),
            ("closed/in", "secret"),
        ] {
            assert_eq!(
                fs::read_to_string(project.join(name)).unwrap(),
                text,
                "{name}"
            );
        }
        assert_eq!(fs::read_to_string(project.join("ours")).unwrap(), "oursy\n");
    });
}

/// A folder that comes later is as one that was there; where owners cannot be mapped it is refused.
#[test]
fn a_later_grant_is_mapped_or_refused() {
    World::scenario(Identity::Root, |world| {
        let later = world.folder("later");
        write(&later.join("private"), "roots", 0, 0o600);
        let running = waiting(world, "ready");
        let listed = world.cordon(&["session", "list", "--format", "json"]);
        let line: serde_json::Value = serde_json::from_str(listed.text().trim()).unwrap();
        let id = line["session"].as_str().unwrap().to_owned();
        let granted = format!("{}:rw", later.display());
        world
            .cordon(&["session", "grant", &id, &granted])
            .expect_code(0);
        let script = "cd \"$HOME/mnt/later\" && cat private && echo made > made && ls -n made";
        let inside = world.cordon(&["session", "exec", &id, "--", "sh", "-c", script]);
        inside.expect_code(0);
        assert!(inside.text().starts_with("roots-rw-"), "{inside}");
        assert_eq!(fs::metadata(later.join("made")).unwrap().uid(), 0);
        let refused = world.cordon(&["session", "grant", &id, "/proc/tty"]);
        assert_ne!(refused.code, 0, "{refused}");
        world.project_file("end", "");
        let outcome = running.finish();
        outcome.expect_code(0);
        world.remember(&outcome);
    });
}

/// Ids that somebody has are not used, and root is not used instead.
#[test]
fn without_a_free_user_id_no_session_of_root_runs() {
    World::scenario(Identity::Root, |world| {
        world.config = "[sandbox]\nroot_uids = { first = 65534, count = 10 }\n".into();
        let outcome = world.session(&["true"]).run();
        assert_eq!(outcome.code, 1, "{outcome}");
        outcome.expect_stderr("root_uids");
        world.config = "[sandbox]\nroot_uids = { first = 2100000000, count = 4 }\n".into();
        let outcome = world.session(&["id", "-u"]).run();
        outcome.expect_code(0);
        let user: u32 = outcome.text().trim().parse().unwrap();
        assert!((2_100_000_000..2_100_000_004).contains(&user), "{user}");
    });
}
