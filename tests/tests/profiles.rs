//! The profiles of system calls through the whole binary: each addition of `build` is needed by a
//! program of its kind and refused by `default`; `strict` runs what it is for; policy decides.

#![expect(clippy::expect_used, reason = "a helper of tests reports by panicking")]

use std::process::Command;

use cordon_tests::{Outcome, World, for_both};

const LEAK: &str =
    "#include <stdlib.h>\nint main(void) { void *volatile p = malloc(7); p = 0; return 0; }\n";

/// Compiles `leak.c` into the project folder.
fn compile(world: &World, name: &str, options: &[&str]) {
    let source = world.project_file("leak.c", LEAK);
    let program = world.project().join(name);
    let mut cc = Command::new("cc");
    let done = cc
        .arg("-g")
        .args(options)
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .output();
    let done = done.expect("a C compiler is installed");
    assert!(done.status.success(), "{done:?}");
    world.give(&program);
}

fn run(world: &World, profile: &str, command: &[&str]) -> Outcome {
    world.session(command).option("--profile", profile).run()
}

for_both! {
    /// A debugger starts a program and sees its end.
    fn f11_build_is_needed_by_gdb(world) {
        compile(world, "plain", &[]);
        let gdb = ["gdb", "-q", "-nx", "-batch", "-ex", "run", "./plain"];
        let seen = "exited normally";
        let build = run(world, "build", &gdb);
        assert!(build.text().contains(seen), "{build}");
        let default = run(world, "default", &gdb);
        assert!(!default.text().contains(seen), "{default}");
    }

    /// A tracer sees a program's calls.
    fn f11_build_is_needed_by_strace(world) {
        let strace = ["strace", "-f", "-o", "trace", "true"];
        run(world, "build", &strace).expect_code(0);
        let trace = std::fs::read_to_string(world.project().join("trace")).unwrap();
        assert!(trace.contains("exit_group(0)"), "{trace}");
        let default = run(world, "default", &strace);
        assert_ne!(default.code, 0, "{default}");
    }

    /// LeakSanitizer stops its own threads to look for what nothing points to.
    fn f11_build_is_needed_by_leak_sanitizer(world) {
        compile(world, "leak", &["-fsanitize=address"]);
        let seen = "7 byte(s) leaked";
        let build = run(world, "build", &["./leak"]);
        assert!(build.stderr.contains(seen), "{build}");
        let default = run(world, "default", &["./leak"]);
        assert!(!default.stderr.contains(seen), "{default}");
    }

    /// Fixed addresses, for a program that is debugged again and again.
    fn f10_build_is_needed_for_fixed_addresses(world) {
        let fixed = ["setarch", "-R", "true"];
        run(world, "build", &fixed).expect_code(0);
        assert_ne!(run(world, "default", &fixed).code, 0);
    }

    /// A test suite starts a database of its own, and finds it by a unix socket.
    fn f12_build_is_needed_by_a_database_of_a_test_suite(world) {
        let script = "set -e; PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -1):$PATH; \
                      initdb -D /tmp/db -A trust -U suite >/dev/null; \
                      pg_ctl -D /tmp/db -l /tmp/log -o '-c listen_addresses= -k /tmp' -w start >/dev/null || { cat /tmp/log; exit 1; }; \
                      psql -h /tmp -U suite -d postgres -Atc 'select 6 * 7'; \
                      pg_ctl -D /tmp/db -m fast -w stop >/dev/null; test ! -e /tmp/.s.PGSQL.5432; echo done";
        let build = run(world, "build", &["sh", "-c", script]);
        build.expect_code(0);
        assert_eq!(build.text().trim(), "42\ndone", "{build}");
        let default = run(world, "default", &["sh", "-c", script]);
        assert_ne!(default.code, 0, "{default}");
        assert!(default.text().contains("Address family not supported"), "{default}");
    }

    /// The whole Chromium looks for another of itself by a socket in its profile folder.
    fn f12_build_is_needed_by_chromium(world) {
        let chromium = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
            "data:text/html,<p>hello inside</p>"];
        let build = run(world, "build", &chromium);
        build.expect_code(0);
        assert!(build.text().contains("<p>hello inside</p>"), "{build}");
        let default = run(world, "default", &chromium);
        assert!(!default.text().contains("hello inside"), "{default}");
    }

    /// Compilers, shells, git and Python need no more than the strict profile.
    fn strict_runs_what_it_is_for(world) {
        world.project_file("leak.c", LEAK);
        let script = "set -e; cc leak.c -o leak; ./leak; git init -q /tmp/r; cp leak.c /tmp/r; git -C /tmp/r add leak.c; \
                      python3 -c 'import subprocess, threading; subprocess.run([\"true\"], check=True)'; \
                      ls | sort | head -1; echo done";
        let strict = run(world, "strict", &["sh", "-c", script]);
        strict.expect_code(0);
        assert!(strict.text().trim().ends_with("done"), "{strict}");
        // And it is narrower: interfaces cannot be listed.
        let list = ["python3", "-c", "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"];
        assert_ne!(run(world, "strict", &list).code, 0);
        run(world, "default", &list).expect_code(0);
    }

    /// The profile is a fact of the session's start: the built-in policy refuses the wider one,
    /// the record says which it was, and no session starts.
    fn f01_the_wider_profile_is_policys_to_give(world) {
        let with = |profile: &str| {
            world.session(&["true"]).built_in_policy().option("--profile", profile).run()
        };
        with("default").expect_code(0);
        with("strict").expect_code(0);
        let refused = with("build");
        refused.expect_code(3);
        assert!(refused.stderr.contains("with profile build"), "{refused}");
    }
}
