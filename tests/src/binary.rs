//! Finds the binary under test and puts it where an ordinary user may run it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The binary under test: `$CORDON_BIN`, or `cordon` in the target directory of this build.
///
/// # Panics
/// When there is none: build it first with `cargo build -p cordon`.
pub fn cordon() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = std::env::var_os("CORDON_BIN").map_or_else(beside_this_test, PathBuf::from);
        assert!(
            built.is_file(),
            "no binary at `{}`: run `cargo build -p cordon`, or name one in CORDON_BIN",
            built.display()
        );
        if reachable_by_all(&built) {
            built
        } else {
            publish(&built)
        }
    })
}

/// Test programs lie in `<target>/<profile>/deps`, the binary one folder above.
fn beside_this_test() -> PathBuf {
    let this = std::env::current_exe().expect("a test program knows its path");
    let profile = this.ancestors().nth(2).expect("deps has a parent");
    profile.join("cordon")
}

fn reachable_by_all(path: &Path) -> bool {
    path.ancestors().all(|part| {
        fs::metadata(part).is_ok_and(|metadata| metadata.permissions().mode() & 0o005 == 0o005)
    })
}

/// A checkout below root's home is out of an ordinary user's reach, so the binary is copied; once
/// for each build, under a name that only its size and time give.
fn publish(built: &Path) -> PathBuf {
    let metadata = fs::metadata(built).expect("it was there a moment ago");
    let modified = metadata
        .modified()
        .expect("Linux knows modification times")
        .duration_since(std::time::UNIX_EPOCH)
        .expect("built after 1970");
    let folder = PathBuf::from(format!(
        "/tmp/cordon-under-test-{}-{}",
        modified.as_nanos(),
        metadata.len()
    ));
    let public = folder.join("cordon");
    if !public.exists() {
        fs::create_dir_all(&folder).expect("/tmp takes a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let partial = folder.join(format!("partial-{}", std::process::id()));
        // By another process: what a descriptor that a fork inherited could write cannot be run.
        let copied = Command::new("install")
            .arg("--mode=755")
            .args([built, &partial])
            .status();
        assert!(
            copied.expect("coreutils").success(),
            "/tmp has room for the binary"
        );
        fs::rename(&partial, &public).expect("same folder");
    }
    public
}
