//! A certificate authority of the test's own.

use std::{fmt, sync::Arc};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// Signs certificates for the origins of one world.
#[derive(Clone)]
pub struct Authority(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Authority {
    /// A new one, which nobody trusts yet.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is a fine list");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Cordon's tests");
        let key = KeyPair::generate().expect("ring makes keys");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are ours");
        Self(Arc::new(issuer))
    }

    /// The authority's certificate as PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A new key for a server called `name` and its certificate, as PEM.
    pub fn server_pem(&self, name: &str) -> (String, String) {
        let (key, certificate) = self.issue(name);
        (key.serialize_pem(), certificate.pem())
    }

    fn issue(&self, name: &str) -> (KeyPair, Certificate) {
        let key = KeyPair::generate().expect("ring makes keys");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name of the test's");
        let certificate = params
            .signed_by(&key, &*self.0)
            .expect("the authority signs");
        (key, certificate)
    }

    pub(crate) fn server(&self, name: &str) -> Arc<ServerConfig> {
        let (key, certificate) = self.issue(name);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them all")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate belong together");
        Arc::new(config)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authority")
    }
}
