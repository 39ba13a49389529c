//! Grants: what each mode lets a session do, and whose the files are outside.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use cordon_tests::{Outcome, World, for_both};

/// Runs a shell script in a session with one grant, named `folder` inside.
#[track_caller]
fn with_grant(world: &World, mode: &str, script: &str) -> Outcome {
    let folder = world.project().join("folder");
    world
        .session(&["sh", "-c", script])
        .grant(format!("{}:{mode}", folder.display()))
        .run()
}

/// A folder of the project with one file that was there before any session.
fn folder_with_old_file(world: &World) {
    world.folder("home/project/folder");
    world.project_file("folder/old", "before\n");
}

fn old(world: &World) -> Option<String> {
    fs::read_to_string(world.project().join("folder/old")).ok()
}

for_both! {
    fn ro_reads_and_writes_nothing(world) {
        folder_with_old_file(world);
        with_grant(world, "ro", "cat mnt/folder/old")
            .expect_code(0)
            .expect_stdout("before");
        for script in [
            "echo x > mnt/folder/new",
            "echo x >> mnt/folder/old",
            "rm mnt/folder/old",
            "mv mnt/folder/old mnt/folder/moved",
            "mkdir mnt/folder/sub",
            "chmod 777 mnt/folder/old",
            "ln mnt/folder/old mnt/folder/link",
        ] {
            let refused = with_grant(world, "ro", script);
            assert_ne!(refused.code, 0, "{script}: {refused}");
        }
        assert_eq!(old(world).as_deref(), Some("before\n"));
        assert!(!world.project().join("folder/new").exists());
    }

    /// Root's sessions have files that are root's on disk: with such a bit they would be a way to
    /// root for everybody. What archives and copies do otherwise works.
    fn nothing_becomes_set_user_id_and_plain_modes_are_kept(world) {
        folder_with_old_file(world);
        let script = "cd mnt/folder; umask 022
            cp /bin/true marked; mkdir room
            for mode in 4755 2755 6755 u+s g+s; do
                for name in marked old room; do chmod $mode $name && echo $mode $name; done
            done
            mkdir -m 2755 other && echo other
            install -m 4755 /bin/true installed && echo installed
            tar xpf set-id.tar && echo unpacked
            setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 marked && echo able
            exec 2>&1; set -e
            echo x > plain; chmod 640 plain; chmod 1777 room; touch -d 2001-02-03 plain
            cp -p plain copied; cp -rp room roomy
            tar cf plain.tar plain room; rm -r plain room; tar xpf plain.tar
            stat -c '%a %y' plain copied | cut -c1-14; stat -c %a room roomy";
        let folder = world.project().join("folder");
        let marked = folder.join("in-archive");
        fs::write(&marked, "x").expect("the folder is ours");
        fs::set_permissions(&marked, fs::Permissions::from_mode(0o4755)).expect("it is ours");
        let mut tar = std::process::Command::new("tar");
        tar.arg("-C").arg(&folder).args(["-cf"]).arg(folder.join("set-id.tar"));
        let packed = tar.arg("in-archive").status().expect("there is tar");
        assert!(packed.success(), "{packed}");
        fs::remove_file(&marked).expect("it is ours");
        with_grant(world, "rw", script)
            .expect_code(0)
            .expect_stdout("640 2001-02-03\n640 2001-02-03\n1777\n1777");
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let entry = entry.expect("it is listed");
            let mode = entry.metadata().expect("it is there").mode();
            assert_eq!(mode & 0o6000, 0, "{}", entry.path().display());
        }
        let marked = fs::metadata(folder.join("marked")).expect("it was made");
        assert_eq!(marked.mode() & 0o7777, 0o755, "the control: it was made");
        assert!(folder.join("in-archive").exists(), "unpacked without its bit");
    }

    /// Writing takes the bits off, but writing to a shared mapping does not.
    fn what_is_set_user_id_is_not_written(world) {
        folder_with_old_file(world);
        let old_path = world.project().join("folder/old");
        fs::set_permissions(&old_path, fs::Permissions::from_mode(0o4755)).expect("it is ours");
        let script = "cd mnt/folder; echo new >> old; echo new 1<> old; cat old";
        with_grant(world, "rw", script).expect_stdout("before");
        assert_eq!(old(world).as_deref(), Some("before\n"));
        assert_eq!(fs::metadata(&old_path).expect("it is there").mode() & 0o7777, 0o4755);
        // The control: without the bit it is.
        fs::set_permissions(&old_path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        with_grant(world, "rw", script)
            .expect_code(0)
            .expect_stdout("new\nre\nnew");
    }

    fn rw_creates_writes_and_replaces(world) {
        folder_with_old_file(world);
        let script = "set -e; cd mnt/folder
            echo fresh > new; mkdir sub; mv new sub/renamed
            echo after > temporary; mv temporary old
            rm sub/renamed; rmdir sub; echo kept > kept";
        with_grant(world, "rw", script).expect_code(0);
        assert_eq!(old(world).as_deref(), Some("after\n"));
        let kept = world.project().join("folder/kept");
        assert_eq!(fs::read_to_string(kept).ok().as_deref(), Some("kept\n"));
    }

    /// Also in the first instant of a session, when the kernel's coarse clock has not moved yet.
    fn rw_lets_go_of_what_was_made_at_once(world) {
        folder_with_old_file(world);
        for _round in 0..5 {
            with_grant(world, "rw", ": > mnt/folder/swap && rm mnt/folder/swap").expect_code(0);
        }
    }

    /// F20 in its plain form; the refusal is in the log and in the summary.
    fn f20_rw_lets_nothing_old_disappear(world) {
        folder_with_old_file(world);
        world.folder("home/project/folder/sub");
        for script in [
            "rm mnt/folder/old",
            "rm -f /proc/self/cwd/mnt/folder/old && test ! -e mnt/folder/old",
            "mv mnt/folder/old /tmp/old",
            "rmdir mnt/folder/sub",
            "cd mnt/folder && echo x > t && mv t old && rm old",
            "cd mnt/folder && python3 -c 'import os; os.unlink(\"/proc/self/cwd/old\")'",
        ] {
            let refused = with_grant(world, "rw", script);
            assert_ne!(refused.code, 0, "{script}: {refused}");
            assert!(
                refused.denied("folder/") > 0,
                "{script}: recorded in {refused}"
            );
            assert!(old(world).is_some(), "{script}: {refused}");
        }
        assert!(world.project().join("folder/sub").is_dir());
    }

    /// The strict form: no name goes away, not even one that the session made.
    fn f20_where_policy_is_strict_no_name_goes(world) {
        folder_with_old_file(world);
        let made = "cd mnt/folder && echo x > made && rm made";
        with_grant(world, "rw", made).expect_code(0);
        world.policy.rule(
            "@id(\"strict\") @no_delete(\"strict\") \
             permit (principal, action == Action::\"grant_rw\", resource);",
        );
        for script in [made, "rm mnt/folder/old", "cd mnt/folder && echo x > t && mv t old"] {
            let refused = with_grant(world, "rw", script);
            assert_ne!(refused.code, 0, "{script}: {refused}");
            assert!(refused.denied("folder/") > 0, "{script}: recorded in {refused}");
        }
        let folder = world.project().join("folder");
        assert!(old(world).is_some() && folder.join("made").exists() && folder.join("t").exists());
    }

    fn rwd_deletes_too(world) {
        folder_with_old_file(world);
        with_grant(world, "rwd", "rm mnt/folder/old").expect_code(0);
        assert_eq!(old(world), None);
    }

    /// A mode is a decision of its own: policy may give one and not the other.
    fn a_mode_that_policy_does_not_permit_is_refused(world) {
        folder_with_old_file(world);
        world.policy.rule(
            "@id(\"no-delete\") forbid (principal, action == Action::\"grant_rwd\", resource);",
        );
        let marker = world.project().join("folder/ran");
        let refused = with_grant(world, "rwd", "touch mnt/folder/ran");
        refused.expect_code(3).expect_stderr("no-delete");
        assert!(!marker.exists(), "the command did not run: {refused}");
        with_grant(world, "rw", "touch mnt/folder/ran").expect_code(0);
        assert!(marker.exists());
    }

    fn a_file_written_through_a_grant_is_the_users_own(world) {
        folder_with_old_file(world);
        with_grant(
            world,
            "rw",
            "umask 022; echo x > mnt/folder/new; mkdir mnt/folder/sub",
        )
        .expect_code(0);
        for name in ["new", "sub"] {
            let metadata = fs::metadata(world.project().join("folder").join(name)).unwrap();
            assert_eq!(
                (metadata.uid(), metadata.gid()),
                (world.account().uid, world.account().gid),
                "{name}"
            );
        }
    }

    /// The current directory, when no grant is named; in `rw` for a command without a profile.
    fn the_current_directory_is_asked_for_by_default(world) {
        world.project_file("old", "before\n");
        let run = world
            .session(&["sh", "-c", "pwd; cat old; echo new > new; ! rm old"])
            .run();
        run.expect_code(0);
        let id = run.session();
        run.expect_stdout(&format!("/sessions/{id}/mnt/project\nbefore"));
        let grants = &run.summary()["grants"];
        assert_eq!(grants[0]["mode"], "rw", "{run}");
        assert!(world.project().join("new").exists() && world.project().join("old").exists());
    }

    fn with_a_grant_the_working_directory_is_the_sessions_own(world) {
        folder_with_old_file(world);
        let run = with_grant(world, "ro", "pwd; ls mnt");
        run.expect_code(0)
            .expect_stdout(&format!("/sessions/{}\nfolder", run.session()));
    }

    fn names_are_numbered_on_collision_and_can_be_chosen(world) {
        let one = world.folder("home/project/one/src");
        world.folder("home/project/two");
        let two = world.folder("home/project/two/src");
        world.write(one.join("which"), "one");
        world.write(two.join("which"), "two");
        let run = world
            .session(&["sh", "-c", "ls mnt; cat mnt/chosen/which"])
            .grant(format!("{}:ro", one.display()))
            .grant(format!("{}:ro", two.display()))
            .grant(format!("{}:ro=chosen", two.display()))
            .run();
        run.expect_code(0);
        let text = run.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{run}");
        assert!(lines.contains(&"src") && lines.contains(&"chosen"), "{run}");
        assert_eq!(lines[3], "two", "{run}");
    }

    /// Nothing of the host but what is granted: neither the grant's neighbours nor the home.
    fn nothing_beside_the_grant_is_seen(world) {
        folder_with_old_file(world);
        world.write("home/secret", "secret");
        let secret = world.home().join("secret");
        let run = world
            .session(&[
                "sh",
                "-c",
                "cat \"$1\"; ls -A /run /home /root /srv /opt 2>/dev/null; ls -A /var; ls -A \"$HOME\"",
                "sh",
                &secret.to_string_lossy(),
            ])
            .grant(format!("{}:ro", world.project().join("folder").display()))
            .run();
        run.expect_stdout("tmp\nmnt");
    }

    fn a_folder_that_is_not_there_is_a_clear_error(world) {
        let missing = world.project().join("missing");
        let run = world
            .session(&["true"])
            .grant(format!("{}:ro", missing.display()))
            .run();
        run.expect_code(3).expect_stderr("missing");
    }
}
