//! The log as a security team uses it: proofs, exports, sinks and the daemon's numbers.

use cordon_tests::{Outcome, World, for_both};

/// `cordon audit …`, which has to succeed.
#[track_caller]
fn audit(world: &World, args: &[&str]) -> Outcome {
    let mut line = vec!["audit"];
    line.extend(args);
    let outcome = world.cordon(&line);
    outcome.expect_code(0);
    outcome
}

/// The last record of a session that has ended, covered by a checkpoint once the daemon has left.
fn last_record(world: &World) -> String {
    let run = world.session(&["true"]).run();
    run.expect_code(0);
    world.stop();
    let records = world.records(&run.session());
    let end = records.last().map(|end| end["seq"].to_string());
    end.unwrap_or_default()
}

for_both! {
    /// What `show` prints is a proof that the public key alone verifies, and a changed one is none.
    fn a04_a_shown_record_comes_with_its_proof(world) {
        let seq = last_record(world);
        let shown = audit(world, &["show", &seq]).text();
        let start = shown.find("c2sp.org/tlog-proof@v1").expect("a proof");
        let text = shown[start..].to_owned() + "\n";
        let proof = world.write("one.tlog-proof", &text);
        let object = audit(world, &["show", &seq, "--format", "json"]).text();
        let object: serde_json::Value = serde_json::from_str(&object).expect("an object");
        assert_eq!(object["proof"], text);

        let line = ["verify", "--proof", &proof.to_string_lossy()].map(str::to_owned);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let verified = audit(world, &line).text();
        assert!(verified.contains(&format!("this is record {seq} ")), "{verified}");
        let forged = text.replace(&format!("\nindex {seq}\n"), "\nindex 0\n");
        world.write("one.tlog-proof", &forged);
        let mut refused = vec!["audit"];
        refused.extend(line);
        world.cordon(&refused).expect_code(1).expect_stderr("NOT valid");
    }

    /// An export verifies with the log's own keys; a changed line is named.
    fn a04_a_changed_line_of_an_export_is_named(world) {
        last_record(world);
        for format in ["jsonl", "ocsf", "csv"] {
            let out = world.project().join(format!("export.{format}"));
            let path = out.to_string_lossy().into_owned();
            audit(world, &["export", "--format", format, "--out", &path]);
            let verify = ["audit", "verify", "--export", &path];
            world.cordon(&verify).expect_code(0);
            let text = std::fs::read_to_string(&out).expect("an export");
            let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
            let third = lines[2].replacen("session", "sessiom", 1).replacen("cordon", "cordom", 1).replacen("manage", "manaqe", 1);
            assert_ne!(third, lines[2], "{format}");
            lines[2] = &third;
            std::fs::write(&out, lines.concat()).expect("written");
            let found = world.cordon(&verify);
            found.expect_code(1);
            assert!(found.text().contains("first bad    line 3: "), "{format}: {found}");
        }
    }

    /// Whose log it is stands in every record, a known secret in none, nor in any file of the log.
    fn a08_the_configuration_names_the_log_and_its_secrets(world) {
        use std::os::unix::fs::PermissionsExt as _;
        let secret = world.write("known", "hush-hush-4711\n");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).expect("private");
        world.config.push_str(&format!(
            "[log]\norganisation = \"example.com\"\ninstance = \"build-7\"\nsecret_files = [{secret:?}]\n"
        ));
        let url = "http://hush-hush-4711.test/hush-hush-4711";
        let run = world.session(&["sh", "-c", &format!("curl -s {url}; true")]).run();
        run.expect_code(0);
        world.stop();
        let records = world.records(&run.session());
        assert!(records.iter().all(|r| r["organisation"] == "example.com"), "{records:?}");
        assert!(records.iter().all(|r| r["instance"] == "build-7"), "{records:?}");
        let refused = records.iter().find(|r| r["effect"] == "deny").expect("a refusal");
        assert!(refused.to_string().contains("[secret].test"), "{refused}");
        for path in cordon_tests::leaks::contents(&world.state().join("log")) {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes.windows(14).any(|part| part == b"hush-hush-4711");
            assert!(!found, "{}", path.display());
        }
        std::fs::write(&secret, "short\n").expect("written");
        world.session(&["true"]).run().expect_code(1).expect_stderr("ordinary text");
    }

    /// A backfill is an export, and so a record; one that cannot be done is none.
    fn a_backfill_is_recorded(world) {
        let out = world.home().join("sink.jsonl");
        world.config.push_str(&format!(
            "[[sinks]]\nname = \"siem\"\ntype = \"file\"\npath = {out:?}\n"
        ));
        last_record(world);
        let backfill = ["audit", "sinks", "backfill", "siem", "--from", "1", "--to"];
        world.cordon(&[&backfill[..], &["2"]].concat()).expect_code(0);
        world.cordon(&[&backfill[..], &["100000"]].concat()).expect_code(1);
        let found = audit(world, &["query", "--kind", "export", "--format", "jsonl"]).text();
        let found: Vec<serde_json::Value> =
            found.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["export"]["sink"], "siem");
        assert_eq!((&found[0]["export"]["first"], &found[0]["export"]["last"]), (&1.into(), &2.into()));
        let again = out.with_extension("jsonl.backfill-1-2");
        assert_eq!(std::fs::read_to_string(again).expect("delivered").lines().count(), 2);
    }

    fn the_status_says_how_far_the_log_is(world) {
        world.session(&["true"]).run().expect_code(0);
        let status = world.cordon(&["status", "--format", "json"]);
        status.expect_code(0);
        let status: serde_json::Value = serde_json::from_str(&status.text()).expect("an object");
        let log = &status["log_stats"];
        assert!(log["written"].as_u64() >= Some(4), "{status}");
        assert_eq!(log["written"], log["durable"], "{status}");
        assert_eq!((&log["lost"], &status["log_fault"]), (&0.into(), &serde_json::Value::Null));
        let text = world.cordon(&["status"]).text();
        assert!(text.contains("records, "), "{text}");
    }
}
