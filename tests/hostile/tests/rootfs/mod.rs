//! What is in a container of the tests, and what podman leaves of it.

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use cordon_tests::World;
use rustix::process::Signal;

/// A root file system with what our own program needs, and busybox.
pub fn make_rootfs(world: &World) -> PathBuf {
    let root = world.folder("rootfs");
    let needed = Command::new("ldd")
        .arg(cordon_tests::binary::cordon())
        .output()
        .expect("part of the C library");
    let needed = String::from_utf8_lossy(&needed.stdout).into_owned();
    let libraries = needed
        .split_whitespace()
        .filter(|word| word.starts_with("/lib") && !word.contains("vdso"));
    for library in libraries {
        let at = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(at.parent().expect("below the root")).expect("it is new");
        fs::copy(library, at).expect("it was just found");
    }
    for folder in [
        "bin", "etc", "tmp", "proc", "dev", "sys", "run", "sessions", ".cordon",
    ] {
        fs::create_dir_all(root.join(folder)).expect("it is new");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).expect("it was looked for");
    for name in ["sh", "true", "cat", "rm"] {
        symlink("busybox", root.join("bin").join(name)).expect("it is new");
    }
    let all = Command::new("chown")
        .args([
            "-R",
            &format!("{}:{}", world.account().uid, world.account().gid),
        ])
        .arg(&root)
        .status();
    assert!(all.expect("part of every system").success());
    root
}

/// The process that podman leaves behind to keep its user namespace.
pub fn end_podman(world: &World) {
    let file = world.runtime().join("../libpod/tmp/pause.pid");
    let Ok(text) = fs::read_to_string(&file) else {
        return;
    };
    let pid = text
        .trim()
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _gone = rustix::process::kill_process(pid, Signal::KILL);
        assert!(
            cordon_tests::process::gone(pid, std::time::Duration::from_secs(5)),
            "podman's own process ends"
        );
    }
}

/// A static shell and programs, from the package `busybox-static`.
pub const BUSYBOX: &str = "/bin/busybox";
