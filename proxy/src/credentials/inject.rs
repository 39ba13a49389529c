//! Takes the client's credentials off a request's head, and puts the node's in.
//!
//! In this order: what stands in the places that are filled anew is taken away, then any
//! placeholder that is left is a refusal, then what `@strip` names goes, then the values come.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_policy::percent_decoded;
use cordon_session::config::{CredentialConfig, CredentialPlace, EchoedValue};
use hyper::{
    HeaderMap, Uri,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};
use zeroize::Zeroizing;

use super::{
    Carried, Checked, Credential, Credentials, Echo, Hidden, Placeholders, Problem, sigv4,
    source::Value, target,
};
use crate::{flow::Flow, http::Asked, session::Session};

pub(super) async fn prepare(
    flow: &Flow,
    session: &Session,
    asked: &Asked,
    parts: &mut Parts,
    body: &mut Checked,
) -> Result<Echo, Problem> {
    let credentials = session.egress().credentials();
    let Some(basis) = flow.basis() else {
        return Err(Problem("the allow was taken back".into()));
    };
    let mut wanted: Vec<&Credential> = Vec::new();
    for name in basis.obligation("credential") {
        let credential = credentials.named(name).ok_or_else(|| {
            Problem(format!(
                "credential `{name}` is not in this node's `cordon.toml`"
            ))
        })?;
        credential.ceiling(asked)?;
        let place = Place::of(&credential.config);
        if wanted.iter().any(|other| Place::of(&other.config) == place) {
            return Err(Problem(format!(
                "credential `{name}` goes into the same place as another one of this request"
            )));
        }
        wanted.push(credential);
    }
    let placeholders = session.placeholders();
    for credential in &wanted {
        take_own(credential, parts, placeholders)?;
    }
    if let Some(placeholders) = placeholders {
        find_stray(parts, placeholders)?;
    }
    if basis.asks("strip", "client") {
        strip(credentials, parts)?;
    }
    // Signing last: a signature is over the head as the others leave it.
    wanted.sort_by_key(|credential| credential.config.place == CredentialPlace::AwsSigV4);
    let mut echo = Echo::default();
    for credential in wanted {
        put_in(credential, asked, parts, body, &mut echo).await?;
    }
    if !echo.is_empty() {
        if echo.refuses() && asked.upgrade().is_some() {
            return Err(Problem(
                "what follows an upgrade cannot be looked into for its credential \
                 (`echo = \"refuse\"`)"
                    .into(),
            ));
        }
        ask_for_readable(&mut parts.headers);
    }
    Ok(echo)
}

/// Asks for an answer that can be looked into: what is compressed hides a value, and of what comes in
/// ranges each may have a part of it.
fn ask_for_readable(fields: &mut HeaderMap) {
    let plain = HeaderValue::from_static("identity");
    fields.insert(header::ACCEPT_ENCODING, plain);
    for offer in [
        header::RANGE,
        header::IF_RANGE,
        header::SEC_WEBSOCKET_EXTENSIONS,
        HeaderName::from_static("grpc-accept-encoding"),
    ] {
        fields.remove(offer);
    }
}

/// The field that a credential goes into, where it is one.
pub(super) fn field(config: &CredentialConfig) -> Option<HeaderName> {
    match Place::of(config) {
        Place::Field(name) => Some(name),
        Place::Query(_) => None,
    }
}

/// Where in a request a credential goes.
#[derive(Eq, PartialEq)]
enum Place {
    Field(HeaderName),
    Query(String),
}

impl Place {
    fn of(config: &CredentialConfig) -> Self {
        match &config.place {
            CredentialPlace::Bearer | CredentialPlace::Basic(_) | CredentialPlace::AwsSigV4 => {
                Self::Field(header::AUTHORIZATION)
            }
            // The configuration takes only what is a name.
            CredentialPlace::Header(name) => Self::Field(
                HeaderName::from_bytes(name.as_bytes()).unwrap_or(header::AUTHORIZATION),
            ),
            CredentialPlace::Query(key) => Self::Query(key.clone()),
        }
    }
}

/// Takes away what the client put where this credential goes: its placeholder, or one of its own.
fn take_own(
    credential: &Credential,
    parts: &mut Parts,
    placeholders: Option<&Placeholders>,
) -> Result<(), Problem> {
    let config = &credential.config;
    let check = |bytes: &[u8]| {
        let mut found = placeholders.iter().flat_map(|known| known.all(bytes));
        match found.find(|name| *name != config.name) {
            Some(other) => Err(stray(
                other,
                &format!("the place of credential `{}`", config.name),
            )),
            None => Ok(()),
        }
    };
    match Place::of(config) {
        Place::Field(name) => {
            for value in parts.headers.get_all(&name) {
                check(value.as_bytes())?;
            }
            parts.headers.remove(name);
        }
        Place::Query(key) => {
            for pair in target::take(&mut parts.uri, |one| one == key)? {
                check(percent_decoded(&pair).as_bytes())?;
            }
        }
    }
    if config.place == CredentialPlace::AwsSigV4 {
        for pair in target::take(&mut parts.uri, sigv4::is_presigned)? {
            check(percent_decoded(&pair).as_bytes())?;
        }
        parts.headers.remove(sigv4::TOKEN_FIELD);
    }
    Ok(())
}

/// Refuses a placeholder in what is left of the head.
fn find_stray(parts: &Parts, placeholders: &Placeholders) -> Result<(), Problem> {
    let uri = &parts.uri;
    let target = uri
        .path_and_query()
        .map(|target| target.as_str())
        .unwrap_or_default();
    let decoded = percent_decoded(target);
    for text in [target, decoded.as_str()] {
        if let Some(name) = placeholders.find(text.as_bytes()) {
            return Err(stray(name, "the target"));
        }
    }
    for (field, value) in &parts.headers {
        let found = placeholders.find(value.as_bytes());
        if let Some(name) = found.or_else(|| placeholders.find(field.as_str().as_bytes())) {
            // A field's name is the client's text too, but for the usual ones.
            let usual = [header::AUTHORIZATION, header::COOKIE].contains(field);
            let place = if usual {
                field.as_str()
            } else {
                "another field"
            };
            return Err(stray(name, place));
        }
    }
    Ok(())
}

pub(super) fn stray(name: &str, place: &str) -> Problem {
    Problem(format!(
        "the placeholder of credential `{name}` stands in {place}"
    ))
}

/// Takes off whatever may carry a credential: the usual fields, and every place of the
/// configuration.
fn strip(credentials: &Credentials, parts: &mut Parts) -> Result<(), Problem> {
    for field in &credentials.fields {
        parts.headers.remove(field);
    }
    let keys: Vec<&str> = credentials
        .all
        .iter()
        .filter_map(|known| match &known.config.place {
            CredentialPlace::Query(key) => Some(key.as_str()),
            _field => None,
        })
        .collect();
    target::take(&mut parts.uri, |key| keys.contains(&key))?;
    Ok(())
}

async fn put_in(
    credential: &Credential,
    asked: &Asked,
    parts: &mut Parts,
    body: &mut Checked,
    echo: &mut Echo,
) -> Result<(), Problem> {
    let config = &credential.config;
    let value = value_of(credential).await?;
    expect(config, value.reveal(), echo);
    if let Some((name, value)) = in_field(config, value.reveal())? {
        parts.headers.insert(name, value);
        return Ok(());
    }
    match &config.place {
        CredentialPlace::Query(key) => target::add(&mut parts.uri, key, value.reveal()),
        CredentialPlace::AwsSigV4 => sign(config, value.reveal(), asked, parts, body).await,
        CredentialPlace::Bearer | CredentialPlace::Basic(_) | CredentialPlace::Header(_) => Ok(()),
    }
}

/// Notes what of a value goes out, and so may come back.
fn expect(config: &CredentialConfig, secret: &str, echo: &mut Echo) {
    match config.echo {
        EchoedValue::Mask => {}
        EchoedValue::Refuse => echo.refuse(),
        EchoedValue::Allow => return,
    }
    match &config.place {
        CredentialPlace::Basic(user) => {
            echo.expect(&Zeroizing::new(format!("{user}:{secret}")));
            echo.expect(secret);
        }
        CredentialPlace::Bearer | CredentialPlace::Header(_) | CredentialPlace::Query(_) => {
            echo.expect(secret);
        }
        // The key signs; it is not sent.
        CredentialPlace::AwsSigV4 => {}
    }
}

/// The field that carries a credential; none where no single field does.
pub(super) async fn as_field(credential: &Credential) -> Result<Option<Carried>, Problem> {
    // Not asked for where it would not go.
    if matches!(
        credential.config.place,
        CredentialPlace::Query(_) | CredentialPlace::AwsSigV4
    ) {
        return Ok(None);
    }
    let secret = value_of(credential).await?;
    let mut echo = Echo::default();
    expect(&credential.config, secret.reveal(), &mut echo);
    let field = in_field(&credential.config, secret.reveal())?;
    Ok(field.map(|(name, value)| Carried {
        name,
        value,
        hidden: Hidden(echo),
    }))
}

fn in_field(
    config: &CredentialConfig,
    secret: &str,
) -> Result<Option<(HeaderName, HeaderValue)>, Problem> {
    let text = match &config.place {
        CredentialPlace::Query(_) | CredentialPlace::AwsSigV4 => return Ok(None),
        CredentialPlace::Bearer => Zeroizing::new(format!("Bearer {secret}")),
        CredentialPlace::Basic(user) => {
            let pair = Zeroizing::new(format!("{user}:{secret}"));
            let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
            Zeroizing::new(format!("Basic {}", *encoded))
        }
        CredentialPlace::Header(_) => Zeroizing::new(secret.to_owned()),
    };
    let Place::Field(name) = Place::of(config) else {
        return Ok(None);
    };
    Ok(Some((name, hidden(&text, config)?)))
}

async fn value_of(credential: &Credential) -> Result<Value, Problem> {
    let config = &credential.config;
    credential.source.value().await.map_err(|error| {
        // The log says more than the session is told: paths and programs are the node's own.
        tracing::warn!(credential = %config.name, %error, "a credential has no value");
        Problem(format!(
            "credential `{}` has no value; see the daemon's messages",
            config.name
        ))
    })
}

/// A value that shows in no debug print and is in no table of HTTP/2.
fn hidden(text: &str, config: &CredentialConfig) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Problem(format!(
            "credential `{}` is not what a field can carry",
            config.name
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn set(
    fields: &mut HeaderMap,
    name: HeaderName,
    text: &str,
    config: &CredentialConfig,
) -> Result<(), Problem> {
    fields.insert(name, hidden(text, config)?);
    Ok(())
}

async fn sign(
    config: &CredentialConfig,
    secret: &str,
    asked: &Asked,
    parts: &mut Parts,
    body: &mut Checked,
) -> Result<(), Problem> {
    let mut lines = secret.lines().map(str::trim);
    let (Some(id), Some(key)) = (lines.next(), lines.next()) else {
        return Err(Problem(format!(
            "credential `{}` has no two lines, access key id and secret access key",
            config.name
        )));
    };
    let token = lines.next().filter(|token| !token.is_empty());
    let signer = sigv4::Signer {
        id,
        key,
        service: config.service.as_deref().unwrap_or_default(),
        region: config.region.as_deref().unwrap_or_default(),
    };
    let payload = sigv4::payload(&parts.headers, signer.service, body).await?;
    if let Some(token) = token {
        set(&mut parts.headers, sigv4::TOKEN_FIELD, token, config)?;
    }
    let uri: &Uri = &parts.uri;
    let request = sigv4::Request {
        method: parts.method.as_str(),
        host: &asked.host_field(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        payload: &payload,
    };
    let made = signer.sign(&request, &parts.headers, SystemTime::now());
    for (name, text) in &made.fields {
        set(&mut parts.headers, name.clone(), text, config)?;
    }
    if let Some(pieces) = payload.in_pieces(made, &parts.headers)? {
        body.sign(pieces);
    }
    Ok(())
}
