//! Which adapter holds a session's walls, by the flags and the configuration.

use std::{ffi::OsString, path::PathBuf};

use clap::ValueEnum as _;
use cordon_policy::SeccompProfile;
use cordon_sandbox::{
    adapter::{Bubblewrap, Container, SandboxAdapter},
    launch::{Contents, LaunchError, image_digest},
};
use cordon_session::Config;

use super::Backend;
use crate::{error::Failure, paths::Paths};

/// What holds a session's walls.
pub struct Chosen {
    /// Builds it.
    pub adapter: Box<dyn SandboxAdapter>,
    /// Digest of the image that its container is made of.
    pub image: Option<String>,
    /// Which system calls the session may make.
    pub profile: SeccompProfile,
    /// The flags that choose the same again, whatever is tagged or configured meanwhile.
    pub flags: Vec<OsString>,
}

/// What was asked for by flags.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `--backend`: one that has walls.
    pub backend: Backend,
    /// `--image`.
    pub image: Option<String>,
    /// `--rootfs`.
    pub rootfs: Option<PathBuf>,
    /// `--profile`.
    pub profile: SeccompProfile,
}

/// The adapter that was asked for.
///
/// # Errors
/// When a container has no contents, podman has no such image, or contents were named for no
/// container.
pub fn of(wanted: &Wanted, paths: &Paths) -> Result<Chosen, Failure> {
    if wanted.backend != Backend::Container {
        if wanted.image.is_some() || wanted.rootfs.is_some() {
            return Err(
                Failure::new("`--image` and `--rootfs` are for `--backend container`")
                    .help("add `--backend container`, or leave them out")
                    .usage(),
            );
        }
        return Ok(Chosen {
            adapter: Box::new(Bubblewrap::default()),
            image: None,
            profile: wanted.profile,
            flags: profile_flags(wanted.profile),
        });
    }
    let contents = match (wanted.image.clone(), wanted.rootfs.clone()) {
        (None, None) => {
            let container = Config::load(&paths.config_files())?.sandbox.container;
            (container.image, container.rootfs)
        }
        flags => flags,
    };
    let (contents, image) = match contents {
        (Some(name), _) => {
            let digest = image_digest(&checked(name)?).map_err(no_image)?;
            let image = format!("sha256:{digest}");
            (Contents::Image(digest), Some(image))
        }
        (None, Some(folder)) => (Contents::Folder(real(folder)?), None),
        (None, None) => {
            return Err(Failure::new("a container needs an image or a root file system")
                .help(
                    "`--image IMAGE` or `--rootfs DIR`, or one of them under `[sandbox.container]`",
                )
                .usage());
        }
    };
    let container = Backend::Container.to_possible_value();
    let container = container.map(|value| value.get_name().into());
    let (flag, what) = match &contents {
        Contents::Image(digest) => ("--image", digest.into()),
        Contents::Folder(folder) => ("--rootfs", folder.into()),
    };
    let flags = ["--backend".into()].into_iter().chain(container);
    let profile = profile_flags(wanted.profile);
    Ok(Chosen {
        adapter: Box::new(Container::new(contents)),
        image,
        profile: wanted.profile,
        flags: flags.chain([flag.into(), what]).chain(profile).collect(),
    })
}

/// None for the default, as for the default backend.
fn profile_flags(profile: SeccompProfile) -> Vec<OsString> {
    match profile {
        SeccompProfile::Default => Vec::new(),
        other => vec!["--profile".into(), other.name().into()],
    }
}

fn no_image(error: LaunchError) -> Failure {
    Failure::from(error).help("`podman pull IMAGE`, and `podman image list` says what there is")
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
