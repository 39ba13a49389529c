//! What makes the user's own programs run something is not made, written or taken away.

use std::fs;

use cordon_policy::GrantMode::{Rw, Rwd};
use cordon_sandbox::guard::Why;

use super::support::{Folder, Session};

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
fn a_set_id_file_keeps_its_contents_and_none_is_made() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::with(&["program", "marked"]);
    let marked = folder.path().join("marked");
    fs::set_permissions(&marked, fs::Permissions::from_mode(0o4755)).unwrap();
    let seen = Session::new().grant(&folder, "a", Rw).run(
        "sh : <>/mnt/a/marked
         sh : >>/mnt/a/marked
         sh : <>/mnt/a/program
         sh mknod -m 600 /mnt/a/pipe p
         sh cat /mnt/a/marked",
    );
    assert_eq!(seen.words(), "exit-2 exit-2 ok ok ok");
    let mode = fs::metadata(&marked).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o4755);
    assert_eq!(folder.read("marked"), "marked");
}
