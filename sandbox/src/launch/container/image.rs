//! Which image a name means now: podman is asked once, and the answer is what runs.

use std::process::Command;

use super::{PODMAN, podman_environment};
use crate::launch::LaunchError;

/// The digest of the image that podman has under this name or digest, in hex digits. It names the
/// image's contents, so what runs is what was named, whatever is tagged meanwhile.
///
/// # Errors
/// [`LaunchError::Container`]: podman cannot be asked, or has no such image.
pub fn image_digest(name: &str) -> Result<String, LaunchError> {
    let words = ["image", "inspect", "--format", "{{.Id}}", "--", name];
    let asked = Command::new(PODMAN)
        .args(words)
        .env_clear()
        .envs(podman_environment())
        .output();
    let answer = asked.map_err(|error| {
        LaunchError::Container(format!("`{PODMAN}` could not be started: {error}"))
    })?;
    let text = String::from_utf8_lossy(&answer.stdout);
    match digits(&text).filter(|_digest| answer.status.success()) {
        Some(digest) => Ok(digest),
        None => {
            let said = String::from_utf8_lossy(&answer.stderr);
            let said = said.lines().next().unwrap_or("podman said nothing");
            let said: String = said.chars().take(MOST_SAID).collect();
            Err(LaunchError::Container(format!(
                "podman has no image {name:?}, and none is fetched: {}",
                said.escape_debug()
            )))
        }
    }
}

/// The one digest of podman's answer.
fn digits(answer: &str) -> Option<String> {
    let digest = answer.trim().trim_start_matches("sha256:");
    let plain = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| digest.to_ascii_lowercase())
}

/// Characters of podman's own words that are repeated.
const MOST_SAID: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_hex_digits_and_nothing_else() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(digits(&format!("{digest}\n")).as_ref(), Some(&digest));
        assert_eq!(
            digits(&format!("sha256:{digest}\n")).as_ref(),
            Some(&digest)
        );
        for other in ["", "latest", &digest[1..], &format!("{digest}\n{digest}")] {
            assert_eq!(digits(other), None, "{other}");
        }
    }
}
