//! What is looked at, one after the other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cordon_sandbox::{
    adapter::host::{Installed, OLDEST_BUBBLEWRAP, landlock_version, seccomp_lacks},
    network,
    owners::{Claim, is_host_root},
};
use rustix::fs::{Access, access};

use super::{Item, State, distribution::Distribution};
use crate::{
    cli::{check, run::who},
    paths::Paths,
    reflinks,
};

/// Everything. The caller has one thread: the network is tried in a fork.
pub fn all(paths: &Paths, distribution: &Distribution) -> Vec<Item> {
    vec![
        kernel(),
        user(paths),
        bubblewrap(distribution),
        network(),
        seccomp(),
        landlock(),
        cgroups(),
        shared_blocks(paths),
        podman(distribution),
        boundary(paths),
    ]
}

fn kernel() -> Item {
    let name = rustix::system::uname();
    let found = format!(
        "Linux {} on {}",
        name.release().to_string_lossy(),
        std::env::consts::ARCH
    );
    Item::ok("kernel", found)
}

fn user(paths: &Paths) -> Item {
    let uid = rustix::process::geteuid();
    if !is_host_root() {
        return Item::ok("user", format!("uid {}", uid.as_raw()));
    }
    let range = match who::range(paths) {
        Ok(range) => range,
        Err(error) => return Item::of("user", State::Missing, "root").means(error.to_string()),
    };
    match Claim::take(range) {
        Ok(_free) => Item::ok(
            "user",
            format!(
                "root; each session runs as a user id of its own from {} on",
                range.first
            ),
        ),
        Err(error) => Item::of("user", State::Missing, "root")
            .means(format!("no session of root runs: {error}"))
            .get(error.hint()),
    }
}

fn bubblewrap(distribution: &Distribution) -> Item {
    let what = "bubblewrap";
    let install = distribution.install("bubblewrap");
    let Some(found) = Installed::find() else {
        return Item::of(what, State::Missing, "not installed")
            .means("it builds the walls; no session runs without")
            .get(install);
    };
    let shown = format!("{} ({})", found.version, found.path);
    if found.is_too_old() {
        return Item::of(what, State::Missing, shown)
            .means(format!("version {OLDEST_BUBBLEWRAP} or newer is needed"))
            .get(format!("{install}, from a newer release if need be"));
    }
    match found.try_it() {
        Ok(()) => Item::ok(what, shown),
        Err(said) => Item::of(what, State::Missing, shown)
            .means(format!("it cannot build a sandbox here: {said}"))
            .get(settings()),
    }
}

/// What can stand in the way of user namespaces, as it is now.
fn settings() -> String {
    let blocking: Vec<String> = SETTINGS
        .iter()
        .filter_map(|(path, blocked, fix)| {
            let value = fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
            (value.trim() == *blocked).then(|| format!("`sudo sysctl {fix}`"))
        })
        .collect();
    if blocking.is_empty() {
        return "allow user namespaces to this user; in a container, allow `unshare` and mounts"
            .into();
    }
    blocking.join(", ")
}

/// A setting below /proc/sys, the value that forbids, and what allows.
const SETTINGS: [(&str, &str, &str); 3] = [
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "kernel.unprivileged_userns_clone=1",
    ),
    (
        "user/max_user_namespaces",
        "0",
        "user.max_user_namespaces=10000",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile for bwrap and \
         cordon, `sudo apparmor_parser -r FILE",
    ),
];

fn network() -> Item {
    let what = "session network";
    match network::check() {
        Ok(()) => Item::ok(what, "namespaces, loopback and nftables"),
        Err(error) => {
            let hint = error.hint().to_owned();
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text += &format!(": {next}");
                cause = next.source();
            }
            Item::of(what, State::Missing, "cannot be built")
                .means(text)
                .get(hint)
        }
    }
}

fn seccomp() -> Item {
    let what = "seccomp";
    let needs = "the kernel needs CONFIG_SECCOMP_FILTER, 5.0 or newer";
    match seccomp_lacks() {
        Ok(lacks) if lacks.is_empty() => Item::ok(what, "filters and notification"),
        Ok(lacks) => Item::of(what, State::Missing, format!("lacks {}", lacks.join(", ")))
            .means("system calls cannot be filtered as planned; no session runs")
            .get(needs),
        Err(_none) => Item::of(what, State::Missing, "none")
            .means("system calls cannot be filtered; no session runs")
            .get(needs),
    }
}

fn landlock() -> Item {
    let what = "Landlock";
    match landlock_version() {
        Ok(version) => Item::ok(what, format!("version {version}")),
        Err(_none) => Item::of(what, State::Weaker, "none")
            .means(
                "files have one wall instead of two, and a standard stream that is a regular file \
                 is refused (a pipe works)",
            )
            .get("a kernel of 5.13 or newer with `lsm=landlock,…` among its boot options"),
    }
}

/// Whether a group of processes can be made and frozen here.
fn cgroups() -> Item {
    let what = "cgroups";
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let folders: Vec<PathBuf> = own
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let base = Path::new("/sys/fs/cgroup");
            let base = match (unified, controllers) {
                (true, "") => base.to_path_buf(),
                (false, "") => base.join("unified"),
                (_, names) => base.join(names),
            };
            Some(base.join(path.trim_start_matches('/')))
        })
        .collect();
    let delegated = folders
        .iter()
        .any(|folder| access(folder, Access::WRITE_OK).is_ok());
    let kind = if unified {
        "version 2"
    } else {
        "version 1 or hybrid"
    };
    if delegated {
        return Item::ok(what, format!("{kind}, delegated to this user"));
    }
    Item::of(what, State::Weaker, format!("{kind}, not delegated to this user"))
        .means(
            "limits of a session are kept by rlimits and counting, and its share of the processors \
             cannot be limited",
        )
        .get("log in by systemd (a user session delegates them), or start by `systemd-run --user --scope`")
}

/// By trying it where the state lies.
fn shared_blocks(paths: &Paths) -> Item {
    let what = "reflinks";
    match reflinks::clone_a_file(&paths.home) {
        Ok(()) => Item::ok(what, "in the home directory"),
        Err(_refused) => Item::of(what, State::Optional, "not in the home directory").means(
            "what `@preserve` keeps is copied, not cloned: a large file is kept slowly, and one of \
             over 1 GiB is not changed",
        ),
    }
}

/// For sessions in containers only.
fn podman(distribution: &Distribution) -> Item {
    let what = "podman and runc";
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().next().map(str::to_owned)
    };
    let mapper = Path::new("/usr/bin/newuidmap").is_file();
    match (version("podman"), version("runc")) {
        (Some(podman), Some(runc)) if mapper => {
            let found = Item::ok(what, format!("{podman}, {runc}"));
            if rustix::process::geteuid().is_root() {
                return found
                    .means("sessions in containers are an ordinary user's; root starts none");
            }
            found
        }
        _ => Item::of(what, State::Optional, "not installed")
            .means("only for sessions in containers (`--backend container`)")
            .get(format!(
                "{}, {} and `newuidmap` (package `uidmap` or `shadow-utils`)",
                distribution.install("podman"),
                distribution.install("runc")
            )),
    }
}

fn boundary(paths: &Paths) -> Item {
    let what = "walls";
    if check::stood(paths, &[]) {
        return Item::ok(what, "tried since the machine started, and they stand");
    }
    Item::of(what, State::Optional, "not tried yet, as things are now")
        .means("the first session tries them, and does not start if one is missing")
        .get("`cordon check boundary`")
}
