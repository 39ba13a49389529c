//! Whose a connection is: known by its listener, or by the credentials that its requests bring.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_policy::{Asked as AskedFor, Basis, Decided, Deny, DenyReason, RawRequest};
use cordon_session::config::Claim;
use hyper::{
    HeaderMap, Request,
    header::{self, HeaderValue},
};

use super::{Callers, Credentials, Stranger};
use crate::{
    limits,
    refuse::{Fault, Refusal},
    session::Session,
};

/// Whose a connection is. Clones are about the same connection.
#[derive(Clone)]
pub(crate) struct Who(Arc<Inner>);

enum Inner {
    /// The listener tells.
    Known(Arc<Session>),
    /// Each request tells.
    Asked(Box<Asking>),
}

struct Asking {
    callers: Arc<dyn Callers>,
    claim: Claim,
    strangers: Arc<Session>,
    failures: Arc<Failures>,
    /// The first caller of the connection, and the field by which they were known.
    first: OnceLock<(Option<HeaderValue>, Arc<Session>)>,
}

impl Who {
    pub(crate) fn known(session: Arc<Session>) -> Self {
        Self(Arc::new(Inner::Known(session)))
    }

    pub(super) fn asked(
        callers: Arc<dyn Callers>,
        claim: Claim,
        strangers: Arc<Session>,
        failures: Arc<Failures>,
    ) -> Self {
        Self(Arc::new(Inner::Asked(Box::new(Asking {
            callers,
            claim,
            strangers,
            failures,
            first: OnceLock::new(),
        }))))
    }

    /// Whether it is known already.
    pub(crate) fn is_known(&self) -> bool {
        matches!(*self.0, Inner::Known(_))
    }

    /// Where to record what comes before anybody is known.
    pub(crate) fn recording(&self) -> &Arc<Session> {
        match &*self.0 {
            Inner::Known(session) => session,
            Inner::Asked(asking) => &asking.strangers,
        }
    }

    /// The caller of an HTTP request.
    ///
    /// # Errors
    /// The refusal, recorded.
    pub(crate) async fn of_request<B>(
        &self,
        request: &Request<B>,
    ) -> Result<Arc<Session>, Refusal> {
        let asking = match &*self.0 {
            Inner::Known(session) => return Ok(Arc::clone(session)),
            Inner::Asked(asking) => asking,
        };
        let field = if self.asks() {
            one_field(request.headers())
        } else {
            Ok(None)
        };
        if let (Some((first, session)), Ok(field)) = (asking.first.get(), &field)
            && first.as_ref() == *field
        {
            return Ok(Arc::clone(session));
        }
        let raw = format!("{} {}", request.method(), request.uri());
        if asking.first.get().is_some() {
            let problem = "another caller's credentials on a kept connection; open a new one";
            return Err(asking.refuse(&raw, Fault::Credentials, problem).await);
        }
        let (field, credentials) = match field.and_then(|field| {
            let credentials = field.map(basic).transpose()?;
            Ok((field.cloned(), credentials))
        }) {
            Ok(read) => read,
            Err(problem) => return Err(asking.refuse(&raw, Fault::Credentials, problem).await),
        };
        let session = asking.identify(&raw, credentials.as_ref()).await?;
        // Two streams may ask at once: the first to be known is the connection's caller.
        let (_, first) = asking.first.get_or_init(|| (field, Arc::clone(&session)));
        if Arc::ptr_eq(first, &session) {
            return Ok(session);
        }
        let problem = "another caller's credentials on a kept connection; open a new one";
        Err(asking.refuse(&raw, Fault::Credentials, problem).await)
    }

    /// Whether SOCKS must ask for a name and a secret.
    pub(crate) fn asks(&self) -> bool {
        match &*self.0 {
            Inner::Known(_) => false,
            Inner::Asked(asking) => asking.callers.asks(&asking.claim),
        }
    }

    /// The caller behind SOCKS credentials.
    ///
    /// # Errors
    /// The refusal, recorded.
    pub(crate) async fn of_credentials(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<Arc<Session>, Refusal> {
        match &*self.0 {
            Inner::Known(session) => Ok(Arc::clone(session)),
            Inner::Asked(asking) => asking.identify("", credentials.as_ref()).await,
        }
    }
}

impl Asking {
    async fn identify(
        &self,
        raw: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Arc<Session>, Refusal> {
        if credentials.is_some() && !self.failures.may_try(self.claim.source) {
            let problem = "too many wrong credentials from this address; wait a minute";
            return Err(self.refuse(raw, Fault::TooMany, problem).await);
        }
        let (fault, problem) = match self.callers.identify(&self.claim, credentials).await {
            Ok(caller) => return Ok(caller.0),
            Err(Stranger::Refused(error)) => return Err(Refusal::Gate(error)),
            Err(Stranger::Unknown) => (
                Fault::Caller,
                "nobody that this gateway knows; ask whoever runs it to name you under \
                 `[[gateway.callers]]`",
            ),
            Err(Stranger::NoCredentials) => (
                Fault::Credentials,
                "this proxy asks for a user name and a password; put them into the proxy's URL \
                 (`http://NAME:SECRET@HOST:PORT`), or see your program's proxy settings",
            ),
            Err(Stranger::WrongCredentials) => {
                self.failures.note(self.claim.source);
                (
                    Fault::Credentials,
                    "the proxy credentials are wrong, or not for this listener",
                )
            }
        };
        Err(self.refuse(raw, fault, problem).await)
    }

    /// Records it where strangers are recorded; never with what they sent as credentials.
    async fn refuse(&self, raw: &str, fault: Fault, problem: &str) -> Refusal {
        let kept = raw.chars().take(RawRequest::MAX_BYTES / 4).collect();
        let source = match self.claim.source {
            Some(source) => format!(" (from {source}, listener {})", self.claim.listener),
            None => format!(" (listener {})", self.claim.listener),
        };
        let asked = AskedFor::Raw(RawRequest {
            session: Arc::clone(self.strangers.gate().session()),
            door: "gateway",
            text: kept,
            at: std::time::SystemTime::now(),
            problem: format!("{problem}{source}"),
        });
        let deny = Decided::<Deny>::deny(asked, DenyReason::Credential, Basis::default());
        Refusal::Fault(fault, self.strangers.gate().refuse(deny).await)
    }
}

/// The `Proxy-Authorization` field, at most one.
fn one_field(fields: &HeaderMap) -> Result<Option<&HeaderValue>, &'static str> {
    let mut all = fields.get_all(header::PROXY_AUTHORIZATION).iter();
    match (all.next(), all.next()) {
        (_, Some(_)) => Err("more than one `Proxy-Authorization` field"),
        (one, None) => Ok(one),
    }
}

/// Source: RFC 7617 section 2.
fn basic(field: &HeaderValue) -> Result<Credentials, &'static str> {
    const SHAPE: &str = "the `Proxy-Authorization` field is not `Basic` with a name and a secret";
    let text = field.to_str().map_err(|_| SHAPE)?;
    let (scheme, rest) = text.split_once(' ').ok_or(SHAPE)?;
    if !scheme.eq_ignore_ascii_case("basic") || rest.len() > limits::CREDENTIAL_BYTES {
        return Err(SHAPE);
    }
    let bytes = STANDARD.decode(rest.trim()).map_err(|_| SHAPE)?;
    let colon = memchr::memchr(b':', &bytes).ok_or(SHAPE)?;
    let (name, secret) = bytes.split_at_checked(colon).ok_or(SHAPE)?;
    Ok(Credentials {
        username: std::str::from_utf8(name).map_err(|_| SHAPE)?.into(),
        secret: secret.get(1..).unwrap_or_default().into(),
    })
}

/// Wrong credentials of late, by address.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<Option<IpAddr>, (u32, Instant)>>);

const MINUTE: Duration = Duration::from_secs(60);

impl Failures {
    fn may_try(&self, source: Option<IpAddr>) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&source).is_none_or(|(count, since)| {
            *count < limits::CREDENTIAL_FAILURES_PER_MINUTE || since.elapsed() > MINUTE
        })
    }

    fn note(&self, source: Option<IpAddr>) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= limits::CREDENTIAL_ADDRESSES {
            failures.retain(|_, (_, since)| since.elapsed() <= MINUTE);
        }
        // Where even that leaves no room, all further addresses count as one.
        let full = failures.len() >= limits::CREDENTIAL_ADDRESSES;
        let key = if full && !failures.contains_key(&source) {
            None
        } else {
            source
        };
        let entry = failures.entry(key).or_insert((0, Instant::now()));
        if entry.1.elapsed() > MINUTE {
            *entry = (0, Instant::now());
        }
        entry.0 = entry.0.saturating_add(1);
    }
}
