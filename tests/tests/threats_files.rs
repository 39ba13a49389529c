//! The rows of the threat list about files, kernel and processes, by their ids, through the whole
//! binary.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use cordon_tests::{
    Outcome, Terminal, World, fixtures, for_both,
    process::{self, eventually},
};

/// Rows of `hostile.c` that a session may do: none of them leads out.
const ALLOWED_INSIDE: [&str; 3] = ["f12_unix_pair_stream", "f13_terminal_size", "more_own_tmp"];

/// Rows that end the process, because no honest program asks in a foreign system call table.
const KILLED_INSIDE: [&str; 2] = ["f10_x32_getpid", "f10_i386_getpid"];

/// What the kernel does not offer to anybody from here on, also outside.
const NOT_EVEN_OUTSIDE: [&str; 2] = ["f10_x32_getpid", "more_kernel_memory"];

/// The name and outcome of each attempt, from the program's report.
#[track_caller]
fn report(outcome: &Outcome) -> Vec<(String, String)> {
    let lines: Vec<(String, String)> = outcome
        .text()
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect();
    assert!(lines.len() > 50, "a whole report in {outcome}");
    lines
}

fn expected_inside(name: &str) -> &'static str {
    if ALLOWED_INSIDE.contains(&name) {
        "allowed"
    } else if KILLED_INSIDE.contains(&name) {
        "killed"
    } else {
        "refused"
    }
}

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
    /// F08 to F13 and their neighbours: a hostile program tries each, and the report is the golden
    /// one. Outside, root's run of the same program goes through: the attempts are real.
    fn f08_f13_a_hostile_program_finds_no_way_out(world) {
        fixtures::hostile(world);
        let inside = world.session(&["./hostile"]).run();
        inside.expect_code(0);
        for (name, outcome) in report(&inside) {
            assert_eq!(outcome, expected_inside(&name), "{name} in {inside}");
        }
        if world.account().uid == 0 {
            let program = world.project().join("hostile");
            let outside = world.host(&program.to_string_lossy(), &[]);
            let allowed = report(&outside).iter().filter(|(_, outcome)| outcome == "allowed").count();
            let refused: Vec<_> = report(&outside)
                .into_iter()
                .filter(|(name, outcome)| outcome != "allowed" && !NOT_EVEN_OUTSIDE.contains(&name.as_str()))
                .collect();
            assert!(allowed > 40, "{outside}");
            assert!(refused.len() < 8, "attempts that fail anywhere prove nothing: {refused:?}");
        }
    }

    /// On a terminal there is more to try: the same program, with one.
    fn f13_a_hostile_program_on_a_terminal_finds_no_way_out(world) {
        fixtures::hostile(world);
        let command = world.session(&["sh", "-c", "./hostile | grep ^f13; echo done"]).command();
        let mut terminal = Terminal::start(world, &command);
        let shown = terminal.expect("done");
        assert_eq!(terminal.finish(), 0);
        assert_eq!(shown.matches("refused").count(), 3, "{shown}");
        assert!(shown.contains("f13_terminal_size allowed"), "{shown}");
    }

    /// No variable, file or flag that the command controls turns the walls off.
    fn f01_no_switch_inside_turns_the_walls_off(world) {
        world.project_file("cordon.toml", "[sandbox]\nenabled = false\n");
        world.project_file(".cordon.toml", "[sandbox]\nenabled = false\n");
        world.folder("home/project/.cordon");
        world.project_file(".cordon/cordon.toml", "[sandbox]\nenabled = false\n");
        let secret = world.write("home/secret", "secret");
        let mut command = world.session(&["cat", &secret.to_string_lossy()]).command();
        for variable in ["CORDON_NO_SANDBOX", "CORDON_DISABLE", "CORDON_SANDBOX", "CORDON_BYPASS", "CORDON_POLICY"] {
            command.env(variable, "1");
        }
        let run = process::finish(command, b"");
        world.remember(&run);
        assert_ne!(run.code, 0, "{run}");
        assert_eq!(run.text(), "", "{run}");
        for flag in ["--no-sandbox", "--unsafe", "--dangerously-skip-sandbox", "--backend=none"] {
            world.cordon(&["run", flag, "--", "true"]).expect_code(64);
        }
        world.session(&["cat", "cordon.toml"]).run().expect_code(0);
    }

    /// Running without walls is its own action, and the built-in policy does not permit it.
    fn f01_a_policy_in_the_project_is_not_read(world) {
        let origin = world.origin("open.test");
        world.project_file("policy.cedar", "permit (principal, action, resource);");
        world.folder("home/project/policies");
        world.project_file("policies/all.cedar", "permit (principal, action, resource);");
        let run = world.session(&["curl", "-sS", &origin.url("open.test", "/")]).built_in_policy().run();
        run.expect_denied("open.test", "default_deny");
        assert_eq!(origin.connections(), 0);
        world.policy.allow("open.test");
        let run = world.session(&["curl", "-sS", &origin.url("open.test", "/")]).run();
        run.expect_stdout("hello from open.test");
    }

    /// Descriptors that whoever called `cordon run` had open do not reach the command.
    fn f12_inherited_descriptors_do_not_reach_the_command(world) {
        let secret = world.write("home/secret", "secret");
        let run = world.session(&["/usr/bin/python3", "-c", LIST_DESCRIPTORS]).command();
        let mut shell = world.as_account("bash");
        shell.current_dir(world.project());
        shell.arg("-c").arg("exec 7<\"$0\" 11<>/dev/null; exec \"$@\"").arg(&secret).arg(run.get_program()).args(run.get_args());
        let run = process::finish(shell, b"");
        world.remember(&run);
        run.expect_code(0).expect_stdout("[0, 1, 2]");
    }

    /// A socket in a granted folder, whatever its daemon, cannot be connected to.
    fn f12_a_socket_in_a_granted_folder_leads_nowhere(world) {
        let path = world.project().join("daemon.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let connect = "import socket; socket.socket(socket.AF_UNIX).connect('daemon.sock')";
        let run = world.session(&["/usr/bin/python3", "-c", connect]).run();
        run.expect_code(1).expect_stderr("Error");
        assert!(listener.accept().is_err(), "nobody connected: {run}");
        let mut outside = world.as_account("/usr/bin/python3");
        outside.current_dir(world.project()).args(["-c", connect]);
        process::finish(outside, b"").expect_code(0);
        assert!(listener.accept().is_ok(), "the control connected");
    }

    /// Without bubblewrap nothing runs, and the message says what is missing and how to get it.
    fn f15_without_bubblewrap_nothing_runs(world) {
        let empty = world.write("nothing", "");
        if !world.mount_over(&empty, "/usr/bin/bwrap") { return }
        let run = world.session(&["touch", "ran"]).run();
        run.expect_code(1).expect_stderr("bubblewrap").expect_stderr("apt");
        assert!(!world.project().join("ran").exists(), "{run}");
    }

    /// Without user namespaces nothing runs either.
    fn f15_without_user_namespaces_nothing_runs(world) {
        if world.account().uid == 0 { return }
        let run = world.session(&["touch", "ran"]).command();
        let mut limited = world.as_account("unshare");
        limited.current_dir(world.project());
        // In a user namespace of its own, the limit binds the ones below.
        limited.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c"]);
        limited.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"").arg("sh");
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
        for folder in [Path::new("/"), &home, &above, &root, &world.runtime(), &root.join("log"), Path::new("/etc"), Path::new("/proc"), Path::new("/dev"), Path::new("/run"), Path::new("/tmp")] {
            let refused = expect_no_start(world, folder, 3);
            expect_protected(&refused);
        }
        let linked = world.project().join("link");
        std::os::unix::fs::symlink(&home, &linked).unwrap();
        expect_protected(&expect_no_start(world, &linked, 3));
        let configuration = world.config_file().parent().map(Path::to_owned).unwrap_or_default();
        expect_protected(&expect_no_start(world, &configuration, 3));
        // Nobody named the current directory: the session runs without it, and says so.
        let run = world
            .session(&["sh", "-c", "ls -A; ls -A mnt 2>/dev/null | grep -v home"])
            .folder(&home)
            .run();
        assert!(!run.text().contains("project"), "{run}");
        assert_eq!(run.reasons(), ["protected_folder"], "{run}");
        let below = world.folder("home/project/below");
        world.session(&["sh", "-c", "touch mnt/below/ran"]).grant(format!("{}:rw", below.display())).run().expect_code(0);
        assert!(below.join("ran").exists());
    }

    /// The environment inside is built from nothing: what the host has does not pass unless named.
    fn f17_the_environment_is_built_from_nothing(world) {
        let mut command = world.session(&["env"]).env("NAMED").env("SET=here").command();
        let hostile = ["LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV", "GIT_CONFIG_COUNT", "GIT_CONFIG_GLOBAL", "NODE_OPTIONS", "PYTHONSTARTUP", "PERL5OPT", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HTTPS_PROXY", "NO_PROXY"];
        for name in hostile {
            command.env(name, "from-the-host");
        }
        command.env("NAMED", "passed");
        let run = process::finish(command, b"");
        world.remember(&run);
        run.expect_code(0);
        let text = run.text();
        let variables: Vec<&str> = text.lines().collect();
        assert!(variables.contains(&"NAMED=passed") && variables.contains(&"SET=here"), "{run}");
        assert!(!text.contains("from-the-host"), "{run}");
        assert!(variables.contains(&format!("HOME=/sessions/{}", run.session()).as_str()), "{run}");
        assert!(!text.contains(&world.marks()[0]), "no path of the host: {run}");
    }

    /// Everything that a command started ends with it, also what left its process group.
    fn f18_no_child_outlives_the_session(world) {
        let script = "setsid sh -c 'while :; do sleep 1; done' & (nohup sleep 1000 >/dev/null 2>&1 &) ; readlink /proc/self/ns/pid";
        let run = world.session(&["sh", "-c", script]).run();
        run.expect_code(0);
        expect_empty_namespace(&run.text());
    }

    /// Also when the launcher is killed, which is whom the walls die with.
    fn f18_no_child_outlives_a_killed_launcher(world) {
        let script = "readlink /proc/self/ns/pid > where.tmp; mv where.tmp where; setsid sleep 1000 & sleep 1000";
        let running = world.session(&["sh", "-c", script]).start();
        let file = world.project().join("where");
        eventually("the session runs", || file.exists());
        let tree = process::tree(running.pid());
        assert!(tree.len() >= 3, "launcher, walls, command");
        running.signal(rustix::process::Signal::KILL);
        running.finish().expect_code(137);
        for pid in tree {
            assert!(process::gone(pid, process::DEADLINE), "{}", process::name(pid));
        }
        expect_empty_namespace(fs::read_to_string(file).unwrap().trim());
    }

    /// The log is outside every mount, and no grant can bring it in.
    fn a01_the_log_is_out_of_reach(world) {
        world.session(&["true"]).run().expect_code(0);
        let log = world.state().join("log");
        assert!(log.is_dir(), "the log lies where this test looks");
        assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o700);
        for folder in [&log, &world.state(), &world.state().join("..")] {
            expect_protected(&expect_no_start(world, folder, 3));
        }
        let run = world.session(&["sh", "-c", "ls \"$1\"; find / -xdev -name 'journal*' 2>/dev/null | grep -i cordon", "sh", &log.to_string_lossy()]).run();
        assert_eq!(run.text(), "", "{run}");
    }
}

/// Fails when any process is in a PID namespace, given as its link reads.
#[track_caller]
fn expect_empty_namespace(link: &str) {
    assert!(link.starts_with("pid:["), "{link}");
    eventually("the session's processes are gone", || {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .all(|entry| {
                fs::read_link(entry.path().join("ns/pid"))
                    .map_or(true, |there| there != Path::new(link))
            })
    });
}

const LIST_DESCRIPTORS: &str = "import os
listing = os.open('/proc/self/fd', os.O_DIRECTORY)
print(sorted(fd for fd in map(int, os.listdir(listing)) if fd != listing and os.path.exists(f'/proc/self/fd/{fd}')))";
