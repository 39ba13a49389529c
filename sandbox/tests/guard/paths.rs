//! By whatever way a file is named, the guard finds the same one.

use std::fs;

use cordon_policy::GrantMode::{Rw, Rwd};

use super::support::{Folder, Session};

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
