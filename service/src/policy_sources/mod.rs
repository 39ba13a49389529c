//! Brings bundles here: from a directory or file, by HTTP, from a registry.
//!
//! A configured source in, a [`Bundle`] that was read and bounded out. Never decides whether it is
//! trusted or goes into force.

mod changes;
mod http;
mod oci;

use std::{path::PathBuf, sync::Arc};

use cordon_policy::bundle::{Bundle, BundleError, Limits};
use cordon_session::config::{BundleConfig, BundleSource, HttpUrl};
use hyper::{
    StatusCode,
    header::{AUTHORIZATION, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH},
};
use thiserror::Error;

pub use self::{changes::Changes, http::HttpClient};

/// One configured source, and what is known of its last answer.
#[derive(Debug)]
pub struct Source {
    from: BundleSource,
    credentials: Option<PathBuf>,
    http: Option<Arc<HttpClient>>,
    /// What the server called the last answer that was taken.
    mark: Option<HeaderValue>,
}

/// What a source has.
#[derive(Debug)]
pub enum Fetched {
    /// The same as the last time.
    Unchanged,
    /// A bundle, perhaps the same.
    Bundle(Box<Bundle>),
}

/// Why a source brought nothing: what, and what to do.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{message}")]
pub struct FetchError {
    /// What and why.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Source {
    /// Opens nothing yet.
    pub fn new(config: &BundleConfig, http: Option<Arc<HttpClient>>) -> Self {
        Self {
            from: config.source.clone(),
            credentials: config.credentials.clone(),
            http,
            mark: None,
        }
    }

    /// What it has now. Bounded in time and bytes.
    ///
    /// # Errors
    /// [`FetchError`]: it is away, or what it has is no bundle.
    pub async fn fetch(&mut self) -> Result<Fetched, FetchError> {
        match &self.from {
            BundleSource::Manual => Ok(Fetched::Unchanged),
            BundleSource::Path(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || Bundle::read(&path));
                let read = read.await.map_err(|error| FetchError::away(&error))?;
                Ok(Fetched::Bundle(Box::new(read?)))
            }
            BundleSource::Http(url) => {
                let url = url.clone();
                self.fetch_http(&url).await
            }
            BundleSource::Oci(image) => {
                let image = image.clone();
                let login = self.login(&image.registry)?;
                let mark = self.mark.as_ref().and_then(|mark| mark.to_str().ok());
                match oci::fetch(&*self.client()?, &image, login, mark).await? {
                    None => Ok(Fetched::Unchanged),
                    Some((digest, bytes)) => {
                        let bundle = unpack(bytes).await?;
                        self.mark = HeaderValue::from_str(&digest).ok();
                        Ok(Fetched::Bundle(bundle))
                    }
                }
            }
        }
    }

    /// Forgets the last answer, so that the next one comes whole. For an answer that was not taken.
    pub fn forget(&mut self) {
        self.mark = None;
    }

    async fn fetch_http(&mut self, url: &HttpUrl) -> Result<Fetched, FetchError> {
        let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
        fields.extend(self.mark.clone().map(|mark| (IF_NONE_MATCH, mark)));
        fields.extend(self.login(url)?.map(|login| (AUTHORIZATION, login)));
        let reply = self.client()?.get(url, &fields, archive_limit()).await?;
        match reply.status {
            StatusCode::OK => {
                let bundle = unpack(reply.body).await?;
                self.mark = reply.fields.get(ETAG).cloned();
                Ok(Fetched::Bundle(bundle))
            }
            StatusCode::NOT_MODIFIED if self.mark.is_some() => Ok(Fetched::Unchanged),
            status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                Err(FetchError::new(
                    format!("`{url}` redirects to another place ({status})"),
                    "a redirect is not followed; name the place itself as the source",
                ))
            }
            status => Err(FetchError::new(
                format!("`{url}` answered {status}"),
                "check the address, and `credentials` where the server asks who is there",
            )),
        }
    }

    fn client(&self) -> Result<Arc<HttpClient>, FetchError> {
        self.http
            .clone()
            .ok_or_else(|| FetchError::new("there is no way to the network", "report this"))
    }

    /// The `credentials` file as a field. Never over plain HTTP to another machine.
    fn login(&self, url: &HttpUrl) -> Result<Option<HeaderValue>, FetchError> {
        let Some(path) = &self.credentials else {
            return Ok(None);
        };
        if !url.tls && !url.is_loopback() {
            return Err(FetchError::new(
                format!("credentials are not sent to `{url}` without TLS"),
                "use https",
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            FetchError::new(
                format!("credentials `{}` not read: {error}", path.display()),
                "the file holds `user:password`, readable by the user of the daemon",
            )
        })?;
        http::basic(text.trim()).map(Some)
    }
}

async fn unpack(bytes: Vec<u8>) -> Result<Box<Bundle>, FetchError> {
    let read =
        tokio::task::spawn_blocking(move || Bundle::read_archive(&bytes, &Limits::default()));
    let read = read.await.map_err(|error| FetchError::away(&error))?;
    Ok(Box::new(read?))
}

/// Longest archive that is fetched, in bytes.
fn archive_limit() -> usize {
    Limits::default().packed_bytes
}

impl FetchError {
    pub(crate) fn new(message: impl Into<String>, help: &str) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }

    fn away(error: &dyn std::error::Error) -> Self {
        Self::new(format!("reading broke off: {error}"), "try again")
    }
}

impl From<BundleError> for FetchError {
    fn from(error: BundleError) -> Self {
        Self {
            message: error.to_string(),
            help: error.hint().into(),
        }
    }
}

#[cfg(test)]
mod tests;
