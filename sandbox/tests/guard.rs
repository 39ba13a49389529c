//! The guard with a real kernel: a process under bubblewrap and the filter, a supervisor out here.
//!
//! Each session runs a short list of operations inside and returns one word for each: `ok`, or the
//! error's name. The program inside is this test binary itself, started as the test `inside`.

mod guard_support;

use std::fs;

use cordon_policy::GrantMode::{Ro, Rw, Rwd};
use cordon_sandbox::guard::{Call, Why};
use guard_support::{Folder, Session};

/// Not a test of its own: the half that runs in the sandbox.
#[test]
#[ignore = "started by the other tests, inside their sandbox"]
fn inside() {
    guard_support::inside::main();
}

#[test]
fn f20_what_was_there_is_not_removed_where_only_write_was_granted() {
    let folder = Folder::with(&["old", "dir/deep"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "unlink /mnt/a/old
         rmdir /mnt/a/empty
         unlink /mnt/a/dir/deep
         write /mnt/a/new
         unlink /mnt/a/new
         mkdir /mnt/a/newdir
         rmdir /mnt/a/newdir
         write /mnt/a/old",
    );
    assert_eq!(seen.words(), "PERM PERM PERM ok ok ok ok ok");
    assert!(folder.has("old") && folder.has("empty") && folder.has("dir/deep"));
    let first = &seen.refusals[0];
    assert_eq!((first.call, first.why), (Call::Unlink, Why::WasThere));
    assert_eq!(first.inside.to_str(), Some("/mnt/a/old"));
    assert_eq!(first.host.as_deref(), Some(&*folder.path().join("old")));
    assert_eq!(first.mode, Some(Rw));
    assert_eq!(seen.refusals[1].call, Call::Rmdir);
    assert_eq!((seen.counts.refused, seen.counts.removed), (3, 2));
}

#[test]
fn f20_where_delete_was_granted_everything_may_go() {
    let folder = Folder::with(&["old", "dir/deep", "other"]);
    let seen = Session::new().grant(&folder, "a", Rwd).run(
        "unlink /mnt/a/old
         unlink /mnt/a/dir/deep
         rmdir /mnt/a/dir",
    );
    assert_eq!(seen.words(), "ok ok ok");
    assert!(!folder.has("old") && !folder.has("dir") && folder.has("other"));
    assert_eq!((seen.counts.refused, seen.counts.removed), (0, 3));
}

#[test]
fn f20_a_read_only_grant_stays_read_only() {
    let folder = Folder::with(&["old", "other"]);
    let seen = Session::new().grant(&folder, "a", Ro).run(
        "unlink /mnt/a/old
         rename /mnt/a/old /mnt/a/new
         unlink /usr/bin/env",
    );
    assert_eq!(seen.words(), "ROFS ROFS ROFS");
    assert!(folder.has("old"));
}

#[test]
fn f20_where_names_stay_nothing_goes_whoever_made_it() {
    let operations = "write /mnt/a/old
         write /mnt/a/new
         mkdir /mnt/a/dir
         rename /mnt/a/new /mnt/a/other
         rename /mnt/a/new /mnt/a/old
         unlink /mnt/a/new
         rmdir /mnt/a/dir
         unlink /mnt/a/old";
    for mode in [Rw, Rwd] {
        let folder = Folder::with(&["old"]);
        let session = Session::new().grant(&folder, "a", mode).where_names_stay();
        let seen = session.run(operations);
        assert_eq!(seen.words(), "ok ok ok PERM PERM PERM PERM PERM");
        assert!(folder.has("old") && folder.has("new") && folder.has("dir"));
        assert!(
            seen.refusals
                .iter()
                .all(|refusal| refusal.why == Why::NamesStay)
        );
        assert_eq!(seen.counts.refused, 5);
    }
    // The control: what the session made goes elsewhere.
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(operations);
    assert_eq!(seen.words(), "ok ok ok ok NOENT NOENT ok PERM");
}

#[test]
fn f20_a_replacement_inherits_the_protection_of_what_it_replaced() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "write /mnt/a/tmp
         rename /mnt/a/tmp /mnt/a/old
         unlink /mnt/a/old
         write /mnt/a/tmp
         rename /mnt/a/tmp /mnt/a/old
         unlink /mnt/a/old
         rename /mnt/a/old /mnt/a/moved
         unlink /mnt/a/moved
         rename /mnt/a/moved /mnt/a/old
         write /mnt/a/tmp
         write /mnt/a/tmp2
         rename /mnt/a/tmp /mnt/a/tmp2
         unlink /mnt/a/tmp2",
    );
    assert_eq!(seen.words(), "ok ok PERM ok ok PERM ok PERM ok ok ok ok ok");
    assert_eq!(folder.read("old"), "written inside");
}

#[test]
fn f20_an_old_file_is_not_renamed_over_another() {
    let folder = Folder::with(&["one", "two"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "rename /mnt/a/one /mnt/a/two
         noreplace /mnt/a/one /mnt/a/two
         rename /mnt/a/one /mnt/a/three
         rename /mnt/a/three /mnt/a/one
         write /mnt/a/new
         rename /mnt/a/one /mnt/a/new
         rename /mnt/a/new /mnt/a/one",
    );
    assert_eq!(seen.words(), "PERM EXIST ok ok ok ok ok");
    assert_eq!(
        (folder.read("one"), folder.read("two")),
        ("one".into(), "two".into())
    );
    assert_eq!(seen.refusals[0].why, Why::WouldReplace);
    assert_eq!(seen.refusals[0].inside.to_str(), Some("/mnt/a/two"));
}

#[test]
fn f20_exchanging_loses_nothing_and_opens_nothing() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "mkdir /mnt/a/newdir
         exchange /mnt/a/newdir /mnt/a/old
         unlink /mnt/a/newdir
         rmdir /mnt/a/old
         whiteout /mnt/a/newdir /mnt/a/x
         exchange /mnt/a/newdir /mnt/a/absent",
    );
    assert_eq!(seen.words(), "ok ok PERM ok INVAL NOENT");
    assert_eq!(folder.read("newdir"), "old");
}

#[test]
fn f20_saving_by_moving_aside_works_and_the_new_file_is_kept() {
    let folder = Folder::with(&["old", "second"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "rename /mnt/a/old /mnt/a/old~
         unlink /mnt/a/old~
         write /mnt/a/old
         unlink /mnt/a/old~
         unlink /mnt/a/old
         rename /mnt/a/second /mnt/a/old~
         mkdir /mnt/a/second
         unlink /mnt/a/old~
         rmdir /mnt/a/second
         rename /mnt/a/old /mnt/a/second
         unlink /mnt/a/old~",
    );
    assert_eq!(seen.words(), "ok PERM ok ok PERM ok ok PERM ok ok PERM");
    assert_eq!(folder.read("second"), "written inside");
    assert_eq!(folder.read("old~"), "second");
}

#[test]
fn f20_one_new_file_stands_in_for_one_old_file_only() {
    let folder = Folder::with(&["one", "two"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "rename /mnt/a/one /mnt/a/one~
         rename /mnt/a/two /mnt/a/two~
         write /mnt/a/one
         link /mnt/a/one /mnt/a/two
         unlink /mnt/a/one~
         unlink /mnt/a/two~
         rename /mnt/a/two~ /mnt/a/one~",
    );
    assert_eq!(seen.words(), "ok ok ok ok ok PERM ok");
    assert_eq!(folder.read("one~"), "two");
}

#[test]
fn f20_nothing_leaves_its_grant_by_rename_or_link() {
    let (a, b) = (Folder::with(&["old"]), Folder::with(&["kept"]));
    let seen = Session::new().grant(&a, "a", Rw).grant(&b, "b", Rwd).run(
        "rename /mnt/a/old /mnt/b/old
         rename /mnt/a/old /tmp/old
         link /mnt/a/old /mnt/b/old
         link /mnt/a/old /tmp/old
         write /mnt/b/new
         rename /mnt/b/new /mnt/b/newer
         write /tmp/one
         rename /tmp/one /tmp/two
         unlink /tmp/two",
    );
    assert_eq!(seen.words(), "XDEV XDEV XDEV XDEV ok ok ok ok ok");
    assert!(a.has("old") && !b.has("old"));
}

#[test]
fn f20_a_hard_link_is_no_way_round() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "link /mnt/a/old /mnt/a/second
         unlink /mnt/a/old
         unlink /mnt/a/second
         write /mnt/a/new
         link /mnt/a/new /mnt/a/new2
         unlink /mnt/a/new
         rename /mnt/a/new2 /mnt/a/old
         unlink /mnt/a/old",
    );
    assert_eq!(seen.words(), "ok PERM PERM ok ok ok ok PERM");
    assert!(folder.has("old") && folder.has("second"));
}

#[test]
fn f20_links_of_proc_lead_where_the_caller_stands() {
    let folder = Folder::with(&["one", "two", "three", "four", "dir/x"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "chdir /mnt/a
         unlink /proc/self/cwd/one
         unlink /proc/thread-self/cwd/two
         opendir 9 /mnt/a/dir
         unlink /proc/self/fd/9/x
         unlink /dev/fd/9/../three
         unlink /proc/self/root/mnt/a/four
         unlink /proc/self/../../mnt/a/four
         unlink /proc/1/root/mnt/a/four
         write /mnt/a/new
         unlink /proc/self/cwd/new
         write /mnt/a/dir/new
         unlink /proc/self/fd/9/new
         write /mnt/a/new
         unlink /proc/self/root/mnt/a/new
         write /mnt/a/new
         rename /proc/self/cwd/new /proc/self/fd/9/newer
         unlink /dev/fd/9/newer
         unlink /proc/self/cwd/absent",
    );
    assert_eq!(
        seen.words(),
        "ok PERM PERM ok PERM PERM PERM PERM ACCES ok ok ok ok ok ok ok ok ok NOENT"
    );
    for name in ["one", "two", "three", "four", "dir/x"] {
        assert!(folder.has(name), "{name}");
    }
    assert!(!folder.has("new") && !folder.has("dir/new") && !folder.has("dir/newer"));
}

#[test]
fn f20_rm_tells_the_truth_about_a_link_of_proc() {
    let folder = Folder::with(&["old"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "sh cd /mnt/a && rm -f /proc/self/cwd/old
         sh cd /mnt/a && touch new && rm -f /proc/self/cwd/new && test ! -e new",
    );
    assert_eq!(seen.words(), "exit-1 ok");
    assert!(folder.has("old"));
}

#[test]
fn f20_a_second_mount_of_the_same_folder_is_guarded_alike() {
    let folder = Folder::with(&["old", "sub/inner"]);
    let (outer, inner) = (folder.path(), folder.path().join("sub"));
    let seen = Session::new()
        .grant_path(outer, "a", Rw)
        .grant_path(&inner, "b", Rw)
        .run(
            "unlink /mnt/b/inner
         unlink /mnt/a/sub/inner
         write /mnt/b/new
         unlink /mnt/a/sub/new",
        );
    assert_eq!(seen.words(), "PERM PERM ok ok");
    let seen = Session::new()
        .grant_path(outer, "a", Rwd)
        .grant_path(outer, "b", Rw)
        .run(
            "unlink /mnt/a/old
         write /mnt/b/new
         unlink /mnt/b/new",
        );
    assert_eq!(seen.words(), "PERM ok ok");
}

#[test]
fn f20_the_innermost_grant_decides_by_whichever_mount_it_is_reached() {
    let folder = Folder::with(&["old", "dir/x", "up/build/out"]);
    let build = folder.path().join("up/build");
    let seen = Session::new()
        .grant_path(folder.path(), "a", Rw)
        .grant_path(&build, "b", Rwd)
        .run(
            "rename /mnt/a/old /mnt/a/up/build/old
         rename /mnt/a/dir /mnt/a/up/build/dir
         link /mnt/a/old /mnt/a/up/build/old
         unlink /mnt/b/old
         rename /mnt/a/up /mnt/a/elsewhere
         rename /mnt/a/up/build /mnt/a/elsewhere
         mkdir /mnt/a/new
         rename /mnt/a/new /mnt/a/newer
         unlink /mnt/a/up/build/out
         rmdir /mnt/a/up/build",
        );
    assert_eq!(seen.words(), "XDEV XDEV ok ok BUSY BUSY ok ok ok BUSY");
    assert!(folder.has("old") && folder.has("dir/x") && folder.has("up/build"));
}

#[test]
fn f20_links_and_relative_paths_end_at_the_same_file() {
    let folder = Folder::with(&["old", "dir/deep/x"]);
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "symlink /mnt/a/dir /tmp/abs
         symlink ../mnt/a /tmp/rel
         unlink /tmp/abs/deep/x
         unlink /tmp/rel/old
         opendir 9 /mnt/a/dir/deep
         unlinkat 9 x
         unlinkat 9 ../../old
         unlinkat 9 ../../../../../mnt/a/old
         chdir /mnt/a/dir
         unlink ../old
         unlink deep//x
         unlink ./deep/./x
         write ../new
         unlinkat 9 ../../new
         write ../new
         unlink /tmp/rel/new
         symlink /mnt/a/old /mnt/a/link
         unlink /mnt/a/link
         symlink loop /tmp/loop
         unlink /tmp/loop/x",
    );
    assert_eq!(
        seen.words(),
        "ok ok PERM PERM ok PERM PERM PERM ok PERM PERM PERM ok ok ok ok ok ok ok LOOP"
    );
    assert!(folder.has("old") && folder.has("dir/deep/x"));
}

#[test]
fn f20_a_name_that_something_is_mounted_on_stays() {
    let folder = Folder::with(&["dir/hooks/pre", "dir/other", "file"]);
    let hooks = folder.path().join("dir/hooks");
    for mode in [Rw, Rwd] {
        let seen = Session::new()
            .grant(&folder, "a", mode)
            .mount_read_only(&hooks, "a/dir/hooks")
            .mount_read_only(&folder.path().join("file"), "a/file")
            .run(
                "rmdir /mnt/a/dir/hooks
                 unlink /mnt/a/file
                 rename /mnt/a/dir/hooks /mnt/a/hooks
                 rename /mnt/a/dir /mnt/a/dir2
                 write /mnt/a/new
                 rename /mnt/a/new /mnt/a/file
                 exchange /mnt/a/new /mnt/a/file
                 unlink /mnt/a/dir/hooks/pre
                 rename /mnt/a/dir/other /mnt/a/dir/other2
                 unlink /mnt/a/new",
            );
        assert_eq!(
            seen.words(),
            "BUSY BUSY BUSY BUSY ok BUSY BUSY ROFS ok ok",
            "{mode}"
        );
        assert!(folder.has("dir/hooks/pre") && folder.has("file"), "{mode}");
        fs::rename(
            folder.path().join("dir/other2"),
            folder.path().join("dir/other"),
        )
        .unwrap();
    }
}

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
fn f20_only_so_many_moves_aside_are_remembered_and_the_rest_is_kept() {
    let names: Vec<String> = (0..300).map(|number| format!("f{number}")).collect();
    let folder = Folder::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let script = "chdir q(/mnt/a); \
        sub make { open my $new, q(>), shift or die } \
        for (0..299) { rename qq(f$_), qq(g$_) or die; make(qq(f$_)) } \
        unlink qq(g$_) for 0..299; \
        for (256..299) { rename qq(g$_), qq(h$_) or die; make(qq(g$_)) } \
        unlink qq(h$_) for 256..299";
    let session = Session::new().grant(&folder, "a", Rw);
    let seen = session.run(&format!("sh perl -e '{script}'"));
    assert_eq!(seen.words(), "ok", "{}", seen.errors);
    assert_eq!((seen.counts.removed, seen.counts.refused), (256, 88));
    assert!((256..300).all(|number| folder.read(&format!("h{number}")) == format!("f{number}")));
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
            "command -v vim >/dev/null || exit 0; vim -u NONE -es -c 'set writebackup backupcopy=no' -c '%s/NOTES/vim/' -c 'wq' notes; grep -q vim notes && test ! -e notes~",
        ),
        (
            "npm",
            "command -v npm >/dev/null || exit 0; export HOME=/tmp; mkdir -p /tmp/dep app && echo '{\"name\":\"dep\",\"version\":\"1.0.0\"}' >/tmp/dep/package.json && cd app && echo '{\"name\":\"app\",\"dependencies\":{\"dep\":\"file:/tmp/dep\"}}' >package.json && npm install --offline --install-links --no-audit --no-fund --loglevel=error && test -d node_modules/dep && rm -rf node_modules && npm ci --offline --install-links --no-audit --no-fund --loglevel=error && test -d node_modules/dep",
        ),
    ] {
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
fn f04_what_runs_by_itself_is_not_written_in_any_writable_grant() {
    for mode in [Rw, Rwd] {
        let folder = Folder::with(&[".git/hooks/pre-commit", ".git/config", ".envrc", "free"]);
        let seen = Session::new().grant(&folder, "a", mode).run(
            "write /mnt/a/.git/hooks/pre-commit
             write /mnt/a/.git/config
             write /mnt/a/.envrc
             unlink /mnt/a/.envrc
             rename /mnt/a/.envrc /mnt/a/x
             rename /mnt/a/.git /mnt/a/x
             link /mnt/a/.envrc /mnt/a/x
             sh : >>/mnt/a/.envrc
             opendir 9 /mnt/a/.git
             write /proc/self/fd/9/config
             write /mnt/a/free
             write /mnt/a/.git/index",
        );
        assert_eq!(
            seen.words(),
            "PERM PERM PERM PERM PERM PERM PERM exit-2 ok PERM ok ok"
        );
        assert_eq!(folder.read(".git/config"), ".git/config");
        assert_eq!(folder.read(".envrc"), ".envrc");
        assert!(matches!(seen.refusals[0].why, Why::Protected(_)));
        assert_eq!(
            seen.refusals[2].host.as_deref(),
            Some(&*folder.path().join(".envrc"))
        );
    }
}

#[test]
fn f05_what_is_absent_is_not_made_and_leaves_nothing_behind() {
    let folder = Folder::with(&["sub/x"]);
    let seen = Session::new().grant(&folder, "a", Rwd).run(
        "write /mnt/a/.mcp.json
         mkdir /mnt/a/.git
         mkdir /mnt/a/sub/.vscode
         symlink x /mnt/a/.envrc
         symlink x /mnt/a/.claude
         fifo /mnt/a/.bashrc
         tmpfile /mnt/a /mnt/a/.envrc
         write /mnt/a/new
         link /mnt/a/new /mnt/a/.envrc
         rename /mnt/a/new /mnt/a/.envrc
         exchange /mnt/a/new /mnt/a/.envrc
         mkdir /mnt/a/dir
         rename /mnt/a/dir /mnt/a/sub/.Git
         rename /mnt/a/dir /mnt/a/.claude
         mkdir /mnt/a/.claude
         write /mnt/a/.claude/settings.json
         rename /mnt/a/new /mnt/a/.claude/settings.local.json
         mkdir /mnt/a/.claude/hooks
         symlink .envrc /mnt/a/link
         write /mnt/a/link
         sh cd /mnt/a/sub && echo x >../.envrc
         sh git init -q /mnt/a/dir
         write /mnt/a/.claude/notes
         write /mnt/a/.envrc2",
    );
    assert_eq!(
        seen.words(),
        "PERM PERM PERM PERM PERM PERM PERM ok PERM PERM PERM ok PERM PERM ok PERM PERM PERM ok PERM \
         exit-2 exit-1 ok ok"
    );
    let mut left: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".claude", ".envrc2", "dir", "link", "new", "sub"]);
    assert_eq!(fs::read_dir(folder.path().join("dir")).unwrap().count(), 0);
}

#[test]
fn f04_what_policy_permits_is_done() {
    let folder = Folder::with(&[".envrc"]);
    let seen = Session::new().grant(&folder, "a", Rw).permitting().run(
        "write /mnt/a/.envrc
         write /mnt/a/.mcp.json
         mkdir /mnt/a/.vscode
         unlink /mnt/a/.envrc",
    );
    assert_eq!(seen.words(), "ok ok ok PERM");
    assert_eq!(folder.read(".envrc"), "written inside");
    assert!(folder.has(".mcp.json") && folder.has(".vscode"));
}

#[test]
fn what_policy_preserves_is_kept_before_it_is_lost_or_written() {
    use cordon_sandbox::guard::{Changed, INDEX, Kept};
    let folder = Folder::with(&["gone", "over", "written", "cut", "moved", "dir/deep"]);
    let store = tempfile::tempdir_in(folder.path().parent().unwrap()).unwrap();
    let kept = store.path().join("kept");
    let seen = Session::new()
        .preserving(&kept)
        .grant(&folder, "a", Rwd)
        .run(
            "unlink /mnt/a/gone
             write /mnt/a/new
             rename /mnt/a/new /mnt/a/over
             write /mnt/a/written
             write /mnt/a/written
             truncate /mnt/a/cut
             rename /mnt/a/moved /mnt/a/moved2
             write /mnt/a/fresh
             unlink /mnt/a/fresh
             unlink /mnt/a/dir/deep
             rmdir /mnt/a/dir",
        );
    assert_eq!(seen.words(), "ok ok ok ok ok ok ok ok ok ok ok");
    let index = fs::read_to_string(kept.join(INDEX)).unwrap();
    let lines: Vec<Kept> = index
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = lines
        .iter()
        .map(|kept| {
            (
                kept.change,
                kept.path.file_name().unwrap().to_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        (Changed::Removed, "gone"),
        (Changed::Replaced, "over"),
        (Changed::Written, "written"),
        (Changed::Written, "cut"),
        (Changed::Moved, "moved"),
        (Changed::Removed, "deep"),
        (Changed::Removed, "dir"),
    ];
    assert_eq!(told, expected);
    for line in lines.iter().filter(|line| line.content.is_some()) {
        let content = kept.join(line.content.unwrap().to_string());
        let name = line.path.strip_prefix(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(content).unwrap(), name.to_str().unwrap());
    }
    let counts = seen.files.values().next().unwrap();
    assert_eq!(
        (counts.created, counts.changed, counts.deleted, counts.moved),
        (2, 2, 5, 2)
    );
}

#[test]
fn what_cannot_be_kept_is_not_changed() {
    let folder = Folder::with(&["old"]);
    let store = tempfile::tempdir().unwrap();
    let kept = store.path().join("kept");
    let session = Session::new().preserving(&kept).grant(&folder, "a", Rwd);
    fs::remove_dir_all(&kept).unwrap();
    let seen = session.run(
        "unlink /mnt/a/old
         write /mnt/a/old
         write /mnt/a/new",
    );
    assert_eq!(seen.words(), "PERM PERM ok");
    assert_eq!(seen.refusals[0].why, Why::NotKept);
    assert_eq!(folder.read("old"), "old");
}

#[test]
fn f05_packages_keep_what_they_bring_and_do_not_hand_it_on() {
    let folder = Folder::with(&["x"]);
    let seen = Session::new().grant(&folder, "a", Rwd).run(
        "mkdir /mnt/a/node_modules
         mkdir /mnt/a/node_modules/.tmp
         mkdir /mnt/a/node_modules/.tmp/.vscode
         write /mnt/a/node_modules/.tmp/.vscode/tasks.json
         rename /mnt/a/node_modules/.tmp /mnt/a/node_modules/dep
         rename /mnt/a/node_modules/dep /mnt/a/dep
         rename /mnt/a/node_modules /mnt/a/modules
         rename /mnt/a/node_modules/dep/.vscode /mnt/a/.vscode",
    );
    assert_eq!(seen.words(), "ok ok ok ok ok XDEV XDEV PERM");
}

#[test]
fn f05_opening_is_as_without_a_guard() {
    // Written as lines for the reader; an operation is one line.
    let script = include_str!("guard_support/opening.sh")
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
