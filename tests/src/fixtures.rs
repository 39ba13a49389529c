//! Programs that scenarios put into a project folder and run inside.

use std::{path::Path, process::Command, sync::OnceLock};

use crate::World;

/// Puts `probe.py` into the project folder; see the file for what it does.
pub fn probe(world: &World) {
    world.project_file("probe.py", include_str!("../fixtures/probe.py"));
}

/// Compiles `hostile.c` and puts it into the project folder as `hostile`.
///
/// # Panics
/// When the C compiler is missing or refuses it.
pub fn hostile(world: &World) {
    use std::os::unix::fs::PermissionsExt;

    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    let program = PROGRAM.get_or_init(compile);
    let path = world.project_file("hostile", program);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
}

fn compile() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("/tmp takes a folder");
    let program = folder.path().join("hostile");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hostile.c");
    let output = Command::new("cc")
        .args(["-O1", "-o"])
        .args([&program, &source])
        .output()
        .expect("a C compiler is installed");
    assert!(output.status.success(), "cc: {output:?}");
    std::fs::read(&program).expect("just made")
}
