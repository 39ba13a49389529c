//! Settings of other tools, from their file to a session that runs by them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{fs, path::Path};

use cordon_tests::{for_both, process};
use serde_json::{Value, json};

for_both! {
    /// A platform's baseline becomes a pack with tests that pass, and defaults; a session under both
    /// finds its mounts, its modes and its variables, and nothing more.
    fn a_baseline_is_a_policy_and_defaults_that_a_session_runs_by(world) {
        let file = world.write(world.home().join("baseline.json"), baseline().to_string());
        let mut older = baseline();
        *older.pointer_mut("/network/allowDomains/0").unwrap() = json!("old.example.com");
        let older = world.write(world.home().join("older.json"), older.to_string());
        let out = world.home().join("platform");
        let (file, older, out) = (text(&file), text(&older), text(&out));
        let import = ["import", "cowork-baseline", file, "--previous", older, "--out", out];
        let said = world.cordon(&import);
        said.expect_code(0).expect_stderr("+ host api.example.com");
        said.expect_stderr("- host old.example.com").expect_told("/session.toml");
        // Nothing is overwritten.
        world.cordon(&import).expect_code(64).expect_stderr("not empty");
        let (policy, defaults) = (format!("{out}/policy"), format!("{out}/session.toml"));
        world.cordon(&["policy", "test", &policy]).expect_code(0);

        let (uploads, results) = (world.folder("home/uploads"), world.folder("home/results"));
        world.write(uploads.join("a"), "from the user");
        world.write(results.join("kept"), "was there");
        let (uploads, outputs) = (text(&uploads), format!("{}=outputs", text(&results)));
        let run = |more: &[&str], script: &str| {
            let base = ["run", "--quiet", "--policy", &policy, "--defaults", &defaults];
            world.cordon(&[&base, more, &["--", "sh", "-c", script]].concat())
        };
        let both = ["--grant", uploads, "--grant", &outputs];
        let script = "cd ~/mnt && cat uploads/a && ! touch uploads/b 2>/dev/null && \
            echo done > outputs/c && ! rm outputs/kept 2>/dev/null";
        let ran = run(&both, script);
        ran.expect_code(0).expect_told("from the user");
        assert_eq!(fs::read_to_string(results.join("c")).unwrap(), "done\n");
        assert!(results.join("kept").exists(), "rw does not delete");
        // Without walls a session has the caller's own environment, and this is taken away all the same.
        let mine = world.write(
            world.home().join("mine.toml"),
            "strip_env = [\"AGENT_TOKEN\"]",
        );
        let unwalled = world.write(world.home().join("unwalled.cedar"), UNWALLED);
        let bare = |defaults: &[&str]| {
            let mut command = world.command();
            command.args(["run", "--quiet", "--backend", "none", "--policy", text(&unwalled)]);
            command.args(defaults).args(["--", "env"]).env("AGENT_TOKEN", "secret");
            process::finish(command, b"")
        };
        bare(&[]).expect_code(0).expect_told("AGENT_TOKEN");
        let ran = bare(&["--defaults", text(&mine)]);
        assert!(!ran.expect_code(0).text().contains("AGENT_TOKEN"), "{ran}");
        // Neither a flag nor the policy gives more.
        let more = run(&[&both[..], &["--env", "AGENT_TOKEN"]].concat(), "env");
        more.expect_code(64).expect_stderr("take `AGENT_TOKEN` away");
        let written = format!("{uploads}:rw");
        run(&["--grant", &written], "true").expect_code(64).expect_stderr("by the session defaults");
        let alone = ["run", "--quiet", "--policy", &policy, "--grant", &written, "--", "true"];
        world.cordon(&alone).expect_code(3).expect_stderr("baseline-read-only");
        // The name inside is what counts, whatever the folder is called.
        let files = world.folder("home/files");
        world.write(files.join("a"), "from files");
        let other = |written: &str, name: &str| format!("{}{written}={name}", text(&files));
        let script = "cat ~/mnt/uploads/a && ! touch ~/mnt/uploads/b 2>/dev/null";
        run(&["--grant", &other("", "uploads")], script).expect_code(0).expect_stdout("from files");
        let bare = |grant: &str| {
            world.cordon(&["run", "--quiet", "--policy", &policy, "--grant", grant, "--", "true"])
        };
        bare(&other(":rw", "uploads")).expect_code(3).expect_stderr("baseline-read-only");
        bare(&other(":rw", "work")).expect_code(0);
        // A folder that the defaults name is there without a flag.
        let filled = fs::read_to_string(&defaults).unwrap();
        let mine = format!("path = {uploads:?}");
        let filled = filled.replacen("# path = \"/path/to/it\"", &mine, 1);
        world.write(&defaults, filled);
        run(&[], "cat ~/mnt/uploads/a").expect_code(0).expect_stdout("from the user");
        // Another folder of that name takes its place, and `--no-grant` leaves it out.
        let instead = world.folder("home/instead/uploads");
        let listed = run(&["--grant", text(&instead)], "ls ~/mnt");
        listed.expect_code(0).expect_stdout("uploads");
        run(&["--no-grant"], "ls ~/mnt/uploads").expect_code(2);
        let unwalled = world.cordon(&["run", "--backend", "none", "--policy", text(&unwalled),
            "--defaults", &defaults, "--", "true"]);
        unwalled.expect_code(64).expect_stderr("cannot be enforced without walls");
        // The folder that is worked in has the name that it leads to.
        let written = world.session(&["true"]).folder(uploads).option("--defaults", &defaults);
        written.grant(".:rw").run().expect_code(64).expect_stderr("by the session defaults");
        let read = world.session(&["true"]).folder(uploads).option("--defaults", &defaults);
        read.grant(".").run().expect_code(0);
    }

    /// What is not known may refuse something, so nothing is given out until somebody has looked.
    fn f14_what_a_baseline_says_that_is_not_known_stops_it(world) {
        let mut newer = baseline();
        newer["network"]["denyDomains"] = json!(["evil.example.com"]);
        let file = world.write(world.home().join("newer.json"), newer.to_string());
        let out = world.home().join("platform");
        let import = ["import", "cowork-baseline", text(&file), "--out", text(&out)];
        world.cordon(&import).expect_code(1).expect_stderr("network.denyDomains: it is not known");
        assert!(!out.exists());
        let accepted = [&import[..], &["--accept-lost"]].concat();
        world.cordon(&accepted).expect_code(0);
        assert!(out.join("policy/bundle.toml").exists());
    }
}

const UNWALLED: &str = "@id(\"start\") permit (principal, action in [Action::\"start_session\", \
    Action::\"run_without_sandbox\"], resource);";

fn baseline() -> Value {
    serde_json::from_str(include_str!("../fixtures/cowork-baseline.json")).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
