//! What may lose its name: what was there stays, what the session made goes.

use std::fs;

use cordon_policy::GrantMode::{Ro, Rw, Rwd};
use cordon_sandbox::guard::{Call, Why};

use super::support::{Folder, Session};

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
