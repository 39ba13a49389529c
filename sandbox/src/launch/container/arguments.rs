//! What podman is told: a pure function of the plan. No grant is in it.

use std::ffi::OsString;

use super::Contents;
use crate::plan::{INIT_PROGRAM, SandboxPlan};

/// The words after `podman`, for so many descriptors from 3 on, the channel and the orders first.
pub(super) fn podman_arguments(
    plan: &SandboxPlan,
    contents: &Contents,
    descriptors: usize,
) -> Vec<OsString> {
    let user = format!("{}:{}", plan.user.uid, plan.user.gid);
    let home = plan.home().display().to_string();
    let memory =
        |at: &str, size: u64, mode: &str| format!("{at}:rw,nosuid,nodev,size={size},mode={mode}");
    let sizes = &plan.sizes;
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |more: &[&str]| words.extend(more.iter().map(OsString::from));
    // crun refuses hybrid control groups; systemd may not be there to ask.
    add(&["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
    add(&["--log-level", "error", "run", "--rm", "--pull", "never"]);
    add(&["--name", &format!("cordon-{}", plan.session)]);
    add(&["--network", "none", "--userns", "keep-id", "--user", &user]);
    add(&["--hostname", &plan.host_name, "--http-proxy=false"]);
    add(&["--read-only", "--read-only-tmpfs=false"]);
    add(&["--cap-drop", "all", "--security-opt", "no-new-privileges"]);
    // The first process puts on the session's own filter, of which podman's knows nothing.
    add(&["--security-opt", "seccomp=unconfined"]);
    add(&["--security-opt", "mask=/sys", "--log-driver", "none"]);
    add(&["--preserve-fds", &descriptors.to_string()]);
    add(&["--shm-size", &sizes.shm.to_string()]);
    add(&["--tmpfs", &memory("/tmp", sizes.tmp, "1777")]);
    add(&["--tmpfs", &memory(&home, sizes.home, "0700")]);
    let program = plan.init_program.display();
    add(&[
        "--mount",
        &format!("type=bind,src={program},dst={INIT_PROGRAM},ro=true"),
    ]);
    add(&["--workdir", "/", "--entrypoint", ""]);
    match contents {
        Contents::Image(image) => add(&["--", image]),
        Contents::Folder(folder) => {
            add(&["--rootfs", "--"]);
            words.push(folder.into());
        }
    }
    words.extend([INIT_PROGRAM, "3", "4"].map(OsString::from));
    words
}
