//! TLS of the proxy itself: its certificate, and the callers' certificates where they must show one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use thiserror::Error;
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

/// Why a listener cannot speak TLS.
#[derive(Debug, Error)]
#[error("`{path}`: {problem}")]
pub struct TlsError {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads a listener's certificate, its key, and the authority of its callers where they must show a
/// certificate. With revocation lists a caller's certificate needs one of its authority that is not
/// out of date and does not have it: a certificate of which nothing is known is not good.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn tls(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
    revoked: &[PathBuf],
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| fail(key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(certificate, error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|error| fail(path, error))?;
            }
            let mut verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            for path in revoked {
                verifier = verifier
                    .with_crls(lists(path)?)
                    .enforce_revocation_expiration();
            }
            let verifier = verifier.build().map_err(|error| fail(path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, secret)
        .map_err(|error| fail(certificate, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Names in a verified certificate: DNS names, URIs and e-mail addresses of its subject alternative
/// names. The subject itself is not read: what it means is nobody's agreement.
pub fn names(chain: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    let Some(leaf) = chain.and_then(<[_]>::first) else {
        return Vec::new();
    };
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Vec::new();
    };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| fail(path, error))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|error| fail(path, error))?;
    if all.is_empty() {
        return Err(fail(path, "no PEM certificate in it"));
    }
    Ok(all)
}

fn lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let read = CertificateRevocationListDer::pem_file_iter(path);
    let all: Result<Vec<_>, _> = read.map_err(|error| fail(path, error))?.collect();
    let all = all.map_err(|error| fail(path, error))?;
    if all.is_empty() {
        return Err(fail(path, "no PEM revocation list (`X509 CRL`) in it"));
    }
    Ok(all)
}

fn fail(path: &Path, problem: impl ToString) -> TlsError {
    TlsError {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}
