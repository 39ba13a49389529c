//! What policy preserves.

use std::fs;

use cordon_policy::GrantMode::Rwd;
use cordon_sandbox::guard::Why;

use super::support::{Folder, Session};

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
        (2, 2, 4, 2)
    );
    assert_eq!((counts.replaced, counts.replaced_bytes), (1, 4), "over");
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
