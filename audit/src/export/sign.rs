//! Signs what an export holds with the log's key.
//!
//! Signs manifests only: what is signed is made here from its parts, so that no caller gets a
//! signature over text of its own choice.

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Manifest;
use crate::{keys::Signer, log::OpenError};

/// The signed note of a manifest, by the key that the log in `directory` signs with now. Only the
/// user that the log belongs to can read it.
///
/// # Errors
/// [`OpenError`]: the key cannot be read, or the manifest is of another log.
pub fn sign(directory: &Path, manifest: &Manifest) -> Result<String, OpenError> {
    let fail = |what: &str| {
        let error = io::Error::other(what);
        OpenError::io(directory, "signed for", &error)
    };
    let signer = Signer::load(directory)?.ok_or_else(|| fail("there is no key in it"))?;
    if manifest.origin != signer.name() {
        return Err(fail("the export is of another log"));
    }
    let body = manifest
        .to_body()
        .map_err(|error| fail(&error.to_string()))?;
    let public = signer.key().public(signer.name());
    let mut signature = public.id().to_vec();
    signature.extend_from_slice(&signer.key().sign(body.as_bytes()));
    let name = signer.name();
    Ok(format!(
        "{body}\n\u{2014} {name} {}\n",
        STANDARD.encode(signature)
    ))
}
