//! The files by which programs in a session find the certificates that it trusts.
//!
//! The certificates that it trusts beside the system's in (those of the configuration, and the
//! session's own authority where requests inside TLS are decided), files of the sandbox out. Looks
//! at the host's bundles; writes nothing there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_sandbox::plan::{HostLayout, MadeFile};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use sha1::{Digest, Sha1};

use crate::error::Failure;

/// All that the session trusts, where the variables point to.
pub const BUNDLE: &str = "/etc/cordon/ca-certificates.pem";

/// What it trusts beside the system's.
pub const EXTRA: &str = "/etc/cordon/extra-ca.pem";

/// All that it trusts, as Java reads it.
pub const JAVA_STORE: &str = "/etc/cordon/cacerts";

/// What a session is given.
#[derive(Debug)]
pub struct Trust {
    /// Files of the sandbox.
    pub files: Vec<MadeFile>,
    /// Whether Java has to be told where its store is: one that is installed has none that could
    /// be replaced.
    pub tell_java: bool,
}

/// Makes the files. Without extra certificates browsers alone get any: they are told not to encrypt
/// or to imitate an encrypted ClientHello, which hides whom they talk to (N12).
///
/// # Errors
/// When the host's bundle cannot be read, or a certificate is none.
pub fn trust(extra: Option<&str>, layout: &HostLayout) -> Result<Trust, Failure> {
    let Some(extra) = extra else {
        return Ok(Trust {
            files: browser_policies(&[]),
            tell_java: false,
        });
    };
    let added = certificates(extra.as_bytes())?;
    let mut bundle = system_bundle()?;
    bundle.push(b'\n');
    bundle.extend_from_slice(extra.as_bytes());
    let java = java_store(&certificates(&bundle)?, SystemTime::now());
    let stores = java_stores(layout);
    let mut files = browser_policies(&added);
    files.push(file(EXTRA, extra.as_bytes().to_vec()));
    files.push(file(BUNDLE, bundle.clone()));
    files.push(file(JAVA_STORE, java.clone()));
    let tell_java = stores.is_empty() || !homes().iter().all(|home| has_store(home, &stores));
    files.extend(stores.into_iter().map(|path| file(path, java.clone())));
    let places = bundles(layout).into_iter();
    files.extend(places.map(|path| file(path, bundle.clone())));
    Ok(Trust { files, tell_java })
}

fn file(target: impl Into<PathBuf>, bytes: Vec<u8>) -> MadeFile {
    MadeFile {
        target: target.into(),
        bytes,
        mode: 0o444,
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Failure> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            Failure::new(format!(
                "a certificate that sessions trust is none: {error}"
            ))
            .help("correct the system's bundle, or `extra_ca_certificates` in `cordon.toml`")
        })
}

/// The host's own bundle; empty where it has none.
fn system_bundle() -> Result<Vec<u8>, Failure> {
    for place in BUNDLES {
        match fs::read(place) {
            Ok(bundle) => return Ok(bundle),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Vec::new())
}

/// Where programs that read no variable look: what is there on the host is replaced.
fn bundles(layout: &HostLayout) -> Vec<PathBuf> {
    let mut places = replaceable(layout, BUNDLES.iter().map(PathBuf::from));
    let usual = PathBuf::from(BUNDLES[0]);
    // Below a link nothing can be made; what the link leads to is among them.
    if !layout.shows(&usual) && !layout.is_below_link(&usual) && !places.contains(&usual) {
        places.push(usual);
    }
    places
}

/// The stores of every installed Java.
fn java_stores(layout: &HostLayout) -> Vec<PathBuf> {
    let inside = homes()
        .into_iter()
        .flat_map(|home| JAVA_STORES.map(|name| home.join(name)));
    let shared = ["/etc/ssl/certs/java/cacerts", "/etc/pki/java/cacerts"];
    replaceable(layout, shared.iter().map(PathBuf::from).chain(inside))
}

/// Where a Java is installed that runs.
fn homes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let homes = entries.map(|entry| entry.path());
    homes
        .filter(|home| home.join("bin/java").exists())
        .collect()
}

/// Whether a Java reads one of `stores`: the file may be a link that leads nowhere.
fn has_store(home: &Path, stores: &[PathBuf]) -> bool {
    let read = JAVA_STORES
        .iter()
        .filter_map(|name| fs::canonicalize(home.join(name)).ok());
    read.into_iter().any(|store| stores.contains(&store))
}

/// Files of the host that the session sees as they are, each once and under the name without links.
fn replaceable(layout: &HostLayout, places: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in places {
        let Ok(place) = fs::canonicalize(&place) else {
            continue;
        };
        if place.is_file() && layout.shows(&place) && !found.contains(&place) {
            found.push(place);
        }
    }
    found
}

/// A Java key store (JKS) with certificates alone. Java reads it wherever it reads its own.
///
/// Source: the JDK's `sun.security.provider.JavaKeyStore`, format version 2.
fn java_store(certificates: &[CertificateDer<'_>], now: SystemTime) -> Vec<u8> {
    const MAGIC: u32 = 0xfeed_feed;
    const VERSION: u32 = 2;
    const TRUSTED: u32 = 2;
    let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(millis.as_millis()).unwrap_or_default();
    let mut store = Vec::new();
    store.extend(MAGIC.to_be_bytes());
    store.extend(VERSION.to_be_bytes());
    store.extend(length(certificates.len()));
    for (index, certificate) in certificates.iter().enumerate() {
        store.extend(TRUSTED.to_be_bytes());
        text(&mut store, &format!("cordon-{index}"));
        store.extend(millis.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(length(certificate.len()));
        store.extend_from_slice(certificate);
    }
    let mut digest = Sha1::new();
    digest.update(
        JAVA_PASSWORD
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect::<Vec<u8>>(),
    );
    digest.update(b"Mighty Aphrodite");
    digest.update(&store);
    store.extend(digest.finalize());
    store
}

fn text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
    store.extend_from_slice(text.as_bytes());
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or_default().to_be_bytes()
}

/// Managed settings of browsers, which keep their own stores. No encrypted ClientHello, and nothing
/// that looks like one: it would be refused.
fn browser_policies(added: &[CertificateDer<'_>]) -> Vec<MadeFile> {
    let encoded: Vec<String> = added.iter().map(|der| STANDARD.encode(der)).collect();
    let (chromium, firefox) = if encoded.is_empty() {
        (
            json!({ "EncryptedClientHelloEnabled": false }),
            json!({ "DisableEncryptedClientHello": true }),
        )
    } else {
        (
            json!({ "EncryptedClientHelloEnabled": false, "CACertificates": encoded }),
            json!({ "DisableEncryptedClientHello": true, "Certificates": { "Install": [EXTRA] } }),
        )
    };
    let firefox = json!({ "policies": firefox });
    let chromium = CHROMIUM_POLICIES.map(|path| file(path, chromium.to_string().into_bytes()));
    let firefox = file(FIREFOX_POLICIES, firefox.to_string().into_bytes());
    chromium.into_iter().chain([firefox]).collect()
}

/// The usual one of Debian first, as most programs know it.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Below a Java's home: of today's, and of Java 8.
const JAVA_STORES: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

const CHROMIUM_POLICIES: [&str; 3] = [
    "/etc/chromium/policies/managed/cordon.json",
    "/etc/opt/chrome/policies/managed/cordon.json",
    "/etc/opt/chrome_for_testing/policies/managed/cordon.json",
];

const FIREFOX_POLICIES: &str = "/etc/firefox/policies/policies.json";

/// What every store of Java's own has; it protects nothing.
pub const JAVA_PASSWORD: &str = "changeit";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_java_whose_store_leads_nowhere_has_to_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let security = home.join("lib/security");
        fs::create_dir_all(&security).unwrap();
        let shared = home.join("shared");
        std::os::unix::fs::symlink(&shared, security.join("cacerts")).unwrap();
        let stores = [shared.clone()];
        assert!(!has_store(&home, &stores));
        fs::write(&shared, "").unwrap();
        assert!(has_store(&home, &stores));
        assert!(!has_store(&home, &[]));
    }

    fn pem() -> String {
        let key = rcgen::generate_simple_self_signed(vec!["a.test".into()]).unwrap();
        key.cert.pem()
    }

    #[test]
    fn nothing_more_is_trusted_without_a_reason() {
        let layout = HostLayout::read().unwrap();
        let trust = trust(None, &layout).unwrap();
        for file in &trust.files {
            let text = String::from_utf8(file.bytes.clone()).unwrap();
            assert!(!text.contains("Certificates"), "{text}");
            assert!(text.contains("EncryptedClientHello"), "{text}");
        }
    }

    #[test]
    fn what_is_added_stands_in_every_bundle() {
        let layout = HostLayout::read().unwrap();
        let extra = pem();
        let trust = trust(Some(&extra), &layout).unwrap();
        let at = |path: &str| {
            let file = trust
                .files
                .iter()
                .find(|file| file.target == Path::new(path));
            &file.unwrap().bytes
        };
        let bundle = String::from_utf8(at(BUNDLE).clone()).unwrap();
        assert!(bundle.ends_with(&extra));
        assert_eq!(String::from_utf8(at(EXTRA).clone()).unwrap(), extra);
        let der = certificates(extra.as_bytes()).unwrap().remove(0);
        let java = at(JAVA_STORE);
        assert!(java.windows(der.len()).any(|window| window == &der[..]));
        let chromium: serde_json::Value = serde_json::from_slice(at(CHROMIUM_POLICIES[0])).unwrap();
        assert_eq!(chromium["CACertificates"][0], STANDARD.encode(&der));
        assert!(
            super::trust(
                Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
                &layout
            )
            .is_err()
        );
    }

    #[test]
    fn a_java_store_is_as_java_writes_it() {
        let store = java_store(&[CertificateDer::from(vec![7; 3])], UNIX_EPOCH);
        let mut expected = vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        expected.extend([0, 8]);
        expected.extend(b"cordon-0");
        expected.extend([0; 8]);
        expected.extend([0, 5]);
        expected.extend(b"X.509");
        expected.extend([0, 0, 0, 3, 7, 7, 7]);
        assert_eq!(store[..store.len() - 20], expected);
    }
}
