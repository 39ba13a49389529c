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
    // What runc would cover with `/dev/null`, which can be written; the kernel closes them itself.
    add(&["--security-opt", &format!("unmask={}", UNMASKED.join(":"))]);
    add(&["--preserve-fds", &descriptors.to_string()]);
    add(&["--shm-size", &sizes.shm.to_string()]);
    // What is writable is mounted by us: the home, where each session's has its own name, in it.
    add(&[
        "--tmpfs",
        &format!("/tmp:rw,nosuid,nodev,size={}", sizes.tmp),
    ]);
    add(&["--tmpfs", "/sessions:rw,nosuid,nodev,size=1m"]);
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

/// Files of the kernel that are its root's alone, or say nothing of others.
const UNMASKED: [&str; 6] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;

    #[test]
    fn f07_podman_is_told_of_no_grant() {
        let image = Contents::Image("registry.example.com/tools:1".into());
        let words = podman_arguments(&example(), &image, 5);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let line = words.join(" ");
        assert!(!line.contains("/home/ada"), "{line}");
        for part in [
            "--pull never",
            "--network none",
            "--userns keep-id --user 1000:100",
            "--read-only ",
            "--cap-drop all",
            "--security-opt no-new-privileges",
            "--preserve-fds 5",
            "src=/opt/cordon,dst=/.cordon/cordon-init,ro=true",
            "--tmpfs /sessions:rw,nosuid,nodev,size=1m",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let end = "--entrypoint  -- registry.example.com/tools:1 /.cordon/cordon-init 3 4";
        assert!(line.ends_with(end), "{line}");
        let folder = podman_arguments(&example(), &Contents::Folder("/srv/r".into()), 5);
        let end = ["--rootfs", "--", "/srv/r", INIT_PROGRAM, "3", "4"];
        assert!(folder.ends_with(&end.map(OsString::from)), "{folder:?}");
    }
}
