//! What is granted is there, as it was granted, and no more.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::Stage;

pub fn read_only(stage: &Stage<'_>) {
    let folder = folder(stage, "shown");
    let script = "cd \"$HOME/mnt/shown\"; cat old
        (echo x >> old) 2>/dev/null && echo written; (: > new) 2>/dev/null && echo made
        rm -f old 2>/dev/null && echo removed; echo end";
    let outcome = stage
        .command(&["/bin/sh", "-c", script])
        .grant(format!("{}:ro", folder.display()))
        .run();
    assert!(outcome.text().ends_with("end"), "{outcome}");
    for done in ["written", "made", "removed"] {
        assert!(!outcome.text().contains(done), "{outcome}");
    }
    assert_eq!(read(&folder.join("old")), "old\n");
}

fn folder(stage: &Stage<'_>, name: &str) -> PathBuf {
    let folder = stage.world.folder(name);
    stage.world.write(folder.join("old"), "old\n");
    folder
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub fn no_delete(stage: &Stage<'_>) {
    stage.write("old", "old\n");
    let script = "b=./busybox; $b rm -f old 2>/dev/null && echo removed
        : > other; $b mv other old && $b rm -f old 2>/dev/null && echo removed
        echo new > new && $b rm new && echo own; echo more > old; $b mv old renamed && echo end";
    let outcome = stage.session(script).run();
    outcome.expect_code(0);
    assert_eq!(outcome.text(), "own\nend", "{outcome}");
    let project = stage.world.project();
    assert_eq!(read(&project.join("renamed")), "more\n");
}

pub fn delete(stage: &Stage<'_>) {
    stage.write("old", "old\n");
    let project = stage.world.project();
    let outcome = stage
        .command(&[
            "/bin/sh",
            "-c",
            "cd \"$HOME/mnt/project\" && ./busybox rm old && echo removed",
        ])
        .grant(format!("{}:rwd", project.display()))
        .run();
    outcome.expect_code(0);
    assert!(!project.join("old").exists(), "{outcome}");
}

pub fn link_out(stage: &Stage<'_>) {
    let outside = folder(stage, "outside");
    let link = stage.world.project().join("link");
    let _absent = fs::remove_file(&link);
    symlink(outside.join("old"), &link).expect("the folder is ours");
    assert_eq!(
        read(&link),
        "old\n",
        "the control: on the host it leads there"
    );
    let script = "./busybox cat link 2>/dev/null && echo read; (echo x > link) 2>/dev/null && echo written; echo end";
    let outcome = stage.session(script).run();
    assert_eq!(outcome.text(), "end", "{outcome}");
    assert_eq!(read(&outside.join("old")), "old\n");
}

pub fn protected(stage: &Stage<'_>) {
    stage.write(".mcp.json", "{}\n");
    let script = "(echo x > .mcp.json) 2>/dev/null && echo written
        (: > .envrc) 2>/dev/null && echo made; ./busybox mkdir .vscode 2>/dev/null && echo made
        : > plain && echo end";
    let outcome = stage.session(script).run();
    outcome.expect_code(0);
    assert_eq!(outcome.text(), "end", "{outcome}");
    let project = stage.world.project();
    assert_eq!(read(&project.join(".mcp.json")), "{}\n");
    assert!(!project.join(".envrc").exists() && !project.join(".vscode").exists());
}

pub fn live(stage: &Stage<'_>) {
    let later = folder(stage, "later");
    let (running, id) = stage.running(":");
    let at = format!("/sessions/{id}/mnt/later");
    let inside = |script: &str| stage.exec(&id, &format!("{script} 2>/dev/null")).code == 0;
    assert!(!inside(&format!("cd {at}")), "not before it is granted");
    stage.steer(&["session", "grant", &id, &format!("{}:rw", later.display())]);
    assert!(
        inside(&format!("cd {at} && : > made")),
        "granted to be written"
    );
    assert!(later.join("made").exists());
    assert!(!inside(&format!("rm {at}/old")), "what was there stays");
    stage.steer(&["session", "mode", &id, "later", "ro"]);
    assert!(!inside(&format!("(: > {at}/more)")), "read only now");
    assert!(inside(&format!("[ -e {at}/old ]")), "and still there");
    stage.steer(&["session", "revoke", &id, "later"]);
    assert!(!inside(&format!("[ -e {at}/old ]")), "gone");
    stage.end(running).expect_code(0);
}
