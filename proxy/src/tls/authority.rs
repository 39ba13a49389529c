//! A session's own certificate authority, and the certificates that it makes for inspected hosts.
//!
//! The key is made in memory when the session is attached, is never written anywhere, and goes with
//! the session. Nobody but that session is ever told to trust it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_policy::Host;
use quick_cache::sync::Cache;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SigningKey},
};
use thiserror::Error;

use crate::limits;

/// One session's authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// One key for all hosts: each has a certificate of its own.
    leaf_key: KeyPair,
    signing: Arc<dyn SigningKey>,
    leaves: Cache<String, Leaf>,
    ends: SystemTime,
}

/// Why a certificate could not be made.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// By the library that makes it.
    #[error("certificate not made: {0}")]
    Make(#[from] rcgen::Error),
    /// By the library that uses it.
    #[error("certificate not usable: {0}")]
    Use(#[from] rustls::Error),
    /// The machine gives no randomness.
    #[error("certificate not made: no randomness")]
    NoRandomness,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    until: SystemTime,
}

impl Authority {
    /// A new one for the session of this id.
    ///
    /// # Errors
    /// [`AuthorityError`]; nothing can be inspected without one.
    pub fn new(session: &str) -> Result<Self, AuthorityError> {
        let now = SystemTime::now();
        let ends = now + LIFE;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - SKEW).into();
        params.not_after = ends.into();
        params.serial_number = Some(serial()?);
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, "Cordon");
        name.push(DnType::CommonName, format!("Cordon session {session:.36}"));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let leaf_key = KeyPair::generate()?;
        let der = PrivatePkcs8KeyDer::from(leaf_key.serialize_der());
        Ok(Self {
            issuer,
            signing: any_supported_type(&PrivateKeyDer::Pkcs8(der))?,
            leaf_key,
            leaves: Cache::new(limits::LEAVES_PER_SESSION),
            ends,
        })
    }

    /// Its certificate as PEM, for the session to trust.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Its certificate as DER.
    pub fn certificate_der(&self) -> &[u8] {
        self.issuer.der()
    }

    /// A certificate for a host, and its key.
    pub(super) fn leaf(&self, host: &Host) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let name = host.to_string();
        let now = SystemTime::now();
        if let Some(leaf) = self.leaves.get(&name).filter(|leaf| now < leaf.until) {
            return Ok(leaf.key);
        }
        let key = Arc::new(self.make(host, now)?);
        let leaf = Leaf {
            key: Arc::clone(&key),
            until: now + LEAF_LIFE / 2,
        };
        self.leaves.insert(name, leaf);
        Ok(key)
    }

    fn make(&self, host: &Host, now: SystemTime) -> Result<CertifiedKey, AuthorityError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Address(address) => SanType::IpAddress(*address),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - SKEW).into();
        params.not_after = (now + LEAF_LIFE).min(self.ends).into();
        // Of its own: all of them have one key, and two of one number are refused by some clients.
        params.serial_number = Some(serial()?);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Cordon");
        let certificate = params.signed_by(&self.leaf_key, &*self.issuer)?;
        let chain = vec![certificate.der().clone(), self.issuer.der().clone()];
        Ok(CertifiedKey::new(chain, Arc::clone(&self.signing)))
    }
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    ring_random(&mut bytes)?;
    // Positive, and never shorter.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn ring_random(bytes: &mut [u8]) -> Result<(), AuthorityError> {
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_failed| AuthorityError::NoRandomness)
}

/// How long an authority is good for: longer than any session is meant to run.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long a host's certificate is good for; it is made again after half of it.
const LEAF_LIFE: Duration = Duration::from_secs(48 * 60 * 60);

/// For clocks in the session that are behind.
const SKEW: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    #[test]
    fn a_leaf_is_good_for_its_host_alone_and_under_its_own_authority() {
        let (authority, other) = (Authority::new("s1").unwrap(), Authority::new("s2").unwrap());
        let verify = |roots: &Authority, host: &Host, asked: &str| {
            let leaf = authority.leaf(host).unwrap();
            let mut store = RootCertStore::empty();
            store.add(roots.issuer.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
                .build()
                .unwrap();
            let name = ServerName::try_from(asked.to_owned()).unwrap();
            verifier
                .verify_server_cert(&leaf.cert[0], &[], &name, &[], UnixTime::now())
                .is_ok()
        };
        let name = Host::Name("a.test".parse().unwrap());
        let address = Host::Address("192.0.2.1".parse().unwrap());
        assert!(verify(&authority, &name, "a.test"));
        assert!(!verify(&authority, &name, "b.test"));
        assert!(!verify(&authority, &name, "x.a.test"));
        assert!(verify(&authority, &address, "192.0.2.1"));
        assert!(!verify(&other, &name, "a.test"));
    }

    #[test]
    fn leaves_are_kept_and_bounded() {
        let authority = Authority::new("s1").unwrap();
        let host = |n: usize| Host::Name(format!("h{n}.test").parse().unwrap());
        let first = authority.leaf(&host(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.leaf(&host(0)).unwrap()));
        for n in 0..limits::LEAVES_PER_SESSION * 2 {
            authority.leaf(&host(n)).unwrap();
        }
        assert!(authority.leaves.len() <= limits::LEAVES_PER_SESSION);
    }

    #[test]
    fn no_two_certificates_have_one_number() {
        let authority = Authority::new("s1").unwrap();
        let leaf = |name: &str| {
            let host = Host::Name(name.parse().unwrap());
            authority.leaf(&host).unwrap().cert[0].clone()
        };
        assert_ne!(leaf("a.test"), leaf("b.test"));
        assert_ne!(serial().unwrap().to_bytes(), serial().unwrap().to_bytes());
    }
}
