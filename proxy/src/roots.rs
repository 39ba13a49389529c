//! The certificate authorities that Cordon itself trusts when it speaks TLS: to origins, parent
//! proxies and nameservers.
//!
//! The configuration in, one shared [`RootCertStore`] out, built once per node. Never trusts an
//! authority that neither the system nor an admin named; trusts nobody when there is none.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, OnceLock},
};

use cordon_session::Config;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use thiserror::Error;

/// The system's authorities and those of `network.extra_roots` and `tls.extra_ca_certificates`.
#[derive(Debug)]
pub(crate) struct Roots {
    /// Read at start, so that a mistake is found then.
    extra: Vec<CertificateDer<'static>>,
    store: OnceLock<Arc<RootCertStore>>,
}

/// Why a file of extra roots is not used.
#[derive(Debug, Error)]
#[error("certificates of `{path}` not usable: {problem}; name PEM files of authorities under `network.extra_roots` and `tls.extra_ca_certificates`", path = path.display())]
pub struct RootsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl Roots {
    /// Reads the extra files; the system's authorities are read when they are first needed.
    ///
    /// # Errors
    /// [`RootsError`] names the file that is no PEM file of certificates alone.
    pub(crate) fn new(config: &Config) -> Result<Self, RootsError> {
        let mut extra = Vec::new();
        let files = &config.network.extra_roots;
        for path in files.iter().chain(&config.tls.extra_ca_certificates) {
            extra.extend(read(path).map_err(|problem| RootsError {
                path: path.clone(),
                problem,
            })?);
        }
        Ok(Self {
            extra,
            store: OnceLock::new(),
        })
    }

    /// The store. Authorities that rustls cannot read are left out: they then vouch for nobody.
    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        let store = self.store.get_or_init(|| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(SYSTEM.iter().cloned());
            store.add_parsable_certificates(self.extra.iter().cloned());
            if store.is_empty() {
                tracing::warn!("no certificate authority is trusted, so no TLS peer is");
            }
            Arc::new(store)
        });
        Arc::clone(store)
    }

    /// A client configuration that trusts this store and nothing else, TLS 1.2 and 1.3, without a
    /// client certificate and without ALPN.
    ///
    /// # Errors
    /// When the crypto provider supports neither version; with the provider of this build it does.
    pub(crate) fn client(&self) -> Result<ClientConfig, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider());
        Ok(builder
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.store())
            .with_no_client_auth())
    }
}

/// The one crypto provider of the process, named so that no other feature of a dependency can
/// choose another.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// The system's authorities, once per process.
static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificate authorities are not readable");
    }
    found.certs
});

/// Longest file of certificates that is read, in bytes.
const FILE_BYTES: u64 = 8 << 20;

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let length = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if length > FILE_BYTES {
        return Err(format!("larger than {FILE_BYTES} bytes"));
    }
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("it holds no certificate".into());
    }
    let mut probe = RootCertStore::empty();
    for certificate in &certificates {
        probe
            .add(certificate.clone())
            .map_err(|error| error.to_string())?;
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(pem: &str) -> Result<Roots, RootsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        let mut config = Config::default();
        config.network.extra_roots = vec![file.path().into()];
        Roots::new(&config)
    }

    #[test]
    fn extra_roots_stand_beside_the_systems() {
        let system = Roots::new(&Config::default()).unwrap().store().len();
        let key = rcgen::generate_simple_self_signed(vec!["ca.test".into()]).unwrap();
        let extra = roots(&key.cert.pem()).unwrap();
        assert_eq!(extra.store().len(), system + 1);
        assert!(Arc::ptr_eq(&extra.store(), &extra.store()));
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        for wrong in [
            "",
            "nonsense",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = roots(wrong).unwrap_err().to_string();
            assert!(error.contains("not usable"), "{wrong:?}: {error}");
            assert!(error.contains("network.extra_roots"), "{error}");
        }
        let mut config = Config::default();
        config.network.extra_roots = vec!["/nonexistent/ca.pem".into()];
        assert!(Roots::new(&config).is_err());
    }
}
