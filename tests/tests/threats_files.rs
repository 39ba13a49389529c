//! The rows of the threat list about what a session is given and what it is not, by their ids,
//! through the whole binary.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use cordon_tests::{Outcome, World, for_both, process};

/// A session that must not even start: refused with `code`, and the command did not run.
#[track_caller]
fn expect_no_start(world: &World, grant: &Path, code: i32) -> Outcome {
    let refused = world
        .session(&["sh", "-c", "touch \"$HOME\"/mnt/*/ran"])
        .grant(format!("{}:rw", grant.display()))
        .run();
    refused.expect_code(code);
    assert!(
        !grant.join("ran").exists(),
        "{}: {refused}",
        grant.display()
    );
    refused
}

/// Refused because of what the folder is, in words that say so.
#[track_caller]
fn expect_protected(refused: &Outcome) {
    let said = ["never granted", "is protected", "Cordon's own"];
    let why = said.iter().any(|words| refused.stderr.contains(words));
    assert!(why, "a reason in {refused}");
}

for_both! {
    /// A repository whose `.git` is a file: what it points at is protected where it really lies.
    fn f06_a_git_file_protects_what_it_points_at(world) {
        let project = world.project();
        let at = |name: &str| project.join(name).display().to_string();
        world.host("git", &["init", "-q", &at("main")]);
        let commit = ["-c", "user.name=a", "-c", "user.email=a@b.test", "commit", "-q"];
        world.host("git", &[&["-C", &at("main")], &commit[..], &["--allow-empty", "-m", "x"]].concat());
        world.host("git", &["-C", &at("main"), "worktree", "add", "-q", &at("tree")]);
        assert!(project.join("tree/.git").is_file());
        // Moved to where nothing but the pointer leads to.
        fs::rename(project.join("main/.git"), project.join("elsewhere")).unwrap();
        fs::write(project.join("main/.git"), "gitdir: ../elsewhere\n").unwrap();
        world.give(&project.join("main/.git"));
        let script = "echo x > elsewhere/hooks/pre-commit; echo x >> elsewhere/config; \
            echo 'gitdir: ../evil' > main/.git; mv main/.git gone; echo x > elsewhere/free; ls";
        let run = world.session(&["sh", "-c", script]).run();
        assert!(!project.join("elsewhere/hooks/pre-commit").exists(), "{run}");
        let config = fs::read_to_string(project.join("elsewhere/config")).unwrap();
        assert!(!config.ends_with("x\n"), "{run}");
        let pointer = fs::read_to_string(project.join("main/.git")).unwrap();
        assert_eq!(pointer, "gitdir: ../elsewhere\n", "{run}");
        // The control: what is no guard of the repository can be written.
        assert!(project.join("elsewhere/free").exists(), "{run}");
    }

    /// Links and `..` in a grant lead nowhere outside of it, and nothing is moved out of it.
    fn f07_links_and_detours_stay_in_the_grant(world) {
        let secret = world.write("home/secret", "secret");
        let project = world.project();
        let way = secret.display();
        std::os::unix::fs::symlink(&secret, project.join("link")).unwrap();
        std::os::unix::fs::symlink(secret.parent().unwrap(), project.join("folder")).unwrap();
        world.project_file("inside", "inside");
        std::os::unix::fs::symlink("inside", project.join("good")).unwrap();
        let script = format!(
            "cat link folder/secret ../secret ../../secret ../../../secret '{way}' \
             /proc/self/cwd/../secret /proc/self/root'{way}' 2>/dev/null; \
             ln '{way}' hard; mv inside \"$HOME\"/out; ln inside /tmp/hard; cat good"
        );
        let run = world.session(&["sh", "-c", &script]).run();
        run.expect_stdout("inside");
        assert!(project.join("inside").exists() && !project.join("hard").exists(), "{run}");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    }

    /// No variable, file or flag that the command controls turns the walls off.
    fn f01_no_switch_inside_turns_the_walls_off(world) {
        world.project_file("cordon.toml", "[sandbox]\nenabled = false\n");
        world.project_file(".cordon.toml", "[sandbox]\nenabled = false\n");
        world.folder("home/project/.cordon");
        world.project_file(".cordon/cordon.toml", "[sandbox]\nenabled = false\n");
        let secret = world.write("home/secret", "secret");
        let mut command = world.session(&["cat", &secret.to_string_lossy()]).command();
        for variable in [
            "CORDON_NO_SANDBOX",
            "CORDON_DISABLE",
            "CORDON_SANDBOX",
            "CORDON_BYPASS",
            "CORDON_POLICY",
        ] {
            command.env(variable, "1");
        }
        let run = process::finish(command, b"");
        world.remember(&run);
        assert_ne!(run.code, 0, "{run}");
        assert_eq!(run.text(), "", "{run}");
        for flag in [
            "--no-sandbox",
            "--unsafe",
            "--dangerously-skip-sandbox",
        ] {
            world.cordon(&["run", flag, "--", "true"]).expect_code(64);
        }
        // This one is policy's to refuse.
        let none = ["run", "--backend=none", "--", "true"];
        world.cordon(&none).expect_code(3);
        world.session(&["cat", "cordon.toml"]).run().expect_code(0);
    }

    /// Running without walls is its own action, and the built-in policy does not permit it.
    fn f01_a_policy_in_the_project_is_not_read(world) {
        let origin = world.origin("open.test");
        world.project_file("policy.cedar", "permit (principal, action, resource);");
        world.folder("home/project/policies");
        world.project_file(
            "policies/all.cedar",
            "permit (principal, action, resource);",
        );
        let run = world
            .session(&["curl", "-sS", &origin.url("open.test", "/")])
            .built_in_policy()
            .run();
        run.expect_denied("open.test", "default_deny");
        assert_eq!(origin.connections(), 0);
        world.policy.allow("open.test");
        let run = world
            .session(&["curl", "-sS", &origin.url("open.test", "/")])
            .run();
        run.expect_stdout("hello from open.test");
    }

    /// Without bubblewrap nothing runs, and the message says what is missing and how to get it.
    fn f15_without_bubblewrap_nothing_runs(world) {
        if !world.without_program("bwrap") {
            return;
        }
        let run = world.session(&["touch", "ran"]).run();
        run.expect_code(1)
            .expect_stderr("bubblewrap")
            .expect_stderr("apt");
        assert!(!world.project().join("ran").exists(), "{run}");
    }

    /// A bubblewrap that does not run is as good as none, and is named.
    fn f15_with_a_broken_bubblewrap_nothing_runs(world) {
        let empty = world.write("nothing", "");
        if !world.mount_over(&empty, "/usr/bin/bwrap") {
            return;
        }
        let run = world.session(&["touch", "ran"]).run();
        run.expect_code(1).expect_stderr("bwrap");
        assert!(!world.project().join("ran").exists(), "{run}");
    }

    /// Without user namespaces nothing runs either.
    fn f15_without_user_namespaces_nothing_runs(world) {
        if world.account().uid == 0 {
            return;
        }
        let run = world.session(&["touch", "ran"]).command();
        let mut limited = world.as_account("unshare");
        limited.current_dir(world.project());
        // In a user namespace of its own, the limit binds the ones below.
        limited.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c"]);
        limited
            .arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"")
            .arg("sh");
        limited.arg(run.get_program()).args(run.get_args());
        let run = process::finish(limited, b"");
        run.expect_code(1).expect_stderr("user namespace");
        assert!(!world.project().join("ran").exists(), "{run}");
    }

    /// Folders that would give everything away are refused, whoever asks and whichever way round.
    fn f16_folders_that_give_everything_away_are_refused(world) {
        world.session(&["true"]).run().expect_code(0);
        let home = world.home();
        let root = world.state();
        let above = home.parent().map(Path::to_owned).unwrap_or_default();
        for folder in [
            Path::new("/"),
            &home,
            &above,
            &root,
            &world.runtime(),
            &root.join("log"),
            Path::new("/etc"),
            Path::new("/proc"),
            Path::new("/dev"),
            Path::new("/run"),
            Path::new("/tmp"),
        ] {
            let refused = expect_no_start(world, folder, 3);
            expect_protected(&refused);
        }
        let linked = world.project().join("link");
        std::os::unix::fs::symlink(&home, &linked).unwrap();
        expect_protected(&expect_no_start(world, &linked, 3));
        let configuration = world
            .config_file()
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default();
        expect_protected(&expect_no_start(world, &configuration, 3));
        // Nobody named the current directory: the session runs without it, and says so.
        let run = world
            .session(&["sh", "-c", "ls -A; ls -A mnt 2>/dev/null | grep -v home"])
            .folder(&home)
            .run();
        assert!(!run.text().contains("project"), "{run}");
        assert_eq!(run.reasons(), ["protected_folder"], "{run}");
        let below = world.folder("home/project/below");
        world
            .session(&["sh", "-c", "touch mnt/below/ran"])
            .grant(format!("{}:rw", below.display()))
            .run()
            .expect_code(0);
        assert!(below.join("ran").exists());
    }

    /// The log is outside every mount, and no grant can bring it in.
    fn a01_the_log_is_out_of_reach(world) {
        world.session(&["true"]).run().expect_code(0);
        let log = world.state().join("log");
        assert!(log.is_dir(), "the log lies where this test looks");
        assert_eq!(
            fs::metadata(&log).unwrap().permissions().mode() & 0o777,
            0o700
        );
        for folder in [&log, &world.state(), &world.state().join("..")] {
            expect_protected(&expect_no_start(world, folder, 3));
        }
        let run = world
            .session(&[
                "sh",
                "-c",
                "ls \"$1\"; find / -xdev -name 'journal*' 2>/dev/null | grep -i cordon",
                "sh",
                &log.to_string_lossy(),
            ])
            .run();
        assert_eq!(run.text(), "", "{run}");
    }
}
