//! Remembers that the walls stood, for as long as nothing has changed that they are made of.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cordon_sandbox::launch::{BUBBLEWRAP_PATHS, PODMAN, RUNC};
use cordon_session::Config;
use sha2::{Digest as _, Sha256};

use super::boundary::Report;
use crate::{
    cli::{exit, run::backend::Chosen},
    error::Failure,
    paths::Paths,
};

/// Before a session: the walls have been tried since the machine started, or are tried now.
///
/// Costs a few look-ups when they have been. The caller has one thread, and keeps it: the check
/// runs in a process of its own.
///
/// # Errors
/// [`Failure`] names each wall that does not stand. No session may start then.
pub fn before_first_session(paths: &Paths, chosen: &Chosen) -> Result<(), Failure> {
    let flags = &chosen.flags;
    if stood(paths, flags) {
        return Ok(());
    }
    if std::env::var_os(IN_CHECK).is_some() {
        return Err(Failure::new(
            "the walls could not be tried: something changed while they were",
        ));
    }
    if !Config::load(&paths.config_files())?
        .check
        .before_first_session()
    {
        return Ok(());
    }
    let output = Command::new(std::env::current_exe()?)
        .args(["check", "boundary", "--format", "json"])
        .args(flags)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(match serde_json::from_slice::<Report>(&output.stdout) {
        Ok(report) => fallen(&report),
        Err(_no_report) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("error: ");
            let (message, help) = said.split_once("\nhelp: ").unwrap_or((said, HELP));
            Failure::new(message).help(help)
        }
    })
}

/// Set for the session of the check, which must not start another. It opens nothing: with it a
/// session starts under the same conditions, or not at all.
pub const IN_CHECK: &str = "CORDON_IN_BOUNDARY_CHECK";

/// Whether those that these flags choose have been tried as things are now, and stood.
pub fn stood(paths: &Paths, flags: &[OsString]) -> bool {
    let then = fs::read_to_string(place(paths, flags));
    matches!((then, circumstances(paths, flags)), (Ok(then), Ok(now)) if then == now)
}

fn fallen(report: &Report) -> Failure {
    let wrong: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| !finding.ok)
        .map(|finding| format!("{}: {}: {}", finding.wall, finding.attempt, finding.got))
        .collect();
    Failure::new(format!(
        "no session is started, because a wall does not stand: {}",
        wrong.join("; ")
    ))
    .help(HELP)
    .with_code(exit::FAILED)
}

const HELP: &str = "`cordon check boundary` shows every attempt, `cordon doctor` what is missing";

/// Remembers that they stand, as things are now.
///
/// # Errors
/// When it cannot be written.
pub fn remember(paths: &Paths, flags: &[OsString]) -> Result<(), Failure> {
    paths.make()?;
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(place(paths, flags))?;
    file.write_all(circumstances(paths, flags)?.as_bytes())?;
    Ok(())
}

/// Forgets that they ever stood.
pub fn forget(paths: &Paths, flags: &[OsString]) {
    // What is not there is forgotten.
    let _absent = fs::remove_file(place(paths, flags));
}

/// One for each profile, and in each that of the container which was tried last.
fn place(paths: &Paths, flags: &[OsString]) -> PathBuf {
    let default = paths.boundary();
    let mut name = default.file_name().unwrap_or_default().to_owned();
    if is_container(flags) {
        name.push("-container");
    }
    if let Some(at) = flags.iter().position(|flag| flag == "--profile")
        && let Some(profile) = flags.get(at + 1)
    {
        name.push("-");
        name.push(profile);
    }
    default.with_file_name(name)
}

fn is_container(flags: &[OsString]) -> bool {
    flags.iter().any(|flag| flag == "--backend")
}

/// What the walls are made of: the running kernel, what builds them, this program, the
/// configuration; of a container its image, or its folder.
fn circumstances(paths: &Paths, flags: &[OsString]) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let kernel = rustix::system::uname();
    let mut text = format!(
        "boot {}\nkernel {}\n",
        boot.trim(),
        kernel.release().to_string_lossy()
    );
    let program = std::env::current_exe()?;
    let builders: Vec<&Path> = match is_container(flags) {
        false => BUBBLEWRAP_PATHS.map(Path::new).into(),
        true => [PODMAN].iter().chain(&RUNC).map(Path::new).collect(),
    };
    for flag in flags {
        text += &format!("{} {}\n", flag.display(), print_of(Path::new(flag)));
    }
    for path in builders.into_iter().chain([&*program]) {
        text += &format!("{} {}\n", path.display(), print_of(path));
    }
    for path in paths.config_files() {
        // By what it says: writing the same once more changes nothing.
        let bytes = fs::read(&path).unwrap_or_default();
        text += &format!("{} {}\n", path.display(), hex(&Sha256::digest(bytes)));
    }
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changes with the file.
fn print_of(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(found) => format!(
            "{}:{} {} {}.{:09} {}.{:09}",
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec()
        ),
        Err(_absent) => "absent".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(folder: &Path) -> Paths {
        let home = folder.as_os_str().to_owned();
        let mut paths = Paths::from_env(|name| (name == "HOME").then(|| home.clone())).unwrap();
        paths.config_file = Some(folder.join("cordon.toml"));
        paths.config_alone = true;
        paths
    }

    #[test]
    fn a_change_of_the_configuration_is_a_change_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        remember(&paths, &[]).unwrap();
        let stored = fs::read_to_string(paths.boundary()).unwrap();
        assert_eq!(stored, circumstances(&paths, &[]).unwrap());
        fs::write(folder.path().join("other"), "x").unwrap();
        assert_eq!(stored, circumstances(&paths, &[]).unwrap());
        fs::write(folder.path().join("cordon.toml"), "[check]\n").unwrap();
        assert_ne!(stored, circumstances(&paths, &[]).unwrap());
        forget(&paths, &[]);
        assert!(!paths.boundary().exists());
    }

    #[test]
    fn walls_of_one_container_say_nothing_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let of = |image: &str| ["--backend", "container", "--image", image].map(OsString::from);
        let [one, other] = ["1", "2"].map(of);
        assert!(!stood(&paths, &one));
        remember(&paths, &one).unwrap();
        assert!(stood(&paths, &one));
        assert!(!stood(&paths, &other) && !stood(&paths, &[]));
        forget(&paths, &one);
        assert!(!stood(&paths, &one));
    }

    #[test]
    fn walls_of_one_profile_say_nothing_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let of = |profile: &str| ["--profile", profile].map(OsString::from);
        remember(&paths, &[]).unwrap();
        assert!(stood(&paths, &[]) && !stood(&paths, &of("build")));
        remember(&paths, &of("build")).unwrap();
        assert!(stood(&paths, &[]) && stood(&paths, &of("build")));
        assert!(!stood(&paths, &of("strict")));
        let both = ["--backend", "container", "--profile", "build"].map(OsString::from);
        assert!(!stood(&paths, &both));
        forget(&paths, &[]);
        assert!(stood(&paths, &of("build")) && !stood(&paths, &[]));
    }
}
