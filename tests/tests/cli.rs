//! The command line: what it prints, how it exits, and what it refuses.

use cordon_tests::{World, for_both};

/// Runs `cordon run` with its summary as text, and returns what it left.
#[track_caller]
fn plain(world: &World, options: &[&str], command: &[&str]) -> cordon_tests::Outcome {
    let mut line = world.command();
    line.arg("run")
        .args(options)
        .arg("--policy")
        .arg(world.policy_folder());
    line.arg("--").args(command);
    cordon_tests::process::finish(line, b"")
}

for_both! {
    fn wrong_usage_exits_with_64_and_says_why(world) {
        for args in [
            &[][..],
            &["run"],
            &["frobnicate"],
            &["run", "--frobnicate", "--", "true"],
            &["run", "--grant", "--", "true"],
            &["audit"],
        ] {
            let outcome = world.cordon(args);
            outcome.expect_code(64);
            assert!(!outcome.stderr.is_empty(), "{outcome}");
        }
        world.project_file("x", "");
        for grant in [":ro", "x:ro=.", "x=-y", "x=a b"] {
            let outcome = world.session(&["true"]).grant(grant).run();
            outcome.expect_code(64);
        }
        world.cordon(&["--help"]).expect_code(0);
        world.cordon(&["run", "--help"]).expect_code(0);
        world.cordon(&["--version"]).expect_code(0);
    }

    /// The rule that a summary offers for a refusal allows exactly that.
    fn the_line_that_a_summary_offers_allows_what_was_denied(world) {
        let origin = world.origin("shut.test");
        let other = world.origin("other.test");
        let url = origin.url("shut.test", "/");
        let denied = world.session(&["curl", "-sS", &url]).run();
        denied.expect_denied("shut.test", "default_deny");
        let summary = denied.summary();
        let line = summary["denied"][0]["allow_with"].as_str().unwrap();
        assert!(!line.contains('\n'), "one line: {line}");
        world.policy.rule(line);
        world
            .session(&["curl", "-sS", &url])
            .run()
            .expect_stdout("hello from shut.test");
        let still = world
            .session(&["curl", "-sS", &other.url("other.test", "/")])
            .run();
        still.expect_denied("other.test", "default_deny");
    }

    /// For people: what was allowed and denied, by which rule, bytes, the session, and the way on.
    fn the_summary_as_text_names_what_a_reader_needs(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        let urls = [open.url("open.test", "/"), shut.url("shut.test", "/")];
        let run = plain(world, &[], &["curl", "-sS", &urls[0], &urls[1]]);
        run.expect_code(0);
        for text in [
            "open.test",
            "shut.test",
            "allow-open.test",
            "permit (",
            "session",
        ] {
            run.expect_stderr(text);
        }
        let quiet = plain(world, &["--quiet"], &["true"]);
        quiet.expect_code(0);
        assert_eq!(quiet.stderr, "");
    }

    /// A host name is shown escaped, however hostile it is (A06).
    fn hostile_text_is_shown_escaped(world) {
        cordon_tests::fixtures::probe(world);
        let mut line = world.command();
        line.arg("run").arg("--policy").arg(world.policy_folder());
        line.args([
            "--",
            "/usr/bin/python3",
            "probe.py",
            "socks",
            "1b5b324a7265640d0a",
            "80",
        ]);
        let run = cordon_tests::process::finish(line, b"");
        assert!(
            !run.stderr.contains('\x1b') && !run.stderr.contains("red\r"),
            "{run:?}"
        );
        let tail = world.cordon(&["audit", "tail"]);
        tail.expect_code(0);
        assert!(!tail.text().contains('\x1b'), "{tail:?}");
        assert!(tail.text().contains("malformed"), "{tail}");
    }

    fn policy_check_says_where_and_why(world) {
        let good = world.policy_folder();
        world
            .cordon(&["policy", "check", &good.to_string_lossy()])
            .expect_code(0);
        let bad = world.write(
            "bad.cedar",
            "@id(\"a\")\npermit (principal, action == Action::\"fetch\", resource);\n",
        );
        let outcome = world.cordon(&["policy", "check", &bad.to_string_lossy()]);
        outcome.expect_code(1);
        let said = format!("{}{}", outcome.text(), outcome.stderr);
        assert!(
            said.contains("bad.cedar") && said.contains("fetch") && said.contains('2'),
            "{outcome}"
        );
        let run = world.session(&["touch", "ran"]).policy(&bad).run();
        run.expect_code(1).expect_stderr("bad.cedar");
        assert!(!world.project().join("ran").exists(), "{run}");
        world
            .cordon(&["policy", "check", "/nowhere/at/all"])
            .expect_code(1);
    }

    /// Unknown keys are errors, never ignored: a misspelt wall is no wall.
    fn a_configuration_with_an_unknown_key_is_an_error(world) {
        world.config.push_str("[network]\npermit_adresses = []\n");
        let run = world.session(&["touch", "ran"]).run();
        run.expect_code(1)
            .expect_stderr("permit_adresses")
            .expect_stderr("cordon.toml");
        assert!(!world.project().join("ran").exists(), "{run}");
        world.config.clear();
        world.session(&["touch", "ran"]).run().expect_code(0);
    }

    fn the_log_is_shown_by_session_and_followed(world) {
        let run = world.session(&["true"]).run();
        let shown = world.cordon(&["audit", "show", &run.session()]);
        shown.expect_code(0);
        assert!(
            shown.text().lines().count() >= 3,
            "start, grant, end: {shown}"
        );
        world
            .cordon(&["audit", "show", "no-such-session"])
            .expect_code(1);
        let verified = world.cordon(&["audit", "verify"]);
        verified.expect_code(0);
        assert!(!verified.text().is_empty(), "{verified}");
    }

    fn records_are_found_counted_and_explained(world) {
        let run = world.session(&["true"]).run();
        let session = run.session();
        let query = |more: &[&str]| {
            let mut line = vec!["audit", "query", "--session", &session];
            line.extend(more);
            let outcome = world.cordon(&line);
            outcome.expect_code(0);
            outcome.text()
        };
        let all = world.records(&session);
        let found = query(&["--oldest-first", "--format", "jsonl"]);
        let found: Vec<serde_json::Value> =
            found.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        assert_eq!(found, all);
        assert_eq!(query(&["--effect", "deny", "--format", "jsonl"]), "", "nothing was denied");
        let counts = query(&["--count-by", "kind", "--format", "csv"]);
        assert!(counts.contains("session.end,1"), "{counts}");

        let end = all.last().expect("an end");
        let decided = all.iter().filter(|record| record["kind"] == "decision").count();
        assert_eq!(end["summary"]["decisions"]["allow"], decided, "{end}");
        let first = all[0]["id"].as_str().expect("an id");
        let shown = world.cordon(&["audit", "show", first]);
        shown.expect_code(0);
        for part in ["It was allowed by rule", first, "session.start", "proof"] {
            assert!(shown.text().contains(part), "{part}: {shown}");
        }
        let stats = world.cordon(&["audit", "stats", "--session", &session, "--format", "json"]);
        stats.expect_code(0);
        let stats: serde_json::Value = serde_json::from_str(&stats.text()).expect("an object");
        assert_eq!(stats["records"], all.len());
        world.cordon(&["audit", "query", "--since", "soon"]).expect_code(64);
        world.cordon(&["audit", "query", "--count-by", "colour"]).expect_code(64);
    }

    /// A changed byte in the log is found, and the first bad record is named.
    fn audit_verify_fails_on_a_changed_byte(world) {
        world.session(&["true"]).run().expect_code(0);
        world.stop();
        let log = world.state().join("log");
        // A daemon that leaves seals its records.
        let sealed = cordon_tests::leaks::contents(&log)
            .into_iter()
            .find(|path| path.is_file() && path.to_string_lossy().contains("tile/entries/"))
            .unwrap();
        let whole = std::fs::read(&sealed).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        std::fs::write(&sealed, changed).unwrap();
        let verdict = world.cordon(&["audit", "verify"]);
        assert_ne!(verdict.code, 0, "{verdict}");
        assert!(verdict.text().contains("first bad"), "{verdict}");
        std::fs::write(&sealed, whole).unwrap();
        world.cordon(&["audit", "verify"]).expect_code(0);
    }

    /// The built-in pack is added to a set by its name, and is not there without it.
    fn the_built_in_pack_can_be_added(world) {
        world.project_file("own.cedar", "permit (principal, action == Action::\"connect\", resource == Host::\"own.test\");");
        let alone = world.cordon(&["run", "--policy", "own.cedar", "--", "true"]);
        alone.expect_code(3);
        let added = world.cordon(&["run", "--policy", "default", "--policy", "own.cedar", "--", "true"]);
        added.expect_code(0);
    }

    fn stop_without_a_daemon_is_no_error(world) {
        world.cordon(&["stop"]).expect_code(0);
        world.cordon(&["status"]);
    }
}
