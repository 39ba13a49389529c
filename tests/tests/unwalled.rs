//! Sessions without walls: their own action of policy, and said wherever the session is shown.

use cordon_tests::for_both;

const PERMIT: &str = r#"@id("unwalled")
permit (principal, action == Action::"run_without_sandbox", resource);"#;

for_both! {
    /// The built-in policy refuses it, nothing runs, and the refusal is recorded.
    fn f01_running_without_walls_is_refused_unless_policy_says_otherwise(world) {
        for session in [
            world.session(&["sh", "-c", "echo ran"]).built_in_policy(),
            // The world's policy permits sessions, not sessions without walls.
            world.session(&["sh", "-c", "echo ran"]),
        ] {
            let refused = session.option("--backend", "none").run();
            refused.expect_code(3);
            assert!(!refused.text().contains("ran"), "{refused}");
        }
        let log = world.cordon(&["audit", "query", "--format", "json"]);
        log.expect_code(0);
        let refusals = log.text().matches("\"action\":\"session.start\"").count();
        assert_eq!(refusals, 2, "{log}");
    }

    /// Where policy allows it, the command runs, what goes over the proxy is decided, and the
    /// summary says what there is not.
    fn f01_an_unwalled_session_is_decided_at_its_proxy_and_says_what_it_is(world) {
        let origin = world.allowed_origin("open.test");
        let closed = world.origin("closed.test");
        world.policy.rule(PERMIT);
        let script = "import os, urllib.request, urllib.error\n\
            def fetch(name):\n\
            \x20   try:\n\
            \x20       return urllib.request.urlopen(name).status\n\
            \x20   except urllib.error.HTTPError as error:\n\
            \x20       return error.code\n\
            print(fetch(os.environ['OPEN']), fetch(os.environ['CLOSED']))\n";
        let file = world.project_file("fetch.py", script);
        let url = |name: &str, port: u16| format!("http://{name}:{port}/");
        let (open, shut) = (
            format!("OPEN={}", url("open.test", origin.address().port())),
            format!("CLOSED={}", url("closed.test", closed.address().port())),
        );
        let file = file.to_string_lossy().into_owned();
        let run = world
            .session(&["env", &open, &shut, "/usr/bin/python3", &file])
            .option("--backend", "none")
            .run();
        run.expect_code(0).expect_stdout("200 403");
        assert_eq!(run.summary()["unwalled"], true, "{run}");
        assert!(run.stderr.contains("NO WALLS"), "{run}");
        let walled = world.session(&["true"]).run();
        assert!(walled.summary().get("unwalled").is_none(), "{walled}");
    }

    /// F14: what cannot be enforced is refused by name and not dropped.
    fn f14_grants_and_profiles_without_walls_are_refused_by_name(world) {
        world.policy.rule(PERMIT);
        for (option, value) in [("--grant", ".:ro"), ("--profile", "strict")] {
            let run = world
                .session(&["sh", "-c", "echo ran"])
                .option("--backend", "none")
                .option(option, value)
                .run();
            run.expect_code(64).expect_stderr(option);
            assert!(!run.text().contains("ran"), "{run}");
        }
    }
}
