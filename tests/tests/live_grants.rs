//! Grants of a running session: given, changed and taken; what is protected in them; and policy
//! that comes to refuse them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may end the test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use cordon_tests::{
    Outcome, World, for_both,
    process::{self, Running, eventually},
};
use serde_json::Value;

/// Carries out each script that appears as `todo` in the project, and leaves what came of it as
/// `done`.
const WORKER: &str = "cd mnt/project; : > ready
    while :; do
        if [ -e todo ]; then
            [ \"$(cat todo)\" = end ] && exit 0
            bash todo > done.new 2>&1; echo \"exit $?\" >> done.new
            mv todo was; mv done.new done
        fi
        sleep 0.02
    done";

struct Live<'w> {
    world: &'w World,
    running: Running,
    id: String,
}

impl<'w> Live<'w> {
    fn start(world: &'w World) -> Self {
        Self::under(world, &[])
    }

    /// Under these policies; without any, under that of the world.
    fn under(world: &'w World, policies: &[&Path]) -> Self {
        let project = world.project();
        let session = world
            .session(&["bash", "-c", WORKER])
            .grant(format!("{}:rwd", project.display()));
        let running = policies
            .iter()
            .fold(session, |session, policy| session.policy(policy))
            .start();
        eventually("the session works", || project.join("ready").exists());
        let listed = world.cordon(&["session", "list", "--format", "json"]);
        listed.expect_code(0);
        let line: serde_json::Value = serde_json::from_str(listed.text().trim()).unwrap();
        let id = line["session"].as_str().unwrap().to_owned();
        Self { world, running, id }
    }

    /// What a script says inside, and its exit code as the last line.
    #[track_caller]
    fn inside(&self, script: &str) -> String {
        let project = self.world.project();
        let done = project.join("done");
        let _absent = fs::remove_file(&done);
        self.world.project_file("todo.new", script);
        fs::rename(project.join("todo.new"), project.join("todo")).unwrap();
        eventually("the script is over", || done.exists());
        fs::read_to_string(done).unwrap()
    }

    fn session(&self, verb: &str, args: &[&str]) -> Outcome {
        let mut words = vec!["session", verb, &self.id];
        words.extend(args);
        self.world.cordon(&words)
    }

    #[track_caller]
    fn grant(&self, grant: &str) {
        self.session("grant", &[grant]).expect_code(0);
    }

    fn end(self) -> Outcome {
        self.world.project_file("todo", "end");
        let outcome = self.running.finish();
        self.world.remember(&outcome);
        outcome
    }
}

/// A folder beside the project, with a file that was there before.
fn other(world: &World) -> (PathBuf, String) {
    let folder = world.folder("home/other");
    world.write("home/other/old", "before\n");
    let text = folder.display().to_string();
    (folder, text)
}

/// A policy that keeps originals.
fn preserving(world: &World) -> PathBuf {
    let rule = world.write(
        "home/preserve.cedar",
        "@id(\"kept\") @preserve(\"originals\") permit (principal, \
         action == Action::\"grant_rwd\", resource);\n\
         @id(\"start\") permit (principal, action == Action::\"start_session\", resource);\n\
         @id(\"delete\") permit (principal, action == Action::\"delete\", resource);\n",
    );
    world.give(&rule);
    rule
}

const NOT_UPLOADS: &str = "@id(\"not-uploads\") forbid (principal, action in \
    [Action::\"grant_rw\", Action::\"grant_rwd\"], resource) when { context.name == \"uploads\" };";

for_both! {
    /// Rules may be about the name that a folder has inside: as it is given, and as more is asked of it.
    fn a_folder_s_name_inside_is_what_rules_are_asked_about(world) {
        world.policy.rule(NOT_UPLOADS);
        let (folder, path) = other(world);
        let more = world.folder("home/more").display().to_string();
        let live = Live::start(world);
        for (grant, named) in [(&path, "uploads"), (&more, "work")] {
            live.grant(&format!("{grant}={named}"));
        }
        let refused = live.session("mode", &["uploads", "rw"]);
        refused.expect_code(3).expect_stderr("not-uploads");
        live.session("mode", &["work", "rw"]).expect_code(0);
        let tried = live.inside("touch ../uploads/new ../work/new; ls ../uploads ../work");
        assert!(!folder.join("new").exists() && Path::new(&more).join("new").exists(), "{tried}");
        live.session("revoke", &["uploads"]).expect_code(0);
        let written = format!("{path}:rw=uploads");
        live.session("grant", &[&written]).expect_code(3).expect_stderr("not-uploads");
        live.session("grant", &[&format!("{path}:rw=elsewhere")]).expect_code(0);
        live.session("revoke", &["elsewhere"]).expect_code(0);
        live.session("grant", &[&format!("{path}=uploads")]).expect_code(0);
        let id = live.id.clone();
        live.end();
        let records = world.records(&id);
        let of = |mode: &str, effect: &str| {
            let is = |record: &&Value| {
                let resource = &record["resource"];
                resource["name"] == "uploads" && resource["mode"] == mode && record["effect"] == effect
            };
            records.iter().filter(is).count()
        };
        assert_eq!((of("rw", "deny"), of("ro", "allow")), (2, 2));
    }

    fn a_folder_is_given_to_a_running_session_and_taken_from_it(world) {
        let (folder, path) = other(world);
        let live = Live::start(world);
        assert!(live.inside("cat ../other/old").ends_with("exit 1\n"));
        let begun = Instant::now();
        live.grant(&format!("{path}:rw"));
        println!("given in {:?}, with the start of the command", begun.elapsed());
        assert_eq!(
            live.inside("cd ../other; cat old; echo x >new; rm new; echo y >kept; rm old 2>/dev/null"),
            "before\nexit 1\n"
        );
        assert!(folder.join("old").exists() && folder.join("kept").exists());
        live.session("grant", &[&path]).expect_code(1).expect_stderr("granted already");

        live.session("revoke", &["other"]).expect_code(0);
        assert!(live.inside("cat ../other/old").ends_with("exit 1\n"));
        assert_eq!(live.inside("test -e ../other"), "exit 1\n");
        live.session("revoke", &["other"]).expect_code(1).expect_stderr("its grants are project");
        // It was not removed: taking a grant is no removal.
        assert!(folder.join("old").exists());
        // The folder that the session began with goes by the same way.
        let id = live.id.clone();
        live.end();
        let said: Vec<String> = world
            .records(&id)
            .iter()
            .filter_map(|record| record["message"].as_str().map(str::to_owned))
            .collect();
        assert!(said.iter().any(|said| said.contains("granted rw")), "{said:?}");
        assert!(said.iter().any(|said| said.contains("taken away")), "{said:?}");
    }

    fn a_grant_changes_its_mode_in_place(world) {
        let (folder, path) = other(world);
        let live = Live::start(world);
        live.grant(&path);
        assert_eq!(live.inside("cd ../other; cat old; echo x >new"), format!(
            "before\n{}: line 1: new: Read-only file system\nexit 1\n", "todo"));
        live.session("mode", &[&path, "rw"]).expect_code(0);
        assert_eq!(live.inside("cd ../other; echo x >new && ! rm old 2>/dev/null"), "exit 0\n");
        live.session("mode", &["other", "rwd"]).expect_code(0);
        assert_eq!(live.inside("rm ../other/old"), "exit 0\n");
        assert!(!folder.join("old").exists());
        // Somebody has a file open for writing.
        live.inside("(exec 8>../other/held; sleep 1000) >/dev/null 2>&1 & disown");
        eventually("it is open", || folder.join("held").exists());
        live.session("mode", &["other", "ro"]).expect_code(1).expect_stderr("--kill");
        assert_eq!(live.inside("echo x >../other/new"), "exit 0\n");
        live.session("mode", &["other", "ro", "--kill"]).expect_code(0).expect_stderr("ended");
        assert!(live.inside("echo x >../other/new").contains("Read-only"));
        live.end();
    }

    /// F05: nor in the moment between one mode and the next, by one that tries all the time.
    fn f05_what_is_protected_stays_so_while_a_mode_changes(world) {
        let (folder, path) = other(world);
        let live = Live::start(world);
        live.grant(&format!("{path}:rw"));
        live.inside("(cd ../other; while :; do : >plain; : >.envrc; done) >/dev/null 2>&1 & disown");
        eventually("it tries, and the control is made", || folder.join("plain").exists());
        for _turn in 0..10 {
            for mode in ["rwd", "rw"] {
                live.session("mode", &["other", mode]).expect_code(0);
            }
        }
        assert!(!folder.join(".envrc").exists());
        live.inside("pkill -f plain; :");
        live.end();
    }

    /// F05: folders that are given at the same moment have names of their own, and what is protected
    /// stays so in each.
    fn f05_grants_at_the_same_moment_do_not_take_each_other_s_place(world) {
        let folders = ["a", "b"].map(|place| world.folder(format!("home/{place}/src")));
        let live = Live::start(world);
        let give = |folders: [&PathBuf; 2]| {
            let begun = folders.map(|folder| {
                let mut command = world.command();
                command.args(["session", "grant", &live.id]).arg(format!("{}:rw", folder.display()));
                process::start(command, b"")
            });
            begun.map(Running::finish)
        };
        let tried = || live.inside("cd ..; for name in src*; do : >$name/plain; : >$name/.envrc; mkdir $name/.git; done");
        let made = |folder: &PathBuf| {
            let names = fs::read_dir(folder).unwrap();
            let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            fs::remove_file(folder.join("plain")).unwrap();
            names
        };
        for _turn in 0..20 {
            for given in give(folders.each_ref()) {
                given.expect_code(0);
            }
            let said = tried();
            for folder in &folders {
                assert_eq!(made(folder), ["plain"], "{said}");
            }
            for name in ["src", "src-2"] {
                live.session("revoke", &[name]).expect_code(0);
            }
            // And of one folder, that is asked for twice, there is one, by either name.
            let mut given = give([&folders[0], &folders[0]]);
            given.sort_by_key(|outcome| outcome.code);
            given[0].expect_code(0);
            given[1].expect_code(1).expect_stderr("granted already, as");
            let said = tried();
            assert_eq!(made(&folders[0]), ["plain"], "{said}");
            live.session("revoke", &[folders[0].to_str().unwrap()]).expect_code(0);
        }
        live.end();
    }

    fn who_still_uses_a_taken_grant_is_told_or_ended(world) {
        let (folder, path) = other(world);
        let live = Live::start(world);
        for kill in [false, true] {
            live.grant(&format!("{path}:rwd"));
            live.inside("(cd ../other; exec 8>held; echo $BASHPID >pid; sleep 1000; echo x >&8) >/dev/null 2>&1 & disown");
            eventually("it is open", || folder.join("pid").exists());
            let extra: &[&str] = if kill { &["--kill"] } else { &[] };
            let args = [&["other"][..], extra].concat();
            let revoked = live.session("revoke", &args);
            revoked.expect_code(0);
            revoked.expect_stderr(if kill { "ended" } else { "still uses it" });
            revoked.expect_stderr("works in it");
            let left = live.inside("pgrep -x sleep | wc -l");
            assert_eq!(left.starts_with("0\n"), kill, "{left}");
            fs::remove_file(folder.join("pid")).unwrap();
            live.inside("pkill -x sleep; :");
        }
        live.end();
    }

    fn a_paused_session_gets_and_loses_grants(world) {
        let (_folder, path) = other(world);
        let live = Live::start(world);
        live.session("pause", &[]).expect_code(0);
        live.grant(&format!("{path}:rw"));
        live.session("resume", &[]).expect_code(0);
        assert_eq!(live.inside("cat ../other/old"), "before\nexit 0\n");
        live.session("pause", &[]).expect_code(0);
        live.session("revoke", &["other"]).expect_code(0);
        live.session("resume", &[]).expect_code(0);
        assert_eq!(live.inside("test -e ../other/old"), "exit 1\n");
        live.end();
    }

    fn f16_a_running_session_is_not_given_what_none_is(world) {
        let live = Live::start(world);
        let home = world.home();
        for path in ["/", "/etc", "/proc/self", &home.display().to_string()] {
            live.session("grant", &[path]).expect_code(3).expect_stderr("denied:");
        }
        let ours = world.runtime().display().to_string();
        live.session("grant", &[&ours]).expect_code(3);
        live.session("grant", &["/nowhere/at/all"]).expect_code(3);
        live.end();
    }

    /// In a grant that was there from the start and in one that came later.
    fn f04_what_runs_by_itself_is_not_written(world) {
        let (folder, path) = other(world);
        for place in ["home/other", "home/project/sub"] {
            for folder in ["", "/.git", "/.git/hooks"] {
                world.folder(format!("{place}{folder}"));
            }
            for (name, text) in [("hooks/pre-commit", "h"), ("config", "[core]\n"), ("index", "i")] {
                world.write(format!("{place}/.git/{name}"), text);
            }
            world.write(format!("{place}/.envrc"), "e");
        }
        let live = Live::start(world);
        live.grant(&format!("{path}:rwd"));
        for place in ["../other", "sub"] {
            for script in [
                "echo x >.git/hooks/pre-commit",
                "echo x >.git/hooks/new",
                "echo x >>.git/config",
                "rm .envrc",
                "mv .git away",
                "chmod 777 .git/hooks/pre-commit",
                "python3 -c 'import os; os.truncate(\".envrc\", 0)'",
            ] {
                let said = live.inside(&format!("cd {place} && {script}"));
                assert!(!said.ends_with("exit 0\n"), "{place}: {script}: {said}");
            }
            assert_eq!(live.inside(&format!("cd {place}; echo x >.git/index; rm .git/index")), "exit 0\n");
        }
        assert_eq!(fs::read_to_string(folder.join(".git/config")).unwrap(), "[core]\n");
        assert_eq!(fs::read_to_string(folder.join(".envrc")).unwrap(), "e");
        let outcome = live.end();
        let project = world.project();
        for name in [".envrc", ".git/config", ".git/hooks/new"] {
            let what = format!("write {}", folder.join(name).display());
            assert!(outcome.denied(&what) > 0, "{what}: {outcome}");
            assert!(outcome.denied(&format!("write {}", project.join("sub").join(name).display())) > 0);
        }
    }

    fn f05_nothing_protected_is_made_and_nothing_is_left(world) {
        let (folder, path) = other(world);
        let live = Live::start(world);
        live.grant(&format!("{path}:rwd"));
        for script in ["mkdir .git", "git init -q .", "echo x >.mcp.json", "mkdir .vscode", "ln -s x .envrc"] {
            let said = live.inside(&format!("cd ../other && {script}"));
            assert!(said.contains("not permitted"), "{script}: {said}");
        }
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["old"]);
        live.running.signal(rustix::process::Signal::KILL);
        let _killed = live.running.finish();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["old"]);
        let listed = || world.cordon(&["session", "list", "--format", "json"]).text().to_owned();
        eventually("the daemon knows that its launcher is gone", || listed().trim().is_empty());
    }

    fn f04_policy_can_permit_what_is_protected(world) {
        world.write("home/project/.envrc", "e");
        let rule = world.write(
            "home/more.cedar",
            format!(
                "@id(\"may\") permit (principal, action == Action::\"write\", \
                 resource in Folder::\"{0}/.vscode\");\n\
                 @id(\"made\") permit (principal, action == Action::\"write\", \
                 resource == File::\"{0}/.vscode\");\n\
                 @id(\"too\") permit (principal, action == Action::\"write\", \
                 resource == File::\"{0}/.envrc\");\n",
                world.project().display()
            ),
        );
        world.give(&rule);
        let run = |policy: bool| {
            let session = world.session(&["sh", "-c", "cd mnt/project; echo x >.envrc; mkdir .vscode; echo x >.vscode/a; cat .envrc"]);
            let session = session.grant(format!("{}:rw", world.project().display())).policy("default");
            let session = if policy { session.policy(&rule) } else { session };
            session.run()
        };
        run(false).expect_code(0).expect_stdout("e");
        assert!(!world.project().join(".vscode").exists());
        run(true).expect_code(0).expect_stdout("x");
        assert!(world.project().join(".vscode/a").exists());
    }

    /// A path as the session knew it names what is put back as well as one of the host.
    fn what_policy_preserves_is_put_back_by_its_path_inside(world) {
        let rule = preserving(world);
        for name in ["gone", "also"] {
            world.project_file(name, name);
        }
        let outcome = world
            .session(&["sh", "-c", "cd mnt/project && rm gone also"])
            .policy(&rule)
            .grant(format!("{}:rwd", world.project().display()))
            .run();
        outcome.expect_code(0);
        let id = outcome.session();
        let restore = |name: &str| {
            let path = format!("/sessions/{id}/mnt/project/{name}");
            world.cordon(&["session", "restore", &id, &path])
        };
        restore("none").expect_code(1).expect_stderr("nothing of that was kept");
        restore("gone").expect_code(0);
        let there = |name: &str| fs::read_to_string(world.project().join(name)).ok();
        assert_eq!((there("gone").as_deref(), there("also")), (Some("gone"), None));
        fs::remove_dir_all(world.state().join("kept")).unwrap();
    }

    /// Where its file system shares no blocks with the store, what is preserved is copied, and that
    /// is said when the folder is granted, with the limit.
    fn a_grant_whose_originals_are_copied_says_so(world) {
        let rule = preserving(world);
        // On the file system that the state lies on.
        let (store, at_start) = (world.folder("probes"), world.folder("at-start"));
        let live = Live::under(world, &[&rule]);
        let clones = || {
            let file = |name: &str| {
                let mut how = fs::File::options();
                how.read(true).write(true).create_new(true);
                how.open(store.join(name)).unwrap()
            };
            rustix::fs::ioctl_ficlone(file("one"), file("other")).is_ok()
        };
        let limit = (!clones()).then_some(1_u64 << 30);
        let granted = |name: &str, format: &str| {
            let folder = format!("{}:rwd", world.folder(name).display());
            world.cordon(&["session", "grant", &live.id, &folder, "--format", format])
        };
        let told = granted("one", "json");
        told.expect_code(0);
        let line: Value = serde_json::from_str(told.text().trim()).unwrap();
        assert_eq!(line["grant"]["copied_up_to"].as_u64(), limit, "{told}");
        let said = "files up to 1.0 GB; a larger one cannot be changed";
        let told = granted("other", "text");
        assert_eq!(told.stderr.contains(said), limit.is_some(), "{told}");
        live.end();
        // And at the start.
        let mut run = world.command();
        let grant = format!("{}:rwd", at_start.display());
        run.args(["run", "--policy"]).arg(&rule).args(["--grant", &grant, "--", "true"]);
        let told = process::finish(run, b"");
        told.expect_code(0);
        assert_eq!(told.stderr.contains(said), limit.is_some(), "{told}");
        fs::remove_dir_all(world.state().join("kept")).unwrap();
    }

    /// What policy wants kept is put back.
    fn what_policy_preserves_is_put_back(world) {
        let rule = preserving(world);
        world.folder("home/project/dir");
        for name in ["gone", "written", "moved", "dir/deep"] {
            world.project_file(name, name);
        }
        let script = "cd mnt/project && rm gone && echo x >written && mv moved away && rm -r dir && echo new >gone";
        let outcome = world
            .session(&["sh", "-c", script])
            .policy(&rule)
            .grant(format!("{}:rwd", world.project().display()))
            .run();
        outcome.expect_code(0);
        let files = &outcome.summary()["changes"][0];
        assert_eq!((&files["deleted"], &files["moved"]), (&3.into(), &1.into()), "{files}");
        let id = outcome.session();
        let changes = world.cordon(&["session", "changes", &id]);
        changes.expect_code(0);
        for line in ["removed   ", "written   ", "moved     "] {
            assert!(changes.text().contains(line), "{changes}");
        }
        world.cordon(&["session", "restore", &id]).expect_code(0);
        let read = |name: &str| fs::read_to_string(world.project().join(name)).unwrap();
        for name in ["gone", "written", "moved", "dir/deep"] {
            assert_eq!(read(name), name);
        }
        assert_eq!(read("gone.cordon-was"), "new\n");
        world.cordon(&["session", "restore", "0000"]).expect_code(1).expect_stderr("nothing was kept");
        fs::remove_dir_all(world.state().join("kept")).unwrap();
    }

    /// A line that a full disk cut off, before there was anything to cut it off again.
    fn what_cannot_be_read_of_what_was_kept_is_told_and_the_rest_put_back(world) {
        let rule = preserving(world);
        for name in ["first", "last"] {
            world.project_file(name, name);
        }
        let outcome = world
            .session(&["sh", "-c", "cd mnt/project && rm first && rm last"])
            .policy(&rule)
            .grant(format!("{}:rwd", world.project().display()))
            .run();
        outcome.expect_code(0);
        let id = outcome.session();
        let index = world.state().join("kept").join(&id).join("index.jsonl");
        let lines = fs::read_to_string(&index).unwrap();
        let (first, last) = lines.split_once('\n').unwrap();
        fs::write(&index, format!("{first}\n{{\"change\":{last}\n{last}")).unwrap();
        let changes = world.cordon(&["session", "changes", &id]);
        changes.expect_code(1).expect_stderr("line 2");
        assert_eq!(changes.text().lines().count(), 2, "{changes}");
        world.cordon(&["session", "restore", &id]).expect_code(1).expect_stderr("line 2");
        for name in ["first", "last"] {
            assert_eq!(fs::read_to_string(world.project().join(name)).unwrap(), name);
        }
        fs::remove_dir_all(world.state().join("kept")).unwrap();
    }

    /// What is asked of a mode holds from when the grant has it, not only for what began with it.
    fn f07_a_grant_that_changes_its_mode_is_kept_as_that_mode_asks(world) {
        let (folder, path) = other(world);
        let rules = world.write(
            "home/modes.cedar",
            "@id(\"start\") permit (principal, action == Action::\"start_session\", resource);\n\
             @id(\"ro\") permit (principal, action == Action::\"grant_ro\", resource);\n\
             @id(\"rw\") @no_delete(\"strict\") permit (principal, action == Action::\"grant_rw\", resource);\n\
             @id(\"rwd\") @preserve(\"originals\") permit (principal, action == Action::\"grant_rwd\", resource);\n\
             @id(\"delete\") permit (principal, action == Action::\"delete\", resource);\n",
        );
        world.give(&rules);
        let live = Live::under(world, &[&rules]);
        live.grant(&format!("{path}:ro"));
        live.session("mode", &["other", "rw"]).expect_code(0);
        // Under `rw` without the annotation this is a move like others.
        let moved = live.inside("echo x >../other/new && mv ../other/old ../other/elsewhere");
        assert!(!moved.ends_with("exit 0\n"), "{moved}");
        assert!(folder.join("old").exists() && folder.join("new").exists());
        live.session("mode", &["other", "rwd"]).expect_code(0);
        assert_eq!(live.inside("rm ../other/old"), "exit 0\n");
        let id = live.id.clone();
        live.end().expect_code(0);
        assert!(!folder.join("old").exists());
        world.cordon(&["session", "restore", &id]).expect_code(0);
        assert_eq!(fs::read_to_string(folder.join("old")).unwrap(), "before\n");
        fs::remove_dir_all(world.state().join("kept")).unwrap();
    }

    /// By a wish, and when they are too much; never of a session that runs; each is on record.
    fn originals_go_in_the_end(world) {
        let rule = preserving(world);
        let project = format!("{}:rwd", world.project().display());
        let session = |script: &str| {
            world.project_file("gone", "gone");
            world.session(&["sh", "-c", script]).policy(&rule).grant(&project)
        };
        let kept = || {
            let outcome = session("rm mnt/project/gone").run();
            outcome.expect_code(0);
            outcome.session()
        };
        let folder = |id: &str| world.state().join("kept").join(id);
        let (first, second, third) = (kept(), kept(), kept());
        let running = session("cd mnt/project; rm gone; until [ -e end ]; do sleep 0.02; done").start();
        let gone = world.project().join("gone");
        eventually("it has removed the file", || !gone.exists());
        let listed = world.cordon(&["session", "list", "--format", "json"]);
        let listed: Value = serde_json::from_str(listed.text().trim()).unwrap();
        let id = listed["session"].as_str().unwrap();
        let purge = |words: &[&str]| {
            let words = [&["session", "changes", "--purge", "--format", "json"], words].concat();
            world.cordon(&words)
        };
        purge(&[id]).expect_code(1).expect_stderr("it runs");
        purge(&["0000"]).expect_code(1).expect_stderr("nothing was kept");
        purge(&[&first]).expect_code(0).expect_told(&first);
        assert!(!folder(&first).exists() && folder(&second).exists());
        purge(&[]).expect_code(0).expect_told(&second);
        assert!(!folder(&second).exists() && !folder(&third).exists());
        assert!(folder(id).exists(), "of the session that runs");
        world.project_file("end", "");
        let outcome = running.finish();
        outcome.expect_code(0);
        world.remember(&outcome);
        // The next start of the daemon looks through what there is.
        world.stop();
        world.config += "[sandbox.originals]\nkeep_bytes = 1\n";
        world.session(&["true"]).run().expect_code(0);
        let last = world.state().join("kept").join(outcome.session());
        eventually("what is too much goes", || !last.exists());
        let records = world.cordon(&["audit", "query", "--kind", "originals.purge", "--format", "jsonl"]);
        let records = records.text();
        let of: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut of: Vec<&str> = of.iter().map(|record| record["upkeep"]["session"].as_str().unwrap()).collect();
        of.sort_unstable();
        let outcome = outcome.session();
        assert_eq!(of, [&*first, &*second, &*third, &*outcome]);
        fs::remove_dir_all(world.state().join("kept")).unwrap();
    }
}
