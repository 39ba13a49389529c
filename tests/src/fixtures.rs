//! Programs that scenarios put into a project folder and run inside.

use crate::World;

/// Puts `probe.py` into the project folder; see the file for what it does.
pub fn probe(world: &World) {
    world.project_file("probe.py", include_str!("../fixtures/probe.py"));
}
