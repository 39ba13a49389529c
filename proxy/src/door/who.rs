//! Whose a connection is: known by its listener, or by the credentials that its requests bring.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_policy::{Asked as AskedFor, Basis, Decided, Deny, DenyReason, RawRequest};
use cordon_session::config::Claim;
use hyper::{
    HeaderMap, Request,
    header::{self, HeaderValue},
};
use tokio::sync::SetOnce;

use super::{Callers, Credentials, Stranger, places::Place};
use crate::{
    limits, metrics,
    process::MadeBy,
    refuse::{Fault, Refusal},
    session::{NoSeat, Seat, Session},
    status::Reached,
};

/// Whose a connection is. Clones are about the same connection; as long as there is one, the
/// connection has its place among its caller's.
#[derive(Clone)]
pub(crate) struct Who(Arc<Inner>);

enum Inner {
    /// The listener tells.
    Known(Arc<Session>, MadeBy),
    /// Each request tells.
    Asked(Box<Asking>),
}

struct Asking {
    callers: Arc<dyn Callers>,
    claim: Claim,
    /// Where its client reaches us, inside TLS.
    secured: Option<Reached>,
    strangers: Arc<Session>,
    failures: Arc<Failures>,
    /// Its own among those of strangers.
    place: Place,
    /// Whether credentials have to tell.
    asks: bool,
    first: SetOnce<First>,
}

/// The first caller of a connection.
struct First {
    /// By which they were known.
    field: Option<HeaderValue>,
    session: Arc<Session>,
    /// Held as long as the connection lasts.
    _seat: Seat,
}

impl Who {
    pub(crate) fn known(session: Arc<Session>, made_by: MadeBy) -> Self {
        Self(Arc::new(Inner::Known(session, made_by)))
    }

    /// Which process made the connection.
    pub(crate) fn made_by(&self) -> MadeBy {
        match &*self.0 {
            Inner::Known(_, made_by) => made_by.clone(),
            Inner::Asked(_) => MadeBy::default(),
        }
    }

    pub(super) fn asked(
        callers: Arc<dyn Callers>,
        (claim, secured): (Claim, Option<Reached>),
        strangers: Arc<Session>,
        failures: Arc<Failures>,
        place: Place,
    ) -> Self {
        Self(Arc::new(Inner::Asked(Box::new(Asking {
            asks: callers.asks(&claim),
            callers,
            claim,
            secured,
            strangers,
            failures,
            place,
            first: SetOnce::new(),
        }))))
    }

    /// Where its client reaches us, where that is inside TLS: the socket does not tell then.
    pub(crate) fn secured(&self) -> Option<&Reached> {
        match &*self.0 {
            Inner::Known(..) => None,
            Inner::Asked(asking) => asking.secured.as_ref(),
        }
    }

    /// Whether it is known already.
    pub(crate) fn is_known(&self) -> bool {
        matches!(*self.0, Inner::Known(..))
    }

    /// Where to record what comes before anybody is known.
    pub(crate) fn recording(&self) -> &Arc<Session> {
        match &*self.0 {
            Inner::Known(session, _) => session,
            Inner::Asked(asking) => &asking.strangers,
        }
    }

    /// Whether a further request of a connection brings what its first caller was known by.
    pub(crate) fn is_again<B>(&self, request: &Request<B>) -> bool {
        let Inner::Asked(asking) = &*self.0 else {
            return true;
        };
        let Some(first) = asking.first.get() else {
            return false;
        };
        asking
            .field(request)
            .is_ok_and(|field| first.field.as_ref() == field)
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
            Inner::Known(session, _) => return Ok(Arc::clone(session)),
            Inner::Asked(asking) => asking,
        };
        let field = asking.field(request);
        // One that drains takes nothing more: policy says why, where whose it is is asked for anew.
        let first = asking.first.get();
        let first = first.filter(|first| !first.session.is_draining());
        if let (Some(first), Ok(field)) = (first, &field)
            && first.field.as_ref() == *field
        {
            return Ok(Arc::clone(&first.session));
        }
        // Put together only for what is refused.
        let raw = || format!("{} {}", request.method(), request.uri());
        if first.is_some() {
            let problem = "another caller's credentials on a kept connection; open a new one";
            return Err(asking.refuse(&raw(), Fault::Credentials, problem).await);
        }
        let (field, credentials) = match field.and_then(|field| {
            let credentials = field.map(basic).transpose()?;
            Ok((field.cloned(), credentials))
        }) {
            Ok(read) => read,
            Err(problem) => return Err(asking.refuse(&raw(), Fault::Credentials, problem).await),
        };
        let session = asking.identify(&raw, credentials.as_ref()).await?;
        let seat = asking.seat(&raw, &session).await?;
        if asking.settle(field, &session, seat) {
            return Ok(session);
        }
        let (fault, problem) = match session.is_draining() || asking.is_draining() {
            true => (Fault::Leaving, LEAVING),
            false => (
                Fault::Credentials,
                "another caller's connection; open a new one",
            ),
        };
        Err(asking.refuse(&raw(), fault, problem).await)
    }

    /// Resolves once it takes no further request: its caller's session drains, or the listener.
    pub(crate) async fn draining(&self) {
        match &*self.0 {
            Inner::Known(session, _) => session.draining().await,
            Inner::Asked(asking) => tokio::select! {
                () = asking.strangers.draining() => {}
                () = async { asking.first.wait().await.session.draining().await } => {}
            },
        }
    }

    /// Whether SOCKS must ask for a name and a secret.
    pub(crate) fn asks(&self) -> bool {
        match &*self.0 {
            Inner::Known(..) => false,
            Inner::Asked(asking) => asking.asks,
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
            Inner::Known(session, _) => Ok(Arc::clone(session)),
            Inner::Asked(asking) => {
                let session = asking.identify(String::new, credentials.as_ref()).await?;
                let seat = asking.seat(String::new, &session).await?;
                // SOCKS asks once.
                asking.settle(None, &session, seat);
                Ok(session)
            }
        }
    }
}

impl Asking {
    /// By what the caller of a request is to be known.
    fn field<'a, B>(
        &self,
        request: &'a Request<B>,
    ) -> Result<Option<&'a HeaderValue>, &'static str> {
        if self.asks {
            one_field(request.headers())
        } else {
            Ok(None)
        }
    }

    /// Notes whose the connection is; whether it is this session's. Two streams may ask at once: the
    /// first to be known is its caller.
    fn settle(&self, field: Option<HeaderValue>, session: &Arc<Session>, seat: Seat) -> bool {
        let _was_another = self.first.set(First {
            field,
            session: Arc::clone(session),
            _seat: seat,
        });
        let first = self.first.get();
        first.is_some_and(|first| Arc::ptr_eq(&first.session, session))
    }

    /// Whether the session of its first caller takes nothing new.
    fn is_draining(&self) -> bool {
        let first = self.first.get();
        first.is_some_and(|first| first.session.is_draining())
    }

    /// A place for this connection among its caller's (N24).
    async fn seat(&self, raw: impl Fn() -> String, session: &Session) -> Result<Seat, Refusal> {
        match session.seat().await {
            Ok(seat) => return Ok(seat),
            // Nothing is asked of it, nor recorded in it: it may be over.
            Err(NoSeat::Draining) => {
                return Err(self.refuse(&raw(), Fault::Leaving, LEAVING).await);
            }
            Err(NoSeat::Full) => {}
        }
        metrics::PROXY.limits_hit.inc();
        let problem = format!(
            "{} connections of this caller are open (limits.connections)",
            session.limits().connections
        );
        let asked = AskedFor::Raw(RawRequest {
            session: Arc::clone(session.gate().session()),
            door: DOOR,
            text: bounded(&raw()),
            at: std::time::SystemTime::now(),
            problem,
        });
        let deny = Decided::<Deny>::deny(asked, DenyReason::Limit, Basis::default());
        Err(Refusal::Gate(session.gate().refuse(deny).await))
    }

    async fn identify(
        &self,
        raw: impl Fn() -> String,
        credentials: Option<&Credentials>,
    ) -> Result<Arc<Session>, Refusal> {
        let may_try = !self.callers.guessable() || self.failures.may_try(self.claim.source);
        if credentials.is_some() && !may_try {
            let problem = "too many wrong credentials from this address; wait a minute";
            return Err(self.refuse(&raw(), Fault::TooMany, problem).await);
        }
        let (fault, problem) = match self.callers.identify(&self.claim, credentials).await {
            Ok(caller) => {
                self.place.give_up();
                return Ok(caller.0);
            }
            Err(Stranger::Refused(error)) => return Err(Refusal::Gate(error)),
            Err(Stranger::Unavailable(why)) => (Fault::NoSession, why),
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
        Err(self.refuse(&raw(), fault, problem).await)
    }

    /// Records it where strangers are recorded; never with what they sent as credentials.
    async fn refuse(&self, raw: &str, fault: Fault, problem: &str) -> Refusal {
        let source = match self.claim.source {
            Some(source) => format!(" (from {source}, listener {})", self.claim.listener),
            None => format!(" (listener {})", self.claim.listener),
        };
        let asked = AskedFor::Raw(RawRequest {
            session: Arc::clone(self.strangers.gate().session()),
            door: DOOR,
            text: bounded(raw),
            at: std::time::SystemTime::now(),
            problem: format!("{problem}{source}"),
        });
        let reason = match matches!(fault, Fault::Leaving | Fault::NoSession) {
            true => DenyReason::Unavailable,
            false => DenyReason::Credential,
        };
        let deny = Decided::<Deny>::deny(asked, reason, Basis::default());
        Refusal::Fault(fault, self.strangers.gate().refuse(deny).await)
    }
}

const DOOR: &str = "gateway";

const LEAVING: &str = "the session of this connection ends and takes nothing new; open a new one";

fn bounded(raw: &str) -> String {
    raw.chars().take(RawRequest::MAX_BYTES / 4).collect()
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
        failures
            .get(&counted_as(&failures, source))
            .is_none_or(|(count, since)| {
                *count < limits::CREDENTIAL_FAILURES_PER_MINUTE || since.elapsed() > MINUTE
            })
    }

    fn note(&self, source: Option<IpAddr>) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= limits::CREDENTIAL_ADDRESSES {
            failures.retain(|_, (_, since)| since.elapsed() <= MINUTE);
        }
        let key = counted_as(&failures, source);
        let entry = failures.entry(key).or_insert((0, Instant::now()));
        if entry.1.elapsed() > MINUTE {
            *entry = (0, Instant::now());
        }
        entry.0 = entry.0.saturating_add(1);
    }
}

/// What the wrong credentials of an address are counted under: one network of IPv6 is one, as
/// whoever has one address of it has them all; and where there is no room, all further ones are.
fn counted_as(
    failures: &HashMap<Option<IpAddr>, (u32, Instant)>,
    source: Option<IpAddr>,
) -> Option<IpAddr> {
    const NETWORK: u128 = !0 << 64;
    let source = source.map(|source| match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & NETWORK).into()),
    });
    let full = failures.len() >= limits::CREDENTIAL_ADDRESSES;
    source.filter(|_| !full || failures.contains_key(&source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(failures: &Failures, source: Option<IpAddr>) {
        for _ in 0..limits::CREDENTIAL_FAILURES_PER_MINUTE {
            failures.note(source);
        }
    }

    #[test]
    fn n18_another_address_of_the_same_network_is_no_new_guesser() {
        let failures = Failures::default();
        let address = |text: &str| Some(text.parse().unwrap());
        wrong(&failures, address("2001:db8::1"));
        assert!(!failures.may_try(address("2001:db8::2")));
        assert!(failures.may_try(address("2001:db8:0:1::1")));
        wrong(&failures, address("192.0.2.1"));
        assert!(!failures.may_try(address("192.0.2.1")));
        assert!(failures.may_try(address("192.0.2.2")));
    }

    #[test]
    fn n18_where_addresses_are_too_many_the_rest_is_counted_as_one() {
        let failures = Failures::default();
        let address = |n: u32| Some(IpAddr::V4(n.into()));
        for n in 0..u32::try_from(limits::CREDENTIAL_ADDRESSES).unwrap() {
            failures.note(address(n));
        }
        let (one, other) = (address(u32::MAX), address(u32::MAX - 1));
        assert!(failures.may_try(one));
        wrong(&failures, one);
        assert!(!failures.may_try(other));
        // Those that are counted on their own still are.
        assert!(failures.may_try(address(0)));
    }
}
