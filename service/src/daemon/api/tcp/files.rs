//! Certificates and revocation lists of the API's port, read again when their files change.
//!
//! Files in, what a handshake needs out. What cannot be read leaves that of before in force; a list
//! that is out of date refuses every certificate it is for.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_proxy::door_tls;
use cordon_session::config::ApiConfig;
use rustls::server::NoServerSessionStorage;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::daemon::api::serve::stopped;

/// The files, and what was last read from them.
pub struct Files {
    named: Named,
    version: Vec<Option<Version>>,
    current: watch::Sender<Arc<Tls>>,
}

/// The files that the configuration names.
struct Named {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    crl: Vec<PathBuf>,
}

/// What handshakes need, of one version of the files.
pub struct Tls {
    /// Makes them.
    pub acceptor: TlsAcceptor,
    over: watch::Sender<bool>,
}

/// A file as it was: another one in its place differs in one of them.
type Version = (SystemTime, u64, u64);

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

impl Files {
    /// Reads those that the configuration names.
    ///
    /// # Errors
    /// In words: one of them cannot be used.
    pub fn read(config: &ApiConfig) -> Result<Self, String> {
        let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
            return Err("`listen` needs `certificate` and `key`".into());
        };
        let named = Named {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: config.client_ca.clone(),
            crl: config.crl.clone(),
        };
        // Before they are read: what changes meanwhile is read again.
        let version = named.versions();
        let tls = Arc::new(named.load()?);
        Ok(Self {
            named,
            version,
            current: watch::channel(tls).0,
        })
    }

    /// What is in force, now and later.
    pub fn current(&self) -> watch::Receiver<Arc<Tls>> {
        self.current.subscribe()
    }

    /// Reads them again whenever they change.
    pub async fn watch(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.named.versions();
            if now == self.version {
                continue;
            }
            self.version = now;
            match self.named.load() {
                Ok(tls) => {
                    info!("certificates of the API changed, read again");
                    let before = self.current.send_replace(Arc::new(tls));
                    before.over.send_replace(true);
                }
                Err(error) => warn!(
                    %error,
                    "certificates of the API changed and cannot be used: those of before stay"
                ),
            }
        }
    }
}

impl Named {
    fn load(&self) -> Result<Tls, String> {
        let tls = door_tls(
            &self.certificate,
            &self.key,
            self.client_ca.as_deref(),
            &self.crl,
        );
        let mut tls = (*tls.map_err(|error| error.to_string())?).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        if self.client_ca.is_some() {
            // A session that is resumed would not show its certificate again, and that may have
            // been revoked or have expired meanwhile.
            tls.session_storage = Arc::new(NoServerSessionStorage {});
            tls.send_tls13_tickets = 0;
        }
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            over: watch::channel(false).0,
        })
    }

    fn versions(&self) -> Vec<Option<Version>> {
        let all = [&self.certificate, &self.key].into_iter();
        let all = all.chain(&self.client_ca).chain(&self.crl);
        all.map(|path| version(path).ok()).collect()
    }
}

impl Tls {
    /// Resolves once another version of the files is in force.
    pub async fn replaced(&self) {
        stopped(&mut self.over.subscribe()).await;
    }
}

fn version(path: &PathBuf) -> io::Result<Version> {
    let meta = fs::metadata(path)?;
    Ok((meta.modified()?, meta.len(), meta.ino()))
}
