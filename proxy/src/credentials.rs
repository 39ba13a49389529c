//! Credentials that no session holds: put into requests on their way out, where policy says so.
//!
//! A session has a placeholder, unguessable and worthless elsewhere. The head of an allowed request
//! and what its permit asks for in; the same head with the client's credentials taken off and the
//! real ones put in, or a recorded refusal, out (N21). A placeholder anywhere but in the place that
//! it is for is refused. Values are never logged, recorded or shown (A08).

mod body;
mod carried;
mod echo;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod inject;
mod known;
mod placeholder;
mod sigv4;
mod source;
mod target;

use std::sync::{Arc, Mutex, PoisonError};

use cordon_policy::{DenyReason, Host, Scheme};
use cordon_session::config::CredentialConfig;
use hyper::{HeaderMap, body::Incoming, header, http::request::Parts};

pub(crate) use self::{body::Checked, echo::Echo, placeholder::Placeholders};
pub use self::{
    carried::{Carried, Hidden, SentBack},
    known::known_secrets,
};
use self::{placeholder::Key, source::Source};
use crate::{flow::Flow, http::Asked, refuse::Refusal, session::Session};

/// The credentials of the node, and the key that its placeholders are made with.
#[derive(Debug)]
pub(crate) struct Credentials {
    key: Key,
    all: Vec<Credential>,
    /// Fields that carry credentials: the usual two, and those of the configuration.
    fields: Vec<header::HeaderName>,
}

/// One of them.
#[derive(Debug)]
struct Credential {
    config: CredentialConfig,
    source: Source,
}

/// Why a request cannot go on as policy wants it, in words for whoever asked. Holds no value.
#[derive(Debug)]
struct Problem(String);

/// A request that is as its permit wants it.
pub(crate) struct Applied {
    /// Its body, watched.
    pub(crate) body: Checked,
    pub(crate) flow: Flow,
    pub(crate) answer: Pending,
}

/// What is left to be done about a request once it is on its way.
pub(crate) struct Pending {
    /// Where a refusal comes that the body leads to.
    pub(crate) late: Late,
    /// What the answer must not say, where a value was put in.
    pub(crate) echo: Option<Echo>,
}

/// A refusal that was reached while the request's body was already on its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late(Arc<Mutex<Option<Refusal>>>);

impl Credentials {
    /// Of the configuration. Reads no value; that is done when one is needed.
    pub(crate) fn new(configured: &[CredentialConfig]) -> Result<Self, getrandom::Error> {
        let all = configured.iter().map(|config| Credential {
            source: Source::new(config),
            config: config.clone(),
        });
        let mut fields = vec![header::AUTHORIZATION, header::COOKIE];
        fields.extend(configured.iter().filter_map(inject::field));
        Ok(Self {
            key: Key::random()?,
            all: all.collect(),
            fields,
        })
    }

    /// The placeholders of a session, as its variables.
    pub(crate) fn variables(&self, session: &str) -> Vec<(String, String)> {
        let variables = |credential: &Credential| {
            let placeholder = self.key.placeholder(session, &credential.config);
            let names = credential.config.variables().into_iter();
            let each = names.map(move |name| (name.to_owned(), placeholder.clone()));
            each.collect::<Vec<_>>()
        };
        self.all.iter().flat_map(variables).collect()
    }

    /// The placeholders of a session, to be looked for; `None` where there are none.
    pub(crate) fn placeholders(&self, session: &str) -> Option<Placeholders> {
        let texts = self.all.iter().map(|credential| {
            let text = self.key.placeholder(session, &credential.config);
            (credential.config.name.clone(), text)
        });
        Placeholders::new(texts.collect())
    }

    /// A credential as the field that carries it, for requests of these methods to a path over TLS
    /// that the daemon makes itself.
    ///
    /// # Errors
    /// In words: there is none of this name, it may not go there, it is in no field, or it has no
    /// value.
    pub(crate) async fn field(
        &self,
        name: &str,
        host: &Host,
        methods: &[&str],
        path: &str,
    ) -> Result<Carried, String> {
        let credential = self
            .named(name)
            .ok_or_else(|| format!("credential `{name}` is not in this node's `cordon.toml`"))?;
        let config = &credential.config;
        let may = |method: &&str| config.may_ask(method, path);
        if !config.covers(host) || !methods.iter().all(may) {
            return Err(format!(
                "credential `{name}` is not configured for {} {host}{path}",
                methods.join(", ")
            ));
        }
        inject::as_field(credential)
            .await
            .map_err(|Problem(why)| why)?
            .ok_or_else(|| format!("credential `{name}` goes into no field (`as`)"))
    }

    fn named(&self, name: &str) -> Option<&Credential> {
        self.all.iter().find(|known| known.config.name == name)
    }
}

/// Whether anything is to be done with the credentials of an allowed request, or looked for in it.
pub(crate) fn are_asked(flow: &Flow) -> bool {
    let by_permit = flow.basis().is_some_and(|basis| {
        let mut names = basis.obligations.iter().map(|obligation| &*obligation.name);
        names.any(|name| matches!(name, "credential" | "strip"))
    });
    by_permit || flow.session().placeholders().is_some()
}

/// Makes an allowed request what its permit asks for: the client's credentials off, the node's in.
/// From now on its body is watched for placeholders.
///
/// # Errors
/// The recorded refusal: a placeholder where it does not belong, or a credential that cannot be put
/// in. Nothing of the request was sent.
pub(crate) async fn apply(
    flow: Flow,
    asked: &Asked,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Applied, Refusal> {
    let session = Arc::clone(flow.session());
    let mut body = Checked::unwatched(body);
    let echo = match inject::prepare(&flow, &session, asked, parts, &mut body).await {
        Ok(echo) => echo,
        Err(Problem(why)) => return Err(flow.refuse_for(DenyReason::Credential, why).await),
    };
    let late = Late::default();
    body.watch(&session, asked, late.clone());
    let echo = (!echo.is_empty()).then_some(echo);
    Ok(Applied {
        body,
        flow,
        answer: Pending { late, echo },
    })
}

/// Whether the client sent a credential that is its own: in a field for that, and not one of its
/// session's placeholders.
pub(crate) fn client_has_own(session: &Session, fields: &HeaderMap) -> bool {
    let placeholders = session.placeholders();
    let own = |name: &header::HeaderName| {
        fields
            .get_all(name)
            .iter()
            .any(|value| placeholders.is_none_or(|known| known.find(value.as_bytes()).is_none()))
    };
    session.egress().credentials().fields.iter().any(own)
}

impl Late {
    /// The refusal, where there is one.
    pub(crate) fn take(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, refusal: Refusal) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }
}

impl Credential {
    /// Why it may not go with this request, by the ceilings of the configuration.
    fn ceiling(&self, asked: &Asked) -> Result<(), Problem> {
        let name = &self.config.name;
        if !self.config.covers(&asked.destination().host) {
            let host = &asked.destination().host;
            return Err(Problem(format!(
                "credential `{name}` is not configured for {host}"
            )));
        }
        if !self.config.may_ask(asked.method(), asked.path()) {
            return Err(Problem(format!(
                "credential `{name}` is not configured for this method and path"
            )));
        }
        if asked.scheme() == Scheme::Http && !self.config.plain {
            return Err(Problem(format!(
                "credential `{name}` does not go over plain HTTP; use https"
            )));
        }
        Ok(())
    }
}
