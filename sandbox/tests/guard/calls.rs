//! Calls as programs make them: with the kernel's own errors, at once, and at what cost.

use cordon_policy::GrantMode::{Rw, Rwd};
use cordon_sandbox::guard::Why;

use super::support::{Folder, Session};

#[test]
fn errors_are_the_kernels_own() {
    let folder = Folder::with(&["old", "dir/x"]);
    let raw = |number: i64, rest: &str| format!("syscall {number} {rest}");
    let no_descriptor = raw(libc::SYS_unlinkat, "77 'x' 0");
    let no_memory = raw(libc::SYS_unlinkat, "77 1 0");
    let no_name = raw(libc::SYS_unlinkat, "77 '' 0");
    let endless = raw(libc::SYS_unlinkat, "77 'x'x5000 0");
    let operations = format!(
        "unlink /mnt/a/absent
         unlink /mnt/a/absent/x
         unlink /mnt/a/old/x
         unlink /mnt/a/dir
         unlink /mnt/a/old/
         rmdir /mnt/a/old
         rmdir /mnt/a/dir/.
         rmdir /mnt/a/dir/..
         rmdir /mnt/a/dir
         rmdir /
         rename /mnt/a/dir /mnt/a/dir/sub
         rename /mnt/a/old/ /mnt/a/x
         rename /mnt/a/. /mnt/a/x
         unlinkat 0 x
         badflags /mnt/a/old
         {no_descriptor}
         {no_memory}
         {no_name}
         {endless}
         mkdir /mnt/a/new
         rename /mnt/a/new/ /mnt/a/newer/
         rmdir /mnt/a/newer/",
    );
    let seen = Session::new().grant(&folder, "a", Rw).run(&operations);
    assert_eq!(
        seen.words(),
        "NOENT NOENT NOTDIR ISDIR NOTDIR NOTDIR INVAL NOTEMPTY NOTEMPTY BUSY INVAL NOTDIR BUSY NOTDIR INVAL \
         BADF FAULT NOENT NAMETOOLONG ok ok ok"
    );
    assert!(seen.refusals.is_empty(), "{:?}", seen.refusals);
    let native = Session::new()
        .without_guard()
        .grant(&folder, "a", Rw)
        .run(&operations);
    assert_eq!(native.words(), seen.words());
}

#[test]
fn f09_io_uring_is_refused_and_plain_calls_are_not() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(&format!(
        "syscall {} 1 0
         syscall {}
         write /mnt/a/new",
        libc::SYS_io_uring_setup,
        libc::SYS_getpid,
    ));
    assert_eq!(seen.words(), "NOSYS ok ok");
}

#[test]
fn without_a_supervisor_nothing_is_taken_away() {
    let folder = Folder::with(&["old"]);
    let operations = "unlink /mnt/a/old\nrename /mnt/a/old /tmp/x\nwrite /mnt/a/new";
    let seen = Session::new()
        .without_supervisor()
        .grant(&folder, "a", Rwd)
        .run(operations);
    assert_eq!(seen.words(), "NOSYS NOSYS NOSYS");
    assert!(folder.has("old") && !folder.has("new"));
}

#[test]
fn a_process_that_hides_its_memory_is_answered_all_the_same() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "nodump
         unlink /mnt/a/old
         write /mnt/a/new
         unlink /mnt/a/new",
    );
    assert_eq!(seen.words(), "ok PERM ok ok");
    assert_eq!(seen.refusals[0].why, Why::WasThere);
}

#[test]
fn a_temporary_file_without_a_name_can_be_given_one() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "tmpfile /mnt/a /mnt/a/new
         tmpfile /mnt/a /mnt/a/old
         rename /mnt/a/new /mnt/a/old
         unlink /mnt/a/old",
    );
    assert_eq!(seen.words(), "ok EXIST ok PERM");
}

#[test]
fn many_threads_and_processes_at_once_get_their_own_answers() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new()
        .grant(&folder, "a", Rw)
        .run("threads 8 200 /mnt/a");
    assert_eq!(seen.words(), "ok");
    assert!(folder.has("old"));
    assert_eq!(seen.counts.removed, 8 * 200);
}

#[test]
fn a_thread_that_is_killed_while_it_waits_does_no_harm() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "sh cd /mnt/a; for i in $(seq 40); do (while :; do : >t$i; rm t$i; done) & k=$!; kill -9 $k; done; true
         sh rm -f /mnt/a/t*
         unlink /mnt/a/old",
    );
    assert_eq!(seen.words(), "ok ok PERM");
}

#[test]
fn real_programs_work_in_an_rw_grant() {
    let folder = Folder::with(&["notes"]);
    let git = |args: &str| {
        let done = std::process::Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-C"])
            .arg(folder.path())
            .args(args.split(' '))
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    for step in [
        "init -q",
        "config user.name t",
        "config user.email t@example.org",
        "add .",
        "commit -qm one",
    ] {
        git(step);
    }
    for (program, script) in [
        (
            "git",
            "export HOME=/tmp && echo more >>notes && git add notes && git commit -qm two && git status --short && git log --oneline | grep -q two",
        ),
        (
            "git branch",
            "export HOME=/tmp && git checkout -qb side && echo x >side && git add side && git commit -qm side && git tag v1",
        ),
        (
            "sed -i",
            "sed -i s/notes/NOTES/ notes && grep -q NOTES notes",
        ),
        (
            "cp, tar, rm",
            "cp -r .git/objects copy && tar cf t.tar copy && mkdir out && tar xf t.tar -C out && rm -rf copy out t.tar && test ! -e out",
        ),
        ("mv", "mv notes n2 && mv n2 notes"),
        (
            "vim",
            "vim -u NONE -es -c 'set writebackup backupcopy=no' -c '%s/NOTES/vim/' -c 'wq' notes; grep -q vim notes && test ! -e notes~",
        ),
        (
            "npm",
            "export HOME=/tmp; mkdir -p /tmp/dep app && echo '{\"name\":\"dep\",\"version\":\"1.0.0\"}' >/tmp/dep/package.json && cd app && echo '{\"name\":\"app\",\"dependencies\":{\"dep\":\"file:/tmp/dep\"}}' >package.json && npm install --offline --install-links --no-audit --no-fund --loglevel=error && test -d node_modules/dep && rm -rf node_modules && npm ci --offline --install-links --no-audit --no-fund --loglevel=error && test -d node_modules/dep",
        ),
    ] {
        let installed = std::path::Path::new("/usr/bin").join(program).exists();
        if ["vim", "npm"].contains(&program) && !installed {
            eprintln!("not run: {program} is not installed");
            continue;
        }
        let seen = Session::new()
            .grant(&folder, "a", Rw)
            .run(&format!("sh cd /mnt/a && {script}"));
        assert_eq!(
            seen.words(),
            "ok",
            "{program}: {}\n{:?}",
            seen.errors,
            seen.refusals
        );
    }
    let seen = Session::new()
        .grant(&folder, "a", Rw)
        .run("sh rm -rf /mnt/a/.git\nsh rm -rf /mnt/a/app");
    assert_eq!(seen.words(), "exit-1 exit-1");
    git("fsck");
}

#[test]
fn f05_opening_is_as_without_a_guard() {
    // Written as lines for the reader; an operation is one line.
    let script = include_str!("opening.sh")
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ");
    let plain = Folder::with(&["x"]);
    let one = Session::new()
        .without_guard()
        .grant(&plain, "a", Rwd)
        .run(&format!("sh {script}"));
    let guarded = Folder::with(&["x"]);
    let two = Session::new()
        .grant(&guarded, "a", Rwd)
        .run(&format!("sh {script}"));
    assert!(one.errors.lines().count() > 20, "{}", one.errors);
    assert_eq!(one.errors, two.errors);
    assert_eq!(one.words(), two.words());
}

/// Prints what the guard costs, against the same sandbox without it:
/// `cargo test -p cordon-sandbox --test guard -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement, not a test"]
fn cost() {
    const STEPS: [(&str, &str); 7] = [
        (
            "make 2,000 files",
            "mkdir src && cd src && for i in $(seq 2000); do echo $i >f$i; done",
        ),
        ("git, first look", "git status --short >/dev/null"),
        ("git add 2,000 files", "git add src"),
        ("git status", "git status --short >/dev/null"),
        (
            "tar x 2,000 files",
            "tar cf t.tar src && mkdir out && tar xf t.tar -C out",
        ),
        (
            "rename 2,000 files",
            "perl -e 'rename(\"src/f$_\", \"src/g$_\") or die for 1..2000'",
        ),
        ("rm -rf 4,000 files", "rm -rf src out"),
    ];
    let operations: Vec<String> = STEPS
        .iter()
        .map(|(_, script)| format!("timed cd /mnt/a && export HOME=/tmp && {script}"))
        .collect();
    let operations = operations.join("\n");
    let mut sums = [[0; 2]; STEPS.len()];
    for round in 0..6 {
        let folder = Folder::with(&["old"]);
        // A session makes none.
        let git = std::process::Command::new("git")
            .args(["init", "-q"])
            .arg(folder.path())
            .status();
        assert!(git.unwrap().success());
        let session = Session::new().grant(&folder, "a", Rw);
        let which = round % 2;
        let session = if which == 0 {
            session.without_guard()
        } else {
            session
        };
        let seen = session.run(&operations);
        assert_eq!(seen.took.len(), STEPS.len(), "{}", seen.errors);
        for (sum, took) in sums.iter_mut().zip(seen.took) {
            sum[which] += took;
        }
    }
    for ((name, _), [without, with]) in STEPS.iter().zip(sums) {
        println!(
            "{name}: {} ms, {} ms, {:.2} x",
            without / 3000,
            with / 3000,
            with as f64 / without as f64
        );
    }
}
