//! Grants: what each mode lets a session do, and whose the files are outside.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use cordon_tests::{
    Outcome, World, for_both,
    process::{self, eventually},
};

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

/// Says where the toolchain is that these tests were built with.
fn toolchain() -> std::process::Command {
    let mut rustc = std::process::Command::new("rustc");
    rustc.args(["--print", "sysroot"]);
    rustc
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

    /// Cargo builds, builds again and cleans up after itself where nothing old may disappear.
    fn f20_cargo_builds_in_a_folder_granted_rw(world) {
        let told = process::finish(toolchain(), b"");
        let toolchain = told.text().trim().to_owned();
        let mut able = world.as_account(format!("{toolchain}/bin/cargo"));
        able.arg("--version");
        if !able.output().is_ok_and(|output| output.status.success()) {
            eprintln!("not run: this account has no Rust toolchain that it may run");
            return;
        }
        world.project_file("Cargo.toml", "[package]\nname = \"tiny\"\nedition = \"2021\"\n");
        world.folder("home/project/src");
        world.project_file("src/main.rs", "fn main() { println!(\"one\"); }\n");
        let script = "export CARGO_HOME=/tmp/cargo PATH=$PWD/mnt/toolchain/bin:$PATH; cd mnt/project \
            && cargo build --offline -q && ./target/debug/tiny \
            && echo 'fn main() { println!(\"two\"); }' > src/main.rs \
            && cargo run --offline -q && cargo clean -q && test ! -e target";
        let run = world
            .session(&["sh", "-c", script])
            .grant(format!("{}:rw", world.project().display()))
            .grant(format!("{toolchain}:ro=toolchain"))
            .run();
        run.expect_code(0);
        assert_eq!(run.text().trim(), "one\ntwo", "{run}");
    }

    /// What was refused is recorded as that alone, also where policy would permit a delete.
    fn f20_a_refused_delete_is_no_allowed_one(world) {
        folder_with_old_file(world);
        world.policy.rule("@id(\"may\") permit (principal, action == Action::\"delete\", resource);");
        let refused = with_grant(world, "rw", "rm mnt/folder/old");
        assert_ne!(refused.code, 0, "{refused}");
        assert_eq!(refused.allowed("delete"), 0, "{refused}");
        let records = world.records(&refused.session());
        let deletes = records.iter().filter(|record| record["action"] == "path.delete");
        let enforced: Vec<_> = deletes.map(|record| (&record["effect"], &record["enforced"])).collect();
        assert_eq!(enforced, [(&"deny".into(), &"blocked".into())], "{refused}");
    }

    /// What is to be kept and cannot be is not written, and the log says why.
    fn what_cannot_be_kept_is_refused_and_recorded_as_that(world) {
        folder_with_old_file(world);
        let big = world.project_file("folder/big", "");
        let file = fs::File::options().write(true).open(&big).expect("it is ours");
        file.set_len((1 << 30) + 1).expect("a sparse file");
        world.policy.rule(
            "@id(\"kept\") @preserve(\"originals\") \
             permit (principal, action == Action::\"grant_rw\", resource);",
        );
        let run = with_grant(world, "rw", "echo more >> mnt/folder/old; echo x >> mnt/folder/big");
        assert_ne!(run.code, 0, "{run}");
        assert_eq!(old(world).as_deref(), Some("before\nmore\n"), "the control");
        let records = world.records(&run.session());
        let of_big = records.iter().find(|record| {
            record["effect"] == "deny" && record["resource"].to_string().contains("/big")
        });
        let of_big = of_big.expect("it is recorded");
        for (field, value) in [("action", "path.write"), ("effect", "deny"), ("reason", "unavailable")] {
            assert_eq!(of_big[field], value, "{of_big}");
        }
        assert!(of_big["err"].to_string().contains("cannot be kept"), "{of_big}");
        assert_eq!(run.summary()["denied"][0]["allow_with"], serde_json::Value::Null, "{run}");
        // What was kept of `old` outlives the session.
        world.cordon(&["session", "changes", "--purge", &run.session()]).expect_code(0);
        let _empty = fs::remove_dir(world.state().join("kept"));
    }

    /// A branch with fewer files: git says which it could not remove, and they stay.
    fn f20_git_checkout_of_a_branch_with_fewer_files_leaves_them(world) {
        let repository = world.folder("home/project/folder");
        let make = "cd \"$1\" && git init -q -b main && echo a > a && echo b > b && git add . && \
                    c='git -c user.name=n -c user.email=e@example.com' && $c commit -qm one && \
                    git checkout -q -b fewer && git rm -q b && $c commit -qm two && \
                    git checkout -q main";
        world
            .host("/bin/sh", &["-c", make, "sh", &repository.to_string_lossy()])
            .expect_code(0);
        let script = "cd mnt/folder; git checkout fewer 2>&1; echo \"exit $?\"; git status --short";
        let kept = with_grant(world, "rw", script);
        for said in ["unable to unlink 'b': Operation not permitted", "exit 0", "?? b"] {
            assert!(kept.expect_code(0).text().contains(said), "{said}: {kept}");
        }
        assert!(repository.join("b").exists() && kept.denied("folder/b") > 0, "{kept}");
        // The control.
        let back = "cd mnt/folder; rm b; git checkout -q main && git checkout -q fewer && ls";
        with_grant(world, "rwd", back).expect_code(0).expect_stdout("a");
        assert!(!repository.join("b").exists());
    }

    /// Each delete of what was there is in the log by its path, while the session runs; the session's
    /// own files are counted and not named.
    fn f20_what_rwd_deletes_is_recorded_while_it_runs(world) {
        folder_with_old_file(world);
        let mut names = Vec::new();
        for number in 0..100 {
            names.push(format!("z{number:02}"));
            world.project_file(&format!("folder/z{number:02}"), "x");
        }
        let script = "cd mnt/folder; touch a b c; rm a b c; rm z*; touch up; exec sleep 600";
        let running = world
            .session(&["sh", "-c", script])
            .grant(format!("{}:rwd", world.project().join("folder").display()))
            .start();
        let up = world.project().join("folder/up");
        eventually("all are removed", || up.exists());
        let listed = world.cordon(&["session", "list", "--format", "json"]).text();
        let listed: serde_json::Value = serde_json::from_str(listed.trim()).expect("one session");
        let session = listed["session"].as_str().expect("it has an id").to_owned();
        let named = || {
            let records = world.records(&session);
            let told = records.iter().filter_map(|record| record["message"].as_str());
            let deleted = told.filter_map(|text| text.strip_prefix("deleted: "));
            let paths = deleted.flat_map(|paths| paths.split(", "));
            let names = paths.filter_map(|path| Some(path.trim_matches('"').rsplit_once('/')?.1));
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        eventually("all are recorded", || named().len() == names.len());
        assert_eq!(named(), names);
        world.cordon(&["session", "end", "--now", &session]).expect_code(0);
        let run = running.finish();
        world.remember(&run);
        let changes = run.summary()["changes"][0].clone();
        assert_eq!((&changes["created"], &changes["deleted"]), (&4.into(), &103.into()), "{run}");
    }

    /// An old file goes in two steps, or with a name that reads like two, or like none: it is told of
    /// all the same, once, and as it is called.
    fn f20_however_an_old_file_is_called_and_goes_it_is_recorded(world) {
        folder_with_old_file(world);
        world.project_file("folder/x, secret.key", "x");
        let script = "cd mnt/folder; echo new > new; mv new old; rm old; rm 'x, secret.key'; \
            touch own; mv own other; rm other; touch \"$(printf 'a\\377')\"; rm a*";
        let run = with_grant(world, "rwd", script);
        run.expect_code(0);
        let records = world.records(&run.session());
        let told = records.iter().filter_map(|record| record["message"].as_str());
        let deleted: Vec<&str> = told.filter_map(|text| text.strip_prefix("deleted: ")).collect();
        let folder = world.project().join("folder");
        let expected = format!("{:?}, {:?}", folder.join("old"), folder.join("x, secret.key"));
        assert_eq!(deleted.join(", "), expected, "{run}");
        // The end is on record with all of it: a name that is no text has not kept it from that.
        let ends = records.iter().filter(|record| record["kind"] == "session.end");
        let ends: Vec<_> = ends.map(|record| &record["exit_code"]).collect();
        assert_eq!(ends, [&serde_json::json!(0)], "{records:?}");
    }

    /// A refusal at a path that is no text is on record like any other.
    fn a06_a_refusal_at_a_path_that_is_no_text_is_recorded(world) {
        folder_with_old_file(world);
        let odd = std::os::unix::ffi::OsStrExt::from_bytes(&b"odd\xff"[..]);
        let odd: &std::ffi::OsStr = odd;
        fs::write(world.project().join("folder").join(odd), "x").expect("it is ours");
        let kept = with_grant(world, "rw", "rm mnt/folder/odd* mnt/folder/old; true");
        kept.expect_code(0);
        assert!(world.project().join("folder").join(odd).exists(), "{kept}");
        assert_eq!((kept.denied("folder/old"), kept.denied("folder/odd")), (1, 1), "{kept}");
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
