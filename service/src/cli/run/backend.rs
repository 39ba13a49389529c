//! Which adapter holds a session's walls, by the flags and the configuration.

use std::path::PathBuf;

use cordon_sandbox::{
    adapter::{Bubblewrap, Container, SandboxAdapter},
    launch::Contents,
};
use cordon_session::Config;

use super::{Args, Backend};
use crate::{error::Failure, paths::Paths};

/// The adapter of `args`, which names a backend that has walls.
///
/// # Errors
/// When a container has no contents, or contents were named for no container.
pub fn of(args: &Args, paths: &Paths) -> Result<Box<dyn SandboxAdapter>, Failure> {
    if args.backend != Backend::Container {
        if args.image.is_some() || args.rootfs.is_some() {
            return Err(
                Failure::new("`--image` and `--rootfs` are for `--backend container`")
                    .help("add `--backend container`, or leave them out")
                    .usage(),
            );
        }
        return Ok(Box::new(Bubblewrap::default()));
    }
    let flags = (args.image.clone(), args.rootfs.clone());
    let contents = match flags {
        (None, None) => {
            let container = Config::load(&paths.config_files())?.sandbox.container;
            (container.image, container.rootfs)
        }
        flags => flags,
    };
    let contents = match contents {
        (Some(image), _) => Contents::Image(checked(image)?),
        (None, Some(folder)) => Contents::Folder(real(folder)?),
        (None, None) => {
            return Err(Failure::new("a container needs an image or a root file system")
                .help(
                    "`--image IMAGE` or `--rootfs DIR`, or one of them under `[sandbox.container]`",
                )
                .usage());
        }
    };
    Ok(Box::new(Container::new(contents)))
}

/// A word that podman cannot take for an option.
fn checked(image: String) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if image.starts_with(|c: char| c.is_ascii_alphanumeric()) && image.chars().all(plain) {
        return Ok(image);
    }
    Err(Failure::new(format!("{image:?} is no image"))
        .help("its name, with a tag or digest: `registry.example.com/tools:1`")
        .usage())
}

fn real(folder: PathBuf) -> Result<PathBuf, Failure> {
    let real = folder.canonicalize();
    let real = real.map_err(|error| {
        Failure::new(format!("root file system `{}`: {error}", folder.display())).usage()
    })?;
    // Podman takes what follows a colon for an option.
    if !real.is_dir() || real.to_string_lossy().contains(':') {
        return Err(Failure::new(format!(
            "`{}` is no folder, or has a colon in its path",
            real.display()
        ))
        .usage());
    }
    Ok(real)
}
