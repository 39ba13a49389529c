//! What the log must never hold: the values of credentials that can be read without running anything.
//!
//! The configuration in, secrets for the log out (A08). Runs no program and asks no keyring: whoever
//! starts the service need not be asked for a password by it.

use cordon_audit::Secret;
use cordon_session::config::{CredentialConfig, CredentialPlace, CredentialSource};

use super::source::{Source, Value};

/// The values that are known when the service starts, for the options of its log.
///
/// Left out are those of commands and of the keyring, and those too short or too long to be looked
/// for. What cannot be read is warned about; the requests that need it are refused for it later.
pub async fn known_secrets(configured: &[CredentialConfig]) -> Vec<Secret> {
    let mut known = Vec::new();
    for config in configured {
        match &config.from {
            CredentialSource::Command(_) | CredentialSource::Keyring { .. } => continue,
            CredentialSource::File(_) | CredentialSource::Env(_) | CredentialSource::Systemd(_) => {
            }
        }
        match Source::new(config).value().await {
            Ok(value) => known.extend(secrets(&config.place, &value)),
            Err(error) => {
                tracing::warn!(credential = %config.name, %error, "a credential cannot be read yet");
            }
        }
    }
    known
}

/// The value; of AWS each of its lines, which go separate ways.
fn secrets(place: &CredentialPlace, value: &Value) -> Vec<Secret> {
    let text = value.reveal();
    let parts = match place {
        CredentialPlace::AwsSigV4 => text.lines().collect(),
        CredentialPlace::Bearer
        | CredentialPlace::Basic(_)
        | CredentialPlace::Header(_)
        | CredentialPlace::Query(_) => vec![text],
    };
    parts
        .into_iter()
        .map(str::trim)
        .filter(|part| (Secret::MIN_BYTES..=LONGEST).contains(&part.len()))
        .map(|part| Secret::from(part.to_owned()))
        .collect()
}

/// Longest value that is looked for, in bytes: the search keeps several forms of each.
const LONGEST: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a08_each_part_of_a_value_is_a_secret_of_its_own() {
        let of = |text: &str| vec![Secret::from(text.to_owned())];
        let long = "x".repeat(LONGEST + 1);
        for (place, text, expected) in [
            (CredentialPlace::Bearer, "token-one", of("token-one")),
            (CredentialPlace::Bearer, "short", Vec::new()),
            (CredentialPlace::Bearer, &long, Vec::new()),
            (
                CredentialPlace::AwsSigV4,
                "AKIDEXAMPLE\nsecret-key",
                [of("AKIDEXAMPLE"), of("secret-key")].concat(),
            ),
        ] {
            let found = secrets(&place, &Value::of(text));
            assert!(found == expected, "{place:?} of {} bytes", text.len());
        }
    }

    #[tokio::test]
    async fn a08_what_needs_no_program_is_known_at_the_start() {
        use std::{fs, os::unix::fs::PermissionsExt as _};

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "token-in-a-file\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let ran = folder.path().join("ran");
        let text = format!(
            "[[credentials]]\nname = \"file\"\nhosts = [\"a.example.com\"]\nas = \"bearer\"\nfrom = \"file:{}\"\n\
             [[credentials]]\nname = \"gone\"\nhosts = [\"b.example.com\"]\nas = \"bearer\"\nfrom = \"file:{}\"\n\
             [[credentials]]\nname = \"command\"\nhosts = [\"c.example.com\"]\n\
             as = \"bearer\"\nfrom = \"command:touch {}\"\n",
            file.display(),
            folder.path().join("gone").display(),
            ran.display()
        );
        let path = folder.path().join("cordon.toml");
        fs::write(&path, text).unwrap();
        let config = cordon_session::Config::load(&[&path]).unwrap();
        let known = known_secrets(&config.credentials).await;
        assert!(known == [Secret::from("token-in-a-file".to_owned())]);
        assert!(!ran.exists());
    }
}
