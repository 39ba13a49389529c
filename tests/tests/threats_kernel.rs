//! The rows of the threat list about the kernel and processes, by their ids, through the whole
//! binary.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use cordon_tests::{
    for_both,
    process::{self, eventually},
};

for_both! {
    /// Descriptors that whoever called `cordon run` had open do not reach the command.
    fn f12_inherited_descriptors_do_not_reach_the_command(world) {
        let secret = world.write("home/secret", "secret");
        let run = world
            .session(&["/usr/bin/python3", "-c", LIST_DESCRIPTORS])
            .command();
        let mut shell = world.as_account("bash");
        shell.current_dir(world.project());
        shell
            .arg("-c")
            .arg("exec 7<\"$0\" 11<>/dev/null; exec \"$@\"")
            .arg(&secret)
            .arg(run.get_program())
            .args(run.get_args());
        let run = process::finish(shell, b"");
        world.remember(&run);
        run.expect_code(0).expect_stdout("[0, 1, 2]");
    }

    /// The calls that would go round the filter of sockets are not there, by any number.
    fn f09_io_uring_is_not_there(world) {
        let call = "import ctypes, errno\n\
            libc = ctypes.CDLL(None, use_errno=True)\n\
            for n in (425, 426, 427):\n    \
            libc.syscall(n, 4, None)\n    \
            print(errno.errorcode[ctypes.get_errno()], end=' ')\n";
        let run = world.session(&["/usr/bin/python3", "-c", call]).run();
        run.expect_code(0).expect_stdout("ENOSYS ENOSYS ENOSYS");
        // The control: outside the kernel knows them, or a machine without them shows nothing.
        let mut outside = world.as_account("/usr/bin/python3");
        outside.args(["-c", call]);
        let outside = process::finish(outside, b"");
        let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        if disabled.is_ok_and(|disabled| disabled.trim() == "0") {
            assert!(!outside.text().contains("ENOSYS"), "{outside}");
        }
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
        // Where unix sockets can be made the guard refuses it, on record; the session's own are its own.
        let all = "import os, socket\n\
            def new(): return socket.socket(socket.AF_UNIX)\n\
            for deed in [lambda: new().connect('daemon.sock'), lambda: new().bind('made.sock')]:\n\
            \x20   try: deed(); print('done')\n\
            \x20   except OSError as error: print(error.errno)\n\
            own = new(); own.bind('/tmp/own'); own.listen(); new().connect('/tmp/own'); print('own')\n";
        let run = world.session(&["/usr/bin/python3", "-c", all]).option("--profile", "build").run();
        run.expect_code(0);
        assert_eq!(run.text().split_whitespace().collect::<Vec<_>>(), ["13", "13", "own"], "{run}");
        assert!(listener.accept().is_err() && !world.project().join("made.sock").exists(), "{run}");
        let records = world.records(&run.session());
        let refused: Vec<String> = records.iter().filter(|one| one["effect"] == "deny").map(ToString::to_string).collect();
        assert_eq!(refused.len(), 2, "{refused:?}");
        for (record, name) in refused.iter().zip(["daemon.sock", "made.sock"]) {
            let path = world.project().join(name);
            assert!(record.contains(path.to_str().unwrap()) && record.contains("unix sockets are made"), "{record}");
        }
        let mut outside = world.as_account("/usr/bin/python3");
        outside.current_dir(world.project()).args(["-c", connect]);
        process::finish(outside, b"").expect_code(0);
        assert!(listener.accept().is_ok(), "the control connected");
    }

    /// The environment inside is built from nothing: what the host has does not pass unless named.
    fn f17_the_environment_is_built_from_nothing(world) {
        let mut command = world
            .session(&["env"])
            .env("NAMED")
            .env("SET=here")
            .command();
        let hostile = [
            "LD_PRELOAD",
            "LD_AUDIT",
            "BASH_ENV",
            "ENV",
            "GIT_CONFIG_COUNT",
            "GIT_CONFIG_GLOBAL",
            "NODE_OPTIONS",
            "PYTHONSTARTUP",
            "PERL5OPT",
            "SSH_AUTH_SOCK",
            "DBUS_SESSION_BUS_ADDRESS",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "HTTPS_PROXY",
            "NO_PROXY",
        ];
        for name in hostile {
            command.env(name, "from-the-host");
        }
        command.env("NAMED", "passed");
        let run = process::finish(command, b"");
        world.remember(&run);
        run.expect_code(0);
        let text = run.text();
        let variables: Vec<&str> = text.lines().collect();
        assert!(
            variables.contains(&"NAMED=passed") && variables.contains(&"SET=here"),
            "{run}"
        );
        assert!(!text.contains("from-the-host"), "{run}");
        assert!(
            variables.contains(&format!("HOME=/sessions/{}", run.session()).as_str()),
            "{run}"
        );
        assert!(
            !text.contains(&world.marks()[0]),
            "no path of the host: {run}"
        );
    }

    /// Everything that a command started ends with it, also what left its process group.
    fn f18_no_child_outlives_the_session(world) {
        let script = "setsid sh -c 'while :; do sleep 1; done' &
            (nohup sleep 1000 >/dev/null 2>&1 &)
            readlink /proc/self/ns/pid";
        let run = world.session(&["sh", "-c", script]).run();
        run.expect_code(0);
        expect_empty_namespace(&run.text());
    }

    /// Also when the launcher is killed, which is whom the walls die with.
    fn f18_no_child_outlives_a_killed_launcher(world) {
        let script = "readlink /proc/self/ns/pid > where.tmp; mv where.tmp where
            setsid sleep 1000 & sleep 1000";
        let running = world.session(&["sh", "-c", script]).start();
        let file = world.project().join("where");
        eventually("the session runs", || file.exists());
        let tree = process::tree(running.pid());
        assert!(tree.len() >= 3, "launcher, walls, command");
        running.signal(rustix::process::Signal::KILL);
        running.finish().expect_code(137);
        for pid in tree {
            assert!(
                process::gone(pid, process::DEADLINE),
                "{}",
                process::name(pid)
            );
        }
        expect_empty_namespace(fs::read_to_string(file).unwrap().trim());
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
seen = [fd for fd in map(int, os.listdir(listing)) if fd != listing]
print(sorted(fd for fd in seen if os.path.exists(f'/proc/self/fd/{fd}')))";
