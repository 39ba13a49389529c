//! A bundle as a layer of an image in a registry, by the OCI distribution specification 1.1.
//!
//! A reference in, the bytes of the layer out, their digest checked. A tag is what the registry
//! says it is; a digest is checked here. Pushes nothing.

use cordon_session::config::{HttpUrl, OciReference};
use hyper::{
    HeaderMap, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    FetchError, archive_limit,
    http::{HttpClient, Reply},
};

/// Media type of a layer that is a bundle.
pub const LAYER: &str = "application/vnd.cordon.policy.bundle.v1.tar+gzip";

/// What other tools call a tar archive; taken where it is the only layer.
const PLAIN_LAYERS: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// Longest manifest and longest token, in bytes.
const SMALL_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Brings the bundle's digest and bytes; `None` when its digest is `known`.
///
/// # Errors
/// [`FetchError`] names the step that failed.
pub async fn fetch(
    http: &HttpClient,
    image: &OciReference,
    login: Option<HeaderValue>,
    known: Option<&str>,
) -> Result<Option<(String, Vec<u8>)>, FetchError> {
    let mut registry = Registry {
        http,
        image,
        login,
        authorization: None,
    };
    let layer = registry.layer().await?;
    if known == Some(layer.digest.as_str()) {
        return Ok(None);
    }
    let bytes = registry.blob(&layer).await?;
    Ok(Some((layer.digest, bytes)))
}

struct Registry<'a> {
    http: &'a HttpClient,
    image: &'a OciReference,
    /// As configured, for the token server or the registry itself.
    login: Option<HeaderValue>,
    /// What the registry wants to see.
    authorization: Option<HeaderValue>,
}

impl Registry<'_> {
    async fn layer(&mut self) -> Result<Descriptor, FetchError> {
        let OciReference {
            repository,
            reference,
            ..
        } = self.image;
        let url = self.url(&format!("/v2/{repository}/manifests/{reference}"));
        let accept = (ACCEPT, HeaderValue::from_static(MANIFESTS));
        let reply = self.get(&url, Some(accept), SMALL_BYTES).await?;
        if reply.status != StatusCode::OK {
            return Err(answered(&url, reply.status));
        }
        if self.image.is_digest() {
            check_digest(reference, &reply.body)?;
        }
        let manifest: Manifest = serde_json::from_slice(&reply.body).map_err(|error| {
            FetchError::new(
                format!("the manifest at `{url}` is not an image's: {error}"),
                "push the bundle as an artefact with one layer; an index of images is not one",
            )
        })?;
        choose(manifest.layers)
    }

    async fn blob(&mut self, layer: &Descriptor) -> Result<Vec<u8>, FetchError> {
        let limit = archive_limit();
        if usize::try_from(layer.size).map_or(true, |size| size > limit) {
            return Err(FetchError::new(
                format!(
                    "the layer has {} bytes; a bundle has {limit} at most",
                    layer.size
                ),
                "push the bundle that `cordon policy pack` makes",
            ));
        }
        let repository = &self.image.repository;
        let url = self.url(&format!("/v2/{repository}/blobs/{}", layer.digest));
        let mut reply = self.get(&url, None, limit).await?;
        if reply.status.is_redirection() {
            // Registries keep blobs elsewhere. Once, never to a lesser scheme, and without the
            // registry's token; what comes is checked by its digest like everything else.
            let elsewhere = redirect(&url, &reply.fields)?;
            reply = self.http.get(&elsewhere, &[], limit).await?;
        }
        if reply.status != StatusCode::OK {
            return Err(answered(&url, reply.status));
        }
        check_digest(&layer.digest, &reply.body)?;
        Ok(reply.body)
    }

    /// A GET that shows who asks, once the registry wants to know.
    async fn get(
        &mut self,
        url: &HttpUrl,
        field: Option<(HeaderName, HeaderValue)>,
        limit_bytes: usize,
    ) -> Result<Reply, FetchError> {
        let mut fields: Vec<_> = field.into_iter().collect();
        let shown = self.authorization.clone();
        fields.extend(shown.map(|value| (AUTHORIZATION, value)));
        let reply = self.http.get(url, &fields, limit_bytes).await?;
        if reply.status != StatusCode::UNAUTHORIZED || self.authorization.is_some() {
            return Ok(reply);
        }
        let authorization = self.authorize(&reply.fields).await?;
        self.authorization = Some(authorization.clone());
        fields.push((AUTHORIZATION, authorization));
        self.http.get(url, &fields, limit_bytes).await
    }

    /// By the challenge of a registry: its own login, or a token of its token server.
    async fn authorize(&self, fields: &HeaderMap) -> Result<HeaderValue, FetchError> {
        let challenge = fields
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let no_login = || {
            FetchError::new(
                "the registry asks who is there",
                "set `credentials` to a file with `user:password`",
            )
        };
        let Some(parameters) = strip_scheme(challenge, "Bearer") else {
            return self.login.clone().ok_or_else(no_login);
        };
        let url = self.token_server(parameters)?;
        let login = self.login.clone().map(|login| (AUTHORIZATION, login));
        let fields: Vec<_> = login.into_iter().collect();
        let reply = self.http.get(&url, &fields, SMALL_BYTES).await?;
        if reply.status != StatusCode::OK {
            return Err(if self.login.is_none() {
                no_login()
            } else {
                answered(&url, reply.status)
            });
        }
        let token = serde_json::from_slice::<Token>(&reply.body)
            .ok()
            .and_then(|token| token.token.or(token.access_token))
            .ok_or_else(|| {
                FetchError::new(format!("`{url}` gave no token"), "check the registry")
            })?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| FetchError::new(format!("`{url}` gave no token"), "check the registry"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The address of the token server. The registry names it, so it gets the login only over
    /// TLS, or where the registry itself is on this machine.
    fn token_server(&self, parameters: &str) -> Result<HttpUrl, FetchError> {
        let realm = parameter(parameters, "realm").unwrap_or_default();
        let wrong = |what: &str| {
            FetchError::new(
                format!("the registry's token server {realm:?} {what}"),
                "check the registry's configuration",
            )
        };
        let mut url = HttpUrl::parse(realm).map_err(|_| wrong("is no address"))?;
        let is_near = self.image.registry.is_loopback() && url.is_loopback();
        if !url.tls && !is_near {
            return Err(wrong("is without TLS"));
        }
        let mut mark = if url.path.contains('?') { '&' } else { '?' };
        let scope = format!("repository:{}:pull", self.image.repository);
        let service = parameter(parameters, "service").unwrap_or_default();
        for (name, value) in [("service", service), ("scope", scope.as_str())] {
            if !value.is_empty() {
                url.path.push(mark);
                url.path.push_str(name);
                url.path.push('=');
                url.path.push_str(&encode(value));
                mark = '&';
            }
        }
        Ok(url)
    }

    fn url(&self, path: &str) -> HttpUrl {
        self.image.registry.with_path(path)
    }
}

/// The layer that is a bundle.
fn choose(layers: Vec<Descriptor>) -> Result<Descriptor, FetchError> {
    let only = layers.len() == 1;
    let mut bundles = layers.into_iter().filter(|layer| {
        layer.media_type == LAYER || only && PLAIN_LAYERS.contains(&layer.media_type.as_str())
    });
    match (bundles.next(), bundles.next()) {
        (Some(layer), None) if digest_of(&layer.digest).is_some() => Ok(layer),
        _ => Err(FetchError::new(
            "the image has no layer, or several, that could be a bundle",
            "push one layer, of the media type \
             `application/vnd.cordon.policy.bundle.v1.tar+gzip`",
        )),
    }
}

fn check_digest(expected: &str, bytes: &[u8]) -> Result<(), FetchError> {
    let found: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if digest_of(expected) == Some(found.as_str()) {
        return Ok(());
    }
    Err(FetchError::new(
        format!("the registry sent other bytes than {expected:?} names (sha256:{found})"),
        "check the registry, and whatever stands between it and here",
    ))
}

/// The hex digits of a SHA-256 digest; no other algorithm is taken.
fn digest_of(text: &str) -> Option<&str> {
    text.strip_prefix("sha256:").filter(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn redirect(from: &HttpUrl, fields: &HeaderMap) -> Result<HttpUrl, FetchError> {
    let location = fields
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let to = if location.starts_with('/') && !location.starts_with("//") {
        Ok(from.with_path(location))
    } else {
        HttpUrl::parse(location)
    };
    match to {
        Ok(to) if to.tls || to.is_loopback() && from.is_loopback() && !from.tls => Ok(to),
        _ => Err(FetchError::new(
            format!("`{from}` redirects to {location:?}, which is no https address"),
            "check the registry's storage",
        )),
    }
}

fn answered(url: &HttpUrl, status: StatusCode) -> FetchError {
    FetchError::new(
        format!("`{url}` answered {status}"),
        "check the reference, and `credentials` where the registry asks who is there",
    )
}

/// What follows an authentication scheme, whose case does not count.
fn strip_scheme<'a>(challenge: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = challenge.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// A quoted parameter of a challenge (RFC 9110, 11.2), without escapes.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = parameters;
    loop {
        let (found, value) = rest.trim_start_matches([',', ' ']).split_once("=\"")?;
        let (value, after) = value.split_once('"')?;
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
