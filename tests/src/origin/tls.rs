//! A certificate authority of the test's own.

use std::{fmt, sync::Arc};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CertifiedIssuer, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, date_time_ymd,
};
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

    /// A new key for a client called `name` and its certificate, of this number, as PEM; good until
    /// the end of the year `until`.
    pub fn client_pem(&self, name: &str, number: u64, until: i32) -> (String, String) {
        let mut params = named(name);
        params.serial_number = Some(number.into());
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let (key, certificate) = self.sign(&params);
        (key.serialize_pem(), certificate.pem())
    }

    /// A list of the certificates that are good no more, as PEM; itself good until the end of the
    /// year `until`.
    pub fn revocation_list(&self, numbers: &[u64], until: i32) -> String {
        let revoked = |number: &u64| RevokedCertParams {
            serial_number: (*number).into(),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(until, 12, 31),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: numbers.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).expect("the authority signs");
        list.pem().expect("it is a list")
    }

    fn issue(&self, name: &str) -> (KeyPair, Certificate) {
        self.sign(&named(name))
    }

    fn sign(&self, params: &CertificateParams) -> (KeyPair, Certificate) {
        let key = KeyPair::generate().expect("ring makes keys");
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

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).expect("a name of the test's")
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authority")
    }
}
