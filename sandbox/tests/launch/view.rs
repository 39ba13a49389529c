//! What a command sees and may do inside.

use std::{fs, os::unix::fs::MetadataExt, os::unix::process::CommandExt};

use crate::support::{everyone, stdout, text};

#[test]
fn nothing_of_the_host_but_system_directories() {
    for who in everyone() {
        let output = who.inside(
            "cd /; echo *; ls -d /home /root /run /var/lib /sys /etc/shadow /etc/machine-id 2>/dev/null; \
             hostname; id -u; cat /etc/resolv.conf; pwd; ls -a /sessions/test /sessions/test/mnt",
        );
        let seen = stdout(&output);
        let mut lines = seen.lines();
        let root: Vec<&str> = lines.next().unwrap().split(' ').collect();
        for entry in root {
            let known = [
                "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sessions",
                "tmp", "usr", "var",
            ];
            assert!(known.contains(&entry), "{who:?}: {entry}");
        }
        let rest: Vec<&str> = lines.collect();
        let uid = who.uid_inside().to_string();
        assert_eq!(
            rest[..2],
            ["cordon", &uid],
            "{who:?}: {seen} {}",
            text(&output.stderr)
        );
        assert!(seen.contains("nameserver 127.0.0.1"), "{seen}");
    }
}

#[test]
fn f17_the_environment_is_what_was_named_and_nothing_else() {
    for who in everyone() {
        let mut command = who.walls(["--env", "NAMED=1", "--", "env"]);
        command
            .env("LD_PRELOAD_SECRET", "x")
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .env("BASH_ENV", "/x");
        let seen = stdout(&command.output().unwrap());
        let mut names: Vec<&str> = seen
            .lines()
            .map(|line| line.split('=').next().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "NAMED", "PATH"], "{who:?}: {seen}");
    }
}

#[test]
fn f12_no_descriptor_but_the_standard_ones() {
    for who in everyone() {
        // One that the launcher's own parent left open, not closed on exec.
        let script = format!(
            "exec 9</etc/passwd 200</; exec {} -- sh -c 'for f in /proc/self/fd/*; do echo ${{f##*/}}; done'",
            crate::support::program().display()
        );
        let output = who
            .command("/bin/bash")
            .args(["-c", &script])
            .output()
            .unwrap();
        let numbers: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
        // The shell's own listing of the directory is the fourth.
        assert_eq!(
            numbers,
            ["0", "1", "2", "3"],
            "{who:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn f11_process_1_cannot_be_looked_into() {
    for who in everyone() {
        let output = who.inside(
            "for f in environ mem maps; do cat /proc/1/$f >/dev/null 2>&1 && echo read $f; done; \
             for f in fd/0 exe cwd root; do readlink /proc/1/$f && echo listed; done; ls -d /proc/[0-9]* | wc -l; cat /proc/self/comm",
        );
        let seen = stdout(&output);
        assert!(
            !seen.contains("read") && !seen.contains("listed"),
            "{who:?}: {seen}"
        );
        assert!(
            seen.contains("cat"),
            "{who:?}: {seen} {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn no_capability_no_new_privilege_and_a_filter() {
    for who in everyone() {
        let seen = stdout(&who.inside("cat /proc/self/status"));
        let value = |name: &str| {
            let line = seen
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            line.split_whitespace()
                .nth(1)
                .unwrap_or_default()
                .to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{who:?} {set}");
        }
        assert_eq!(value("NoNewPrivs:"), "1", "{who:?}");
        assert_eq!(value("Seccomp:"), "2", "{who:?}");
    }
}

#[test]
fn f08_a_new_user_namespace_is_refused() {
    for who in everyone() {
        let outside = who
            .command("/usr/bin/unshare")
            .args(["-U", "true"])
            .status()
            .unwrap();
        assert!(outside.success(), "the control: outside it works");
        let output = who.inside(
            "unshare -U true || echo refused; unshare -Ur mount -t tmpfs x /tmp || echo refused",
        );
        assert_eq!(
            stdout(&output),
            "refused\nrefused\n",
            "{who:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn system_and_root_are_read_only_and_the_own_places_are_not() {
    for who in everyone() {
        let output = who.inside(
            "for d in / /usr /usr/bin /etc /dev /sessions /.cordon; do touch $d/x 2>/dev/null && echo wrote $d; done; \
             for d in /tmp /var/tmp /dev/shm $HOME $HOME/mnt; do touch $d/x || echo failed $d; done; echo > /dev/null; echo done",
        );
        assert_eq!(
            stdout(&output),
            "done\n",
            "{who:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_file_made_through_a_grant_is_the_callers_outside() {
    for who in everyone() {
        let (write, read) = (who.folder(), who.folder());
        fs::write(read.path().join("there"), "x").unwrap();
        let (write_path, read_path) = (
            write.path().to_str().unwrap(),
            read.path().to_str().unwrap(),
        );
        let name = |path: &str| path.rsplit('/').next().unwrap().to_owned();
        let script = format!(
            "cd $HOME/mnt; echo x > {w}/made; cat {r}/there; touch {r}/made 2>/dev/null && echo wrote; true",
            w = name(write_path),
            r = name(read_path)
        );
        let output = who
            .walls([
                "--rw", write_path, "--ro", read_path, "--", "sh", "-c", &script,
            ])
            .output()
            .unwrap();
        assert_eq!(stdout(&output), "x", "{who:?}: {}", text(&output.stderr));
        let made = fs::metadata(write.path().join("made")).unwrap();
        assert_eq!(made.uid(), who.uid(), "{who:?}");
        assert!(!read.path().join("made").exists());
    }
}

#[test]
fn f20_the_guard_holds_what_was_there_and_lets_go_what_was_made() {
    for who in everyone() {
        let folder = who.folder();
        fs::write(folder.path().join("old"), "x").unwrap();
        std::os::unix::fs::chown(folder.path().join("old"), Some(who.uid()), None).unwrap();
        let path = folder.path().to_str().unwrap();
        let script = "cd $HOME/mnt/*; echo > new; rm -f new; [ -e new ] || echo removed; rm -f old; [ -e old ] && echo held";
        for (guard, expected) in [(true, "removed\nheld\n"), (false, "removed\n")] {
            let mut words = vec!["--rw", path, "--", "sh", "-c", script];
            if guard {
                words.insert(0, "--guard");
            }
            let output = who.walls(words).output().unwrap();
            assert_eq!(
                stdout(&output),
                expected,
                "{who:?}: {}",
                text(&output.stderr)
            );
            assert_eq!(folder.path().join("old").exists(), guard, "{who:?}");
        }
    }
}

#[test]
fn f07_a_folder_that_was_exchanged_is_refused() {
    for who in everyone() {
        let (granted, other) = (who.folder(), who.folder());
        let (granted, other) = (
            granted.path().to_str().unwrap(),
            other.path().to_str().unwrap(),
        );
        for (identity, accepted) in [(granted, true), (other, false)] {
            let mut command = who.walls([
                "--rw",
                granted,
                "--identity-of",
                identity,
                "--",
                "echo",
                "ran",
            ]);
            let output = command.output().unwrap();
            assert_eq!(
                stdout(&output) == "ran\n",
                accepted,
                "{who:?}: {}",
                text(&output.stderr)
            );
            assert_eq!(
                text(&output.stderr).contains("not what was granted"),
                !accepted
            );
        }
    }
}

#[test]
fn a_command_that_cannot_start_says_where_it_was_looked_up() {
    for who in everyone() {
        for (word, code) in [
            ("no-such-program", 127),
            ("/etc/passwd", 126),
            ("/home/x", 127),
        ] {
            let output = who.walls(["--", word]).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{word}");
            let said = text(&output.stderr);
            assert!(
                said.contains(word) && said.contains("inside the session"),
                "{said}"
            );
        }
    }
}

#[test]
fn argv0_of_the_launcher_does_not_reach_inside() {
    for who in everyone() {
        let mut command = who.walls(["--", "cat", "/proc/1/cmdline"]);
        command.arg0("secret-name");
        let seen = stdout(&command.output().unwrap());
        assert!(seen.starts_with("/.cordon/cordon-init\0"), "{seen:?}");
        assert!(!seen.contains("secret"), "{seen:?}");
    }
}
